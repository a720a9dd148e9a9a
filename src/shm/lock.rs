//! The one lock primitive: fcntl record locks on a file of its own.
//!
//! Byte 0 guards the making of a region, of whatever layout. From 4096 times its number on, each layout has bytes of its own:
//! byte 1 of them is the writer, byte 2+n is held by who lives in slot n, and byte 514+n from when the slot says so. The kernel
//! frees them, all in one step, when a process dies, whatever killed it, and names the holder. They belong to the process and
//! vanish when it closes *any* descriptor of the file, so a process opens the file once and never closes it. fork inherits the
//! descriptor but no lock.

use super::layout::{LAYOUT, SLOTS};
use crate::error::{Code, Error, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Guards looking for, making and replacing a region's file: one for all layouts.
pub const CREATION: u32 = 0;
/// Guards every change of the table.
pub const WRITER: u32 = first_byte(LAYOUT) + 1;
/// Byte of slot 0; slot n is this plus n.
pub const FIRST_SLOT: u32 = first_byte(LAYOUT) + 2;
/// The byte that says that slot 0 can be listed; slot n is this plus n.
pub const FIRST_LISTED: u32 = FIRST_SLOT + SLOTS as u32;

/// The first of the 4096 bytes that `layout` has to itself.
pub const fn first_byte(layout: u32) -> u32 {
    layout << 12
}

/// How long a waiting process sleeps between two tries.
const PAUSE: Duration = Duration::from_micros(200);

/// How often one try asks for a byte whose holder was gone when asked for its name.
const ATTEMPTS: usize = 16;

/// The lock file, open for the life of the process.
#[derive(Debug)]
pub struct LockFile {
    file: File,
    path: PathBuf,
    inode: u64,
    /// fcntl does not tell the threads of one process apart: these are the bytes that this one holds, and its pid, since a
    /// child inherits the set but not the locks.
    held: Mutex<HashMap<u32, u32>>,
}

/// Who else holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process that this one can see.
    Pid(u32),
    /// A process in another pid namespace.
    Foreign,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Holder::Pid(pid) => write!(f, "pid {pid}"),
            Holder::Foreign => f.write_str("a process in another pid namespace"),
        }
    }
}

/// A held byte; dropping it frees the byte.
#[derive(Debug)]
pub struct Guard<'a> {
    lock: &'a LockFile,
    byte: u32,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.lock.release(self.byte);
    }
}

/// What slots ask of the kernel.
pub trait Locks {
    /// Takes `byte` for the rest of the process's life if it is free.
    fn keep(&self, byte: u32) -> Result<bool>;

    /// Another process that holds one of `count` bytes from `byte` on, if there is one. Never this process itself.
    fn holder(&self, byte: u32, count: u32) -> Result<Option<Holder>>;
}

impl Locks for LockFile {
    fn keep(&self, byte: u32) -> Result<bool> {
        Ok(self.try_lock(byte)?.map(std::mem::forget).is_ok())
    }

    fn holder(&self, byte: u32, count: u32) -> Result<Option<Holder>> {
        let answer = self.fcntl(libc::F_GETLK, libc::F_WRLCK, byte, count)?.unwrap_or_else(|| flock(0, 0, 0));
        Ok(match (i32::from(answer.l_type) == libc::F_UNLCK, answer.l_pid) {
            (true, _) => None,
            (false, 1..) => Some(Holder::Pid(answer.l_pid as u32)),
            (false, _) => Some(Holder::Foreign),
        })
    }
}

impl LockFile {
    /// Opens the lock file, making it if need be (mode 0600, no symbolic link followed). `path` names it in messages.
    pub fn open(path: &Path) -> Result<Self> {
        let file = super::file::open_or_create(path)?;
        super::file::check_owned(&file, path)?;
        let inode = file.metadata().map_err(|error| super::file::explain(path, &error))?.ino();
        Ok(LockFile { file, path: path.to_owned(), inode, held: Mutex::new(HashMap::new()) })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Inode of the lock file.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Whether the file has lost its name: who comes now makes another one, and the two exclude nobody.
    pub fn is_lost(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| meta.nlink() == 0)
    }

    /// Takes `byte`, trying for at most `wait`; [`Code::Busy`] names the holder.
    pub fn lock(&self, byte: u32, wait: Duration) -> Result<Guard<'_>> {
        let deadline = Instant::now() + wait;
        loop {
            match self.try_lock(byte)? {
                Ok(guard) => return Ok(guard),
                Err(holder) if Instant::now() >= deadline => {
                    let holder = holder.map_or_else(|| "several processes in turn".into(), |holder| holder.to_string());
                    return Err(Error::new(Code::Busy, format!("busy, held by {holder}")));
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Takes `byte` if it is free, else says who holds it; `None`: others in turn, each gone when asked for its name.
    pub fn try_lock(&self, byte: u32) -> Result<std::result::Result<Guard<'_>, Option<Holder>>> {
        let me = std::process::id();
        let mut held = self.held.lock();
        if held.get(&byte) == Some(&me) {
            return Ok(Err(Some(Holder::Pid(me))));
        }
        for _ in 0..ATTEMPTS {
            if self.fcntl(libc::F_SETLK, libc::F_WRLCK, byte, 1)?.is_some() {
                held.insert(byte, me);
                return Ok(Ok(Guard { lock: self, byte }));
            }
            // Gone again by now? Then nobody is to blame, and it may be free.
            if let Some(holder) = self.holder(byte, 1)? {
                return Ok(Err(Some(holder)));
            }
        }
        Ok(Err(None))
    }

    fn release(&self, byte: u32) {
        let mut held = self.held.lock();
        // A child that forked while this was held inherited the guard, but not the lock.
        if held.remove(&byte) == Some(std::process::id()) {
            let _ = self.fcntl(libc::F_SETLK, libc::F_UNLCK, byte, 1);
        }
    }

    /// `None`: another process holds it.
    fn fcntl(&self, command: i32, kind: i32, byte: u32, count: u32) -> Result<Option<libc::flock>> {
        let mut lock = flock(kind, byte, count);
        // SAFETY: the descriptor is open and `lock` is a valid, initialised struct for the length of the call.
        if unsafe { libc::fcntl(self.file.as_raw_fd(), command, &mut lock) } == 0 {
            return Ok(Some(lock));
        }
        let error = std::io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EACCES) => Ok(None),
            _ => Err(Error::new(Code::System, format!("cannot lock {}: {error}", self.path.display()))),
        }
    }
}

fn flock(kind: i32, byte: u32, count: u32) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: i64::from(byte),
        l_len: i64::from(count),
        l_pid: 0,
    }
}
