//! dyups changes nginx upstreams while nginx runs.
#![deny(missing_docs)]

pub mod error;
#[allow(unsafe_code)]
pub mod shm;
