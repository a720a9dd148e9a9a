//! The HTTP interface.

use super::changes::told;
use super::draft;
use super::edge::{bytes, guard, out, refused, wait};
use super::slice;
use super::text::{Text, keep};
use crate::admin::access::Sender;
use crate::error::{Code, Result};
use crate::pace::Pace;
use crate::quote::plain;
use crate::{admin, process};
use std::ffi::c_char;

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
    /// The number of the rest of the body, for `dyups_next`; 0: the body is whole.
    pub rest: u64,
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
    /// The header `Accept`.
    pub accept: Text,
    /// Body; NULL where `draft` has it.
    pub body: Text,
    /// The draft with the body, of `dyups_draft`; 0: none.
    pub draft: u32,
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
    /// The length of the slices in which a long body is to be read, see `dyups_next`; 0: bodies are whole.
    pub peers: u32,
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
/// As `dyups_admin`. 1: there is no answer yet, since the request has a draft, and the call has worked at that for some
/// milliseconds. Make the same call again.
///
/// # Errors
///
/// As `dyups_admin`. `DYUPS_INVALID`: there is no such draft.
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
                accept: text(given.accept, "accept")?,
                body: text(given.body, "body")?,
                sender,
            };
            (out(reply, "reply")?, (request, header(given.client, "client")?, (given.draft, given.peers)))
        };
        let (request, client, (draft, peers)) = request;
        let way = client.map_or("Lua".to_string(), |client| format!("HTTP from {}", plain(client)));
        let hosts = process::admin_hosts();
        told(&way, || match draft {
            0 => answer(&request, &hosts, wait_ms, peers, reply),
            draft => answer_draft(draft, &request, &hosts, wait_ms, peers, reply),
        })
    })
}

fn site(hosts: &[String]) -> Result<admin::Site<'static, '_>> {
    Ok(admin::Site { table: process::table()?, slot: process::own_slot(), nginx: process::nginx_version(), hosts })
}

fn answer(request: &admin::Request<'_>, hosts: &[String], wait_ms: u32, peers: u32, reply: &mut Reply) -> Result<i32> {
    answered(admin::answer(site(hosts)?, request, wait(wait_ms), Pace::of(peers)), reply)
}

fn answer_draft(
    id: u32,
    request: &admin::Request<'_>,
    hosts: &[String],
    wait_ms: u32,
    peers: u32,
    reply: &mut Reply,
) -> Result<i32> {
    let (site, pace) = (site(hosts)?, Pace::of(peers));
    draft::with(id, |draft| {
        draft.check_size("body")?;
        match admin::answer_draft(site, request, draft, wait(wait_ms), pace, &mut draft::goes_on()) {
            Some(answer) => answered(answer, reply),
            None => Ok(draft::MORE),
        }
    })
}

fn answered((answer, rest): admin::Answer<'static>, reply: &mut Reply) -> Result<i32> {
    let busy = answer.status == admin::reply::BUSY;
    reply.rest = slice::number(rest);
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
        told("Lua", || answer(&request, &[], wait_ms, 0, reply))
    })
}
