//! Lines about changes for the log, and the name of the caller of a change.

use super::edge::{bytes, guard};
use crate::config::{options, value};
use crate::process;
use crate::quote::{plain, quote};
use crate::table::change_log::{self, Difference};
use crate::table::history;
use std::cell::RefCell;
use std::ffi::c_char;

thread_local! {
    /// The name of the caller of this thread's next change.
    static BY: RefCell<Option<String>> = const { RefCell::new(None) };
    /// Lines that the caller has not read yet, and those that it has read last.
    static LINES: RefCell<(String, String)> = const { RefCell::new((String::new(), String::new())) };
}

/// Says on whose behalf this thread makes its next change. The line of [`dyups_changes`] names it. It holds for one
/// call, that of the next function that changes an upstream, whether that call succeeds or not.
///
/// # Arguments
///
/// - `json`, `len`: an object with `by` (a text of 1 to 255 bytes); `null`: no name
///
/// # Returns
///
/// 0.
///
/// # Errors
///
/// - `DYUPS_INVALID`
///
/// # Example
///
/// ```c
/// dyups_by("{\"by\": \"deploy 42\"}", 19);
/// ```
///
/// # Safety
///
/// `json` points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_by(json: *const c_char, len: usize) -> i32 {
    guard(|| {
        BY.set(None);
        // SAFETY: the caller's contract.
        let json = unsafe { bytes(json, len, "options")? };
        BY.set(options::by(&value::parse(json)?, "options")?);
        Ok(0)
    })
}

/// Lines for a log, at level notice: the changes of this thread's last call that may change upstreams. A call that
/// changes nothing has no line.
///
/// ```text
/// upstream api: changed by Lua: 2 -> 3 peers (1 added, 0 removed, 0 changed), version 17
/// ```
///
/// # Returns
///
/// Lines, each with a newline at its end, NUL-terminated. Never NULL; empty when they were read before. Valid until the
/// next call of this function in this thread.
///
/// # Errors
///
/// None.
///
/// # Example
///
/// ```c
/// fputs(dyups_changes(), stderr);
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dyups_changes() -> *const c_char {
    LINES.with_borrow_mut(|(waiting, told)| {
        std::mem::swap(waiting, told);
        waiting.clear();
        told.push('\0');
        told.as_ptr().cast()
    })
}

/// Runs `body`, and keeps a line for each of its changes. `way`: the interface of the change, such as `Lua`.
pub(super) fn told<T>(way: &str, body: impl FnOnce() -> T) -> T {
    let by = BY.take();
    let (answer, changes) = change_log::record(body);
    let origin = match by {
        Some(by) => format!("{way} ({})", quote(by.as_bytes())),
        None => way.to_string(),
    };
    if let Some(table) = process::attached() {
        changes.iter().for_each(|change| history::enter(table, change, &origin));
    }
    let line = |change: &Difference| plain(change.line(&origin).as_bytes()).into_owned() + "\n";
    LINES.with_borrow_mut(|(waiting, _)| {
        waiting.clear();
        waiting.extend(changes.iter().map(line));
    });
    answer
}
