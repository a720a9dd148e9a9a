//! The bits of the usable peers of a group ([`crate::state::usable`]), read and put right.

use crate::shm::{Cells, Damaged, Memory};
use crate::state::usable::{BLOCK, Bit, WORD, bits_of, bits_to_change, joined};
use crate::table::ranks::Ranks;
use crate::table::snapshot::{Group, View};

/// The ranks of one group in one version, and their bits.
#[derive(Clone, Copy, Debug)]
pub struct Bits<'a, M, C> {
    /// Where the version lies.
    pub mem: &'a M,
    /// The version.
    pub view: &'a View,
    /// Where the bits lie; `None`: all peers are usable.
    pub cells: Option<Cells<'a, C>>,
    /// The group.
    pub group: Group,
    /// Those that are left out, a bit a rank; where it ends, none is.
    pub without: &'a [u32],
}

impl<M: Memory, C: Memory> Bits<'_, M, C> {
    pub(super) fn ranks(&self) -> &Ranks {
        &self.view.ranks[self.group as usize]
    }

    /// The peer with a rank.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the rank leads outside of the version or of its peers.
    pub fn peer(&self, rank: u32) -> Result<u32, Damaged> {
        self.ranks().peer(self.mem, self.view, rank)
    }

    fn word(&self, host: u32, word: u32) -> Result<u32, Damaged> {
        match self.cells {
            Some(cells) if host != 0 => Ok(bits_of(cells.usable(host, word)?, self.view.version as u32)),
            _ => Ok(u32::MAX),
        }
    }

    /// Calls `each` with the first rank of each word that has some of these ranks, and with their bits, until it answers something.
    fn words<T>(
        &self,
        first: u32,
        until: u32,
        mut each: impl FnMut(u32, u32) -> Option<T>,
    ) -> Result<Option<T>, Damaged> {
        let mut rank = first;
        while rank < until {
            let base = rank / WORD * WORD;
            let host = self.ranks().host(self.mem, rank / BLOCK)?;
            let without = self.without.get((base / WORD) as usize).copied().unwrap_or_default();
            let mut bits = self.word(host, rank % BLOCK / WORD)? & !without & u32::MAX << (rank % WORD);
            if until - base < WORD {
                bits &= (1 << (until - base)) - 1;
            }
            if let Some(found) = each(base, bits) {
                return Ok(Some(found));
            }
            rank = base + WORD;
        }
        Ok(None)
    }

    pub(super) fn count(&self, first: u32, until: u32) -> Result<u32, Damaged> {
        if self.cells.is_none() {
            return Ok(until - first);
        }
        let mut count = 0;
        self.words(first, until, |_, bits| {
            count += bits.count_ones();
            None::<()>
        })?;
        Ok(count)
    }

    /// The rank of set bit number `nth` of these ranks.
    pub(super) fn select(&self, first: u32, until: u32, mut nth: u32) -> Result<Option<u32>, Damaged> {
        if self.cells.is_none() {
            return Ok(Some(first + nth).filter(|&rank| rank < until));
        }
        self.words(first, until, |base, mut bits| {
            let count = bits.count_ones();
            if nth >= count {
                nth -= count;
                return None;
            }
            // Clears the lowest as often.
            (0..nth).for_each(|_| bits &= bits - 1);
            Some(base + bits.trailing_zeros())
        })
    }

    /// The peers of these ranks whose bits are set.
    pub(super) fn peers(&self, first: u32, until: u32) -> impl Iterator<Item = Result<u32, Damaged>> {
        let mut next = first;
        std::iter::from_fn(move || {
            while next < until {
                let end = until.min((next / WORD + 1) * WORD);
                match self.select(next, end, 0) {
                    Ok(Some(rank)) => {
                        next = rank + 1;
                        return Some(self.peer(rank));
                    }
                    Ok(None) => next = end,
                    Err(damaged) => {
                        next = until;
                        return Some(Err(damaged));
                    }
                }
            }
            None
        })
    }

    /// Sets or clears each bit, by whether its peer is out by now. Answers whether that changed one.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the version makes no sense, or a cell with bits lies outside of the mapping. Those of `is_out`.
    pub fn put_right(&self, is_out: impl Fn(u32) -> Result<bool, Damaged>) -> Result<bool, Damaged> {
        let Some(cells) = self.cells else { return Ok(false) };
        let (members, version) = (self.ranks().members, self.view.version as u32);
        let mut changed = false;
        for base in (0..members).step_by(WORD as usize) {
            let host = self.ranks().host(self.mem, base / BLOCK)?;
            if host == 0 {
                continue;
            }
            let word = base % BLOCK / WORD;
            let old = cells.usable(host, word)?;
            let Some(bits) = bits_to_change(old, version) else { continue };
            let mut new = u32::MAX;
            for rank in base..members.min(base + WORD) {
                if is_out(self.peer(rank)?)? {
                    new &= !(1 << (rank - base));
                }
            }
            if new == bits || !cells.set_usable(host, word, old, joined(version, new))? {
                continue;
            }
            changed = true;
            self.mem.fence();
            // Peers that came back between the look and the store.
            let mut cleared = bits & !new;
            while cleared != 0 {
                let rank = base + cleared.trailing_zeros();
                if !is_out(self.peer(rank)?)? {
                    Bit::of_rank(host, rank, version).set(&cells, true)?;
                }
                cleared &= cleared - 1;
            }
        }
        Ok(changed)
    }
}
