//! Who holds what of a region's lock file, asked from outside.

use std::os::fd::AsRawFd;
use std::path::Path;

/// The process that holds `byte`. Never this process itself, which must hold no lock of the file: closing it here would lose
/// it.
pub fn holder(file: &Path, byte: u32) -> Option<u32> {
    let file = std::fs::File::options().read(true).write(true).open(file).expect("the lock file");
    let mut lock = libc::flock { l_type: libc::F_WRLCK as i16, l_whence: 0, l_start: byte.into(), l_len: 1, l_pid: 0 };
    // SAFETY: the descriptor is open and `lock` is whole for the length of the call.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &mut lock) }, 0, "F_GETLK");
    (i32::from(lock.l_type) != libc::F_UNLCK).then_some(lock.l_pid as u32)
}
