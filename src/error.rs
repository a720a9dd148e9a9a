//! Errors: a code for programs, and a message for people.

use std::borrow::Cow;
use std::fmt;

/// The reason why a call failed. The numbers are part of the C ABI (`DYUPS_*` in `dyups.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum Code {
    /// An argument or a field is not allowed; nothing was changed.
    Invalid = -1,
    /// There is no such upstream or peer.
    NotFound = -2,
    /// The upstream to be deleted has peers, or a route names it, and there is no `force`.
    NotEmpty = -3,
    /// The region, its file system or one of its fixed tables is full; nothing was changed.
    Full = -4,
    /// Another process holds the writer lock; nothing was changed, try again.
    Busy = -5,
    /// The table changed under the reader more often than it may try again.
    Changing = -6,
    /// The upstream is there, but none of its peers can be picked.
    NoPeer = -7,
    /// `setup` has not succeeded in this process.
    NotSetUp = -8,
    /// The region does not make sense: a damaged or foreign file.
    Damaged = -9,
    /// The operating system refused: a file, a mapping, a permission.
    System = -10,
    /// A bug in dyups: a panic that was caught at the edge of the library.
    Internal = -11,
    /// nginx was upgraded to a version with another table, and that version lives: it takes the changes.
    Superseded = -12,
}

/// A [`Code`] with a message for the operator: it names the field, the value and the allowed values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// For programs.
    pub code: Code,
    /// For people. One line, no control bytes.
    pub message: Cow<'static, str>,
}

/// `Result`, by default with dyups's own [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of any code. `message` is a literal or a formatted string.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Error { code, message: message.into() }
    }

    /// [`Code::Invalid`]: bad input, the table is as it was.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Code::Invalid, message)
    }

    /// Puts `prefix` and a colon before the message: the place of the error.
    pub fn within(self, prefix: impl fmt::Display) -> Self {
        Error { code: self.code, message: format!("{prefix}: {}", self.message).into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
