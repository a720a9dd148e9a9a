//! The beginning of a text, in any syntax.

use crate::error::{Error, Result};

/// UTF-8's byte order mark, which editors write and readers skip.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// `text` without a byte order mark at its beginning.
///
/// ```
/// use dyups::config::text::without_mark;
/// assert_eq!(without_mark(b"\xef\xbb\xbf{}"), b"{}");
/// ```
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// Refuses a text that says by its mark that it is in UTF-16.
///
/// # Errors
///
/// [`crate::error::Code::Invalid`]: the message says which encoding is allowed.
pub fn check(text: &[u8]) -> Result<()> {
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return Err(Error::invalid("in UTF-16: allowed: UTF-8"));
    }
    Ok(())
}
