//! Worker slots: the kernel says which workers live.
//!
//! A worker claims a slot by locking its byte of the lock file for life. Its death, by any cause, frees the byte. So a slot
//! needs no heartbeat and no look at /proc, and a reused pid confuses no process.
//!
//! A second byte says that the slot's word is written. The worker locks it after that, and lists ask for it. The word may have
//! been another worker's before the look at the byte, or be another one's after it. But the word counts the claims of its slot,
//! so the same word before and after is that of the holder.

use super::layout::Geometry;
use super::lock::{FIRST_LISTED, FIRST_SLOT, Holder, Locks};
use super::memory::{Damaged, Memory};
use super::versioned::TRIES;
use crate::error::{Code, Error, Result};

/// Words of a slot.
mod word {
    /// When it was last claimed, seconds since the epoch : 40 | how often it was : 24 (low part first).
    pub const SINCE: usize = 0;
}

/// Bits of a slot's word that hold the time.
const SINCE_BITS: u32 = 40;

/// A live process that has claimed a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Number of the slot.
    pub slot: u32,
    /// Its holder; this process knows itself by its pid.
    pub holder: Holder,
    /// Seconds since the epoch at which it was claimed.
    pub since: u64,
}

/// Claims the first free slot for the rest of this process's life; `now` in seconds since the epoch.
///
/// # Errors
///
/// [`Code::Full`]: all slots are taken.
/// [`Code::Damaged`]: a word of a slot lies outside of the memory.
/// Those of `locks`.
pub fn claim(mem: &impl Memory, geometry: &Geometry, locks: &impl Locks, now: u64) -> Result<u32> {
    for slot in 0..geometry.slots {
        if locks.keep(FIRST_SLOT + slot)? {
            enter(mem, since_at(geometry, slot), now)?;
            // Free, since the last worker of the slot lost both bytes in one step; unless a foreign program holds it.
            if locks.keep(FIRST_LISTED + slot)? {
                return Ok(slot);
            }
            locks.give_back(FIRST_SLOT + slot);
        }
    }
    Err(Error::new(
        Code::Full,
        format!(
            "all {} worker slots are taken: old workers that still shut down hold theirs (worker_shutdown_timeout)",
            geometry.slots
        ),
    ))
}

fn enter(mem: &impl Memory, at: usize, now: u64) -> Result<(), Damaged> {
    let claims = (mem.load(at)? >> SINCE_BITS) + 1;
    mem.store(at, claims << SINCE_BITS | seconds(now))
}

/// Takes a slot in which no worker lives, to clear up behind the last one. Answers whether it did.
///
/// # Errors
///
/// Those of `locks`.
pub fn take_if_dead(locks: &impl Locks, slot: u32) -> Result<bool> {
    Ok(locks.holder(FIRST_SLOT + slot, 1)?.is_none() && locks.keep(FIRST_SLOT + slot)?)
}

/// Gives back the slot that [`take_if_dead`] took.
pub fn give_back(locks: &impl Locks, slot: u32) {
    locks.give_back(FIRST_SLOT + slot);
}

/// Whether another process than this one lives in any slot.
///
/// # Errors
///
/// Those of `locks`.
pub fn others_live(geometry: &Geometry, locks: &impl Locks) -> Result<Option<Holder>> {
    locks.holder(FIRST_SLOT, geometry.slots)
}

/// All live workers; `own` is this process's slot, whose lock it cannot see itself.
///
/// # Errors
///
/// [`Code::Damaged`]: a word of a slot lies outside of the memory.
/// Those of `locks`.
pub fn live(mem: &impl Memory, geometry: &Geometry, locks: &impl Locks, own: Option<u32>) -> Result<Vec<Worker>> {
    let mut workers = Vec::new();
    for slot in 0..geometry.slots {
        let holder = || match own == Some(slot) {
            true => Ok(Some(Holder::Pid(std::process::id()))),
            false => locks.holder(FIRST_LISTED + slot, 1),
        };
        if let Some((holder, since)) = look(mem, since_at(geometry, slot), holder)? {
            workers.push(Worker { slot, holder, since });
        }
    }
    Ok(workers)
}

/// The holder of a slot, and since when. A slot that has another holder at each look counts as free.
fn look(mem: &impl Memory, at: usize, holder: impl Fn() -> Result<Option<Holder>>) -> Result<Option<(Holder, u64)>> {
    for _ in 0..TRIES {
        let before = mem.load(at)?;
        let Some(holder) = holder()? else { return Ok(None) };
        if mem.load(at)? == before {
            return Ok(Some((holder, seconds(before))));
        }
    }
    Ok(None)
}

fn since_at(geometry: &Geometry, slot: u32) -> usize {
    geometry.slots_at + slot as usize * geometry.shape.slot + word::SINCE
}

fn seconds(word: u64) -> u64 {
    word & ((1 << SINCE_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::mem::{Mem, tests::scratch};
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeSet;

    /// Locks that do as the test says.
    struct Scripted<K, H> {
        keep: K,
        holder: H,
    }

    /// A lock file in which another process holds some bytes.
    struct Taken<'a> {
        foreign: &'a [u32],
        kept: RefCell<BTreeSet<u32>>,
    }

    impl Locks for Taken<'_> {
        fn keep(&self, byte: u32) -> Result<bool> {
            Ok(!self.foreign.contains(&byte) && self.kept.borrow_mut().insert(byte))
        }

        fn give_back(&self, byte: u32) {
            assert!(self.kept.borrow_mut().remove(&byte), "byte {byte} was not held");
        }

        fn holder(&self, _: u32, _: u32) -> Result<Option<Holder>> {
            Ok(None)
        }
    }

    impl<K: Fn(u32) -> bool, H: Fn(u32) -> Option<u32>> Locks for Scripted<K, H> {
        fn keep(&self, byte: u32) -> Result<bool> {
            Ok((self.keep)(byte))
        }

        fn give_back(&self, byte: u32) {
            panic!("byte {byte} was to be kept");
        }

        fn holder(&self, byte: u32, _: u32) -> Result<Option<Holder>> {
            Ok((self.holder)(byte).map(Holder::Pid))
        }
    }

    fn region() -> (Mem, Geometry) {
        let geometry = Geometry::of(super::super::layout::MIN_SIZE).expect("allowed");
        (scratch(geometry.size as usize), geometry)
    }

    #[test]
    fn a_slot_is_listed_only_when_its_time_is_written() {
        let (mem, geometry) = region();
        let keep = |byte| {
            let written = mem.load(since_at(&geometry, 0)).map(seconds) == Ok(77);
            assert_eq!(written, byte == FIRST_LISTED, "byte {byte}");
            true
        };
        assert_eq!(claim(&mem, &geometry, &Scripted { keep, holder: |_| None }, 77), Ok(0));
    }

    #[test]
    fn of_a_slot_that_cannot_be_had_whole_nothing_is_kept() {
        let (mem, geometry) = region();
        let locks = Taken { foreign: &[FIRST_LISTED, FIRST_LISTED + 1], kept: RefCell::default() };
        assert_eq!(claim(&mem, &geometry, &locks, 77), Ok(2));
        assert_eq!(locks.kept.into_inner(), BTreeSet::from([FIRST_SLOT + 2, FIRST_LISTED + 2]));
    }

    #[test]
    fn a_slot_that_changes_hands_while_it_is_looked_at_has_the_time_of_its_holder() {
        let (mem, geometry) = region();
        let at = since_at(&geometry, 0);
        enter(&mem, at, 77).expect("inside");
        let looks = Cell::new(0);
        let holder = |byte| {
            looks.set(looks.get() + 1);
            match (byte == FIRST_LISTED, looks.get()) {
                (false, _) => None,
                (true, 1) => {
                    // It dies when it was seen, and others come, by a clock that was set back.
                    [76, 77].iter().for_each(|&now| enter(&mem, at, now).expect("inside"));
                    Some(1)
                }
                (true, _) => Some(3),
            }
        };
        let workers = live(&mem, &geometry, &Scripted { keep: |_| false, holder }, None).expect("readable");
        assert_eq!(workers, [Worker { slot: 0, holder: Holder::Pid(3), since: 77 }]);
    }
}
