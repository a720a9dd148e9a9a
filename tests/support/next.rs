//! Second libraries, made of this source. One has a layout in which every size differs (feature `next-layout`). One has the
//! same layout, wider bounds and more options (feature `next-options`).

use super::shipped;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Its layout.
#[allow(dead_code)]
pub const LAYOUT: u32 = dyups::shm::layout::LAYOUT + 1;

/// Where the one with the next layout is. Built when it is first asked for, unless DYUPS_NEXT_LIBRARY says that it was.
pub fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| std::env::var_os("DYUPS_NEXT_LIBRARY").map_or_else(|| build("next-layout"), PathBuf::from))
}

/// Where the one with more options is.
#[allow(dead_code)]
pub fn with_more_options() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build("next-options"))
}

/// Builds a library in a target directory of their own. Cargo has one name for both, so it is copied; by a rename, as another test
/// may have it loaded.
fn build(feature: &str) -> PathBuf {
    let shipped = shipped::library();
    let target = shipped.ancestors().nth(2).expect("a target directory").join("next");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--profile", "quick", "--locked", "--lib", "--features", feature]);
    cargo.arg("--target-dir").arg(&target).current_dir(shipped::root());
    assert!(cargo.status().expect("cargo").success(), "the second library does not build");
    let (copy, library) = (target.join(format!("{feature}.tmp")), target.join(format!("{feature}.so")));
    std::fs::copy(target.join("quick/libdyups.so"), &copy).expect("a copy");
    std::fs::rename(&copy, &library).expect("a rename");
    library
}
