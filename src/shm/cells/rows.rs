//! Open connections: the row of each worker slot, and which rows count.

use super::Cells;
use super::plan::{CHUNK, ROW_NUMBERS};
use super::words::header;
use crate::shm::layout::SLOTS;
use crate::shm::memory::{Damaged, Memory, Word};
use crate::shm::versioned::{TRIES, Unread};
use std::sync::atomic::Ordering;

/// Whether the numbers of two cells lie side by side, in one part of a row.
fn are_neighbours(one: &u32, next: &u32) -> bool {
    let part = |cell: u32| cell as usize / ROW_NUMBERS / CHUNK;
    one + 1 == *next && part(*one) == part(*next)
}

/// Where a number of a row lies.
struct Number {
    at: usize,
    /// By how many bits it is shifted there.
    shift: u32,
    /// The first word of its part of the row.
    chunk_at: usize,
    /// The word that says whether that part has memory behind it, and which bit of it.
    backed_at: usize,
    backed: u64,
}

impl<M: Memory> Cells<'_, M> {
    fn number(&self, slot: u32, cell: u32) -> Result<Number, Damaged> {
        let (slot, cell) = (slot as usize, cell as usize);
        if cell >= self.plan.count || slot >= SLOTS {
            return Err(Damaged);
        }
        let (row_at, in_row) = (self.plan.words_of_rows(slot), cell / ROW_NUMBERS);
        let chunk = in_row / CHUNK;
        Ok(Number {
            at: row_at + in_row,
            shift: (cell % ROW_NUMBERS * 32) as u32,
            chunk_at: row_at + chunk * CHUNK,
            backed_at: self.plan.backed_at + slot * self.plan.backed + chunk / 64,
            backed: 1 << (chunk % 64),
        })
    }

    fn is_backed(&self, number: &Number) -> Result<bool, Damaged> {
        Ok(self.mem.load_acquire(number.backed_at)? & number.backed != 0)
    }

    /// How many connections the worker in `slot` has open to a peer.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such slot or cell, or a word lies outside of the memory.
    pub fn open_of(&self, slot: u32, cell: u32) -> Result<u32, Damaged> {
        let number = self.number(slot, cell)?;
        // Reserved in spite of the bit, as every page that is touched: the bit may be spoiled. Pages that are there need no memory
        // for that. Where there is no memory, the pages are not there, and no worker has counted in them.
        if !self.is_backed(&number)? || self.mem.reserve(number.at, 1).is_err() {
            return Ok(0);
        }
        Ok((self.mem.load(number.at)? >> number.shift) as u32)
    }

    /// Counts a connection more, or one less, in the row of `slot`, where only the worker in it writes. False: there is no memory for
    /// it, nothing was counted, and nothing is to be taken back.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such slot or cell, or a word lies outside of the memory.
    pub fn count_in(&self, slot: u32, cell: u32, more: bool) -> Result<bool, Damaged> {
        let number = self.number(slot, cell)?;
        let is_backed = self.is_backed(&number)?;
        if !(is_backed || more) || self.mem.reserve(number.at, 1).is_err() {
            return Ok(false);
        }
        if !is_backed {
            self.begin_chunk(&number)?;
        }
        let word = self.mem.load(number.at)?;
        let count = (word >> number.shift) as u32;
        let count = if more { count.saturating_add(1) } else { count.saturating_sub(1) };
        let others = word & !(u64::from(u32::MAX) << number.shift);
        self.mem.store(number.at, others | u64::from(count) << number.shift)?;
        Ok(true)
    }

    /// Begins a part of a row at 0, and then says that it counts. The last worker in the slot may have left other numbers there.
    #[cold]
    fn begin_chunk(&self, number: &Number) -> Result<(), Damaged> {
        for at in number.chunk_at..number.chunk_at + CHUNK {
            self.mem.amend(at, 0)?;
        }
        self.mem.publish(number.backed_at, self.mem.load(number.backed_at)? | number.backed)
    }

    /// How many connections all workers have open to a peer.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a slot is active and there is no such cell, or a word lies outside of the memory.
    pub fn open(&self, cell: u32) -> Result<u64, Damaged> {
        let mut sum = 0;
        for index in 0..SLOTS / 64 {
            // A process that sees a slot active again sees its row empty too.
            let mut slots = self.mem.load_acquire(header::ACTIVE + index)?;
            while slots != 0 {
                let slot = index as u32 * 64 + slots.trailing_zeros();
                sum += u64::from(self.open_of(slot, cell)?);
                slots &= slots - 1;
            }
        }
        Ok(sum)
    }

    /// Those of `cells`, in order, to whose peers connections are open. Mostly there are none, so this looks at the numbers of
    /// neighbours at once. Where there is no memory for a row, no worker has counted in it.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the bits of the active slots lie outside of the memory.
    pub fn busy(&self, cells: &[u32]) -> Result<Vec<u32>, Damaged> {
        let mut busy = Vec::new();
        for index in 0..SLOTS / 64 {
            let mut slots = self.mem.load(header::ACTIVE + index)?;
            while slots != 0 {
                let slot = index as u32 * 64 + slots.trailing_zeros();
                for run in cells.chunk_by(are_neighbours).filter(|run| self.may_count(slot, run)) {
                    busy.extend(run.iter().filter(|&&cell| self.open_of(slot, cell).is_ok_and(|open| open != 0)));
                }
                slots &= slots - 1;
            }
        }
        busy.sort_unstable();
        busy.dedup();
        Ok(busy)
    }

    /// Whether the row of `slot` may have a number for any of these neighbours.
    fn may_count(&self, slot: u32, run: &[u32]) -> bool {
        let [first, .., last] = run else { return true };
        let (Ok(from), Ok(until)) = (self.number(slot, *first), self.number(slot, *last)) else { return false };
        if self.is_backed(&from) != Ok(true) {
            return false;
        }
        let words = until.at - from.at + 1;
        match (self.mem.reserve(from.at, words), self.mem.slice(from.at, words)) {
            (Ok(()), Ok(numbers)) => numbers.iter().fold(0, |all, word| all | word.get(Ordering::Relaxed)) != 0,
            _ => false,
        }
    }

    /// The slots whose rows count.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the bits of the active slots lie outside of the memory.
    pub fn active(&self) -> Result<Vec<u32>, Damaged> {
        let mut slots = Vec::new();
        for index in 0..SLOTS / 64 {
            let bits = self.mem.load_acquire(header::ACTIVE + index)?;
            slots.extend((0..64).filter(|bit| bits >> bit & 1 == 1).map(|bit| index as u32 * 64 + bit));
        }
        Ok(slots)
    }

    /// Says that the worker in `slot` is ready to probe at this time, which is not 0; with 0, that it is not.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such slot, or its word lies outside of the memory.
    pub fn set_ready(&self, slot: u32, at: u64) -> Result<(), Damaged> {
        if slot as usize >= SLOTS {
            return Err(Damaged);
        }
        self.mem.store(header::READY + slot as usize, at)
    }

    /// The active slots whose workers were ready to probe at `since` or later.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the bits of the active slots lie outside of the memory.
    pub fn ready(&self, since: u64) -> Result<Vec<u32>, Damaged> {
        let mut slots = self.active()?;
        slots.retain(|&slot| self.is_ready(slot, since) == Ok(true));
        Ok(slots)
    }

    /// Whether the worker in `slot` was ready to probe at `since` or later.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn is_ready(&self, slot: u32, since: u64) -> Result<bool, Damaged> {
        if slot as usize >= SLOTS {
            return Ok(false);
        }
        let at = self.mem.load(header::READY + slot as usize)?;
        Ok(at != 0 && at >= since && self.mem.load(header::ACTIVE + slot as usize / 64)? >> (slot % 64) & 1 == 1)
    }

    /// Says that a process without a slot is about to pick peers, and may hold on to them.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn goes_unnumbered(&self) -> Result<(), Damaged> {
        if self.mem.load(header::UNNUMBERED)? == 0 {
            self.mem.store(header::UNNUMBERED, 1)?;
            // It picks after that.
            self.mem.fence();
        }
        Ok(())
    }

    /// Says that no process without a slot holds on to a peer: this one is alone and has picked nothing yet.
    pub(in crate::shm) fn all_are_numbered(&self) -> Result<(), Damaged> {
        self.mem.amend(header::UNNUMBERED, 0)
    }

    /// Begins the row of `slot` at 0, and has it count. That needs no memory. The caller holds the slot, and picks afterwards.
    ///
    /// # Errors
    ///
    /// [`Unread::Changing`]: other workers come or go at each of [`TRIES`] tries.
    /// [`Unread::Damaged`]: there is no such slot, or a word lies outside of the memory.
    pub fn activate(&self, slot: u32) -> Result<(), Unread> {
        self.deactivate(slot)?;
        self.set_ready(slot, 0)?;
        for index in 0..self.plan.backed {
            self.mem.amend(self.plan.backed_at + slot as usize * self.plan.backed + index, 0)?;
        }
        let number = self.mem.add(header::WORKERS, 1)?.wrapping_add(1);
        self.mem.store(header::NUMBER + slot as usize, number)?;
        self.set_active(slot, true)?;
        // See `eldest`.
        self.mem.fence();
        Ok(())
    }

    /// Ends the counting in the row of `slot`. The caller holds the slot.
    ///
    /// # Errors
    ///
    /// [`Unread::Changing`]: other workers come or go at each of [`TRIES`] tries.
    /// [`Unread::Damaged`]: the bit of the slot lies outside of the memory.
    pub fn deactivate(&self, slot: u32) -> Result<(), Unread> {
        self.set_active(slot, false)
    }

    fn set_active(&self, slot: u32, active: bool) -> Result<(), Unread> {
        let (at, bit) = (header::ACTIVE + slot as usize / 64, 1u64 << (slot % 64));
        // A try is in vain where another worker comes or goes in one of 64 slots.
        for _ in 0..TRIES {
            let old = self.mem.load(at)?;
            let new = if active { old | bit } else { old & !bit };
            if old == new || self.mem.replace(at, old, new)? {
                return Ok(());
            }
        }
        Err(Unread::Changing)
    }
}
