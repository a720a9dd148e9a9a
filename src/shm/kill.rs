//! A signal at any access to shared memory, for tests (feature `killpoints`, never in a library that ships). It counts the
//! accesses of this process to the mapping. At the access that the test names, it raises a signal at itself instead of going
//! on.
//!
//! ```no_run
//! # use dyups::shm::kill;
//! # let change = || {};
//! kill::arm(kill::Counted::Store, 3, 9); // 9: SIGKILL
//! change(); // dies before its third store
//! assert!(kill::disarm() < 3); // there were fewer
//! ```

use std::panic::Location;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

/// Which accesses are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Any access that changes a word.
    Store,
    /// Loads too.
    Any,
}

/// Whether stores count. A test that puts an image back stores many words, and none of them is one of its points.
static COUNTS_STORES: AtomicBool = AtomicBool::new(false);
static COUNTS_LOADS: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);
static LAST: AtomicU64 = AtomicU64::new(0);
static SIGNAL: AtomicI32 = AtomicI32::new(0);
static RECORDING: Mutex<Option<Vec<&'static Location<'static>>>> = Mutex::new(None);

/// Begins to count from 1. Before access number `nth` of this kind, the process raises `signal` at itself; never if `nth` is 0.
pub fn arm(kind: Counted, nth: u64, signal: i32) {
    COUNT.store(0, Ordering::Relaxed);
    LAST.store(nth, Ordering::Relaxed);
    SIGNAL.store(signal, Ordering::Relaxed);
    COUNTS_STORES.store(true, Ordering::Relaxed);
    COUNTS_LOADS.store(kind == Counted::Any, Ordering::Relaxed);
}

/// Stops counting; answers the accesses since [`arm`].
pub fn disarm() -> u64 {
    COUNTS_STORES.store(false, Ordering::Relaxed);
    COUNTS_LOADS.store(false, Ordering::Relaxed);
    COUNT.load(Ordering::Relaxed)
}

/// From now on, remembers where in the source each store comes from.
pub fn record() {
    *RECORDING.lock().expect("nobody panics under it") = Some(Vec::new());
}

/// The places that stored something since [`record`], in order.
pub fn recorded() -> Vec<&'static Location<'static>> {
    RECORDING.lock().expect("nobody panics under it").take().unwrap_or_default()
}

/// A store is about to happen.
#[inline(always)]
#[track_caller]
pub(super) fn storing() {
    if COUNTS_STORES.load(Ordering::Relaxed) {
        if let Some(places) = RECORDING.lock().expect("nobody panics under it").as_mut() {
            places.push(Location::caller());
        }
        count();
    }
}

/// A load is about to happen.
#[inline(always)]
pub(super) fn loading() {
    if COUNTS_LOADS.load(Ordering::Relaxed) {
        count();
    }
}

#[cold]
fn count() {
    if COUNT.fetch_add(1, Ordering::Relaxed) + 1 == LAST.load(Ordering::Relaxed) {
        // SAFETY: a signal to this very thread, which a signal to the process may meet later than another one. SIGKILL: nothing
        // after it runs. SIGSTOP: the next instruction waits for SIGCONT.
        unsafe { libc::raise(SIGNAL.load(Ordering::Relaxed)) };
    }
}
