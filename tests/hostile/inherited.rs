//! The inheritance of a worker from its master, and nothing else.

use crate::system::{is_root, worker_user};

/// Makes this process, a forked child, a worker. It is another user where the master is root. It has the mapping, the
/// descriptor of the lock file, and those in `keep`. It dies with its parent.
pub fn become_worker(keep: &[i32]) {
    for descriptor in descriptors() {
        // Standard streams, and the file to which panics are written.
        if descriptor > 2 && !keep.contains(&descriptor) && !is_lock_file(descriptor) {
            // SAFETY: closes a descriptor that nothing of this child uses from here on.
            unsafe { libc::close(descriptor) };
        }
    }
    let (_, uid, gid) = worker_user();
    // SAFETY: calls that take numbers and change the user of this process, as intended.
    unsafe {
        if is_root() {
            let changed = libc::setgroups(0, std::ptr::null()) == 0 && libc::setgid(gid) == 0 && libc::setuid(uid) == 0;
            assert!(changed, "{}", std::io::Error::last_os_error());
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
}

/// The descriptor of the lock file.
pub fn lock_file() -> i32 {
    descriptors().into_iter().find(|&descriptor| is_lock_file(descriptor)).expect("inherited")
}

/// All that are open.
pub fn descriptors() -> Vec<i32> {
    let all = std::fs::read_dir("/proc/self/fd").expect("/proc").flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn is_lock_file(descriptor: i32) -> bool {
    std::fs::read_link(format!("/proc/self/fd/{descriptor}")).is_ok_and(|path| path.to_string_lossy().contains(".lock"))
}
