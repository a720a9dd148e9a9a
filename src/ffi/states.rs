//! nginx's own state of each try of a request: status, times and bytes, without the way over a variable's text.
//!
//! nginx enters a try before it asks for the peer of that. The list moves as it grows, so a try is known by its number. The head of
//! an entry has not changed since nginx 1.17.0; the list itself knows how long an entry is.

use super::kept;
use crate::stats::ended::Ended;
use std::cell::Cell;
use std::ffi::c_void;

/// nginx's `ngx_array_t`.
#[repr(C)]
struct Array {
    entries: *const u8,
    count: usize,
    /// Bytes of an entry.
    size: usize,
}

/// The head of nginx's `ngx_http_upstream_state_t`. Times are milliseconds; all bits set: not yet.
#[repr(C)]
struct State {
    status: usize,
    response_time: usize,
    connect_time: usize,
    header_time: usize,
    queue_time: usize,
    response_length: i64,
    bytes_received: i64,
    bytes_sent: i64,
    peer: *const c_void,
}

/// Entries are larger by some words at most.
const MOST_BYTES: usize = size_of::<State>() + 256;
/// More tries than a request ever has.
const MOST: usize = 1 << 20;

/// The list of a request, if it has one and it looks like one.
///
/// # Safety
///
/// `request` is a request of nginx that this thread processes, and that has not ended.
unsafe fn list<'a>(request: *const c_void) -> Option<&'a Array> {
    let at = kept::states_at()?;
    // SAFETY: the caller's contract: the request has these words, and its list lives as long.
    let list = unsafe {
        if !kept::is_request(request) {
            return None;
        }
        request.cast::<u8>().add(at).cast::<*const Array>().read().as_ref()
    }?;
    let is_one =
        (size_of::<State>()..=MOST_BYTES).contains(&list.size) && list.count <= MOST && !list.entries.is_null();
    is_one.then_some(list)
}

/// The number of the last try of a request, which may be under way. `None`: it has none, or this nginx is not known.
///
/// # Safety
///
/// As [`list`].
pub unsafe fn last(request: *const c_void) -> Option<u32> {
    // SAFETY: the caller's contract.
    let list = unsafe { list(request) }?;
    list.count.checked_sub(1).and_then(|last| u32::try_from(last).ok())
}

/// The end of try `number` of a request. `None`: there is no such try.
///
/// # Safety
///
/// As [`list`].
pub unsafe fn ended(request: *const c_void, number: u32) -> Option<Ended> {
    // SAFETY: the caller's contract.
    let list = unsafe { list(request) }.filter(|list| (number as usize) < list.count)?;
    // SAFETY: the list has this entry, aligned as nginx aligns all of its pool, and an entry begins with these words.
    let state = unsafe { list.entries.add(number as usize * list.size).cast::<State>().read() };
    let ms = |time: usize| (time != usize::MAX).then(|| u32::try_from(time).unwrap_or(u32::MAX));
    Some(Ended {
        status: u16::try_from(state.status).unwrap_or_default(),
        connect_ms: ms(state.connect_time),
        header_ms: ms(state.header_time),
        response_ms: ms(state.response_time),
        kept: false,
        retry: false,
        sent: u64::try_from(state.bytes_sent).unwrap_or_default(),
        received: u64::try_from(state.bytes_received).unwrap_or_default(),
    })
}

/// The warning of a worker that does not believe.
pub const DOUBT: &str = "balance: nginx's states of tries are not where this version of nginx has them: from now on this worker reads \
                         nginx's variables, which takes longer";

/// Tries of a worker whose states are compared with nginx's variables, before the worker believes the states.
const COMPARED: u32 = 16;

/// How far a worker believes that nginx's states are where it looks for them.
#[derive(Debug)]
pub struct Trust {
    /// Tries that are still to be compared.
    left: Cell<u32>,
    state: Cell<Believes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Believes {
    Yes,
    /// And the log is to say so.
    NoAndUnsaid,
    No,
}

impl Trust {
    /// That of a worker that has compared nothing.
    pub const fn new() -> Self {
        Trust { left: Cell::new(COMPARED), state: Cell::new(Believes::Yes) }
    }

    /// Whether it believes.
    pub fn holds(&self) -> bool {
        self.state.get() == Believes::Yes
    }

    /// The end of a try by its state, if that can be believed: the first ones are compared with the variables.
    pub fn check(&self, state: Option<Ended>, by_variables: impl FnOnce() -> Ended) -> Option<Ended> {
        let state = state.filter(|_| self.holds())?;
        if let Some(left) = self.left.get().checked_sub(1) {
            self.left.set(left);
            if by_variables() != state {
                self.state.set(Believes::NoAndUnsaid);
                return None;
            }
        }
        Some(state)
    }

    /// Whether the log has yet to say that this worker does not believe; it is asked once.
    pub fn complains(&self) -> bool {
        let is_unsaid = self.state.get() == Believes::NoAndUnsaid;
        if is_unsaid {
            self.state.set(Believes::No);
        }
        is_unsaid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Ended = Ended {
        status: 200,
        connect_ms: Some(0),
        header_ms: Some(1),
        response_ms: Some(2),
        kept: false,
        retry: false,
        sent: 3,
        received: 4,
    };

    #[test]
    fn the_first_tries_are_compared_and_one_that_differs_ends_the_belief_for_good_with_one_complaint() {
        let trust = Trust::new();
        let mut compared = 0;
        for _ in 0..100 {
            let same = || {
                compared += 1;
                ONE
            };
            assert_eq!(trust.check(Some(ONE), same), Some(ONE));
        }
        assert_eq!((compared, trust.holds(), trust.complains()), (COMPARED, true, false));
        let trust = Trust::new();
        assert_eq!(trust.check(Some(ONE), || Ended { sent: 9, ..ONE }), None);
        assert_eq!(trust.check(Some(ONE), || ONE), None, "from now on");
        assert_eq!((trust.holds(), trust.complains(), trust.complains()), (false, true, false));
    }

    #[test]
    fn the_head_of_an_entry_is_as_long_as_in_nginx() {
        assert_eq!(size_of::<State>(), 72);
    }
}
