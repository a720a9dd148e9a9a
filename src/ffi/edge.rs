//! The edge itself: arguments in, errors and panics out.

use crate::bounds::check_len;
use crate::error::{Code, Error, Result};
use crate::quote::Plain;
use std::cell::RefCell;
use std::ffi::c_char;
use std::fmt::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

thread_local! {
    /// The last message of this thread, NUL-terminated.
    static MESSAGE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The message of the last call in this thread that failed: one line of UTF-8, NUL-terminated.
///
/// # Returns
///
/// Never NULL; empty when no call has failed yet. Valid until the next call of the library in this thread.
///
/// # Errors
///
/// None.
///
/// # Example
///
/// ```c
/// if (dyups_start() < 0) fprintf(stderr, "%s\n", dyups_error());
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dyups_error() -> *const c_char {
    MESSAGE.with_borrow_mut(|message| {
        if !message.ends_with('\0') {
            message.push('\0');
        }
        message.as_ptr().cast()
    })
}

/// Remembers a message, as [`Plain`] has it. The buffer is kept, so the request path allocates nothing even when it fails.
pub(super) fn remember(message: &dyn fmt::Display) {
    MESSAGE.with_borrow_mut(|buffer| {
        buffer.clear();
        // Writing to a String cannot fail.
        let _ = write!(Plain(buffer), "{message}");
        buffer.push('\0');
    });
}

/// Runs the body of a function of the ABI.
pub(super) fn guard(body: impl FnOnce() -> Result<i32>) -> i32 {
    guard_code(|| body().unwrap_or_else(|error| failed(&error)))
}

/// The same for a body that puts its errors into words itself.
#[inline(always)]
pub(super) fn guard_code(body: impl FnOnce() -> i32) -> i32 {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| panicked())
}

#[cold]
fn panicked() -> i32 {
    failed(&Error::new(Code::Internal, "a bug in dyups: a panic was caught; please report what was called"))
}

/// Keeps the message and answers the code.
#[cold]
pub(super) fn failed(error: &Error) -> i32 {
    remember(error);
    error.code as i32
}

/// The bytes that a caller passed. Messages call them `what`.
///
/// # Safety
///
/// `data` is NULL or points to `len` bytes, to which no thread writes while the slice lives.
#[inline(always)]
pub(super) unsafe fn bytes<'a>(data: *const c_char, len: usize, what: &str) -> Result<&'a [u8]> {
    if data.is_null() {
        return if len == 0 { Ok(&[]) } else { Err(refused(what, "NULL", "a pointer")) };
    }
    check_len(len, what)?;
    // SAFETY: not NULL, and the caller vouches for `len` bytes, which is far below isize::MAX.
    Ok(unsafe { std::slice::from_raw_parts(data.cast(), len) })
}

#[cold]
pub(super) fn refused(what: &str, value: &str, allowed: &str) -> Error {
    Error::invalid(format!("{what}: {value}: allowed: {allowed}"))
}

/// A place of the caller for an answer.
///
/// # Safety
///
/// `place` is NULL or valid for writes, and no other code uses it while the reference lives.
#[inline(always)]
pub(super) unsafe fn out<'a, T>(place: *mut T, what: &str) -> Result<&'a mut T> {
    // SAFETY: the caller vouches for it.
    unsafe { place.as_mut() }.ok_or_else(|| refused(what, "NULL", "a pointer"))
}

/// The time that a change may wait for the writer lock: at most a minute, since no caller should sleep longer.
pub(super) fn wait(milliseconds: u32) -> Duration {
    Duration::from_millis(u64::from(milliseconds.min(60_000)))
}
