//! Health: it takes peers out of the picking, and brings them back.
//!
//! - [`judge`]: what the result of a probe does
//! - [`mod@heal`]: what ends when all peers of an upstream are well again
//! - [`prober`]: which probes are due, and what their answers mean
//! - [`certificate`]: what probes show of themselves

pub mod certificate;
pub mod heal;
pub mod judge;
pub mod prober;

pub use heal::{heal, heal_one, mark_failures};
