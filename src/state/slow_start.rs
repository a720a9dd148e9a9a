//! Slow start: a peer that comes back begins with a tenth of its weight, and has all of it after `slow_start` seconds.
//!
//! One word says when it began; how far it is follows from the clock. So no process writes while it goes on, and all workers give
//! the peer the same part of its weight at the same time.
//!
//! The word is stored before the peer can be picked, and the upstream's count of changes grows after that. So a pick that sees the
//! count finds the start. A process that dies before the peer is back leaves the start of a peer that is out. The process that
//! brings the peer back stores another.

use super::failures::{Health, Tenths};
use super::verdict::Verdict;
use crate::shm::cells::GENERATION_SHIFT;
use crate::shm::versioned::TRIES;
use crate::shm::{Cells, Damaged, Memory};

/// A whole weight, of which a peer has a part.
pub const WHOLE: u64 = 1000;
/// The part that it begins with.
const FIRST: u64 = WHOLE / 10;
/// Bits of the word that are another's.
const KEPT: u64 = 0xffff << 32;
/// A start that is at most this far ahead is one that a worker with an older look at the clock sees: a minute.
const AHEAD: Tenths = 600;

/// A word: when a slow start began, in tenths of a second since the boot : 32 | kept for ejection : 16 | how often the cell was
/// taken : 16 (low part first).
///
/// ```
/// use dyups::state::slow_start::{Start, WHOLE};
/// let start = Start::at(1, 5000);
/// assert_eq!(start.part(30, 5000), Some(WHOLE / 10));
/// assert_eq!(start.part(30, 5150), Some(WHOLE * 55 / 100));
/// assert_eq!(start.part(30, 5300), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start(pub u64);

impl Start {
    /// One that begins now, of a cell that was taken so often.
    pub fn at(generation: u16, now: Tenths) -> Start {
        Start(u64::from(generation) << GENERATION_SHIFT | u64::from(now))
    }

    /// The word after this one where a slow start of the peer with this generation begins now.
    fn begun(self, generation: u16, now: Tenths) -> Start {
        let kept = if self.generation() == generation { self.0 & KEPT } else { 0 };
        Start(Start::at(generation, now).0 | kept)
    }

    /// How often the cell was taken when this was stored. For a peer with another number it says nothing.
    pub fn generation(self) -> u16 {
        (self.0 >> GENERATION_SHIFT) as u16
    }

    /// The part of its weight that a peer has whose slow start takes so many seconds. `None`: all of it.
    pub fn part(self, slow_start: u32, now: Tenths) -> Option<u64> {
        let since = now.wrapping_sub(self.0 as Tenths);
        let since = u64::from(if since > Tenths::MAX - AHEAD { 0 } else { since });
        let all = u64::from(slow_start) * 10;
        (since < all).then(|| FIRST + (WHOLE - FIRST) * since / all)
    }
}

/// The start of the peer that has this cell; `None`: it has not begun one.
///
/// # Errors
///
/// [`Damaged`]: there is no such cell, or its word lies outside of the memory.
pub fn of(cells: &Cells<'_, impl Memory>, cell: u32) -> Result<Option<Start>, Damaged> {
    let start = Start(cells.slow_start(cell)?);
    // Most peers have none. A cell that no peer ever had has the number 0 too.
    let is_its_own = start.generation() != 0 && start.generation() == Health(cells.health(cell)?).generation();
    Ok(is_its_own.then_some(start))
}

/// Whether the peer that has this cell is in its slow start.
///
/// # Errors
///
/// [`Damaged`]: there is no such cell, or its word lies outside of the memory.
pub fn goes_on(cells: &Cells<'_, impl Memory>, cell: u32, slow_start: u32, now: Tenths) -> Result<bool, Damaged> {
    Ok(slow_start != 0 && of(cells, cell)?.is_some_and(|start| start.part(slow_start, now).is_some()))
}

/// Whether a peer comes back that probes had down with this verdict: it was up before, or a probe of it has failed, or it came to
/// others that served. The first peers of an upstream come for the first time.
///
/// # Errors
///
/// [`Damaged`]: there is no such cell, or its word lies outside of the memory.
pub fn comes_back(cells: &Cells<'_, impl Memory>, cell: u32, down: Verdict) -> Result<bool, Damaged> {
    Ok(down.is_judged() || of(cells, cell)?.is_some())
}

/// Begins a slow start of the peer with this cell and generation. Nothing if another peer has the cell by now.
///
/// # Errors
///
/// [`Damaged`]: there is no such cell, or its word lies outside of the memory.
pub fn begin(cells: &Cells<'_, impl Memory>, cell: u32, generation: u16, now: Tenths) -> Result<(), Damaged> {
    // With each time that it is in vain, another worker has stored a start.
    for _ in 0..TRIES {
        let old = cells.slow_start(cell)?;
        // A worker that sleeps behind this look either finds another word, or leaves one that says nothing of the next peer.
        if Health(cells.health(cell)?).generation() != generation
            || cells.set_slow_start(cell, old, Start(old).begun(generation, now).0)?
        {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_weight_grows_from_a_tenth_to_the_whole_in_a_line() {
        let start = Start::at(7, 1000);
        let parts = [0, 1, 50, 99, 100, 101].map(|since| start.part(10, 1000 + since));
        assert_eq!(parts, [Some(100), Some(109), Some(550), Some(991), None, None]);
        assert_eq!((start.generation(), start.part(0, 1000)), (7, None));
    }

    #[test]
    fn a_start_keeps_the_bits_that_are_of_the_same_peer() {
        let old = Start(Start::at(7, 1000).0 | 0xabcd << 32);
        assert_eq!(old.begun(7, 2000), Start(Start::at(7, 2000).0 | 0xabcd << 32));
        assert_eq!(old.begun(8, 2000), Start::at(8, 2000));
        assert_eq!(old.part(10, 1050), Some(550));
    }

    #[test]
    fn a_start_that_is_younger_than_the_look_at_the_clock_has_just_begun_and_one_of_years_ago_is_over() {
        assert_eq!(Start::at(1, 1000).part(10, 999), Some(FIRST));
        assert_eq!(Start::at(1, u32::MAX).part(10, 50), Some(100 + 900 * 51 / 100));
        assert_eq!(Start::at(1, 0).part(10, 1 << 31), None);
        assert_eq!(Start::at(1, 5000).part(10, 0), None);
        assert_eq!(Start::at(1, 0).part(u32::MAX, 1 << 31), Some(145));
    }

    proptest! {
        #[test]
        fn it_never_shrinks_and_is_never_less_than_a_tenth(begun: u32, slow_start in 1u32..100_000, since in 0u32..1_000_000, more in 0u32..1000) {
            let part = |since| Start::at(1, begun).part(slow_start, begun.wrapping_add(since));
            let whole = |part: Option<u64>| part.unwrap_or(WHOLE);
            prop_assert!(part(since).is_none_or(|part| (FIRST..WHOLE).contains(&part)));
            prop_assert!(whole(part(since)) <= whole(part(since + more)));
            prop_assert_eq!(part(since).is_none(), since >= slow_start * 10);
        }
    }
}
