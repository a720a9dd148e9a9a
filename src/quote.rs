//! How a text that came from outside is shown in a message: on one line, as it reads, and a value short.
//!
//! [`hides`] says which characters a message shows escaped. [`quote`] escapes a value when a message is made. [`Plain`] goes
//! over each whole message on its way out of the library, so that no message is left out.

use std::borrow::Cow;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes of a value that a message shows at most; the rest becomes `…`.
pub const SHOWN_BYTES: usize = 64;

/// `bytes` in double quotes, for a message.
///
/// Quotes, backslashes, bytes that are not UTF-8 and characters that [`hides`] names are escaped; more than [`SHOWN_BYTES`]
/// (after escaping) are cut between two characters.
///
/// ```
/// use dyups::quote::quote;
/// assert_eq!(quote(b"a b"), "\"a b\"");
/// assert_eq!(quote(b"a\n\xff"), r#""a\x0a\xff""#);
/// ```
pub fn quote(bytes: &[u8]) -> String {
    let mut short = Short::default();
    // An error only says that the rest was cut.
    let _ = short.escaped(bytes);
    format!("\"{}\"", short.text)
}

/// Whether a character would forge or hide a part of a log line. Such a character ends a line, moves the cursor, or shows the
/// text around it in another order.
///
/// These are the control characters (C0, DEL, and C1 with U+0085), the line and paragraph separators U+2028 and U+2029, and the
/// characters that change the direction of text: U+061C, U+200E, U+200F, U+202A to U+202E and U+2066 to U+2069.
///
/// ```
/// use dyups::quote::hides;
/// assert!(['\n', '\u{85}', '\u{2028}', '\u{202e}'].into_iter().all(hides));
/// assert!(!"größe 漢字".chars().any(hides));
/// ```
pub fn hides(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `bytes` as a message may have them: bytes that are not UTF-8 and characters that [`hides`] names are escaped, all else is
/// as it was. An escape has only visible ASCII, so that a text that went through once comes out of it unchanged.
///
/// ```
/// use dyups::quote::plain;
/// assert_eq!(plain(b"upstream api: not found"), "upstream api: not found");
/// assert_eq!(plain("a\n\u{202e}b\u{2028}".as_bytes()), r"a\x0a\u{202e}b\u{2028}");
/// assert_eq!(plain(b"a\xff"), r"a\xff");
/// ```
pub fn plain(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(hides) => Cow::Borrowed(text),
        _ => {
            let mut text = String::with_capacity(bytes.len() + 16);
            // A String takes every piece.
            let _ = escape(bytes, |piece| fmt::Write::write_str(&mut text, piece));
            Cow::Owned(text)
        }
    }
}

/// A writer that passes each piece through [`plain`].
pub struct Plain<'a, W>(pub &'a mut W);

impl<W: fmt::Write> fmt::Write for Plain<'_, W> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        match piece.chars().any(hides) {
            false => self.0.write_str(piece),
            true => escape(piece.as_bytes(), |piece| self.0.write_str(piece)),
        }
    }
}

/// Gives `write` the pieces of `bytes`, escaped where they have to be.
fn escape(bytes: &[u8], mut write: impl FnMut(&str) -> fmt::Result) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match hides(char) {
                true => write(&escaped(char))?,
                false => write(char.encode_utf8(&mut [0; 4]))?,
            }
        }
        for byte in chunk.invalid() {
            write(&format!("\\x{byte:02x}"))?;
        }
    }
    Ok(())
}

fn escaped(char: char) -> String {
    match u32::from(char) {
        ascii @ 0..=0x7f => format!("\\x{ascii:02x}"),
        other => format!("\\u{{{other:x}}}"),
    }
}

/// The name of a file, whole, on one line.
///
/// ```
/// use dyups::quote::file;
/// assert_eq!(file("/etc/a b.conf".as_ref()), "/etc/a b.conf");
/// assert_eq!(file("a\nb".as_ref()), r"a\x0ab");
/// ```
pub fn file(path: &Path) -> String {
    plain(path.as_os_str().as_bytes()).into_owned()
}

/// Text that stops growing at [`SHOWN_BYTES`]: a writer gets an error there and can stop early, however long the value.
#[derive(Default)]
pub(crate) struct Short {
    text: String,
    full: bool,
}

impl Short {
    /// Adds `piece` whole, or a `…` and no more.
    pub(crate) fn whole(&mut self, piece: &str) -> fmt::Result {
        if self.full {
            return Err(fmt::Error);
        }
        if self.text.len() + piece.len() > SHOWN_BYTES {
            self.full = true;
            self.text.push('…');
            return Err(fmt::Error);
        }
        self.text.push_str(piece);
        Ok(())
    }

    /// Adds `bytes`, escaped as in [`quote`].
    pub(crate) fn escaped(&mut self, bytes: &[u8]) -> fmt::Result {
        for chunk in bytes.utf8_chunks() {
            for char in chunk.valid().chars() {
                self.char(char)?;
            }
            for byte in chunk.invalid() {
                self.whole(&format!("\\x{byte:02x}"))?;
            }
        }
        Ok(())
    }

    /// The text so far, cut or not.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    fn char(&mut self, char: char) -> fmt::Result {
        match char {
            '"' | '\\' => self.whole(&format!("\\{char}")),
            _ if hides(char) => self.whole(&escaped(char)),
            _ => self.whole(char.encode_utf8(&mut [0; 4])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_short_value_is_shown_whole() {
        assert_eq!(quote(b""), "\"\"");
        assert_eq!(quote("größe".as_bytes()), "\"größe\"");
        assert_eq!(quote(&[b'x'; 64]), format!("\"{}\"", "x".repeat(64)));
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        assert_eq!(quote(&[b'x'; 65]), format!("\"{}…\"", "x".repeat(64)));
        let umlauts = format!("x{}", "ö".repeat(40));
        assert_eq!(quote(umlauts.as_bytes()), format!("\"x{}…\"", "ö".repeat(31)));
    }

    #[test]
    fn what_would_break_the_line_is_escaped() {
        assert_eq!(quote(b"\0\r\n\x7f\"\\"), r#""\x00\x0d\x0a\x7f\"\\""#);
        assert_eq!(quote("\u{85}".as_bytes()), r#""\u{85}""#);
        assert_eq!(quote("\u{2028}\u{202e}\u{2066}\u{200f}".as_bytes()), r#""\u{2028}\u{202e}\u{2066}\u{200f}""#);
    }

    proptest! {
        #[test]
        fn a_quoted_value_is_one_short_line(bytes: Vec<u8>) {
            let shown = quote(&bytes);
            prop_assert!(shown.len() <= SHOWN_BYTES + "\"\"…".len());
            prop_assert!(!shown.chars().any(hides));
        }

        #[test]
        fn a_plain_text_hides_nothing_and_stays_plain(bytes: Vec<u8>, text in "[a\n\u{85}\u{200e}\u{2028}-\u{202e}\u{2066}-\u{2069}ö]*") {
            for bytes in [&bytes[..], text.as_bytes()] {
                let shown = plain(bytes).into_owned();
                prop_assert!(!shown.chars().any(hides));
                prop_assert_eq!(plain(shown.as_bytes()), shown.as_str());
                let mut written = String::new();
                fmt::Write::write_str(&mut Plain(&mut written), &String::from_utf8_lossy(bytes)).unwrap();
                prop_assert!(!written.chars().any(hides));
            }
        }
    }
}
