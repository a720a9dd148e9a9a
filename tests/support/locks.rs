//! A region's lock file from outside: which process holds a byte, and locks that other processes meet.

use std::os::fd::AsRawFd;
use std::path::Path;

/// A lock for `count` bytes from `first` on, as fcntl takes it.
pub fn write_lock(first: u32, count: u32) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: first.into(),
        l_len: count.into(),
        l_pid: 0,
    }
}

/// Locks bytes of a lock file as so many processes would, until this process ends.
pub fn lock_bytes(path: &Path, first: u32, count: u32) {
    let file = std::fs::File::options().read(true).write(true).open(path).expect("the lock file");
    // SAFETY: an open descriptor and an initialised struct.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &write_lock(first, count)) }, 0);
    // Closing it would free the bytes.
    std::mem::forget(file);
}

/// The process that holds `byte`. Never this process itself, which must hold no lock of the file: closing it here would lose
/// it.
pub fn holder(file: &Path, byte: u32) -> Option<u32> {
    let file = std::fs::File::options().read(true).write(true).open(file).expect("the lock file");
    let mut lock = write_lock(byte, 1);
    // SAFETY: the descriptor is open and `lock` is whole for the length of the call.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &mut lock) }, 0, "F_GETLK");
    (i32::from(lock.l_type) != libc::F_UNLCK).then_some(lock.l_pid as u32)
}
