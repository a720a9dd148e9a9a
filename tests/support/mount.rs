//! File systems of one test, which a test can fill. Only root can mount them.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Whether this is root; says so on stderr when a test is skipped for lack of it.
pub fn is_root(test: &str) -> bool {
    let root = dyups::shm::file::effective_user() == 0;
    if !root {
        eprintln!("{test}: skipped: it needs root");
    }
    root
}

/// A path as C has it.
pub fn text(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no NUL")
}

/// Mounts a tmpfs that only this thread sees, and that goes with it. False: only root can, and says so of `test` on stderr.
pub fn mount_for_this_thread(test: &str, path: &Path, size: &str) -> bool {
    let mounted = mount(path, size);
    assert!(mounted.is_ok() || !is_root(test), "cannot mount a tmpfs: {mounted:?}");
    mounted.is_ok()
}

fn mount(path: &Path, size: &str) -> std::io::Result<()> {
    let (path, options) = (text(path), CString::new(format!("size={size},mode=700")).expect("no NUL"));
    let (none, root, tmpfs) = (c"none".as_ptr(), c"/".as_ptr(), c"tmpfs".as_ptr());
    // SAFETY: all pointers are to NUL-terminated strings that outlive the calls.
    let done = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(none, root, std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE, std::ptr::null()) == 0
            && libc::mount(tmpfs, path.as_ptr(), tmpfs, 0, options.as_ptr().cast()) == 0
    };
    if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Takes the last byte of a file system.
pub fn take_all(path: &Path) {
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path).expect("open");
    while (&file as &dyn FileExt).write_at(&[0; 4096], file.metadata().expect("stat").len()).is_ok() {}
}
