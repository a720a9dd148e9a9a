//! Pages that no code may touch, right before and right behind a mapping: an access outside of it is a signal.

use dyups::shm::units::PAGE;
use std::path::Path;

/// Has `map` map the file at `path`, of `bytes` bytes, between two such pages. They stay for the life of the process.
pub fn between<T>(path: &Path, bytes: usize, map: impl Fn() -> T) -> T {
    for _ in 0..100 {
        let hole = hole(bytes);
        let mapped = map();
        if is_at(path, hole) {
            return mapped;
        }
        // Some other hole fits as well: it is filled, and all is tried again.
        drop(mapped);
        nothing(bytes);
    }
    panic!(
        "{} is not mapped where it should be {:x} {}",
        path.display(),
        nothing(bytes),
        std::fs::read_to_string("/proc/self/maps").unwrap()
    );
}

/// Where a mapping of `bytes` bytes just fits between two pages.
fn hole(bytes: usize) -> usize {
    let middle = nothing(bytes + 2 * PAGE) + PAGE;
    // SAFETY: the middle of the new mapping, which no other code knows.
    assert_eq!(unsafe { libc::munmap(middle as *mut _, bytes) }, 0);
    middle
}

/// `bytes` bytes that no code may touch.
fn nothing(bytes: usize) -> usize {
    let anywhere = std::ptr::null_mut();
    // SAFETY: a new mapping at a place of the kernel's choice.
    let nothing =
        unsafe { libc::mmap(anywhere, bytes, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
    assert_ne!(nothing, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
    nothing as usize
}

fn is_at(path: &Path, address: usize) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc");
    maps.lines().any(|line| line.starts_with(&format!("{address:x}-")) && line.ends_with(&path.display().to_string()))
}
