//! The names that cases are about.

use crate::support::in_bucket;
use dyups::table::directory;
use std::sync::LazyLock;

/// Short, long and in other letters; and some that share a bucket with the first.
pub fn names() -> &'static [String] {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let first = "api";
        let mates = in_bucket(directory::hash(first.as_bytes()) % 64, 3);
        let others = ["b".into(), "größe".into(), "x".repeat(255), "www.example.com".into()];
        std::iter::once(first.to_owned()).chain(mates).chain(others).collect()
    });
    &NAMES
}

/// The hosts of routes that cases are about. Two are names of upstreams too.
pub const HOSTS: [&str; 6] =
    ["www.example.com", "*.example.com", "*.com", "default", "api", "a.long.host.of.example.com"];
