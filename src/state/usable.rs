//! Which peers of an upstream are usable: one bit a peer, which all workers share, so that no pick walks over peers that are out.
//!
//! The bits of 128 ranks (`table/ranks.rs`) lie in four words of the cell of the first of them. Each word has 32 of
//! them, below the number of their version. In a word of another version, all bits count as set. So a writer that publishes
//! does not touch them. A worker that slept changes no bits of another version: numbers of versions come again only after 2^32
//! changes.
//!
//! A set bit means "look at the cell". The pick that finds such a peer out clears its bit. The worker that brings the peer back
//! sets it again. So does a look at all cells, which a pick makes ten times a second while bits are cleared
//! (`balance/usable.rs`). A worker that clears stores first and then looks at the cell once more. A worker that brings back
//! changes the cell first and then stores. So one of two that do so at once sees the other.

use crate::shm::cells::BITS_OF_A_CELL;
use crate::shm::versioned::TRIES;
use crate::shm::{Cells, Damaged, Memory};

/// Ranks whose bits lie in one cell.
pub const BLOCK: u32 = BITS_OF_A_CELL;

/// Ranks whose bits lie in one word.
pub const WORD: u32 = u32::BITS;

/// Where the bit of a peer lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bit {
    /// The cell; 0: the peer has no bit, and counts as usable.
    host: u32,
    word: u32,
    mask: u32,
    version: u32,
}

impl Bit {
    /// That of a rank in a version, where `host` has the bits of its block; 0: no cell has.
    pub fn of_rank(host: u32, rank: u32, version: u32) -> Bit {
        Bit { host, word: rank % BLOCK / WORD, mask: 1 << (rank % WORD), version }
    }

    /// Sets or clears it; whether that changed it. Bits of a later version stay as they are.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such cell, or its word lies outside of the memory.
    pub fn set(self, cells: &Cells<'_, impl Memory>, usable: bool) -> Result<bool, Damaged> {
        if self.host == 0 {
            return Ok(false);
        }
        // With each time that it is in vain, another worker has changed the bit of a neighbour.
        for _ in 0..TRIES {
            let old = cells.usable(self.host, self.word)?;
            let Some(bits) = bits_to_change(old, self.version) else { return Ok(false) };
            let new = if usable { bits | self.mask } else { bits & !self.mask };
            if new == bits {
                return Ok(false);
            }
            if cells.set_usable(self.host, self.word, old, joined(self.version, new))? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The word of these bits of a version.
pub fn joined(version: u32, bits: u32) -> u64 {
    u64::from(version) << 32 | u64::from(bits)
}

/// The bits of a version in a word, before a change of them. `None`: they are of a later one.
pub fn bits_to_change(word: u64, version: u32) -> Option<u32> {
    let its = (word >> 32) as u32;
    match its == version {
        true => Some(word as u32),
        false => (its.wrapping_sub(version) as i32 <= 0 || word == 0).then_some(u32::MAX),
    }
}

/// The bits of a version in a word.
#[inline(always)]
pub fn bits_of(word: u64, version: u32) -> u32 {
    if (word >> 32) as u32 == version { word as u32 } else { u32::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::cells::USABLE_WORDS;

    #[test]
    fn a_word_of_a_later_version_is_left_alone_and_one_of_an_earlier_is_not() {
        assert_eq!(bits_to_change(joined(7, 5), 7), Some(5));
        assert_eq!(bits_to_change(joined(6, 5), 7), Some(u32::MAX));
        assert_eq!(bits_to_change(joined(8, 5), 7), None);
        assert_eq!(bits_to_change(0, u32::MAX), Some(u32::MAX));
        assert_eq!((bits_of(joined(7, 5), 7), bits_of(joined(8, 5), 7)), (5, u32::MAX));
        assert_eq!(USABLE_WORDS * WORD, BLOCK);
    }
}
