//! The region: a named file that outlives every process, found or made, checked, and mapped.

use super::change::Change;
use super::checksum::Checksum;
use super::file;
use super::layout::{Geometry, LAYOUT, MAGIC, fixed, state};
use super::lock::{Alive, CREATION, Guard, Holder, LockFile, WRITER};
use super::mem::{Mem, WORD};
use super::memory::{Damaged, Memory};
use super::slots::{self, Worker};
use crate::error::{Code, Error, Result};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long `open` waits for another process that is making the region.
const CREATION_WAIT: Duration = Duration::from_secs(5);

/// A mapped region and the lock file beside it. The region's own file is closed: who has its descriptor can truncate it.
#[derive(Debug)]
pub struct Region {
    mem: Mem,
    geometry: Geometry,
    lock: Arc<LockFile>,
    /// What its users call it: the path without the layout.
    base: PathBuf,
    path: PathBuf,
    /// Device and inode of the file, to notice that the path means another one by now.
    identity: (u64, u64),
    /// Says to older layouts that this one is in use.
    alive: Option<Arc<Alive>>,
}

/// What an operator reads when the region does not make sense while it is in use.
pub const DAMAGED: &str = "the region is damaged: stop nginx, remove its file and start again";

impl From<Damaged> for Error {
    fn from(Damaged: Damaged) -> Self {
        Error::new(Code::Damaged, DAMAGED)
    }
}

/// What a file says it is.
enum Header {
    Sound,
    OtherBoot,
    OtherLayout(u64),
    Foreign,
    Damaged(&'static str),
}

/// The file of the region of `layout`.
pub fn file_of(base: &Path, layout: u32) -> PathBuf {
    with_suffix(base, &format!(".v{layout}"))
}

/// The lock file: one for all layouts.
pub fn lock_of(base: &Path) -> PathBuf {
    with_suffix(base, ".lock")
}

impl Region {
    /// Finds or makes the region that its users call `base`. A region that is made is filled by `fill` before it gets its
    /// name: with `None` when it is the first, with the old region when that has to make room for one of another size or
    /// lock. Answers the region and what an operator should read about it.
    pub fn open(
        base: &Path,
        size: u64,
        fill: impl Fn(&Region, Option<&Region>) -> Result<()>,
    ) -> Result<(Region, Vec<String>)> {
        let geometry =
            Geometry::of(size).map_err(|allowed| Error::invalid(format!("shm_size: {size}: allowed: {allowed}")))?;
        let lock = LockFile::open(&lock_of(base))?;
        let creation = lock.lock(CREATION, CREATION_WAIT).map_err(|error| error.within(base.display()))?;
        let mut notes = Vec::new();
        let found = Self::find(base, &lock, &mut notes)?;
        let alive = lock.live()?;
        let mut region = match found {
            None => Self::create(base, geometry, &lock, |new| fill(new, None))?,
            Some(old) => match old.why_replace(size, &mut notes)? {
                None => old,
                Some(why) => {
                    let at = old.path.display();
                    match Self::create(base, geometry, &lock, |new| fill(new, Some(&old))) {
                        Ok(new) => {
                            notes.push(format!("{at}: {why}: made anew with its table"));
                            new
                        }
                        Err(error) => {
                            notes.push(format!("{at}: {why}, but it cannot be made anew and is kept: {error}"));
                            old
                        }
                    }
                }
            },
        };
        region.alive = Some(alive);
        drop(creation);
        Ok((region, notes))
    }

    /// The region that is there, if it can be used. A damaged one is set aside, one of another boot is forgotten.
    fn find(base: &Path, lock: &Arc<LockFile>, notes: &mut Vec<String>) -> Result<Option<Region>> {
        let path = &file_of(base, LAYOUT);
        let Some(file) = file::open_existing(path)? else { return Ok(None) };
        file::check_owned(&file, path)?;
        let meta = file.metadata().map_err(|error| file::explain(path, &error))?;
        let at = path.display();
        match examine(&file, meta.len())? {
            Header::Sound => {
                let geometry = Geometry::of(meta.len()).map_err(Error::invalid)?;
                let mem = Mem::map(&file, meta.len() as usize).map_err(|error| file::explain(path, &error))?;
                reserve(&file, &mem, &geometry).map_err(|error| file::full(path, &error))?;
                let identity = (meta.dev(), meta.ino());
                let (base, path) = (base.to_owned(), path.to_owned());
                Ok(Some(Region { mem, geometry, lock: lock.clone(), base, path, identity, alive: None }))
            }
            Header::OtherBoot => {
                notes.push(format!("{at} is of an earlier boot: it is made anew"));
                Ok(None)
            }
            Header::Damaged(what) => {
                let aside = set_aside(path)?;
                notes.push(format!(
                    "{at} is damaged ({what}): it was set aside as {} and is made anew",
                    aside.display()
                ));
                Ok(None)
            }
            Header::OtherLayout(layout) => Err(Error::new(
                Code::System,
                format!(
                    "{at} has layout {layout}, this library has layout {LAYOUT}: name another file with shm_path, or stop \
                     all that use it and remove it"
                ),
            )),
            Header::Foreign => Err(Error::new(
                Code::System,
                format!("{at} is not a dyups region: it is left alone; remove it, or name another file with shm_path"),
            )),
        }
    }

    /// Makes a region under a name of its own, has it filled, and only then gives it the name that others look for.
    fn create(
        base: &Path,
        geometry: Geometry,
        lock: &Arc<LockFile>,
        fill: impl FnOnce(&Region) -> Result<()>,
    ) -> Result<Region> {
        let path = file_of(base, LAYOUT);
        let unborn = with_suffix(&path, ".new");
        // Left by a process that died here; the creation lock says that nobody else is at it.
        let _ = std::fs::remove_file(&unborn);
        let made = Self::create_at(&unborn, base, path, geometry, lock).and_then(|region| {
            fill(&region)?;
            std::fs::rename(&unborn, &region.path).map_err(|error| file::explain(&region.path, &error))?;
            Ok(region)
        });
        if made.is_err() {
            let _ = std::fs::remove_file(&unborn);
        }
        made
    }

    fn create_at(
        unborn: &Path,
        base: &Path,
        path: PathBuf,
        geometry: Geometry,
        lock: &Arc<LockFile>,
    ) -> Result<Region> {
        let file = file::create_new(unborn)?;
        let meta = file.metadata().map_err(|error| file::explain(unborn, &error))?;
        file.set_len(geometry.size).map_err(|error| file::full(&path, &error))?;
        let mem = Mem::map(&file, geometry.size as usize).map_err(|error| file::explain(unborn, &error))?;
        reserve(&file, &mem, &geometry).map_err(|error| file::full(&path, &error))?;
        let identity = (meta.dev(), meta.ino());
        let (lock, base) = (lock.clone(), base.to_owned());
        let region = Region { mem, geometry, lock, base, path, identity, alive: None };
        region.write_header()?;
        Ok(region)
    }

    fn write_header(&self) -> Result<()> {
        let [boot_high, boot_low] = boot_id();
        let mut header = [0; fixed::CHECKSUM + 1];
        header[fixed::MAGIC] = MAGIC;
        header[fixed::LAYOUT] = u64::from(LAYOUT);
        header[fixed::SIZE] = self.geometry.size;
        header[fixed::BOOT] = boot_high;
        header[fixed::BOOT + 1] = boot_low;
        header[fixed::PID_NAMESPACE] = pid_namespace();
        header[fixed::LOCK] = self.lock.inode();
        header[fixed::CHECKSUM] = checksum(&header);
        self.mem.store_all(0, &header)?;
        self.mem.store(state::LOWEST_FREE, self.geometry.heap_at as u64)?;
        Ok(())
    }

    /// Why this region, though sound, has to make room for a new one now. A size that cannot be had is a note.
    fn why_replace(&self, size: u64, notes: &mut Vec<String>) -> Result<Option<String>> {
        if self.mem.load(fixed::LOCK)? != self.lock.inode() {
            return Ok(Some("its lock file was replaced".into()));
        }
        let namespace = self.mem.load(fixed::PID_NAMESPACE)?;
        let user = self.in_use()?;
        if let (Some(_), true) = (user, namespace != pid_namespace()) {
            notes.push(format!("{} is shared with processes of another pid namespace", self.path.display()));
        }
        if size == self.geometry.size {
            return Ok(None);
        }
        if let Some(user) = user {
            notes.push(format!(
                "shm_size is {size}, but {} has {} bytes and is in use by {user}: it keeps its size until the next start \
                 with no live user",
                self.path.display(),
                self.geometry.size
            ));
            return Ok(None);
        }
        Ok(Some(format!("shm_size is {size}, it had {} bytes", self.geometry.size)))
    }

    /// What an operator should read when `setup` runs again in a process that has the region already.
    pub fn still_fits(&self, base: &Path, size: u64) -> Vec<String> {
        let mut notes = Vec::new();
        if base != self.base {
            let (wanted, used) = (base.display(), self.base.display());
            notes.push(format!("shm_path is {wanted}, but {used} is in use: restart nginx to change it"));
        }
        if size != self.geometry.size {
            let (at, has) = (self.path.display(), self.geometry.size);
            notes.push(format!("shm_size is {size}, but {at} has {has} bytes: restart nginx to change it"));
        }
        notes.extend(self.lost());
        notes
    }

    /// What to say when the file was deleted or replaced under the mapping.
    pub fn lost(&self) -> Option<String> {
        let at = self.path.display();
        let lost = match file::is_still(&self.path, self.identity.0, self.identity.1) {
            Ok(still) => !still,
            // A worker may not look into the directory of its master.
            Err(_) => self.mem.deleted(),
        };
        if lost {
            return Some(format!(
                "{at} was deleted or replaced: workers and reloads go on with the table in memory, but a restart loses what \
                 was changed at run time; save status() before you restart nginx"
            ));
        }
        self.lock.is_lost().then(|| {
            format!(
                "{} was deleted or replaced: who maps {at} from now on gets a table of its own; restart nginx, which \
                 carries the table over",
                self.lock.path().display()
            )
        })
    }

    /// The mapping.
    #[inline(always)]
    pub fn mem(&self) -> &Mem {
        &self.mem
    }

    /// The layout.
    #[inline(always)]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Claims a worker slot for the rest of this process's life.
    pub fn claim_slot(&self) -> Result<u32> {
        slots::claim(&self.mem, &self.geometry, &*self.lock, now())
    }

    /// All live workers; `own` is the slot of this process.
    pub fn workers(&self, own: Option<u32>) -> Result<Vec<Worker>> {
        slots::live(&self.mem, &self.geometry, &*self.lock, own)
    }

    /// Another process that uses the region, if there is one: one that has a slot, rather than one that has not.
    pub fn in_use(&self) -> Result<Option<Holder>> {
        Ok(match slots::others_live(&self.geometry, &*self.lock)? {
            None => self.lock.others_live()?,
            worker => worker,
        })
    }

    /// Takes the writer lock, trying for at most `wait`. Refused while a newer layout is in use.
    pub fn writer(&self, wait: Duration) -> Result<Writer<'_>> {
        let guard = self.lock.lock(WRITER, wait)?;
        // Asked with the lock in hand: a newer layout begins to live under it, so that it takes over what is acknowledged
        // before, and nothing is acknowledged after.
        if let Some((newer, holder)) = self.lock.newer_than(LAYOUT)? {
            return Err(superseded(newer, holder));
        }
        let change = Change::new(&self.mem, &self.geometry, &self.path);
        Ok(Writer { change, _guard: guard })
    }
}

fn superseded(newer: u32, holder: Holder) -> Error {
    Error::new(
        Code::Superseded,
        format!(
            "superseded by layout {newer} (held by {holder}): nginx was upgraded: make changes in the new one; once it is gone \
             (QUIT to its master) they are made here again"
        ),
    )
}

/// The right to change the region; dropping it frees the lock.
#[derive(Debug)]
pub struct Writer<'a> {
    change: Change<'a, Mem>,
    _guard: Guard<'a>,
}

impl<'a> std::ops::Deref for Writer<'a> {
    type Target = Change<'a, Mem>;

    fn deref(&self) -> &Self::Target {
        &self.change
    }
}

/// Reserves what every user of the region writes to: all before the heap, or, where the kernel cannot do that by parts
/// (before Linux 5.14), the whole file.
fn reserve(file: &File, mem: &Mem, geometry: &Geometry) -> io::Result<()> {
    match mem.populate(0, geometry.metadata_words()) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            file::allocate(file, geometry.size)?;
            mem.all_reserved();
            Ok(())
        }
        done => done,
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn set_aside(path: &Path) -> Result<PathBuf> {
    let now = now();
    // One from the same second keeps its name. The creation lock says that nobody else is at it.
    let aside = (now..now + 1000)
        .map(|time| with_suffix(path, &format!(".damaged-{time}")))
        .find(|aside| std::fs::symlink_metadata(aside).is_err())
        .ok_or_else(|| file::explain(path, &io::Error::from_raw_os_error(libc::EEXIST)))?;
    std::fs::rename(path, &aside).map_err(|error| file::explain(path, &error))?;
    Ok(aside)
}

/// Reads the header by read, not through a mapping: the file may be anything.
fn examine(file: &File, size: u64) -> Result<Header> {
    use std::os::unix::fs::FileExt;
    let mut bytes = [0; (fixed::CHECKSUM + 1) * WORD];
    if file.read_exact_at(&mut bytes, 0).is_err() {
        return Ok(Header::Foreign);
    }
    let mut header = [0; fixed::CHECKSUM + 1];
    for (word, bytes) in header.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    if header[fixed::MAGIC] != MAGIC {
        return Ok(Header::Foreign);
    }
    if header[fixed::LAYOUT] != u64::from(LAYOUT) {
        return Ok(Header::OtherLayout(header[fixed::LAYOUT]));
    }
    if header[fixed::CHECKSUM] != checksum(&header) {
        return Ok(Header::Damaged("its header has a wrong checksum"));
    }
    if header[fixed::SIZE] != size || Geometry::of(size).is_err() {
        return Ok(Header::Damaged("its size is not what its header says"));
    }
    if header[fixed::BOOT..fixed::BOOT + 2] != boot_id() {
        return Ok(Header::OtherBoot);
    }
    Ok(Header::Sound)
}

fn checksum(header: &[u64; fixed::CHECKSUM + 1]) -> u64 {
    Checksum::of(&header[..fixed::CHECKSUM]).into()
}

/// Seconds since the epoch.
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The kernel's name for this boot, as two words; zeros where it has none.
fn boot_id() -> [u64; 2] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&digits, 16).unwrap_or(0);
    [(number >> 64) as u64, number as u64]
}

/// Inode of this process's pid namespace; 0 where /proc does not tell.
fn pid_namespace() -> u64 {
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |meta| meta.ino())
}
