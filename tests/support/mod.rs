//! Helpers of the tests: scratch directories, tables, other processes, and the path of the library that ships.

#![allow(dead_code, unused_imports, unsafe_code)]

pub mod changes;
mod helper;
pub mod layout_1;
pub mod locks;
pub mod memory;
pub mod model;
mod mount;
pub mod next;
mod random;
mod scratch;
pub mod shipped;
pub mod system;
mod tables;

pub use helper::{Helper, orders, orphan, report, role, say};
pub use locks::lock_bytes;
pub use mount::{is_root, mount_for_this_thread, take_all, text};
pub use random::Random;
pub use scratch::Scratch;
pub use tables::*;

use std::io::Write;
use std::time::{Duration, Instant};

/// Waits until `done`, at most ten seconds.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Prints a count for the user of the tests, though libtest hides the output of a good test.
pub fn tell(line: impl std::fmt::Display) {
    let _ = std::io::stderr().write_all(format!("\n{line}\n").as_bytes());
}

/// How many a storm kills.
pub fn storm_kills() -> u64 {
    std::env::var("DYUPS_STORM_KILLS").map_or(200, |kills| kills.parse().expect("DYUPS_STORM_KILLS: a number"))
}
