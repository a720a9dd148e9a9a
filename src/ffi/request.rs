//! A request from its first try to its end.

use super::changes::told;
use super::edge::{bytes, failed, guard, guard_code, out, remember};
use super::find::{missed, numbered, unusable};
use super::states::Trust;
use super::{kept, nginx, states, tls, warning};
use crate::balance::attempt::Attempt;
use crate::balance::failure::{self, Traces};
use crate::balance::miss::Miss;
use crate::balance::outcome::{Which, by_variables};
use crate::balance::pick::{Handle, Picked};
use crate::balance::request::{Refused, Requests, Tries, Wanted, Why};
use crate::config::balance::BalanceOptions;
use crate::error::Code;
use crate::process;
use crate::state::budget::Allowance;
use crate::stats::ended::Ended;
use crate::table::Record;
use crate::table::store::Table;
use std::cell::RefCell;
use std::ffi::{c_char, c_void};

thread_local! {
    /// The connections that the requests of this worker hold.
    static REQUESTS: RefCell<Requests<nginx::Watch>> = RefCell::default();
    /// Whether nginx's states of tries are where this worker looks for them.
    static TRUST: Trust = const { Trust::new() };
}

/// The answer of `dyups_balance` beside the index.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Given {
    /// 1: if this try fails, the request may try once more.
    pub again: i32,
    /// 1: the budget of retries is spent, and the log should say so. `dyups_error` has the message, also where there is an
    /// index.
    pub warn: i32,
    /// As in `dyups_find_cached`.
    pub picked: Picked,
}

/// Reads the options of `dyups_balance`.
///
/// # Arguments
///
/// - `json`, `len`: an object with any of `tries`, `retry_percent`, `retry_floor`, `connect_timeout`, `send_timeout`,
///   `read_timeout`, `keepalive`, `keepalive_timeout`, `keepalive_requests` and `host`
/// - `options`: where they go
///
/// # Returns
///
/// 0.
///
/// # Errors
///
/// - `DYUPS_INVALID`: the message names the option, its value and the allowed values.
///
/// # Example
///
/// ```c
/// dyups_options options;
/// const char *json = "{\"tries\": 2, \"connect_timeout\": 500}";
/// if (dyups_balance_options(json, strlen(json), &options) < 0) fprintf(stderr, "%s\n", dyups_error());
/// ```
///
/// # Safety
///
/// `json` points to `len` bytes; `options` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_balance_options(json: *const c_char, len: usize, options: *mut BalanceOptions) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let (json, options) = unsafe { (bytes(json, len, "options")?, out(options, "options")?) };
        *options = BalanceOptions::read(json)?;
        Ok(0)
    })
}

/// Picks a peer for a request of nginx, counts the connection, and ends the request's try before this one. The library
/// asks nginx to report the end of the request, so the caller does not.
///
/// # Arguments
///
/// - `handle`, `key`, `key_len`, `method`: as in `dyups_find`
/// - `request`: nginx's request
/// - `last`: 0: nginx begins with this upstream; 1: the last try failed; 2: it did not fail, and nginx wants another
///   peer
/// - `status`: that of the last try, as ngx_lua says it; 0: none
/// - `options`: from `dyups_balance_options`
/// - `given`: where the rest of the answer goes
///
/// # Returns
///
/// The index of the peer, as `dyups_find_cached`.
///
/// # Errors
///
/// - `DYUPS_NO_PEER`: as in `dyups_find`, or there were too many retries.
/// - `DYUPS_SYSTEM`: this is no nginx.
/// - The others of `dyups_find`.
///
/// # Example
///
/// ```c
/// dyups_given given;
/// int32_t index = dyups_balance(api, request, NULL, 0, 0, 0, 0, &options, &given);
/// if (index >= 0 && given.picked.fresh) printf("%.*s\n", given.picked.len, (const char *)given.picked.text);
/// ```
///
/// # Safety
///
/// As `dyups_find`; `request` is the request that this thread is balancing; `options` and `given` are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_balance(
    handle: *mut Handle,
    request: *mut c_void,
    key: *const c_char,
    key_len: usize,
    method: u32,
    last: u32,
    status: u32,
    options: *const BalanceOptions,
    given: *mut Given,
) -> i32 {
    guard_code(|| {
        // SAFETY: the caller's contract: each is NULL or valid, and no other code uses it meanwhile.
        let (handle, options, given) = unsafe { (handle.as_mut(), options.as_ref(), given.as_mut()) };
        let (Some(handle), Some(options), Some(given), Some(table)) = (handle, options, given, process::attached())
        else {
            return unusable();
        };
        let method = match numbered(method) {
            Ok(method) => method,
            Err(error) => return failed(&error),
        };
        // SAFETY: the caller's contract.
        let mut key = match unsafe { bytes(key, key_len, "key") } {
            Ok(key) => key,
            Err(error) => return failed(&error),
        };
        let mut client = Client::default();
        if key.is_empty() && handle.wants_client(table, method) {
            // SAFETY: the caller's contract.
            key = unsafe { client.of(request) };
        }
        // SAFETY: the caller's contract.
        let why = unsafe { why(request, last, status) };
        let allowance = Allowance { percent: options.retry_percent, floor: options.retry_floor };
        let tries = Tries { most: options.tries, allowance };
        given.warn = 0;
        given.picked.wants_ring = 0;
        let mut watch = nginx::Watch::default();
        // Also for a request whose first try was not one of dyups.
        if why == Why::First || !REQUESTS.with_borrow(|requests| requests.holds(request as usize)) {
            // SAFETY: the caller's contract.
            match unsafe { nginx::at_the_end(request, ended) } {
                Some(own) => watch = own,
                None => return not_in_nginx(),
            }
        }
        let adds_tries = kept::adds_tries();
        // SAFETY: the caller's contract.
        let number = if TRUST.with(Trust::holds) { unsafe { states::last(request) } } else { None };
        let wanted =
            Wanted { request: request as usize, key: Some(key), method, why, tries, adds_tries, number, watch };
        let slot = process::slot_to_pick();
        let mut next = || {
            // SAFETY: the caller's contract.
            let last = |trying: &Attempt| unsafe { how_ended(request, trying) };
            REQUESTS.with_borrow_mut(|requests| requests.next(table, slot, handle, &wanted, last, &mut given.picked))
        };
        let next = match next() {
            Err(Refused::Miss(Miss::AllFull)) if sweep(table, true) => next(),
            next => next,
        };
        match next {
            Ok(next) => {
                given.again = next.again.into();
                if TRUST.with(Trust::complains) {
                    remember(&states::DOUBT);
                    given.warn = 1;
                }
                if next.spent {
                    given.warn |= i32::from(warning::of_budget(handle.name(), options));
                }
                next.index as i32
            }
            Err(Refused::Budget) => {
                given.warn = warning::of_budget(handle.name(), options).into();
                if given.warn != 0 { Code::NoPeer as i32 } else { refused_retry(handle.name(), "too many retries") }
            }
            Err(Refused::Tries) => refused_retry(handle.name(), "this request has tried as often as it may"),
            Err(Refused::Miss(miss)) => {
                given.picked.wants_ring = i32::from(miss == Miss::NoRing);
                missed(handle.name(), miss)
            }
        }
    })
}

/// The place of the upstream that a request of this worker has tried.
pub(super) fn last_upstream(request: *mut c_void) -> Option<Record> {
    REQUESTS.with_borrow(|requests| requests.last_upstream(request as usize))
}

/// The reason why nginx wants a peer.
///
/// # Safety
///
/// As [`nginx::variable`].
unsafe fn why(request: *mut c_void, last: u32, status: u32) -> Why {
    // Read each time: the handshake that it shows belongs to the try before this one.
    let tls = tls::began(request);
    match last {
        0 => {
            tls::watch();
            Why::First
        }
        1 => {
            // SAFETY: the caller's contract.
            let kept = unsafe { kept::was_kept(request) };
            // SAFETY: as before.
            failure::why(status, Traces { tls, kept }, |name, read| unsafe { nginx::variable(request, name, read) })
        }
        _ => Why::Declined,
    }
}

/// How many connections nginx keeps by their addresses alone, for the block `upstream {}` of a request. A connection
/// that was verified for one name may carry a request for another. Connections that ngx_lua keeps by name do not count.
///
/// # Arguments
///
/// - `request`: nginx's request, which this thread is balancing
///
/// # Returns
///
/// The number; 0: none.
///
/// # Errors
///
/// - `DYUPS_SYSTEM`: the library cannot tell.
///
/// # Example
///
/// ```c
/// if (dyups_keeps_by_address(request) == 1) puts("nginx keeps its connections by address alone");
/// ```
///
/// # Safety
///
/// `request` is the request that this thread is balancing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_keeps_by_address(request: *mut c_void) -> i32 {
    guard_code(|| {
        // SAFETY: the caller's contract.
        match unsafe { nginx::kept_by_address(request) } {
            Some(kept) => i32::try_from(kept).unwrap_or(i32::MAX),
            None => not_in_nginx(),
        }
    })
}

/// The address of a client: `$binary_remote_addr`.
#[derive(Default)]
struct Client {
    bytes: [u8; 16],
}

impl Client {
    /// # Safety
    ///
    /// As [`nginx::variable`].
    unsafe fn of(&mut self, request: *mut c_void) -> &[u8] {
        let mut len = 0;
        let mut copy = |address: &[u8]| {
            len = address.len().min(self.bytes.len());
            self.bytes[..len].copy_from_slice(&address[..len]);
        };
        // SAFETY: the caller's contract.
        unsafe { nginx::variable(request, "binary_remote_addr", &mut copy) };
        &self.bytes[..len]
    }
}

#[cold]
fn not_in_nginx() -> i32 {
    failed(&crate::error::Error::new(Code::System, "balance: this is no nginx with ngx_lua, or it has no memory left"))
}

#[cold]
fn refused_retry(name: &[u8], why: &str) -> i32 {
    let name = std::str::from_utf8(name).unwrap_or("?");
    remember(&format_args!("upstream {name}: no live upstreams: {why}"));
    Code::NoPeer as i32
}

/// How many requests of this worker hold a connection.
///
/// # Returns
///
/// The number.
///
/// # Errors
///
/// None.
///
/// # Example
///
/// ```c
/// printf("%d requests\n", (int)dyups_balancing());
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dyups_balancing() -> i32 {
    guard_code(|| REQUESTS.with_borrow(|requests| i32::try_from(requests.len()).unwrap_or(i32::MAX)))
}

/// nginx ends a request.
extern "C" fn ended(request: *mut c_void) {
    guard_code(|| {
        if let Some(table) = process::attached() {
            // SAFETY: nginx is about to free it, and has not yet.
            let last = |trying: &Attempt| unsafe { how_ended(request, trying) };
            REQUESTS.with_borrow_mut(|requests| requests.end(table, request as usize, last));
        }
        0
    });
}

/// Ends the tries that nginx is over with although their requests go on. Call it ten times a second in each worker.
/// `max_conns` and `least_conn` lag behind by no more than that. It also adds the worker's last tries to the statistics.
///
/// # Arguments
///
/// - `is_last`: 1: the worker ends, and calls it no more; 0: it does not
///
/// # Returns
///
/// 0.
///
/// # Errors
///
/// None.
///
/// # Example
///
/// ```c
/// dyups_sweep(0);
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dyups_sweep(is_last: i32) -> i32 {
    guard_code(|| {
        if let Some(table) = process::attached() {
            sweep(table, false);
            REQUESTS.with_borrow_mut(|requests| requests.add_statistics(table, is_last != 0));
        }
        0
    })
}

/// Whether a try has ended.
fn sweep(table: &Table, urgently: bool) -> bool {
    // SAFETY: a request that is held has not ended: nginx calls `ended` when it does.
    let is_over = |watch: nginx::Watch| unsafe { watch.is_over() };
    // SAFETY: as before.
    let ended = |request: usize, trying: &Attempt| unsafe { how_ended(request as *mut c_void, trying) };
    REQUESTS.with_borrow_mut(|requests| requests.sweep(table, urgently, is_over, ended))
}

/// The end of a request's try: by nginx's own state of it, or else by nginx's variables.
///
/// # Safety
///
/// As [`nginx::variable`].
unsafe fn how_ended(request: *mut c_void, trying: &Attempt) -> Ended {
    // SAFETY: the caller's contract.
    let by_variables = |which| by_variables(which, |name, read| unsafe { nginx::variable(request, name, read) });
    let of_peer = || by_variables(Which::LastOf(trying.account.ident));
    let Some(number) = trying.number else { return of_peer() };
    // SAFETY: the caller's contract.
    let state = unsafe { states::ended(request, number) };
    match TRUST.with(|trust| trust.check(state, || by_variables(Which::Nth(number)))) {
        // SAFETY: as before.
        Some(ended) => Ended { kept: ended.connect_ms.is_some() && unsafe { kept::was_kept(request) }, ..ended },
        None => of_peer(),
    }
}

/// Takes back the counts of dead workers, marks upstreams that are well again, and deletes peers that have drained.
/// Call it once a second in each worker. It does all of this, even where a part fails. `dyups_changes` has a line for
/// each upstream whose peers were deleted.
///
/// # Returns
///
/// 0.
///
/// # Errors
///
/// Those of the first part that failed:
///
/// - `DYUPS_FULL`: there is no memory to count all connections in, or no room for a ring that a pick wanted.
/// - `DYUPS_NOT_SET_UP`, `DYUPS_DAMAGED`, `DYUPS_SYSTEM`, and those of `dyups_build_ring`.
///
/// # Example
///
/// ```c
/// if (dyups_tick() < 0) fprintf(stderr, "%s\n", dyups_error());
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dyups_tick() -> i32 {
    guard(|| told("the end of a drain", process::tick).map(|()| 0))
}
