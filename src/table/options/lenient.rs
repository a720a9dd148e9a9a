//! The reader of a check's stored options. The library that stored them has validated the operator's input by its own rules.
//! This reader has other rules. It takes all values that this library can work with as they are. For a number out of range it
//! takes the nearest that makes sense. It keeps the values that it does not read.

use super::object::Entries;
use crate::upstream::check::serialize::CheckObject;
use crate::upstream::check::{CheckType, fields};
use crate::upstream::field::Field;
use crate::upstream::kept::Kept;
use crate::upstream::{Check, PeerCheck};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// The furthest ahead in milliseconds that probes are told anything: twelve days.
const MOST_MS: i64 = 1 << 30;

/// Reads one option into a check.
type Reader = fn(&mut Check, &RawValue);

/// Every option that a check has.
const READERS: &[(Field, Reader)] = &[
    (fields::TYPE, |check, value| check.kind = kind(value)),
    (fields::HTTP_REQ, |check, value| check.http_req = text(value)),
    (fields::SEND, |check, value| check.send = text(value)),
    (fields::EXPECT, |check, value| check.expect = text(value)),
    (fields::PORT, |check, value| check.port = port(value)),
    (fields::HOST, |check, value| check.host = line(value)),
    (fields::INTERVAL, |check, value| set(&mut check.interval, number(value, 1, MOST_MS))),
    (fields::INTERVAL_DOWN, |check, value| check.interval_down = number(value, 1, MOST_MS)),
    (fields::TIMEOUT, |check, value| set(&mut check.timeout, number(value, 1, MOST_MS))),
    (fields::RISE, |check, value| set(&mut check.rise, number(value, 1, u8::MAX.into()))),
    (fields::FALL, |check, value| set(&mut check.fall, number(value, 1, u8::MAX.into()))),
    (fields::VALID_STATUSES, |check, value| set(&mut check.valid_statuses, statuses(value))),
    (fields::CONCURRENCY, |check, value| set(&mut check.concurrency, number(value, 1, u16::MAX.into()))),
    (fields::SSL_VERIFY, |check, value| set(&mut check.ssl_verify, parsed(value))),
    (fields::SSL_CERT, |check, value| check.ssl_cert = line(value)),
    (fields::SSL_KEY, |check, value| check.ssl_key = line(value)),
    (fields::EXPECT_BODY, |check, value| check.expect_body = text(value)),
    (fields::HEADERS, |check, value| set(&mut check.headers, headers(value))),
    (fields::URL, |check, value| set(&mut check.url, line(value))),
    (fields::DEFAULT_DOWN, |check, value| set(&mut check.default_down, parsed(value))),
    (fields::PANIC_THRESHOLD, |check, value| set(&mut check.panic_threshold, number(value, 0, 100))),
];

/// A check from its stored object. Values that would not be written back word for word are in `kept`. `None`: it is no object.
pub fn check(stored: &RawValue) -> Option<Check> {
    let entries = Entries::of(stored.get())?;
    let mut check = Check::default();
    for (name, value) in &entries.0 {
        if let Some((_, read)) = READERS.iter().find(|(field, _)| field.name == name) {
            read(&mut check, value);
        }
    }
    check.forget_what_is_not_used();
    let written = serde_json::to_string(&CheckObject { check: &check, is_default: false }).ok()?;
    let written = Entries::of(&written)?;
    let is_written = |(name, value): &&(String, &RawValue)| {
        written.0.iter().any(|(own, again)| own == name && again.get() == value.get())
    };
    entries.0.iter().filter(|entry| !is_written(entry)).for_each(|(name, value)| check.kept.keep(name, value));
    Some(check)
}

/// The options of a peer, from its stored object. `None`: it is no object.
pub fn peer(stored: &RawValue) -> Option<PeerCheck> {
    let mut check = PeerCheck::default();
    for (name, value) in &Entries::of(stored.get())?.0 {
        let is_read = if name == crate::upstream::fields::CHECK_PORT.name {
            check.port = parsed(value).filter(|&port| port != 0);
            check.port.is_some()
        } else if name == crate::upstream::fields::CHECK_URL.name {
            check.url = text(value);
            check.url.is_some()
        } else if name == crate::upstream::fields::CHECK_HOST.name {
            check.host = line(value);
            check.host.is_some()
        } else {
            false
        };
        if !is_read {
            check.kept.keep(name, value);
        }
    }
    Some(check)
}

/// The entries of an object `own`, a text, and the kept entries behind them. An own entry with the name of a kept one is left out.
pub fn with_kept<'a>(own: &'a str, kept: &'a Kept) -> impl Iterator<Item = (String, &'a RawValue)> {
    let own = Entries::of(own).map_or(Vec::new(), |entries| entries.0);
    let kept_too = kept.raw().map(|(name, value)| (name.to_owned(), value));
    own.into_iter().filter(|(name, _)| !kept.has(name)).chain(kept_too)
}

fn set<T>(option: &mut T, read: Option<T>) {
    if let Some(value) = read {
        *option = value;
    }
}

fn parsed<T: DeserializeOwned>(value: &RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

/// A type that this library does not know is probed by a connection alone, which every peer has to take.
fn kind(value: &RawValue) -> CheckType {
    let name: Option<String> = parsed(value);
    let known = |name: String| CheckType::NAMES.iter().find(|(known, _)| *known == name).map(|&(_, kind)| kind);
    name.and_then(known).unwrap_or(CheckType::Tcp)
}

/// A number, or the nearest one in the range.
fn number<T: TryFrom<i64>>(value: &RawValue, min: i64, max: i64) -> Option<T> {
    // A float goes to the nearest integer that there is.
    let number = parsed::<i64>(value).or_else(|| parsed::<f64>(value).map(|float| float as i64))?;
    T::try_from(number.clamp(min, max)).ok()
}

fn port(value: &RawValue) -> Option<u16> {
    parsed(value).filter(|&port| port != 0)
}

fn text(value: &RawValue) -> Option<String> {
    parsed(value).filter(|text: &String| !text.is_empty())
}

/// A text that stands in a line of a request. A process that can write into the region makes no second line of it.
fn line(value: &RawValue) -> Option<String> {
    text(value).filter(|text| !text.chars().any(char::is_control))
}

fn statuses(value: &RawValue) -> Option<Vec<u16>> {
    let mut statuses: Vec<u16> = parsed(value)?;
    statuses.sort_unstable();
    statuses.dedup();
    (!statuses.is_empty()).then_some(statuses)
}

fn headers(value: &RawValue) -> Option<Vec<(String, String)>> {
    let lines: Vec<String> = parsed(value)?;
    let header = |line: &String| {
        let (name, value) = line.split_once(':')?;
        let is_plain = !line.chars().any(|c| c.is_control() && c != '\t');
        is_plain.then(|| (name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
    };
    Some(lines.iter().filter_map(header).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::tests::any_check;
    use crate::upstream::field::FieldType as Takes;
    use proptest::prelude::*;

    fn read(json: &str) -> Check {
        check(&raw(json)).expect("an object")
    }

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).expect("JSON")
    }

    fn stored(check: &Check) -> String {
        let object = CheckObject { check, is_default: false };
        let own = serde_json::to_string(&object).expect("text");
        let entries: Vec<String> =
            with_kept(&own, &check.kept).map(|(name, value)| format!("\"{name}\":{}", value.get())).collect();
        format!("{{{}}}", entries.join(","))
    }

    fn kept(check: &Check) -> Vec<(&str, &str)> {
        check.kept.iter().collect()
    }

    #[test]
    fn every_option_that_can_be_set_is_read() {
        for field in fields::CHECK.iter().filter(|field| !matches!(field.kind, Takes::ReadOnly)) {
            assert!(READERS.iter().any(|(read, _)| read.name == field.name), "{}", field.name);
        }
    }

    #[test]
    fn numbers_out_of_this_librarys_bounds_are_taken_as_far_as_it_can_work_with_them_and_kept() {
        let check =
            read(r#"{"interval":1,"timeout":172800000,"rise":300,"fall":0,"concurrency":65535,"panic_threshold":101}"#);
        assert_eq!((check.interval, check.timeout, check.concurrency), (1, 172_800_000, 65_535));
        assert_eq!((check.rise, check.fall, check.panic_threshold), (255, 1, 100));
        assert_eq!(kept(&check), [("rise", "300"), ("fall", "0"), ("panic_threshold", "101")]);
        let check = read(r#"{"interval":-5,"interval_down":1e300,"timeout":9223372036854775808,"port":65536}"#);
        assert_eq!((check.interval, check.interval_down), (1, Some(1 << 30)));
        assert_eq!((check.timeout, check.port), (1 << 30, None));
        assert_eq!(check.kept.iter().count(), 4);
    }

    #[test]
    fn an_option_that_is_not_known_is_kept_word_for_word() {
        let json = r#"{"jitter":{"a":[1,2.50,1e2],"b":"\u00fc ü","c":18446744073709551615},"fall":4}"#;
        let check = read(json);
        assert_eq!(check.fall, 4);
        assert_eq!(kept(&check), [("jitter", r#"{"a":[1,2.50,1e2],"b":"\u00fc ü","c":18446744073709551615}"#)]);
        assert_eq!(read(&stored(&check)), check);
    }

    #[test]
    fn a_value_of_another_kind_is_kept_and_the_default_taken() {
        let json = r#"{"interval":"1s","ssl_verify":"strict","type":"https","valid_statuses":["2xx"],"headers":{"a":"b"},"url":["/"]}"#;
        let (check, default) = (read(json), Check::default());
        assert_eq!((check.interval, check.ssl_verify, &check.url), (default.interval, true, &default.url));
        assert_eq!((&check.valid_statuses, &check.headers), (&default.valid_statuses, &default.headers));
        assert_eq!(check.kept.iter().count(), 5, "{:?}", check.kept);
        assert_eq!(read(&stored(&check)), check);
    }

    #[test]
    fn a_type_that_is_not_known_is_probed_by_a_connection_and_loses_no_option() {
        let check = read(r#"{"type":"grpc","service":"x","url":"/u","host":"h","fall":9,"expect":"y"}"#);
        assert_eq!((check.kind, check.fall, check.expect.as_deref()), (CheckType::Tcp, 9, Some("y")));
        assert_eq!(kept(&check), [("type", "\"grpc\""), ("service", "\"x\""), ("url", "\"/u\""), ("host", "\"h\"")]);
        assert_eq!(read(&stored(&check)), check);
    }

    #[test]
    fn what_would_be_a_second_line_of_a_request_is_not_sent() {
        let check = read(r#"{"url":"/ HTTP/1.1\r\n\r\nGET /","host":"a\nb","headers":["A: b","C: d\r\nE: f","none"]}"#);
        assert_eq!((check.url.as_str(), &check.host), ("/", &None));
        assert_eq!(check.headers, [("A".to_owned(), "b".to_owned())]);
        assert_eq!(check.kept.iter().count(), 3);
    }

    #[test]
    fn a_peers_options_are_read_and_the_others_kept() {
        let check =
            peer(&raw(r#"{"check_port":81,"check_name":"x","check_url":"/a","check_host":"b"}"#)).expect("an object");
        assert_eq!((check.port, check.url.as_deref(), check.host.as_deref()), (Some(81), Some("/a"), Some("b")));
        assert_eq!(check.kept.iter().collect::<Vec<_>>(), [("check_name", "\"x\"")]);
        let check = peer(&raw(r#"{"check_port":"auto","check_url":["/a","/b"]}"#)).expect("an object");
        assert_eq!((check.port, &check.url, check.kept.iter().count()), (None, &None, 2));
        assert_eq!((peer(&raw("7")), super::check(&raw("[]"))), (None, None));
    }

    proptest! {
        #[test]
        fn what_was_set_is_read_back_and_nothing_is_kept(check in any_check()) {
            prop_assert_eq!(read(&stored(&check)), check);
        }

        #[test]
        fn whatever_is_stored_a_library_that_reads_and_writes_it_loses_nothing(
            options in prop::collection::btree_map("[a-z]{1,3}|type|url|rise|host|headers|port|interval", "-?[1-9][0-9]{0,25}|\"[a-z/]{0,4}\"|\\[1\\]|true|null", 0..9),
        ) {
            let entries: Vec<String> = options.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            let once = read(&format!("{{{}}}", entries.join(",")));
            let again = stored(&once);
            let entries = Entries::of(&again).expect("an object");
            for (name, value) in &options {
                let same = entries.0.iter().any(|(other, again)| other == name && again.get() == value);
                prop_assert!(same, "{}: {}: {}", name, value, again);
            }
            prop_assert_eq!(read(&again), once);
        }
    }
}
