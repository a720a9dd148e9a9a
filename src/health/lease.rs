//! Who probes a peer, and when: one word a peer, which all workers share.
//!
//! Nobody owns a peer. When its probe is due, whichever worker sees that first takes it, until the probe must be over; what comes of
//! it counts if nobody else has taken the peer since. So peers are shared out by who has time, one probe at a time; what a worker
//! that died or sleeps had taken is another's as soon as its time is over; and what it finds after that counts for nothing.

use super::passive::Tenths;
use crate::shm::cells::GENERATION_SHIFT;

const OWNER_SHIFT: u32 = 32;
const OWNER: u64 = 0xffff;

/// A lease: a time : 32 | the slot of the worker that probes, and 1 : 16 | how often the cell was taken : 16 (low part first).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease(pub u64);

impl Lease {
    /// That of a cell that begins anew: no time was set yet.
    pub fn begin(generation: u16) -> Lease {
        Lease(u64::from(generation) << GENERATION_SHIFT)
    }

    /// How often the cell was taken.
    pub fn generation(self) -> u16 {
        (self.0 >> GENERATION_SHIFT) as u16
    }

    /// The slot of the worker that probes.
    pub fn owner(self) -> Option<u32> {
        ((self.0 >> OWNER_SHIFT & OWNER) as u32).checked_sub(1)
    }

    /// When the next probe is due, or the one under way is over; `None`: nobody has said yet.
    pub fn at(self) -> Option<Tenths> {
        (self.0 & !(OWNER << OWNER_SHIFT) != Lease::begin(self.generation()).0 || self.owner().is_some())
            .then_some(self.0 as Tenths)
    }

    /// Whether a worker may take it now.
    pub fn is_due(self, now: Tenths) -> bool {
        // Who looked at the clock before another worker wrote is behind it, and not some years ahead.
        self.at().is_some_and(|at| now.wrapping_sub(at) as i32 >= 0)
    }

    /// Nobody probes until then. A time of 0 would be none.
    #[must_use]
    pub fn until(self, at: Tenths) -> Lease {
        Lease(Lease::begin(self.generation()).0 | u64::from(at.max(1)))
    }

    /// The worker in `slot` probes, and is done then.
    #[must_use]
    pub fn taken(self, slot: u32, until: Tenths) -> Lease {
        let owner = (u64::from(slot) + 1) & OWNER;
        Lease(self.until(until).0 | owner << OWNER_SHIFT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_due_when_its_time_has_come_and_again_when_who_took_it_should_be_done() {
        let new = Lease::begin(7);
        assert_eq!((new.at(), new.owner(), new.is_due(1000)), (None, None, false));
        let waits = new.until(1000);
        assert_eq!((waits.at(), waits.owner()), (Some(1000), None));
        assert_eq!([999, 1000, 1001].map(|now| waits.is_due(now)), [false, true, true]);
        let taken = waits.taken(1023, 1025);
        assert_eq!((taken.owner(), taken.generation()), (Some(1023), 7));
        assert_eq!([1000, 1024, 1025].map(|now| taken.is_due(now)), [false, false, true]);
        assert_eq!(taken.until(1030), new.until(1030));
    }

    #[test]
    fn the_clock_may_wrap() {
        let waits = Lease::begin(0).until(u32::MAX);
        assert_eq!([u32::MAX - 1, u32::MAX, 0, 5].map(|now| waits.is_due(now)), [false, true, true, true]);
        assert_eq!(Lease::begin(0).until(0).at(), Some(1));
        assert_eq!(Lease::begin(0).taken(0, 0).owner(), Some(0));
    }
}
