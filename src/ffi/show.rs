//! The table as an operator reads it, and the HTTP interface.

use super::changes::told;
use super::edge::{bytes, guard, out, refused, wait};
use crate::admin::access::Sender;
use crate::error::{Code, Result};
use crate::quote::plain;
use crate::{admin, process, status};
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
    /// The whole error, or a warning; empty when all is well.
    pub error: Text,
}

thread_local! {
    static PLAIN: RefCell<String> = const { RefCell::new(String::new()) };
    static ANSWER: RefCell<[Vec<u8>; 3]> = const { RefCell::new([Vec::new(), Vec::new(), Vec::new()]) };
}

/// Keeps the bytes, and answers where they are.
fn keep(answer: [Vec<u8>; 3]) -> [Text; 3] {
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

/// A request of the HTTP interface. A header that is not there has NULL for its bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Request {
    /// In capitals.
    pub method: Text,
    /// Decoded, without the query.
    pub path: Text,
    /// The name of an upstream, in place of the path `/upstream/NAME`; NULL where the path has it.
    pub upstream: Text,
    /// The text behind the `?`.
    pub query: Text,
    /// Body.
    pub body: Text,
    /// The header `Host`.
    pub host: Text,
    /// The header `Origin`.
    pub origin: Text,
    /// The header `Sec-Fetch-Site`.
    pub site: Text,
    /// The address of the client, for the log; NULL for a request without HTTP.
    pub client: Text,
    /// 1: the request came through a unix socket; 0: it did not.
    pub is_unix: u32,
}

/// Answers a request of the HTTP interface as `dyups_admin`, and refuses requests that pages of other sites may have
/// sent: they get status 403. The `Host` has to be an address, `localhost` or a name in `admin.hosts` of `dyups_setup`,
/// except through a unix socket. A change may have no foreign `Origin` or `Sec-Fetch-Site`.
///
/// # Arguments
///
/// - `request`: the request
/// - `wait_ms`, `reply`: as in `dyups_admin`
///
/// # Returns
///
/// As `dyups_admin`.
///
/// # Errors
///
/// As `dyups_admin`.
///
/// # Example
///
/// ```c
/// dyups_request request = {0};
/// request.method = (dyups_text){"GET", 3};
/// request.path = (dyups_text){"/list", 5};
/// request.host = (dyups_text){"localhost", 9};
/// dyups_reply reply;
/// if (dyups_serve(&request, 1000, &reply) == 0) printf("%.*s", (int)reply.body.len, reply.body.data);
/// ```
///
/// # Safety
///
/// `request` is valid, and its texts point to as many bytes as they say; `reply` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_serve(request: *const Request, wait_ms: u32, reply: *mut Reply) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let (reply, request) = unsafe {
            let given = request.as_ref().ok_or_else(|| refused("request", "NULL", "a pointer"))?;
            let text = |text: Text, what| bytes(text.data, text.len, what);
            let header = |header: Text, what| text(header, what).map(|bytes| (!header.data.is_null()).then_some(bytes));
            let sender = Sender {
                host: header(given.host, "host")?,
                origin: header(given.origin, "origin")?,
                site: header(given.site, "site")?,
                unix: given.is_unix != 0,
            };
            let request = admin::Request {
                method: text(given.method, "method")?,
                path: text(given.path, "path")?,
                upstream: header(given.upstream, "upstream")?,
                query: text(given.query, "query")?,
                body: text(given.body, "body")?,
                sender,
            };
            (out(reply, "reply")?, (request, header(given.client, "client")?))
        };
        let (request, client) = request;
        let way = client.map_or("Lua".to_string(), |client| format!("HTTP from {}", plain(client)));
        told(&way, || answer(&request, &process::admin_hosts(), wait_ms, reply))
    })
}

fn answer(request: &admin::Request<'_>, hosts: &[String], wait_ms: u32, reply: &mut Reply) -> Result<i32> {
    let site =
        admin::Site { table: process::table()?, slot: process::own_slot(), nginx: process::nginx_version(), hosts };
    let answer = admin::answer(site, request, wait(wait_ms));
    let busy = answer.status == admin::BUSY;
    reply.status = u32::from(answer.status);
    [reply.body, reply.content_type, reply.error] =
        keep([answer.body, answer.content_type.into(), plain(answer.error.as_bytes()).into_owned().into_bytes()]);
    Ok(if busy { Code::Busy as i32 } else { 0 })
}

/// Answers a request of the HTTP interface: that of ngx_http_dyups_module (`/list`, `/detail`, `/upstream/NAME`), and
/// `/status`. It is for a caller that trusts the sender. See `dyups_serve` for one that does not.
///
/// # Arguments
///
/// - `method`, `path` (decoded, without query), `body`: each with its length
/// - `wait_ms`: as in `dyups_add_peer`
/// - `reply`: where the answer goes
///
/// # Returns
///
/// 0, also for an answer with a status of failure.
///
/// # Errors
///
/// - `DYUPS_BUSY`: try the change again. The reply is complete too (status 409), for a caller that gives up.
/// - `DYUPS_NOT_SET_UP`
/// - `DYUPS_INVALID`: NULL, or more than 64 MiB.
///
/// # Example
///
/// ```c
/// dyups_reply reply;
/// int32_t code = dyups_admin("GET", 3, "/list", 5, NULL, 0, 1000, &reply);
/// ```
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
        let request = admin::Request { method, path, body, ..admin::Request::default() };
        told("Lua", || answer(&request, &[], wait_ms, reply))
    })
}
