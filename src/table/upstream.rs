//! An upstream as a value: what a writer edits and a reader of `status` sees.

use super::peer::Peer;
use crate::balance::{HashId, Method};
use crate::health::check::Check;

/// Most peers that one upstream may have (2^18: what a ring point has bits for).
pub const MAX_PEERS: usize = 1 << 18;

/// An upstream: a named, ordered list of peers and how one of them is picked.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Upstream {
    /// 1 to 255 bytes, see [`super::name::check`].
    pub name: String,
    /// How a peer is picked when the caller does not say; `None`: chash with a key, rr without.
    pub method: Option<Method>,
    /// What the ring of chash hashes of a peer.
    pub hash_id: HashId,
    /// In the order in which they were given; no two with one address.
    pub peers: Vec<Peer>,
    /// How its peers are checked; `None`: they are not.
    pub check: Option<Check>,
    /// Somebody said for this very upstream what its check is, or that it has none. Otherwise it has the default of `setup`.
    pub own_check: bool,
}
