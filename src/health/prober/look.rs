//! The upstreams that have a check, kept as the table has them.

use super::groups::{Groups, Member};
use super::place::Place;
use super::watch::Watched;
use crate::error::Result;
use crate::health::unless_changing;
use crate::shm::Stamp;
use crate::table::snapshot::View;
use std::collections::BTreeMap;

/// Cache lines of upstreams that have changed which a look reads, a peer being one; at least one upstream's.
const READ: usize = 8192;

/// Those upstreams, and who of them is probed together.
#[derive(Debug, Default)]
pub struct Upstreams {
    /// By record.
    pub watched: BTreeMap<u32, Watched>,
    /// Their peers.
    pub groups: Groups,
    /// By record, the versions of all upstreams that were looked at.
    seen: Vec<Stamp>,
    /// The record that the last look ended with.
    last: u32,
}

impl Upstreams {
    /// Reads those anew that are other versions by now. Of very many, some are read each time, in turn.
    pub fn look(&mut self, place: &Place<'_>) -> Result<()> {
        let taken = place.directory.taken()?;
        self.forget_all_but(&taken);
        let (mut left, mut done) = (READ, Ok(()));
        let first = taken.partition_point(|&record| record <= self.last);
        for step in 0..taken.len() {
            let record = taken[(first + step) % taken.len()];
            if self.is_current(place, record)? {
                continue;
            }
            self.last = record;
            let read = self.refresh(place, record);
            left = left.saturating_sub(*read.as_ref().unwrap_or(&1));
            done = done.and(unless_changing(read.map(|_| ())));
            if left == 0 {
                break;
            }
        }
        done
    }

    /// Whether an upstream is still what it was when it was looked at.
    pub fn is_current(&self, place: &Place<'_>, record: u32) -> Result<bool> {
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
        for record in gone {
            self.forget(record);
        }
    }

    fn forget(&mut self, record: u32) -> Option<Watched> {
        let old = self.watched.remove(&record)?;
        old.targets.iter().for_each(|target| self.groups.remove(target.key, record));
        self.saw(record, Stamp::default());
        Some(old)
    }

    /// Reads an upstream anew. Answers how many cache lines that were.
    fn refresh(&mut self, place: &Place<'_>, record: u32) -> Result<usize> {
        let old = self.forget(record);
        // Also of what cannot be read: it will be no better the next time.
        self.saw(record, place.directory.stamp(record)?);
        let read = |view: &View| Ok((view.stamp, view.words / 8 + 1, Watched::read(view, place.mem, &place.cells)?));
        let Some((stamp, lines, watched)) = place.directory.look(record, read)? else { return Ok(1) };
        self.saw(record, stamp);
        if let Some(mut watched) = watched {
            if let Some(old) = old.filter(|old| old.name == watched.name) {
                watched.after(&old);
            }
            for (place, target) in (0..).zip(&watched.targets) {
                self.groups.add(target.key, Member { record, target: place, cell: target.cell });
            }
            self.watched.insert(record, watched);
        }
        Ok(lines)
    }
}
