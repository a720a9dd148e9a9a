//! What an operator changes. Each call is one atomic change, seen by every pick that begins after it returned.

use super::changes::told;
use super::edge::{bytes, guard, wait};
use crate::config::value::{self, Value};
use crate::config::{check, peer, upstream};
use crate::error::Result;
use crate::process;
use crate::table::Table;
use crate::table::ops::Absent;
use std::ffi::c_char;

/// What all changes have in common: an upstream's name and a JSON value, called `what` in messages, for `make` to act upon.
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
        let (name, json) = unsafe { (bytes(name, len, "upstream")?, bytes(json, json_len, what)?) };
        let name = process::name(name)?;
        let value = value::parse(json)?;
        told("Lua", || make(process::table()?, name, &value))?;
        Ok(0)
    })
}

/// Adds a peer to an upstream, making the upstream if it is new. On a peer that is there the given fields change and the others
/// keep their values.
///
/// Arguments: `name`, `len`: the upstream, 1 to 255 bytes. `json`, `json_len`: an object with `host` (an IPv4 address, an IPv6
/// address in brackets, or `unix:/path`), `port` (1 to 65535, default 80), or both as `server`; `weight` (0 to 65535, default
/// 1), `status` (`up`, `down`, `drain`), `leaving` (bool: it drains, and is deleted when it is idle; who names such a peer
/// without it keeps the peer, here as `up`), `backup` (bool), `max_conns` and `max_fails` (0 to 4294967295, default 0 and 1),
/// `fail_timeout` and `slow_start` (seconds, default 10 and 0), `check_port` (1 to 65535), `check_url` (a path of at most 8192
/// bytes) and `check_host` (the `Host`) of its probes, `false` for what `dyups_healthcheck` says, the default. `wait_ms`: milliseconds (at most 60000) to try for the
/// writer's turn; with 0 the call never sleeps, and `DYUPS_BUSY` asks the caller to come again.
///
/// Returns: 0. Errors: `DYUPS_INVALID`, `DYUPS_FULL`, `DYUPS_BUSY` (names the holder), `DYUPS_SUPERSEDED` (by a newer nginx),
/// `DYUPS_NOT_SET_UP`, `DYUPS_DAMAGED`. The table is as it was after any of them.
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
/// Arguments, errors: as `dyups_add_peer`; and `DYUPS_NOT_FOUND` when there is no such upstream or peer. Returns: 0.
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
/// Arguments: as `dyups_add_peer`, of which only the address counts, and `drain` (bool): it gets no new picks from now on, and is
/// taken out when it is idle. Returns: 0.
/// Errors: as `dyups_set_peer`.
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

/// Replaces an upstream as a whole, or makes it: no pick sees a mixture.
///
/// Arguments: `name`, `len`: the upstream. `json`, `json_len`: an object with `peers` (a list of objects as in
/// `dyups_add_peer`), `method` (as `dyups_method`; left out: by the call), `hash_id` (`nginx`, the default, or `host:port`),
/// `healthcheck` (as `dyups_healthcheck` takes it; left out: as it is set).
/// `wait_ms`: as there. Returns: 0. Errors: as `dyups_add_peer`.
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
            process::keep_files(upstream.check.as_ref(), "upstream.healthcheck")?;
            table.set_upstream(&upstream, wait(wait_ms))
        })
    }
}

/// Sets how the peers of an upstream are checked. What is not given stays as it is set; where nothing is, it has its default. Every
/// process may say the same when it starts: nothing changes then.
///
/// Arguments: `name`, `len`: the upstream. `json`, `json_len`: `false` for no checks, or an object with `type` (`http`, the default,
/// `https`, `tcp`); `interval`, `interval_down` (of a peer that is down or changing; `false`, the default: as `interval`) and
/// `timeout` (milliseconds: 10, 10 and 1 to 86400000, default 3000 and 2000); `rise` and `fall` (1 to 255, default 2 and 3);
/// `concurrency` (1 to 10000, default 10); `port` (1 to 65535, or `false`, the default: the peer's); `default_down` (bool);
/// `panic_threshold` (percent, 0 to 100, default 0). http and https: `http_req` (one whole request, or `false`, the default: one
/// is built from `url`, a path, default `/`, `host`, and `headers`, an object or a list of `Name: value`), `valid_statuses` (a list
/// of 100 to 599, default 200 and 302), `expect_body` (a text that has to be in the body). https: `ssl_verify` (bool, default
/// true), `ssl_cert` and `ssl_key` (paths of a certificate that probes show and of its key: this process reads them now). tcp: `send` and `expect` (texts). Texts have at most 8192 bytes; `false` takes away one that is set. `wait_ms`: as in
/// `dyups_add_peer`.
///
/// Returns: 0. Errors: `DYUPS_NOT_FOUND` when there is no such upstream, and those of `dyups_add_peer`.
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
            process::keep_files(check::files(value).as_ref(), "healthcheck")?;
            table.set_check(name, value, wait(wait_ms))
        })
    }
}

/// Deletes an upstream.
///
/// Arguments: `name`, `len`: the upstream. `json`, `json_len`: `null`, or an object with `force` (bool): delete it with its
/// peers. `wait_ms`: as in `dyups_add_peer`. Returns: 0.
/// Errors: `DYUPS_NOT_FOUND`, `DYUPS_NOT_EMPTY` (it has peers and there is no force), and those of `dyups_add_peer`.
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
