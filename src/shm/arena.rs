//! Blocks in the heap of the region: a bitmap of granules, first fit.
//!
//! Only the writer touches it. There are no lists and no pointers to tear. A bit says whether a granule is taken, and after a
//! death [`Arena::rebuild`] sets the bits anew from the blocks that the table can reach. First fit keeps the heap low and
//! dense, so reserved pages are used again before new ones are.
//!
//! The heap begins with a spare. A change uses it for a moment when it finds no other room ([`crate::table::in_place`]).

use super::layout::{Geometry, state};
use super::memory::{Damaged, Memory};
use super::units::WORD;
use super::versioned::GRANULE;
use std::ops::Range;

const GRANULE_WORDS: usize = GRANULE / WORD;

/// Granules that hold `words` words.
pub fn granules_of(words: usize) -> usize {
    words.div_ceil(GRANULE_WORDS)
}

/// Where a block is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Behind the spare: the place of blocks that stay.
    Home,
    /// In the spare.
    Spare,
}

/// The allocator's view of a region; it lives as long as one change.
#[derive(Debug)]
pub struct Arena<'a, M> {
    mem: &'a M,
    geometry: &'a Geometry,
}

impl<'a, M: Memory> Arena<'a, M> {
    /// The arena of the region. The caller holds the writer lock.
    pub fn new(mem: &'a M, geometry: &'a Geometry) -> Self {
        Arena { mem, geometry }
    }

    /// Finds a run of free granules for `words` words and takes it. `None`: there is none that long.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn take(&self, words: usize, room: Room) -> Result<Option<u32>, Damaged> {
        let count = granules_of(words);
        let lowest = self.mem.load(state::LOWEST_FREE)? as usize;
        let range = match room {
            Room::Home => lowest.clamp(self.geometry.spare_end(), self.geometry.granules)..self.geometry.granules,
            Room::Spare => self.geometry.heap_at..self.geometry.spare_end(),
        };
        let Some(first) = self.find(range, count)? else { return Ok(None) };
        self.set(first, count, true)?;
        if first == lowest {
            self.mem.store(state::LOWEST_FREE, (first + count) as u64)?;
        }
        self.mem.store(state::USED, self.mem.load(state::USED)?.saturating_add(count as u64))?;
        Ok(Some(first as u32))
    }

    /// Gives back the block that [`Arena::take`] answered for `words`.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the block does not lie in the heap, or a word lies outside of the memory.
    pub fn give_back(&self, block: u32, words: usize) -> Result<(), Damaged> {
        let (first, count) = (block as usize, granules_of(words));
        if !self.contains(first, count) {
            return Err(Damaged);
        }
        self.set(first, count, false)?;
        if first >= self.geometry.spare_end() {
            let lowest = self.mem.load(state::LOWEST_FREE)?.min(first as u64);
            self.mem.store(state::LOWEST_FREE, lowest)?;
        }
        self.mem.store(state::USED, self.mem.load(state::USED)?.saturating_sub(count as u64))
    }

    /// Whether `count` granules from `first` on lie in the heap.
    pub fn contains(&self, first: usize, count: usize) -> bool {
        first >= self.geometry.heap_at && first.checked_add(count).is_some_and(|end| end <= self.geometry.granules)
    }

    /// Sets the bitmap to the marks in `taken`: the end of a repair.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn rebuild(&self, taken: &Marks) -> Result<(), Damaged> {
        for (i, &bits) in taken.bits.iter().enumerate() {
            self.mem.amend(self.geometry.granule_bits_at + i, bits)?;
        }
        self.mem.amend(state::LOWEST_FREE, taken.lowest_free() as u64)?;
        self.mem.amend(state::USED, taken.count as u64)
    }

    /// First run of `count` zero bits among those of the granules in `range`.
    fn find(&self, range: Range<usize>, count: usize) -> Result<Option<usize>, Damaged> {
        let (mut start, mut at) = (range.start, range.start);
        while at < range.end {
            let (word, bit) = (at / 64, at % 64);
            let bits = self.mem.load(self.geometry.granule_bits_at + word)? >> bit;
            let free = (bits.trailing_zeros() as usize).min(64 - bit);
            at += free;
            if at.min(range.end) - start >= count {
                return Ok(Some(start));
            }
            if free < 64 - bit {
                at += (bits >> free).trailing_ones() as usize;
                start = at;
            }
        }
        Ok(None)
    }

    fn set(&self, first: usize, count: usize, taken: bool) -> Result<(), Damaged> {
        let end = first + count;
        let mut at = first;
        while at < end {
            let (word, bit) = (self.geometry.granule_bits_at + at / 64, at % 64);
            let n = (64 - bit).min(end - at);
            let mask = (u64::MAX >> (64 - n)) << bit;
            let bits = self.mem.load(word)?;
            self.mem.store(word, if taken { bits | mask } else { bits & !mask })?;
            at += n;
        }
        Ok(())
    }
}

/// The granules that a repair found in use: a private copy of the bitmap.
#[derive(Debug)]
pub struct Marks {
    bits: Vec<u64>,
    count: usize,
    heap_at: usize,
    spare_end: usize,
    granules: usize,
}

impl Marks {
    /// Marks no granule of the heap yet.
    pub fn new(geometry: &Geometry) -> Self {
        Marks {
            bits: vec![0; geometry.granules.div_ceil(64)],
            count: 0,
            heap_at: geometry.heap_at,
            spare_end: geometry.spare_end(),
            granules: geometry.granules,
        }
    }

    /// Marks the block of `words` words; false (and nothing marked) when it lies outside the heap or overlaps another.
    pub fn mark(&mut self, block: u32, words: usize) -> bool {
        let (first, count) = (block as usize, granules_of(words));
        let inside = first >= self.heap_at && first.checked_add(count).is_some_and(|end| end <= self.granules);
        if !inside || (first..first + count).any(|g| self.bits[g / 64] >> (g % 64) & 1 == 1) {
            return false;
        }
        (first..first + count).for_each(|g| self.bits[g / 64] |= 1 << (g % 64));
        self.count += count;
        true
    }

    /// The first granule behind the spare that is not marked.
    fn lowest_free(&self) -> usize {
        let taken = |granule: &usize| self.bits[granule / 64] >> (granule % 64) & 1 == 1;
        (self.spare_end..self.granules).find(|granule| !taken(granule)).unwrap_or(self.granules)
    }

    /// Takes back the marks of [`Marks::mark`].
    pub fn unmark(&mut self, block: u32, words: usize) {
        let (first, count) = (block as usize, granules_of(words));
        (first..first + count).for_each(|g| self.bits[g / 64] &= !(1 << (g % 64)));
        self.count -= count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::mem::{Mem, tests::scratch};
    use proptest::prelude::*;

    fn with_arena<T>(body: impl FnOnce(&Arena<'_, Mem>, &Mem, &Geometry) -> T) -> T {
        let geometry = Geometry::of(512 * 1024).expect("allowed");
        let mem = scratch(geometry.size as usize);
        mem.store(state::LOWEST_FREE, geometry.spare_end() as u64).expect("inside");
        body(&Arena::new(&mem, &geometry), &mem, &geometry)
    }

    #[test]
    fn a_heap_that_was_filled_and_emptied_takes_its_whole_in_one_block() {
        with_arena(|arena, mem, geometry| {
            let all = geometry.granules - geometry.spare_end();
            let blocks: Vec<u32> = std::iter::from_fn(|| arena.take(8, Room::Home).expect("sound")).collect();
            assert_eq!(blocks.len(), all);
            assert_eq!(arena.take(1, Room::Home), Ok(None));
            blocks.iter().rev().for_each(|&block| arena.give_back(block, 8).expect("sound"));
            assert_eq!(mem.load(state::USED), Ok(0));
            assert_eq!(arena.take(all * 8, Room::Home), Ok(Some(geometry.spare_end() as u32)));
            assert_eq!(arena.take(1, Room::Home), Ok(None));
            let spare = geometry.spare_end() - geometry.heap_at;
            assert_eq!(arena.take(spare * 8 + 1, Room::Spare), Ok(None));
            assert_eq!(arena.take(spare * 8, Room::Spare), Ok(Some(geometry.heap_at as u32)));
            arena.give_back(geometry.heap_at as u32, spare * 8).expect("sound");
            assert_eq!(arena.take(1, Room::Home), Ok(None), "the spare is nobody's home");
        });
    }

    #[test]
    fn a_block_outside_the_heap_is_not_given_back() {
        with_arena(|arena, _, geometry| {
            assert_eq!(arena.give_back(0, 8), Err(Damaged));
            assert_eq!(arena.give_back(geometry.heap_at as u32 - 1, 8), Err(Damaged));
            assert_eq!(arena.give_back(geometry.granules as u32 - 1, 16), Err(Damaged));
            assert_eq!(arena.give_back(u32::MAX, usize::MAX), Err(Damaged));
        });
    }

    #[test]
    fn a_rebuilt_arena_has_taken_what_was_marked() {
        with_arena(|arena, mem, geometry| {
            let mut marks = Marks::new(geometry);
            let first = geometry.spare_end() as u32;
            assert!(marks.mark(first + 1, 24));
            assert!(!marks.mark(first + 3, 8), "an overlap");
            assert!(!marks.mark(0, 8), "outside");
            while arena.take(64, Room::Home).expect("sound").is_some() {}
            arena.rebuild(&marks).expect("sound");
            assert_eq!(mem.load(state::USED), Ok(3));
            assert_eq!(arena.take(8, Room::Home), Ok(Some(first)));
            assert_eq!(arena.take(8, Room::Home), Ok(Some(first + 4)));
        });
    }

    proptest! {
        #[test]
        fn blocks_never_overlap_and_used_counts_them(
            sizes in prop::collection::vec((1usize..2000, any::<bool>(), any::<bool>()), 1..60),
        ) {
            with_arena(|arena, mem, geometry| {
                let mut live: Vec<(u32, usize)> = Vec::new();
                for (words, free_one, spare) in sizes {
                    let room = if spare { Room::Spare } else { Room::Home };
                    if free_one && !live.is_empty() {
                        let (block, words) = live.swap_remove(words % live.len());
                        arena.give_back(block, words).expect("sound");
                    } else if let Some(block) = arena.take(words, room).expect("sound") {
                        live.push((block, words));
                    }
                    let mut marks = Marks::new(geometry);
                    assert!(live.iter().all(|&(block, words)| marks.mark(block, words)));
                    assert_eq!(mem.load(state::USED), Ok(marks.count as u64));
                }
            });
        }
    }
}
