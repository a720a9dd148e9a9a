//! A valid region, spoiled by another process, and used: errors or right answers; no crash, no hang, no memory without bound.
//!
//! The fuzz target (fuzz/) and tests/hostile run the same cases by the same code.

pub mod accesses;
pub mod bench;
pub mod case;
pub mod guard;
pub mod judge;
pub mod memory;
pub mod names;
pub mod places;
pub mod routes;
pub mod seals;
pub mod spoiler;
pub mod starts;
pub mod truth;

pub use bench::Bench;
pub use case::Case;
