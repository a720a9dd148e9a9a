//! The cost of lookups by chash without a ring, and whether it has reached that of the ring itself.

use crate::error::{Code, Result};
use crate::shm::clock::now_ms;
use std::cell::Cell;

/// So many units of weight are walked in the time in which one is built into a ring: 0.25 µs against 2.4.
const WALKS_OF_A_BUILD: u64 = 9;

/// Until a build that failed is tried again. A region without room is not asked at each pick.
const MS_BETWEEN_BUILDS: u64 = 1000;

/// The account of one handle.
#[derive(Debug, Default)]
pub(super) struct Debt {
    /// Units of weight that lookups have walked since the last build.
    walked: Cell<u64>,
    /// Milliseconds since the boot, before which nothing is built.
    not_before: Cell<u64>,
}

impl Debt {
    /// A lookup walks so many units of weight.
    pub fn walk(&self, weight: u64) {
        self.walked.set(self.walked.get().saturating_add(weight));
    }

    /// Whether a ring is to be built before so much is walked: the ring has `all` units of weight.
    pub fn is_spent(&self, weight: u64, all: u64) -> bool {
        self.walked.get().saturating_add(weight) > all.saturating_mul(WALKS_OF_A_BUILD) && self.may_build()
    }

    /// Whether a build may be tried now.
    pub fn may_build(&self) -> bool {
        now_ms() >= self.not_before.get()
    }

    /// Notes the result of a build. A busy writer may be done by the next pick.
    pub fn built(&self, done: &Result<()>) {
        match done {
            Ok(()) => self.walked.set(0),
            Err(error) if error.code == Code::Busy => {}
            Err(_) => self.rest(),
        }
    }

    /// Nothing is built for a while.
    pub fn rest(&self) {
        self.not_before.set(now_ms() + MS_BETWEEN_BUILDS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn lookups_cost_at_most_what_a_build_does() {
        let debt = Debt::default();
        let lookups = (0..100).take_while(|_| !debt.is_spent(10, 10)).map(|_| debt.walk(10)).count();
        assert_eq!(lookups as u64, WALKS_OF_A_BUILD);
        debt.built(&Ok(()));
        assert!(!debt.is_spent(10, 10));
    }

    #[test]
    fn a_build_that_failed_is_tried_later_and_one_that_met_another_writer_at_once() {
        let debt = Debt::default();
        debt.walk(u64::MAX);
        debt.built(&Err(Error::new(Code::Busy, "busy")));
        assert!(debt.is_spent(1, 1) && debt.may_build());
        debt.built(&Err(Error::new(Code::Full, "full")));
        assert!(!debt.is_spent(1, 1) && !debt.may_build());
    }
}
