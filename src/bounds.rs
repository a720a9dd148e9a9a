//! How much one input may be. It is checked before anything is parsed.

use crate::error::{Error, Result};

/// Most bytes of one input, JSON or nginx's syntax: 64 MiB.
pub const MAX_INPUT_BYTES: usize = 64 << 20;

/// Most values of one input, of every depth together: 400,000 peers with all their fields.
///
/// A value takes up to 250 bytes of memory, and two bytes of JSON can write one. So [`MAX_INPUT_BYTES`] alone would be no
/// bound. Counted before parsing as commas and opening brackets, wherever they stand.
pub const MAX_VALUES: usize = 4 << 20;

/// Refuses input that is too large to be parsed. The message calls it `what`.
///
/// # Errors
///
/// [`crate::error::Code::Invalid`]: more than [`MAX_INPUT_BYTES`].
pub fn check_size(bytes: &[u8], what: &str) -> Result<()> {
    check_len(bytes.len(), what)
}

/// The same of an input of so many bytes.
///
/// # Errors
///
/// As [`check_size`].
pub fn check_len(length: usize, what: &str) -> Result<()> {
    if length > MAX_INPUT_BYTES {
        return Err(Error::invalid(format!("{what}: {length} bytes: allowed: at most {MAX_INPUT_BYTES} bytes")));
    }
    Ok(())
}

/// Refuses JSON that is too large to be parsed. The message calls it `what`.
///
/// # Errors
///
/// [`crate::error::Code::Invalid`]: more than [`MAX_INPUT_BYTES`] or [`MAX_VALUES`].
pub fn check_json(json: &[u8], what: &str) -> Result<()> {
    check_size(json, what)?;
    check_values(json.iter().filter(|&&byte| counts(byte)).count(), what)
}

/// Whether this byte of JSON counts towards [`MAX_VALUES`].
pub fn counts(byte: u8) -> bool {
    matches!(byte, b',' | b'[' | b'{')
}

/// Refuses JSON that has so many bytes that [count](counts). The message calls it `what`.
///
/// # Errors
///
/// [`crate::error::Code::Invalid`]: more than [`MAX_VALUES`].
pub fn check_values(count: usize, what: &str) -> Result<()> {
    if count > MAX_VALUES {
        return Err(Error::invalid(format!("{what}: more values than the {MAX_VALUES} that are allowed")));
    }
    Ok(())
}
