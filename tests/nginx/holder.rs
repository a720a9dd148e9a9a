//! A process that holds locks of a region and does nothing else.

use super::support::locks::write_lock;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

pub struct Holder(Child);

impl Holder {
    /// Holds `count` bytes of a lock file from `first` on, once all of them are free.
    pub fn start(lock_file: &Path, first: u32, count: u32) -> Holder {
        let path = CString::new(lock_file.as_os_str().as_bytes()).expect("no NUL");
        let mut command = Command::new("sleep");
        command.arg("600");
        let lock = write_lock(first, count);
        // SAFETY: between fork and exec only open and fcntl, which are async-signal-safe; `path` and `lock` live long
        // enough. The descriptor stays open over exec on purpose, and with it the locks.
        unsafe {
            command.pre_exec(move || {
                let file = libc::open(path.as_ptr(), libc::O_RDWR);
                match file >= 0 && libc::fcntl(file, libc::F_SETLKW, &lock) == 0 {
                    true => Ok(()),
                    false => Err(std::io::Error::last_os_error()),
                }
            });
        }
        Holder(command.spawn().expect("sleep"))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
