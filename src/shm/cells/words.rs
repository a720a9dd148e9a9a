//! The words of the file: those of its header, and those of a cell.

use super::Cells;
use crate::shm::history::Who;
use crate::shm::memory::{Damaged, Memory};
use crate::shm::sections::Section;

/// Words of the header.
pub(super) mod header {
    use crate::shm::layout::SLOTS;

    /// Words that say whose cells these are, see [`title`](crate::shm::cells::title).
    pub const TITLE: usize = 0;
    /// Where the search for a free cell begins: mostly, no cell before this one is free.
    pub const LOWEST_FREE: usize = 9;
    /// How many entries of deleted peers there ever were: see [`deleted`](crate::shm::cells::deleted).
    pub const DELETED: usize = 10;
    /// How many workers ever began to count here, which is the number of the last one.
    pub const WORKERS: usize = 11;
    /// Not 0: a process that has no slot may hold on to a peer.
    pub const UNNUMBERED: usize = 12;
    /// No cell from this one on was ever taken.
    pub const UNTOUCHED: usize = 13;
    /// One bit a slot: its row counts.
    pub const ACTIVE: usize = 16;
    /// A word a slot: when the worker in it was last ready to probe.
    pub const READY: usize = ACTIVE + SLOTS / 64;
    /// A word a slot: the number of the worker in it.
    pub const NUMBER: usize = READY + SLOTS;
    /// Words of the header.
    pub const WORDS: usize = NUMBER + SLOTS;
}

/// Words of a cell: two cache lines. All that a pick looks at of one peer lies in the first.
///
/// The top bits of a word are the generation of the cell, but for [`REST`](cell::REST) and [`USABLE`](cell::USABLE). A word with
/// another generation than [`HEALTH`](cell::HEALTH) says nothing. So a library that does not know a word need not begin it anew.
pub(super) mod cell {
    /// How its peer fares: see [`crate::state::failures`].
    pub const HEALTH: usize = 0;
    /// The turn of its peer among equals: see [`crate::balance::least_conn`].
    pub const TURN: usize = 1;
    /// The results of its probes: see [`crate::state::verdict`].
    pub const VERDICT: usize = 2;
    /// Which worker probes, and when: see [`crate::state::lease`].
    pub const LEASE: usize = 3;
    /// How often it came back : 24 | retired until no worker has a number below this one : 40 (low part first).
    /// The latter is 0 where the cell is not retired, or no writer has seen it yet.
    pub const REST: usize = 4;
    /// When its slow start began: see [`crate::state::slow_start`]. Two streaks of 8 bits are kept for ejection.
    pub const SLOW_START: usize = 5;
    /// Kept for ejection: until when, in tenths of a second : 32 | how often : 16.
    pub const EJECTION: usize = 6;
    /// Kept for the method `ewma`: 48 bits.
    pub const EWMA: usize = 7;
    /// First of four words with bits of usable peers: see [`crate::balance::usable`].
    pub const USABLE: usize = 8;
    /// The section that counts for this peer, plus 1 : 48; 0: none yet. See [`crate::shm::sections`].
    pub const STATISTICS: usize = 12;
    /// Kept for the method `least_time`: three words, each with three numbers of 16 bits. It needs seven.
    pub const LEAST_TIME: usize = 13;

    /// Words that no new peer begins anew: those of another generation say nothing. Where a cell comes back, they are 0.
    pub const KEPT: [usize; 7] = [SLOW_START, EJECTION, EWMA, STATISTICS, LEAST_TIME, LEAST_TIME + 1, LEAST_TIME + 2];
}

/// Bits of the times that a cell came back.
const RETURNS: u32 = 24;

/// The content of [`cell::REST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest(pub u64);

impl Rest {
    /// How often the cell came back.
    pub fn returns(self) -> u64 {
        self.0 & ((1 << RETURNS) - 1)
    }

    /// Until no worker has a number below this one.
    pub fn until(self) -> u64 {
        self.0 >> RETURNS
    }

    /// The same, retired until no worker has a number below this one. A number beyond 40 bits is the greatest.
    pub fn retired(self, until: u64) -> Rest {
        Rest(self.returns() | until.min(u64::MAX >> RETURNS) << RETURNS)
    }

    /// Once the cell has come back.
    pub fn back(self) -> Rest {
        Rest(Rest(self.0.wrapping_add(1)).returns())
    }
}

/// Words of a cell with bits of usable peers, each with this many bits below a version.
pub const USABLE_WORDS: u32 = 4;
/// Bits in all of them.
pub const BITS_OF_A_CELL: u32 = USABLE_WORDS * u32::BITS;

/// Above this bit, each word of a cell says how often that was taken. A process that holds on to its last peer finds another word.
pub const GENERATION_SHIFT: u32 = 48;

/// A word of a cell that begins anew, made of the old word. Where the bits are used up, the count begins from 1 again.
pub fn begin(old: u64) -> u64 {
    let generation = if is_used_up(old) { 1 } else { (old >> GENERATION_SHIFT) + 1 };
    generation << GENERATION_SHIFT
}

/// Whether the cell with this word was taken as often as its bits can tell.
pub(super) fn is_used_up(word: u64) -> bool {
    word >> GENERATION_SHIFT == u64::MAX >> GENERATION_SHIFT
}

/// Words of a cell.
pub(super) const CELL: usize = 16;

/// The turn of a peer: how often its cell was taken : 16 | a clock : 48 (high part first).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    cell: u32,
    word: u64,
}

impl Turn {
    const CLOCK: u64 = (1 << GENERATION_SHIFT) - 1;

    /// How long it has waited until `now`.
    pub fn waited(self, now: u64) -> u64 {
        let waited = now.wrapping_sub(self.word) & Turn::CLOCK;
        // A pick that drew its number earlier has not seen that it was taken: it was taken just now.
        if waited > Turn::CLOCK / 2 { 0 } else { waited }
    }
}

impl<M: Memory> Cells<'_, M> {
    /// A word of a cell. 0 is no cell.
    #[inline(always)]
    pub(super) fn word_at(&self, cell: u32, word: usize) -> Result<usize, Damaged> {
        if cell == 0 || cell as usize >= self.plan.count {
            return Err(Damaged);
        }
        Ok(self.plan.cells_at + cell as usize * CELL + word)
    }

    #[inline(always)]
    pub(super) fn health_at(&self, cell: u32) -> Result<usize, Damaged> {
        self.word_at(cell, cell::HEALTH)
    }

    /// How the peer with this cell fares.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such cell, or its word lies outside of the memory.
    #[inline(always)]
    pub fn health(&self, cell: u32) -> Result<u64, Damaged> {
        self.mem.load(self.health_at(cell)?)
    }

    /// Stores `new` where `old` is; whether it was.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such cell, or its word lies outside of the memory.
    pub fn set_health(&self, cell: u32, old: u64, new: u64) -> Result<bool, Damaged> {
        self.mem.replace(self.health_at(cell)?, old, new)
    }

    /// The results of the probes of the peer with this cell.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such cell, or its word lies outside of the memory.
    #[inline(always)]
    pub fn verdict(&self, cell: u32) -> Result<u64, Damaged> {
        self.mem.load(self.word_at(cell, cell::VERDICT)?)
    }

    /// Stores `new` where `old` is; whether it was.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such cell, or its word lies outside of the memory.
    pub fn set_verdict(&self, cell: u32, old: u64, new: u64) -> Result<bool, Damaged> {
        self.mem.replace(self.word_at(cell, cell::VERDICT)?, old, new)
    }

    /// Which worker probes the peer with this cell, and when.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such cell, or its word lies outside of the memory.
    pub fn lease(&self, cell: u32) -> Result<u64, Damaged> {
        self.mem.load(self.word_at(cell, cell::LEASE)?)
    }

    /// Word `word` of the bits of usable peers that lie in a cell.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such cell, or its word lies outside of the memory.
    #[inline(always)]
    pub fn usable(&self, cell: u32, word: u32) -> Result<u64, Damaged> {
        self.mem.load(self.usable_at(cell, word)?)
    }

    /// Stores `new` where `old` is; whether it was.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such cell, or its word lies outside of the memory.
    pub fn set_usable(&self, cell: u32, word: u32, old: u64, new: u64) -> Result<bool, Damaged> {
        self.mem.replace(self.usable_at(cell, word)?, old, new)
    }

    /// When the slow start of the peer with this cell began.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such cell, or its word lies outside of the memory.
    pub fn slow_start(&self, cell: u32) -> Result<u64, Damaged> {
        self.mem.load(self.word_at(cell, cell::SLOW_START)?)
    }

    /// Stores `new` where `old` is; whether it was.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such cell, or its word lies outside of the memory.
    pub fn set_slow_start(&self, cell: u32, old: u64, new: u64) -> Result<bool, Damaged> {
        self.mem.replace(self.word_at(cell, cell::SLOW_START)?, old, new)
    }

    #[inline(always)]
    fn usable_at(&self, cell: u32, word: u32) -> Result<usize, Damaged> {
        self.word_at(cell, cell::USABLE + (word % USABLE_WORDS) as usize)
    }

    /// Stores `new` where `old` is; whether it was.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such cell, or its word lies outside of the memory.
    pub fn set_lease(&self, cell: u32, old: u64, new: u64) -> Result<bool, Damaged> {
        self.mem.replace(self.word_at(cell, cell::LEASE)?, old, new)
    }

    /// How often this cell was taken, which stands in the top bits of its words.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such cell, or no memory for it.
    pub fn generation(&self, cell: u32) -> Result<u16, Damaged> {
        let at = self.health_at(cell)?;
        // Asked of any cell, also of one that was never taken.
        self.mem.reserve(at, 1).map_err(|_| Damaged)?;
        Ok((self.mem.load(at)? >> GENERATION_SHIFT) as u16)
    }

    /// How often this cell came back after it was retired. With [`Cells::generation`] it says for ever which of its peers is meant.
    pub(super) fn returns(&self, cell: u32) -> Result<u64, Damaged> {
        Ok(Rest(self.mem.load(self.word_at(cell, cell::REST)?)?).returns())
    }

    /// The peer with this cell, told from all others that the cell ever has.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such cell, or no memory for it.
    pub fn who(&self, cell: u32) -> Result<Who, Damaged> {
        Ok(Who::new(cell, self.generation(cell)?, self.returns(cell)?))
    }

    /// The section of statistics that this cell leads to, and the generation of the peer that it belongs to.
    pub fn section(&self, cell: u32) -> Result<Option<(Section, u16)>, Damaged> {
        let word = self.mem.load_acquire(self.word_at(cell, cell::STATISTICS)?)?;
        let section = (word & ((1 << GENERATION_SHIFT) - 1)).checked_sub(1);
        Ok(section.map(|section| (Section(section as u32), (word >> GENERATION_SHIFT) as u16)))
    }

    /// Leads this cell to a section, if it has no other by now and its peer is still the one of this generation. Whether it was so.
    pub fn set_section(&self, cell: u32, generation: u16, section: Section) -> Result<bool, Damaged> {
        let at = self.word_at(cell, cell::STATISTICS)?;
        let old = self.mem.load(at)?;
        let is_set = old >> GENERATION_SHIFT == u64::from(generation) && old & ((1 << GENERATION_SHIFT) - 1) != 0;
        if is_set || self.generation(cell)? != generation {
            return Ok(false);
        }
        self.mem.replace(at, old, (u64::from(generation) << GENERATION_SHIFT) | (u64::from(section.0) + 1))
    }

    /// When the peer with this cell was last taken among equals, by a clock of its upstream's.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such cell, or its word lies outside of the memory.
    pub fn turn(&self, cell: u32) -> Result<Turn, Damaged> {
        Ok(Turn { cell, word: self.mem.load(self.word_at(cell, cell::TURN)?)? })
    }

    /// Says that the peer is taken now. Nothing if the cell is another's by now, or if another pick has just taken it too.
    ///
    /// # Errors
    ///
    /// As [`Cells::turn`].
    pub fn take_turn(&self, since: Turn, now: u64) -> Result<(), Damaged> {
        let new = since.word & !Turn::CLOCK | now & Turn::CLOCK;
        if since.waited(now) == 0 {
            return Ok(());
        }
        self.mem.replace(self.word_at(since.cell, cell::TURN)?, since.word, new).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_taken_after_a_number_was_drawn_was_taken_just_now() {
        let turn = Turn { cell: 1, word: 7 << 48 | 101 };
        assert_eq!([99, 100, 101, 102, 201].map(|now| turn.waited(now)), [0, 0, 0, 1, 100]);
        let wrapped = Turn { cell: 1, word: Turn::CLOCK };
        assert_eq!([Turn::CLOCK, Turn::CLOCK + 1, Turn::CLOCK + 2].map(|now| wrapped.waited(now)), [0, 1, 2]);
    }
}
