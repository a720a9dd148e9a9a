//! Changes by an operator. Each call is one atomic change, and every pick that begins after it returned sees it.

use super::changes::told;
use super::edge::{bytes, guard, wait};
use crate::config::value::{self, Value};
use crate::config::{check, peer, upstream};
use crate::error::Result;
use crate::health::certificate;
use crate::process;
use crate::table::Table;
use crate::table::ops::Absent;
use std::ffi::c_char;

/// Reads an upstream's name and a JSON value, and has `make` change the table. Messages call the value `what`.
///
/// # Safety
///
/// `name` points to `len` bytes, `json` to `json_len`.
unsafe fn change(
    name: *const c_char,
    len: usize,
    json: *const c_char,
    json_len: usize,
    what: &str,
    make: impl FnOnce(&Table, &str, &Value) -> Result<()>,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let name = process::name(unsafe { bytes(name, len, "upstream") }?)?;
        // SAFETY: as before.
        let value = unsafe { json_of(json, json_len, what) }?;
        told("Lua", || make(process::table()?, name, &value))?;
        Ok(0)
    })
}

/// The JSON value of a call, which messages call `what`.
///
/// # Safety
///
/// `json` points to `len` bytes.
pub(super) unsafe fn json_of(json: *const c_char, len: usize, what: &str) -> Result<Value> {
    // SAFETY: the caller's contract.
    value::parse(unsafe { bytes(json, len, what) }?)
}

/// Adds a peer to an upstream, and makes the upstream if it is new. Of a peer that is there, the given fields change
/// and the others keep their values.
///
/// # Arguments
///
/// - `name`, `len`: the upstream, 1 to 255 bytes
/// - `json`, `json_len`: an object:
///   - `host`: an IPv4 address, an IPv6 address in brackets, or `unix:/path`
///   - `port`: 1 to 65535, default 80; or `server` with both in one
///   - `weight`: 0 to 65535, default 1
///   - `status`: `up` (default), `down` or `drain`
///   - `leaving` (bool): the peer drains, and is deleted when it is idle. A call that names such a peer without it
///     keeps the peer, here as `up`
///   - `backup` (bool)
///   - `max_conns`, `max_fails`: 0 to 4294967295, default 0 and 1
///   - `fail_timeout`, `slow_start`: seconds, default 10 and 0
///   - `check_port`: 1 to 65535; `check_url`: a path of at most 8192 bytes; `check_host`: the `Host`. Of its probes;
///     `false`, the default: as in `dyups_healthcheck`
/// - `wait_ms`: milliseconds, at most 60000, in which the call tries to get the writer lock. With 0 it never sleeps,
///   and `DYUPS_BUSY` asks the caller to try again
///
/// # Returns
///
/// 0. The change is one step, and every pick that begins afterwards sees it.
///
/// # Errors
///
/// After each of them the table is as it was.
///
/// - `DYUPS_INVALID`: the message names the field, its value and the allowed values.
/// - `DYUPS_FULL`
/// - `DYUPS_BUSY`: the message names the process that is writing.
/// - `DYUPS_SUPERSEDED`: a newer nginx takes the changes.
/// - `DYUPS_NOT_SET_UP`, `DYUPS_DAMAGED`
///
/// # Example
///
/// ```c
/// const char *peer = "{\"host\": \"10.0.0.1\", \"port\": 8080, \"weight\": 3}";
/// int32_t code = dyups_add_peer("api", 3, peer, strlen(peer), 1000);
/// ```
///
/// # Safety
///
/// `name` points to `len` bytes, `json` to `json_len`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_add_peer(
    name: *const c_char,
    len: usize,
    json: *const c_char,
    json_len: usize,
    wait_ms: u32,
) -> i32 {
    // SAFETY: the caller's contract is that of `change`.
    unsafe {
        change(name, len, json, json_len, "peer", |table, name, value| {
            table.put_peer(name, &peer::peer_patch(value, "peer")?, Absent::Make, wait(wait_ms))
        })
    }
}

/// Changes the given fields of a peer that is there.
///
/// # Arguments
///
/// As `dyups_add_peer`.
///
/// # Returns
///
/// 0.
///
/// # Errors
///
/// - `DYUPS_NOT_FOUND`: there is no such upstream or peer.
/// - The others of `dyups_add_peer`.
///
/// # Example
///
/// ```c
/// const char *peer = "{\"server\": \"10.0.0.1:8080\", \"status\": \"drain\"}";
/// int32_t code = dyups_set_peer("api", 3, peer, strlen(peer), 1000);
/// ```
///
/// # Safety
///
/// As `dyups_add_peer`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_set_peer(
    name: *const c_char,
    len: usize,
    json: *const c_char,
    json_len: usize,
    wait_ms: u32,
) -> i32 {
    // SAFETY: the caller's contract is that of `change`.
    unsafe {
        change(name, len, json, json_len, "peer", |table, name, value| {
            table.put_peer(name, &peer::peer_patch(value, "peer")?, Absent::Refuse, wait(wait_ms))
        })
    }
}

/// Takes a peer out of an upstream. The upstream stays, even without peers.
///
/// # Arguments
///
/// - `json`, `json_len`: an object with the address as in `dyups_add_peer`, and `drain` (bool): the peer gets no new
///   picks from now on, and is deleted when it is idle
/// - the others: as in `dyups_add_peer`
///
/// # Returns
///
/// 0.
///
/// # Errors
///
/// As `dyups_set_peer`.
///
/// # Example
///
/// ```c
/// const char *peer = "{\"server\": \"10.0.0.1:8080\", \"drain\": true}";
/// int32_t code = dyups_delete_peer("api", 3, peer, strlen(peer), 1000);
/// ```
///
/// # Safety
///
/// As `dyups_add_peer`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_delete_peer(
    name: *const c_char,
    len: usize,
    json: *const c_char,
    json_len: usize,
    wait_ms: u32,
) -> i32 {
    // SAFETY: the caller's contract is that of `change`.
    unsafe {
        change(name, len, json, json_len, "peer", |table, name, value| match peer::peer_to_delete(value, "peer")? {
            (address, false) => table.delete_peer(name, &address, wait(wait_ms)),
            (address, true) => table.drain_peer(name, &address, wait(wait_ms)),
        })
    }
}

/// Replaces an upstream as a whole, or makes it. No pick sees a mixture of old and new.
///
/// # Arguments
///
/// - `json`, `json_len`: an object:
///   - `peers`: a list of objects as in `dyups_add_peer`; may be empty
///   - `method`: as in `dyups_method`; without it, each call says
///   - `hash_id`: `nginx` (default) or `host:port`
///   - `healthcheck`: as in `dyups_healthcheck`; without it the check stays as it is set
/// - the others: as in `dyups_add_peer`
///
/// # Returns
///
/// 0.
///
/// # Errors
///
/// As `dyups_add_peer`.
///
/// # Example
///
/// ```c
/// const char *upstream = "{\"method\": \"chash\", \"peers\": [{\"server\": \"10.0.0.1:8080\"}]}";
/// int32_t code = dyups_set_upstream("api", 3, upstream, strlen(upstream), 1000);
/// ```
///
/// # Safety
///
/// As `dyups_add_peer`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_set_upstream(
    name: *const c_char,
    len: usize,
    json: *const c_char,
    json_len: usize,
    wait_ms: u32,
) -> i32 {
    // SAFETY: the caller's contract is that of `change`.
    unsafe {
        change(name, len, json, json_len, "upstream", |table, name, value| {
            let upstream = upstream::upstream(name, value, "upstream")?;
            certificate::keep_for(upstream.check.as_ref(), "upstream.healthcheck")?;
            table.set_upstream(&upstream, wait(wait_ms))
        })
    }
}

/// Sets how the peers of an upstream are checked. An option that is not given stays as it is set, or has its default.
/// Every process may make the same call when it starts: the later ones change nothing.
///
/// # Arguments
///
/// - `json`, `json_len`: `false` for no checks, or an object. Texts have at most 8192 bytes; `false` takes away one
///   that is set:
///   - `type`: `http` (default), `https` or `tcp`
///   - `interval`: milliseconds, 10 to 86400000, default 3000
///   - `interval_down`: the same of a peer that is down or changing; `false`, the default: as `interval`
///   - `timeout`: milliseconds, 1 to 86400000, default 2000
///   - `rise`, `fall`: 1 to 255, default 2 and 3
///   - `concurrency`: 1 to 10000, default 10
///   - `port`: 1 to 65535; `false`, the default: the peer's
///   - `default_down` (bool)
///   - `panic_threshold`: percent, 0 to 100, default 0
///   - http and https: `http_req`: one whole request; `false`, the default: built from `url` (a path, default `/`),
///     `host` and `headers` (an object, or a list of `Name: value`)
///   - http and https: `valid_statuses`: a list of 100 to 599, default 200 and 302; `expect_body`: a text that has to
///     be in the body
///   - https: `ssl_verify` (bool, default true); `ssl_cert` and `ssl_key`: paths of a certificate that probes show, and
///     of its key. This process reads them now
///   - tcp: `send`, `expect`: texts
/// - the others: as in `dyups_add_peer`
///
/// # Returns
///
/// 0.
///
/// # Errors
///
/// - `DYUPS_NOT_FOUND`: there is no such upstream.
/// - The others of `dyups_add_peer`.
///
/// # Example
///
/// ```c
/// const char *check = "{\"type\": \"http\", \"url\": \"/up\", \"fall\": 5}";
/// int32_t code = dyups_healthcheck("api", 3, check, strlen(check), 1000);
/// ```
///
/// # Safety
///
/// As `dyups_add_peer`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_healthcheck(
    name: *const c_char,
    len: usize,
    json: *const c_char,
    json_len: usize,
    wait_ms: u32,
) -> i32 {
    // SAFETY: the caller's contract is that of `change`.
    unsafe {
        change(name, len, json, json_len, "healthcheck", |table, name, value| {
            certificate::keep_for(check::files(value).as_ref(), "healthcheck")?;
            table.set_check(name, check::change(value), wait(wait_ms))
        })
    }
}

/// Deletes an upstream.
///
/// # Arguments
///
/// - `json`, `json_len`: `null`, or an object with `force` (bool): delete it with its peers, also where a route names it
/// - the others: as in `dyups_add_peer`
///
/// # Returns
///
/// 0.
///
/// # Errors
///
/// - `DYUPS_NOT_FOUND`: there is no such upstream.
/// - `DYUPS_NOT_EMPTY`: it has peers, or a route names it, and there is no `force`.
/// - The others of `dyups_add_peer`.
///
/// # Example
///
/// ```c
/// int32_t code = dyups_delete_upstream("api", 3, "{\"force\": true}", 15, 1000);
/// ```
///
/// # Safety
///
/// As `dyups_add_peer`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_delete_upstream(
    name: *const c_char,
    len: usize,
    json: *const c_char,
    json_len: usize,
    wait_ms: u32,
) -> i32 {
    // SAFETY: the caller's contract is that of `change`.
    unsafe {
        change(name, len, json, json_len, "options", |table, name, value| {
            table.delete_upstream(name, upstream::force(value, "options")?, wait(wait_ms))
        })
    }
}
