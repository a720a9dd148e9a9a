//! How many retries an upstream may have: a share of all workers' requests of about the last ten seconds, and never less than a
//! floor. A retry of every request doubles the load of an upstream that fails because of its load. A share of them
//! hardly adds to it. The idea is that of Finagle's retry budgets.
//!
//! nginx asks before a try ends whether there may be another one. So a request may try once more though the budget is spent.
//! That try is free where the one before it cost no backend anything. Where a peer answered, and nginx has thrown the answer
//! away, the retry is made beyond the budget. Then no request is told again that it may retry, for as long as the budget
//! remembers.

use crate::shm::versioned::TRIES;
use crate::shm::{Damaged, Memory};

/// Words of a budget: so many intervals are remembered.
pub const WORDS: usize = 6;
/// Milliseconds of an interval: six of them are the last 10 to 12 seconds.
const INTERVAL_MS: u64 = 2000;

/// A word: which interval it is, modulo 2^20 : 20 | a retry was beyond the budget : 1 | requests : 23 | retries : 20 (high part
/// first).
const RETRIES_BITS: u32 = 20;
const REQUESTS_BITS: u32 = 23;
const BEYOND: u64 = 1 << (RETRIES_BITS + REQUESTS_BITS);
const INTERVAL_AT: u32 = RETRIES_BITS + REQUESTS_BITS + 1;
const MOST_RETRIES: u64 = (1 << RETRIES_BITS) - 1;
const MOST_REQUESTS: u64 = (1 << REQUESTS_BITS) - 1;

/// The retries that an operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Retries for a hundred requests; [`Allowance::ANY`]: as many as there are.
    pub percent: u32,
    /// Retries that are always allowed.
    pub floor: u32,
}

impl Allowance {
    /// As a `percent`: there is no budget.
    pub const ANY: u32 = u32::MAX;
}

/// The rest of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// At least one more retry.
    Some,
    /// None. nginx may still be told that another try may follow.
    Spent,
    /// None, and a retry has gone beyond it. nginx has to be told that no other try may follow.
    Overdrawn,
}

/// What a budget remembers, of the last 10 to 12 seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Requests.
    pub requests: u64,
    /// Retries that cost the budget.
    pub retries: u64,
    /// A retry went beyond it.
    pub beyond: bool,
}

/// The budget of one upstream.
#[derive(Debug)]
pub struct Budget<'a, M> {
    mem: &'a M,
    at: usize,
    interval: u64,
}

impl<'a, M: Memory> Budget<'a, M> {
    /// The one whose first word is `at`, at a time in milliseconds since the boot.
    pub fn new(mem: &'a M, at: usize, now_ms: u64) -> Self {
        Budget { mem, at, interval: now_ms / INTERVAL_MS }
    }

    /// Counts a request.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word of the budget lies outside of the memory.
    pub fn request(&self) -> Result<(), Damaged> {
        self.count(1 << RETRIES_BITS, |requests, _| requests < MOST_REQUESTS)
    }

    /// The rest of it now.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word of the budget lies outside of the memory.
    pub fn left(&self, allowance: Allowance) -> Result<Left, Damaged> {
        if allowance.percent == Allowance::ANY {
            return Ok(Left::Some);
        }
        let Remembered { requests, retries, beyond } = self.remembered()?;
        let share = requests * u64::from(allowance.percent) / 100;
        Ok(match (retries < share.max(allowance.floor.into()), beyond) {
            (true, _) => Left::Some,
            (false, false) => Left::Spent,
            (false, true) => Left::Overdrawn,
        })
    }

    /// What it remembers now.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word of the budget lies outside of the memory.
    pub fn remembered(&self) -> Result<Remembered, Damaged> {
        let mut sums = Remembered::default();
        for back in 0..WORDS as u64 {
            let Some(interval) = self.interval.checked_sub(back) else { break };
            let word = self.mem.load(self.place(interval))?;
            if is_of(word, interval) {
                sums.requests += requests_of(word);
                sums.retries += word & MOST_RETRIES;
                sums.beyond |= word & BEYOND != 0;
            }
        }
        Ok(sums)
    }

    /// Counts a retry. It was allowed: workers that ask at once may go beyond the budget by one each.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word of the budget lies outside of the memory.
    pub fn retry(&self) -> Result<(), Damaged> {
        self.count(1, |_, retries| retries < MOST_RETRIES)
    }

    /// Remembers that a retry goes beyond it.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word of the budget lies outside of the memory.
    pub fn overdraw(&self) -> Result<(), Damaged> {
        let at = self.place(self.interval);
        // With each time that it fails, another worker has counted.
        for _ in 0..TRIES {
            let word = self.mem.load(at)?;
            let now = if is_of(word, self.interval) { word } else { self.begun() };
            if word == now | BEYOND || self.mem.replace(at, word, now | BEYOND)? {
                break;
            }
        }
        Ok(())
    }

    fn place(&self, interval: u64) -> usize {
        self.at + (interval % WORDS as u64) as usize
    }

    /// The word of this interval, with nothing counted.
    fn begun(&self) -> u64 {
        (self.interval & INTERVAL_MASK) << INTERVAL_AT
    }

    fn count(&self, one: u64, room: impl Fn(u64, u64) -> bool) -> Result<(), Damaged> {
        let at = self.place(self.interval);
        let word = self.mem.load(at)?;
        if !is_of(word, self.interval) {
            // Another worker that begins it begins it with the same. If it was first, this is one more.
            if self.mem.replace(at, word, self.begun() + one)? {
                return Ok(());
            }
        } else if !room(requests_of(word), word & MOST_RETRIES) {
            return Ok(());
        }
        self.mem.add(at, one).map(|_| ())
    }
}

const INTERVAL_MASK: u64 = (1 << (64 - INTERVAL_AT)) - 1;

fn is_of(word: u64, interval: u64) -> bool {
    word >> INTERVAL_AT == interval & INTERVAL_MASK
}

fn requests_of(word: u64) -> u64 {
    word >> RETRIES_BITS & MOST_REQUESTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::mem::tests::scratch;

    const SHARE: Allowance = Allowance { percent: 20, floor: 3 };

    #[test]
    fn a_share_of_the_requests_of_the_last_ten_seconds_and_never_less_than_the_floor() {
        let mem = scratch(4096);
        let at = |seconds: u64| Budget::new(&mem, 8, 1_000_000 + seconds * 1000);
        let retries = |seconds| {
            let allowed = |_: &u32| at(seconds).left(SHARE) == Ok(Left::Some) && at(seconds).retry() == Ok(());
            (0..1000).take_while(allowed).count()
        };
        assert_eq!(retries(0), 3, "the floor");
        (0..100).for_each(|_| at(1).request().expect("inside"));
        assert_eq!(retries(1), 17);
        (0..50).for_each(|_| at(4).request().expect("inside"));
        assert_eq!(retries(9), 10);
        assert_eq!(retries(12), 0, "the first 100 are forgotten, and their 20 retries");
        assert_eq!(retries(30), 3, "all of them");
    }

    #[test]
    fn a_retry_beyond_the_budget_is_remembered_for_as_long_as_the_budget_is() {
        let mem = scratch(4096);
        let at = |seconds: u64| Budget::new(&mem, 8, 1_000_000 + seconds * 1000);
        (0..3).for_each(|_| at(0).retry().expect("inside"));
        assert_eq!(at(0).left(SHARE), Ok(Left::Spent));
        assert_eq!((at(0).overdraw(), at(0).retry()), (Ok(()), Ok(())));
        assert_eq!(at(0).left(SHARE), Ok(Left::Overdrawn));
        assert_eq!(at(0).left(Allowance { floor: 9, ..SHARE }), Ok(Left::Some));
        assert_eq!(at(0).left(Allowance { percent: Allowance::ANY, floor: 0 }), Ok(Left::Some), "without a budget");
        (0..3).for_each(|_| at(10).retry().expect("inside"));
        assert_eq!((at(10).left(SHARE), at(12).left(SHARE)), (Ok(Left::Overdrawn), Ok(Left::Spent)));
        at(24).overdraw().expect("inside");
        (0..3).for_each(|_| at(24).retry().expect("inside"));
        assert_eq!(at(24).left(SHARE), Ok(Left::Overdrawn), "it was the first to write in this interval");
    }

    #[test]
    fn a_busy_interval_does_not_overflow_into_others() {
        let mem = scratch(4096);
        let budget = Budget::new(&mem, 8, 7000);
        budget.request().expect("inside");
        mem.add(8 + 3, (MOST_REQUESTS - 1) << RETRIES_BITS).expect("inside");
        (0..3).for_each(|_| budget.request().expect("inside"));
        assert_eq!(requests_of(mem.load(8 + 3).expect("inside")), MOST_REQUESTS);
        assert!(is_of(mem.load(8 + 3).expect("inside"), 3));
    }
}
