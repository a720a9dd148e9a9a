//! The time that all processes of this boot share.

/// Milliseconds since the boot, without a system call. The clock is a few milliseconds late.
#[inline]
pub fn now_ms() -> u64 {
    millis(libc::CLOCK_MONOTONIC_COARSE)
}

/// The same, and never late. To read this clock takes some times as long.
pub fn exact_ms() -> u64 {
    millis(libc::CLOCK_MONOTONIC)
}

/// Milliseconds since the epoch, for people. An operator may set this clock.
pub fn epoch_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// Milliseconds that this thread has spent on a CPU. A system call.
pub fn spent_ms() -> u64 {
    millis(libc::CLOCK_THREAD_CPUTIME_ID)
}

#[inline]
fn millis(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes a timespec into a live one; these clocks are always there.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}
