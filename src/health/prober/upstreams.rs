//! The upstreams that have a check, kept as the table has them.

use super::groups::Groups;
use super::reading::Outcome;
use super::shared::Shared;
use super::watch::Watched;
use crate::error::{Code, Result};
use crate::shm::Stamp;
use crate::table::directory::unless_changing;
use crate::table::snapshot::View;
use std::collections::BTreeMap;

/// Most peers that one look reads.
pub(super) const READ: usize = 4096;

/// The upstreams that this worker reads, and the peers that are probed together.
#[derive(Debug, Default)]
pub struct Upstreams {
    /// By record.
    pub watched: BTreeMap<u32, Watched>,
    /// Their peers.
    pub groups: Groups,
    /// By record, the versions of all upstreams that were looked at.
    seen: Vec<Stamp>,
    /// Those that are no more, by record, until their peers are out of the groups.
    leaving: BTreeMap<u32, Watched>,
    /// The record that the last look ended with.
    last: u32,
    /// There is more to read than the last look could.
    pub is_behind: bool,
    /// The cost of that; reading a peer costs one.
    pub cost: usize,
}

impl Upstreams {
    /// Reads on in those that are other versions by now. Of very many peers, some are read each time, in turn.
    ///
    /// # Errors
    ///
    /// [`Code::Damaged`]: the region or an upstream makes no sense. Where it is one upstream, the others are read
    /// nevertheless.
    pub fn look(&mut self, place: &Shared<'_>) -> Result<()> {
        let taken = place.directory.taken()?;
        self.forget_all_but(&taken);
        let (mut left, mut done) = (READ, Ok(()));
        self.is_behind = false;
        self.take_leave(&mut left);
        let first = taken.partition_point(|&record| record <= self.last);
        for step in 0..taken.len() {
            if left == 0 {
                break;
            }
            let record = taken[(first + step) % taken.len()];
            if self.is_current(place, record)? || self.leaving.contains_key(&record) {
                continue;
            }
            self.last = record;
            left -= 1;
            done = done.and(unless_changing(self.read_on(place, record, &mut left)));
        }
        self.is_behind |= left == 0 || !self.leaving.is_empty();
        self.cost = READ - left;
        done
    }

    /// Whether an upstream is still the version that this worker has read.
    ///
    /// # Errors
    ///
    /// [`Code::Damaged`]: the record lies outside of the region.
    pub fn is_current(&self, place: &Shared<'_>, record: u32) -> Result<bool> {
        let seen = self.seen.get(record as usize).copied().unwrap_or_default();
        Ok(place.directory.stamp(record)? == seen)
    }

    fn saw(&mut self, record: u32, stamp: Stamp) {
        if self.seen.len() <= record as usize {
            self.seen.resize(record as usize + 1, Stamp::default());
        }
        self.seen[record as usize] = stamp;
    }

    fn forget_all_but(&mut self, taken: &[u32]) {
        let is_gone = |record: &u32| taken.binary_search(record).is_err();
        let gone: Vec<u32> = self.watched.keys().copied().filter(is_gone).collect();
        gone.into_iter().for_each(|record| self.forget(record));
    }

    /// Its peers are taken out of the groups little by little; until then nothing is read in its place.
    fn forget(&mut self, record: u32) {
        if let Some(old) = self.watched.remove(&record) {
            self.leaving.insert(record, old);
            self.saw(record, Stamp::default());
        }
    }

    fn take_leave(&mut self, left: &mut usize) {
        while let Some(mut entry) = self.leaving.first_entry() {
            let record = *entry.key();
            if !entry.get_mut().leave(record, &mut self.groups, left) {
                break;
            }
            entry.remove();
        }
    }

    /// Reads an upstream that is another version by now, or begins with one.
    fn read_on(&mut self, place: &Shared<'_>, record: u32, left: &mut usize) -> Result<()> {
        let stamp = place.directory.stamp(record)?;
        let read = self.read_slice(place, record, stamp, left);
        if matches!(&read, Err(error) if error.code != Code::Changing) {
            // An upstream that cannot be read will be no better the next time.
            self.forget(record);
            self.saw(record, stamp);
        }
        read
    }

    fn read_slice(&mut self, place: &Shared<'_>, record: u32, stamp: Stamp, left: &mut usize) -> Result<()> {
        let is_new = !self.watched.contains_key(&record);
        if is_new {
            let plan = |view: &View| Ok((view.stamp, view.name(place.mem)?, view.checks(place.mem)?));
            match place.directory.look(record, plan)? {
                // A route, say, which is not read again while it stays the same.
                None => {
                    self.saw(record, stamp);
                    return Ok(());
                }
                Some((stamp, _, None)) => {
                    self.saw(record, stamp);
                    return Ok(());
                }
                Some((_, name, Some((check, _)))) => drop(self.watched.insert(record, Watched::new(&name, check))),
            }
        }
        let Some(watched) = self.watched.get_mut(&record) else { return Ok(()) };
        match watched.read_on(place, record, &mut self.groups, left)? {
            Outcome::More => self.is_behind = true,
            Outcome::Gone => self.forget(record),
            Outcome::Read(stamp) => self.saw(record, stamp),
        }
        Ok(())
    }
}
