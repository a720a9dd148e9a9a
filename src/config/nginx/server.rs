//! A `server` line.

use super::check_lines::typed;
use super::known::begins_a_line;
use super::time;
use super::tokens::{Directive, Word};
use crate::config::fields;
use crate::config::object::Object;
use crate::config::peer::peer_check_patch;
use crate::config::value::Value;
use crate::error::{Error, Result};
use crate::quote::quote;
use crate::upstream::field::Field;
use crate::upstream::{Address, Peer, PeerPatch, Status, address};

/// The parameters of a `server`, for the message that refuses another one.
const KNOWN: &str = "weight=, max_conns=, max_fails=, fail_timeout=, slow_start=, check_port=, check_url=, check_host=, backup, down, drain, leaving";

/// Advice for a name, until dyups resolves names.
pub(super) const UNTIL_NAMES_RESOLVE: &str =
    "leave it out, write addresses, and send new ones when DNS changes (POST /upstream/NAME, or set_upstream)";

/// The peer of `server ADDRESS [PARAMETER ...];`. As in nginx, the last one counts where a parameter is repeated.
pub(super) fn peer(directive: &Directive) -> Result<Peer> {
    let [_, address, parameters @ ..] = directive.words.as_slice() else {
        return Err(directive.error(format_args!("server: no address: allowed: {}", address::ALLOWED)));
    };
    let parsed = text(address).and_then(Address::from_server).map_err(|error| error.within("server"));
    let mut patch = PeerPatch::new(parsed.map_err(|error| directive.error_at(address, error))?);
    for word in parameters {
        if begins_a_line(&word.text) {
            let next = quote(&word.text);
            return Err(directive.error(format_args!("\"server\" is not ended by \";\" before {next}")));
        }
        text(word).and_then(|text| parameter(&mut patch, text)).map_err(|error| directive.error_at(word, error))?;
    }
    if let (Some(Some(port)), None) = (patch.check.port, patch.address.port()) {
        let why = format!("check_port: {port}: {} has no port; allowed: without it", patch.address.text());
        return Err(directive.error(why));
    }
    Ok(patch.into_peer())
}

fn text(word: &Word) -> Result<&str> {
    std::str::from_utf8(&word.text).map_err(|_| Error::invalid(format!("{}: not UTF-8", quote(&word.text))))
}

fn parameter(patch: &mut PeerPatch, text: &str) -> Result<()> {
    match text.split_once('=').unwrap_or((text, "")) {
        ("weight", value) => patch.weight = Some(number(&fields::WEIGHT, value)?),
        ("max_conns", value) => patch.max_conns = Some(number(&fields::MAX_CONNS, value)?),
        ("max_fails", value) => patch.max_fails = Some(number(&fields::MAX_FAILS, value)?),
        ("fail_timeout", value) => patch.fail_timeout = Some(seconds(&fields::FAIL_TIMEOUT, value)?),
        ("slow_start", value) => patch.slow_start = Some(seconds(&fields::SLOW_START, value)?),
        (name, value) if let Some(field) = fields::PEER_CHECK.iter().find(|field| field.name == name) => {
            own_check(patch, field, value)?;
        }
        ("resolve" | "service", _) => return Err(not_yet(text, UNTIL_NAMES_RESOLVE)),
        ("route", _) => {
            return Err(not_yet(
                text,
                "leave it out; sticky, which needs it, is not there either: hash KEY consistent",
            ));
        }
        _ => return flag(patch, text),
    }
    Ok(())
}

fn flag(patch: &mut PeerPatch, text: &str) -> Result<()> {
    let status = match text {
        "backup" => {
            patch.backup = Some(true);
            return Ok(());
        }
        "down" => Status::Down,
        "drain" => Status::Drain,
        "leaving" => Status::Leaving,
        _ => {
            let shown = quote(text.as_bytes());
            return Err(Error::invalid(format!("{shown} is not known of a server; known: {KNOWN}")));
        }
    };
    if patch.status.is_some_and(|other| other != status) {
        return Err(Error::invalid("down, drain and leaving: allowed: one of them"));
    }
    patch.status = Some(status);
    Ok(())
}

/// An option for the probes of this peer alone.
fn own_check(patch: &mut PeerPatch, field: &Field, value: &str) -> Result<()> {
    let object = Value::Map(vec![(field.name.to_string(), typed(field.kind, value))]);
    patch.check.add(peer_check_patch(&Object::new(&object, "", fields::PEER_CHECK)?)?);
    Ok(())
}

fn number<T: TryFrom<i64>>(field: &Field, value: &str) -> Result<T> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { value.parse().ok() } else { None };
    number.and_then(|number| field.kind.number(number)).ok_or_else(|| refused(field, value, &field.kind.allowed()))
}

fn seconds(field: &Field, value: &str) -> Result<u32> {
    const ALLOWED: &str = r#"a time in seconds such as "10", "10s" or "1h30m", from 0 to 4294967295 seconds"#;
    time::seconds(value).and_then(|number| field.kind.number(number)).ok_or_else(|| refused(field, value, ALLOWED))
}

fn refused(field: &Field, value: &str, allowed: &str) -> Error {
    Error::invalid(format!("{}: {}: allowed: {allowed}", field.name, quote(value.as_bytes())))
}

fn not_yet(parameter: &str, instead: &str) -> Error {
    Error::invalid(format!("{}: not in this version; until it is: {instead}", quote(parameter.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::super::tokens::Reader;
    use super::*;
    use crate::upstream::PeerCheck;

    fn read(line: &str) -> Result<Peer> {
        peer(&Reader::new(line.as_bytes(), "f").next()?.unwrap())
    }

    fn why(line: &str) -> String {
        read(line).unwrap_err().message.into_owned()
    }

    #[test]
    fn every_parameter_is_read() {
        let line = "server 10.0.0.1:81 weight=0 max_conns=1 max_fails=2 fail_timeout=1m slow_start=1h30m backup down;";
        let expected = Peer {
            weight: 0,
            status: Status::Down,
            backup: true,
            max_conns: 1,
            max_fails: 2,
            fail_timeout: 60,
            slow_start: 5400,
            ..Peer::new(Address::from_server("10.0.0.1:81").unwrap())
        };
        assert_eq!(read(line), Ok(expected));
        let own =
            PeerCheck { port: Some(81), url: Some("/a?b=c".into()), host: Some("b:1".into()), ..PeerCheck::default() };
        let line = "server 10.0.0.1 check_port=81 check_url=/a?b=c check_host=b:1 leaving;";
        assert_eq!(read(line).unwrap().check.as_deref(), Some(&own));
        assert_eq!(read(line).unwrap().status, Status::Leaving);
        assert!(
            why("server 10.0.0.1 check_port=0;").starts_with("f:1: check_port: 0: allowed: an integer from 1 to 65535")
        );
        assert_eq!(
            why("server unix:/a check_port=81;"),
            "f:1: check_port: 81: unix:/a has no port; allowed: without it"
        );
        assert!(why("server 10.0.0.1 check_url=a;").starts_with("f:1: check_url: \"a\": "));
        assert_eq!(read("server unix:/p drain;").unwrap().status, Status::Drain);
        assert_eq!(read("server 10.0.0.1;"), Ok(Peer::new(Address::from_server("10.0.0.1").unwrap())));
    }

    #[test]
    fn the_last_of_a_repeated_parameter_counts() {
        assert_eq!(read("server 10.0.0.1 weight=1 weight=2 down down;").unwrap().weight, 2);
    }

    #[test]
    fn a_parameter_out_of_range_is_refused() {
        for (parameter, name) in [("weight=", "weight"), ("weight=+1", "weight"), ("weight=65536", "weight")] {
            let error = why(&format!("server 10.0.0.1\n{parameter};"));
            assert!(error.starts_with(&format!("f:2: {name}: \"")), "{error}");
            assert!(error.ends_with(": allowed: an integer from 0 to 65535"), "{error}");
        }
        assert_eq!(
            why("server 10.0.0.1 fail_timeout=500ms;"),
            r#"f:1: fail_timeout: "500ms": allowed: a time in seconds such as "10", "10s" or "1h30m", from 0 to 4294967295 seconds"#
        );
        assert!(why("server 10.0.0.1 slow_start=200y;").starts_with(r#"f:1: slow_start: "200y": allowed: a time"#));
    }

    #[test]
    fn what_dyups_cannot_do_is_refused_with_the_reason() {
        for (parameter, instead) in [
            ("resolve", UNTIL_NAMES_RESOLVE),
            ("service=http", UNTIL_NAMES_RESOLVE),
            ("route=a", "leave it out; sticky, which needs it, is not there either: hash KEY consistent"),
        ] {
            let expected = format!("f:2: \"{parameter}\": not in this version; until it is: {instead}");
            assert_eq!(why(&format!("server 10.0.0.1\n{parameter};")), expected);
        }
        assert_eq!(
            why("server 10.0.0.1 wieght=1;"),
            format!("f:1: \"wieght=1\" is not known of a server; known: {KNOWN}")
        );
        assert_eq!(why("server 10.0.0.1 down=1;"), format!("f:1: \"down=1\" is not known of a server; known: {KNOWN}"));
        assert_eq!(why("server 10.0.0.1 down drain;"), "f:1: down, drain and leaving: allowed: one of them");
    }

    #[test]
    fn a_bad_address_is_refused() {
        assert!(why("server api.local;").starts_with(r#"f:1: server: "api.local": a name that needs DNS; allowed:"#));
        assert!(why("server;").starts_with("f:1: server: no address: allowed: an IPv4 address"));
        let not_utf_8 = peer(&Reader::new(b"server \xff;", "f").next().unwrap().unwrap()).unwrap_err();
        assert_eq!(not_utf_8.message, r#"f:1: server: "\xff": not UTF-8"#);
    }

    #[test]
    fn a_forgotten_semicolon_is_found_at_its_line() {
        assert_eq!(why("\nserver 10.0.0.1\nserver 10.0.0.2;"), r#"f:2: "server" is not ended by ";" before "server""#);
        assert_eq!(why("server 10.0.0.1\nip_hash;"), r#"f:1: "server" is not ended by ";" before "ip_hash""#);
    }

    #[test]
    fn every_known_parameter_is_read() {
        for parameter in KNOWN.split(", ") {
            let value = match parameter {
                "check_url=" => "/1",
                "check_host=" => "a",
                _ if parameter.ends_with('=') => "1",
                _ => "",
            };
            assert!(read(&format!("server 10.0.0.1 {parameter}{value};")).is_ok(), "{parameter}");
        }
    }
}
