//! The consistent hash of nginx's `hash KEY consistent` and of lua-resty-chash.
//!
//! Both are the ketama of Cache::Memcached::Fast. A peer has 160 points a unit of weight on a ring of 2^32 places. A key
//! belongs to the peer of the first point at or after the key's CRC-32, and after the last point comes the first. They differ
//! in the text of a peer that is hashed ([`HashId`](crate::upstream::HashId)). Sources: nginx,
//! src/http/modules/ngx_http_upstream_hash_module.c; lua-resty-balancer, lib/resty/chash.lua and chash.c as they are. In its
//! first versions the base was not inverted, and a key belonged to the point before it.
//!
//! There is one difference. Of points with one hash, nginx keeps the first (of 100 peers of weight 1, one ring in 34 has such a
//! pair). Here the others stay behind it. So when the first is out, its place passes to the next of these peers, not to the
//! next point. A key whose owner is in goes the same way in both.
//!
//! - `points`: which points a peer has
//! - `shape`: how large a ring is
//! - `ring`: how the sorted points lie in memory, and how they are built
//! - `merge`: the ring after a change, made from the ring before it
//! - `search`: from a key to a peer, with the ring or without it
//!
//! ```
//! use dyups::upstream::HashId;
//! use dyups::order::chash;
//! use dyups::upstream::Address;
//!
//! let peers = ["10.0.0.1:8080", "10.0.0.2:8080"].map(|server| Address::from_server(server).unwrap());
//! let ring = chash::build(&[(0, &peers[0], 1), (1, &peers[1], 1)], HashId::Nginx).unwrap();
//!
//! let hash = chash::key_hash(b"/index.html");
//! let chash::Pick::Peer(owner) = chash::pick(&ring.words, ring.shape, hash, |_| true) else { panic!() };
//! // When the owner is out, its keys go to the other.
//! assert_eq!(chash::pick(&ring.words, ring.shape, hash, |index| index != owner), chash::Pick::Peer(1 - owner));
//! ```

mod merge;
mod points;
mod ring;
mod search;
mod shape;

pub use merge::merge;
pub use points::{Base, POINTS_PER_WEIGHT, key_hash, points};
pub use ring::{Ring, build, is_sealed, seal, shape_of};
pub use search::{MAX_WALK, Pick, Words, peer_at, pick, pick_without_ring, successor};
pub use shape::{MAX_RING_POINTS, RingShape, ring_points};
