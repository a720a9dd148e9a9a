//! Failures that requests meet, by nginx's rules for `max_fails` and `fail_timeout`
//! (src/http/ngx_http_upstream_round_robin.c), in one word that all workers share.
//!
//! A failure counts, and sets the time. After `max_fails` failures the peer is out for `fail_timeout`. Then the first worker
//! that sets the time anew may try the peer, and no other for another `fail_timeout`: one trial. If that try succeeds, the peer
//! is well. A try that began earlier says nothing.

pub use crate::shm::cells::begin;

use crate::shm::cells::GENERATION_SHIFT;

/// Tenths of a second since the boot, as a health word has them.
pub type Tenths = u32;

/// Now, from milliseconds since the boot.
pub fn tenths(now_ms: u64) -> Tenths {
    (now_ms / 100) as Tenths
}

const FAILS_SHIFT: u32 = 32;
const MOST_FAILS: u32 = (1 << 15) - 1;
const TRIED: u64 = 1 << 47;

/// A health word: time of the last failure or trial : 32 | failures : 15 | tried since the last failure : 1 | how often the
/// cell was taken : 16 (low part first).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health(pub u64);

/// The limits that an operator set for a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Failures that take the peer out; 0: none do.
    pub max_fails: u32,
    /// Seconds.
    pub fail_timeout: u32,
}

/// Whether a peer may be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// It may, as far as failures go.
    Well,
    /// It may not now.
    Out,
    /// A worker may try the peer once it has stored this word in the place of the old one. A worker that has not stored it may
    /// only if the peer is not `out`.
    Trial {
        /// The word.
        claim: Health,
        /// The peer is out: only the worker that has stored the word may try it.
        out: bool,
    },
}

impl Health {
    /// How often the cell was taken.
    pub fn generation(self) -> u16 {
        (self.0 >> GENERATION_SHIFT) as u16
    }

    /// Failures that count.
    pub fn fails(self) -> u32 {
        (self.0 >> FAILS_SHIFT) as u32 & MOST_FAILS
    }

    fn checked(self) -> Tenths {
        self.0 as Tenths
    }

    fn with(self, fails: u32, checked: Tenths, tried: bool) -> Health {
        let tried = if tried { TRIED } else { 0 };
        let generation = self.0 >> GENERATION_SHIFT << GENERATION_SHIFT;
        Health(generation | tried | u64::from(fails.min(MOST_FAILS)) << FAILS_SHIFT | u64::from(checked))
    }

    /// Whether nothing speaks against the peer, with any limits.
    #[inline(always)]
    pub fn is_well(self) -> bool {
        self.fails() == 0
    }

    /// Whether the peer is out by its failures.
    pub fn is_out(self, limits: Limits) -> bool {
        limits.max_fails != 0 && self.fails() >= limits.max_fails.min(MOST_FAILS)
    }

    /// Whether it may be picked now.
    pub fn fitness(self, limits: Limits, now: Tenths) -> Fitness {
        if self.is_well() || limits.max_fails == 0 {
            return Fitness::Well;
        }
        let (out, over) = (self.is_out(limits), self.is_over(limits, now));
        match (out, over) {
            (_, true) => Fitness::Trial { claim: self.with(self.fails(), now, true), out },
            (true, false) => Fitness::Out,
            (false, false) => Fitness::Well,
        }
    }

    fn is_over(self, limits: Limits, now: Tenths) -> bool {
        // A worker that read the clock before another worker wrote is behind it, and not some years ahead.
        i64::from(now.wrapping_sub(self.checked()) as i32) > i64::from(limits.fail_timeout) * 10
    }

    /// After a failure.
    pub fn failed(self, now: Tenths) -> Health {
        self.with(self.fails() + 1, now, false)
    }

    /// After a trial that was claimed and not made: the next one may begin at once.
    pub fn given_back(self, limits: Limits) -> Health {
        let before = limits.fail_timeout.saturating_mul(10).saturating_add(1);
        self.with(self.fails(), self.checked().wrapping_sub(before), false)
    }

    /// After probes have found the peer up again: failures of requests before that no longer count.
    pub fn cured(self) -> Health {
        self.with(0, self.checked(), false)
    }

    /// The word after the success of a try that began at `began`. `None`: nothing changes, since the try began before the
    /// trial, or the peer has failed since.
    pub fn succeeded(self, began: Health) -> Option<Health> {
        let tried = !self.is_well() && self.0 & began.0 & TRIED != 0;
        let since = (began.generation(), began.fails()) == (self.generation(), self.fails());
        (tried && since).then(|| self.with(0, self.checked(), false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { max_fails: 2, fail_timeout: 10 };

    #[test]
    fn after_max_fails_it_is_out_for_fail_timeout_and_then_one_may_try() {
        let well = Health(begin(0));
        assert_eq!(well.fitness(LIMITS, 1000), Fitness::Well);
        let once = well.failed(1000);
        assert_eq!((once.fails(), once.fitness(LIMITS, 1001)), (1, Fitness::Well));
        let twice = once.failed(1010);
        assert_eq!(twice.fitness(LIMITS, 1110), Fitness::Out);
        let Fitness::Trial { claim, out: true } = twice.fitness(LIMITS, 1111) else { panic!("it is over") };
        assert_eq!(claim.fitness(LIMITS, 1211), Fitness::Out);
        assert!(matches!(claim.fitness(LIMITS, 1212), Fitness::Trial { out: true, .. }));
        assert!(matches!(claim.given_back(LIMITS).fitness(LIMITS, 1111), Fitness::Trial { out: true, .. }));
        assert_eq!(claim.succeeded(claim).map(|word| word.fitness(LIMITS, 1112)), Some(Fitness::Well));
        assert_eq!(claim.succeeded(twice), None, "it was under way before");
        let failed = claim.failed(1115);
        assert_eq!((failed.fitness(LIMITS, 1200), failed.succeeded(claim)), (Fitness::Out, None));
        let Fitness::Trial { claim: later, .. } = failed.fitness(LIMITS, 1216) else { panic!("it is over again") };
        assert_eq!((later.succeeded(claim), later.succeeded(later).map(Health::fails)), (None, Some(0)));
    }

    #[test]
    fn failures_far_apart_do_not_add_up_if_there_was_a_success_between() {
        let once = Health(begin(0)).failed(1000);
        assert_eq!(once.succeeded(once), None, "it may have been under way before");
        let Fitness::Trial { claim, out: false } = once.fitness(LIMITS, 1101) else { panic!("a new window") };
        assert_eq!(claim.succeeded(claim).map(Health::fails), Some(0));
        assert_eq!(claim.failed(1102).fitness(LIMITS, 1103), Fitness::Out, "as in nginx, without one they do");
    }

    #[test]
    fn a_failure_that_is_younger_than_the_look_at_the_clock_is_not_over() {
        let out = Health(begin(0)).failed(1000).failed(1001);
        assert_eq!(out.fitness(LIMITS, 1000), Fitness::Out);
        assert_eq!(out.fitness(LIMITS, 0), Fitness::Out);
        let wrapped = Health(begin(0)).failed(u32::MAX).failed(u32::MAX);
        assert_eq!(wrapped.fitness(LIMITS, 99), Fitness::Out);
        assert!(matches!(wrapped.fitness(LIMITS, 100), Fitness::Trial { out: true, .. }));
        assert_eq!(out.fitness(Limits { fail_timeout: u32::MAX, ..LIMITS }, 1 << 30), Fitness::Out);
    }

    #[test]
    fn who_has_no_limit_is_never_out_and_failures_do_not_overflow() {
        let mut word = Health(begin(0));
        (0..40_000).for_each(|_| word = word.failed(7));
        assert_eq!((word.fails(), word.generation()), (32_767, 1));
        assert_eq!(word.fitness(Limits { max_fails: 0, ..LIMITS }, 7), Fitness::Well);
        assert_eq!(word.fitness(Limits { max_fails: u32::MAX, ..LIMITS }, 7), Fitness::Out);
    }

    #[test]
    fn a_cell_that_is_taken_again_begins_well_under_another_number() {
        let word = Health(begin(0)).failed(7).failed(8);
        let again = Health(begin(word.0));
        assert_eq!((again.generation(), again.fails(), again.is_well()), (2, 0, true));
        assert_eq!(Health(begin(u64::MAX)).generation(), 1);
    }
}
