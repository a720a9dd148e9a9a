//! The one lock primitive: fcntl record locks on a file of its own.
//!
//! Byte 0 guards the making of a region, of any layout. From 4096 times its number on, each layout has bytes of its own. Byte 1
//! of them is the writer. The process that lives in slot n holds byte 2+n, and byte 514+n once the slot says so.
//!
//! The kernel frees the bytes, all in one step, when a process dies by any cause, and names the holder. They belong to the
//! process and vanish when it closes *any* descriptor of the file. So a process opens the file once and never closes it. fork
//! inherits the descriptor but no lock.
//!
//! Byte 0 of them says that the layout is in use at all. It alone is shared, and belongs to the open file (an open file
//! description lock), which fork passes on. The master that sets up, the daemon that it becomes and workers without a slot all
//! hold it together. It is free when the last of them is gone. So a writer of an
//! older layout never believes to be alone, not even between the making of a region and the first worker.

use super::layout::{LAYOUT, SLOTS};
use crate::error::{Code, Error, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Guards looking for, making and replacing a region's file: one for all layouts.
pub const CREATION: u32 = 0;
/// Says that our layout is in use.
pub const ALIVE: u32 = first_byte(LAYOUT);
/// Guards every change of the table.
pub const WRITER: u32 = writer_byte(LAYOUT);
/// Byte of slot 0; slot n is this plus n.
pub const FIRST_SLOT: u32 = WRITER + 1;
/// The byte that says that slot 0 can be listed; slot n is this plus n.
pub const FIRST_LISTED: u32 = FIRST_SLOT + SLOTS as u32;

/// How many bytes each layout has to itself.
const BYTES: u32 = 1 << 12;

/// The first of the bytes of `layout`.
pub const fn first_byte(layout: u32) -> u32 {
    layout * BYTES
}

/// Guards every change of the table of `layout`.
pub const fn writer_byte(layout: u32) -> u32 {
    first_byte(layout) + 1
}

/// How long a waiting process sleeps between two tries.
const PAUSE: Duration = Duration::from_micros(200);

/// How often one try asks for a byte that each time has no holder any more.
const ATTEMPTS: usize = 16;

/// The lock files that this process has open.
static OPEN: Mutex<Vec<Weak<LockFile>>> = Mutex::new(Vec::new());

/// The lock file, open for the life of the process.
#[derive(Debug)]
pub struct LockFile {
    file: File,
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// The share of this process in [`ALIVE`].
    alive: Mutex<Weak<Alive>>,
    /// fcntl does not tell the threads of one process apart. These are the bytes that this one holds, and its pid, since a
    /// child inherits the set but not the locks.
    held: Mutex<HashMap<u32, u32>>,
}

/// The other holder of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process that this one can see.
    Pid(u32),
    /// A process in another pid namespace.
    Foreign,
    /// Processes that share a byte with the process that forked them: the kernel does not name them.
    Nameless,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Holder::Pid(pid) => write!(f, "pid {pid}"),
            Holder::Foreign => f.write_str("a process in another pid namespace"),
            Holder::Nameless => f.write_str("an nginx whose workers have no slots"),
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

/// The locks that worker slots need of the kernel.
pub trait Locks {
    /// Takes `byte` for the rest of the process's life if it is free.
    ///
    /// # Errors
    ///
    /// [`Code::System`]: the operating system refuses to lock or to tell.
    fn keep(&self, byte: u32) -> Result<bool>;

    /// Frees a byte that was to be kept.
    fn give_back(&self, byte: u32);

    /// Another process that holds one of `count` bytes from `byte` on, if there is one. Never this process itself.
    ///
    /// # Errors
    ///
    /// [`Code::System`]: the operating system refuses to tell.
    fn holder(&self, byte: u32, count: u32) -> Result<Option<Holder>>;
}

impl Locks for LockFile {
    fn keep(&self, byte: u32) -> Result<bool> {
        Ok(self.try_lock(byte)?.map(std::mem::forget).is_ok())
    }

    fn give_back(&self, byte: u32) {
        self.release(byte);
    }

    fn holder(&self, byte: u32, count: u32) -> Result<Option<Holder>> {
        Ok(self.first(libc::F_GETLK, byte, count)?.map(|(_, holder)| holder))
    }
}

/// A share in [`ALIVE`] that this process and all its later children have. When the process that took it drops it, it is given
/// back for all of them.
#[derive(Debug)]
pub struct Alive {
    lock: Arc<LockFile>,
    pid: u32,
}

impl Drop for Alive {
    fn drop(&mut self) {
        // Another thread may have taken a new share meanwhile.
        let alive = self.lock.alive.lock();
        if alive.strong_count() == 0 && self.pid == std::process::id() {
            let _ = self.lock.fcntl(libc::F_OFD_SETLK, libc::F_UNLCK, ALIVE, 1);
        }
    }
}

impl LockFile {
    /// Opens the lock file, and makes it if it is missing (mode 0600, no symbolic link followed). If this process has it open
    /// already, it answers that one. `path` names it in messages.
    ///
    /// # Errors
    ///
    /// [`Code::System`]: the file cannot be opened or made, or is not this user's alone ([`check_owned`](super::file::check_owned)).
    pub fn open(path: &Path) -> Result<Arc<Self>> {
        let mut open = OPEN.lock();
        open.retain(|lock| lock.strong_count() > 0);
        // Asked by name: a second descriptor, once closed, would free the locks that the first holds.
        let named = std::fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
        if let Some(lock) = open.iter().filter_map(Weak::upgrade).find(|lock| Some(lock.identity) == named) {
            super::file::check_owned(&lock.file, path)?;
            return Ok(lock);
        }
        let file = super::file::open_or_create(path)?;
        super::file::check_owned(&file, path)?;
        let meta = file.metadata().map_err(|error| super::file::explain(path, &error))?;
        let lock = Arc::new(LockFile {
            file,
            path: path.to_owned(),
            identity: (meta.dev(), meta.ino()),
            alive: Mutex::new(Weak::new()),
            held: Mutex::new(HashMap::new()),
        });
        open.push(Arc::downgrade(&lock));
        Ok(lock)
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Inode of the lock file.
    pub fn inode(&self) -> u64 {
        self.identity.1
    }

    /// Whether the file has lost its name. The next process then makes another one, and the two exclude nothing.
    pub fn is_lost(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| meta.nlink() == 0)
    }

    /// Takes `byte`, trying for at most `wait`.
    ///
    /// # Errors
    ///
    /// [`Code::Busy`]: the byte is held for all of `wait`; the message names the holder.
    /// [`Code::System`]: the operating system refuses to lock or to tell.
    pub fn lock(&self, byte: u32, wait: Duration) -> Result<Guard<'_>> {
        let deadline = Instant::now() + wait;
        loop {
            match self.try_lock(byte)? {
                Ok(guard) => return Ok(guard),
                Err(holder) if Instant::now() >= deadline => {
                    let holder = match holder {
                        // Only that a layout is in use is said in common.
                        Some(Holder::Nameless) => "a foreign program".into(),
                        Some(holder) => holder.to_string(),
                        None => "several processes in turn".into(),
                    };
                    return Err(Error::new(Code::Busy, format!("busy, held by {holder}")));
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Takes `byte` if it is free, else answers its holder. `None`: several processes held it in turn, and each had let go of it when
    /// this one asked for its name.
    ///
    /// # Errors
    ///
    /// [`Code::System`]: the operating system refuses to lock or to tell.
    pub fn try_lock(&self, byte: u32) -> Result<std::result::Result<Guard<'_>, Option<Holder>>> {
        let me = std::process::id();
        let mut held = self.held.lock();
        if held.get(&byte) == Some(&me) {
            return Ok(Err(Some(Holder::Pid(me))));
        }
        let mut last = None;
        for _ in 0..ATTEMPTS {
            if self.fcntl(libc::F_SETLK, libc::F_WRLCK, byte, 1)?.is_some() {
                held.insert(byte, me);
                return Ok(Ok(Guard { lock: self, byte }));
            }
            // The holder may be gone again by now. Then none is to blame, and the byte may be free.
            last = self.holder(byte, 1)?;
            match last {
                Some(Holder::Nameless) => self.disown(byte, 1)?,
                Some(holder) => return Ok(Err(Some(holder))),
                None => {}
            }
        }
        Ok(Err(last))
    }

    /// Frees bytes that only processes may hold and that this open file holds. A spoiled worker that inherited the descriptor
    /// can lock them in the name of the shared file, and no death would free them again.
    fn disown(&self, byte: u32, count: u32) -> Result<()> {
        self.fcntl(libc::F_OFD_SETLK, libc::F_UNLCK, byte, count).map(|_| ())
    }

    /// Says that our layout is in use, for as long as the answer lives here or in any process that is forked from here on.
    ///
    /// # Errors
    ///
    /// [`Code::System`]: a foreign program has locked the byte, or the operating system refuses to lock.
    pub fn live(self: &Arc<Self>) -> Result<Arc<Alive>> {
        let mut alive = self.alive.lock();
        if let Some(alive) = alive.upgrade() {
            return Ok(alive);
        }
        if self.fcntl(libc::F_OFD_SETLK, libc::F_RDLCK, ALIVE, 1)?.is_none() {
            let at = self.path.display();
            return Err(Error::new(Code::System, format!("{at}: byte {ALIVE} is locked by a foreign program")));
        }
        let share = Arc::new(Alive { lock: self.clone(), pid: std::process::id() });
        *alive = Arc::downgrade(&share);
        Ok(share)
    }

    /// Whether others say that this layout is in use: neither this process nor those that have their share from it.
    ///
    /// # Errors
    ///
    /// [`Code::System`]: the operating system refuses to tell.
    pub fn others_live(&self) -> Result<Option<Holder>> {
        Ok(self.first(libc::F_OFD_GETLK, ALIVE, 1)?.map(|(_, holder)| holder))
    }

    /// Another user of `layout`, if there is one; one that can be named, if possible.
    ///
    /// # Errors
    ///
    /// [`Code::System`]: the operating system refuses to tell.
    pub fn user_of(&self, layout: u32) -> Result<Option<Holder>> {
        Ok(match self.holder(first_byte(layout) + 1, BYTES - 1)? {
            None if layout == LAYOUT => self.others_live()?,
            None => self.holder(first_byte(layout), 1)?,
            named => named,
        })
    }

    /// The layout above `layout` that is in use, and its user.
    ///
    /// # Errors
    ///
    /// [`Code::System`]: the operating system refuses to lock or to tell.
    pub fn newer_than(&self, layout: u32) -> Result<Option<(u32, Holder)>> {
        // A length of 0: to the end, however large the numbers of layouts become.
        let (first, count) = (first_byte(layout + 1), 0);
        let mut found = self.first(libc::F_GETLK, first, count)?;
        if matches!(found, Some((_, Holder::Nameless))) {
            // Another layout has a file of its own open.
            self.disown(first, count)?;
            found = self.first(libc::F_GETLK, first, count)?;
        }
        let Some((byte, holder)) = found else { return Ok(None) };
        let newer = byte / BYTES;
        Ok(Some((newer, self.user_of(newer)?.unwrap_or(holder))))
    }

    /// The byte and the holder of a lock in the way of a lock on all of these bytes.
    fn first(&self, command: i32, byte: u32, count: u32) -> Result<Option<(u32, Holder)>> {
        let Some(found) = self.fcntl(command, libc::F_WRLCK, byte, count)? else { return Ok(None) };
        let holder = match found.l_pid {
            1.. => Holder::Pid(found.l_pid as u32),
            -1 => Holder::Nameless,
            _ => Holder::Foreign,
        };
        let free = i32::from(found.l_type) == libc::F_UNLCK;
        Ok((!free).then_some((byte.max(u32::try_from(found.l_start).unwrap_or(u32::MAX)), holder)))
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
