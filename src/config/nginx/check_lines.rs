//! The lines of an upstream's check: those of nginx_upstream_check_module, with dyups's own options beside its.
//!
//! `check NAME=VALUE ...;` takes every option of [`crate::config::check`] but the two that have a line of their own. `check
//! off;` is no check. An option that is left out has that module's default, if it has one.

use super::lines::{line, options, parameter};
use super::reading::Reading;
use super::tokens::{Directive, Place, Word};
use crate::config::check;
use crate::config::value::Value;
use crate::error::{Error, Result};
use crate::quote::quote;
use crate::upstream::Check;
use crate::upstream::check::fields;
use crate::upstream::check::serialize::CheckObject;
use crate::upstream::field::FieldType;
use std::collections::BTreeSet;

/// The lines.
pub(super) const LINES: [&str; 4] = ["check", "check_http_send", "check_http_expect_alive", "check_keepalive_requests"];

/// The module's defaults of options that a `check` line leaves out.
const DEFAULTS: [(&str, Value); 5] = [
    (fields::INTERVAL.name, Value::Int(30_000)),
    (fields::FALL.name, Value::Int(5)),
    (fields::RISE.name, Value::Int(2)),
    (fields::TIMEOUT.name, Value::Int(1000)),
    (fields::DEFAULT_DOWN.name, Value::Bool(true)),
];
const DEFAULT_TYPE: &str = "tcp";
const DEFAULT_SEND: &str = "GET / HTTP/1.0\r\n\r\n";
const DEFAULT_ALIVE: std::ops::Range<u16> = 200..400;

/// More statuses than this on one line would be more words than a directive may have.
const STATUSES_A_LINE: usize = 50;

/// The lines of one block that were read.
#[derive(Default)]
pub(super) struct CheckLines {
    /// The `check` line, and its options; `None` there: off.
    check: Option<(Place, Option<Options>)>,
    /// The text of `check_http_send`.
    send: Option<(Place, String)>,
    /// The statuses of `check_http_expect_alive`.
    alive: Option<(Place, Vec<u16>)>,
}

type Options = Vec<(String, Value)>;

impl CheckLines {
    /// Takes one of [`LINES`].
    pub(super) fn add(&mut self, directive: &Directive, reading: &mut Reading<'_>) -> Result<()> {
        let place = &directive.place;
        match directive.name() {
            b"check_keepalive_requests" => {
                let message = "check_keepalive_requests: each probe has a connection of its own: ignored";
                reading.warn(place, message);
            }
            b"check_http_send" => self.send = Some((place.clone(), send(directive)?)),
            b"check_http_expect_alive" => {
                let (_, alive) = self.alive.get_or_insert_with(|| (place.clone(), Vec::new()));
                if directive.words.len() == 1 {
                    return Err(directive.error(format_args!("check_http_expect_alive: allowed: {ALIVE}")));
                }
                for word in &directive.words[1..] {
                    alive.extend(statuses(word).map_err(|why| directive.error_at(word, why))?);
                }
            }
            _ => {
                if let Some((first, _)) = &self.check {
                    return Err(directive.error(format_args!("check: is on {} already", first.seen_from(place))));
                }
                self.check = Some((place.clone(), read(directive)?));
            }
        }
        Ok(())
    }

    /// The result of the lines: nothing, no check, or a check. Warns of lines without effect.
    pub(super) fn finish(mut self, reading: &mut Reading<'_>) -> Result<Option<Option<Check>>> {
        let (place, mut options) = match self.check.take() {
            Some((place, Some(options))) => (place, options),
            other => {
                self.warn("without check", reading);
                return Ok(other.map(|_| None));
            }
        };
        put_default(&mut options, fields::TYPE.name, || Value::Text(DEFAULT_TYPE.into()));
        for (name, value) in DEFAULTS {
            put_default(&mut options, name, || value);
        }
        match has(&options, fields::TYPE.name, |kind| *kind == Value::Text(DEFAULT_TYPE.into())) {
            true => self.warn("not with type=tcp", reading),
            false => self.add_http(&mut options),
        }
        check::read(&Value::Map(options), "check").map(|check| Some(Some(check))).map_err(|error| place.error(error))
    }

    /// The request and the statuses: as the lines say, or as the module has them.
    fn add_http(self, options: &mut Options) {
        let own = [fields::URL, fields::HOST, fields::HEADERS];
        let is_built = own.iter().any(|field| has(options, field.name, |_| true));
        let send = self.send.map(|(_, send)| send).or_else(|| (!is_built).then(|| DEFAULT_SEND.to_string()));
        options.extend(send.map(|send| (fields::HTTP_REQ.name.to_string(), Value::Text(send))));
        let alive = self.alive.map_or_else(|| DEFAULT_ALIVE.collect(), |(_, alive)| alive);
        let alive: BTreeSet<_> = alive.into_iter().collect();
        let alive = alive.into_iter().map(|status| Value::Int(status.into())).collect();
        options.push((fields::VALID_STATUSES.name.to_string(), Value::List(alive)));
    }

    fn warn(&self, why: &str, reading: &mut Reading<'_>) {
        let places =
            [(self.send.as_ref().map(|(at, _)| at), LINES[1]), (self.alive.as_ref().map(|(at, _)| at), LINES[2])];
        for (place, name) in places {
            place.into_iter().for_each(|place| reading.warn(place, format_args!("{name}: {why}: ignored")));
        }
    }
}

fn send(directive: &Directive) -> Result<String> {
    match &directive.words[..] {
        [_, send] => text(send).map(str::to_string).map_err(|why| directive.error(why)),
        _ => Err(directive.error("check_http_send: allowed: one request in quotes")),
    }
}

const ALIVE: &str = "http_1xx to http_5xx, or statuses from 100 to 599";

fn text(word: &Word) -> Result<&str> {
    std::str::from_utf8(&word.text).map_err(|_| Error::invalid(format!("{}: not UTF-8", quote(&word.text))))
}

/// `http_2xx`, or one status.
fn statuses(word: &Word) -> Result<std::ops::Range<u16>> {
    let refused = || Error::invalid(format!("check_http_expect_alive: {}: allowed: {ALIVE}", quote(&word.text)));
    match word.text.as_slice() {
        [b'h', b't', b't', b'p', b'_', digit @ b'1'..=b'5', b'x', b'x'] => {
            let first = u16::from(digit - b'0') * 100;
            Ok(first..first + 100)
        }
        [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9'] => {
            let status = text(word)?.parse().map_err(|_| refused())?;
            Ok(status..status + 1)
        }
        _ => Err(refused()),
    }
}

/// The options behind `check`.
fn read(directive: &Directive) -> Result<Option<Options>> {
    if directive.arguments() == [b"off"] {
        return Ok(None);
    }
    let mut options = Vec::new();
    for word in &directive.words[1..] {
        text(word).and_then(|text| option(&mut options, text)).map_err(|why| directive.error_at(word, why))?;
    }
    Ok(Some(options))
}

/// One `NAME=VALUE`. As in nginx, the last one counts where it is repeated; headers are a list.
fn option(options: &mut Options, written: &str) -> Result<()> {
    let unknown = || {
        let known = known().collect::<Vec<_>>().join(", ");
        Error::invalid(format!("check: {}: not known of a check; known: off, {known}", quote(written.as_bytes())))
    };
    let (name, value) = written.split_once('=').ok_or_else(unknown)?;
    if name == HEADER {
        let header = Value::Text(value.to_string());
        match options.iter_mut().find(|(name, _)| name == fields::HEADERS.name) {
            Some((_, Value::List(headers))) => headers.push(header),
            _ => options.push((fields::HEADERS.name.to_string(), Value::List(vec![header]))),
        }
        return Ok(());
    }
    let field = known_fields().find(|field| field.name == name).ok_or_else(unknown)?;
    options.retain(|(known, _)| known != name);
    options.push((name.to_string(), typed(field.kind, value)));
    Ok(())
}

/// The line of one header: several of them make up the option `headers`.
const HEADER: &str = "header";

/// The options that `check` takes as they are.
fn known_fields() -> impl Iterator<Item = &'static crate::upstream::field::Field> {
    let elsewhere = [fields::HTTP_REQ.name, fields::VALID_STATUSES.name, fields::HEADERS.name];
    fields::CHECK
        .iter()
        .filter(move |field| !matches!(field.kind, FieldType::ReadOnly) && !elsewhere.contains(&field.name))
}

fn known() -> impl Iterator<Item = String> {
    known_fields().map(|field| format!("{}=", field.name)).chain([format!("{HEADER}=")])
}

/// The value that a field of this kind takes. One that it does not take stays a text, which the reader of the field refuses.
pub(super) fn typed(kind: FieldType, written: &str) -> Value {
    let number = || written.parse().ok().filter(|_| written.bytes().all(|byte| byte.is_ascii_digit())).map(Value::Int);
    let read = match kind {
        FieldType::Optional(kind) => return typed(*kind, written),
        FieldType::Integer { .. } | FieldType::Seconds => number(),
        FieldType::Bool => match written {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            _ => None,
        },
        _ => None,
    };
    read.unwrap_or_else(|| Value::Text(written.to_string()))
}

fn has(options: &Options, name: &str, is: impl Fn(&Value) -> bool) -> bool {
    options.iter().any(|(known, value)| known == name && is(value))
}

fn put_default(options: &mut Options, name: &str, value: impl FnOnce() -> Value) {
    if !has(options, name, |_| true) {
        options.push((name.to_string(), value()));
    }
}

/// Adds the lines of a check; `None`: there is none.
pub(super) fn write(text: &mut String, check: Option<&Check>) {
    let Some(check) = check else { return line(text, ["check".to_string(), "off".to_string()]) };
    let given = options(&CheckObject { check, is_default: false });
    let mut words = vec!["check".to_string()];
    for field in fields::CHECK {
        match given.get(field.name) {
            Some(serde_json::Value::Array(headers)) if field.name == fields::HEADERS.name => {
                words.extend(headers.iter().map(|header| parameter(HEADER, header)));
            }
            Some(value) if known_fields().any(|known| known.name == field.name) => {
                words.push(parameter(field.name, value));
            }
            _ => {}
        }
    }
    line(text, words);
    if let Some(send) = &check.http_req {
        line(text, [LINES[1].to_string(), send.clone()]);
    }
    if given.contains_key(fields::VALID_STATUSES.name) {
        for some in by_class(&check.valid_statuses).chunks(STATUSES_A_LINE) {
            line(text, std::iter::once(LINES[2].to_string()).chain(some.iter().cloned()));
        }
    }
}

/// The statuses, a hundred of one class as `http_2xx`.
fn by_class(statuses: &[u16]) -> Vec<String> {
    let mut words = Vec::new();
    for class in 1..=5 {
        let of_class: Vec<_> = statuses.iter().filter(|&&status| status / 100 == class).collect();
        match of_class.len() {
            100 => words.push(format!("http_{class}xx")),
            _ => words.extend(of_class.iter().map(|status| status.to_string())),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::super::block;
    use super::*;
    use crate::upstream::check::CheckType;

    /// The check of an upstream with these lines, and the warnings.
    fn read(lines: &str) -> (Option<Option<Check>>, Vec<String>) {
        let (upstream, warnings) = block("api", format!("server 10.0.0.1;\n{lines}").as_bytes(), "body", None).unwrap();
        (upstream.own_check.then_some(upstream.check), warnings)
    }

    fn why(lines: &str) -> String {
        block("api", format!("server 10.0.0.1;\n{lines}").as_bytes(), "body", None).unwrap_err().message.into_owned()
    }

    fn tcp() -> Check {
        let tcp = Check { kind: CheckType::Tcp, interval: 30_000, fall: 5, rise: 2, timeout: 1000, ..Check::default() };
        Check { default_down: true, ..tcp }
    }

    fn http() -> Check {
        Check {
            kind: CheckType::Http,
            http_req: Some("GET / HTTP/1.0\r\n\r\n".into()),
            valid_statuses: (200..400).collect(),
            ..tcp()
        }
    }

    #[test]
    fn without_a_line_nothing_is_said_of_checks() {
        assert_eq!(read(""), (None, vec![]));
        assert_eq!(read("check off;"), (Some(None), vec![]));
    }

    #[test]
    fn what_a_line_leaves_out_is_as_in_the_module() {
        assert_eq!(read("check;"), (Some(Some(tcp())), vec![]));
        assert_eq!(read("check type=http;"), (Some(Some(http())), vec![]));
        let given = "check interval=3000 rise=3 fall=6 timeout=500 type=http default_down=false port=81;";
        let expected =
            Check { interval: 3000, rise: 3, fall: 6, timeout: 500, default_down: false, port: Some(81), ..http() };
        assert_eq!(read(given), (Some(Some(expected)), vec![]));
    }

    #[test]
    fn a_request_and_its_statuses_have_lines_of_their_own() {
        let lines = r#"check type=http;
            check_http_send "HEAD /up HTTP/1.0\r\n\r\n";
            check_http_expect_alive http_2xx 404;
            check_http_expect_alive 503;"#;
        let expected = Check {
            http_req: Some("HEAD /up HTTP/1.0\r\n\r\n".into()),
            valid_statuses: (200..300).chain([404, 503]).collect(),
            ..http()
        };
        assert_eq!(read(lines), (Some(Some(expected)), vec![]));
    }

    #[test]
    fn options_of_dyups_stand_beside_those_of_the_module() {
        let lines = r#"check type=https host=api.local "header=X-A: 1 2" header=X-B:3 expect_body=ok ssl_verify=false interval_down=500;"#;
        let expected = Check {
            kind: CheckType::Https,
            http_req: None,
            host: Some("api.local".into()),
            headers: vec![("X-A".into(), "1 2".into()), ("X-B".into(), "3".into())],
            expect_body: Some("ok".into()),
            ssl_verify: false,
            interval_down: Some(500),
            ..http()
        };
        assert_eq!(read(lines), (Some(Some(expected)), vec![]));
        assert_eq!(read("check fall=1 fall=7;").0, Some(Some(Check { fall: 7, ..tcp() })));
    }

    #[test]
    fn what_is_not_right_is_named_by_its_line() {
        assert_eq!(why("check fall=0;"), "body:2: check.fall: 0: allowed: an integer from 1 to 255");
        assert_eq!(why("check fall=x;"), "body:2: check.fall: \"x\": allowed: an integer from 1 to 255");
        assert_eq!(why("check default_down=yes;"), "body:2: check.default_down: \"yes\": allowed: true or false");
        assert_eq!(why("check type=mysql;"), r#"body:2: check.type: "mysql": allowed: "http", "https" or "tcp""#);
        assert_eq!(why("check;\ncheck;"), "body:3: check: is on line 2 already");
        assert_eq!(why("check_http_send a b;"), "body:2: check_http_send: allowed: one request in quotes");
        let alive = "check_http_expect_alive: \"http_9xx\": allowed: http_1xx to http_5xx, or statuses from 100 to 599";
        assert_eq!(why("check type=http;\ncheck_http_expect_alive\nhttp_9xx;"), format!("body:4: {alive}"));
        let error = why("check\nfal=1;");
        assert!(error.starts_with("body:3: check: \"fal=1\": not known of a check; known: off, type=, "), "{error}");
        let error = why("check type=http; check_http_send \"GET / HTTP/1.1\r\n\r\n\";");
        assert!(error.starts_with("body:2: check.http_req: \"GET / HTTP/1.1"), "{error}");
    }

    #[test]
    fn what_says_nothing_is_a_warning() {
        let lines = "check_http_send x;\ncheck_keepalive_requests 100;";
        let warnings = [
            "body:3: check_keepalive_requests: each probe has a connection of its own: ignored",
            "body:2: check_http_send: without check: ignored",
        ];
        assert_eq!(read(lines), (None, warnings.map(String::from).to_vec()));
        let (check, warnings) = read("check; check_http_expect_alive http_2xx;");
        assert_eq!(check, Some(Some(tcp())));
        assert_eq!(warnings, ["body:2: check_http_expect_alive: not with type=tcp: ignored"]);
    }
}
