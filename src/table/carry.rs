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
    let mut carrying = Carrying::new(region, old, image);
    while !carrying.step(region, image, usize::MAX)? {}
    carrying.finish(region, image)
}

/// The same, a part of the peers at a time.
#[derive(Debug)]
pub(super) struct Carrying {
    old: View,
    /// Where nothing has served so far, there is nothing to take the traffic of a peer that begins.
    comes_to_others: bool,
    left: Left,
    /// The next peer of the image.
    next: usize,
    plan: CellPlan,
    no_id: Vec<usize>,
}

impl Carrying {
    /// The parts of `old` for an image that has none of them yet.
    pub(super) fn new(region: &Region, old: &View, image: &mut [u64]) -> Carrying {
        let peers = ImagePeers::of(image);
        Carrying {
            old: *old,
            comes_to_others: peers.some_start_slowly() && !old.flags.has(Flags::DELETED) && old.serving != 0,
            left: Left { most: region.cells().map_or(0, |cells| cells.count()), ..Left::default() },
            next: 0,
            plan: CellPlan::default(),
            no_id: Vec::new(),
        }
    }

    /// Looks at about `most` peers. True: those were the last.
    ///
    /// # Errors
    ///
    /// As [`over`].
    pub(super) fn step(&mut self, region: &Region, image: &mut [u64], most: usize) -> Result<bool, Damaged> {
        let (mem, old, mut peers) = (region.mem(), &self.old, ImagePeers::of(image));
        for _ in 0..most {
            if self.left.is_passing {
                self.left.pass_one(mem, old)?;
                continue;
            }
            let index = self.next;
            if index == peers.count() {
                if self.left.at == old.peers {
                    return Ok(true);
                }
                // The rest is no more.
                self.left.is_passing = true;
                continue;
            }
            let Search::Over(kept) = self.left.take(mem, old, peers.ident(index))? else { continue };
            self.next += 1;
            match kept {
                Some(kept) => peers.set_id(index, kept.id),
                None => self.no_id.push(index),
            }
            match kept.map_or(0, |kept| kept.cell) {
                0 => self.plan.new.push(index as u32),
                cell => peers.set_cell(index, cell),
            }
            if self.comes_to_others && peers.starts_slowly(index) && !kept.is_some_and(|kept| kept.served) {
                self.plan.starting.push(index as u32);
            }
        }
        Ok(false)
    }

    /// The plan, once all peers were looked at.
    ///
    /// # Errors
    ///
    /// As [`over`].
    pub(super) fn finish(self, region: &Region, image: &mut [u64]) -> Result<CellPlan> {
        let Carrying { old, left, mut plan, no_id, .. } = self;
        let mut peers = ImagePeers::of(image);
        plan.freed = left.passed.into_values().map(|kept| kept.cell).filter(|&cell| cell != 0).collect();
        plan.freed.sort_unstable();
        let is_there = !old.flags.has(Flags::DELETED);
        let next_id = give_ids(&mut peers, &no_id, if is_there { old.next_id } else { 0 });
        let origin = match is_there {
            true => {
                Origin { created: old.created, source: old.source, start: next_start(region, &old, &peers)?, next_id }
            }
            false => Origin { next_id, ..Origin::default() },
        };
        origin.set(image);
        Ok(plan)
    }
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
#[derive(Debug, Default)]
struct Left {
    /// How many cells there are.
    most: usize,
    /// Those before it were met or passed.
    at: u32,
    /// All others are passed first: the new version has another order, or no more peers.
    is_passing: bool,
    /// Those that were passed, by identity.
    passed: HashMap<u64, Carried>,
}

/// What the search for a peer has come to.
enum Search {
    /// All others have to be passed first.
    Passing,
    /// The parts that the peer keeps, if it was there.
    Over(Option<Carried>),
}

impl Left {
    /// The parts that the peer with this identity keeps, if it is among them.
    fn take(&mut self, mem: &Mem, old: &View, ident: u64) -> Result<Search, Damaged> {
        // Asked first, since even an empty map hashes the key.
        if !self.passed.is_empty()
            && let Some(kept) = self.passed.remove(&ident)
        {
            return Ok(Search::Over(Some(kept)));
        }
        if self.at == old.peers {
            return Ok(Search::Over(None));
        }
        // One that is gone is followed by one that is there.
        for at in self.at..old.peers.min(self.at + 2) {
            let (other, kept) = self.read(mem, old, at)?;
            if other == ident {
                while self.at < at {
                    self.pass_one(mem, old)?;
                }
                self.at += 1;
                return Ok(Search::Over(Some(kept)));
            }
        }
        self.is_passing = true;
        Ok(Search::Passing)
    }

    /// Passes the next one, if there is one.
    fn pass_one(&mut self, mem: &Mem, old: &View) -> Result<(), Damaged> {
        if self.at == old.peers {
            self.is_passing = false;
            return Ok(());
        }
        if self.is_passing && self.passed.is_empty() {
            self.passed.reserve((old.peers - self.at) as usize);
        }
        let (ident, kept) = self.read(mem, old, self.at)?;
        self.passed.insert(ident, kept);
        self.at += 1;
        Ok(())
    }

    /// The identity of a peer, and the parts that it keeps. The number of a cell that does not exist counts as none. So a spoiled
    /// number ends with its version.
    fn read(&self, mem: &Mem, old: &View, at: u32) -> Result<(u64, Carried), Damaged> {
        let (ident, bits, cell, id) = old.identity(mem, at)?;
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
