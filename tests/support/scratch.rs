//! Directories of one test each.

use std::path::{Path, PathBuf};
use tempfile::{Builder, TempDir};

/// A directory that goes when the value goes.
pub struct Scratch(TempDir);

impl Scratch {
    /// On tmpfs, as regions are.
    pub fn new() -> Scratch {
        let base = if Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() };
        Scratch::below(&base)
    }

    /// Where programs can run and libraries can be loaded, which tmpfs may forbid.
    pub fn executable() -> Scratch {
        let Some(base) = option_env!("CARGO_TARGET_TMPDIR") else { panic!("cargo sets it for tests and benches") };
        Scratch::below(Path::new(base))
    }

    fn below(base: &Path) -> Scratch {
        let prefix = format!("dyups-test-{}-", std::process::id());
        Scratch(Builder::new().prefix(&prefix).tempdir_in(base).unwrap_or_else(|error| panic!("{error}")))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A path inside.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file and tells its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.file(name);
        std::fs::write(&path, content).expect("write a file");
        path.to_str().expect("UTF-8").to_owned()
    }
}
