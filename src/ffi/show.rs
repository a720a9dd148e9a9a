//! Texts that an operator reads: the table, and texts that are safe for a log.

use super::edge::{bytes, guard, out};
use crate::config::report::Window;
use crate::config::value;
use crate::quote::plain;
use crate::status::report;
use crate::{process, status};
use std::cell::RefCell;
use std::ffi::c_char;

/// A text that belongs to the library: valid until the next call in this thread that returns one.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Text {
    /// The bytes, not terminated; never NULL.
    pub data: *const c_char,
    /// Their number.
    pub len: usize,
}

impl Text {
    /// These bytes, as long as they stay where they are.
    pub(super) fn of(bytes: &[u8]) -> Text {
        Text { data: bytes.as_ptr().cast(), len: bytes.len() }
    }
}

thread_local! {
    static PLAIN: RefCell<String> = const { RefCell::new(String::new()) };
    static ANSWER: RefCell<[Vec<u8>; 3]> = const { RefCell::new([Vec::new(), Vec::new(), Vec::new()]) };
}

/// Keeps the bytes, and answers where they are.
pub(super) fn keep(answer: [Vec<u8>; 3]) -> [Text; 3] {
    ANSWER.with_borrow_mut(|kept| {
        *kept = answer;
        kept.each_ref().map(|bytes| Text::of(bytes))
    })
}

/// Makes a text safe for a log. It escapes bytes that are not UTF-8, control characters, separators of lines and
/// characters that change the direction of text (`\\x0a`, `\\u{202e}`). All else stays as it is.
///
/// # Arguments
///
/// - `data`, `len`: any bytes
/// - `text`: where the answer goes, valid until the next call of this function in this thread
///
/// # Returns
///
/// 0.
///
/// # Errors
///
/// - `DYUPS_INVALID`: NULL, or more than 64 MiB.
///
/// # Example
///
/// ```c
/// dyups_text text;
/// if (dyups_plain("a\nb", 3, &text) == 0) printf("%.*s\n", (int)text.len, text.data);
/// ```
///
/// # Safety
///
/// `data` points to `len` bytes; `text` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_plain(data: *const c_char, len: usize, text: *mut Text) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let (text, data) = unsafe { (out(text, "text")?, bytes(data, len, "data")?) };
        PLAIN.with_borrow_mut(|kept| {
            *kept = plain(data).into_owned();
            *text = Text::of(kept.as_bytes());
        });
        Ok(0)
    })
}

/// The numbers of an upstream's tries and of each of its peers, as JSON.
///
/// # Arguments
///
/// - `name`, `len`: the upstream
/// - `server`, `server_len`: one of its peers; NULL: the upstream and all its peers
/// - `json`, `json_len`: an object with `seconds` (1 to 3600: the last ones) or `since` (the `mark` of an earlier report),
///   or `null`: since the statistics began
/// - `text`: where the answer goes
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
/// dyups_text json;
/// if (dyups_report("api", 3, NULL, 0, "{\"seconds\": 60}", 15, &json) == 0) printf("%.*s\n", (int)json.len, json.data);
/// ```
///
/// # Safety
///
/// `name` points to `len` bytes, `server` to `server_len` or is NULL, `json` to `json_len`; `text` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_report(
    name: *const c_char,
    len: usize,
    server: *const c_char,
    server_len: usize,
    json: *const c_char,
    json_len: usize,
    text: *mut Text,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let (text, name, json) = unsafe {
            (out(text, "text")?, process::name(bytes(name, len, "upstream")?)?, bytes(json, json_len, "options")?)
        };
        // SAFETY: as before.
        let server = if server.is_null() { None } else { Some(unsafe { bytes(server, server_len, "peer")? }) };
        let server = server.map(String::from_utf8_lossy);
        let window = Window::read(&value::parse(json)?, "options")?;
        let json = report::json(process::table()?, name, server.as_deref(), &window)?;
        [*text, _, _] = keep([json, Vec::new(), Vec::new()]);
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
