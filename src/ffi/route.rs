//! Routes: where a host leads, and their changes.

use super::change::json_of;
use super::changes::told;
use super::edge::{bytes, failed, guard, guard_code, out, remember, wait};
use super::find::unusable;
use super::slice::{self, Slice};
use super::{nginx, request};
use crate::balance::miss::Miss;
use crate::balance::route::{Routed, Router};
use crate::config;
use crate::error::{Code, Error};
use crate::order::rendezvous;
use crate::process;
use crate::quote::quote;
use crate::shm::region::DAMAGED;
use crate::status::table::RoutesAnswer;
use crate::table::store::CHANGING;
use crate::upstream::host;
use crate::upstream::name::MAX_NAME_BYTES;
use std::ffi::{c_char, c_void};

/// Leads a host to an upstream, or a host that has several to one of them.
///
/// # Arguments
///
/// - `host`, `host_len`: the host, in any case, with a port or without
/// - `key`, `key_len`: decides between several upstreams: equal keys lead to the same one. Empty: requests take turns.
///   NULL: it is the value of the route's own variable
/// - `request`: nginx's request in `http {}`, for that variable. A request that has tried an upstream stays there where
///   it takes turns. NULL: there is none, and so no variable
/// - `routed`: where the name of the upstream goes
///
/// # Returns
///
/// 1: `routed` has the name. 0: there is no route for this host.
///
/// # Errors
///
/// - `DYUPS_NOT_FOUND`: the upstreams that the route names are not there any more.
/// - `DYUPS_CHANGING`, `DYUPS_NOT_SET_UP`, `DYUPS_INVALID`, `DYUPS_DAMAGED`
///
/// # Example
///
/// ```c
/// dyups_routed routed;
/// if (dyups_route("www.example.com", 15, NULL, 0, NULL, &routed) == 1) {
///     printf("%.*s\n", (int)routed.len, (const char *)routed.text);
/// }
/// ```
///
/// # Safety
///
/// `host` points to `host_len` bytes; `key` points to `key_len` or is NULL; `request` is NULL, or a request of nginx
/// that this thread is processing; `routed` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_route(
    host: *const c_char,
    host_len: usize,
    key: *const c_char,
    key_len: usize,
    request: *mut c_void,
    routed: *mut Routed,
) -> i32 {
    guard_code(|| {
        // SAFETY: the caller's contract: it is NULL or valid, and no other code uses it meanwhile.
        let (Some(routed), Some(table)) = (unsafe { routed.as_mut() }, process::attached()) else { return unusable() };
        // SAFETY: the caller's contract.
        let (host, given) = match unsafe { (bytes(host, host_len, "host"), bytes(key, key_len, "key")) } {
            (Ok(host), Ok(given)) => (host, given),
            (Err(error), _) | (_, Err(error)) => return failed(&error),
        };
        let hash = |value: &[u8]| (!value.is_empty()).then(|| rendezvous::hash(value));
        let hash_of_key = |variable: Option<&str>| {
            let mut found = None;
            match variable {
                _ if !key.is_null() => found = hash(given),
                // SAFETY: the caller's contract.
                Some(variable) if !request.is_null() => unsafe {
                    nginx::variable(request, variable, &mut |value| found = hash(value));
                },
                _ => {}
            }
            found
        };
        let last = request::last_upstream(request);
        let router = Router::over(table.region().mem(), table.region().geometry());
        match router.lead(host, hash_of_key, last, routed) {
            Ok(led) => led.into(),
            Err(miss) => missed(host, miss),
        }
    })
}

/// Finds the variable of nginx by whose value the route of a host chooses between several upstreams: for a caller that has no request of
/// `http {}`, reads the value itself, and hands it to `dyups_route` as the key.
///
/// # Arguments
///
/// - `host`, `host_len`: as in `dyups_route`
/// - `routed`: where the name of the variable goes, without its `$`
///
/// # Returns
///
/// 1: `routed` has the name. 0: there is no route for this host, or requests take turns.
///
/// # Errors
///
/// - `DYUPS_CHANGING`, `DYUPS_NOT_SET_UP`, `DYUPS_INVALID`, `DYUPS_DAMAGED`
///
/// # Example
///
/// ```c
/// dyups_routed routed;
/// if (dyups_route_variable("www.example.com", 15, &routed) == 1) {
///     printf("$%.*s\n", (int)routed.len, (const char *)routed.text);
/// }
/// ```
///
/// # Safety
///
/// `host` points to `host_len` bytes; `routed` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_route_variable(host: *const c_char, host_len: usize, routed: *mut Routed) -> i32 {
    guard_code(|| {
        // SAFETY: the caller's contract: it is NULL or valid, and no other code uses it meanwhile.
        let (Some(routed), Some(table)) = (unsafe { routed.as_mut() }, process::attached()) else { return unusable() };
        // SAFETY: the caller's contract.
        let host = match unsafe { bytes(host, host_len, "host") } {
            Ok(host) => host,
            Err(error) => return failed(&error),
        };
        match Router::over(table.region().mem(), table.region().geometry()).variable(host, routed) {
            Ok(is_there) => is_there.into(),
            Err(miss) => missed(host, miss),
        }
    })
}

/// Puts a miss into words. No text is made for it but the message itself.
#[cold]
fn missed(host: &[u8], miss: Miss) -> i32 {
    // A longer one is that of no route but the one of all other hosts.
    let host = std::str::from_utf8(&host[..host.len().min(MAX_NAME_BYTES)]).unwrap_or("?");
    let (code, why) = match miss {
        Miss::Changing => (Code::Changing, CHANGING),
        Miss::Damaged => (Code::Damaged, DAMAGED),
        _ => (Code::NotFound, "no such upstream: none of those that its route names is there"),
    };
    remember(&format_args!("route {host}: {why}"));
    code as i32
}

/// Makes the route of a host, or replaces it as a whole.
///
/// # Arguments
///
/// - `host`, `len`: a host such as `www.example.com` or `[::1]`, with a port or without; `*.example.com` for all below
///   it; or `default` for all that have no route
/// - `json`, `json_len`: the name of an upstream; a list of up to 64 pairs of a name and a weight; or an object:
///   - `targets`: either of these
///   - `key`: the variable of nginx that decides between them, such as `$cookie_user`; default `false`: requests take
///     turns
/// - `wait_ms`: as in `dyups_add_peer`
///
/// # Returns
///
/// 0. The change is one step, and every pick that begins afterwards sees it.
///
/// # Errors
///
/// - `DYUPS_NOT_FOUND`: there is no such upstream.
/// - The others of `dyups_add_peer`.
///
/// # Example
///
/// ```c
/// const char *split = "{\"targets\": [[\"blue\", 90], [\"green\", 10]], \"key\": \"$cookie_user\"}";
/// int32_t code = dyups_set_route("www.example.com", 15, split, strlen(split), 1000);
/// ```
///
/// # Safety
///
/// `host` points to `len` bytes, `json` to `json_len`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_set_route(
    host: *const c_char,
    len: usize,
    json: *const c_char,
    json_len: usize,
    wait_ms: u32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let (host, value) = unsafe { (bytes(host, len, "host")?, json_of(json, json_len, "route")?) };
        let host = std::str::from_utf8(host).map_err(|_| not_utf_8(host))?;
        let route = config::route::route(host, &value, "route")?;
        told("Lua", || process::table()?.set_route(&route, wait(wait_ms)))?;
        Ok(0)
    })
}

fn not_utf_8(host: &[u8]) -> Error {
    host::check(host).err().unwrap_or_else(|| Error::invalid(format!("route {}: not UTF-8", quote(host))))
}

/// Deletes the route of exactly this host.
///
/// # Arguments
///
/// - `host`, `len`: as in `dyups_set_route`
/// - `json`, `json_len`: `null`
/// - `wait_ms`: as in `dyups_add_peer`
///
/// # Returns
///
/// 0.
///
/// # Errors
///
/// - `DYUPS_NOT_FOUND`: there is no such route.
/// - The others of `dyups_add_peer`.
///
/// # Example
///
/// ```c
/// int32_t code = dyups_delete_route("www.example.com", 15, "null", 4, 1000);
/// ```
///
/// # Safety
///
/// As `dyups_set_route`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_delete_route(
    host: *const c_char,
    len: usize,
    json: *const c_char,
    json_len: usize,
    wait_ms: u32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let (host, value) = unsafe { (bytes(host, len, "host")?, json_of(json, json_len, "options")?) };
        config::options::none(&value, "options")?;
        let host = host::check(host)?;
        told("Lua", || process::table()?.delete_route(&host, wait(wait_ms)))?;
        Ok(0)
    })
}

/// All routes as JSON: an object by host, in the shape of `routes` of the upstreams file, with read-only fields.
///
/// # Arguments
///
/// - `peers`: the length of the first slice, see `dyups_next`. Each slice is a JSON object. All of them make the answer when
///   objects are merged by their keys, and lists are put one behind the other. 0: one object, the whole answer
/// - `slice`: where the first slice goes
///
/// # Returns
///
/// 0.
///
/// # Errors
///
/// - `DYUPS_CHANGING`, `DYUPS_NOT_SET_UP`, `DYUPS_INVALID`, `DYUPS_DAMAGED`
///
/// # Example
///
/// ```c
/// dyups_slice json;
/// if (dyups_routes(0, &json) == 0) printf("%.*s\n", (int)json.text.len, json.text.data);
/// ```
///
/// # Safety
///
/// `slice` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_routes(peers: u32, slice: *mut Slice) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let slice = unsafe { out(slice, "slice")? };
        *slice = slice::begin(RoutesAnswer::of(process::table()?, slice::shape(peers))?, peers)?;
        Ok(0)
    })
}
