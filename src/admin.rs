//! The HTTP interface that operators know from ngx_http_dyups_module, and `/status`: a request as bytes in, an answer as
//! bytes out. nginx's side moves them.

use crate::config::{dyups, nginx};
use crate::error::{Code, Error, Result};
use crate::process;
use crate::status;
use crate::table::name;
use crate::table::store::Table;
use std::time::Duration;

/// Status of an answer to a change that did not get its turn.
pub const BUSY: u16 = 409;

/// Status of an answer to a change that is to be made in the nginx that has superseded this one. On a new connection, the next
/// try may well reach that one.
pub const SUPERSEDED: u16 = 503;

/// What goes back to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Body, as the module has it: without a newline at its end.
    pub body: Vec<u8>,
    /// Content-Type of the body.
    pub content_type: &'static str,
    /// The whole story, for the log and the header X-Dyups-Error; empty when all went well.
    pub error: String,
}

impl Reply {
    fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Reply { status, body: body.into(), content_type: "text/plain", error: String::new() }
    }

    fn of(error: &Error, status: u16, body: &str) -> Self {
        match error.code {
            Code::Busy => Reply { error: error.to_string(), ..Reply::text(BUSY, "wait and try again\n") },
            Code::Superseded => Reply { error: error.to_string(), ..Reply::text(SUPERSEDED, "superseded") },
            _ => Reply { error: error.to_string(), ..Reply::text(status, body) },
        }
    }

    /// A list that may be empty.
    fn list(body: String) -> Self {
        if body.is_empty() { Reply::text(204, body) } else { Reply::text(200, body) }
    }
}

/// Answers `method path` with `body`. `path` is decoded and has no query. `wait`: how long a change may wait for its turn.
pub fn answer(table: &Table, method: &[u8], path: &[u8], body: &[u8], wait: Duration) -> Reply {
    let parts: Vec<&[u8]> = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).collect();
    match method {
        b"GET" | b"HEAD" => get(table, &parts).unwrap_or_else(|error| Reply::of(&error, 500, "")),
        b"DELETE" => match upstream_part(&parts) {
            Ok(name) => delete(table, name, wait),
            Err(text) => Reply::text(405, text),
        },
        b"POST" if body.is_empty() => Reply::text(204, ""),
        b"POST" => match upstream_part(&parts) {
            Ok(name) => post(table, name, body, wait),
            Err(text) => Reply::text(404, text),
        },
        _ => Reply::text(405, ""),
    }
}

fn is(part: &[u8], word: &str) -> bool {
    part.eq_ignore_ascii_case(word.as_bytes())
}

/// NAME of `/upstream/NAME`, or what the module says to anything else.
fn upstream_part<'a>(parts: &[&'a [u8]]) -> std::result::Result<&'a [u8], &'static str> {
    match parts {
        [word, name] if is(word, "upstream") => Ok(name),
        [_, _] => Err("not support this api"),
        _ => Err("not support this interface"),
    }
}

fn get(table: &Table, parts: &[&[u8]]) -> Result<Reply> {
    Ok(match parts {
        [word, ..] if is(word, "list") => Reply::list(dyups::list(table.names()?.iter().map(String::as_str))),
        [word, ..] if is(word, "detail") => {
            Reply::list(table.upstreams()?.iter().map(|stored| dyups::detail(&stored.upstream)).collect())
        }
        [word, name] if is(word, "upstream") => match table.name(name).and_then(|name| table.upstream(name)) {
            Ok(stored) => Reply::list(dyups::servers(&stored.upstream)),
            Err(error) if matches!(error.code, Code::NotFound | Code::Invalid) => Reply::of(&error, 404, ""),
            Err(error) => return Err(error),
        },
        [word] if is(word, "status") => {
            Reply { content_type: "application/json", ..Reply::text(200, status::json(table, None)?) }
        }
        _ => Reply::text(404, ""),
    })
}

fn delete(table: &Table, name: &[u8], wait: Duration) -> Reply {
    match table.name(name).and_then(|name| table.delete_upstream(name, true, wait)) {
        Ok(()) => Reply::text(200, "success"),
        Err(error) if matches!(error.code, Code::NotFound | Code::Invalid) => {
            Reply::of(&error, 404, "not found uptream")
        }
        Err(error) => Reply::of(&error, 500, "delete upstream failed"),
    }
}

fn post(table: &Table, name: &[u8], body: &[u8], wait: Duration) -> Reply {
    let set = |name: &str| {
        let (upstream, notes) = nginx::block(name, body, "body", process::nginx_version())?;
        table.set_upstream(&upstream, wait)?;
        Ok(notes.join("; "))
    };
    match name::check(name).and_then(set) {
        Ok(notes) => Reply { error: notes, ..Reply::text(200, "success") },
        Err(error) => Reply::of(&error, 500, "add server failed"),
    }
}
