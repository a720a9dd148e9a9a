//! Where a value stands, for a message about it.

use super::fields::{ROUTES, UPSTREAMS};
use crate::quote::{SHOWN_BYTES, quote};

/// The path of `key` inside the object at `at`: `peer.weight`, or `weight` where `at` is empty.
///
/// A key of other than visible ASCII is quoted, as keys come from outside too.
///
/// ```
/// use dyups::config::path::path;
/// assert_eq!(path("peer", "weight"), "peer.weight");
/// assert_eq!(path("", "we ight"), "\"we ight\"");
/// ```
pub fn path(at: &str, key: &str) -> String {
    let bare = (1..=SHOWN_BYTES).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
    let key = if bare { key.to_string() } else { quote(key.as_bytes()) };
    if at.is_empty() { key } else { format!("{at}.{key}") }
}

/// The path of the item at `index`, from 0 on, of the list at `at`. Messages count from 1, as Lua does. Paths in a file begin with
/// `upstreams` or `routes`; there messages count from 0, as readers of JSON do.
///
/// ```
/// use dyups::config::path::item;
/// assert_eq!(item("upstream.peers", 0), "upstream.peers[1]");
/// assert_eq!(item("upstreams.api.peers", 0), "upstreams.api.peers[0]");
/// ```
pub fn item(at: &str, index: usize) -> String {
    let is_below = |name: &str| at.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    let of_file = [UPSTREAMS, ROUTES].iter().any(|field| is_below(field.name));
    let index = if of_file { index } else { index + 1 };
    format!("{at}[{index}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strange_key_is_quoted_in_a_path() {
        assert_eq!(path("upstreams", "a.b"), "upstreams.a.b");
        assert_eq!(path("upstreams", ""), "upstreams.\"\"");
        assert_eq!(path("", "a\nb"), "\"a\\x0ab\"");
    }
}
