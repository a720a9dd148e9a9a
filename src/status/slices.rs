//! Long answers, which are written in slices: between two of them, nginx serves other requests.

use crate::error::Result;
use crate::pace::Pace;

/// An answer that is written in slices.
pub trait Sliced {
    /// Writes the next slice behind `out`; whether there is more to write.
    ///
    /// # Errors
    ///
    /// Those of reading the table. The answer cannot be gone on with then.
    fn write(&mut self, pace: &mut Pace, out: &mut Vec<u8>) -> Result<bool>;
}

/// The whole answer in one piece.
///
/// # Errors
///
/// As [`Sliced::write`].
pub fn whole(mut answer: impl Sliced) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    while answer.write(&mut Pace::unlimited(), &mut out)? {}
    Ok(out)
}
