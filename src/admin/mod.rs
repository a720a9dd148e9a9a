//! The HTTP interface that operators know from ngx_http_dyups_module, and `/status`: a request as bytes in, an answer as
//! bytes out. nginx's side moves them.

pub mod access;
pub mod draft;
pub mod reply;

use self::access::Sender;
use self::draft::Draft;
use self::reply::Reply;
use crate::config::nginx;
use crate::error::{Code, Result};
use crate::health::certificate;
use crate::pace::Pace;
use crate::status::doc::Shape;
use crate::status::metrics::{Format, MetricsAnswer, Parts};
use crate::status::slices::Sliced;
use crate::status::table::TableAnswer;
use crate::status::text::{Text, TextAnswer};
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
pub struct Site<'t, 'a> {
    /// Its table.
    pub table: &'t Table,
    /// The slot of the worker.
    pub slot: Option<u32>,
    /// Its version; `None`: not known.
    pub nginx: Option<NginxVersion>,
    /// As in [`access::refusal`].
    pub hosts: &'a [String],
}

/// The slices of an answer's body that come behind the first.
pub type Rest<'t> = Box<dyn Sliced + 't>;

/// An answer, and the slices of its body that come behind it.
pub type Answer<'t> = (Reply, Option<Rest<'t>>);

/// Answers a request.
///
/// # Arguments
///
/// - `wait`: how long a change may wait for its turn
/// - `pace`: the first slice of a long body, which is in the answer; the others are in the second part
pub fn answer<'t>(site: Site<'t, '_>, request: &Request<'_>, wait: Duration, pace: Pace) -> Answer<'t> {
    match look(site, request, request.body.is_empty(), wait, pace) {
        Looked::Answered(answer) => answer,
        Looked::Post(name) => (posted(name::check(name).and_then(|name| post(site, name, request.body, wait))), None),
    }
}

/// The same of a request whose body is that of a draft. `None`: the draft is not done, and this call is to be made again. It works
/// at the draft until `goes_on` says no.
pub fn answer_draft<'t>(
    site: Site<'t, '_>,
    request: &Request<'_>,
    draft: &mut Draft,
    wait: Duration,
    pace: Pace,
    goes_on: &mut dyn FnMut() -> bool,
) -> Option<Answer<'t>> {
    let name = match look(site, request, draft.is_empty(), wait, pace) {
        Looked::Answered(answer) => return Some(answer),
        Looked::Post(name) => name,
    };
    match name::check(name).and_then(|name| draft.post(site, name, wait, goes_on)) {
        Ok(None) => None,
        Ok(Some(notes)) => Some((posted(Ok(notes)), None)),
        Err(error) => Some((posted(Err(error)), None)),
    }
}

/// The outcome of the first look at a request.
enum Looked<'a, 't> {
    /// It has its answer.
    Answered(Answer<'t>),
    /// Its body is the new inside of the upstream with this name.
    Post(&'a [u8]),
}

fn look<'a, 't>(
    site: Site<'t, '_>,
    request: &Request<'a>,
    is_empty: bool,
    wait: Duration,
    pace: Pace,
) -> Looked<'a, 't> {
    if let Some(why) = access::refusal(&request.sender, request.writes(), site.hosts) {
        return Looked::Answered((Reply { error: why.clone(), ..Reply::text(403, why) }, None));
    }
    let Request { method, path, .. } = *request;
    let parts: Vec<&[u8]> = match request.upstream {
        Some(name) => vec![b"upstream", name],
        None => path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).collect(),
    };
    let reply = match method {
        b"GET" | b"HEAD" => {
            let answer = get(site, request, &parts, pace);
            return Looked::Answered(answer.unwrap_or_else(|error| (Reply::of(&error, 500, ""), None)));
        }
        b"DELETE" => match upstream_part(&parts) {
            Ok(name) => delete(site.table, name, wait),
            Err(text) => Reply::text(405, text),
        },
        b"POST" if is_empty => Reply::text(204, ""),
        b"POST" => match upstream_part(&parts) {
            Ok(name) => return Looked::Post(name),
            Err(text) => Reply::text(404, text),
        },
        _ => Reply::text(405, ""),
    };
    Looked::Answered((reply, None))
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

fn get<'t>(
    site: Site<'t, '_>,
    request: &Request<'_>,
    parts: &[&[u8]],
    pace: Pace,
) -> Result<(Reply, Option<Rest<'t>>)> {
    let Site { table, slot, .. } = site;
    let text = |text| begin(TextAnswer::of(table, text)?, "text/plain", pace);
    match parts {
        [word, ..] if is(word, "list") => text(Text::List),
        [word, ..] if is(word, "detail") => text(Text::Detail),
        [word, name] if is(word, "upstream") => {
            let lines = if request.names(b"full") { Text::Block } else { Text::Servers };
            table.name(name).and_then(|name| text(lines(name))).or_else(|error| match error.code {
                Code::NotFound | Code::Invalid => Ok((Reply::of(&error, 404, ""), None)),
                _ => Err(error),
            })
        }
        [word] if is(word, "routes") => text(Text::Routes),
        [word] if is(word, "status") => {
            let stats = request.asks(b"stats", b"true");
            begin(TableAnswer::of(table, None, slot, stats, Shape::Text)?, "application/json", pace)
        }
        [word] if is(word, "metrics") => {
            let (peers, histograms) = (!request.asks(b"peers", b"false"), request.asks(b"histograms", b"peers"));
            let format = Format::accepted(request.accept);
            let answer = MetricsAnswer::of(table, slot, format, Parts { peers, histograms })?;
            begin(answer, format.content_type(), pace)
        }
        _ => Ok((Reply::text(404, ""), None)),
    }
}

/// The first slice of an answer, and the rest if there is one.
fn begin<'t>(
    mut answer: impl Sliced + 't,
    content_type: &'static str,
    mut pace: Pace,
) -> Result<(Reply, Option<Rest<'t>>)> {
    let mut body = Vec::new();
    let more = answer.write(&mut pace, &mut body)?;
    let status = if body.is_empty() && !more { 204 } else { 200 };
    let rest = if more { Some(Box::new(answer) as Rest<'t>) } else { None };
    Ok((Reply { content_type, ..Reply::text(status, body) }, rest))
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

/// Replaces an upstream, or makes it, by the lines of a body. Answers notes for the operator.
fn post(site: Site<'_, '_>, name: &str, body: &[u8], wait: Duration) -> Result<String> {
    let (upstream, notes) = nginx::block(name, body, "body", site.nginx)?;
    certificate::keep_for(upstream.check.as_ref(), "check")?;
    site.table.set_upstream(&upstream, wait)?;
    Ok(with_losses(notes))
}

fn posted(notes: Result<String>) -> Reply {
    match notes {
        Ok(notes) => Reply { error: notes, ..Reply::text(200, "success") },
        Err(error) => Reply::of(&error, 500, "add server failed"),
    }
}

/// The notes for the operator, with the settings that the last change has dropped.
fn with_losses(mut notes: Vec<String>) -> String {
    notes.extend(change_log::last().as_ref().and_then(dropped));
    notes.join("; ")
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
