//! How a writer takes cells for new peers, and gives back those of peers that are gone. It holds the writer lock.

use super::words::{CELL, GENERATION_SHIFT, Rest, begin, cell, header, is_used_up};
use super::{Cells, Plan};
use crate::shm::memory::{Damaged, Memory};
use crate::shm::versioned::{TRIES, Unread};
use std::io;
use std::ops::Range;

/// Free cells with open connections that a writer looks at again and again. Where there are more, it passes the first ones over
/// until there is no other cell.
const MOST_BUSY: usize = 64;

/// Why there are no cells for peers.
#[derive(Debug)]
pub enum Untaken {
    /// There is no memory for them.
    NoMemory(io::Error),
    /// Their words make no sense, or change at each look.
    Unread(Unread),
}

impl From<Damaged> for Untaken {
    fn from(damaged: Damaged) -> Self {
        Untaken::Unread(damaged.into())
    }
}

/// The cells that a search for free ones has met.
#[derive(Default)]
struct Search {
    /// Free cells with open connections.
    busy: usize,
    /// The first of them.
    lowest: Option<u32>,
    /// The cell behind the last that was looked at.
    next: u32,
    /// The least number of a live worker, once it was asked for.
    eldest: Option<u64>,
}

impl<M: Memory> Cells<'_, M> {
    /// Takes `count` cells, or none and answers `None` where there are fewer. Their verdicts begin with these bits below the
    /// generation.
    ///
    /// # Errors
    ///
    /// [`Untaken::NoMemory`]: there is no memory for the cells.
    /// [`Untaken::Unread`]: workers count in the free cells at each of [`TRIES`] tries, or a word lies outside of the memory.
    pub fn take(&self, count: usize, verdict: u64) -> Result<Option<Vec<u32>>, Untaken> {
        for _ in 0..TRIES {
            let Some((cells, lowest)) = self.find_free(count)? else { return Ok(None) };
            let end = cells.iter().max().map_or(0, |&last| u64::from(last) + 1);
            self.mem.amend(header::UNTOUCHED, self.mem.load(header::UNTOUCHED)?.max(end))?;
            for &cell in &cells {
                let at = self.plan.cells_at + cell as usize * CELL;
                self.mem.reserve(at, CELL).map_err(Untaken::NoMemory)?;
            }
            if self.begin(&cells, verdict)? {
                self.set_bits(&cells, true)?;
                self.mem.amend(header::LOWEST_FREE, lowest.into())?;
                return Ok(Some(cells));
            }
        }
        // A worker that counts in free cells again and again is hostile.
        Err(Untaken::Unread(Unread::Changing))
    }

    /// Has the health of free cells begin anew. A worker that slept since it picked one of their last peers has counted by now, or
    /// sees that the cell is another's ([`crate::balance::attempt`]). False: a worker has counted, and its cell waits.
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

    /// Ends the retirement of a cell. A writer that dies before the cell begins anew leaves it to be retired once more.
    pub(super) fn bring_back(&self, cell: u32) -> Result<(), Damaged> {
        // Its generations begin again, and no word may look as if it were of one of them.
        for word in cell::KEPT {
            self.mem.store(self.word_at(cell, word)?, 0)?;
        }
        let at = self.word_at(cell, cell::REST)?;
        self.mem.store(at, Rest(self.mem.load(at)?).back().0)?;
        // No word of the cell begins anew before that.
        self.mem.fence();
        Ok(())
    }

    /// Whether a free cell is retired, and a worker lives that lived when its last peer went.
    fn is_retired(&self, cell: u32, eldest: &mut Option<u64>) -> Result<bool, Damaged> {
        let Some(until) = self.retire(cell)? else { return Ok(false) };
        let eldest = match *eldest {
            Some(number) => number,
            None => *eldest.insert(self.eldest()?),
        };
        Ok(eldest < until)
    }

    /// Retires a free cell if its bits are used up. Answers the least number that live workers have when it comes back; `None`: it is
    /// not retired.
    fn retire(&self, cell: u32) -> Result<Option<u64>, Damaged> {
        if u64::from(cell) >= self.mem.load(header::UNTOUCHED)? || !self.is_used_up(cell)? {
            return Ok(None);
        }
        let at = self.word_at(cell, cell::REST)?;
        let mut rest = Rest(self.mem.load(at)?);
        if rest.until() == 0 {
            // Each process that may hold on to its peer has a number by now, or has said that it has none.
            self.mem.fence();
            rest = rest.retired(self.mem.load(header::WORKERS)?.saturating_add(1));
            self.mem.store(at, rest.0)?;
        }
        Ok(Some(rest.until()))
    }

    fn is_used_up(&self, cell: u32) -> Result<bool, Damaged> {
        let at = self.health_at(cell)?;
        // As every page that is touched; where there is none, no peer ever had the cell.
        Ok(self.mem.reserve(at, 1).is_ok() && is_used_up(self.mem.load(at)?))
    }

    /// The least number of the workers that live or whose death was not seen yet; 0: there may be one without a number.
    fn eldest(&self) -> Result<u64, Damaged> {
        // A worker says that it is there before it picks. The peers of free cells are gone from the table by now. So either the
        // worker has not picked one of them, or this writer sees the worker.
        self.mem.fence();
        if self.mem.load(header::UNNUMBERED)? != 0 {
            return Ok(0);
        }
        let mut eldest = u64::MAX;
        for slot in self.active()? {
            eldest = eldest.min(self.mem.load(header::NUMBER + slot as usize)?);
        }
        Ok(eldest)
    }

    /// How many free cells are retired, so that no peer can have them for now.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn retired(&self) -> Result<usize, Damaged> {
        let (mut count, mut eldest) = (0, None);
        let untouched = self.mem.load(header::UNTOUCHED)?.min(self.plan.count as u64) as u32;
        for cell in 1..untouched {
            count += usize::from(self.is_free(cell)? && self.is_retired(cell, &mut eldest)?);
        }
        Ok(count)
    }

    fn begin_probes(&self, cell: u32, begun: u64, verdict: u64) -> Result<(), Damaged> {
        self.mem.store(self.word_at(cell, cell::VERDICT)?, begun | verdict)?;
        self.mem.store(self.word_at(cell, cell::LEASE)?, begun)
    }

    /// Has the verdict of a peer begin anew, with these bits below the generation, as for a new peer. A worker that is probing it
    /// finds another lease.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such cell, or its words lie outside of the memory.
    pub fn forget_probes(&self, cell: u32, verdict: u64) -> Result<(), Damaged> {
        let generation = self.mem.load(self.health_at(cell)?)? >> GENERATION_SHIFT << GENERATION_SHIFT;
        self.begin_probes(cell, generation, verdict)
    }

    /// Free cells without open connections, and where the next search begins.
    fn find_free(&self, count: usize) -> Result<Option<(Vec<u32>, u32)>, Damaged> {
        let from = (self.mem.load(header::LOWEST_FREE)?.max(1) as usize).min(self.plan.count);
        let (mut found, mut search) = (Vec::with_capacity(count.min(self.plan.count)), Search::default());
        self.find_free_in(from..self.plan.count, count, &mut found, &mut search)?;
        if found.len() < count {
            // Cells that were passed over earlier.
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
    ///
    /// # Errors
    ///
    /// [`Damaged`]: one of them is no cell, and nothing is changed; or a word lies outside of the memory.
    pub fn give_back(&self, cells: &[u32]) -> Result<(), Damaged> {
        let Some(&lowest) = cells.iter().min() else { return Ok(()) };
        cells.iter().try_for_each(|&cell| self.health_at(cell).map(|_| ()))?;
        // Now, so that workers that begin later keep no cell waiting.
        cells.iter().try_for_each(|&cell| self.retire(cell).map(|_| ()))?;
        self.set_bits(cells, false)?;
        let lowest = self.mem.load(header::LOWEST_FREE)?.min(u64::from(lowest));
        self.mem.amend(header::LOWEST_FREE, lowest)
    }

    /// Sets or clears the bits of cells, those of neighbours in one store.
    fn set_bits(&self, cells: &[u32], taken: bool) -> Result<(), Damaged> {
        for cells in cells.chunk_by(|one, next| one / 64 == next / 64) {
            let mask = cells.iter().fold(0, |mask, cell| mask | 1 << (cell % 64));
            let place = self.plan.bits_at + cells[0] as usize / 64;
            let bits = self.mem.load(place)?;
            self.mem.store(place, if taken { bits | mask } else { bits & !mask })?;
        }
        Ok(())
    }

    /// Sets the bitmap to `marks`: the end of a repair.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn rebuild(&self, marks: &CellMarks) -> Result<(), Damaged> {
        for (index, &bits) in marks.bits.iter().enumerate() {
            self.mem.amend(self.plan.bits_at + index, bits)?;
        }
        self.mem.amend(header::LOWEST_FREE, 1)
    }

    /// How many cells are taken.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn used(&self) -> Result<u64, Damaged> {
        let words = 0..self.plan.count.div_ceil(64);
        words.map(|index| Ok(u64::from(self.mem.load(self.plan.bits_at + index)?.count_ones()))).sum()
    }
}

/// The cells that a repair found in use.
#[derive(Debug)]
pub struct CellMarks {
    count: usize,
    bits: Vec<u64>,
}

impl CellMarks {
    /// Marks no cell yet.
    pub fn new(plan: &Plan) -> Self {
        CellMarks { count: plan.count, bits: vec![0; plan.count.div_ceil(64)] }
    }

    /// Marks a cell; a number that is no cell is passed over.
    pub fn mark(&mut self, cell: u32) {
        if cell != 0 && (cell as usize) < self.count {
            self.bits[cell as usize / 64] |= 1 << (cell % 64);
        }
    }
}
