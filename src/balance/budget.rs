//! How many retries an upstream may have: a share of the requests of the last ten seconds or so, of all workers, and never
//! less than a floor. A retry that every request makes doubles the load of an upstream that fails because of its load; a share
//! of them hardly adds to it. The idea is that of Finagle's retry budgets.

use crate::shm::{Damaged, Memory};

/// Words of a budget: so many intervals are remembered.
pub const WORDS: usize = 6;
/// Milliseconds of an interval: six of them are the last 10 to 12 seconds.
const INTERVAL_MS: u64 = 2000;

/// A word: which interval it is, modulo 2^20 : 20 | requests : 24 | retries : 20 (high part first).
const RETRIES_BITS: u32 = 20;
const REQUESTS_BITS: u32 = 24;
const MOST_RETRIES: u64 = (1 << RETRIES_BITS) - 1;
const MOST_REQUESTS: u64 = (1 << REQUESTS_BITS) - 1;

/// What an operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Retries for a hundred requests.
    pub percent: u32,
    /// Retries that are always allowed.
    pub floor: u32,
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
    pub fn request(&self) -> Result<(), Damaged> {
        self.count(1 << RETRIES_BITS, |requests, _| requests < MOST_REQUESTS)
    }

    /// Whether there may be one more retry now.
    pub fn allows(&self, allowance: Allowance) -> Result<bool, Damaged> {
        let (mut requests, mut retries) = (0, 0);
        for back in 0..WORDS as u64 {
            let Some(interval) = self.interval.checked_sub(back) else { break };
            let word = self.mem.load(self.place(interval))?;
            if is_of(word, interval) {
                requests += requests_of(word);
                retries += word & MOST_RETRIES;
            }
        }
        let share = requests * u64::from(allowance.percent) / 100;
        Ok(retries < share.max(allowance.floor.into()))
    }

    /// Counts a retry. It was allowed: workers who ask at once may go beyond the budget by one each.
    pub fn retry(&self) -> Result<(), Damaged> {
        self.count(1, |_, retries| retries < MOST_RETRIES)
    }

    fn place(&self, interval: u64) -> usize {
        self.at + (interval % WORDS as u64) as usize
    }

    fn count(&self, one: u64, room: impl Fn(u64, u64) -> bool) -> Result<(), Damaged> {
        let at = self.place(self.interval);
        let word = self.mem.load(at)?;
        if !is_of(word, self.interval) {
            // Whoever else begins it begins it with the same; if that one was first, this is one more.
            let begun = (self.interval & INTERVAL_MASK) << (RETRIES_BITS + REQUESTS_BITS);
            if self.mem.replace(at, word, begun + one)? {
                return Ok(());
            }
        } else if !room(requests_of(word), word & MOST_RETRIES) {
            return Ok(());
        }
        self.mem.add(at, one).map(|_| ())
    }
}

const INTERVAL_MASK: u64 = (1 << (64 - RETRIES_BITS - REQUESTS_BITS)) - 1;

fn is_of(word: u64, interval: u64) -> bool {
    word >> (RETRIES_BITS + REQUESTS_BITS) == interval & INTERVAL_MASK
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
            let allowed = |_: &u32| at(seconds).allows(SHARE) == Ok(true) && at(seconds).retry() == Ok(());
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
