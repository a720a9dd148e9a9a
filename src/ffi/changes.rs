//! What changes have done, for the log, and on whose behalf they are made.

use super::edge::{bytes, guard};
use crate::config::{options, value};
use crate::quote::{plain, quote};
use crate::table::change_log::{self, Change};
use std::cell::RefCell;
use std::ffi::c_char;

thread_local! {
    /// On whose behalf the next change of this thread is made.
    static BY: RefCell<Option<String>> = const { RefCell::new(None) };
    /// Lines that were not asked for yet, and those that were asked for last.
    static LINES: RefCell<(String, String)> = const { RefCell::new((String::new(), String::new())) };
}

/// Says on whose behalf the next change of this thread is made: the line of [`dyups_changes`] names it.
///
/// Arguments: `json`, `len`: an object with `by` (a text of 1 to 255 bytes); `null` is none. It is for one call: that of the next
/// function which changes an upstream, whatever comes of it. Returns: 0. Errors: `DYUPS_INVALID`.
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

/// What the last call of this thread that may change upstreams has changed: lines, each with a newline at its end, NUL-terminated. It
/// is for a log, at level notice. A change that changed nothing has no line.
///
/// ```text
/// upstream api: changed by Lua: 2 -> 3 peers (1 added, 0 removed, 0 changed), version 17
/// ```
///
/// Arguments: none. Returns: never NULL; empty where the lines were asked for before. Valid until the next call of this function in
/// this thread. Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn dyups_changes() -> *const c_char {
    LINES.with_borrow_mut(|(waiting, told)| {
        std::mem::swap(waiting, told);
        waiting.clear();
        told.push('\0');
        told.as_ptr().cast()
    })
}

/// Runs `body`, and keeps a line for each of its changes. `way`: how the change came in, such as `Lua`.
pub(super) fn told<T>(way: &str, body: impl FnOnce() -> T) -> T {
    let by = BY.take();
    let (answer, changes) = change_log::record(body);
    let origin = match by {
        Some(by) => format!("{way} ({})", quote(by.as_bytes())),
        None => way.to_string(),
    };
    let line = |change: &Change| plain(change.line(&origin).as_bytes()).into_owned() + "\n";
    LINES.with_borrow_mut(|(waiting, _)| {
        waiting.clear();
        waiting.extend(changes.iter().map(line));
    });
    answer
}
