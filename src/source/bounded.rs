//! Reading the files that `setup` names, and those that they include. Their number and size are bounded, and only regular files
//! are read.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::bounds::MAX_INPUT_BYTES;
use crate::config::nginx::{FileId, Files};
use crate::config::text;
use crate::error::{Code, Error, Result};
use crate::quote;
use crate::shm::glob;

/// Most files that one `setup` opens, a file that is included twice counted twice.
pub const MAX_FILES: usize = 65_536;

/// The number of files and bytes that may still be read. Without bounds, files that include others twice would grow for ever.
#[derive(Debug)]
pub struct Bounded {
    files: usize,
    bytes: usize,
}

impl Default for Bounded {
    fn default() -> Bounded {
        Bounded { files: MAX_FILES, bytes: MAX_INPUT_BYTES }
    }
}

impl Files for Bounded {
    /// Errors are those of [`glob::glob`].
    fn find(&self, directory: &Path, name: &str) -> Result<Vec<PathBuf>> {
        let pattern = name.as_bytes();
        if glob::is_pattern(pattern) { glob::glob(directory, pattern) } else { Ok(vec![directory.join(name)]) }
    }

    /// [`Code::System`]: the file cannot be read. [`Code::Invalid`]: it is not a regular file, it is in UTF-16, or all files
    /// together exceed [`MAX_FILES`] or [`MAX_INPUT_BYTES`]. A pipe or a device is refused without waiting for it.
    fn read(&mut self, path: &Path) -> Result<(Vec<u8>, FileId)> {
        self.try_read(path).map_err(|error| error.within(quote::file(path)))
    }
}

impl Bounded {
    fn try_read(&mut self, path: &Path) -> Result<(Vec<u8>, FileId)> {
        let unreadable = |error: std::io::Error| Error::new(Code::System, error.to_string());
        self.files = self.files.checked_sub(1).ok_or_else(too_many)?;
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
        let file = file.map_err(unreadable)?;
        let meta = file.metadata().map_err(unreadable)?;
        if !meta.is_file() {
            return Err(Error::invalid("not a regular file: allowed: a file with upstreams"));
        }
        if meta.len() > self.bytes as u64 {
            return Err(self.too_large(meta.len()));
        }
        let mut bytes = self.content(&file, meta.len() as usize)?;
        text::check(&bytes)?;
        let mark = bytes.len() - text::without_mark(&bytes).len();
        bytes.drain(..mark);
        Ok((bytes, FileId { device: meta.dev(), inode: meta.ino() }))
    }

    /// Reads on to the end, which may be beyond the size that the file states: it may grow, and files of /proc state none.
    fn content(&mut self, file: &File, len: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len + 1);
        let read = file.take(self.bytes as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| Error::new(Code::System, error.to_string()))?;
        match self.bytes.checked_sub(bytes.len()) {
            Some(left) => self.bytes = left,
            None => return Err(self.too_large(bytes.len() as u64)),
        }
        Ok(bytes)
    }

    fn too_large(&self, len: u64) -> Error {
        let others = match MAX_INPUT_BYTES - self.bytes {
            0 => String::new(),
            before => format!(" after {before} bytes of other files"),
        };
        Error::invalid(format!("{len} bytes{others}: allowed: at most {MAX_INPUT_BYTES} bytes, of all files together"))
    }
}

fn too_many() -> Error {
    Error::invalid(format!("one file more than the {MAX_FILES} that are allowed"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A directory of a test, gone when it is dropped.
    pub struct Scratch(pub PathBuf);

    impl Scratch {
        pub fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("dyups-files-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }

        pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
            let path = self.0.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn why(files: &mut Bounded, path: &Path) -> String {
        let message = files.read(path).unwrap_err().message.into_owned();
        message.strip_prefix(&format!("{}: ", path.display())).expect("the path first").to_string()
    }

    #[test]
    fn a_file_is_known_by_what_it_is_and_not_by_its_name() {
        let scratch = Scratch::new("id");
        let path = scratch.file("a", b"\xef\xbb\xbfx");
        std::os::unix::fs::symlink(&path, scratch.0.join("b")).unwrap();
        let mut files = Bounded::default();
        let first = files.read(&path).unwrap();
        assert_eq!(first.0, b"x", "without the mark");
        assert_eq!(files.read(&scratch.0.join("b")).unwrap(), first);
        assert_ne!(files.read(&scratch.file("c", b"x")).unwrap().1, first.1);
    }

    #[test]
    fn what_is_no_file_of_text_is_refused_at_once() {
        let scratch = Scratch::new("kinds");
        let mut files = Bounded::default();
        let regular = "not a regular file: allowed: a file with upstreams";
        assert_eq!(why(&mut files, &scratch.0), regular);
        assert_eq!(why(&mut files, Path::new("/dev/null")), regular);
        let fifo = scratch.0.join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        assert_eq!(why(&mut files, &fifo), regular, "and nobody waits for a writer");
        assert_eq!(why(&mut files, &scratch.file("utf-16", b"\xff\xfea\0")), "in UTF-16: allowed: UTF-8");
        assert_eq!(why(&mut files, &scratch.0.join("none")), "No such file or directory (os error 2)");
    }

    #[test]
    fn all_files_together_have_a_bound() {
        let scratch = Scratch::new("bounds");
        let path = scratch.file("a", b"12345");
        let mut files = Bounded { files: 3, bytes: 9 };
        files.read(&path).unwrap();
        let before = MAX_INPUT_BYTES - 4;
        assert_eq!(
            why(&mut files, &path),
            format!(
                "5 bytes after {before} bytes of other files: allowed: at most 67108864 bytes, of all files together"
            )
        );
        assert!(why(&mut files, Path::new("/proc/self/status")).starts_with("5 bytes after "), "says that it is empty");
        assert_eq!(why(&mut files, &path), "one file more than the 65536 that are allowed");
    }
}
