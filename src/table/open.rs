//! From a path to a table, and from one region to another.

use super::commit::{self, Build};
use super::directory::Directory;
use super::history;
use super::in_place;
use super::snapshot::{Kind, Origin, View};
use super::store::{self, Stored, Table, stored};
use crate::error::{Code, Result};
use crate::shm::deletions::Deletions;
use crate::shm::history::History;
use crate::shm::layout::state;
use crate::shm::sources::Sources;
use crate::shm::{Content, Damaged, Mem, Memory, Old, Region};
use std::path::Path;
use std::time::Duration;

/// How long a table that is being opened waits for another writer. That is before the event loop runs, so it may.
const WAIT: Duration = Duration::from_secs(2);

impl Table {
    /// Finds or makes the region that its users call `base`, and checks it if no other process uses it. Answers the table and
    /// messages for the operator.
    ///
    /// # Errors
    ///
    /// [`Code::Invalid`]: the size. [`Code::System`]: owner, mode or kind of a file, or the operating system refuses.
    /// [`Code::Full`]: the file system is full. [`Code::Busy`]: another process is writing, or makes the region.
    pub fn open(base: &Path, size: u64) -> Result<(Table, Vec<String>)> {
        let (region, mut notes) = Region::open(base, size, &Upstreams)?;
        let table = Table::new(region);
        notes.extend(table.check(WAIT)?);
        Ok((table, notes))
    }

    /// Has the table keep statistics: [`Region::keep_statistics`].
    ///
    /// # Errors
    ///
    /// As that.
    pub fn keep_statistics(&mut self, bytes: u64) -> Result<()> {
        self.region_mut().keep_statistics(bytes)
    }
}

/// The content of regions.
#[derive(Clone, Copy, Debug)]
pub struct Upstreams;

impl Content for Upstreams {
    /// The one case of two tables at once. Versions get new numbers, in the order in which their upstreams were made, and larger ones
    /// than any in the old region. So no caller takes one of them for an older one.
    fn copy(&self, old: &Region, new: &Region) -> Result<Option<String>> {
        let mut all: Vec<Moving> = Vec::new();
        let same_shape = old.geometry().shape == new.geometry().shape;
        let read = |view: &View| Moving::of(view, old.mem(), same_shape);
        let mut lost = Directory::new(old).each_sound(read, |moving| all.push(moving));
        // Of layout 1, which does not tell when an upstream was made, by their names.
        all.sort_by(|one, other| (one.created, &one.name).cmp(&(other.created, &other.name)));
        let count = all.len() as u64 + lost;
        copy_numbers(old, new)?;
        let table = Table::new(new);
        for moving in all {
            match moving.put(&table) {
                // A sound table cannot hold such an upstream.
                Err(error) if error.code == Code::Invalid => lost += 1,
                done => done?,
            }
        }
        let at = old.path().display();
        Ok((lost > 0).then(|| format!("{at} was damaged: {lost} of {count} upstreams are lost")))
    }

    fn copy_history(&self, old: &Old<'_>, new: &Region, to: &History<'_, Mem>) {
        history::copy(old, new, to);
    }

    fn digest(&self, region: &Region) -> Result<Option<u64>> {
        Ok(Directory::new(region).digest()?)
    }
}

/// Copies the number of the last change, the words that are kept for a journal, the ring of deletions, and the sources with their
/// numbers.
fn copy_numbers(old: &Region, new: &Region) -> Result<(), Damaged> {
    new.mem().store(state::SEQUENCE, old.mem().load(state::sequence_in(old.geometry().shape))?)?;
    if old.geometry().shape == new.geometry().shape {
        // Of a library that has a journal.
        for word in [state::SYNCED, state::EPOCH] {
            new.mem().store(word, old.mem().load(word)?)?;
        }
    }
    let ring = Deletions::over(new.mem(), new.geometry());
    Deletions::over(old.mem(), old.geometry()).copy_into(&ring)?;
    let sources = Sources::over(new.mem(), new.geometry());
    for (number, text) in Sources::over(old.mem(), old.geometry()).all()? {
        sources.put(number, &text)?;
    }
    Ok(())
}

/// One name of a table on its way to another region.
struct Moving {
    name: String,
    created: u64,
    what: Moved,
}

enum Moved {
    Upstream {
        stored: Box<Stored>,
        ids: Option<Vec<u32>>,
        origin: Origin,
    },
    /// Of a kind that this library does not know.
    Foreign(Build),
}

impl Moving {
    fn of(view: &View, mem: &Mem, same_shape: bool) -> Result<Moving, Damaged> {
        let what = match (view.kind, same_shape) {
            (Kind::UPSTREAM, _) => Moved::Upstream {
                stored: Box::new(stored(view, mem)?),
                ids: view.ids(mem)?,
                origin: Origin { created: view.created, source: view.source, start: view.start, next_id: view.next_id },
            },
            (_, true) => Moved::Foreign(in_place::copy_of(view, mem)?),
            // Only a library that knows the kind can lay it out anew.
            (_, false) => return Err(Damaged),
        };
        Ok(Moving { name: view.name(mem)?, created: view.created, what })
    }

    fn put(self, table: &Table<&Region>) -> Result<()> {
        let build = match self.what {
            Moved::Upstream { stored, ids, origin } => {
                store::build_again(table.region(), &stored, ids.as_deref(), origin)?
            }
            Moved::Foreign(build) => build,
        };
        commit::put(&*table.writer(WAIT)?, &self.name, build, None)
    }
}
