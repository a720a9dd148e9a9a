//! How often a call touches the region, and a spoiling in the middle of it.

use super::spoiler::{self, Spoiler};
use dyups::shm::kill::{self, Counted};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize};

/// The library raises it before the access that [`meanwhile`] has named. No other code uses it.
const SIGNAL: i32 = libc::SIGURG;

/// The data of the signal's handler, which can use statics alone.
static ORDERS: AtomicI32 = AtomicI32::new(-1);
static DONE: AtomicI32 = AtomicI32::new(-1);
static WORD: AtomicUsize = AtomicUsize::new(0);
static VALUE: AtomicU64 = AtomicU64::new(0);
static LIMIT: AtomicU64 = AtomicU64::new(0);
/// Before which access; 0: before none any more.
static ACCESS: AtomicU64 = AtomicU64::new(0);

/// Runs `body`, which may touch the region `limit` times: at one more the process aborts.
pub fn at_most<T>(limit: u64, body: impl FnOnce() -> T) -> T {
    LIMIT.store(limit, Relaxed);
    match ACCESS.load(Relaxed) {
        0 => kill::arm(Counted::Any, limit, libc::SIGABRT),
        access => kill::arm(Counted::Any, access, SIGNAL),
    }
    let value = body();
    kill::disarm();
    value
}

/// In a call of [`at_most`] while `body` runs, the first one that has so many accesses, the other process stores `value` before
/// access number `access`.
pub fn meanwhile(access: u64, spoiler: &Spoiler, (word, value): (usize, u64), body: impl FnOnce()) {
    let (orders, done) = spoiler.descriptors();
    ORDERS.store(orders, Relaxed);
    DONE.store(done, Relaxed);
    WORD.store(word, Relaxed);
    VALUE.store(value, Relaxed);
    ACCESS.store(access, Relaxed);
    // SAFETY: the handler makes calls that a handler may make, and touches atomics alone.
    unsafe { libc::signal(SIGNAL, spoil as *const () as libc::sighandler_t) };
    body();
    ACCESS.store(0, Relaxed);
}

extern "C" fn spoil(_: i32) {
    spoiler::order(ORDERS.load(Relaxed), DONE.load(Relaxed), WORD.load(Relaxed), VALUE.load(Relaxed));
    ACCESS.store(0, Relaxed);
    kill::arm(Counted::Any, LIMIT.load(Relaxed), libc::SIGABRT);
}
