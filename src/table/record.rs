//! A record: the fixed place of an upstream, and the words in it that all workers share. Addresses of these words stay here.

use crate::shm::cells::Cells;
use crate::shm::layout::Geometry;
use crate::shm::sections::Section;
use crate::shm::versioned;
use crate::shm::{Damaged, Memory, Stamp};
use crate::state::budget::{self, Budget};
use crate::state::usable::Bit;

/// Words of a record.
pub(super) mod word {
    /// Block and generation of its snapshot; block 0: no upstream.
    pub const STAMP: usize = 0;
    /// The record after this one in its bucket, plus 1; 0: the last.
    pub const NEXT: usize = 1;
    /// Hash of its name : 32 | how often it was linked, twice : 32 (low half first).
    pub const HASH: usize = 2;
    /// How often one of its peers failed : 32 | up to which of these times all peers that can be out are well : 32 (low half first).
    pub const FAILURES: usize = 3;
    /// How often a bit of a usable peer has changed: see [`crate::state::usable`].
    pub const CHANGES: usize = 4;
    /// When all of these bits were last put right, in milliseconds since the boot.
    pub const LOOKED: usize = 5;
    /// The section of statistics of the upstream, plus 1; 0: none yet.
    pub const SECTION: usize = 6;
    /// Round robin's counter, on a cache line of its own: every pick of every worker adds to it.
    pub const COUNTER: usize = 8;
    /// [`super::budget::WORDS`] words, behind the counter.
    pub const BUDGET: usize = 10;
}

/// Further than any mapping is long.
const NOWHERE: usize = usize::MAX / 2;

/// The place of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    at: usize,
}

impl Default for Record {
    /// No place: all its words are [`Damaged`].
    fn default() -> Self {
        Record { at: NOWHERE }
    }
}

/// How often peers of an upstream failed, and up to which of these times all are well. Its numbers only grow. So a worker that
/// finds all well, and has slept meanwhile, finds another word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures(u64);

impl Failures {
    /// Whether a peer may have failed since all were well.
    #[inline(always)]
    pub fn any(self) -> bool {
        self.0 != self.0.rotate_left(32)
    }

    fn healed(self) -> u64 {
        let times = u64::from(self.0 as u32);
        times << 32 | times
    }
}

impl Record {
    /// The record with this number.
    #[inline(always)]
    pub fn numbered(geometry: &Geometry, number: u32) -> Record {
        Record { at: geometry.record(number) }
    }

    /// Its stamp.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the word lies outside of the memory, as any word of [`Record::default`].
    #[inline(always)]
    pub fn stamp(self, mem: &impl Memory) -> Result<Stamp, Damaged> {
        mem.load_acquire(self.at + word::STAMP).map(Stamp)
    }

    /// Whether `stamp` is still its stamp, after its block was read.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the word lies outside of the memory, as any word of [`Record::default`].
    #[inline(always)]
    pub fn holds(self, mem: &impl Memory, stamp: Stamp) -> Result<bool, Damaged> {
        versioned::holds(mem, self.at + word::STAMP, stamp)
    }

    /// The next turn of the round robin.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the word lies outside of the memory, as any word of [`Record::default`].
    #[inline(always)]
    pub fn take_turn(self, mem: &impl Memory) -> Result<u64, Damaged> {
        mem.add(self.at + word::COUNTER, 1)
    }

    /// Whether its peers have failed.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the word lies outside of the memory, as any word of [`Record::default`].
    #[inline(always)]
    pub fn failures(self, mem: &impl Memory) -> Result<Failures, Damaged> {
        mem.load(self.at + word::FAILURES).map(Failures)
    }

    /// Says that a peer may have failed, so that picks look at each. Any worker may.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the word lies outside of the memory, as any word of [`Record::default`].
    pub fn mark_failure(self, mem: &impl Memory) -> Result<(), Damaged> {
        mem.add(self.at + word::FAILURES, 1).map(|_| ())
    }

    /// Says that all peers are well, if none has failed since `failures` was read; whether that is so.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the word lies outside of the memory, as any word of [`Record::default`].
    pub fn mark_well(self, mem: &impl Memory, failures: Failures) -> Result<bool, Damaged> {
        mem.replace(self.at + word::FAILURES, failures.0, failures.healed())
    }

    /// How often a bit of a usable peer has changed.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the word lies outside of the memory, as any word of [`Record::default`].
    #[inline(always)]
    pub fn changes(self, mem: &impl Memory) -> Result<u64, Damaged> {
        mem.load_acquire(self.at + word::CHANGES)
    }

    /// Has workers read the bits of usable peers anew.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the word lies outside of the memory, as any word of [`Record::default`].
    pub fn mark_change(self, mem: &impl Memory) -> Result<(), Damaged> {
        mem.add(self.at + word::CHANGES, 1).map(|_| ())
    }

    /// Sets or clears the bit of a usable peer, and says so; whether that changed it.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the cell that has the bit does not exist, or a word lies outside of the memory.
    pub fn change_usable(
        self,
        mem: &impl Memory,
        cells: &Cells<'_, impl Memory>,
        bit: Bit,
        usable: bool,
    ) -> Result<bool, Damaged> {
        let changed = bit.set(cells, usable)?;
        if changed {
            self.mark_change(mem)?;
        }
        Ok(changed)
    }

    /// Says that the slow start of a peer has begun: picks look at each peer, and read anew which of them start.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the word lies outside of the memory, as any word of [`Record::default`].
    pub fn mark_start(self, mem: &impl Memory) -> Result<(), Damaged> {
        self.mark_failure(mem)?;
        self.mark_change(mem)
    }

    /// Whether the last look at all its peers is `ms` old or older. Then the next look is this worker's.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the word lies outside of the memory, as any word of [`Record::default`].
    pub fn takes_look(self, mem: &impl Memory, now_ms: u64, ms: u64) -> Result<bool, Damaged> {
        let at = self.at + word::LOOKED;
        let looked = mem.load(at)?;
        // A time in the future is not of this clock.
        let is_due = now_ms.checked_sub(looked).is_none_or(|since| since >= ms);
        Ok(is_due && mem.replace(at, looked, now_ms)?)
    }

    /// A number by which records can be sorted.
    pub fn order(self) -> usize {
        self.at
    }

    /// The record's number.
    pub fn number(self, geometry: &Geometry) -> u32 {
        geometry.record_at(self.at)
    }

    /// The section of statistics that it leads to. It may be that of an earlier upstream.
    pub fn section(self, mem: &impl Memory) -> Result<Option<Section>, Damaged> {
        let word = mem.load_acquire(self.at + word::SECTION)?;
        Ok(word.checked_sub(1).map(|section| Section(section as u32)))
    }

    /// Leads it to another section than `old`; whether it led there.
    pub fn set_section(self, mem: &impl Memory, old: Option<Section>, new: Section) -> Result<bool, Damaged> {
        let number = |section: Section| u64::from(section.0) + 1;
        mem.replace(self.at + word::SECTION, old.map_or(0, number), number(new))
    }

    /// Its budget of retries.
    pub fn budget<M: Memory>(self, mem: &M, now_ms: u64) -> Budget<'_, M> {
        Budget::new(mem, self.at + word::BUDGET, now_ms)
    }

    /// Empties the words that the next upstream begins with.
    pub(super) fn clear(self, mem: &impl Memory) -> Result<(), Damaged> {
        mem.store(self.at + word::COUNTER, 0)?;
        mem.amend(self.at + word::FAILURES, self.failures(mem)?.healed())?;
        mem.amend(self.at + word::LOOKED, 0)?;
        mem.amend(self.at + word::SECTION, 0)?;
        (0..budget::WORDS).try_for_each(|index| mem.amend(self.at + word::BUDGET + index, 0))
    }
}

/// The word that holds a record's stamp.
#[inline(always)]
pub fn stamp_at(geometry: &Geometry, record: u32) -> usize {
    geometry.record(record) + word::STAMP
}
