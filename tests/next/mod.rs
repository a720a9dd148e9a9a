//! The second library: this source with a layout in which every size differs (feature `next-layout`).

use crate::shipped;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Its layout.
#[allow(dead_code)]
pub const LAYOUT: u32 = dyups::shm::layout::LAYOUT + 1;

/// Where it is. Built when it is first asked for, in a target directory of its own, unless DYUPS_NEXT_LIBRARY says that it was.
pub fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        if let Some(library) = std::env::var_os("DYUPS_NEXT_LIBRARY") {
            return library.into();
        }
        let shipped = shipped::library();
        let target = shipped.ancestors().nth(2).expect("a target directory").join("next");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--profile", "quick", "--locked", "--lib", "--features", "next-layout"]);
        cargo.arg("--target-dir").arg(&target).current_dir(shipped::root());
        assert!(cargo.status().expect("cargo").success(), "the second library does not build");
        target.join("quick/libdyups.so")
    })
}
