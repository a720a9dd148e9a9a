//! Cells: what all processes write of one peer, beside the region in a mapping of its own.
//!
//! A *cell* has a fixed place and type. A writer takes one for each new peer, under the writer lock, and the peer keeps it through
//! all versions of its upstream; it is found by its number, which stands in the snapshot. Its first word is the peer's health,
//! which any process changes by compare-and-swap. The word counts how often the cell was taken, so whoever held on to a peer
//! that is no more changes nothing of the one that came after it.
//!
//! There are sixteen bits to count in. A worker that was stopped may wake and hold on to any peer that a cell ever had. So a cell
//! whose bits are used up is *retired* when its peer goes. No peer gets it until each worker that lived then has ended. Then it
//! begins again from 1. Workers are numbered as they begin, so a cell remembers one number: the least of the workers that began
//! later. A process without a slot has no number. Once one has picked, no cell comes back before all processes have ended.
//! Where a writer dies before it has retired a cell, the next writer in search of a free one does so.
//!
//! Open connections are counted by *rows*: each worker slot has a row with a number for each cell, and only the worker in that
//! slot writes there. What a peer has is the sum over the slots that are active; what a dead worker had goes with its slot. So no
//! count can drift: it is what living processes say. A cell that was given back is not taken again before its sum is 0.
//!
//! Most of all rows is never written to and has no memory. A worker has it reserved for a part of its row when it first counts
//! there, begins that part at 0, and says so by a bit. Where the bit is not set, all numbers are 0, and nobody looks at them: a
//! look at a page that nobody has written to would take memory too. Where a worker finds no memory it serves, and what it
//! could not count is not counted.
//!
//! Nothing here needs to survive: a file that is lost or spoiled is made anew, with every count at 0 and every peer well.

use super::departed;
use super::layout::SLOTS;
use super::mem::{PAGE, WORD};
use super::memory::{Damaged, Memory, Word};
use super::versioned::{TRIES, Unread};
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// First word of the file.
const MAGIC: u64 = u64::from_le_bytes(*b"dyups\0ce");

/// Version of this file, of its own: it is made anew where it is another, and no table is carried over for that.
const LAYOUT: u64 = 2;

/// Words that are reserved at a time: four pages.
pub const CHUNK: usize = 4 * PAGE / WORD;

/// Words of the header.
mod word {
    use super::SLOTS;

    /// Words that say whose cells these are, see [`super::title`].
    pub const TITLE: usize = 0;
    /// Where the search for a free cell begins: mostly, no cell before this one is free.
    pub const LOWEST_FREE: usize = 9;
    /// How many entries there ever were of peers that are no more: see [`super::super::departed`].
    pub const DEPARTED: usize = 10;
    /// How many workers ever began to count here: the number of the last one.
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
    /// All of them.
    pub const HEADER: usize = NUMBER + SLOTS;
}

/// Words of a cell.
mod cell {
    /// How its peer fares: see [`crate::health`].
    pub const HEALTH: usize = 0;
    /// Whose turn it is among equals: see [`crate::balance::least_conn`].
    pub const TURN: usize = 1;
    /// What probes found: see [`crate::health::active`].
    pub const VERDICT: usize = 2;
    /// Who probes, and when: see [`crate::health::lease`].
    pub const LEASE: usize = 3;
    /// Retired until no worker has a number below this one; 0: not retired, or nobody has seen it yet.
    pub const RETIRED: usize = 4;
    /// How often it came back.
    pub const RETURNS: usize = 5;
    /// First of the words with bits of usable peers: see [`crate::balance::usable`].
    pub const USABLE: usize = 8;
}

/// Words of a cell with bits of usable peers, each with this many bits below a version.
pub const USABLE_WORDS: u32 = 4;
/// Bits in all of them.
pub const BITS_OF_A_CELL: u32 = USABLE_WORDS * u32::BITS;

/// Above this bit, each word of a cell says how often that was taken: who held on to its last peer finds another word.
pub const GENERATION_SHIFT: u32 = 48;

/// A word of a cell that begins anew, from what was there: where the bits are used up, from 1 again.
pub fn begin(old: u64) -> u64 {
    let generation = if is_used_up(old) { 1 } else { (old >> GENERATION_SHIFT) + 1 };
    generation << GENERATION_SHIFT
}

/// Whether the cell with this word was taken as often as its bits can tell.
fn is_used_up(word: u64) -> bool {
    word >> GENERATION_SHIFT == u64::MAX >> GENERATION_SHIFT
}

/// Words of a cell: two cache lines. All that a pick looks at of one peer lies in the first.
const CELL: usize = 16;
/// Numbers of a row in a word.
const ROW_NUMBERS: usize = 2;

/// Free cells with open connections that a writer looks at again and again. Where there are more, those before are found when
/// there is no other cell any more.
const MOST_BUSY: usize = 64;

/// Words of [`title`].
pub const TITLE_WORDS: usize = 6;

/// Where everything lies: it follows from the size of the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Cells, the first of which is nobody's.
    pub count: usize,
    bits_at: usize,
    /// For each slot, one bit a chunk of its row: there is memory behind it, and it began at 0 for the worker in the slot.
    backed_at: usize,
    /// Words that a slot has of them.
    backed: usize,
    cells_at: usize,
    /// A multiple of [`CHUNK`], as a row is: what is reserved for one row is no part of another.
    rows_at: usize,
    row: usize,
}

impl Plan {
    /// For a region of `size` bytes: as many cells as its heap could hold peers, but not more than 262,144, or two a KiB.
    pub fn of(size: u64) -> Plan {
        let size = size as usize;
        Plan::for_cells((size / 64).min((1 << 18).max(size / 512)))
    }

    /// For so many cells.
    pub fn for_cells(count: usize) -> Plan {
        let page = PAGE / WORD;
        let row = count.div_ceil(ROW_NUMBERS).next_multiple_of(CHUNK);
        let backed = (row / CHUNK).div_ceil(64);
        let bits_at = word::HEADER;
        let backed_at = bits_at + count.div_ceil(64);
        let cells_at = (backed_at + SLOTS * backed).next_multiple_of(page);
        let rows_at = (cells_at + count * CELL).next_multiple_of(CHUNK);
        Plan { count, bits_at, backed_at, backed, cells_at, rows_at, row }
    }

    /// Bytes of the file. Hardly any of it is ever written to, and only that takes memory.
    pub fn bytes(&self) -> usize {
        (self.departed_at() + departed::ENTRIES * departed::ENTRY) * WORD
    }

    /// First word of what is behind the rows.
    pub(super) fn departed_at(&self) -> usize {
        self.words_of_rows(SLOTS)
    }

    /// Words up to cell number `cell`: what writers change for peers whose cells are before it.
    pub fn words_until(&self, cell: usize) -> usize {
        self.cells_at + cell * CELL
    }

    /// Words up to the row of slot number `slot`.
    pub fn words_of_rows(&self, slot: usize) -> usize {
        self.rows_at + slot * self.row
    }

    /// Words that must be there whatever comes.
    pub fn words_in_advance(&self) -> usize {
        self.cells_at
    }

    /// Whether the word `at` is one of the numbers that workers count in.
    pub fn is_in_a_row(&self, at: usize) -> bool {
        (self.rows_at..self.departed_at()).contains(&at)
    }
}

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
        // Who drew its number before it was taken has not seen that: it was taken just now.
        if waited > Turn::CLOCK / 2 { 0 } else { waited }
    }
}

/// The words that say whose cells these are: of which layout, how many, beside the region with which inode, in which boot.
pub fn title(plan: &Plan, region: u64, boot: [u64; 2]) -> [u64; TITLE_WORDS] {
    [MAGIC, LAYOUT, plan.count as u64, region, boot[0], boot[1]]
}

/// Why there are no cells for peers.
#[derive(Debug)]
pub enum Untaken {
    /// There is no memory for them.
    NoMemory(io::Error),
    /// What is read of them makes no sense, or is another thing each time.
    Unread(Unread),
}

impl From<Damaged> for Untaken {
    fn from(damaged: Damaged) -> Self {
        Untaken::Unread(damaged.into())
    }
}

/// What a search has met.
#[derive(Default)]
struct Search {
    /// Free cells with open connections.
    busy: usize,
    /// The first of them.
    lowest: Option<u32>,
    /// The cell behind the last that was looked at.
    next: u32,
    /// The least number of a worker that lives, once it was asked for.
    eldest: Option<u64>,
}

/// The cells in a memory.
#[derive(Debug)]
pub struct Cells<'a, M> {
    mem: &'a M,
    plan: &'a Plan,
}

impl<M> Clone for Cells<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Cells<'_, M> {}

impl<'a, M: Memory> Cells<'a, M> {
    /// Those in `mem`.
    #[inline(always)]
    pub fn new(mem: &'a M, plan: &'a Plan) -> Self {
        Cells { mem, plan }
    }

    /// How many there are, with the one that is nobody's.
    pub fn count(&self) -> usize {
        self.plan.count
    }

    /// Where they lie.
    pub fn plan(&self) -> &'a Plan {
        self.plan
    }

    /// Writes the header of new ones; all else is 0.
    pub fn write_header(&self, title: &[u64]) -> Result<(), Damaged> {
        self.mem.store_all(word::TITLE, title)?;
        self.mem.store(word::LOWEST_FREE, 1)
    }

    /// A word of a cell. 0 is no cell.
    #[inline(always)]
    fn word_at(&self, cell: u32, word: usize) -> Result<usize, Damaged> {
        if cell == 0 || cell as usize >= self.plan.count {
            return Err(Damaged);
        }
        Ok(self.plan.cells_at + cell as usize * CELL + word)
    }

    #[inline(always)]
    fn health_at(&self, cell: u32) -> Result<usize, Damaged> {
        self.word_at(cell, cell::HEALTH)
    }

    /// How the peer with this cell fares.
    #[inline(always)]
    pub fn health(&self, cell: u32) -> Result<u64, Damaged> {
        self.mem.load(self.health_at(cell)?)
    }

    /// Stores `new` where `old` is; whether it was.
    pub fn set_health(&self, cell: u32, old: u64, new: u64) -> Result<bool, Damaged> {
        self.mem.replace(self.health_at(cell)?, old, new)
    }

    /// What probes found of the peer with this cell.
    #[inline(always)]
    pub fn verdict(&self, cell: u32) -> Result<u64, Damaged> {
        self.mem.load(self.word_at(cell, cell::VERDICT)?)
    }

    /// Stores `new` where `old` is; whether it was.
    pub fn set_verdict(&self, cell: u32, old: u64, new: u64) -> Result<bool, Damaged> {
        self.mem.replace(self.word_at(cell, cell::VERDICT)?, old, new)
    }

    /// Who probes the peer with this cell, and when.
    pub fn lease(&self, cell: u32) -> Result<u64, Damaged> {
        self.mem.load(self.word_at(cell, cell::LEASE)?)
    }

    /// Word `word` of the bits of usable peers that lie in a cell.
    #[inline(always)]
    pub fn usable(&self, cell: u32, word: u32) -> Result<u64, Damaged> {
        self.mem.load(self.usable_at(cell, word)?)
    }

    /// Stores `new` where `old` is; whether it was.
    pub fn set_usable(&self, cell: u32, word: u32, old: u64, new: u64) -> Result<bool, Damaged> {
        self.mem.replace(self.usable_at(cell, word)?, old, new)
    }

    #[inline(always)]
    fn usable_at(&self, cell: u32, word: u32) -> Result<usize, Damaged> {
        self.word_at(cell, cell::USABLE + (word % USABLE_WORDS) as usize)
    }

    /// Stores `new` where `old` is; whether it was.
    pub fn set_lease(&self, cell: u32, old: u64, new: u64) -> Result<bool, Damaged> {
        self.mem.replace(self.word_at(cell, cell::LEASE)?, old, new)
    }

    /// How often this cell was taken, which stands in the top bits of its words.
    pub fn generation(&self, cell: u32) -> Result<u16, Damaged> {
        let at = self.health_at(cell)?;
        // Asked of any cell, also of one that nobody ever took.
        self.mem.reserve(at, 1).map_err(|_| Damaged)?;
        Ok((self.mem.load(at)? >> GENERATION_SHIFT) as u16)
    }

    /// How often this cell came back after it was retired. With [`Cells::generation`] it says which of its peers is meant, for ever.
    pub(super) fn returns(&self, cell: u32) -> Result<u64, Damaged> {
        self.mem.load(self.word_at(cell, cell::RETURNS)?)
    }

    /// Whether no peer has this cell.
    pub fn is_free(&self, cell: u32) -> Result<bool, Damaged> {
        self.health_at(cell)?;
        Ok(self.mem.load(self.plan.bits_at + cell as usize / 64)? >> (cell % 64) & 1 == 0)
    }

    /// What they lie in.
    pub(super) fn mem(&self) -> &'a M {
        self.mem
    }

    /// How many entries there ever were of peers that are no more.
    pub(super) fn departed(&self) -> Result<u64, Damaged> {
        self.mem.load(word::DEPARTED)
    }

    /// When the peer with this cell was last taken among equals, by a clock of its upstream's.
    pub fn turn(&self, cell: u32) -> Result<Turn, Damaged> {
        Ok(Turn { cell, word: self.mem.load(self.word_at(cell, cell::TURN)?)? })
    }

    /// It is taken now; nothing if the cell is another's by now, or if somebody else has just taken it too.
    pub fn take_turn(&self, since: Turn, now: u64) -> Result<(), Damaged> {
        let new = since.word & !Turn::CLOCK | now & Turn::CLOCK;
        if since.waited(now) == 0 {
            return Ok(());
        }
        self.mem.replace(self.word_at(since.cell, cell::TURN)?, since.word, new).map(|_| ())
    }
}

/// What a writer does, under the writer lock.
impl<M: Memory> Cells<'_, M> {
    /// Takes `count` cells for so many peers, or none: `None` says that there are not so many. Their verdicts begin with these
    /// bits below the generation.
    pub fn take(&self, count: usize, verdict: u64) -> Result<Option<Vec<u32>>, Untaken> {
        for _ in 0..TRIES {
            let Some((cells, lowest)) = self.find_free(count)? else { return Ok(None) };
            let end = cells.iter().max().map_or(0, |&last| u64::from(last) + 1);
            self.mem.amend(word::UNTOUCHED, self.mem.load(word::UNTOUCHED)?.max(end))?;
            for &cell in &cells {
                let at = self.plan.cells_at + cell as usize * CELL;
                self.mem.reserve(at, CELL).map_err(Untaken::NoMemory)?;
            }
            if self.begin(&cells, verdict)? {
                self.set_bits(&cells, true)?;
                self.mem.amend(word::LOWEST_FREE, lowest.into())?;
                return Ok(Some(cells));
            }
        }
        // Who counts in what is free, again and again, means it.
        Err(Untaken::Unread(Unread::Changing))
    }

    /// Has the health of free cells begin anew. Whoever slept since it picked one of their last peers has counted by now, or
    /// sees that the cell is another's ([`crate::balance::place`]). False: one has counted, and that cell waits.
    fn begin(&self, cells: &[u32], verdict: u64) -> Result<bool, Damaged> {
        for &cell in cells {
            let at = self.health_at(cell)?;
            let old = self.mem.load(at)?;
            if is_used_up(old) {
                self.bring_back(cell)?;
            }
            let begun = begin(old);
            self.mem.store(at, begun)?;
            self.mem.store(self.word_at(cell, cell::TURN)?, begun)?;
            self.begin_probes(cell, begun, verdict)?;
        }
        self.mem.fence();
        for &cell in cells {
            if self.open(cell)? != 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A cell is retired no more. Who dies before it begins anew leaves it to be retired once more.
    fn bring_back(&self, cell: u32) -> Result<(), Damaged> {
        let (retired_at, returns_at) = (self.word_at(cell, cell::RETIRED)?, self.word_at(cell, cell::RETURNS)?);
        self.mem.store(retired_at, 0)?;
        self.mem.store(returns_at, self.mem.load(returns_at)?.wrapping_add(1))?;
        // No word of it begins anew before that.
        self.mem.fence();
        Ok(())
    }

    /// Whether a free cell is retired, and some worker lives that lived when its last peer went.
    fn is_retired(&self, cell: u32, eldest: &mut Option<u64>) -> Result<bool, Damaged> {
        let Some(until) = self.retire(cell)? else { return Ok(false) };
        let eldest = match *eldest {
            Some(number) => number,
            None => *eldest.insert(self.eldest()?),
        };
        Ok(eldest < until)
    }

    /// Retires a free cell if its bits are used up. Answers the least number that a worker may have when it comes back; `None`: it is
    /// not retired.
    fn retire(&self, cell: u32) -> Result<Option<u64>, Damaged> {
        if u64::from(cell) >= self.mem.load(word::UNTOUCHED)? || !self.is_used_up(cell)? {
            return Ok(None);
        }
        let retired_at = self.word_at(cell, cell::RETIRED)?;
        let mut until = self.mem.load(retired_at)?;
        if until == 0 {
            // Each process that may hold on to its peer has a number by now, or has said that it has none.
            self.mem.fence();
            until = self.mem.load(word::WORKERS)?.saturating_add(1);
            self.mem.store(retired_at, until)?;
        }
        Ok(Some(until))
    }

    fn is_used_up(&self, cell: u32) -> Result<bool, Damaged> {
        let at = self.health_at(cell)?;
        // As every page that is touched; where there is none, nobody ever had the cell.
        Ok(self.mem.reserve(at, 1).is_ok() && is_used_up(self.mem.load(at)?))
    }

    /// The least number that a worker has, of those that live or whose death nobody has seen; 0: there may be one without a number.
    fn eldest(&self) -> Result<u64, Damaged> {
        // A worker says that it is there before it picks. The peers of free cells are gone from the table by now. So either the
        // worker has not picked one of them, or this writer sees the worker.
        self.mem.fence();
        if self.mem.load(word::UNNUMBERED)? != 0 {
            return Ok(0);
        }
        let mut eldest = u64::MAX;
        for slot in self.active()? {
            eldest = eldest.min(self.mem.load(word::NUMBER + slot as usize)?);
        }
        Ok(eldest)
    }

    /// How many free cells nobody can have for now, since they are retired.
    pub fn retired(&self) -> Result<usize, Damaged> {
        let (mut count, mut eldest) = (0, None);
        let untouched = self.mem.load(word::UNTOUCHED)?.min(self.plan.count as u64) as u32;
        for cell in 1..untouched {
            count += usize::from(self.is_free(cell)? && self.is_retired(cell, &mut eldest)?);
        }
        Ok(count)
    }

    fn begin_probes(&self, cell: u32, begun: u64, verdict: u64) -> Result<(), Damaged> {
        self.mem.store(self.word_at(cell, cell::VERDICT)?, begun | verdict)?;
        self.mem.store(self.word_at(cell, cell::LEASE)?, begun)
    }

    /// Has what probes found of a peer begin anew, with these bits below the generation, as for a new one. Whoever is probing it
    /// finds another lease.
    pub fn forget_probes(&self, cell: u32, verdict: u64) -> Result<(), Damaged> {
        let generation = self.mem.load(self.health_at(cell)?)? >> GENERATION_SHIFT << GENERATION_SHIFT;
        self.begin_probes(cell, generation, verdict)
    }

    /// Cells that are free and have no connections open; and where the next search begins.
    fn find_free(&self, count: usize) -> Result<Option<(Vec<u32>, u32)>, Damaged> {
        let from = (self.mem.load(word::LOWEST_FREE)?.max(1) as usize).min(self.plan.count);
        let (mut found, mut search) = (Vec::with_capacity(count.min(self.plan.count)), Search::default());
        self.find_free_in(from..self.plan.count, count, &mut found, &mut search)?;
        if found.len() < count {
            // Those that were passed over earlier.
            self.find_free_in(1..from, count, &mut found, &mut search)?;
        }
        let next = search.lowest.filter(|_| search.busy <= MOST_BUSY).unwrap_or(search.next);
        Ok((found.len() == count).then_some((found, next)))
    }

    fn find_free_in(
        &self,
        cells: Range<usize>,
        count: usize,
        found: &mut Vec<u32>,
        search: &mut Search,
    ) -> Result<(), Damaged> {
        let mut cell = cells.start;
        while cell < cells.end && found.len() < count {
            let bits = self.mem.load(self.plan.bits_at + cell / 64)? >> (cell % 64);
            if bits & 1 == 1 {
                cell += bits.trailing_ones() as usize;
                continue;
            }
            if self.is_retired(cell as u32, &mut search.eldest)? {
                cell += 1;
                continue;
            }
            if self.open(cell as u32)? == 0 {
                found.push(cell as u32);
            } else {
                search.busy += 1;
                search.lowest = search.lowest.or(Some(cell as u32));
            }
            cell += 1;
        }
        search.next = cell as u32;
        Ok(())
    }

    /// Gives cells back. Connections that are still open to their peers are counted until they end.
    pub fn give_back(&self, cells: &[u32]) -> Result<(), Damaged> {
        let Some(&lowest) = cells.iter().min() else { return Ok(()) };
        cells.iter().try_for_each(|&cell| self.health_at(cell).map(|_| ()))?;
        // Now, so that those who come later keep none of them waiting.
        cells.iter().try_for_each(|&cell| self.retire(cell).map(|_| ()))?;
        self.set_bits(cells, false)?;
        let lowest = self.mem.load(word::LOWEST_FREE)?.min(u64::from(lowest));
        self.mem.amend(word::LOWEST_FREE, lowest)
    }

    /// There were so many entries of peers that are no more, or more already.
    pub(super) fn set_departed(&self, count: u64) -> Result<(), Damaged> {
        self.mem.amend(word::DEPARTED, self.departed()?.max(count))
    }

    /// Sets or clears the bits of cells: one store for those that are neighbours.
    fn set_bits(&self, cells: &[u32], taken: bool) -> Result<(), Damaged> {
        for cells in cells.chunk_by(|one, next| one / 64 == next / 64) {
            let mask = cells.iter().fold(0, |mask, cell| mask | 1 << (cell % 64));
            let place = self.plan.bits_at + cells[0] as usize / 64;
            let bits = self.mem.load(place)?;
            self.mem.store(place, if taken { bits | mask } else { bits & !mask })?;
        }
        Ok(())
    }

    /// Makes the bitmap say what `marks` says: the end of a repair.
    pub fn rebuild(&self, marks: &CellMarks) -> Result<(), Damaged> {
        for (index, &bits) in marks.bits.iter().enumerate() {
            self.mem.amend(self.plan.bits_at + index, bits)?;
        }
        self.mem.amend(word::LOWEST_FREE, 1)
    }

    /// How many cells are taken.
    pub fn used(&self) -> Result<u64, Damaged> {
        let words = 0..self.plan.count.div_ceil(64);
        words.map(|index| Ok(u64::from(self.mem.load(self.plan.bits_at + index)?.count_ones()))).sum()
    }
}

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

/// Counting.
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
    pub fn open_of(&self, slot: u32, cell: u32) -> Result<u32, Damaged> {
        let number = self.number(slot, cell)?;
        // What is said to be backed is reserved all the same, as every page that is touched: the bit may be spoiled. Pages that
        // are there need no memory for that; where there is none, they are not, and nobody has counted in them.
        if !self.is_backed(&number)? || self.mem.reserve(number.at, 1).is_err() {
            return Ok(0);
        }
        Ok((self.mem.load(number.at)? >> number.shift) as u32)
    }

    /// Counts a connection more, or one less, in the row of the worker in `slot`: nobody else writes there. Whether it did: where
    /// there is no memory for it, nothing is counted, and there is nothing to be taken back.
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

    /// Begins a part of a row at 0, whatever the last worker in its slot has left there, and only then says that it counts.
    #[cold]
    fn begin_chunk(&self, number: &Number) -> Result<(), Damaged> {
        for at in number.chunk_at..number.chunk_at + CHUNK {
            self.mem.amend(at, 0)?;
        }
        self.mem.publish(number.backed_at, self.mem.load(number.backed_at)? | number.backed)
    }

    /// How many connections all workers have open to a peer.
    pub fn open(&self, cell: u32) -> Result<u64, Damaged> {
        let mut sum = 0;
        for index in 0..SLOTS / 64 {
            // Whoever sees that a slot is active again sees too that its row has nothing in it.
            let mut slots = self.mem.load_acquire(word::ACTIVE + index)?;
            while slots != 0 {
                let slot = index as u32 * 64 + slots.trailing_zeros();
                sum += u64::from(self.open_of(slot, cell)?);
                slots &= slots - 1;
            }
        }
        Ok(sum)
    }

    /// Those of `cells`, in order, to whose peers connections are open. Mostly there are none, so this looks at the numbers of
    /// neighbours at once. Where there is no memory for a row nobody has counted.
    pub fn busy(&self, cells: &[u32]) -> Result<Vec<u32>, Damaged> {
        let mut busy = Vec::new();
        for index in 0..SLOTS / 64 {
            let mut slots = self.mem.load(word::ACTIVE + index)?;
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
    pub fn active(&self) -> Result<Vec<u32>, Damaged> {
        let mut slots = Vec::new();
        for index in 0..SLOTS / 64 {
            let bits = self.mem.load_acquire(word::ACTIVE + index)?;
            slots.extend((0..64).filter(|bit| bits >> bit & 1 == 1).map(|bit| index as u32 * 64 + bit));
        }
        Ok(slots)
    }

    /// The worker in `slot` is ready to probe at this time, which is not 0; or, with 0, no more.
    pub fn set_ready(&self, slot: u32, at: u64) -> Result<(), Damaged> {
        if slot as usize >= SLOTS {
            return Err(Damaged);
        }
        self.mem.store(word::READY + slot as usize, at)
    }

    /// The active slots whose workers were ready to probe at `since` or later.
    pub fn ready(&self, since: u64) -> Result<Vec<u32>, Damaged> {
        let mut slots = self.active()?;
        slots.retain(|&slot| self.is_ready(slot, since) == Ok(true));
        Ok(slots)
    }

    /// Whether the worker in `slot` was ready to probe at `since` or later.
    pub fn is_ready(&self, slot: u32, since: u64) -> Result<bool, Damaged> {
        if slot as usize >= SLOTS {
            return Ok(false);
        }
        let at = self.mem.load(word::READY + slot as usize)?;
        Ok(at != 0 && at >= since && self.mem.load(word::ACTIVE + slot as usize / 64)? >> (slot % 64) & 1 == 1)
    }

    /// A process that has no slot is about to pick peers, and may hold on to them.
    pub fn goes_unnumbered(&self) -> Result<(), Damaged> {
        if self.mem.load(word::UNNUMBERED)? == 0 {
            self.mem.store(word::UNNUMBERED, 1)?;
            // It picks after that.
            self.mem.fence();
        }
        Ok(())
    }

    /// No other process is there, and this one has picked nothing yet: no process without a slot holds on to a peer.
    pub(super) fn all_are_numbered(&self) -> Result<(), Damaged> {
        self.mem.amend(word::UNNUMBERED, 0)
    }

    /// Begins the row of `slot` at 0, and has it count; it needs no memory. Whoever calls this holds the slot, and picks afterwards.
    pub fn activate(&self, slot: u32) -> Result<(), Unread> {
        self.deactivate(slot)?;
        self.set_ready(slot, 0)?;
        for index in 0..self.plan.backed {
            self.mem.amend(self.plan.backed_at + slot as usize * self.plan.backed + index, 0)?;
        }
        let number = self.mem.add(word::WORKERS, 1)?.wrapping_add(1);
        self.mem.store(word::NUMBER + slot as usize, number)?;
        self.set_active(slot, true)?;
        // See `eldest`.
        self.mem.fence();
        Ok(())
    }

    /// The row of `slot` counts no more. Whoever calls this holds the slot.
    pub fn deactivate(&self, slot: u32) -> Result<(), Unread> {
        self.set_active(slot, false)
    }

    fn set_active(&self, slot: u32, active: bool) -> Result<(), Unread> {
        let (at, bit) = (word::ACTIVE + slot as usize / 64, 1u64 << (slot % 64));
        // Each time that it is in vain, somebody else comes or goes in one of 64 slots.
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

/// The cells that a repair found in use.
#[derive(Debug)]
pub struct CellMarks {
    count: usize,
    bits: Vec<u64>,
}

impl CellMarks {
    /// None are.
    pub fn new(plan: &Plan) -> Self {
        CellMarks { count: plan.count, bits: vec![0; plan.count.div_ceil(64)] }
    }

    /// This one is; what is no cell is passed over.
    pub fn mark(&mut self, cell: u32) {
        if cell != 0 && (cell as usize) < self.count {
            self.bits[cell as usize / 64] |= 1 << (cell % 64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mem::Mem;
    use super::super::mem::tests::scratch;
    use super::*;
    use crate::health::passive::Health;
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::collections::{BTreeMap, BTreeSet};

    fn made(plan: &Plan) -> Mem {
        let mem = scratch(plan.bytes());
        Cells::new(&mem, plan).write_header(&title(plan, 7, [1, 2])).expect("inside");
        mem
    }

    fn take(cells: &Cells<'_, Mem>) -> Option<u32> {
        cells.take(1, 0).expect("sound").map(|taken| taken[0])
    }

    /// Connections more, or fewer.
    fn count(cells: &Cells<'_, Mem>, slot: u32, cell: u32, change: i32) {
        (0..change.abs()).for_each(|_| assert_eq!(cells.count_in(slot, cell, change > 0), Ok(true)));
    }

    #[test]
    fn who_was_taken_after_a_number_was_drawn_was_taken_just_now() {
        let turn = Turn { cell: 1, word: 7 << 48 | 101 };
        assert_eq!([99, 100, 101, 102, 201].map(|now| turn.waited(now)), [0, 0, 0, 1, 100]);
        let wrapped = Turn { cell: 1, word: Turn::CLOCK };
        assert_eq!([Turn::CLOCK, Turn::CLOCK + 1, Turn::CLOCK + 2].map(|now| wrapped.waited(now)), [0, 1, 2]);
    }

    #[test]
    fn each_cell_is_taken_once_and_the_first_is_nobody_s() {
        let plan = Plan::for_cells(130);
        let mem = made(&plan);
        let cells = Cells::new(&mem, &plan);
        assert_eq!((1..130).map(|_| take(&cells)).collect::<Vec<_>>(), (1..130).map(Some).collect::<Vec<_>>());
        assert_eq!((take(&cells), cells.used()), (None, Ok(129)));
        cells.give_back(&[64]).expect("inside");
        cells.give_back(&[127]).expect("inside");
        assert_eq!((cells.used(), take(&cells), take(&cells), take(&cells)), (Ok(127), Some(64), Some(127), None));
    }

    #[test]
    fn a_cell_that_is_taken_again_begins_anew_and_keeps_count_of_it() {
        let plan = Plan::for_cells(8);
        let mem = made(&plan);
        let cells = Cells::new(&mem, &plan);
        let health = || Health(cells.health(1).expect("a cell"));
        assert_eq!(take(&cells), Some(1));
        assert_eq!((health().generation(), health().fails()), (1, 0));
        assert_eq!(cells.set_health(1, health().0, health().failed(5).0), Ok(true));
        let late = health().0;
        cells.give_back(&[1]).expect("inside");
        assert_eq!(take(&cells), Some(1));
        assert_eq!((health().generation(), health().fails()), (2, 0));
        assert_eq!(cells.set_health(1, late, 0), Ok(false), "who held on to the one before changes nothing");
    }

    /// Has a cell been taken as often as its bits can tell.
    fn use_up(cells: &Cells<'_, Mem>, cell: u32) {
        let word = cells.health(cell).expect("a cell");
        assert_eq!(cells.set_health(cell, word, u64::MAX << GENERATION_SHIFT), Ok(true));
    }

    #[test]
    fn who_slept_while_a_cell_had_any_number_of_owners_finds_none_of_them_in_the_place_of_its_own() {
        let plan = Plan::for_cells(4);
        let mem = made(&plan);
        let cells = Cells::new(&mem, &plan);
        cells.activate(0).expect("free");
        assert_eq!(take(&cells), Some(1));
        let words = || [cells.health(1), cells.verdict(1), cells.lease(1)].map(|word| word.expect("a cell"));
        let first = words();
        cells.give_back(&[1]).expect("inside");
        let mut owners = 0;
        while let Some(cell) = take(&cells) {
            assert!(cell != 1 || words().iter().zip(first).all(|(&word, first)| word != first), "owner {owners}");
            cells.give_back(&[cell]).expect("inside");
            owners += 1;
        }
        assert_eq!((owners, cells.retired(), cells.used()), (3 * 65_535 - 1, Ok(3), Ok(0)));
        assert!(matches!(cells.take(1, 0), Ok(None)), "and again");
        // Another worker comes, and that one lives on.
        cells.activate(1).expect("free");
        assert_eq!((take(&cells), cells.retired()), (None, Ok(3)));
        cells.deactivate(0).expect("inside");
        assert_eq!(cells.retired(), Ok(0));
        let mut all: Vec<u32> = (0..3).filter_map(|_| take(&cells)).collect();
        all.sort_unstable();
        assert_eq!((all, take(&cells)), (vec![1, 2, 3], None));
        assert_eq!((cells.generation(1), cells.returns(1)), (Ok(1), Ok(1)));
    }

    #[test]
    fn a_worker_that_begins_in_the_slot_of_one_that_ended_keeps_no_cell_waiting() {
        let plan = Plan::for_cells(3);
        let mem = made(&plan);
        let cells = Cells::new(&mem, &plan);
        cells.activate(0).expect("free");
        let taken = cells.take(2, 0).expect("sound").expect("free");
        use_up(&cells, 1);
        cells.give_back(&taken).expect("inside");
        assert_eq!([(); 2].map(|()| take(&cells)), [Some(2), None]);
        cells.activate(0).expect("free");
        assert_eq!((take(&cells), take(&cells)), (Some(1), None));
    }

    #[test]
    fn where_a_process_without_a_slot_may_hold_on_to_a_peer_no_cell_comes_back_before_all_have_ended() {
        let plan = Plan::for_cells(2);
        let mem = made(&plan);
        let cells = Cells::new(&mem, &plan);
        assert_eq!(take(&cells), Some(1));
        use_up(&cells, 1);
        cells.goes_unnumbered().expect("inside");
        cells.give_back(&[1]).expect("inside");
        cells.activate(0).expect("free");
        cells.deactivate(0).expect("inside");
        assert_eq!((take(&cells), cells.retired()), (None, Ok(1)));
        cells.all_are_numbered().expect("inside");
        assert_eq!((take(&cells), cells.retired()), (Some(1), Ok(0)));
    }

    #[test]
    fn a_repair_neither_loses_a_retired_cell_nor_gives_it_away_too_early() {
        let plan = Plan::for_cells(3);
        let mem = made(&plan);
        let cells = Cells::new(&mem, &plan);
        cells.activate(0).expect("free");
        let taken = cells.take(2, 0).expect("sound").expect("free");
        taken.iter().for_each(|&cell| use_up(&cells, cell));
        // Its writer dies before it gives them back, and a repair does so.
        cells.rebuild(&CellMarks::new(&plan)).expect("inside");
        assert_eq!((cells.used(), take(&cells), cells.retired()), (Ok(0), None, Ok(2)));
        cells.activate(1).expect("free");
        cells.deactivate(0).expect("inside");
        // Another one dies when it has brought one back, and before that has begun anew.
        cells.bring_back(1).expect("inside");
        cells.rebuild(&CellMarks::new(&plan)).expect("inside");
        assert_eq!((take(&cells), cells.retired()), (Some(2), Ok(1)), "that one waits once more");
        cells.deactivate(1).expect("inside");
        assert_eq!((take(&cells), cells.returns(1), cells.generation(1)), (Some(1), Ok(2), Ok(1)));
    }

    #[test]
    fn a_cell_that_was_never_taken_takes_no_memory_by_a_look_for_a_free_one() {
        let plan = Plan::for_cells(100_000);
        let made = made(&plan);
        let mem = Scarce { mem: &made, from: Cell::new(usize::MAX), asked: Cell::new(0) };
        let cells = Cells::new(&mem, &plan);
        assert_eq!(cells.take(100_000, 0).expect("sound"), None);
        assert_eq!((cells.retired(), mem.asked.get()), (Ok(0), 0));
    }

    #[test]
    fn a_cell_with_open_connections_is_not_taken_and_is_found_again() {
        let plan = Plan::for_cells(8);
        let mem = made(&plan);
        let cells = Cells::new(&mem, &plan);
        cells.activate(3).expect("inside");
        assert_eq!([(); 2].map(|()| take(&cells)), [Some(1), Some(2)]);
        count(&cells, 3, 1, 1);
        cells.give_back(&[1]).expect("inside");
        assert_eq!(take(&cells), Some(3), "not 1");
        assert_eq!(take(&cells), Some(4), "nor now");
        count(&cells, 3, 1, -1);
        assert_eq!(take(&cells), Some(1), "it has ended");
        count(&cells, 3, 2, 5);
        cells.give_back(&[2]).expect("inside");
        cells.deactivate(3).expect("inside");
        assert_eq!(take(&cells), Some(2), "the worker has ended");
    }

    #[test]
    fn however_many_wait_for_their_connections_none_is_lost() {
        let plan = Plan::for_cells(1000);
        let mem = made(&plan);
        let cells = Cells::new(&mem, &plan);
        cells.activate(0).expect("inside");
        let first: Vec<u32> = (0..300).filter_map(|_| take(&cells)).collect();
        for &cell in &first {
            count(&cells, 0, cell, 1);
            cells.give_back(&[cell]).expect("inside");
        }
        let more: Vec<u32> = (0..300).filter_map(|_| take(&cells)).collect();
        assert!(more.iter().eq((301..601).collect::<Vec<_>>().iter()), "{more:?}");
        first.iter().for_each(|&cell| count(&cells, 0, cell, -1));
        assert_eq!((0..1000).filter_map(|_| take(&cells)).count(), 699);
        assert_eq!(cells.used(), Ok(999));
    }

    #[test]
    fn changes_beside_connections_that_end_take_no_more_and_more_cells() {
        let plan = Plan::for_cells(10_000);
        let mem = made(&plan);
        let cells = Cells::new(&mem, &plan);
        cells.activate(0).expect("inside");
        let mut now = take(&cells).expect("free");
        for _ in 0..5000 {
            // One takes the place of another, whose last request is over when the next change comes.
            count(&cells, 0, now, 1);
            let next = take(&cells).expect("free");
            cells.give_back(&[now]).expect("inside");
            let last = std::mem::replace(&mut now, take(&cells).expect("free"));
            cells.give_back(&[next]).expect("inside");
            count(&cells, 0, last, -1);
        }
        let last = (1..10_000).filter(|&cell| cells.health(cell) != Ok(0)).max();
        assert!(last < Some(10), "{last:?}");
    }

    #[test]
    fn a_sum_is_that_of_the_active_slots_and_a_row_begins_at_0() {
        let plan = Plan::for_cells(2000);
        let mem = made(&plan);
        let cells = Cells::new(&mem, &plan);
        (0..1999).for_each(|_| assert!(take(&cells).is_some()));
        let last = SLOTS as u32 - 1;
        for slot in [0, 63, 64, last] {
            cells.activate(slot).expect("inside");
            count(&cells, slot, 1999, 2);
            count(&cells, slot, 1998, 1);
        }
        assert_eq!((cells.active(), cells.open(1999), cells.open(1998)), (Ok(vec![0, 63, 64, last]), Ok(8), Ok(4)));
        count(&cells, 5, 1999, 9);
        cells.deactivate(64).expect("inside");
        assert_eq!(
            (cells.open(1999), cells.open_of(64, 1999)),
            (Ok(6), Ok(2)),
            "neither before nor after it is active"
        );
        cells.activate(64).expect("inside");
        assert_eq!((cells.open(1999), cells.open_of(64, 1999)), (Ok(6), Ok(0)));
        assert_eq!((cells.open(1997), cells.open(2)), (Ok(0), Ok(0)));
        count(&cells, 0, 1997, -1);
        assert_eq!(cells.open(1997), Ok(0), "there is no less than none");
    }

    /// Memory of which there may be no more, and which counts how often it was asked for.
    struct Scarce<'a> {
        mem: &'a Mem,
        /// There is none from this word on.
        from: Cell<usize>,
        asked: Cell<usize>,
    }

    impl Memory for Scarce<'_> {
        type Word = <Mem as Memory>::Word;

        fn slice(&self, index: usize, len: usize) -> Result<&[Self::Word], Damaged> {
            self.mem.slice(index, len)
        }

        fn word(&self, index: usize) -> Result<&Self::Word, Damaged> {
            self.mem.word(index)
        }

        fn words(&self) -> usize {
            self.mem.words()
        }

        fn reserve(&self, index: usize, words: usize) -> io::Result<()> {
            self.asked.set(self.asked.get() + 1);
            if index + words > self.from.get() { Err(io::Error::from_raw_os_error(libc::ENOSPC)) } else { Ok(()) }
        }
    }

    #[test]
    fn where_there_is_no_memory_nothing_is_counted_and_nothing_is_an_error() {
        let plan = Plan::for_cells(3 * CHUNK * ROW_NUMBERS);
        let made = made(&plan);
        let (first, last) = (1, 2 * CHUNK as u32 * ROW_NUMBERS as u32);
        let mem = Scarce { mem: &made, from: Cell::new(plan.rows_at + plan.row + CHUNK), asked: Cell::new(0) };
        let cells = Cells::new(&mem, &plan);
        cells.activate(1).expect("inside");
        assert_eq!((cells.count_in(1, first, true), cells.count_in(1, last, true)), (Ok(true), Ok(false)));
        assert_eq!((cells.open(first), cells.open(last)), (Ok(1), Ok(0)));
        assert_eq!(cells.count_in(1, last, false), Ok(false));
        assert_eq!(
            cells.take(1, 0).expect("there is memory for the cell"),
            Some(vec![2]),
            "the first has a connection"
        );
        mem.from.set(usize::MAX);
        assert_eq!((cells.count_in(1, last, true), cells.open(last)), (Ok(true), Ok(1)));
        assert_eq!((cells.count_in(1, last, false), cells.open(last)), (Ok(true), Ok(0)));
    }

    #[test]
    fn where_nobody_has_counted_a_look_and_a_worker_s_start_ask_for_no_memory() {
        let plan = Plan::for_cells(100_000);
        let made = made(&plan);
        let mem = Scarce { mem: &made, from: Cell::new(0), asked: Cell::new(0) };
        let cells = Cells::new(&mem, &plan);
        [0, 1, SLOTS as u32 - 1].iter().for_each(|&slot| cells.activate(slot).expect("inside"));
        assert!((0..100_000).all(|cell| cells.open(cell) == Ok(0)));
        assert_eq!(mem.asked.get(), 0);
    }

    /// Memory beside which somebody does ill: what a fence would order, and what is replaced, it spoils.
    struct Haunted<'a> {
        mem: &'a Mem,
        /// Counted in, by the first slot, at each fence.
        at: usize,
    }

    impl Memory for Haunted<'_> {
        type Word = <Mem as Memory>::Word;

        fn slice(&self, index: usize, len: usize) -> Result<&[Self::Word], Damaged> {
            self.mem.slice(index, len)
        }

        fn word(&self, index: usize) -> Result<&Self::Word, Damaged> {
            self.mem.word(index)
        }

        fn words(&self) -> usize {
            self.mem.words()
        }

        fn reserve(&self, index: usize, words: usize) -> io::Result<()> {
            self.mem.reserve(index, words)
        }

        fn replace(&self, _: usize, _: u64, _: u64) -> Result<bool, Damaged> {
            Ok(false)
        }

        fn fence(&self) {
            let free = (self.at..).find(|&at| self.mem.load(at) == Ok(0)).expect("one is");
            self.mem.store(free, 1 << 32 | 1).expect("inside");
        }
    }

    #[test]
    fn who_means_it_ends_in_an_error_and_not_in_a_wait_without_end() {
        let plan = Plan::for_cells(1000);
        let made = made(&plan);
        let sound = Cells::new(&made, &plan);
        sound.activate(0).expect("free");
        count(&sound, 0, 1, 1);
        let mem = Haunted { mem: &made, at: plan.rows_at };
        let haunted = Cells::new(&mem, &plan);
        assert!(matches!(haunted.take(1, 0), Err(Untaken::Unread(Unread::Changing))));
        assert_eq!((haunted.activate(1), haunted.deactivate(0)), (Err(Unread::Changing), Err(Unread::Changing)));
        assert_eq!((haunted.deactivate(1), sound.used()), (Ok(()), Ok(0)));
        assert!(take(&sound) > Some(16));
    }

    #[test]
    fn what_is_outside_is_damage() {
        let plan = Plan::for_cells(100);
        let mem = made(&plan);
        let cells = Cells::new(&mem, &plan);
        for cell in [0, 100, 101, u32::MAX] {
            assert_eq!(cells.health(cell), Err(Damaged), "{cell}");
            assert_eq!(cells.set_health(cell, 0, 1), Err(Damaged));
            assert_eq!(cells.give_back(&[cell]), Err(Damaged));
        }
        for (slot, cell) in [(0, 100), (0, u32::MAX), (SLOTS as u32, 1), (u32::MAX, 1)] {
            assert_eq!(cells.count_in(slot, cell, true), Err(Damaged), "{slot} {cell}");
            assert_eq!(cells.open_of(slot, cell), Err(Damaged));
        }
        assert_eq!((cells.open(99), cells.used()), (Ok(0), Ok(0)));
        let mut marks = CellMarks::new(&plan);
        [0, 7, 7, 99, 100, 127, 128, u32::MAX].iter().for_each(|&cell| marks.mark(cell));
        cells.rebuild(&marks).expect("inside");
        assert_eq!(cells.used(), Ok(2));
    }

    #[test]
    fn a_repair_that_finds_all_in_order_changes_nothing_but_where_the_search_begins() {
        let plan = Plan::for_cells(300);
        let mem = made(&plan);
        let cells = Cells::new(&mem, &plan);
        let mut marks = CellMarks::new(&plan);
        (0..200).filter_map(|_| take(&cells)).for_each(|cell| marks.mark(cell));
        let words =
            || (0..plan.rows_at).filter(|&at| at != word::LOWEST_FREE).map(|at| mem.load(at)).collect::<Vec<_>>();
        let before = words();
        cells.rebuild(&marks).expect("inside");
        assert!(before == words());
        assert_eq!(take(&cells), Some(201));
    }

    #[test]
    fn the_plan_has_room_for_what_it_says() {
        for size in [256 << 10, 1 << 20, 128 << 20, 4u64 << 30] {
            let plan = Plan::of(size);
            assert!(
                plan.cells_at + plan.count * CELL <= plan.rows_at && plan.row * ROW_NUMBERS >= plan.count,
                "{plan:?}"
            );
            assert!(plan.bits_at + plan.count.div_ceil(64) <= plan.backed_at, "{plan:?}");
            assert!(plan.backed_at + SLOTS * plan.backed <= plan.cells_at, "{plan:?}");
            assert!(plan.backed * 64 * CHUNK >= plan.row && plan.row.is_multiple_of(CHUNK), "{plan:?}");
            assert!(plan.bytes().is_multiple_of(PAGE) && plan.rows_at.is_multiple_of(CHUNK), "{plan:?}");
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Take,
        GiveBack(usize),
        Open(u32, usize),
        Close(usize),
        Activate(u32),
        Deactivate(u32),
        Rebuild,
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let slot = || prop_oneof![Just(0), Just(1), Just(64), Just(SLOTS as u32 - 1)];
        prop::collection::vec(
            prop_oneof![
                5 => Just(Op::Take),
                4 => any::<usize>().prop_map(Op::GiveBack),
                5 => (slot(), any::<usize>()).prop_map(|(slot, at)| Op::Open(slot, at)),
                4 => any::<usize>().prop_map(Op::Close),
                1 => slot().prop_map(Op::Activate),
                1 => slot().prop_map(Op::Deactivate),
                1 => Just(Op::Rebuild),
            ],
            0..150,
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn is_its_model(size in 2usize..80, ops in ops()) {
            let plan = Plan::for_cells(size);
            let mem = made(&plan);
            let cells = Cells::new(&mem, &plan);
            let mut taken = BTreeSet::new();
            let mut open: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
            let sum = |open: &BTreeMap<u32, Vec<u32>>, cell| open.values().flatten().filter(|&&other| other == cell).count() as u64;
            for op in ops {
                match op {
                    Op::Take => {
                        let free = (1..size as u32).any(|cell| !taken.contains(&cell) && sum(&open, cell) == 0);
                        let cell = take(&cells);
                        prop_assert_eq!(cell.is_some(), free);
                        if let Some(cell) = cell {
                            prop_assert!((1..size as u32).contains(&cell) && sum(&open, cell) == 0);
                            prop_assert!(taken.insert(cell), "{} twice", cell);
                        }
                    }
                    Op::GiveBack(at) if !taken.is_empty() => {
                        let cell = *taken.iter().nth(at % taken.len()).expect("below");
                        taken.remove(&cell);
                        cells.give_back(&[cell]).expect("inside");
                    }
                    Op::Open(slot, at) if open.contains_key(&slot) && !taken.is_empty() => {
                        let cell = *taken.iter().nth(at % taken.len()).expect("below");
                        open.get_mut(&slot).expect("active").push(cell);
                        count(&cells, slot, cell, 1);
                    }
                    Op::Close(at) => {
                        let some: Vec<u32> = open.iter().filter(|(_, cells)| !cells.is_empty()).map(|(&slot, _)| slot).collect();
                        if !some.is_empty() {
                            let slot = some[at % some.len()];
                            let held = open.get_mut(&slot).expect("active");
                            count(&cells, slot, held.swap_remove(at % held.len()), -1);
                        }
                    }
                    Op::Activate(slot) => {
                        open.insert(slot, Vec::new());
                        cells.activate(slot).expect("inside");
                    }
                    Op::Deactivate(slot) => {
                        open.remove(&slot);
                        cells.deactivate(slot).expect("inside");
                    }
                    Op::Rebuild => {
                        let mut marks = CellMarks::new(&plan);
                        taken.iter().for_each(|&cell| marks.mark(cell));
                        cells.rebuild(&marks).expect("inside");
                    }
                    _ => {}
                }
                prop_assert_eq!(cells.used(), Ok(taken.len() as u64));
                prop_assert_eq!(cells.active(), Ok(open.keys().copied().collect()));
                for cell in 1..size as u32 {
                    prop_assert_eq!(cells.open(cell), Ok(sum(&open, cell)));
                }
                let some: Vec<u32> = (1..size as u32).filter(|cell| cell % 7 != 3).collect();
                let busy = some.iter().copied().filter(|&cell| sum(&open, cell) != 0).collect();
                prop_assert_eq!(cells.busy(&some), Ok(busy));
            }
        }

        #[test]
        fn whatever_was_spoiled_there_is_an_answer(
            size in 2usize..200,
            spoiled in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u64>(), Just(u64::MAX), Just(0), 0u64..300]), 1..20),
            header in prop::collection::vec((0..word::HEADER + 4, prop_oneof![any::<u64>(), Just(u64::MAX), 0u64..300]), 0..8),
        ) {
            let plan = Plan::for_cells(size);
            let mem = made(&plan);
            let cells = Cells::new(&mem, &plan);
            [0, 1, SLOTS as u32 - 1].iter().for_each(|&slot| cells.activate(slot).expect("inside"));
            let held: Vec<u32> = (0..size / 2).filter_map(|_| take(&cells)).collect();
            for (at, value) in spoiled {
                mem.store(at.index(plan.rows_at + plan.row), value).expect("inside");
            }
            for (at, value) in header {
                mem.store(at, value).expect("inside");
            }
            for cell in 0..size as u32 + 2 {
                let inside = (1..size as u32).contains(&cell);
                prop_assert_eq!(cells.health(cell).is_ok(), inside);
                prop_assert_eq!(cells.open(cell).is_ok(), (cell as usize) < size || cells.active() == Ok(vec![]));
                prop_assert_eq!(cells.count_in(1, cell, true).is_ok(), (cell as usize) < size);
            }
            for _ in 0..10 {
                if let Ok(Some(cell)) = cells.take(1, 0) {
                    prop_assert!((1..size as u32).contains(&cell[0]));
                }
            }
            held.iter().for_each(|&cell| cells.give_back(&[cell]).expect("inside"));
            cells.activate(5).expect("inside");
            let (_, _) = (cells.used(), cells.active());
            let mut marks = CellMarks::new(&plan);
            marks.mark(1);
            cells.rebuild(&marks).expect("inside");
            prop_assert_eq!(cells.used(), Ok(1));
        }
    }
}
