//! The meaning of the words that all workers share of a peer or an upstream. Code that has such a word asks here, wherever the
//! word lies.
//!
//! - [`failures`]: failures that requests meet
//! - [`verdict`]: the results of probes
//! - [`lease`]: which worker probes next, and when
//! - [`events`]: when a peer was taken out or brought back, and why
//! - [`slow_start`]: how much of its weight a peer has that comes back
//! - [`usable`]: which peers a pick may take, a bit each
//! - [`budget`]: how many retries an upstream may have

pub mod budget;
pub mod events;
pub mod failures;
pub mod lease;
pub mod slow_start;
pub mod usable;
pub mod verdict;
