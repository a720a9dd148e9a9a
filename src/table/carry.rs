//! The parts that a new version takes over from the version before it. They are the cells and ids of its peers, and the start of
//! the round robin. And the peers that come back by the new version, and so start slowly.

use super::commit::CellPlan;
use super::snapshot::{Flags, ImagePeers, Origin, View};
use crate::error::Result;
use crate::shm::{Damaged, Mem, Region};
use std::collections::{HashMap, HashSet};

/// The part of a cycle, of 2^32, by which the round robin moves on when its schedule changes: the golden ratio's. With any
/// number and rhythm of changes, the places where schedules start are spread evenly: Knuth, "The Art of Computer Programming",
/// volume 3, section 6.4, theorem S.
const MOVED: u32 = 0x9e37_79b9;

/// Gives an image the parts that it takes over from `old`, and new ids to the other peers. Answers the plan for the cells.
///
/// The words of `old` may be of any version by now. Then another one is there, and the plan is made again.
///
/// # Errors
///
/// [`Code::Damaged`](crate::error::Code::Damaged): a word of `old` lies outside of the region.
pub fn over(region: &Region, old: Option<&View>, image: &mut [u64]) -> Result<CellPlan> {
    // A name that was deleted and is remembered has no peers, and its next version is another upstream.
    let Some(old) = old else { return Ok(again(image, None, Origin::default())) };
    let most = region.cells().map_or(0, |cells| cells.count());
    let (mut plan, mut peers, mut no_id) = (CellPlan::default(), ImagePeers::of(image), Vec::new());
    let mut left = Left { mem: region.mem(), old, most, at: 0, passed: HashMap::new() };
    // Where nothing has served so far, there is nothing to take the traffic of a peer that begins.
    let comes_to_others = peers.some_start_slowly() && !old.flags.has(Flags::DELETED) && old.serving != 0;
    for index in 0..peers.count() {
        let kept = left.take(peers.ident(index))?;
        match kept {
            Some(kept) => peers.set_id(index, kept.id),
            None => no_id.push(index),
        }
        match kept.map_or(0, |kept| kept.cell) {
            0 => plan.new.push(index as u32),
            cell => peers.set_cell(index, cell),
        }
        if comes_to_others && peers.starts_slowly(index) && !kept.is_some_and(|kept| kept.served) {
            plan.starting.push(index as u32);
        }
    }
    left.pass(old.peers)?;
    plan.freed = left.passed.into_values().map(|kept| kept.cell).filter(|&cell| cell != 0).collect();
    plan.freed.sort_unstable();
    let is_there = !old.flags.has(Flags::DELETED);
    let next_id = give_ids(&mut peers, &no_id, if is_there { old.next_id } else { 0 });
    let origin = match is_there {
        true => Origin { created: old.created, source: old.source, start: next_start(region, old, &peers)?, next_id },
        false => Origin { next_id, ..Origin::default() },
    };
    origin.set(image);
    Ok(plan)
}

/// Gives an image the parts of a version in another region: the ids of its peers, if it has any, and an origin. All its cells are new.
pub fn again(image: &mut [u64], ids: Option<&[u32]>, origin: Origin) -> CellPlan {
    let mut peers = ImagePeers::of(image);
    let all: Vec<usize> = (0..peers.count()).collect();
    let next_id = match ids {
        Some(ids) => {
            all.iter().zip(ids).for_each(|(&index, &id)| peers.set_id(index, id));
            origin.next_id
        }
        None => give_ids(&mut peers, &all, origin.next_id),
    };
    Origin { next_id, ..origin }.set(image);
    CellPlan { new: all.into_iter().map(|index| index as u32).collect(), ..CellPlan::default() }
}

/// Gives ids from `next` on to the peers at these indexes, which ascend; answers the next one. Where all 2^32 were given out, ids that
/// no peer has are given out again.
fn give_ids(peers: &mut ImagePeers<'_>, no_id: &[usize], mut next: u32) -> u32 {
    let begins_again = next.checked_add(no_id.len() as u32).is_none();
    let mut none = no_id.iter().peekable();
    // Mostly all are below the next one, and none of them matters.
    let in_use: HashSet<u32> = (0..peers.count())
        .filter(|index| none.next_if_eq(&index).is_none())
        .map(|index| peers.id(index))
        .filter(|&id| begins_again || id >= next)
        .collect();
    for &index in no_id {
        while in_use.contains(&next) {
            next = next.wrapping_add(1);
        }
        peers.set_id(index, next);
        next = next.wrapping_add(1);
    }
    next
}

/// Where the round robin starts in an image that replaces `old`: elsewhere, if it may have another schedule.
fn next_start(region: &Region, old: &View, peers: &ImagePeers<'_>) -> Result<u32, Damaged> {
    let same = peers.are_picked_as(region.mem(), old)?;
    Ok(if same { old.start } else { old.start.wrapping_add(MOVED) })
}

/// The parts that a peer keeps.
#[derive(Clone, Copy, Debug)]
struct Carried {
    cell: u32,
    id: u32,
    /// Whether configuration let picks take it.
    served: bool,
}

/// The peers of an old version that were not met yet in the new one. Mostly both have the same in the same order.
struct Left<'a> {
    mem: &'a Mem,
    old: &'a View,
    /// How many cells there are.
    most: usize,
    /// Those before it were met or passed.
    at: u32,
    /// Those that were passed, by identity.
    passed: HashMap<u64, Carried>,
}

impl Left<'_> {
    /// The parts that the peer with this identity keeps, if it is among them.
    fn take(&mut self, ident: u64) -> Result<Option<Carried>, Damaged> {
        // Asked first, since even an empty map hashes the key.
        if !self.passed.is_empty()
            && let Some(kept) = self.passed.remove(&ident)
        {
            return Ok(Some(kept));
        }
        // One that is gone is followed by one that is there.
        for at in self.at..self.old.peers.min(self.at + 2) {
            let (other, kept) = self.read(at)?;
            if other == ident {
                self.pass(at)?;
                self.at += 1;
                return Ok(Some(kept));
            }
        }
        // Another order: from here on all are looked up.
        self.pass(self.old.peers)?;
        Ok(self.passed.remove(&ident))
    }

    /// Passes those before `end`.
    fn pass(&mut self, end: u32) -> Result<(), Damaged> {
        for at in self.at..end {
            let (ident, kept) = self.read(at)?;
            self.passed.insert(ident, kept);
        }
        self.at = self.at.max(end);
        Ok(())
    }

    /// The identity of a peer, and the parts that it keeps. The number of a cell that does not exist counts as none. So a spoiled
    /// number ends with its version.
    fn read(&self, at: u32) -> Result<(u64, Carried), Damaged> {
        let (ident, bits, cell, id) = self.old.identity(self.mem, at)?;
        let cell = if (cell as usize) < self.most { cell } else { 0 };
        Ok((ident, Carried { cell, id, served: bits.takes_traffic() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::snapshot::encode;
    use crate::upstream::{Address, Peer, Upstream};

    fn image(count: usize) -> Vec<u64> {
        let peer = |i| Peer::new(Address::from_server(&format!("10.0.0.{i}")).expect("an address"));
        let upstream = Upstream { name: "api".into(), peers: (1..=count).map(peer).collect(), ..Upstream::default() };
        encode(&upstream, Flags::default()).expect("no check")
    }

    #[test]
    fn ids_go_up_and_where_all_were_given_out_no_two_peers_have_one() {
        let mut image = image(5);
        let mut peers = ImagePeers::of(&mut image);
        assert_eq!(give_ids(&mut peers, &[0, 1, 2, 3, 4], 7), 12);
        assert_eq!((0..5).map(|index| peers.id(index)).collect::<Vec<_>>(), [7, 8, 9, 10, 11]);
        peers.set_id(0, 0);
        peers.set_id(1, u32::MAX);
        assert_eq!(give_ids(&mut peers, &[2, 3, 4], u32::MAX - 1), 3);
        assert_eq!((0..5).map(|index| peers.id(index)).collect::<Vec<_>>(), [0, u32::MAX, u32::MAX - 1, 1, 2]);
    }
}
