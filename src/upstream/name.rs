//! The names of upstreams and of routes.

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::quote::quote;

/// Most bytes of a name.
pub const MAX_NAME_BYTES: usize = 255;

/// For tests alone: another rule, as a later version may have it.
const WIDER: bool = cfg!(feature = "next-options");

/// The end of the message of a refused name.
const ALLOWED: &str = r#"allowed: a name of 1 to 255 bytes of UTF-8 without control bytes, "/", "|" or space"#;

/// Takes `name` as the name of an upstream: 1 to 255 bytes of UTF-8 without control bytes, `/`, `|` or space.
///
/// The same has to hold for the name percent-decoded (once), as names stand in URLs: `a%2Fb` is refused. U+FFFD is
/// refused too: the reader of JSON puts it in the place of a byte that is not UTF-8.
///
/// # Errors
///
/// [`crate::error::Code::Invalid`], with the name and the allowed ones in the message.
///
/// ```
/// use dyups::upstream::name;
/// assert_eq!(name::check(b"api.example.com"), Ok("api.example.com"));
/// assert!(name::check(b"a%0ab").is_err());
/// ```
pub fn check(name: &[u8]) -> Result<&str> {
    check_as("upstream", name)
}

/// The same rule for the name of `what`, which messages call so.
///
/// # Errors
///
/// As [`check`].
pub fn check_as<'a>(what: &str, name: &'a [u8]) -> Result<&'a str> {
    let Some(text) = allowed(name) else {
        return Err(Error::invalid(format!("{what} {}: {ALLOWED}", quote(name))));
    };
    if allowed(&percent_decode(name)).is_none() {
        return Err(Error::invalid(format!("{what} {}: {ALLOWED}, also after percent-decoding", quote(name))));
    }
    Ok(text)
}

/// `name` as text when it keeps the rule as it stands.
fn allowed(name: &[u8]) -> Option<&str> {
    let length = (1..=MAX_NAME_BYTES).contains(&name.len());
    let bytes = name
        .iter()
        .all(|byte| !byte.is_ascii_control() && (!matches!(byte, b'/' | b'|' | b' ') || WIDER && *byte == b'|'));
    if !length || !bytes {
        return None;
    }
    std::str::from_utf8(name).ok().filter(|text| !text.contains(char::REPLACEMENT_CHARACTER))
}

/// `name` with each `%XX` as its byte. A `%` without two hex digits stands for itself.
fn percent_decode(name: &[u8]) -> Cow<'_, [u8]> {
    if !name.contains(&b'%') {
        return Cow::Borrowed(name);
    }
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, tail)) = rest.split_first() {
        match (first, escaped_byte(tail)) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                rest = &tail[2..];
            }
            _ => {
                decoded.push(first);
                rest = tail;
            }
        }
    }
    Cow::Owned(decoded)
}

/// The byte that the two hex digits at the start of `digits` stand for.
fn escaped_byte(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| digits.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use proptest::prelude::*;

    #[test]
    fn names_as_people_use_them_are_taken() {
        for name in ["api", "www.example.com", "a-b_c:8080", "größe", "100%", "a%2", "a%zz", "%41", &"x".repeat(255)]
        {
            assert_eq!(check(name.as_bytes()), Ok(name));
        }
    }

    #[test]
    fn names_that_break_a_path_or_a_line_are_refused() {
        let long = [b'x'; 256];
        let bad: [&[u8]; 10] =
            [b"", b"a b", b"a/b", b"a|b", b"a\nb", b"a\0", b"\x7f", b"\xff", "\u{fffd}".as_bytes(), &long];
        for name in bad {
            let error = check(name).unwrap_err();
            assert_eq!(error.code, Code::Invalid);
            assert!(error.message.ends_with(r#""/", "|" or space"#), "{error}");
        }
    }

    #[test]
    fn percent_encoding_does_not_get_around_the_rule() {
        for name in ["a%2Fb", "a%2fb", "a%0ab", "%7C", "a%20b", "%00", "%ff", "%7f"] {
            let error = check(name.as_bytes()).unwrap_err();
            assert!(error.message.ends_with("also after percent-decoding"), "{error}");
        }
    }

    #[test]
    fn the_message_names_the_upstream_and_what_is_allowed() {
        assert_eq!(
            check(b"a b").unwrap_err().message,
            r#"upstream "a b": allowed: a name of 1 to 255 bytes of UTF-8 without control bytes, "/", "|" or space"#
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_as_they_are_or_refused(name: Vec<u8>) {
            if let Ok(text) = check(&name) {
                prop_assert_eq!(text.as_bytes(), &name[..]);
            }
        }
    }
}
