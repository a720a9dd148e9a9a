//! Which peers of an upstream are usable ([`crate::state::usable`]), and what they weigh.
//!
//! A [`Set`] is a worker's copy of the weight of each run of ranks. It is valid while the upstream's count of changed bits
//! stays the same. So a pick costs the same with any number of peers, and with any number of them out.

use crate::shm::{Cells, Damaged, Memory, Stamp};
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
}

impl<M: Memory, C: Memory> Bits<'_, M, C> {
    fn ranks(&self) -> &Ranks {
        &self.view.ranks[self.group as usize]
    }

    /// The peer with a rank.
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
            let mut bits = self.word(host, rank % BLOCK / WORD)? & u32::MAX << (rank % WORD);
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

    fn count(&self, first: u32, until: u32) -> Result<u32, Damaged> {
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
    fn select(&self, first: u32, until: u32, mut nth: u32) -> Result<Option<u32>, Damaged> {
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

    /// The peers whose bits are set.
    pub fn peers(&self) -> impl Iterator<Item = Result<u32, Damaged>> {
        let (members, mut next) = (self.ranks().members, 0);
        std::iter::from_fn(move || {
            while next < members {
                let until = members.min((next / WORD + 1) * WORD);
                match self.select(next, until, 0) {
                    Ok(Some(rank)) => {
                        next = rank + 1;
                        return Some(self.peer(rank));
                    }
                    Ok(None) => next = until,
                    Err(damaged) => {
                        next = members;
                        return Some(Err(damaged));
                    }
                }
            }
            None
        })
    }

    /// Makes each bit say whether its peer is out by now; whether that changed one.
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
            // Those that came back between the look and the store.
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
    /// How many do: its weight.
    pub weight: u64,
}

/// A worker's copy of the usable peers of a group.
#[derive(Debug, Default)]
pub struct Set {
    /// Of which version, at how many changes of bits.
    of: Option<(Stamp, u64, u64)>,
    runs: Vec<Run>,
    /// The weight of all usable peers.
    pub total: u64,
    /// How many they are.
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

    /// Reads it anew, where so many bits have changed.
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
            self.step = step(self.total);
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

    /// Where number `number`, below the total, leads. `None`: bits have changed meanwhile.
    pub fn place<M: Memory, C: Memory>(&self, bits: &Bits<'_, M, C>, number: u64) -> Result<Option<Lot>, Damaged> {
        let at = self.runs.partition_point(|run| run.end <= number);
        let Some(run) = self.runs.get(at) else { return Ok(None) };
        let (start, weight) = (at.checked_sub(1).map_or(0, |before| self.runs[before].end), u64::from(run.weight));
        let nth = (number - start) / weight;
        let rank = bits.select(run.first, run.until, nth as u32)?;
        Ok(rank.map(|rank| Lot { rank, from: start + nth * weight, weight }))
    }

    /// The numbers that lead to the peer with this rank. `None`: it is not usable.
    pub fn place_of<M: Memory, C: Memory>(&self, bits: &Bits<'_, M, C>, rank: u32) -> Result<Option<Lot>, Damaged> {
        let at = self.runs.partition_point(|run| run.until <= rank);
        let Some(run) = self.runs.get(at).filter(|run| run.first <= rank) else { return Ok(None) };
        let (start, weight) = (at.checked_sub(1).map_or(0, |before| self.runs[before].end), u64::from(run.weight));
        let nth = u64::from(bits.count(run.first, rank)?);
        Ok(Some(Lot { rank, from: start + nth * weight, weight }))
    }

    /// The number of turn `count`. Of as many turns in a row as the total is, each number has one.
    pub fn turn(&self, count: u64) -> u64 {
        turn(count, self.total, self.step)
    }
}

/// The step from turn to turn of the round robin, among the numbers below `total`. It is near the golden part of it, so that
/// any few turns in a row are spread evenly. It has no common divisor, so that each number has a turn.
pub fn step(total: u64) -> u64 {
    let golden = ((u128::from(total) * 0x9e37_79b9_7f4a_7c15) >> 64) as u64;
    (golden.max(1)..).find(|&step| gcd(step, total) == 1).unwrap_or(1)
}

/// The number of turn `count`; `total` is not 0.
pub fn turn(count: u64, total: u64, step: u64) -> u64 {
    let (count, step) = (count % total, step % total);
    match count.checked_mul(step) {
        Some(product) => product % total,
        None => (u128::from(count) * u128::from(step) % u128::from(total)) as u64,
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Peers that a pick passes over, by the numbers that lead to them.
#[derive(Debug)]
pub struct Passed {
    places: [(u64, u64); Passed::MOST],
    len: usize,
    /// Their weight.
    pub weight: u64,
}

impl Passed {
    /// All that a request may have tried, and a few.
    const MOST: usize = 72;

    /// None yet.
    pub fn new() -> Passed {
        Passed { places: [(0, 0); Passed::MOST], len: 0, weight: 0 }
    }

    /// Whether there is room for no more.
    pub fn is_full(&self) -> bool {
        self.len == Passed::MOST
    }

    /// Adds one, if it is not there.
    pub fn add(&mut self, place: Lot) {
        let at = self.places[..self.len].partition_point(|&(from, _)| from < place.from);
        let is_there = self.places[..self.len].get(at).is_some_and(|&(from, _)| from == place.from);
        if is_there || self.is_full() {
            return;
        }
        self.places.copy_within(at..self.len, at + 1);
        self.places[at] = (place.from, place.weight);
        self.len += 1;
        self.weight += place.weight;
    }

    /// The number that is `number` when those of the passed ones are left out.
    pub fn skip(&self, mut number: u64) -> u64 {
        for &(from, weight) in &self.places[..self.len] {
            if number < from {
                break;
            }
            number += weight;
        }
        number
    }
}

impl Default for Passed {
    fn default() -> Self {
        Passed::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_number_has_one_turn_in_a_cycle(total in 1u64..2000, from: u64) {
            let step = step(total);
            let mut seen = vec![false; total as usize];
            let from = from % (1 << 50);
            (from..from + total).for_each(|count| seen[turn(count, total, step) as usize] = true);
            prop_assert!(seen.iter().all(|&seen| seen));
        }

        #[test]
        fn numbers_skip_those_that_were_passed(weights in prop::collection::vec(1u64..5, 1..40), passed in prop::collection::vec(any::<prop::sample::Index>(), 0..30)) {
            let starts: Vec<u64> = weights.iter().scan(0, |sum, &weight| { let from = *sum; *sum += weight; Some(from) }).collect();
            let mut skips = Passed::new();
            let mut out = vec![false; weights.len()];
            for index in passed {
                let at = index.index(weights.len());
                out[at] = true;
                skips.add(Lot { rank: 0, from: starts[at], weight: weights[at] });
            }
            let numbers = |at: usize| starts[at]..starts[at] + weights[at];
            let left: Vec<u64> = (0..weights.len()).filter(|&at| !out[at]).flat_map(numbers).collect();
            let total: u64 = weights.iter().sum();
            prop_assert_eq!(left.len() as u64, total - skips.weight);
            prop_assert_eq!((0..left.len() as u64).map(|number| skips.skip(number)).collect::<Vec<_>>(), left);
        }
    }

    #[test]
    fn turns_of_a_very_heavy_set_do_not_overflow() {
        let total = 100_000 * 65_535;
        let step = step(total);
        let wanted = u128::from(u64::MAX % total) * u128::from(step) % u128::from(total);
        assert_eq!(u128::from(turn(u64::MAX, total, step)), wanted);
    }
}
