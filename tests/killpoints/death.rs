//! The deaths themselves: which stores there are, and a child that dies at one of them.

use dyups::shm::kill::{self, Counted};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};

/// A line of the library that stores: its file and number.
pub type Place = (&'static str, u32);

/// The stores of one operation: where each comes from.
pub struct Stores(Vec<&'static Location<'static>>);

impl Stores {
    /// Those of `body`, which lives.
    pub fn of(body: impl FnOnce()) -> Self {
        kill::record();
        kill::arm(Counted::Store, 0, libc::SIGKILL);
        body();
        let count = kill::disarm();
        let stores = Stores(kill::recorded());
        assert_eq!(stores.count(), count);
        stores
    }

    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.0.iter().map(|place| (place.file(), place.line()))
    }

    /// Where store `nth` comes from.
    pub fn place(&self, nth: u64) -> Place {
        let place = self.0[nth as usize - 1];
        (place.file(), place.line())
    }

    /// Every one of them.
    pub fn all(&self) -> BTreeSet<u64> {
        (1..=self.count()).collect()
    }

    /// `count` spread evenly, the ends among them.
    pub fn spread(&self, count: u64) -> BTreeSet<u64> {
        let last = self.count();
        (0..count).map(|i| 1 + i * last.saturating_sub(1) / (count - 1)).filter(|&nth| nth <= last).collect()
    }

    /// Those around every step from one line of the source to another: around the publishing, for one.
    pub fn steps(&self) -> BTreeSet<u64> {
        let steps = (1u64..).zip(self.0.windows(2)).filter(|(_, pair)| pair[0] != pair[1]);
        steps
            .flat_map(|(nth, _)| nth.saturating_sub(1)..=nth + 2)
            .filter(|nth| (1..=self.count()).contains(nth))
            .collect()
    }
}

/// Runs `body` in a child that dies before store `nth`. Whether it did; a child that ends otherwise has to end well.
pub fn dies_at(nth: u64, body: impl FnOnce()) -> bool {
    // SAFETY: this program has one thread.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            kill::arm(Counted::Store, nth, libc::SIGKILL);
            let ended = catch_unwind(AssertUnwindSafe(body)).is_ok();
            // SAFETY: ends the child without running the functions that the parent has registered.
            unsafe { libc::_exit(i32::from(!ended)) }
        }
        child => {
            let mut status = 0;
            // SAFETY: our child, and a valid place for its status.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            if libc::WIFSIGNALED(status) {
                assert_eq!(libc::WTERMSIG(status), libc::SIGKILL, "died of something else, not at store {nth}");
                return true;
            }
            assert_eq!(status, 0, "failed before store {nth}");
            false
        }
    }
}
