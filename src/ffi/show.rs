//! What an operator reads, and the HTTP interface.

use super::edge::{bytes, guard, out, wait};
use crate::{admin, process, status};
use std::cell::RefCell;
use std::ffi::c_char;

/// A text that belongs to the library: valid until the next call in this thread that returns one.
#[derive(Debug)]
#[repr(C)]
pub struct Text {
    /// The bytes, not terminated; never NULL.
    pub data: *const c_char,
    /// How many.
    pub len: usize,
}

impl Text {
    /// These bytes, as long as they stay where they are.
    pub(super) fn of(bytes: &[u8]) -> Text {
        Text { data: bytes.as_ptr().cast(), len: bytes.len() }
    }
}

/// An answer to an HTTP request.
#[derive(Debug)]
#[repr(C)]
pub struct Reply {
    /// HTTP status.
    pub status: u32,
    /// Body.
    pub body: Text,
    /// Content-Type of the body.
    pub content_type: Text,
    /// What went wrong or should be read, in full; empty when all is well.
    pub error: Text,
}

thread_local! {
    static ANSWER: RefCell<[Vec<u8>; 3]> = const { RefCell::new([Vec::new(), Vec::new(), Vec::new()]) };
}

/// Keeps the bytes and tells where they are.
fn keep(answer: [Vec<u8>; 3]) -> [Text; 3] {
    ANSWER.with_borrow_mut(|kept| {
        *kept = answer;
        kept.each_ref().map(|bytes| Text::of(bytes))
    })
}

/// The table, or one upstream of it, as JSON in the shape of the upstreams file, with read-only fields.
///
/// Arguments: `name`, `len`: the upstream, or NULL for all. `text`: where the answer goes. Returns: 0.
/// Errors: `DYUPS_NOT_FOUND`, `DYUPS_CHANGING`, `DYUPS_NOT_SET_UP`, `DYUPS_INVALID`, `DYUPS_DAMAGED`.
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
        let json = status::json(process::table()?, name)?;
        [*text, _, _] = keep([json, Vec::new(), Vec::new()]);
        Ok(0)
    })
}

/// Answers a request of the HTTP interface: that of ngx_http_dyups_module (`/list`, `/detail`, `/upstream/NAME`), and
/// `/status`.
///
/// Arguments: `method`, `path` (decoded, without query), `body`, each with its length; `wait_ms`: as in `dyups_add_peer`. `reply`:
/// where the answer goes. Returns: 0, also for an answer that says no; `DYUPS_BUSY` when a change has to be tried again: the reply
/// is complete then too (status 409), for a caller who gives up.
/// Errors: `DYUPS_NOT_SET_UP`, `DYUPS_INVALID` (NULL, more than 64 MiB).
///
/// # Safety
///
/// The pointers point to as many bytes as their lengths say; `reply` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_admin(
    method: *const c_char,
    method_len: usize,
    path: *const c_char,
    path_len: usize,
    body: *const c_char,
    body_len: usize,
    wait_ms: u32,
    reply: *mut Reply,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let (reply, method, path, body) = unsafe {
            (
                out(reply, "reply")?,
                bytes(method, method_len, "method")?,
                bytes(path, path_len, "path")?,
                bytes(body, body_len, "body")?,
            )
        };
        let answer = admin::answer(process::table()?, method, path, body, wait(wait_ms));
        let busy = answer.status == admin::BUSY;
        reply.status = u32::from(answer.status);
        [reply.body, reply.content_type, reply.error] =
            keep([answer.body, answer.content_type.into(), answer.error.into_bytes()]);
        Ok(if busy { crate::error::Code::Busy as i32 } else { 0 })
    })
}
