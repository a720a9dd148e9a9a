//! The worker that probes a peer next, and the time: one word a peer, which all workers share.
//!
//! The workers that are ready to probe share the peers out, each by a hash of its own. So one worker more or less moves few
//! peers ([`share_of`]). A share is a lease. The worker that probes a peer takes the lease until the probe must be over, and
//! renews it by the next probe.
//!
//! A lease that is not renewed is free for any worker after half an interval ([`patience`]), even if its worker lives. When a
//! worker is not ready any more, its peers are shared out anew at once. A result that comes after its time counts for nothing,
//! since the lease is another word by then.

use crate::shm::cells::GENERATION_SHIFT;

const OWNER_SHIFT: u32 = 32;
const OWNER: u64 = 0xffff;

/// Milliseconds since the boot, as a lease has them.
pub type Millis = u32;

/// A lease: a time : 32 | the slot of the worker that probes, and 1 : 16 | how often the cell was taken : 16 (low part first).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease(pub u64);

impl Lease {
    /// How often the cell was taken.
    pub fn generation(self) -> u16 {
        (self.0 >> GENERATION_SHIFT) as u16
    }

    /// The slot of the worker that probes.
    pub fn owner(self) -> Option<u32> {
        ((self.0 >> OWNER_SHIFT & OWNER) as u32).checked_sub(1)
    }

    /// The time at which the next probe is due, or the one under way is over. `None`: not set yet, as in a cell that begins
    /// anew.
    pub fn at(self) -> Option<Millis> {
        (self.0 << (64 - GENERATION_SHIFT) != 0).then_some(self.0 as Millis)
    }

    /// The state of the lease now, where no worker sets a time that is further ahead than `most`.
    pub fn due(self, now: Millis, most: Millis) -> Due {
        let Some(at) = self.at() else { return Due::Unknown };
        match now.wrapping_sub(at) {
            late if late <= Millis::MAX / 2 => Due::Since(late),
            // The clock has wrapped since, or the interval is another one by now, or the word is damaged.
            _ if at.wrapping_sub(now) > most => Due::Unknown,
            _ => Due::In(at.wrapping_sub(now)),
        }
    }

    /// No worker probes until then.
    #[must_use]
    pub fn until(self, at: Millis) -> Lease {
        let generation = self.0 >> GENERATION_SHIFT << GENERATION_SHIFT;
        // A time of 0 would be none.
        Lease(generation | u64::from(at.max(1)))
    }

    /// The worker in `slot` probes, and is done then.
    #[must_use]
    pub fn taken(self, slot: u32, until: Millis) -> Lease {
        let owner = (u64::from(slot) + 1) & OWNER;
        Lease(self.until(until).0 | owner << OWNER_SHIFT)
    }
}

/// When a peer is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// No time is set, or one that cannot be meant.
    Unknown,
    /// In so many milliseconds, or the probe that is under way is over by then.
    In(Millis),
    /// It has been due for so many milliseconds.
    Since(Millis),
}

/// The slot that has the peer with this cell: the one whose hash with the cell is greatest. So a new slot takes its share from
/// all others, and a slot that goes leaves the shares of the others as they are (D. Thaler and C. Ravishankar, "A name-based
/// mapping scheme for rendezvous", 1996).
pub fn share_of(cell: u32, slots: &[u32]) -> Option<u32> {
    slots.iter().copied().max_by_key(|&slot| mixed(u64::from(cell) << 32 | u64::from(slot)))
}

/// The finalizer of splitmix64 (G. Steele, D. Lea and C. Flood, "Fast splittable pseudorandom number generators", 2014).
fn mixed(key: u64) -> u64 {
    let mut z = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// For how many milliseconds a due probe waits for the worker whose share it is.
pub fn patience(interval: Millis) -> Millis {
    interval / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NEW: Lease = Lease(7 << GENERATION_SHIFT);

    #[test]
    fn a_probe_is_due_when_its_time_has_come_and_again_when_who_took_it_should_be_done() {
        assert_eq!((NEW.at(), NEW.owner(), NEW.due(1000, 500)), (None, None, Due::Unknown));
        let waits = NEW.until(1000);
        assert_eq!((waits.at(), waits.owner()), (Some(1000), None));
        assert_eq!([999, 1000, 1007].map(|now| waits.due(now, 500)), [Due::In(1), Due::Since(0), Due::Since(7)]);
        let taken = waits.taken(511, 1025);
        assert_eq!((taken.owner(), taken.generation()), (Some(511), 7));
        assert_eq!([1000, 1025].map(|now| taken.due(now, 500)), [Due::In(25), Due::Since(0)]);
        assert_eq!(taken.until(1030), NEW.until(1030));
    }

    #[test]
    fn the_clock_may_wrap() {
        let waits = NEW.until(u32::MAX);
        let due = [u32::MAX - 1, u32::MAX, 0, 5].map(|now| waits.due(now, 9));
        assert_eq!(due, [Due::In(1), Due::Since(0), Due::Since(1), Due::Since(6)]);
        assert_eq!((NEW.until(0).at(), NEW.taken(0, 0).owner()), (Some(1), Some(0)));
    }

    #[test]
    fn a_time_that_nobody_can_have_set_is_none() {
        assert_eq!([500, 499].map(|now| NEW.until(1000).due(now, 500)), [Due::In(500), Due::Unknown]);
        assert_eq!(NEW.until(1000).due(1001 + (1 << 31), 500), Due::Unknown, "nobody has probed for weeks");
    }

    proptest! {
        #[test]
        fn one_worker_more_or_less_moves_its_own_share_and_no_other(
            mut slots in prop::collection::btree_set(0u32..512, 1..40), other in 0u32..512, cells in prop::collection::vec(1u32.., 1..50),
        ) {
            slots.remove(&other);
            let fewer: Vec<u32> = slots.iter().copied().collect();
            slots.insert(other);
            let more: Vec<u32> = slots.into_iter().collect();
            for cell in cells {
                let (before, after) = (share_of(cell, &fewer), share_of(cell, &more));
                prop_assert!(after == before || after == Some(other), "{before:?} {after:?}");
            }
        }
    }

    #[test]
    fn the_shares_are_about_equal() {
        let slots = [3, 4, 5, 9];
        let share = |slot| (1..=4000).filter(|&cell| share_of(cell, &slots) == Some(slot)).count();
        assert!(slots.iter().all(|&slot| (900..1100).contains(&share(slot))), "{:?}", slots.map(share));
        assert_eq!(share_of(1, &[]), None);
    }
}
