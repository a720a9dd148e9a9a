//! The members of one group, as a method sees them: which of them a pick may take, and in which order it meets them.

use super::attempt::{Claimed, Trial, claim};
use super::bits::Bits;
use super::candidates::{Candidates, mixed};
use super::miss::Miss;
use super::once::One;
use super::passed::Passed;
use super::starters::Starters;
use super::usable::Set;
use crate::shm::cells::Turn;
use crate::shm::{Cells, Damaged, Memory};
use crate::state::failures::{Fitness, Health, Limits, tenths};
use crate::state::verdict::Verdict;
use crate::table::snapshot::Group;
use std::cell::Cell;

/// One group of a version, as one try of a pick sees it.
pub(super) struct InGroup<'a, M, C> {
    pub(super) one: &'a One<'a, M, C>,
    pub(super) group: Group,
    /// Since the boot.
    pub(super) now_ms: u64,
    /// Peers that are out may be picked.
    pub(super) lenient: bool,
    pub(super) notes: &'a Notes,
    /// These are passed over.
    pub(super) without: Option<&'a Starters>,
}

/// The notes of a look at the groups.
#[derive(Default)]
pub(super) struct Notes {
    /// It has passed over a peer with too many connections.
    pub(super) full: Cell<bool>,
    /// It has passed over a peer that is not out.
    pub(super) well: Cell<bool>,
    /// The peer that was claimed last is out, and this is its trial.
    pub(super) trial: Cell<Option<Trial>>,
    /// The peer that was taken among equals, and its turn.
    pub(super) took: Cell<Option<(Turn, u64)>>,
}

/// The work that waits until it is known whether a pick holds; nothing while there are no promises.
#[derive(Debug, Default)]
pub(super) struct Promises {
    pub(super) some: bool,
    /// As in [`Notes`].
    pub(super) trial: Option<Trial>,
    /// As in [`Notes`].
    pub(super) took: Option<(Turn, u64)>,
}

impl<M: Memory, C: Memory> Candidates for InGroup<'_, M, C> {
    fn len(&self) -> u32 {
        self.one.view.schedules[self.group as usize].len
    }

    fn scheduled(&self, position: u32) -> Result<u32, Miss> {
        let schedule = &self.one.view.schedules[self.group as usize];
        Ok(self.one.view.scheduled(self.one.mem, schedule, position)?)
    }

    fn peers(&self) -> u32 {
        self.one.view.peers
    }

    fn weight(&self, index: u32) -> Result<u16, Miss> {
        let bits = self.one.view.bits(self.one.mem, self.one.in_view(index)?)?;
        Ok(if bits.group() == self.group { bits.weight() } else { 0 })
    }

    fn fits(&self, index: u32) -> Result<bool, Miss> {
        Ok(self.look(index)? == Look::Fits)
    }

    fn takes_traffic(&self, index: u32) -> Result<bool, Miss> {
        Ok(!self.leaves_out(index) && self.one.view.bits(self.one.mem, self.one.in_view(index)?)?.takes_traffic())
    }

    fn turn_of_all(&self, count: u64) -> Result<Option<u32>, Miss> {
        if self.without.is_some() || self.is_empty() {
            return self.in_turn(count);
        }
        self.scheduled((count % u64::from(self.len())) as u32).map(Some)
    }

    fn waited(&self, index: u32, count: u64) -> Result<u64, Miss> {
        Ok(match self.cell(index)? {
            Some((cells, cell)) => cells.turn(cell)?.waited(count),
            None => 0,
        })
    }

    fn took(&self, index: u32, count: u64) -> Result<(), Miss> {
        if let Some((cells, cell)) = self.cell(index)? {
            self.notes.took.set(Some((cells.turn(cell)?, count)));
        }
        Ok(())
    }

    fn claim(&self, index: u32) -> Result<bool, Miss> {
        if !self.one.careful || self.lenient {
            return Ok(true);
        }
        let Some((cells, cell)) = self.cell(index)? else { return Ok(true) };
        let (_, limits): (u32, Limits) = self.one.view.limits(self.one.mem, index)?;
        let claimed = claim(&cells, cell, limits, tenths(self.now_ms))?;
        self.notes.trial.set(match claimed {
            Claimed::Trial(word) => Some(Trial { cell, word, limits }),
            _ => None,
        });
        Ok(claimed != Claimed::No)
    }

    fn open(&self, index: u32) -> Result<u64, Miss> {
        Ok(match self.cell(index)? {
            Some((cells, cell)) => cells.open(cell)?,
            None => 0,
        })
    }

    fn weight_of_all(&self) -> Result<u64, Miss> {
        Ok(self.one.view.weight_of_all(self.one.mem, self.group)?)
    }

    fn peer_of_unit(&self, unit: u64) -> Result<Option<u32>, Miss> {
        Ok(self.one.view.peer_of_unit(self.one.mem, self.group, unit)?)
    }

    fn usable(&self) -> Result<u32, Miss> {
        let set = &mut *self.set();
        self.refresh(set)?;
        Ok(set.count)
    }

    fn each_usable(&self, look: &mut dyn FnMut(u32) -> Result<(), Miss>) -> Result<(), Miss> {
        let (set, bits) = (self.set(), self.bits());
        set.peers(&bits).try_for_each(|index| look(index?))
    }

    fn is_alone(&self) -> Result<bool, Miss> {
        Ok(self.usable()? <= 1)
    }

    fn in_turn(&self, count: u64) -> Result<Option<u32>, Miss> {
        let set = &mut *self.set();
        self.refresh(set)?;
        let mut passed = Passed::new();
        if self.one.tried.is_some_and(|tried| tried.count > 0) {
            // By chance: the turn after that of a peer which refuses would always be the same one's.
        } else if set.all && set.total != 0 && !self.is_empty() {
            // In nginx's order.
            let index = self.scheduled((count % u64::from(self.len())) as u32)?;
            if self.meet(index)? == Look::Fits {
                return Ok(Some(index));
            }
            self.pass(set, index, &mut passed)?;
        } else if set.total != 0
            && let Some(place) = set.place(&self.bits(), set.turn(count))?
        {
            let index = self.bits().peer(place.rank)?;
            if self.meet(index)? == Look::Fits {
                return Ok(Some(index));
            }
            passed.add(place);
        }
        let mut tries = 0;
        self.drawn_beside(set, passed, &mut |total| {
            tries += 1;
            mixed(count, tries, total)
        })
    }

    fn drawn(&self, draw: &mut dyn FnMut(u64) -> u64) -> Result<Option<u32>, Miss> {
        let set = &mut *self.set();
        self.refresh(set)?;
        self.drawn_beside(set, Passed::new(), draw)
    }
}

/// The verdict of a pick about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Take it.
    Fits,
    /// Pass over it, though others may take it.
    Passed,
    /// Pass over it, as all picks do: it is out.
    Out,
}

/// Milliseconds after which bits that are cleared are put right.
const MS_BETWEEN_LOOKS: u64 = 100;
/// The most peers that a pick looks at, all of them, before it finds none.
const FEW: u32 = 64;
/// Peers that a pick meets with their bits set though they are out, before it looks at all of them.
const MOST_MET: u32 = 8;
/// Members up to which a panic goes by a look at each.
const FEW_TO_PANIC: u32 = 128;
/// How often bits may change under a pick before it looks at the peers themselves.
const MOST_DISTURBED: u32 = 4;

/// The peers that are usable.
impl<'a, M: Memory, C: Memory> InGroup<'a, M, C> {
    /// Whether this pick takes all peers for usable.
    pub(super) fn takes_all(&self) -> bool {
        self.lenient || !self.one.has_failures
    }

    pub(super) fn set(&self) -> std::cell::RefMut<'a, Set> {
        let which = match (self.takes_all(), self.without) {
            (true, _) => 2,
            (false, None) => 0,
            (false, Some(_)) => 4,
        };
        let at = self.group as usize + which;
        std::cell::RefMut::map(self.one.sets.borrow_mut(), |sets| &mut sets[at])
    }

    pub(super) fn bits(&self) -> Bits<'a, M, C> {
        let cells = if self.takes_all() { None } else { self.one.cells };
        let without = self.without.map_or(&[][..], Starters::ranks);
        Bits { mem: self.one.mem, view: self.one.view, cells, group: self.group, without }
    }

    /// Reads `set` anew where the bits have changed. Puts the bits right first where no worker has for a while.
    pub(super) fn refresh(&self, set: &mut Set) -> Result<(), Miss> {
        if !set.is_of(self.one.view, self.changes()?) {
            self.read(set)?;
        }
        // Where some are left out, all members were looked at before.
        if !set.all && self.without.is_none() && self.looked_before(MS_BETWEEN_LOOKS)? {
            self.put_right(set)?;
        }
        Ok(())
    }

    pub(super) fn changes(&self) -> Result<u64, Damaged> {
        if self.takes_all() { Ok(0) } else { self.one.record.changes(self.one.mem) }
    }

    pub(super) fn read(&self, set: &mut Set) -> Result<(), Miss> {
        // The number before the bits: a bit that changes in between has the set read once more.
        let changes = self.changes()?;
        self.one.mem.fence();
        Ok(set.read(&self.bits(), changes)?)
    }

    /// Whether the last look at all peers is so long ago. Then this worker makes the next one.
    pub(super) fn looked_before(&self, ms: u64) -> Result<bool, Damaged> {
        self.one.record.takes_look(self.one.mem, self.now_ms, ms)
    }

    /// Looks at the cells of all members.
    pub(super) fn put_right(&self, set: &mut Set) -> Result<(), Miss> {
        let now = tenths(self.now_ms);
        if self.bits().put_right(|index| self.one.is_out(self.one.in_view(index).map_err(|_| Damaged)?, now))? {
            self.one.record.mark_change(self.one.mem)?;
            self.read(set)?;
        }
        Ok(())
    }

    /// How many of so many members are usable, for a panic.
    pub(super) fn usable_of(&self, members: u32) -> Result<u32, Miss> {
        if members > FEW_TO_PANIC {
            let set = &mut *self.set();
            self.refresh(set)?;
            return Ok(set.count);
        }
        let (bits, now) = (self.bits(), tenths(self.now_ms));
        let mut usable = 0;
        for rank in 0..members {
            usable += u32::from(!self.one.is_out(bits.peer(rank)?, now)?);
        }
        Ok(usable)
    }

    /// The verdict of a pick about a peer. A peer that is out is marked as not usable.
    pub(super) fn meet(&self, index: u32) -> Result<Look, Miss> {
        let look = self.look(index)?;
        if look == Look::Out {
            self.clear(index)?;
        }
        Ok(look)
    }

    /// Leaves a peer out of the draw.
    pub(super) fn pass(&self, set: &Set, index: u32, passed: &mut Passed) -> Result<(), Miss> {
        let (view, mem) = (self.one.view, self.one.mem);
        let weight = view.bits(mem, index)?.weight();
        if let Some(rank) = view.ranks[self.group as usize].rank_of(mem, view, index, weight)?
            && let Some(place) = set.place_of(&self.bits(), rank)?
        {
            passed.add(place);
        }
        Ok(())
    }

    /// A peer that fits, by weight, of those that are not passed over.
    pub(super) fn drawn_beside(
        &self,
        set: &mut Set,
        mut passed: Passed,
        draw: &mut dyn FnMut(u64) -> u64,
    ) -> Result<Option<u32>, Miss> {
        let (mut met, mut disturbed, mut looked) = (0, 0, self.takes_all());
        let mut is_read_again = looked;
        loop {
            let left = set.total.saturating_sub(passed.weight);
            if left == 0 && met > 0 && !is_read_again {
                // Each peer that was met while it was out has lost its bit, and so the numbers lead to others than before. One
                // that fits may have been passed over by the number of another. Once, as there are bits that no worker can clear.
                is_read_again = true;
                self.read(set)?;
                passed = Passed::new();
                continue;
            }
            if left == 0 && (looked || set.all || !self.may_look_again()?) {
                return Ok(None);
            }
            if left == 0 || met == MOST_MET && !looked {
                looked = true;
                self.put_right(set)?;
                passed = Passed::new();
                continue;
            }
            if passed.is_full() || disturbed == MOST_DISTURBED {
                return self.walk(draw);
            }
            let Some(place) = set.place(&self.bits(), passed.skip(draw(left)))? else {
                disturbed += 1;
                self.read(set)?;
                passed = Passed::new();
                continue;
            };
            let index = self.bits().peer(place.rank)?;
            match self.meet(index)? {
                Look::Fits => return Ok(Some(index)),
                Look::Passed => {}
                Look::Out => met += 1,
            }
            passed.add(place);
        }
    }

    /// Whether all peers may be looked at before none is found. A look at many of them is not due at each request.
    pub(super) fn may_look_again(&self) -> Result<bool, Damaged> {
        let members = self.one.view.ranks[self.group as usize].members;
        if members <= FEW { Ok(true) } else { self.looked_before(1 + u64::from(members) / 1000) }
    }

    /// Any peer that fits, by a look at each: for a pick that meets too many which do not.
    #[cold]
    pub(super) fn walk(&self, draw: &mut dyn FnMut(u64) -> u64) -> Result<Option<u32>, Miss> {
        let peers = self.peers();
        let first = draw(peers.into()) as u32;
        for step in 0..peers {
            let index = ((u64::from(first) + u64::from(step)) % u64::from(peers)) as u32;
            if self.fits(index)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Clears the bit of a peer that is out.
    #[cold]
    pub(super) fn clear(&self, index: u32) -> Result<(), Miss> {
        let (Some(cells), false) = (self.one.cells, self.takes_all()) else { return Ok(()) };
        let (mem, record) = (self.one.mem, self.one.record);
        let bit = self.one.view.usable_bit(mem, index)?;
        if record.change_usable(mem, &cells, bit, false)? {
            mem.fence();
            // It may have come back between the look and the store.
            if !self.one.is_out(index, tenths(self.now_ms))? {
                record.change_usable(mem, &cells, bit, true)?;
            }
        }
        Ok(())
    }

    pub(super) fn look(&self, index: u32) -> Result<Look, Miss> {
        let (view, mem) = (self.one.view, self.one.mem);
        let bits = view.bits(mem, self.one.in_view(index)?)?;
        if bits.group() != self.group || !bits.takes_traffic() || self.leaves_out(index) {
            return Ok(Look::Passed);
        }
        if !self.one.careful {
            return Ok(Look::Fits);
        }
        let untried = self.one.untried(index)?;
        let Some((cells, cell)) = self.cell(index)? else {
            self.notes.well.set(self.notes.well.get() || !untried);
            return Ok(if untried { Look::Fits } else { Look::Passed });
        };
        let (max_conns, limits) = view.limits(mem, index)?;
        let full = untried && max_conns != 0 && cells.open(cell)? >= max_conns.into();
        let is_down = view.checked && Verdict(cells.verdict(cell)?).is_down();
        let (out, waits) = match Health(cells.health(cell)?).fitness(limits, tenths(self.now_ms)) {
            _ if is_down => (true, false),
            Fitness::Out => (true, false),
            // A try whose end is not reported is no trial.
            Fitness::Trial { out, .. } => (false, out && !self.one.counts),
            Fitness::Well => (false, false),
        };
        if untried && !full && (self.lenient || !out && !waits) {
            return Ok(Look::Fits);
        }
        if !untried || full {
            self.notes.full.set(self.notes.full.get() || full);
            self.notes.well.set(self.notes.well.get() || !out && !waits);
        }
        Ok(if out && !self.lenient { Look::Out } else { Look::Passed })
    }

    fn leaves_out(&self, index: u32) -> bool {
        self.without.is_some_and(|starters| starters.has(index))
    }

    pub(super) fn cell(&self, index: u32) -> Result<Option<(Cells<'a, C>, u32)>, Miss> {
        let Some(cells) = self.one.cells else { return Ok(None) };
        let cell = self.one.view.cell(self.one.mem, index)?;
        Ok((cell != 0).then_some((cells, cell)))
    }
}
