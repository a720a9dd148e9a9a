//! From a path to a table, and from one region to another.

use super::directory::Directory;
use super::store::{Edit, Stored, Table, stored};
use crate::error::{Code, Result};
use crate::shm::{Content, Region};
use std::path::Path;
use std::time::Duration;

/// How long a table that is being opened waits for another writer. That is before the event loop runs, so it may.
const WAIT: Duration = Duration::from_secs(2);

impl Table {
    /// Finds or makes the region that its users call `base`, and looks it over if nobody else uses it. Answers the table and
    /// what an operator should read about it.
    pub fn open(base: &Path, size: u64) -> Result<(Table, Vec<String>)> {
        let (region, mut notes) = Region::open(base, size, &Upstreams)?;
        let table = Table::new(region);
        notes.extend(table.check(WAIT)?);
        Ok((table, notes))
    }
}

/// What regions are filled with.
#[derive(Clone, Copy, Debug)]
pub struct Upstreams;

impl Content for Upstreams {
    /// The one case of two tables at once.
    fn copy(&self, old: &Region, new: &Region) -> Result<Option<String>> {
        let mut all: Vec<Stored> = Vec::new();
        let mut lost = Directory::new(old).each_sound(|view| stored(view, old.mem()), |stored| all.push(stored));
        let table = Table::new(new);
        // They are numbered anew, in the order in which they were made; of layout 1, which does not tell, by their names.
        all.sort_by(|one, other| (one.created, &one.upstream.name).cmp(&(other.created, &other.upstream.name)));
        let count = all.len() as u64 + lost;
        for Stored { upstream, flags, .. } in all {
            match table.edit(&upstream.name, WAIT, |_| Ok(Edit::Put(upstream.clone(), flags))) {
                // Nothing that the old table could hold, if it was sound.
                Err(error) if error.code == Code::Invalid => lost += 1,
                done => done?,
            }
        }
        let at = old.path().display();
        Ok((lost > 0).then(|| format!("{at} was damaged: {lost} of {count} upstreams are lost")))
    }

    fn digest(&self, region: &Region) -> Result<Option<u64>> {
        Ok(Directory::new(region).digest()?)
    }
}
