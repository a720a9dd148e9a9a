//! Sources of upstreams: each reads files that people or programs have written, and gives upstreams. The bytes become values in
//! [`crate::config`].
//!
//! - [`mod@file`]: the files that `setup` names.

mod bounded;
pub mod file;

pub use bounded::{Bounded, MAX_FILES};
