//! The HTTP interface that operators know from ngx_http_dyups_module, and `/status`: a request as bytes in, an answer as
//! bytes out. nginx's side moves them.

pub mod access;
pub mod reply;

use self::access::Sender;
use self::reply::Reply;
use crate::config::{dyups, nginx};
use crate::error::{Code, Result};
use crate::health::certificate;
use crate::status;
use crate::status::metrics::{self, Format, Parts};
use crate::table::change_log::{self, Difference};
use crate::table::store::Table;
use crate::upstream::{HashId, name};
use crate::version::NginxVersion;
use std::time::Duration;

/// A client's request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// In capitals, as HTTP has it.
    pub method: &'a [u8],
    /// Decoded, without the query.
    pub path: &'a [u8],
    /// The name of an upstream, in place of a path of two parts.
    pub upstream: Option<&'a [u8]>,
    /// The text behind the `?`.
    pub query: &'a [u8],
    /// The header `Accept`; empty where there is none.
    pub accept: &'a [u8],
    /// Empty where there is none.
    pub body: &'a [u8],
    /// The sender.
    pub sender: Sender<'a>,
}

impl Request<'_> {
    fn writes(&self) -> bool {
        !matches!(self.method, b"GET" | b"HEAD")
    }

    /// Whether the query has `word=value` among its parts between `&`.
    fn asks(&self, word: &[u8], value: &[u8]) -> bool {
        let is_it = |part: &[u8]| part.strip_prefix(word).and_then(|rest| rest.strip_prefix(b"=")) == Some(value);
        self.query.split(|&byte| byte == b'&').any(is_it)
    }

    /// Whether the query has `word`, or `word=` and anything, among its parts between `&`.
    fn names(&self, word: &[u8]) -> bool {
        self.query.split(|&byte| byte == b'&').any(|part| part.split(|&byte| byte == b'=').next() == Some(word))
    }
}

/// The nginx that a request reaches.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Its table.
    pub table: &'a Table,
    /// The slot of the worker.
    pub slot: Option<u32>,
    /// Its version; `None`: not known.
    pub nginx: Option<NginxVersion>,
    /// As in [`access::refusal`].
    pub hosts: &'a [String],
}

/// Answers a request. `wait`: how long a change may wait for its turn.
pub fn answer(site: Site<'_>, request: &Request<'_>, wait: Duration) -> Reply {
    let table = site.table;
    if let Some(why) = access::refusal(&request.sender, request.writes(), site.hosts) {
        return Reply { error: why.clone(), ..Reply::text(403, why) };
    }
    let Request { method, path, body, .. } = *request;
    let parts: Vec<&[u8]> = match request.upstream {
        Some(name) => vec![b"upstream", name],
        None => path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).collect(),
    };
    match method {
        b"GET" | b"HEAD" => get(site, request, &parts).unwrap_or_else(|error| Reply::of(&error, 500, "")),
        b"DELETE" => match upstream_part(&parts) {
            Ok(name) => delete(table, name, wait),
            Err(text) => Reply::text(405, text),
        },
        b"POST" if body.is_empty() => Reply::text(204, ""),
        b"POST" => match upstream_part(&parts) {
            Ok(name) => post(site, name, body, wait),
            Err(text) => Reply::text(404, text),
        },
        _ => Reply::text(405, ""),
    }
}

fn is(part: &[u8], word: &str) -> bool {
    part.eq_ignore_ascii_case(word.as_bytes())
}

/// NAME of `/upstream/NAME`, or the module's answer to anything else.
fn upstream_part<'a>(parts: &[&'a [u8]]) -> std::result::Result<&'a [u8], &'static str> {
    match parts {
        [word, name] if is(word, "upstream") => Ok(name),
        [_, _] => Err("not support this api"),
        _ => Err("not support this interface"),
    }
}

fn get(site: Site<'_>, request: &Request<'_>, parts: &[&[u8]]) -> Result<Reply> {
    let table = site.table;
    Ok(match parts {
        [word, ..] if is(word, "list") => Reply::list(dyups::list(table.names()?.iter().map(String::as_str))),
        [word, ..] if is(word, "detail") => {
            let mut all = table.upstreams()?;
            all.sort_by_key(|stored| stored.created);
            Reply::list(all.iter().map(|stored| dyups::detail(&stored.upstream)).collect())
        }
        [word, name] if is(word, "upstream") => match table.name(name).and_then(|name| table.upstream(name)) {
            Ok(stored) if request.names(b"full") => Reply::list(nginx::write(&stored.upstream)),
            Ok(stored) => Reply::list(dyups::servers(&stored.upstream)),
            Err(error) if matches!(error.code, Code::NotFound | Code::Invalid) => Reply::of(&error, 404, ""),
            Err(error) => return Err(error),
        },
        [word] if is(word, "routes") => Reply::list(dyups::routes(table.routes()?.iter().map(|stored| &stored.route))),
        [word] if is(word, "status") => {
            Reply { content_type: "application/json", ..Reply::text(200, status::json(table, None, site.slot)?) }
        }
        [word] if is(word, "metrics") => {
            let (peers, histograms) = (!request.asks(b"peers", b"false"), request.asks(b"histograms", b"peers"));
            let format = Format::accepted(request.accept);
            let text = metrics::text(table, site.slot, format, Parts { peers, histograms })?;
            Reply { content_type: format.content_type(), ..Reply::text(200, text) }
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

fn post(site: Site<'_>, name: &[u8], body: &[u8], wait: Duration) -> Reply {
    let set = |name: &str| {
        let (upstream, mut notes) = nginx::block(name, body, "body", site.nginx)?;
        certificate::keep_for(upstream.check.as_ref(), "check")?;
        site.table.set_upstream(&upstream, wait)?;
        notes.extend(change_log::last().as_ref().and_then(dropped));
        Ok(notes.join("; "))
    };
    match name::check(name).and_then(set) {
        Ok(notes) => Reply { error: notes, ..Reply::text(200, "success") },
        Err(error) => Reply::of(&error, 500, "add server failed"),
    }
}

/// The settings that a change drops because a program reads addresses, edits them and posts them back.
fn dropped(change: &Difference) -> Option<String> {
    let mut lost = Vec::new();
    if let Some([Some(method), None]) = change.method {
        lost.push(format!("its method ({})", method.name()));
    }
    if let Some([hash_id, HashId::Nginx]) = change.hash_id {
        lost.push(format!("its hash_id ({})", hash_id.name()));
    }
    match change.undrained {
        0 => {}
        1 => lost.push("the drain of 1 peer".to_string()),
        many => lost.push(format!("the drain of {many} peers")),
    }
    let name = &change.upstream;
    (!lost.is_empty()).then(|| {
        format!(
            "upstream {name} has lost {}: GET /upstream/{name}?full has all that POST takes back",
            lost.join(" and ")
        )
    })
}
