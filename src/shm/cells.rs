//! Cells: the words of one peer that all processes write, in a mapping of its own beside the region.
//!
//! - [`plan`]: where everything lies in that file
//! - [`words`]: the words of its header and of a cell
//! - [`take`]: how a writer takes cells and gives them back
//! - `rows`: open connections
//! - [`deleted`]: peers that were deleted while connections were open to them
//!
//! A *cell* has a fixed place and type. Under the writer lock a writer takes one for each new peer. The peer keeps it through all
//! versions of its upstream, and the snapshot has its number. Its first word is the peer's health, which any process changes by
//! compare-and-swap. That word counts how often the cell was taken. So a process that holds on to a deleted peer changes nothing of
//! the peer that has the cell next.
//!
//! The count has sixteen bits. A worker that was stopped may wake and hold on to any peer that a cell ever had. So a cell whose bits
//! are used up is *retired* when its peer goes. No peer gets it until each worker that lived then has ended. Then it begins again
//! from 1. Workers are numbered as they begin, so a cell remembers one number: the least of the workers that began later. A process
//! without a slot has no number. Once such a process has picked, no cell comes back before all processes have ended. Where a writer
//! dies before it has retired a cell, the next writer in search of a free one does so.
//!
//! Open connections are counted by *rows*. Each worker slot has a row with a number for each cell, and only the worker in that slot
//! writes there. The connections of a peer are the sum over the active slots; those of a dead worker go with its slot. So no count
//! can drift: living processes keep it. A cell that was given back is not taken again before its sum is 0.
//!
//! Most words of the rows are never written and have no memory. A worker reserves a part of its row when it first counts there,
//! begins that part at 0, and says so by a bit. Where the bit is not set, all numbers are 0. No process looks at them, since a
//! look at an untouched page would take memory too. A worker that finds no memory serves on and does not count.
//!
//! Nothing here needs to survive. A lost or spoiled file is made anew, with every count at 0 and every peer well.
pub mod deleted;
pub mod plan;
mod rows;
pub mod take;
#[cfg(test)]
mod tests;
pub mod words;

pub use plan::{CHUNK, Plan, title};
pub use take::{CellMarks, Untaken};
pub use words::{BITS_OF_A_CELL, GENERATION_SHIFT, Turn, USABLE_WORDS, begin};

use super::memory::{Damaged, Memory};
use words::header;

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
    /// The cells in `mem`.
    #[inline(always)]
    pub fn new(mem: &'a M, plan: &'a Plan) -> Self {
        Cells { mem, plan }
    }

    /// How many there are, with number 0, which no peer has.
    pub fn count(&self) -> usize {
        self.plan.count
    }

    /// Where they lie.
    pub fn plan(&self) -> &'a Plan {
        self.plan
    }

    /// Writes the header of a new file, in which all else is 0.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the header does not fit into the memory.
    pub fn write_header(&self, title: &[u64]) -> Result<(), Damaged> {
        self.mem.store_all(header::TITLE, title)?;
        self.mem.store(header::LOWEST_FREE, 1)
    }

    /// Whether no peer has this cell.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such cell, or its bit lies outside of the memory.
    pub fn is_free(&self, cell: u32) -> Result<bool, Damaged> {
        self.health_at(cell)?;
        Ok(self.mem.load(self.plan.bits_at + cell as usize / 64)? >> (cell % 64) & 1 == 0)
    }
}
