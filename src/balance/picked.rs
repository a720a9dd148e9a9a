//! The answer of a pick.

use crate::table::snapshot::MAX_TEXT;

/// The answer of a pick beside the index.
#[derive(Debug)]
#[repr(C)]
pub struct Picked {
    /// 0: nothing below is set, since the caller has had all of it before (`dyups_find_cached` only). 1: read on.
    pub fresh: i32,
    /// 1 when the upstream lacks the ring that this pick wanted.
    pub wants_ring: i32,
    /// How many peers this version of the upstream has; every index is below it.
    pub peers: i32,
    /// Bytes of `text` that are set.
    pub len: i32,
    /// Identity of the peer's address, as a tried set has it.
    pub ident: u64,
    /// `host:port`, `[host]:port` or `unix:/path`; not terminated.
    pub text: [u8; 120],
}

impl Default for Picked {
    fn default() -> Self {
        Picked { fresh: 0, wants_ring: 0, peers: 0, len: 0, ident: 0, text: [0; MAX_TEXT] }
    }
}
