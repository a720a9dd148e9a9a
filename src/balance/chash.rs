//! chash: the peer that a key leads to on the ring, or the same answer without a ring.

use super::candidates::Candidates;
use super::group::InGroup;
use super::miss::Miss;
use crate::order::chash::{self, Base, Pick};
use crate::shm::versioned::TRIES;
use crate::shm::{Damaged, Memory};
use crate::table::snapshot::RingWords;

/// Largest total weight whose keys are looked up without a ring: 160 steps a unit, some 4 ms in all.
const MAX_WEIGHT_WITHOUT_RING: u64 = 20_000;

/// Whether a walk along a ring of so many points takes longer than a look at all points of the peers that are usable. A step of
/// the walk takes 15 ns. The look takes 800 ns for each unit of weight, which has 160 points.
fn is_walked_far(usable: u64, points: u32) -> bool {
    let all = u64::from(points) / 160;
    usable.saturating_mul(usable).saturating_mul(53) < all
}

impl<'a, M: Memory, C: Memory> InGroup<'a, M, C> {
    pub(super) fn chash(&self, hash: u32, wants_ring: &mut bool) -> Result<Option<u32>, Miss> {
        let ring = &self.one.view.rings[self.group as usize];
        *wants_ring |= ring.block == 0;
        match self.usable_weight()? {
            0 => return Ok(None),
            usable if ring.block == 0 => return self.instead_of_ring(hash, usable),
            usable if is_walked_far(usable, ring.shape.points) => return self.without_ring(hash, usable),
            _ => {}
        }
        let mut damaged = false;
        let take = |index| {
            self.take(index).unwrap_or_else(|_| {
                damaged = true;
                false
            })
        };
        let picked = chash::pick(&RingWords::new(self.one.mem, ring), ring.shape, hash, take);
        match picked {
            _ if damaged => Err(Miss::Damaged),
            Pick::Peer(index) => Ok(Some(index)),
            Pick::Nobody => Ok(None),
            Pick::TooFar => {
                let usable = self.usable_weight()?;
                self.without_ring(hash, usable)
            }
            Pick::Damaged => Err(Miss::Damaged),
        }
    }

    /// The weight of all usable peers, and more than nothing if one is usable.
    fn usable_weight(&self) -> Result<u64, Miss> {
        let set = &mut *self.set();
        self.refresh(set)?;
        if set.total == 0 && !self.takes_all() && self.may_look_again()? {
            self.put_right(set)?;
        }
        Ok(set.total)
    }

    /// The same answer where there is no ring, unless its cost has reached that of a ring.
    fn instead_of_ring(&self, hash: u32, usable: u64) -> Result<Option<u32>, Miss> {
        if self.one.builds && self.one.debt.is_spent(usable, self.weight_of_all()?) {
            return Err(Miss::NoRing);
        }
        self.without_ring(hash, usable)
    }

    /// The same answer from the usable peers alone, of this weight: slow, exact, and without memory.
    fn without_ring(&self, hash: u32, usable: u64) -> Result<Option<u32>, Miss> {
        if usable > MAX_WEIGHT_WITHOUT_RING {
            return Err(Miss::NoRing);
        }
        self.one.debt.walk(usable);
        // A peer that another pick has just claimed as its trial is passed over the next time.
        for _ in 0..TRIES {
            let mut damage = None;
            let member = |index: Result<u32, Damaged>| self.ring_member(index?);
            let (set, bits) = (self.set(), self.bits());
            let members = set.peers(&bits).map_while(|index| member(index).map_err(|miss| damage = Some(miss)).ok());
            let picked = chash::pick_without_ring(members, hash, |_| true);
            match (damage, picked) {
                (Some(damage), _) => return Err(damage),
                (None, Some(index)) if !self.claim(index)? => {}
                (None, picked) => return Ok(picked),
            }
        }
        Err(Miss::Changing)
    }

    /// A peer as the ring sees it: with weight 0 unless it can be picked now.
    fn ring_member(&self, index: u32) -> Result<(u32, Base, u16), Miss> {
        if !self.fits(index)? {
            return Ok((index, Base(0), 0));
        }
        let address = self.one.view.address(self.one.mem, index)?;
        Ok((index, Base::of(&address, self.one.view.hash_id), self.weight(index)?))
    }
}
