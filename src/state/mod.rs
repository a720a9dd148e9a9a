//! What the words mean that all workers share of a peer or an upstream. Whoever has such a word, wherever it lies, asks here.
//!
//! - [`failures`]: failures that requests meet
//! - [`verdict`]: what probes found
//! - [`lease`]: which worker probes next, and when
//! - [`budget`]: how many retries an upstream may have

pub mod budget;
pub mod failures;
pub mod lease;
pub mod verdict;
