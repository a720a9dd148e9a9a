//! The weights of the usable peers of a group ([`crate::state::usable`]).
//!
//! A [`Set`] is a worker's copy of the weight of each run of ranks. It is valid while the upstream's count of changed bits
//! stays the same. So a pick costs the same with any number of peers, and with any number of them out.

use super::bits::Bits;
use crate::order::turns;
use crate::shm::{Damaged, Memory, Stamp};
use crate::state::usable::BLOCK;
use crate::table::snapshot::View;

/// Ranks side by side, of one weight, with bits in one cell.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// The weight of all runs up to this one.
    end: u64,
    first: u32,
    until: u32,
    weight: u32,
}

/// A peer that a number leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lot {
    /// Its rank.
    pub rank: u32,
    /// The first number that leads to it.
    pub from: u64,
    /// How many numbers do: its weight.
    pub weight: u64,
}

/// A worker's copy of the usable peers of a group.
#[derive(Debug, Default)]
pub struct Set {
    /// The version that it is of, and the count of changed bits then.
    of: Option<(Stamp, u64, u64)>,
    runs: Vec<Run>,
    /// The weight of all usable peers.
    pub total: u64,
    /// The number of usable peers.
    pub count: u32,
    /// All members of the group are usable.
    pub all: bool,
    step: u64,
}

impl Set {
    /// Whether it is of this version, and no bit has changed since.
    #[inline(always)]
    pub fn is_of(&self, view: &View, changes: u64) -> bool {
        self.of == Some((view.stamp, view.version, changes))
    }

    /// Has it read anew, though no bit has changed.
    pub fn forget(&mut self) {
        self.of = None;
    }

    /// Reads it anew. `changes` is the count of changed bits by now.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the version makes no sense, or a cell with bits lies outside of the mapping.
    pub fn read<M: Memory, C: Memory>(&mut self, bits: &Bits<'_, M, C>, changes: u64) -> Result<(), Damaged> {
        let total = self.total;
        (self.of, self.total, self.count) = (None, 0, 0);
        self.runs.clear();
        let ranks = bits.ranks();
        let mut first = 0;
        for class in 0..ranks.classes {
            let (weight, count) = ranks.class(bits.mem, class)?;
            let end = first + count.min(ranks.members - first);
            match bits.cells {
                None => self.push(first, end, weight, end - first),
                Some(_) => {
                    while first < end {
                        let until = end.min((first / BLOCK + 1) * BLOCK);
                        self.push(first, until, weight, bits.count(first, until)?);
                        first = until;
                    }
                }
            }
            first = end;
        }
        self.all = self.count == ranks.members;
        if self.total != total {
            self.step = turns::step(self.total);
        }
        self.of = Some((bits.view.stamp, bits.view.version, changes));
        Ok(())
    }

    fn push(&mut self, first: u32, until: u32, weight: u32, count: u32) {
        if count != 0 {
            self.count += count;
            self.total += u64::from(count) * u64::from(weight);
            self.runs.push(Run { end: self.total, first, until, weight });
        }
    }

    /// The usable peers. Runs in which none is cost nothing.
    ///
    /// # Errors
    ///
    /// An item is [`Damaged`] where the version makes no sense, or a cell with bits lies outside of the mapping.
    pub fn peers<M: Memory, C: Memory>(&self, bits: &Bits<'_, M, C>) -> impl Iterator<Item = Result<u32, Damaged>> {
        self.runs.iter().flat_map(|run| bits.peers(run.first, run.until))
    }

    /// Where number `number`, below the total, leads. `None`: bits have changed meanwhile.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the version makes no sense, or a cell with bits lies outside of the mapping.
    pub fn place<M: Memory, C: Memory>(&self, bits: &Bits<'_, M, C>, number: u64) -> Result<Option<Lot>, Damaged> {
        let at = self.runs.partition_point(|run| run.end <= number);
        let Some(run) = self.runs.get(at) else { return Ok(None) };
        let (start, weight) = (at.checked_sub(1).map_or(0, |before| self.runs[before].end), u64::from(run.weight));
        let nth = (number - start) / weight;
        let rank = bits.select(run.first, run.until, nth as u32)?;
        Ok(rank.map(|rank| Lot { rank, from: start + nth * weight, weight }))
    }

    /// The numbers that lead to the peer with this rank. `None`: it is not usable.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the version makes no sense, or a cell with bits lies outside of the mapping.
    pub fn place_of<M: Memory, C: Memory>(&self, bits: &Bits<'_, M, C>, rank: u32) -> Result<Option<Lot>, Damaged> {
        let at = self.runs.partition_point(|run| run.until <= rank);
        let Some(run) = self.runs.get(at).filter(|run| run.first <= rank) else { return Ok(None) };
        let (start, weight) = (at.checked_sub(1).map_or(0, |before| self.runs[before].end), u64::from(run.weight));
        let nth = u64::from(bits.count(run.first, rank)?);
        Ok(Some(Lot { rank, from: start + nth * weight, weight }))
    }

    /// The number of turn `count`. Of as many turns in a row as the total is, each number has one.
    pub fn turn(&self, count: u64) -> u64 {
        turns::turn(count, self.total, self.step)
    }
}
