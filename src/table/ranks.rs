//! The peers of a group by weight: a rank is a peer's place among those that configuration lets pick. Peers of one weight are a
//! class, and have ranks side by side, in list order. So the weight of any set of ranks is a popcount a class.
//!
//! ```text
//! classes, a word each: weight : 32 | peers : 32
//! hosts, 4 bytes for each 128 ranks: the cell of the first of them, where the bits of all of them lie (shm/cells/words.rs)
//! by rank: the peer, as in a schedule; zeros that no reader looks at where it is the rank itself
//! ```
//!
//! Zeros keep the room. A writer that takes a peer down must not need more of it, and its ranks are no indexes any more.

use super::snapshot::{View, entries_a_word};
use crate::shm::{Damaged, Memory};
use crate::state::usable::{BLOCK, Bit};

/// Distinct weights up to which each is a class of its own.
const EXACT: usize = 64;
/// Where there are more, a class takes in weights of up to so many hundredths more than its least. So there are 413 at most: one each
/// for the weights below 50, and ln(65535 / 50) / ln(1.02) above.
const WIDTH: u32 = 2;
/// No group has more classes.
pub const MOST_CLASSES: usize = 512;

/// The ranks of a group's members.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ranking {
    /// Weight and number of peers of each class.
    pub classes: Vec<(u32, u32)>,
    /// By rank: the peer. `None`: the rank itself.
    pub order: Option<Vec<u32>>,
    /// How many peers have a rank.
    pub members: usize,
}

/// Ranks `members`, which are peers' indexes and weights in list order; none has weight 0.
///
/// ```
/// use dyups::table::ranks::rank;
/// let ranking = rank(&[(0, 3), (1, 1), (2, 3)]);
/// assert_eq!((ranking.classes, ranking.order), (vec![(1, 1), (3, 2)], Some(vec![1, 0, 2])));
/// assert_eq!(rank(&[(0, 7), (1, 7)]).order, None);
/// ```
pub fn rank(members: &[(u32, u16)]) -> Ranking {
    let Some(&(_, first)) = members.first() else { return Ranking::default() };
    let in_place = || (0..).zip(members).all(|(rank, &(index, _))| rank == index);
    if members.iter().all(|&(_, weight)| weight == first) {
        let order = (!in_place()).then(|| members.iter().map(|&(index, _)| index).collect());
        return Ranking { classes: vec![(first.into(), members.len() as u32)], order, members: members.len() };
    }
    let mut distinct: Vec<u16> = members.iter().map(|&(_, weight)| weight).collect();
    distinct.sort_unstable();
    let sorted = distinct.clone();
    distinct.dedup();
    let ends = ends_of_classes(&distinct);
    let class_of = |weight: u16| ends.partition_point(|&end| end < weight);
    let mut classes = vec![(0, 0); ends.len()];
    let mut sums = vec![0u64; ends.len()];
    let mut class = 0;
    for weight in sorted {
        while ends[class] < weight {
            class += 1;
        }
        classes[class].1 += 1;
        sums[class] += u64::from(weight);
    }
    let mut next = Vec::with_capacity(ends.len());
    let mut before = 0;
    for ((weight, count), sum) in classes.iter_mut().zip(sums) {
        next.push(before as usize);
        before += *count;
        // The mean, rounded.
        *weight = ((2 * sum + u64::from(*count)) / (2 * u64::from(*count))) as u32;
    }
    let mut order = vec![0; members.len()];
    let (mut last, mut class) = (0, 0);
    for &(index, weight) in members {
        // Neighbours are mostly alike.
        if weight != last {
            (last, class) = (weight, class_of(weight));
        }
        order[next[class]] = index;
        next[class] += 1;
    }
    Ranking { classes, order: Some(order), members: members.len() }
}

/// The largest weight of each class, of weights that are sorted and distinct.
fn ends_of_classes(distinct: &[u16]) -> Vec<u16> {
    if distinct.len() <= EXACT {
        return distinct.to_vec();
    }
    let in_class = |least: u16, weight: u16| u32::from(weight) * 100 <= u32::from(least) * (100 + WIDTH);
    let mut ends: Vec<u16> = Vec::new();
    let mut least = 0;
    for &weight in distinct {
        match ends.last_mut() {
            Some(end) if in_class(least, weight) => *end = weight,
            _ => {
                least = weight;
                ends.push(weight);
            }
        }
    }
    ends
}

/// Words that [`append`] writes of a group.
pub fn words(members: usize, classes: usize, peers: usize) -> usize {
    order_at(members, classes) + members.div_ceil(entries_a_word(peers))
}

/// Words before the order.
pub fn order_at(members: usize, classes: usize) -> usize {
    classes + hosts(members)
}

/// Words of the hosts of so many members.
fn hosts(members: usize) -> usize {
    members.div_ceil(BLOCK as usize).div_ceil(2)
}

impl View {
    /// The bit that says whether the peer with this index is usable.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a rank leads to no peer, or a word lies outside of the memory.
    pub fn usable_bit(&self, mem: &impl Memory, index: u32) -> Result<Bit, Damaged> {
        let bits = self.bits(mem, index)?;
        let ranks = &self.ranks[bits.group() as usize];
        match ranks.rank_of(mem, self, index, bits.weight())? {
            Some(rank) if bits.takes_traffic() => {
                Ok(Bit::of_rank(ranks.host(mem, rank / BLOCK)?, rank, self.version as u32))
            }
            _ => Ok(Bit::default()),
        }
    }
}

/// Where the ranks of a group are in a version, and how many.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ranks {
    /// First word of the classes, in the mapping.
    pub at: usize,
    /// Peers that have a rank.
    pub members: u32,
    /// Classes.
    pub classes: u32,
    /// The order is written down.
    pub ordered: bool,
}

impl Ranks {
    /// Weight and number of peers of a class.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn class(&self, mem: &impl Memory, class: u32) -> Result<(u32, u32), Damaged> {
        let word = mem.load(self.at + class as usize)?;
        Ok(((word as u32).min(u16::MAX.into()), (word >> 32) as u32))
    }

    /// The cell that has the bits of the ranks of a block; 0: there are none.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    #[inline(always)]
    pub fn host(&self, mem: &impl Memory, block: u32) -> Result<u32, Damaged> {
        let word = mem.load(self.at + self.classes as usize + block as usize / 2)?;
        Ok((word >> (block % 2 * 32)) as u32)
    }

    /// The peer with a rank.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such rank, it leads to no peer, or a word lies outside of the memory.
    #[inline(always)]
    pub fn peer(&self, mem: &impl Memory, view: &View, rank: u32) -> Result<u32, Damaged> {
        if rank >= self.members {
            return Err(Damaged);
        }
        if !self.ordered {
            return if rank < view.peers { Ok(rank) } else { Err(Damaged) };
        }
        view.entry(mem, self.at + order_at(self.members as usize, self.classes as usize), rank)
    }

    /// The rank of a peer of this weight; `None`: it has none.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a rank leads to no peer, or a word lies outside of the memory.
    pub fn rank_of(&self, mem: &impl Memory, view: &View, index: u32, weight: u16) -> Result<Option<u32>, Damaged> {
        if !self.ordered {
            return Ok((index < self.members).then_some(index));
        }
        let mut first = 0u32;
        for class in 0..self.classes {
            let (its_weight, count) = self.class(mem, class)?;
            let end = first.saturating_add(count).min(self.members);
            // Where weights share a class, its own is near to theirs; no two classes are as near.
            let near = u32::from(weight).abs_diff(its_weight) * 100 <= its_weight * WIDTH;
            if near && let Some(rank) = self.search(mem, view, first..end, index)? {
                return Ok(Some(rank));
            }
            first = end;
        }
        Ok(None)
    }

    /// The place of a peer among the ranks of its class, which are in list order.
    fn search(
        &self,
        mem: &impl Memory,
        view: &View,
        ranks: std::ops::Range<u32>,
        index: u32,
    ) -> Result<Option<u32>, Damaged> {
        let (mut low, mut high) = (ranks.start, ranks.end);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.peer(mem, view, middle)? < index {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok((low < ranks.end && self.peer(mem, view, low)? == index).then_some(low))
    }
}

/// Appends the ranks of a group to an image; its hosts are 0 until [`set_hosts`].
pub fn append(words: &mut Vec<u64>, ranking: &Ranking, peers: usize, append_order: impl FnOnce(&mut Vec<u64>, &[u32])) {
    let end = words.len() + self::words(ranking.members, ranking.classes.len(), peers);
    words.extend(ranking.classes.iter().map(|&(weight, count)| u64::from(weight) | u64::from(count) << 32));
    words.resize(words.len() + hosts(ranking.members), 0);
    if let Some(order) = &ranking.order {
        append_order(words, order);
    }
    words.resize(end, 0);
}

/// Writes the hosts of a group, whose ranks begin at word `at`, into an image. `cell` tells the cell of the peer with a rank.
pub fn set_hosts(image: &mut [u64], at: usize, classes: usize, members: usize, cell: impl Fn(&[u64], usize) -> u32) {
    for block in 0..members.div_ceil(BLOCK as usize) {
        let host = u64::from(cell(image, block * BLOCK as usize));
        let word = at + classes + block / 2;
        let shift = block % 2 * 32;
        image[word] = image[word] & !(u64::from(u32::MAX) << shift) | host << shift;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_member_has_a_rank_in_a_class_of_its_weight(
            weights in prop_oneof![
                prop::collection::vec(1u16..4, 1..300),
                prop::collection::vec(1u16.., 1..300),
                prop::collection::vec(Just(7u16), 1..300),
            ],
            gap in 1u32..3,
        ) {
            let members: Vec<(u32, u16)> = (0..).step_by(gap as usize).zip(weights).collect();
            let ranking = rank(&members);
            let order = ranking.order.clone().unwrap_or_else(|| (0..members.len() as u32).collect());
            let mut sorted = order.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, members.iter().map(|&(index, _)| index).collect::<Vec<_>>());
            prop_assert!(ranking.classes.len() <= MOST_CLASSES);
            let exact = { let mut all: Vec<_> = members.iter().map(|&(_, weight)| weight).collect(); all.sort_unstable(); all.dedup(); all.len() <= EXACT };
            let mut first = 0;
            for &(weight, count) in &ranking.classes {
                let class = &order[first..first + count as usize];
                prop_assert!(class.is_sorted(), "in list order");
                for index in class {
                    let own = u32::from(members[(index / gap) as usize].1);
                    prop_assert!(own == weight || !exact && own.abs_diff(weight) * 100 <= weight * WIDTH, "{own} {weight}");
                }
                first += count as usize;
            }
            prop_assert_eq!(first, members.len());
        }
    }

    #[test]
    fn any_weights_have_few_classes() {
        let all: Vec<(u32, u16)> = (0..).zip(1..=u16::MAX).collect();
        assert!(rank(&all).classes.len() < MOST_CLASSES - 64, "{}", rank(&all).classes.len());
    }
}
