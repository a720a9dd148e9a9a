//! Health: it takes peers out of the picking, and brings them back.
//!
//! - [`judge`]: the effect of a probe's result
//! - [`mod@heal`]: brings an upstream back to quick picks once all its peers are well again
//! - [`prober`]: the probes of one worker: which are due, and the meaning of their answers
//! - [`certificate`]: the certificates that probes show

pub mod certificate;
pub mod heal;
pub mod judge;
pub mod prober;

pub use heal::{heal, heal_one, mark_failures};
