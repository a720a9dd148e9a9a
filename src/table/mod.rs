//! Upstreams and peers.

pub mod address;
pub mod name;
pub mod peer;
pub mod upstream;

pub use address::Address;
pub use peer::{Peer, Status};
pub use upstream::Upstream;
