//! The table and its numbers, as an operator reads them.

use super::edge::{bytes, guard, out};
use super::slice::{self, Slice};
use super::text::{Text, keep};
use crate::config::report::Window;
use crate::config::{self, value};
use crate::status::report::ReportAnswer;
use crate::status::table::TableAnswer;
use crate::{process, status};
use std::ffi::c_char;

/// The numbers of an upstream's tries and of each of its peers, as JSON.
///
/// # Arguments
///
/// - `name`, `len`: the upstream
/// - `server`, `server_len`: one of its peers; NULL: the upstream and all its peers
/// - `json`, `json_len`: an object with `seconds` (1 to 3600: the last ones), or `null`: since the statistics began, or
///   since an earlier report
/// - `since`, `since_len`: the texts of the `mark` of an earlier report, joined by `;`; NULL: there is none
/// - `peers`, `slice`: as in `dyups_routes`
///
/// # Returns
///
/// 0.
///
/// # Errors
///
/// - `DYUPS_NOT_FOUND`: there is no such upstream, or no such peer.
/// - `DYUPS_INVALID`: statistics are off, or an option is wrong.
/// - `DYUPS_CHANGING`, `DYUPS_NOT_SET_UP`, `DYUPS_DAMAGED`
///
/// # Example
///
/// ```c
/// dyups_slice json;
/// if (dyups_report("api", 3, NULL, 0, "{\"seconds\": 60}", 15, NULL, 0, 0, &json) == 0)
///     printf("%.*s\n", (int)json.text.len, json.text.data);
/// ```
///
/// # Safety
///
/// `name` points to `len` bytes, `server` to `server_len` or is NULL, `json` to `json_len`, `since` to
/// `since_len` or is NULL; `slice` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_report(
    name: *const c_char,
    len: usize,
    server: *const c_char,
    server_len: usize,
    json: *const c_char,
    json_len: usize,
    since: *const c_char,
    since_len: usize,
    peers: u32,
    slice: *mut Slice,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let (slice, name, json) = unsafe {
            (out(slice, "slice")?, process::name(bytes(name, len, "upstream")?)?, bytes(json, json_len, "options")?)
        };
        // SAFETY: as before.
        let since = if since.is_null() { None } else { Some(unsafe { bytes(since, since_len, "since")? }) };
        let since = since.map(String::from_utf8_lossy);
        // SAFETY: as before.
        let server = if server.is_null() { None } else { Some(unsafe { bytes(server, server_len, "peer")? }) };
        let server = server.map(String::from_utf8_lossy);
        let window = Window::read(&value::parse(json)?, since.as_deref(), "options")?;
        let answer = ReportAnswer::of(process::table()?, name, server.as_deref(), window, slice::shape(peers))?;
        *slice = slice::begin(answer, peers)?;
        Ok(0)
    })
}

/// The same as `dyups_status`, a slice at a time, and with totals where they are asked for.
///
/// # Arguments
///
/// - `name`, `len`: the upstream; NULL: all
/// - `json`, `json_len`: an object with `stats` (true: each upstream and each peer has the totals of its tries), or `null`
/// - `peers`, `slice`: as in `dyups_routes`
///
/// # Returns
///
/// 0.
///
/// # Errors
///
/// - `DYUPS_NOT_FOUND`: there is no such upstream.
/// - `DYUPS_INVALID`: an option is wrong, or totals are asked for and statistics are off.
/// - `DYUPS_CHANGING`, `DYUPS_NOT_SET_UP`, `DYUPS_DAMAGED`
///
/// # Example
///
/// ```c
/// dyups_slice json;
/// int32_t code = dyups_status_slices(NULL, 0, "{\"stats\": true}", 15, 1000, &json);
/// while (code == 0 && json.rest != 0) code = dyups_next(&json, 1000);
/// ```
///
/// # Safety
///
/// `name` points to `len` bytes or is NULL, `json` to `json_len`; `slice` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_status_slices(
    name: *const c_char,
    len: usize,
    json: *const c_char,
    json_len: usize,
    peers: u32,
    slice: *mut Slice,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let (slice, name, json) = unsafe {
            (
                out(slice, "slice")?,
                if name.is_null() { None } else { Some(process::name(bytes(name, len, "upstream")?)?) },
                bytes(json, json_len, "options")?,
            )
        };
        let stats = config::status::stats(&value::parse(json)?, "options")?;
        let answer = TableAnswer::of(process::table()?, name, process::own_slot(), stats, slice::shape(peers))?;
        *slice = slice::begin(answer, peers)?;
        Ok(0)
    })
}

/// The table, or one upstream of it, as JSON in the shape of the upstreams file, with read-only fields.
///
/// # Arguments
///
/// - `name`, `len`: the upstream; NULL: all
/// - `text`: where the answer goes
///
/// # Returns
///
/// 0.
///
/// # Errors
///
/// - `DYUPS_NOT_FOUND`: there is no such upstream.
/// - `DYUPS_CHANGING`, `DYUPS_NOT_SET_UP`, `DYUPS_INVALID`, `DYUPS_DAMAGED`
///
/// # Example
///
/// ```c
/// dyups_text json;
/// if (dyups_status(NULL, 0, &json) == 0) printf("%.*s\n", (int)json.len, json.data);
/// ```
///
/// # Safety
///
/// `name` points to `len` bytes or is NULL; `text` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_status(name: *const c_char, len: usize, text: *mut Text) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let (text, name) = unsafe {
            (
                out(text, "text")?,
                if name.is_null() { None } else { Some(process::name(bytes(name, len, "upstream")?)?) },
            )
        };
        let json = status::json(process::table()?, name, process::own_slot())?;
        [*text, _, _] = keep([json, Vec::new(), Vec::new()]);
        Ok(0)
    })
}
