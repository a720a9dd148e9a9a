//! In which order peers come: pure algorithms over values, without memory, clock or health.
//!
//! - [`rr`]: the schedule of nginx's smooth weighted round robin
//! - [`turns`]: the round robin among any set of peers
//! - [`chash`]: the ring of nginx's consistent hash

pub mod chash;
pub mod rr;
pub mod turns;
