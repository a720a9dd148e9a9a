//! How a value that came from outside is shown in a message: on one line, without control bytes, and short.

use std::fmt;

/// Bytes of a value that a message shows at most; what is left out becomes `…`.
pub const SHOWN_BYTES: usize = 64;

/// `bytes` in double quotes, for a message.
///
/// Control characters, quotes, backslashes and bytes that are not UTF-8 are escaped; more than [`SHOWN_BYTES`] (after
/// escaping) are cut between two characters.
///
/// ```
/// use dyups::config::show::quote;
/// assert_eq!(quote(b"a b"), "\"a b\"");
/// assert_eq!(quote(b"a\n\xff"), r#""a\x0a\xff""#);
/// ```
pub fn quote(bytes: &[u8]) -> String {
    let mut short = Short::default();
    // An error only says that the rest was cut.
    let _ = short.escaped(bytes);
    format!("\"{}\"", short.text)
}

/// The path of `key` inside the object at `at`: `peer.weight`, or `weight` where `at` is empty.
///
/// A key of other than visible ASCII is quoted, as keys come from outside too.
///
/// ```
/// use dyups::config::show::path;
/// assert_eq!(path("peer", "weight"), "peer.weight");
/// assert_eq!(path("", "we ight"), "\"we ight\"");
/// ```
pub fn path(at: &str, key: &str) -> String {
    let bare = (1..=SHOWN_BYTES).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
    let key = if bare { key.to_string() } else { quote(key.as_bytes()) };
    if at.is_empty() { key } else { format!("{at}.{key}") }
}

/// Text that stops growing at [`SHOWN_BYTES`]: a writer gets an error there and can stop early, however long the value.
#[derive(Default)]
pub(super) struct Short {
    text: String,
    full: bool,
}

impl Short {
    /// Adds `piece` whole, or a `…` and no more.
    pub(super) fn whole(&mut self, piece: &str) -> fmt::Result {
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
    pub(super) fn escaped(&mut self, bytes: &[u8]) -> fmt::Result {
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

    /// What was written, cut or not.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn char(&mut self, char: char) -> fmt::Result {
        match char {
            '"' | '\\' => self.whole(&format!("\\{char}")),
            '\0'..='\x1f' | '\x7f' => self.whole(&format!("\\x{:02x}", u32::from(char))),
            _ if char.is_control() => self.whole(&format!("\\u{{{:x}}}", u32::from(char))),
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
    }

    #[test]
    fn a_strange_key_is_quoted_in_a_path() {
        assert_eq!(path("upstreams", "a.b"), "upstreams.a.b");
        assert_eq!(path("upstreams", ""), "upstreams.\"\"");
        assert_eq!(path("", "a\nb"), "\"a\\x0ab\"");
    }

    proptest! {
        #[test]
        fn a_quoted_value_is_one_short_line(bytes: Vec<u8>) {
            let shown = quote(&bytes);
            prop_assert!(shown.len() <= SHOWN_BYTES + "\"\"…".len());
            prop_assert!(!shown.chars().any(char::is_control));
        }
    }
}
