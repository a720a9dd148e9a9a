//! The answer to a probe of tcp.

use super::{Failure, Progress};
use crate::upstream::Check;

/// An answer that has to begin with a text. It keeps at most as many bytes of the answer as the text has.
///
/// ```
/// use dyups::upstream::Check;
/// use dyups::upstream::check::CheckType;
/// use dyups::http::response::{Expect, Progress};
/// let mut answer = Expect::new(&Check { kind: CheckType::Tcp, expect: Some("+PONG".into()), ..Check::default() });
/// assert_eq!(answer.feed(b"+PO"), Progress::More);
/// assert_eq!(answer.feed(b"NG\r\n"), Progress::Done(Ok(0)));
/// ```
#[derive(Clone, Debug)]
pub struct Expect {
    text: Vec<u8>,
    /// The bytes so far, until they are as long as the text or differ from it.
    got: Vec<u8>,
}

impl Expect {
    /// The answer to a probe by `check`. A probe that expects nothing is over before it begins: [`Expect::feed`] with no bytes
    /// says so.
    pub fn new(check: &Check) -> Expect {
        Expect { text: check.expect.clone().unwrap_or_default().into_bytes(), got: Vec::new() }
    }

    /// Takes the next bytes. Once it is over, they are not looked at.
    pub fn feed(&mut self, bytes: &[u8]) -> Progress {
        if self.text.starts_with(&self.got) {
            let missing = self.text.len() - self.got.len();
            self.got.extend_from_slice(&bytes[..bytes.len().min(missing)]);
        }
        match self.result() {
            Some(result) => Progress::Done(result.map(|()| 0)),
            None => Progress::More,
        }
    }

    /// The peer has closed the connection.
    ///
    /// # Errors
    ///
    /// The earlier failure, or [`Failure::Closed`] when something is missing.
    pub fn closed(&mut self) -> Result<(), Failure> {
        self.result().unwrap_or(Err(Failure::Closed))
    }

    fn result(&self) -> Option<Result<(), Failure>> {
        if !self.text.starts_with(&self.got) {
            return Some(Err(Failure::Unexpected(self.got.clone())));
        }
        (self.got.len() == self.text.len()).then_some(Ok(()))
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.got.len()
    }
}
