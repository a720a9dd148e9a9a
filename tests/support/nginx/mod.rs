//! An nginx of a test or a bench: its place, its configuration, and clients that ask it.

#![allow(dead_code, unsafe_code)]

pub mod client;
pub mod load;
pub mod place;
pub mod server;
pub mod wall_clock;
