//! How a process comes by its region: it finds one, makes one, or makes one with the table of another. All of it happens under
//! the creation lock, which is one for all layouts.
//!
//! # From an older layout
//!
//! A process that finds no region of its own layout takes over the table of an older one, in this order:
//!
//! 1. It says that its own layout is in use ([`LockFile::live`]). From here on an older writer that gets its lock is refused.
//! 2. It takes the writer locks of the older layouts ([`super::older_layouts`]), so writers under way end first. Their acknowledged
//!    changes are in their tables.
//! 3. It makes its region under a name of its own, fills it, and renames it.
//! 4. It gives the writer locks back.
//!
//! So no change is acknowledged that the new table lacks. A process that dies before the rename leaves the older layout in
//! charge. So does one that dies after it, and so does the last one of a generation that is rolled back. Then no byte says any
//! more that the new layout is in use, and the older one writes on.
//!
//! Therefore a region remembers the origin of its table, and a digest of it. A process that opens it alone, and finds another
//! digest, takes the table over again. Where it is not alone, the others have been there since before step 1, since there is
//! one creation lock. So no older writer came between.

use super::beside::{self, make_file};
use super::find::{Found, find, map};
use super::header::{self, Header, Inherited};
use super::older_layouts::{self, OlderLayouts};
use super::{Beside, Content, Old, Region, cells_of, file_of, lock_of, now, statistics_of};
use crate::error::{Code, Error, Result};
use crate::shm::file::{self, with_suffix};
use crate::shm::history::History;
use crate::shm::layout::{Geometry, LAYOUT, OURS, fixed, state};
use crate::shm::lock::{CREATION, LockFile, WRITER};
use crate::shm::memory::Memory;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long `open` waits for another process that is making the region.
const CREATION_WAIT: Duration = Duration::from_secs(5);

impl Region {
    /// Finds or makes the region that its users call `base`: of `size` bytes, if it is to be made. Answers the region, and
    /// messages for the operator.
    ///
    /// # Errors
    ///
    /// [`Code::Invalid`]: the size.
    /// [`Code::System`]: owner, mode or kind of a file; another layout in this process; or the operating system refuses.
    /// [`Code::Full`]: the file system is full, or the table does not fit into a new region.
    /// [`Code::Busy`]: another process makes the region, or writes, for too long.
    /// [`Code::Superseded`]: a table is to be copied, and a newer layout is in use.
    /// [`Code::Damaged`]: a word lies outside of a region.
    pub fn open(base: &Path, size: u64, content: &impl Content) -> Result<(Region, Vec<String>)> {
        let geometry =
            Geometry::of(size).map_err(|allowed| Error::invalid(format!("shm_size: {size}: allowed: {allowed}")))?;
        let lock = LockFile::open(&lock_of(base))?;
        let creation = lock.lock(CREATION, CREATION_WAIT).map_err(|error| error.within(base.display()))?;
        let mut opening = Opening { base, geometry, lock: &lock, content, notes: Vec::new() };
        let region = opening.region()?;
        let notes = opening.notes;
        drop(creation);
        Ok((region, notes))
    }
}

/// The statistics beside a region.
impl Region {
    /// Has the region keep statistics in a file of so many bytes, the one that is there or a new one. Where live processes use one of
    /// another size, that stays.
    ///
    /// # Errors
    ///
    /// [`Code::System`]: owner, mode or kind of the file, or the operating system refuses. [`Code::Full`]: the file system is full.
    /// [`Code::Busy`]: another process makes the region.
    pub fn keep_statistics(&mut self, bytes: u64) -> Result<()> {
        let (base, lock) = (self.base.clone(), self.lock.clone());
        let _creation = lock.lock(CREATION, CREATION_WAIT).map_err(|error| error.within(base.display()))?;
        let had = std::fs::metadata(statistics_of(&base, self.layout())).map_or(bytes, |meta| meta.len());
        let bytes = if self.in_use()?.is_some() { had } else { bytes } as usize;
        let statistics = match beside::find_statistics(&base, self, bytes)? {
            Some(found) => found,
            None => beside::make_statistics(&base, self, bytes)?,
        };
        self.counts_tries_in(statistics);
        Ok(())
    }
}

/// One opening, under the creation lock.
struct Opening<'a, C> {
    base: &'a Path,
    geometry: Geometry,
    lock: &'a Arc<LockFile>,
    content: &'a C,
    /// Messages for the operator.
    notes: Vec<String>,
}

/// The region of our own layout before it is opened.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
enum Own {
    There(Region),
    /// It was there and could not be used. A region of an older layout beside it has an older table than the lost one.
    SetAside,
    Nothing,
}

impl<C: Content> Opening<'_, C> {
    fn region(&mut self) -> Result<Region> {
        older_layouts::refuse_company(self.base)?;
        let own = self.own()?;
        let alive = self.lock.live()?;
        let older = match &own {
            Own::SetAside => OlderLayouts::default(),
            Own::There(_) if self.lock.user_of(LAYOUT)?.is_some() => OlderLayouts::default(),
            _ => OlderLayouts::hold(self.base, self.lock, &mut self.notes)?,
        };
        let own = if let Own::There(own) = own { Some(own) } else { None };
        let heir = older.heir_of(own.as_ref(), self.content)?;
        let mut region = match (heir, own) {
            (Some(heir), own) => self.inherit(heir, own.is_some())?,
            (None, Some(own)) => self.fit(own)?,
            (None, None) => self.make(Inherited::default(), |_| Ok(()))?,
        };
        if region.cells().is_none() {
            self.find_cells(&mut region)?;
        }
        if region.history().is_none() {
            self.find_history(&mut region);
        }
        region.lives(alive);
        Ok(region)
    }

    /// The region that is there, if it can be used. A damaged one is set aside, one of another boot is forgotten.
    fn own(&mut self) -> Result<Own> {
        let path = file_of(self.base, LAYOUT);
        let at = path.display();
        let refused =
            |todo: &str| Err(Error::new(Code::System, format!("{at} {todo}, or name another file with shm_path")));
        match find(self.base, OURS, self.lock)? {
            Found::Region(region) => Ok(Own::There(region)),
            Found::Nothing => Ok(Own::Nothing),
            Found::Other(header @ Header::OtherBoot) => {
                self.notes.push(format!("{at} {header}: it is made anew"));
                Ok(Own::Nothing)
            }
            Found::Other(header @ (Header::Damaged(_) | Header::Sound)) => {
                let aside = set_aside(&path)?;
                self.notes.push(format!("{at} {header}: it was set aside as {} and is made anew", aside.display()));
                Ok(Own::SetAside)
            }
            Found::Other(header @ Header::OtherLayout(_)) => {
                refused(&format!("{header}, by its name it has {LAYOUT}: stop all that use it and remove it"))
            }
            Found::Other(header @ Header::Foreign) => refused(&format!("{header}: it is left alone; remove it")),
        }
    }

    /// A new region with the table of one of an older layout; `again`: instead of a region that has it already.
    fn inherit(&mut self, heir: &Region, again: bool) -> Result<Region> {
        let digest = older_layouts::digest(heir, self.content)?.unwrap_or_default();
        let old = heir.path().display();
        let region = self
            .take_over(heir, Inherited { layout: heir.layout(), digest })
            .map_err(|error| error.within(format!("the table of {old} cannot be taken over")))?;
        let new = region.path().display();
        self.notes.push(match again {
            false => {
                format!("{new} has the table of {old}, which stays for the way back: remove it when there is none")
            }
            true => format!(
                "{new} has the table of {old} again, which was changed since: what was changed in {new} alone is gone"
            ),
        });
        Ok(region)
    }

    /// The region that was found, or a new one with its table where this one no longer fits.
    fn fit(&mut self, own: Region) -> Result<Region> {
        let Some(why) = self.why_replace(&own)? else { return Ok(own) };
        let at = own.path().display().to_string();
        match self.take_over(&own, header::origin(own.mem())?) {
            Ok(new) => {
                self.notes.push(format!("{at}: {why}: made anew with its table"));
                Ok(new)
            }
            Err(error) => {
                self.notes.push(format!("{at}: {why}, but it cannot be made anew and is kept: {error}"));
                Ok(own)
            }
        }
    }

    /// Why this region, though sound, has to make room for a new one now. A size that cannot be had is a note.
    fn why_replace(&mut self, own: &Region) -> Result<Option<String>> {
        let (at, size, had) = (own.path().display(), self.geometry.size, own.geometry().size);
        if own.mem().load(fixed::LOCK)? != self.lock.inode() {
            return Ok(Some("its lock file was replaced".into()));
        }
        let namespace = own.mem().load(fixed::PID_NAMESPACE)?;
        let user = own.in_use()?;
        if user.is_some() && namespace != header::pid_namespace() {
            self.notes.push(format!("{at} is shared with processes of another pid namespace"));
        }
        Ok(match user {
            _ if size == had => None,
            None => Some(format!("shm_size is {size}, it had {had} bytes")),
            Some(user) => {
                self.notes.push(format!(
                    "shm_size is {size}, but {at} has {had} bytes and is in use by {user}: it keeps its size until the next \
                     start with no live user"
                ));
                None
            }
        })
    }

    /// A new region with the table and the history of `old`.
    fn take_over(&mut self, old: &Region, origin: Inherited) -> Result<Region> {
        let (base, content, mut note) = (self.base, self.content, None);
        // Mapped before other files have their names. A history that cannot be read does not keep the table from being copied.
        let cells = beside::find_cells(base, old).ok().flatten();
        let history = beside::find_history(base, old).ok().flatten();
        let mut new = self.make(origin, |new| {
            note = content.copy(old, new)?;
            Ok(())
        })?;
        self.notes.extend(note);
        if let Some(history) = &history {
            let cells = cells.as_ref().map(Beside::cells);
            let old = Old { region: old, cells, history: History::over(history) };
            let made = beside::make_history(base, &new, |history| content.copy_history(&old, &new, history));
            new.remembers_in(made.ok());
        }
        Ok(new)
    }

    /// Makes a region under a name of its own, has it filled, and only then gives it the name that others look for.
    fn make(&self, origin: Inherited, fill: impl FnOnce(&Region) -> Result<()>) -> Result<Region> {
        let path = file_of(self.base, LAYOUT);
        make_file(&path, self.geometry.size, |file| {
            let mut region = map(file, self.base, path.clone(), self.geometry, self.lock)?;
            header::write(region.mem(), &self.geometry, self.lock.inode(), origin)?;
            region.mem().store(state::LOWEST_FREE, self.geometry.spare_end() as u64)?;
            region.counts_in(beside::make_cells(self.base, &region)?);
            fill(&region)?;
            Ok(region)
        })
    }

    /// The cells beside a region that was found. Where they belong to another region, or are lost, there are new ones, and the
    /// next writer hands them out again.
    fn find_cells(&mut self, region: &mut Region) -> Result<()> {
        if let Some(cells) = beside::find_cells(self.base, region)? {
            region.counts_in(cells);
            if region.in_use()?.is_none() {
                region.cells().map_or(Ok(()), |cells| cells.all_are_numbered())?;
            }
            return Ok(());
        }
        if let Some(user) = region.in_use()? {
            let path = cells_of(self.base, region.layout());
            let at = path.display();
            self.notes
                .push(format!("{at} was lost and is made anew, but {user} counts on in the old one: restart nginx"));
        }
        let _writer = self.lock.lock(WRITER, CREATION_WAIT).map_err(|error| error.within(self.base.display()))?;
        region.mem().store(state::WRITING, u64::from(std::process::id()))?;
        region.counts_in(beside::make_cells(self.base, region)?);
        Ok(())
    }

    /// The history beside a region, or a new one. A region does without where there is none to be had.
    fn find_history(&mut self, region: &mut Region) {
        let history = match beside::find_history(self.base, region) {
            Ok(None) => beside::make_history(self.base, region, |_| ()).map(Some),
            found => found,
        };
        match history {
            Ok(history) => region.remembers_in(history),
            Err(error) => self.notes.push(format!("what happens to peers and upstreams is not kept: {error}")),
        }
    }
}

fn set_aside(path: &Path) -> Result<PathBuf> {
    let now = now();
    // A file from the same second keeps its name. The creation lock says that no other process is at it.
    let aside = (now..now + 1000)
        .map(|time| with_suffix(path, &format!(".damaged-{time}")))
        .find(|aside| std::fs::symlink_metadata(aside).is_err())
        .ok_or_else(|| file::explain(path, &io::Error::from_raw_os_error(libc::EEXIST)))?;
    std::fs::rename(path, &aside).map_err(|error| file::explain(path, &error))?;
    Ok(aside)
}
