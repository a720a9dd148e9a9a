//! Versioned reads: a reader that never waits, beside a writer that recycles memory at once.
//!
//! A [`Stamp`] is one word that names a block and the generation of its content. It is stored when a new version is whole, and
//! its generation counts the versions of its place. Only an empty place that has had 2^38 of them begins again.
//!
//! A reader loads it, reads the block by relaxed loads, copies out what it returns, and compares the word. Unchanged: no byte
//! that it read was recycled. Changed: the bytes may be anything, and the reader throws them away.
//!
//! It holds since the writer stores the new stamp, fences ([`Memory::publish`]), and only then frees and reuses the old block.
//! A reader that saw one recycled byte sees the new stamp too, after its own fence. It is the seqlock of Hans-J. Boehm, "Can
//! seqlocks get along with programming language memory models?" (2012). Its sequence number stands beside the pointer in one
//! word, so no reader ever meets an odd one.

use super::memory::{Damaged, Memory};

/// Bits of a stamp that hold the block: granules of 64 bytes, so 4 GiB.
const BLOCK_BITS: u32 = 26;

/// Bytes in a granule, the unit in which blocks are placed.
pub const GRANULE: usize = 64;

/// How often a reader tries again before it answers that the table is changing.
pub const TRIES: usize = 16;

/// A block and the generation of its content, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Largest generation: 2^38 changes of one place; at a thousand a second, eight years.
    pub const LAST_GENERATION: u64 = (1 << (64 - BLOCK_BITS)) - 1;

    /// The stamp after this one, leading to the granule `block` (0: to nothing). `None` when the generations are used up.
    pub fn next(self, block: u32) -> Option<Stamp> {
        let generation = self.generation() + 1;
        (generation <= Self::LAST_GENERATION && block < 1 << BLOCK_BITS)
            .then_some(Stamp(generation << BLOCK_BITS | u64::from(block)))
    }

    /// How many versions this place has had.
    pub fn generation(self) -> u64 {
        self.0 >> BLOCK_BITS
    }

    /// The granule that it leads to, 0 for none.
    #[inline(always)]
    pub fn block(self) -> u32 {
        (self.0 & ((1 << BLOCK_BITS) - 1)) as u32
    }

    /// The first word of the block.
    #[inline(always)]
    pub fn word(self) -> usize {
        self.block() as usize * (GRANULE / super::units::WORD)
    }
}

/// Loads the stamp at `place`. A reader may read the block of it from here on.
///
/// # Errors
///
/// [`Damaged`]: `place` lies outside of the memory.
#[inline(always)]
pub fn begin(mem: &impl Memory, place: usize) -> Result<Stamp, Damaged> {
    mem.load_acquire(place).map(Stamp)
}

/// Whether all that was read since [`begin`] returned `stamp` belongs to it.
///
/// # Errors
///
/// [`Damaged`]: `place` lies outside of the memory.
#[inline(always)]
pub fn holds(mem: &impl Memory, place: usize, stamp: Stamp) -> Result<bool, Damaged> {
    mem.fence_loads();
    Ok(mem.load(place)? == stamp.0)
}

/// Why a versioned read gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The word changed [`TRIES`] times in a row.
    Changing,
    /// The block to which the unchanged word leads does not make sense.
    Damaged,
}

impl From<Damaged> for Unread {
    fn from(Damaged: Damaged) -> Self {
        Unread::Damaged
    }
}

/// Calls `read` with the stamp at `place` until the stamp outlives the call, at most [`TRIES`] times.
///
/// # Errors
///
/// [`Unread::Changing`]: the stamp has changed after each of [`TRIES`] calls.
/// [`Unread::Damaged`]: `read` answers [`Damaged`] and the stamp is still the same, or `place` lies outside of the memory.
pub fn read<T>(
    mem: &impl Memory,
    place: usize,
    mut read: impl FnMut(Stamp) -> Result<T, Damaged>,
) -> Result<(T, Stamp), Unread> {
    for _ in 0..TRIES {
        let stamp = begin(mem, place).map_err(|Damaged| Unread::Damaged)?;
        let value = read(stamp);
        if holds(mem, place, stamp).map_err(|Damaged| Unread::Damaged)? {
            return value.map(|value| (value, stamp)).map_err(|Damaged| Unread::Damaged);
        }
    }
    Err(Unread::Changing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::mem::tests::scratch;
    use crate::shm::units::PAGE;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_stamp_keeps_block_and_generation_apart() {
        let stamp = Stamp(0).next(77).expect("first").next(78).expect("second");
        assert_eq!((stamp.generation(), stamp.block(), stamp.word()), (2, 78, 78 * 8));
        assert_eq!(Stamp(0).next(1 << BLOCK_BITS), None, "a block beyond the region");
        let last = Stamp(Stamp::LAST_GENERATION << BLOCK_BITS);
        assert_eq!(last.next(1), None, "a generation is never used twice");
    }

    #[test]
    fn a_reader_gives_up_on_a_writer_that_never_rests() {
        let mem = scratch(PAGE);
        let mut calls = 0;
        let answer = read(&mem, 0, |stamp| {
            calls += 1;
            mem.publish(0, stamp.next(0).ok_or(Damaged)?.0)
        });
        assert_eq!(answer, Err(Unread::Changing));
        assert_eq!(calls, TRIES);
    }

    #[test]
    fn nonsense_under_a_changed_stamp_is_read_again() {
        let mem = scratch(PAGE);
        let mut first = true;
        let answer = read(&mem, 0, |stamp| {
            if std::mem::take(&mut first) {
                mem.publish(0, stamp.next(9).ok_or(Damaged)?.0)?;
                return Err(Damaged);
            }
            Ok(stamp.block())
        });
        assert_eq!(answer.map(|(block, _)| block), Ok(9));
        assert_eq!(read(&mem, 0, |_| Err::<(), _>(Damaged)), Err(Unread::Damaged));
    }

    /// One writer that rewrites two blocks in turn, as the table does, and a reader that must never see a mixture.
    #[test]
    fn a_reader_never_returns_recycled_words() {
        let mem = scratch(PAGE);
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut stamp = Stamp(0);
                for round in 1u64.. {
                    stamp = stamp.next(1 + (round % 2) as u32).expect("generations");
                    (0..8).for_each(|i| mem.store(stamp.word() + i, round).expect("inside"));
                    mem.publish(0, stamp.0).expect("inside");
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            let mut whole = 0;
            while whole < 100_000 {
                let copy =
                    read(&mem, 0, |stamp| (0..8).map(|i| mem.load(stamp.word() + i)).collect::<Result<Vec<_>, _>>());
                let Ok((words, stamp)) = copy else { continue };
                let good = stamp.0 == 0 || words.iter().all(|&word| word == stamp.generation());
                // The writer ends with the scope, in any case.
                stop.store(!good, Ordering::Relaxed);
                assert!(good, "{words:?} at {stamp:?}");
                whole += 1;
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}
