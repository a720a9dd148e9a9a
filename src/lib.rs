//! dyups changes nginx upstreams while nginx runs.
#![deny(missing_docs)]

pub mod balance;
pub mod config;
pub mod error;
#[allow(unsafe_code)]
pub mod shm;
pub mod table;
