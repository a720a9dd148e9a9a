//! The region: a named file that outlives every process, mapped. How a process comes by it is told in [`open`].

pub mod beside;
pub mod find;
pub mod header;
pub mod older_layouts;
pub mod open;

use super::cells::{Cells, Plan};
use super::file::{self, with_suffix};
use super::history::History;
use super::layout::{Geometry, LAYOUT};
use super::lock::{Alive, Guard, Holder, LockFile, WRITER};
use super::mem::Mem;
use super::memory::{Damaged, Memory};
use super::sections::Sections;
use super::slots::{self, Worker};
use super::writing::Writing;
use crate::error::{Code, Error, Result};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A mapped region and the lock file beside it. The region's own file is closed: a process with its descriptor could truncate
/// it.
#[derive(Debug)]
pub struct Region {
    mem: Mem,
    geometry: Geometry,
    /// Beside it; none as long as it is only read from.
    cells: Option<Beside>,
    /// Beside it; none where it could not be had.
    history: Option<Mem>,
    /// Beside it; none where statistics are off, or it could not be had.
    statistics: Option<Mem>,
    lock: Arc<LockFile>,
    /// The name that its users give it: the path without the layout.
    base: PathBuf,
    path: PathBuf,
    /// Device and inode of the file, to notice that the path means another one by now.
    identity: (u64, u64),
    /// The share that says to older layouts that this one is in use.
    alive: Option<Arc<Alive>>,
}

/// The mapping of cells beside a region.
#[derive(Debug)]
pub(super) struct Beside {
    pub mem: Mem,
    pub plan: Plan,
    pub path: PathBuf,
    /// As that of the region.
    pub identity: (u64, u64),
}

impl Beside {
    /// The cells.
    #[inline(always)]
    pub fn cells(&self) -> Cells<'_, Mem> {
        Cells::new(&self.mem, &self.plan)
    }
}

/// The message when the region does not make sense while it is in use.
pub const DAMAGED: &str = "the region is damaged: stop nginx, remove its file and start again";

impl From<Damaged> for Error {
    fn from(Damaged: Damaged) -> Self {
        Error::new(Code::Damaged, DAMAGED)
    }
}

/// A region that another one replaces, with the files beside it as they were before that.
#[derive(Debug)]
pub struct Old<'a> {
    /// The region.
    pub region: &'a Region,
    /// Its cells, where they can be read.
    pub cells: Option<Cells<'a, Mem>>,
    /// Its history.
    pub history: History<'a, Mem>,
}

/// The content of a region, as far as opening one needs it.
pub trait Content {
    /// Fills `new`, which no other process sees yet, with the table of `old`, which none changes; it may be of an older layout.
    /// Answers a message for the operator.
    ///
    /// # Errors
    ///
    /// [`Code::Full`]: the table does not fit into `new`.
    /// [`Code::Busy`], [`Code::Superseded`]: as [`Region::writer`] of `new`.
    /// [`Code::System`]: the operating system refuses a lock or memory.
    /// [`Code::Damaged`]: a word lies outside of a region.
    fn copy(&self, old: &Region, new: &Region) -> Result<Option<String>>;

    /// Fills `history`, that of `new`, with the history of the region whose table `new` has. A history that is lost costs no table.
    fn copy_history(&self, old: &Old<'_>, new: &Region, history: &History<'_, Mem>);

    /// A number that is another one after any change of the table; `None` as long as there was none.
    ///
    /// # Errors
    ///
    /// [`Code::Damaged`]: a word of the table lies outside of the region.
    fn digest(&self, region: &Region) -> Result<Option<u64>>;
}

/// The file of the region of `layout`.
pub fn file_of(base: &Path, layout: u32) -> PathBuf {
    with_suffix(base, &format!(".v{layout}"))
}

/// The cells beside the region of `layout`.
pub fn cells_of(base: &Path, layout: u32) -> PathBuf {
    with_suffix(&file_of(base, layout), ".cells")
}

/// The history beside the region of `layout`.
pub fn history_of(base: &Path, layout: u32) -> PathBuf {
    with_suffix(&file_of(base, layout), ".history")
}

/// The statistics beside the region of `layout`.
pub fn statistics_of(base: &Path, layout: u32) -> PathBuf {
    with_suffix(&file_of(base, layout), ".stats")
}

/// The lock file: one for all layouts.
pub fn lock_of(base: &Path) -> PathBuf {
    with_suffix(base, ".lock")
}

impl Region {
    /// A region that lies in `mem`.
    pub(super) fn new(
        mem: Mem,
        geometry: Geometry,
        lock: Arc<LockFile>,
        base: PathBuf,
        path: PathBuf,
        identity: (u64, u64),
    ) -> Self {
        Region { mem, geometry, cells: None, history: None, statistics: None, lock, base, path, identity, alive: None }
    }

    /// Keeps the cells of its peers.
    pub(super) fn counts_in(&mut self, cells: Beside) {
        self.cells = Some(cells);
    }

    /// Keeps its history.
    pub(super) fn remembers_in(&mut self, history: Option<Mem>) {
        self.history = history;
    }

    /// Its history; none where there is no file for that.
    pub fn history(&self) -> Option<History<'_, Mem>> {
        self.history.as_ref().map(History::over)
    }

    /// Keeps its statistics.
    pub(super) fn counts_tries_in(&mut self, statistics: Mem) {
        self.statistics = Some(statistics);
    }

    /// The sections of statistics of its peers and upstreams; none where they are off, or could not be had.
    #[inline(always)]
    pub fn sections(&self) -> Option<Sections<'_, Mem>> {
        self.statistics.as_ref().map(Sections::over)
    }

    /// The cells of its peers.
    #[inline(always)]
    pub fn cells(&self) -> Option<Cells<'_, Mem>> {
        self.cells.as_ref().map(Beside::cells)
    }

    /// Keeps the share that says that its layout is in use.
    pub(super) fn lives(&mut self, alive: Arc<Alive>) {
        self.alive = Some(alive);
    }

    /// Messages for the operator when `setup` runs again in a process that has the region already.
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

    /// The message when the file was deleted or replaced under the mapping.
    pub fn lost(&self) -> Option<String> {
        let at = self.path.display();
        if self.mem.is_torn() {
            return Some(format!(
                "{at} has lost pages: it was cut short, or has holes and its file system is full: nothing can be changed any more; \
                 make room, stop nginx, remove {at} and start again"
            ));
        }
        if is_lost(&self.mem, &self.path, self.identity) {
            return Some(format!(
                "{at} was deleted or replaced: workers and reloads go on with the table in memory, but a restart loses what \
                 was changed at run time; save status() before you restart nginx"
            ));
        }
        if self.lock.is_lost() {
            return Some(format!(
                "{} was deleted or replaced: who maps {at} from now on gets a table of its own; restart nginx, which \
                 carries the table over",
                self.lock.path().display()
            ));
        }
        let cells = self.cells.as_ref()?;
        (cells.mem.is_torn() || is_lost(&cells.mem, &cells.path, cells.identity)).then(|| {
            format!(
                "{} was deleted or replaced: open connections and failures are counted apart by those who map it before \
                 and after; restart nginx",
                cells.path.display()
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

    /// Number of the layout.
    pub fn layout(&self) -> u32 {
        self.geometry.shape.layout
    }

    /// Inode of the file.
    pub fn inode(&self) -> u64 {
        self.identity.1
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Claims a worker slot for the rest of this process's life.
    ///
    /// # Errors
    ///
    /// [`Code::Full`]: all slots are taken.
    /// [`Code::System`]: the operating system refuses to lock or to tell.
    /// [`Code::Damaged`]: a word of a slot lies outside of the region.
    pub fn claim_slot(&self) -> Result<u32> {
        slots::claim(&self.mem, &self.geometry, &*self.lock, now())
    }

    /// Begins to count in the row of `slot`, which is the slot of this process.
    ///
    /// # Errors
    ///
    /// [`Code::Changing`]: other workers come or go at each of 16 tries.
    /// [`Code::Damaged`]: there is no such slot, or a word lies outside of the cells.
    pub fn count_for(&self, slot: u32) -> Result<()> {
        let Some(cells) = self.cells() else { return Ok(()) };
        Ok(cells.activate(slot)?)
    }

    /// Sees whether this process counts all its connections.
    ///
    /// # Errors
    ///
    /// [`Code::Full`]: there is no memory to count some of them in.
    pub fn has_room_to_count(&self) -> Result<()> {
        let Some(Beside { mem, plan, path, .. }) = &self.cells else { return Ok(()) };
        if mem.wanting().is_none_or(|at| !plan.is_in_a_row(at)) {
            return Ok(());
        }
        let full = io::Error::from_raw_os_error(libc::ENOSPC);
        Err(file::full(path, &full, file::FEWER)
            .within("not all connections are counted, as max_conns and least_conn want"))
    }

    /// Takes back the counts of dead workers; `own` is the slot of this process. Answers whether there were any. Only one process
    /// gets that answer, and only once. So an error beside it waits for the next call.
    ///
    /// # Errors
    ///
    /// An error is answered only where no counts were taken back.
    /// [`Code::Changing`]: other workers come or go at each of 16 tries.
    /// [`Code::System`]: the operating system refuses to lock or to tell.
    /// [`Code::Damaged`]: a word lies outside of the cells.
    pub fn reap(&self, own: Option<u32>) -> Result<bool> {
        let Some(cells) = self.cells() else { return Ok(false) };
        let (mut any, mut failure) = (false, None);
        for slot in cells.active()?.into_iter().filter(|&slot| own != Some(slot)) {
            // The slot is free, and no other worker's while this holds the byte.
            match slots::take_if_dead(&*self.lock, slot) {
                Ok(false) => {}
                Ok(true) => {
                    let done = cells.deactivate(slot);
                    slots::give_back(&*self.lock, slot);
                    any |= done.is_ok();
                    failure = failure.or(done.err().map(Error::from));
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.filter(|_| !any).map_or(Ok(any), Err)
    }

    /// All live workers; `own` is the slot of this process.
    ///
    /// # Errors
    ///
    /// [`Code::System`]: the operating system refuses to tell.
    /// [`Code::Damaged`]: a word of a slot lies outside of the region.
    pub fn workers(&self, own: Option<u32>) -> Result<Vec<Worker>> {
        slots::live(&self.mem, &self.geometry, &*self.lock, own)
    }

    /// Another process that uses the region, if there is one: one that has a slot, rather than one that has not.
    ///
    /// # Errors
    ///
    /// [`Code::System`]: the operating system refuses to tell.
    pub fn in_use(&self) -> Result<Option<Holder>> {
        Ok(match slots::others_live(&self.geometry, &*self.lock)? {
            None => self.lock.others_live()?,
            worker => worker,
        })
    }

    /// Whether another process uses its layout.
    ///
    /// # Errors
    ///
    /// [`Code::System`]: the operating system refuses to tell.
    pub fn is_alive(&self) -> Result<bool> {
        Ok(self.lock.user_of(self.layout())?.is_some())
    }

    /// Takes the writer lock, trying for at most `wait`.
    ///
    /// # Errors
    ///
    /// [`Code::Busy`]: another process holds the lock for all of `wait`.
    /// [`Code::Superseded`]: a newer layout is in use.
    /// [`Code::System`]: the operating system refuses to lock or to tell.
    pub fn writer(&self, wait: Duration) -> Result<Writer<'_>> {
        let guard = self.lock.lock(WRITER, wait)?;
        // Asked with the lock in hand. A newer layout marks its life under this lock. So it takes over all changes that were
        // acknowledged before, and none is acknowledged after.
        if let Some((newer, holder)) = self.lock.newer_than(LAYOUT)? {
            return Err(superseded(newer, holder));
        }
        let change = Writing::new(&self.mem, &self.geometry, &self.path).with_cells(self.cells());
        Ok(Writer { change, _guard: guard })
    }
}

/// Whether `path` no longer names the file that is mapped.
fn is_lost(mem: &Mem, path: &Path, (device, inode): (u64, u64)) -> bool {
    match file::is_still(path, device, inode) {
        Ok(still) => !still,
        // A worker may not look into the directory of its master.
        Err(_) => mem.deleted(),
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
    change: Writing<'a, Mem>,
    _guard: Guard<'a>,
}

impl<'a> std::ops::Deref for Writer<'a> {
    type Target = Writing<'a, Mem>;

    fn deref(&self) -> &Self::Target {
        &self.change
    }
}

/// Seconds since the epoch.
pub(super) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
