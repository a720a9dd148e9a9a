//! Where everything lies in the file of cells. It follows from the size of the region, and nothing of it is read from the file.

use super::deleted;
use super::words::{CELL, header};
use crate::shm::layout::SLOTS;
use crate::shm::units::{PAGE, TITLE_WORDS, WORD};

/// First word of the file.
const MAGIC: u64 = u64::from_le_bytes(*b"dyups\0ce");

/// Layout number of this file alone. A file with another number is made anew; the table is not carried over for that.
const LAYOUT: u64 = 3;

/// Words that are reserved at a time: four pages.
pub const CHUNK: usize = 4 * PAGE / WORD;

/// Numbers of a row in a word.
pub(super) const ROW_NUMBERS: usize = 2;

/// Where everything lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Number of cells, with number 0, which no peer has.
    pub count: usize,
    pub(super) bits_at: usize,
    /// For each slot, one bit a chunk of its row: the chunk has memory, and began at 0 for the worker in the slot.
    pub(super) backed_at: usize,
    /// Words of these bits that a slot has.
    pub(super) backed: usize,
    pub(super) cells_at: usize,
    /// A multiple of [`CHUNK`], as a row is: a chunk that is reserved for one row is no part of another.
    pub(super) rows_at: usize,
    pub(super) row: usize,
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
        let bits_at = header::WORDS;
        let backed_at = bits_at + count.div_ceil(64);
        let cells_at = (backed_at + SLOTS * backed).next_multiple_of(page);
        let rows_at = (cells_at + count * CELL).next_multiple_of(CHUNK);
        Plan { count, bits_at, backed_at, backed, cells_at, rows_at, row }
    }

    /// Bytes of the file. Only the pages that are written take memory, and they are few.
    pub fn bytes(&self) -> usize {
        (self.deleted_at() + deleted::ENTRIES * deleted::ENTRY) * WORD
    }

    /// First word of the entries of deleted peers, behind the rows.
    pub(super) fn deleted_at(&self) -> usize {
        self.words_of_rows(SLOTS)
    }

    /// Words up to cell number `cell`: those that writers change for peers whose cells are before it.
    pub fn words_until(&self, cell: usize) -> usize {
        self.cells_at + cell * CELL
    }

    /// Words up to the row of slot number `slot`.
    pub fn words_of_rows(&self, slot: usize) -> usize {
        self.rows_at + slot * self.row
    }

    /// Words that are reserved when the file is mapped.
    pub fn words_in_advance(&self) -> usize {
        self.cells_at
    }

    /// Whether the word `at` is one of the numbers that workers count in.
    pub fn is_in_a_row(&self, at: usize) -> bool {
        (self.rows_at..self.deleted_at()).contains(&at)
    }
}

/// The words that say whose cells these are: of which layout, how many, beside the region with which inode, in which boot.
pub fn title(plan: &Plan, region: u64, boot: [u64; 2]) -> [u64; TITLE_WORDS] {
    [MAGIC, LAYOUT, plan.count as u64, region, boot[0], boot[1]]
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
