//! The request path.

use super::edge::{bytes, failed, guard, guard_code, refused, remember};
use crate::balance::miss::Miss;
use crate::balance::pick::{Ask, Handle, Picked, Tried};
use crate::error::{Code, Result};
use crate::process;
use crate::quote::quote;
use crate::shm::region::DAMAGED;
use crate::table::store::CHANGING;
use crate::upstream::Method;
use std::ffi::c_char;
use std::fmt;

/// The number of a method, for `dyups_find`.
///
/// # Arguments
///
/// - `name`, `len`: `rr`, `chash`, `least_conn`, `random`, `random two` or `ip_hash`; or empty, as a variable of nginx
///   is that is not set
///
/// # Returns
///
/// The number, at least 1. For an empty name 0, the upstream's own method.
///
/// # Errors
///
/// - `DYUPS_INVALID`: the message lists the known methods.
///
/// # Example
///
/// ```c
/// int32_t chash = dyups_method("chash", 5);
/// ```
///
/// # Safety
///
/// `name` points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_method(name: *const c_char, len: usize) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let name = unsafe { bytes(name, len, "method") }?;
        if name.is_empty() {
            return Ok(0);
        }
        let known = Method::NAMES.iter().find(|(known, _)| known.as_bytes() == name);
        known.map(|&(_, method)| method as i32).ok_or_else(|| refused("method", &quote(name), &known_methods()))
    })
}

fn known_methods() -> String {
    Method::NAMES.map(|(name, _)| name).join(", ")
}

/// Opens a handle for an upstream, from which `dyups_find` picks. The handle stays valid when the upstream changes, is
/// deleted and is made again.
///
/// # Arguments
///
/// - `name`, `len`: the upstream, which has to exist now
///
/// # Returns
///
/// A handle for this thread, to be closed with `dyups_close`; NULL on error.
///
/// # Errors
///
/// `dyups_error` has the message: no such upstream, a name that no upstream can have, not set up.
///
/// # Example
///
/// ```c
/// dyups_handle *api = dyups_open("api", 3);
/// ```
///
/// # Safety
///
/// `name` points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_open(name: *const c_char, len: usize) -> *mut Handle {
    let mut handle = std::ptr::null_mut();
    guard(|| {
        // SAFETY: the caller's contract.
        let name = process::name(unsafe { bytes(name, len, "upstream") }?)?;
        process::table()?.upstream_exists(name)?;
        handle = Box::into_raw(Box::new(Handle::new(name.as_bytes())));
        Ok(0)
    });
    handle
}

/// Closes a handle.
///
/// # Arguments
///
/// - `handle`: may be NULL
///
/// # Returns
///
/// Nothing.
///
/// # Errors
///
/// None.
///
/// # Example
///
/// ```c
/// dyups_close(api);
/// ```
///
/// # Safety
///
/// `handle` comes from `dyups_open`, was not closed before, and is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_close(handle: *mut Handle) {
    if !handle.is_null() {
        // SAFETY: made by Box::into_raw in dyups_open, and the caller gives it up.
        drop(unsafe { Box::from_raw(handle) });
    }
}

/// Whether the upstream of a handle has changed. Callers that keep handles, and texts by index, learn here which they
/// may drop.
///
/// # Arguments
///
/// - `handle`: an open handle
///
/// # Returns
///
/// 0: the upstream is as it was at the last pick by this handle, or at the last call of this function. 1: it has
/// changed, and no text by index is valid any more.
///
/// # Errors
///
/// - `DYUPS_NOT_FOUND`: the upstream was deleted.
/// - The others of `dyups_find`.
///
/// # Example
///
/// ```c
/// if (dyups_look(api) == DYUPS_NOT_FOUND) dyups_close(api);
/// ```
///
/// # Safety
///
/// `handle` is open and of this thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_look(handle: *mut Handle) -> i32 {
    guard_code(|| {
        // SAFETY: the caller's contract.
        let (Some(handle), Some(table)) = (unsafe { handle.as_mut() }, process::attached()) else { return unusable() };
        match handle.look(table) {
            Ok(changed) => changed.into(),
            Err(miss) => missed(handle.name(), miss),
        }
    })
}

/// Picks a peer of an upstream. It takes no lock and makes no system call. It allocates only for an address of more
/// than 24 bytes, where chash has no ring.
///
/// A lookup by chash without a ring costs 0.25 µs a unit of weight. Once the lookups of a handle have cost as much as
/// the ring, the next call tries the writer lock once. So does a call where the weight forbids such lookups. If it gets
/// the lock, it builds the ring, which takes memory and 2.4 µs a unit of weight. `dyups_build_ring` builds it sooner.
/// If the ring cannot be built, `dyups_tick` says why.
///
/// # Arguments
///
/// - `handle`: from `dyups_open`
/// - `key`, `key_len`: the bytes that chash hashes; NULL or empty: rr, as in nginx
/// - `method`: a number from `dyups_method`; 0: the upstream's own, else chash with a key and rr without
/// - `tried`: NULL, or the peers that this request has tried. The pick passes over them, and adds its peer
/// - `picked`: where the rest of the answer goes
///
/// # Returns
///
/// The index of the peer in this version of its upstream, at least 0. `picked->text` has `picked->len` bytes such as
/// `10.0.0.1:8080`, `[::1]:80` or `unix:/path`, without a NUL. `picked->wants_ring` is 1 where chash had no ring.
///
/// # Errors
///
/// - `DYUPS_NOT_FOUND`: the upstream was deleted.
/// - `DYUPS_NO_PEER`: no peer can be picked, or all were tried, or chash needs a ring that is not there. In the last
///   case `picked->wants_ring` is 1.
/// - `DYUPS_CHANGING`: 16 changes met one read; try again.
/// - `DYUPS_INVALID`: the method, or NULL.
/// - `DYUPS_NOT_SET_UP`, `DYUPS_DAMAGED`
///
/// # Example
///
/// ```c
/// dyups_picked picked;
/// if (dyups_find(api, NULL, 0, 0, NULL, &picked) >= 0) printf("%.*s\n", picked.len, (const char *)picked.text);
/// ```
///
/// # Safety
///
/// `handle` is open and of this thread; `key` points to `key_len` bytes or is NULL; `tried` is NULL or valid; `picked`
/// is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_find(
    handle: *mut Handle,
    key: *const c_char,
    key_len: usize,
    method: u32,
    tried: *mut Tried,
    picked: *mut Picked,
) -> i32 {
    // SAFETY: the caller's contract is that of `find`.
    guard_code(|| unsafe { find(handle, key, key_len, method, tried, picked, false) })
}

/// As `dyups_find`, for a caller that keeps texts by index, as Lua does to make no new strings.
///
/// # Arguments
///
/// As `dyups_find`.
///
/// # Returns
///
/// As `dyups_find`. When this handle has answered the same index before, and the upstream has not changed since,
/// `picked->fresh` is 0 and nothing else is written. Otherwise `picked->fresh` is 1.
///
/// # Errors
///
/// As `dyups_find`.
///
/// # Example
///
/// ```c
/// dyups_picked picked;
/// int32_t index = dyups_find_cached(api, NULL, 0, 0, NULL, &picked);
/// if (index >= 0 && picked.fresh) printf("%.*s\n", picked.len, (const char *)picked.text);
/// ```
///
/// # Safety
///
/// As `dyups_find`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_find_cached(
    handle: *mut Handle,
    key: *const c_char,
    key_len: usize,
    method: u32,
    tried: *mut Tried,
    picked: *mut Picked,
) -> i32 {
    // SAFETY: the caller's contract is that of `find`.
    guard_code(|| unsafe { find(handle, key, key_len, method, tried, picked, true) })
}

/// The one function of the ABI where nanoseconds count: errors become messages out of line.
///
/// # Safety
///
/// As [`dyups_find`].
#[inline(always)]
unsafe fn find(
    handle: *mut Handle,
    key: *const c_char,
    key_len: usize,
    method: u32,
    tried: *mut Tried,
    picked: *mut Picked,
    cached: bool,
) -> i32 {
    // SAFETY: the caller's contract: each is NULL or valid, and no other code uses it meanwhile.
    let (handle, picked, tried) = unsafe { (handle.as_mut(), picked.as_mut(), tried.as_mut()) };
    let (Some(handle), Some(picked), Some(table)) = (handle, picked, process::attached()) else {
        return unusable();
    };
    let method = match numbered(method) {
        Ok(method) => method,
        Err(error) => return failed(&error),
    };
    let key = match key.is_null() {
        true => None,
        // SAFETY: the caller's contract.
        false => match unsafe { bytes(key, key_len, "key") } {
            Ok(key) => Some(key),
            Err(error) => return failed(&error),
        },
    };
    let _ = process::slot_to_pick();
    match handle.pick(table, Ask { key, method, tried, counts: false }, cached, picked) {
        Ok(index) => index as i32,
        Err(miss) => {
            picked.wants_ring = i32::from(miss == Miss::NoRing);
            missed(handle.name(), miss)
        }
    }
}

/// The method with this number; 0 is the upstream's own.
#[inline(always)]
pub(super) fn numbered(number: u32) -> Result<Option<Method>> {
    match (number, Method::numbered(number)) {
        (0, _) => Ok(None),
        (_, None) => Err(refused("method", &number.to_string(), &format!("0 to {}", Method::NAMES.len()))),
        (_, method) => Ok(method),
    }
}

#[cold]
pub(super) fn unusable() -> i32 {
    failed(&process::table().err().unwrap_or_else(|| refused("handle or picked", "NULL", "a pointer")))
}

/// Puts a miss into words without an allocation: a flood of requests for unknown upstreams must not cost more than others.
#[cold]
pub(super) fn missed(name: &[u8], miss: Miss) -> i32 {
    struct Missed<'a>(&'a str, Miss);
    impl fmt::Display for Missed<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let why = match self.1 {
                Miss::NotFound => "not found",
                Miss::NoPeer => "no live upstreams: none of its peers is up with a weight",
                Miss::AllTried => "no live upstreams: all of its peers were tried",
                Miss::AllFull => "no live upstreams: all of its peers have max_conns connections open",
                Miss::NoRing => {
                    "chash: it has no ring yet, and too much weight to do without: declare method = \"chash\""
                }
                Miss::Changing => CHANGING,
                Miss::Damaged => DAMAGED,
            };
            write!(f, "upstream {}: {why}", self.0)
        }
    }
    remember(&Missed(std::str::from_utf8(name).unwrap_or("?"), miss));
    let code = match miss {
        Miss::NotFound => Code::NotFound,
        Miss::NoPeer | Miss::AllTried | Miss::AllFull => Code::NoPeer,
        Miss::NoRing => Code::NoPeer,
        Miss::Changing => Code::Changing,
        Miss::Damaged => Code::Damaged,
    };
    code as i32
}

/// Builds the ring that a find by chash lacked, before a find builds it. From then on every version of the upstream has
/// one.
///
/// # Arguments
///
/// - `name`, `len`: the upstream
/// - `wait_ms`: as in `dyups_add_peer`
///
/// # Returns
///
/// 0.
///
/// # Errors
///
/// - `DYUPS_INVALID`: its weights make the ring too large.
/// - The others of `dyups_set_peer`.
///
/// # Example
///
/// ```c
/// if (dyups_build_ring("api", 3, 0) == DYUPS_BUSY) puts("another process is writing");
/// ```
///
/// # Safety
///
/// `name` points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_build_ring(name: *const c_char, len: usize, wait_ms: u32) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let name = process::name(unsafe { bytes(name, len, "upstream") }?)?;
        process::table()?.build_ring(name, super::edge::wait(wait_ms))?;
        Ok(0)
    })
}
