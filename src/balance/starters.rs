//! The peers of a group that are in their slow start ([`crate::state::slow_start`]): the *starters*. The others are *steady*.
//!
//! A [`Starters`] is a worker's copy. The worker reads it anew when the upstream's count of changes has grown, as it does with each
//! slow start. Ten times a second it takes the parts of weights from the clock. So a pick costs the same with any number of
//! starters, and no process writes while they start.

use super::bits::Bits;
use super::usable::Set;
use crate::random::Random;
use crate::shm::{Damaged, Memory, Stamp};
use crate::state::failures::{Tenths, tenths};
use crate::state::slow_start::{self, Start, WHOLE};
use crate::state::usable::WORD;

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Starter {
    index: u32,
    rank: u32,
    weight: u16,
    slow_start: u32,
    start: Start,
    /// The part of its weight that it has.
    part: u64,
    /// The weights of all up to this one, as far as they have them, in parts.
    end: u64,
}

/// A worker's copy of the starters of a group.
#[derive(Debug, Default)]
pub struct Starters {
    /// The version that it was read from, the count of changes by then, and the millisecond.
    of: Option<(Stamp, u64, u64, u64)>,
    /// The time that its parts are of.
    at: Tenths,
    /// By index.
    peers: Vec<Starter>,
    /// One bit a rank.
    ranks: Vec<u32>,
    /// There are some, and not too many: picks go by them.
    pub some: bool,
    /// The part of a turn that the starters have saved up, of 2^32.
    credit: u32,
}

/// A copy is not read more often than once in this many milliseconds for so many members: a look at one takes some 40 ns.
fn ms_between_reads(members: u32) -> u64 {
    u64::from(members) / 100
}

impl Starters {
    /// Brings it up to date. `usable` are all usable peers of the group, at this count of changes. Answers whether other peers
    /// start than before.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the version makes no sense, or a cell lies outside of the mapping.
    pub fn refresh<M: Memory, C: Memory>(
        &mut self,
        bits: &Bits<'_, M, C>,
        usable: &Set,
        changes: u64,
        now_ms: u64,
    ) -> Result<bool, Damaged> {
        let now = tenths(now_ms);
        let (stamp, version) = (bits.view.stamp, bits.view.version);
        let is_of = |of: (Stamp, u64, u64, u64)| (of.0, of.1) == (stamp, version);
        let is_current = self.of.is_some_and(|of| is_of(of) && of.2 == changes);
        if is_current && self.at == now {
            return Ok(false);
        }
        let before = (self.some, self.peers.len());
        let is_due = self.of.is_none_or(|of| now_ms.saturating_sub(of.3) >= ms_between_reads(bits.ranks().members));
        let is_read = !is_current && is_due;
        if is_read {
            self.of = None;
            self.read(bits, now)?;
            self.of = Some((stamp, version, changes, now_ms));
        } else if !self.of.is_some_and(is_of) {
            // Its indexes are of another version.
            self.peers.clear();
        }
        self.advance(bits.ranks().members, usable.total, now);
        Ok(is_read || before != (self.some, self.peers.len()))
    }

    fn read<M: Memory, C: Memory>(&mut self, bits: &Bits<'_, M, C>, now: Tenths) -> Result<(), Damaged> {
        self.peers.clear();
        let Some(cells) = bits.cells else { return Ok(()) };
        let (mem, view) = (bits.mem, bits.view);
        for index in 0..view.peers {
            let (slow_start, cell) = (view.slow_start(mem, index)?, view.cell(mem, index)?);
            if slow_start == 0 || cell == 0 {
                continue;
            }
            let Some(start) = slow_start::of(&cells, cell)? else { continue };
            let of_peer = view.bits(mem, index)?;
            if start.part(slow_start, now).is_none() || of_peer.group() != bits.group || !of_peer.takes_traffic() {
                continue;
            }
            let weight = of_peer.weight();
            if let Some(rank) = bits.ranks().rank_of(mem, view, index, weight)?
                && bits.count(rank, rank + 1)? == 1
            {
                self.peers.push(Starter { index, rank, weight, slow_start, start, part: 0, end: 0 });
            }
        }
        Ok(())
    }

    /// Gives each the part of its weight that it has by now, and leaves out those that have all of it. Where more than half of the
    /// usable weight would start, none does: the others could not take its traffic.
    fn advance(&mut self, members: u32, usable: u64, now: Tenths) {
        let (mut whole, mut end) = (0, 0);
        self.peers.retain_mut(|starter| {
            let Some(part) = starter.start.part(starter.slow_start, now) else { return false };
            whole += u64::from(starter.weight);
            end += u64::from(starter.weight) * part;
            (starter.part, starter.end) = (part, end);
            true
        });
        self.at = now;
        self.some = whole != 0 && 2 * whole <= usable;
        self.ranks.clear();
        if self.peers.is_empty() {
            // A whole fleet may have started.
            (self.peers, self.ranks) = (Vec::new(), Vec::new());
        }
        if self.some {
            self.ranks.resize((members as usize).div_ceil(WORD as usize), 0);
            for starter in &self.peers {
                if let Some(bits) = self.ranks.get_mut((starter.rank / WORD) as usize) {
                    *bits |= 1 << (starter.rank % WORD);
                }
            }
        }
    }

    /// One bit a rank.
    pub fn ranks(&self) -> &[u32] {
        &self.ranks
    }

    /// Whether this peer is one of them.
    pub fn has(&self, index: u32) -> bool {
        self.peers.binary_search_by_key(&index, |starter| starter.index).is_ok()
    }

    /// Whether the next pick is theirs, beside steady peers of this weight. In a row of picks, so many are theirs as their weight
    /// allows, and at most one more or less.
    pub fn take_turn(&mut self, steady: u64) -> bool {
        let weight = self.peers.last().map_or(0, |starter| starter.end);
        let all = u128::from(weight) + u128::from(steady) * u128::from(WHOLE);
        if weight == 0 {
            return false;
        }
        let share = (u128::from(weight) << 32) / all;
        let credit = u64::from(self.credit) + share as u64;
        self.credit = credit as u32;
        credit >> 32 != 0
    }

    /// Has the picks of this worker begin anywhere, so that those of many workers do not go together.
    pub fn begin_anywhere(&mut self, random: &mut Random) {
        self.credit = random.below(u32::MAX);
    }

    /// One of them by weight, and the part of its weight that it has.
    pub fn draw(&self, random: &mut Random) -> Option<(u32, u64)> {
        let all = self.peers.last()?.end;
        let number = random.wide_below(all);
        let at = self.peers.partition_point(|starter| starter.end <= number);
        self.peers.get(at).map(|starter| (starter.index, starter.part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Peers of these weights, with these parts of them.
    fn starters(of: &[(u16, u64)]) -> Starters {
        let mut end = 0;
        let mut starter = |(index, &(weight, part)): (u32, &(u16, u64))| {
            end += u64::from(weight) * part;
            Starter { index, rank: index, weight, slow_start: 1, start: Start::default(), part, end }
        };
        Starters { peers: (0..).zip(of).map(&mut starter).collect(), some: true, ..Starters::default() }
    }

    proptest! {
        #[test]
        fn of_any_picks_in_a_row_so_many_are_theirs_as_their_weight_allows(
            of in prop::collection::vec((1u16..100, 100u64..1000), 1..5), steady in 1u64..1000, seed: u64, picks in 1u64..5000,
        ) {
            let mut starters = starters(&of);
            starters.begin_anywhere(&mut Random::new(seed));
            let theirs = (0..picks).filter(|_| starters.take_turn(steady)).count() as f64;
            let weight: u64 = of.iter().map(|&(weight, part)| u64::from(weight) * part).sum();
            let share = weight as f64 / (weight + steady * WHOLE) as f64;
            prop_assert!((theirs - share * picks as f64).abs() < 1.1, "{theirs} of {picks}, {share} is their share");
        }
    }

    #[test]
    fn each_is_drawn_by_the_weight_that_it_has() {
        let starters = starters(&[(1, 500), (3, 500), (1, 1000)]);
        let (mut random, mut drawn) = (Random::new(1), [0; 3]);
        for _ in 0..6000 {
            let (index, part) = starters.draw(&mut random).expect("there are some");
            assert_eq!(part, [500, 500, 1000][index as usize]);
            drawn[index as usize] += 1;
        }
        let is_near = |(&drawn, share): (&i32, i32)| (drawn - share).abs() < 150;
        assert!(drawn.iter().zip([1000, 3000, 2000]).all(is_near), "{drawn:?}");
        assert_eq!(Starters::default().draw(&mut random), None);
        assert!(!Starters::default().take_turn(1));
    }

    #[test]
    fn those_that_have_all_their_weight_are_left_out_and_more_than_half_do_not_start_at_all() {
        let mut starters = starters(&[(1, 0), (2, 0)]);
        starters.peers[0].slow_start = 10;
        starters.peers[1].slow_start = 20;
        starters.advance(8, 5, 0);
        assert!(!starters.some && starters.has(0) && starters.ranks().is_empty(), "3 of 5 would start");
        starters.advance(8, 6, 0);
        assert!(starters.some && starters.has(0) && starters.has(1) && starters.ranks() == [3]);
        starters.advance(8, 5, 100);
        assert!(starters.some && !starters.has(0) && starters.has(1) && starters.ranks() == [2]);
        starters.advance(8, 5, 200);
        assert!(!starters.some && !starters.has(1) && starters.ranks().is_empty());
    }
}
