//! dyups changes nginx upstreams while nginx runs.
#![deny(missing_docs)]

pub mod admin;
pub mod balance;
pub mod config;
pub mod error;
#[allow(unsafe_code)]
pub mod ffi;
pub mod process;
#[allow(unsafe_code)]
pub mod shm;
pub mod status;
pub mod table;
