//! The names of all lines that may stand in an `upstream` block.

use super::{check_lines, own};

/// The lines that may stand in a block, beside [`own::LINES`] and [`check_lines::LINES`]. The last two are dyups's.
const LINES: [&str; 8] = ["server", "include", "hash", "least_conn", "ip_hash", "random", "method", "hash_id"];

/// The names of all lines that are known, for the message that refuses another one.
pub(super) fn known() -> String {
    lines().collect::<Vec<_>>().join(", ")
}

/// Whether a line of a block may begin with this word: where it stands in a `server` line, a `;` is missing.
pub(super) fn begins_a_line(word: &[u8]) -> bool {
    lines().any(|name| name.as_bytes() == word)
}

fn lines() -> impl Iterator<Item = &'static str> {
    LINES.into_iter().chain(check_lines::LINES).chain(own::LINES.map(|(name, _)| name))
}
