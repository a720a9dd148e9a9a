//! In which order peers come: pure algorithms over values, without memory, clock or health.
//!
//! - [`rr`]: the schedule of nginx's smooth weighted round robin
//! - [`turns`]: the round robin among any set of peers
//! - [`chash`]: the ring of nginx's consistent hash
//! - [`rendezvous`]: the weighted choice of a route by a key

pub mod chash;
pub mod rendezvous;
pub mod rr;
pub mod turns;
