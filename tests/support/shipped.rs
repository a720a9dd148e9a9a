//! The library as it ships: the one that `make build` made, not the one that cargo links into a test.

use std::path::{Path, PathBuf};

/// Its name.
pub const LIBRARY: &str = concat!("libdyups-", env!("CARGO_PKG_VERSION"), ".so");

/// The checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where it is.
pub fn library() -> PathBuf {
    let exe = std::env::current_exe().expect("the path of this test");
    let mut targets: Vec<PathBuf> = exe.ancestors().skip(2).take(3).map(Path::to_owned).collect();
    targets.extend(std::env::var_os("CARGO_TARGET_DIR").map(|dir| root().join(dir)));
    let found = targets.iter().map(|target| target.join("release").join(LIBRARY)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no release/{LIBRARY} in {targets:?}: run make build"))
}
