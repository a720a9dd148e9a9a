//! The ring of deletions: the names that were deleted last, with the numbers of the changes that did so. Records forget a name when it
//! goes; a reader that follows the table by its numbers of changes finds it here.
//!
//! A writer makes an entry before it publishes the deletion. So each deletion that a reader saw is there, also where the writer dies.
//! An entry may be of a deletion that did not happen: it says "look whether there is this name".
//!
//! The writer stores 0 as the number of an entry, then the words of the entry, then its number. So a reader that sees the same number
//! before and after has a whole entry.

pub use super::layout::entry::MAX_NAME;
use super::layout::{Geometry, entry, state};
use super::memory::{Damaged, Memory};
use super::packed::{pack, unpack};

/// Words of an entry.
mod word {
    /// Number of the change; 0: the entry is being written, or there was never one.
    pub const SEQUENCE: usize = 0;
    /// Kind : 8 | bytes of the name : 8 (low part first).
    pub const WHAT: usize = 1;
    /// The name.
    pub const NAME: usize = 2;
}

/// Words of an entry.
const ENTRY: usize = entry::DELETION;

/// A deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Number of the change.
    pub sequence: u64,
    /// Kind of the name.
    pub kind: u8,
    /// The name.
    pub name: Vec<u8>,
}

/// The ring of a region.
#[derive(Debug)]
pub struct Deletions<'a, M> {
    mem: &'a M,
    geometry: &'a Geometry,
}

impl<'a, M: Memory> Deletions<'a, M> {
    /// The ring in `mem`. Layout 1 has one without entries.
    pub fn over(mem: &'a M, geometry: &'a Geometry) -> Self {
        Deletions { mem, geometry }
    }

    fn at(&self, entry: usize) -> usize {
        self.geometry.deletions_at + entry * ENTRY
    }

    /// Says that `name`, of which the first [`MAX_NAME`] bytes count, is deleted by this change. The caller holds the writer lock, and
    /// publishes the deletion afterwards.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn add(&self, deletion: &Deletion) -> Result<(), Damaged> {
        let count = self.mem.load(state::DELETIONS)?;
        let Some(entry) = count.checked_rem(self.geometry.deletions as u64) else { return Ok(()) };
        let at = self.at(entry as usize);
        let mut words = [0; ENTRY];
        let len = pack(&deletion.name, &mut words[word::NAME..]);
        words[word::WHAT] = u64::from(deletion.kind) | len << 8;
        self.mem.store(at + word::SEQUENCE, 0)?;
        // No store of the entry may come before this one.
        self.mem.fence();
        self.mem.store_all(at + word::WHAT, &words[word::WHAT..])?;
        self.mem.publish(at + word::SEQUENCE, deletion.sequence)?;
        self.mem.store(state::DELETIONS, count.wrapping_add(1))
    }

    /// Copies all into an empty ring. If this one may have lost some, that one says so as well, whatever its size.
    pub fn copy_into<N: Memory>(&self, new: &Deletions<'_, N>) -> Result<(), Damaged> {
        // As if it had been full once: the first entry has the same place.
        let begun = if self.may_have_lost()? { new.geometry.deletions as u64 } else { 0 };
        new.mem.store(state::DELETIONS, begun)?;
        self.all()?.iter().try_for_each(|deletion| new.add(deletion))
    }

    fn may_have_lost(&self) -> Result<bool, Damaged> {
        Ok(self.mem.load(state::DELETIONS)? > self.geometry.deletions as u64)
    }

    /// All that are in the ring, the oldest first.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn all(&self) -> Result<Vec<Deletion>, Damaged> {
        let mut all = Vec::new();
        for entry in 0..self.geometry.deletions {
            all.extend(self.read(self.at(entry))?);
        }
        all.sort_by_key(|deletion| deletion.sequence);
        Ok(all)
    }

    /// All by changes with greater numbers than `sequence`, the oldest first. `None`: the ring may have lost some of them.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn since(&self, sequence: u64) -> Result<Option<Vec<Deletion>>, Damaged> {
        let mut all = self.all()?;
        // After the entries: what was written over meanwhile is counted.
        self.mem.fence_loads();
        let count = self.mem.load(state::DELETIONS)?;
        let is_whole =
            count < self.geometry.deletions as u64 || all.first().is_some_and(|first| first.sequence <= sequence);
        all.retain(|deletion| deletion.sequence > sequence);
        Ok(is_whole.then_some(all))
    }

    fn read(&self, at: usize) -> Result<Option<Deletion>, Damaged> {
        let sequence = self.mem.load_acquire(at + word::SEQUENCE)?;
        let mut words = [0; ENTRY];
        self.mem.load_all(at, &mut words)?;
        self.mem.fence_loads();
        if sequence == 0 || self.mem.load(at + word::SEQUENCE)? != sequence {
            return Ok(None);
        }
        let (kind, len) = (words[word::WHAT] as u8, (words[word::WHAT] >> 8) as u8);
        let name = unpack(&words[word::NAME..], len.into());
        Ok(Some(Deletion { sequence, kind, name }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::mem::Mem;
    use crate::shm::mem::tests::scratch;

    fn with_ring<T>(body: impl FnOnce(&Deletions<'_, Mem>, &Mem) -> T) -> T {
        let geometry = Geometry::of(crate::shm::layout::MIN_SIZE).expect("allowed");
        let mem = scratch(geometry.size as usize);
        body(&Deletions::over(&mem, &geometry), &mem)
    }

    fn deletion(sequence: u64) -> Deletion {
        Deletion { sequence, kind: sequence as u8 % 3, name: format!("upstream {sequence}").into_bytes() }
    }

    #[test]
    fn a_copy_in_a_larger_ring_knows_that_some_were_lost_and_goes_on_from_there() {
        let large = Geometry::of(8 * crate::shm::layout::MIN_SIZE).expect("allowed");
        for (count, knows_all) in [(0, true), (3, true), (8, true), (9, false), (20, false)] {
            let mem = scratch(large.size as usize);
            let copy = Deletions::over(&mem, &large);
            with_ring(|ring, _| {
                assert!(ring.geometry.deletions == 8 && large.deletions > 8);
                (1..=count).for_each(|sequence| ring.add(&deletion(sequence)).expect("inside"));
                ring.copy_into(&copy).expect("inside");
                assert_eq!(copy.all(), ring.all(), "{count}");
                assert_eq!(copy.since(0).expect("inside").is_some(), knows_all, "{count}");
            });
            copy.add(&deletion(99)).expect("inside");
            let all = copy.all().expect("inside");
            assert_eq!((all.len() as u64, all.last()), (count.min(8) + 1, Some(&deletion(99))), "{count}");
        }
    }

    #[test]
    fn the_last_ones_are_there_and_a_reader_knows_when_some_are_not() {
        with_ring(|ring, _| {
            let most = ring.geometry.deletions as u64;
            assert_eq!((ring.all(), ring.since(0)), (Ok(vec![]), Ok(Some(vec![]))));
            // Numbers have gaps.
            let number = |nth: u64| 10 + 3 * nth;
            for nth in 0..most + 5 {
                ring.add(&deletion(number(nth))).expect("inside");
                let first = (nth + 1).saturating_sub(most);
                assert_eq!(ring.all(), Ok((first..=nth).map(|nth| deletion(number(nth))).collect()));
            }
            let after = |nth: u64| Some((nth + 1..most + 5).map(|nth| deletion(number(nth))).collect::<Vec<_>>());
            assert_eq!((ring.since(number(4)), ring.since(number(5))), (Ok(None), Ok(after(5))));
            assert_eq!((ring.since(number(most + 4)), ring.since(u64::MAX)), (Ok(Some(vec![])), Ok(Some(vec![]))));
        });
    }

    #[test]
    fn the_longest_name_is_whole_and_half_an_entry_is_none() {
        with_ring(|ring, mem| {
            let longest = Deletion { sequence: 7, kind: 255, name: vec![b'x'; MAX_NAME] };
            ring.add(&longest).expect("inside");
            assert_eq!(ring.all(), Ok(vec![longest]));
            mem.store(ring.at(0) + word::SEQUENCE, 0).expect("inside");
            assert_eq!(ring.all(), Ok(vec![]));
        });
    }
}
