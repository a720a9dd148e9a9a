use super::*;
use crate::config::value::parse;
use crate::http::probe_request;
use crate::upstream::PeerCheck;
use crate::upstream::check::serialize::CheckObject;
use proptest::prelude::*;

/// The ways in which a value can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Type,
    Below,
    Above,
    /// Neither, and still not allowed.
    Other,
}
use Wrong::{Above, Below, Other, Type};

const STATUSES: &str = "a list of 1 to 500 statuses, integers from 100 to 599";
const A_STATUS: &str = "an integer from 100 to 599";
const REQUEST: &str = "one request of HTTP/1.0 or HTTP/1.1 of at most 8192 bytes, lines ending in CR LF, a body only by its \
                       Content-Length, or false for none";
const TEXT: &str = "a text of 1 to 8192 bytes, or false for none";
const HOST: &str =
    "a host name, an IPv4 address or an IPv6 address in brackets, with or without :port, or false for none";
const FILE: &str = "the absolute path of a file of PEM, or false for none";
const HEADERS: &str = "at most 32 headers, an object of names and values or a list of \"Name: value\"";
const URL: &str = "a path from / without spaces and control bytes, of at most 8192 bytes";
const A_DAY: &str = "an integer from 10 to 86400000";
const NAME_VALUE: &str = "a text \"Name: value\"";

/// Option, type of check, kind of fault, value, and the message after the option's path.
type Row = (&'static str, &'static str, Wrong, String, String);

fn row(option: &'static str, kind: &'static str, wrong: Wrong, value: &str, message: &str) -> Row {
    (option, kind, wrong, value.to_string(), message.to_string())
}

fn long(first: &str) -> String {
    format!("\"{first}{}\"", "x".repeat(8192))
}

/// The message for [`long`].
fn cut(first: &str, allowed: &str) -> String {
    let shown = "x".repeat(64 - first.len());
    format!(": \"{first}{shown}…\": more than 8192 bytes; allowed: {allowed}")
}

fn integers() -> Vec<Row> {
    let mut rows = Vec::new();
    for (option, least, most, allowed) in [
        ("port", 1, 65535, "an integer from 1 to 65535, or false for none"),
        ("interval", 10, 86_400_000, A_DAY),
        ("interval_down", 10, 86_400_000, "an integer from 10 to 86400000, or false for none"),
        ("timeout", 1, 86_400_000, "an integer from 1 to 86400000"),
        ("rise", 1, 255, "an integer from 1 to 255"),
        ("fall", 1, 255, "an integer from 1 to 255"),
        ("concurrency", 1, 10_000, "an integer from 1 to 10000"),
        ("panic_threshold", 0, 100, "an integer from 0 to 100"),
    ] {
        for (wrong, value) in [
            (Type, "\"1s\"".to_string()),
            (Type, "true".into()),
            (Type, "100.5".into()),
            (Below, (least - 1).to_string()),
            (Above, (most + 1).to_string()),
        ] {
            let message = format!(": {value}: allowed: {allowed}");
            rows.push((option, "http", wrong, value, message));
        }
    }
    rows
}

fn texts() -> Vec<Row> {
    let mut rows = Vec::new();
    for (option, kind, first, allowed) in [
        ("http_req", "http", "G", REQUEST),
        ("send", "tcp", "x", TEXT),
        ("expect", "tcp", "x", TEXT),
        ("host", "https", "x", HOST),
        ("expect_body", "http", "x", TEXT),
        ("ssl_cert", "https", "/", FILE),
        ("ssl_key", "https", "/", FILE),
        ("url", "http", "/", URL),
    ] {
        rows.push(row(option, kind, Type, "7", &format!(": 7: allowed: {allowed}")));
        rows.push(row(option, kind, Type, "[]", &format!(": []: allowed: {allowed}")));
        rows.push(row(option, kind, Below, "\"\"", &format!(": \"\": empty; allowed: {allowed}")));
        rows.push(row(option, kind, Above, &long(first), &cut(first, allowed)));
        let not_utf_8 = format!(": \"\u{fffd}\": not UTF-8; allowed: {allowed}");
        rows.push(row(option, kind, Other, "\"\u{fffd}\"", &not_utf_8));
    }
    rows
}

fn others() -> Vec<Row> {
    let list = |length: usize, value: &str| format!("[{}]", vec![value; length].join(","));
    vec![
        row("type", "http", Type, "1", r#": 1: allowed: "http", "https" or "tcp""#),
        row("type", "http", Other, r#""HTTP""#, r#": "HTTP": allowed: "http", "https" or "tcp""#),
        row("ssl_cert", "https", Other, r#""a.pem""#, &format!(r#": "a.pem": not an absolute path; allowed: {FILE}"#)),
        row("ssl_cert", "https", Other, r#""/a""#, r#": "/a": without ssl_key; allowed: both or none of them"#),
        row("ssl_key", "https", Other, r#""/a""#, r#": "/a": without ssl_cert; allowed: both or none of them"#),
        row("ssl_verify", "https", Type, "1", ": 1: allowed: true or false"),
        row("default_down", "http", Type, r#""no""#, r#": "no": allowed: true or false"#),
        row(
            "http_req",
            "http",
            Other,
            r#""GET / HTTP/1.0\n\n""#,
            &format!(r#": "GET / HTTP/1.0\x0a\x0a": its head does not end in CR LF CR LF; allowed: {REQUEST}"#),
        ),
        row("url", "http", Other, r#""x""#, &format!(r#": "x": it does not begin with /; allowed: {URL}"#)),
        row("host", "http", Other, r#""a/b""#, &format!(r#": "a/b": not a host; allowed: {HOST}"#)),
        row("valid_statuses", "http", Type, "200", &format!(": 200: allowed: {STATUSES}")),
        row("valid_statuses", "http", Type, r#"["200"]"#, &format!(r#"[1]: "200": allowed: {A_STATUS}"#)),
        row("valid_statuses", "http", Below, "[200,99]", &format!("[2]: 99: allowed: {A_STATUS}")),
        row("valid_statuses", "http", Above, "[600]", &format!("[1]: 600: allowed: {A_STATUS}")),
        row("valid_statuses", "http", Below, "{}", &format!(": 0 statuses: too few or too many; allowed: {STATUSES}")),
        row(
            "valid_statuses",
            "http",
            Above,
            &list(501, "200"),
            &format!(": 501 statuses: too few or too many; allowed: {STATUSES}"),
        ),
        row("headers", "http", Type, r#""X: y""#, &format!(r#": "X: y": allowed: {HEADERS}"#)),
        row("headers", "http", Type, "[1]", &format!("[1]: 1: allowed: {NAME_VALUE}")),
        row("headers", "http", Type, r#"{"X":1}"#, ".X: 1: allowed: a text, under the name of a header"),
        row("headers", "http", Below, r#"[""]"#, &format!(r#"[1]: "": no colon; allowed: {NAME_VALUE}"#)),
        row(
            "headers",
            "http",
            Above,
            &list(33, r#""X: y""#),
            &format!(": a list or object: more than 32 headers; allowed: {HEADERS}"),
        ),
        row("headers", "http", Other, r#"[":"]"#, &format!(r#"[1]: ":": its name is none; allowed: {NAME_VALUE}"#)),
        row(
            "headers",
            "http",
            Other,
            r#"["X: y\r\nZ: 1"]"#,
            &format!(r#"[1]: "X: y\x0d\x0aZ: 1": its value has a control byte; allowed: {NAME_VALUE}"#),
        ),
        row(
            "headers",
            "http",
            Other,
            r#"["X: a","content-length: 1"]"#,
            &format!(r#"[2]: "content-length: 1": a request that is built has no body; allowed: {NAME_VALUE}"#),
        ),
        row(
            "headers",
            "http",
            Other,
            r#"{"Host":"a","host":"b"}"#,
            &format!(": a list or object: more than one Host; allowed: {HEADERS}"),
        ),
        row(
            "upstream",
            "http",
            Type,
            r#""api""#,
            r#": "api": not an option; the upstream is the first argument: dyups.healthcheck(upstream, {...})"#,
        ),
    ]
}

/// The rows that an option has to have.
fn wrongs(kind: FieldType) -> &'static [Wrong] {
    match kind {
        FieldType::Optional(kind) => wrongs(*kind),
        FieldType::Integer { .. } | FieldType::Text(_) => &[Type, Below, Above],
        _ => &[Type],
    }
}

fn read_json(json: &str) -> Result<Check> {
    read(&parse(json.as_bytes()).unwrap(), "healthcheck")
}

fn why(json: &str) -> String {
    read_json(json).expect_err(json).message.into_owned()
}

#[test]
fn a_bad_option_is_named_with_its_value_and_what_is_allowed() {
    let rows: Vec<Row> = [integers(), texts(), others()].concat();
    for field in CHECK.iter().filter(|field| !["shm", "default"].contains(&field.name)) {
        for &wrong in wrongs(field.kind) {
            let has_row = rows.iter().any(|row| row.0 == field.name && row.2 == wrong);
            assert!(has_row, "no row for {} with {wrong:?}", field.name);
        }
        let error = why(&format!(r#"{{"{}x":null}}"#, field.name));
        let known = "type, http_req, send, expect, port, host, interval, interval_down, timeout, rise, fall, \
                     valid_statuses, concurrency, ssl_verify, ssl_cert, ssl_key, expect_body, headers, url, default_down, \
                     panic_threshold";
        let path = format!("healthcheck.{}x", field.name);
        assert_eq!(error, format!("{path}: not known to this version; known: {known}"));
    }
    for (option, kind, wrong, value, message) in rows {
        let kind = if option == "type" { String::new() } else { format!(r#""type":"{kind}","#) };
        let error = why(&format!(r#"{{{kind}"{option}":{value}}}"#));
        assert_eq!(error, format!("healthcheck.{option}{message}"), "{wrong:?} {value}");
    }
}

#[test]
fn the_ends_of_every_range_are_in_it() {
    for field in CHECK {
        let (FieldType::Integer { min, max } | FieldType::Optional(&FieldType::Integer { min, max })) = field.kind
        else {
            continue;
        };
        for value in [min, max] {
            let check = read_json(&format!(r#"{{"{}":{value}.0}}"#, field.name)).unwrap();
            let shown = String::from_utf8(written(&check)).unwrap();
            assert!(shown.contains(&format!("\"{}\":{value}", field.name)), "{shown}");
        }
    }
    let statuses: Vec<_> = (100..600).map(|status| status.to_string()).collect();
    assert_eq!(
        read_json(&format!(r#"{{"valid_statuses":[{}]}}"#, statuses.join(","))).unwrap().valid_statuses.len(),
        500
    );
    assert_eq!(read_json(r#"{"valid_statuses":[599,100,599]}"#).unwrap().valid_statuses, [100, 599]);
    let text = "x".repeat(8192);
    assert_eq!(read_json(&format!(r#"{{"type":"tcp","send":"{text}"}}"#)).unwrap().send, Some(text));
}

#[test]
fn what_is_not_given_has_its_default() {
    assert_eq!(read_json("{}"), Ok(Check::default()));
    assert_eq!(read_json(r#"{"type":null,"rise":null,"upstream":null}"#), Ok(Check::default()));
    let check = Check::default();
    assert_eq!((check.interval, check.timeout, check.rise, check.fall), (3000, 2000, 2, 3));
    assert_eq!((check.concurrency, check.valid_statuses), (10, vec![200, 302]));
}

#[test]
fn the_table_of_lua_resty_upstream_healthcheck_is_taken() {
    let check = read_json(
        r#"{"shm":"healthcheck","type":"http","http_req":"GET /status HTTP/1.0\r\nHost: foo.com\r\n\r\n","port":8080,
            "interval":2000,"timeout":1000,"fall":3,"rise":2,"valid_statuses":[200,302],"concurrency":10}"#,
    );
    let http_req = Some("GET /status HTTP/1.0\r\nHost: foo.com\r\n\r\n".to_string());
    let expected = Check { http_req, port: Some(8080), interval: 2000, timeout: 1000, ..Check::default() };
    assert_eq!(check, Ok(expected));
    assert!(read_json(r#"{"type":"https","host":"foo.com","ssl_verify":false}"#).is_ok_and(|check| !check.ssl_verify));
}

#[test]
fn headers_are_a_list_or_an_object() {
    let expected = [("X-A".to_string(), "1: 2".to_string()), ("X-B".to_string(), String::new())];
    assert_eq!(read_json(r#"{"headers":["X-A: 1: 2 ","X-B:"]}"#).unwrap().headers, expected);
    assert_eq!(read_json(r#"{"headers":{"X-A":"1: 2","X-B":""}}"#).unwrap().headers, expected);
    assert_eq!(read_json(r#"{"headers":{}}"#).unwrap().headers, []);
}

#[test]
fn what_makes_no_sense_is_told_so() {
    let tcp = r#"makes no sense with type "tcp"; allowed: with "http" or "https""#;
    assert_eq!(
        why(r#"{"type":"tcp","http_req":"GET / HTTP/1.0\r\n\r\n"}"#),
        format!(r#"healthcheck.http_req: "GET / HTTP/1.0\x0d\x0a\x0d\x0a": {tcp}"#)
    );
    for option in
        [r#""host":"a""#, r#""valid_statuses":[200]"#, r#""expect_body":"a""#, r#""headers":["A: b"]"#, r#""url":"/""#]
    {
        let error = why(&format!(r#"{{"type":"tcp",{option}}}"#));
        assert!(error.ends_with(tcp), "{error}");
    }
    for kind in ["http", "https"] {
        let message = format!(r#"makes no sense with type "{kind}"; allowed: with "tcp""#);
        for option in ["send", "expect"] {
            let error = why(&format!(r#"{{"type":"{kind}","{option}":"PING"}}"#));
            assert_eq!(error, format!(r#"healthcheck.{option}: "PING": {message}"#));
        }
    }
    let verify = r#"healthcheck.ssl_verify: false: makes no sense with type "http"; allowed: with "https""#;
    assert_eq!(why(r#"{"ssl_verify":false}"#), verify);
    let with_request = |option: &str| why(&format!(r#"{{"http_req":"GET / HTTP/1.0\r\n\r\n",{option}}}"#));
    let message = "makes no sense with http_req, which has its own; allowed: without it (http_req = false)";
    assert_eq!(with_request(r#""url":"/a""#), format!(r#"healthcheck.url: "/a": {message}"#));
    assert_eq!(with_request(r#""headers":["A: b"]"#), format!(r#"healthcheck.headers: ["A: b"]: {message}"#));
    let head = why(r#"{"http_req":"HEAD / HTTP/1.0\r\n\r\n","expect_body":"a"}"#);
    assert!(head.starts_with(r#"healthcheck.expect_body: "a": there is no body to a HEAD request"#), "{head}");
    // An option that is not set can be taken away.
    assert!(read_json(r#"{"type":"tcp","http_req":false,"host":false,"expect_body":false}"#).is_ok());
}

fn merged(old: &Check, json: &str) -> Result<Check> {
    merge(old, &parse(json.as_bytes()).unwrap(), "healthcheck")
}

#[test]
fn a_patch_changes_what_it_gives_and_keeps_the_rest() {
    let old = read_json(r#"{"port":81,"interval":500,"interval_down":100,"host":"a","valid_statuses":[204]}"#).unwrap();
    assert_eq!(merged(&old, "{}"), Ok(old.clone()));
    assert_eq!(merged(&old, r#"{"rise":9}"#), Ok(Check { rise: 9, ..old.clone() }));
    let without = Check { port: None, host: None, interval_down: None, ..old.clone() };
    assert_eq!(merged(&old, r#"{"port":false,"host":false,"interval_down":false}"#), Ok(without));
    assert_eq!(merged(&old, r#"{"port":null}"#), Ok(old.clone()));
    assert!(merged(&old, r#"{"rise":9,"fall":0}"#).is_err());
}

#[test]
fn a_patch_that_changes_the_type_forgets_what_the_new_one_has_no_use_for() {
    let https = r#"{"type":"https","http_req":"GET / HTTP/1.0\r\n\r\n","host":"a","ssl_verify":false,"expect_body":"ok","rise":9}"#;
    let https = read_json(https).unwrap();
    assert_eq!(
        merged(&https, r#"{"type":"tcp"}"#),
        Ok(Check { kind: check::CheckType::Tcp, rise: 9, ..Check::default() })
    );
    let http = merged(&https, r#"{"type":"http"}"#).unwrap();
    assert_eq!(http, Check { kind: check::CheckType::Http, ssl_verify: true, ..https.clone() });
    assert!(merged(&http, r#"{"type":"https"}"#).unwrap().ssl_verify, "verified again");
    let tcp = read_json(r#"{"type":"tcp","send":"PING\r\n","expect":"+PONG"}"#).unwrap();
    assert_eq!(merged(&tcp, r#"{"type":"http"}"#), Ok(Check::default()));
    let error = merged(&tcp, r#"{"http_req":"GET / HTTP/1.0\r\n\r\n"}"#).unwrap_err();
    assert!(error.message.contains(r#"makes no sense with type "tcp""#), "{error}");
}

#[test]
fn a_request_that_is_given_takes_the_place_of_what_builds_one() {
    let built = read_json(r#"{"url":"/a","headers":["A: b"]}"#).unwrap();
    let given = merged(&built, r#"{"http_req":"GET /b HTTP/1.0\r\n\r\n"}"#).unwrap();
    assert_eq!((given.url.as_str(), given.headers.len()), ("/", 0));
    assert!(merged(&given, r#"{"url":"/c"}"#).is_err());
    let again = merged(&given, r#"{"url":"/c","http_req":false}"#).unwrap();
    assert_eq!((again.url.as_str(), again.http_req), ("/c", None));
    let looks = read_json(r#"{"expect_body":"ok"}"#).unwrap();
    let error = merged(&looks, r#"{"http_req":"HEAD / HTTP/1.0\r\n\r\n"}"#).unwrap_err();
    assert!(error.message.starts_with("healthcheck.http_req: \"HEAD"), "{error}");
}

#[test]
fn the_type_of_a_check_has_the_names_of_its_kinds() {
    let FieldType::Choice(names) = fields::TYPE.kind else { panic!("a choice") };
    assert_eq!(
        check::CheckType::NAMES.map(|(name, kind)| (name, kind.name())),
        [0, 1, 2].map(|i| (names[i], names[i]))
    );
}

fn written(check: &Check) -> Vec<u8> {
    serde_json::to_vec(&CheckObject { check, is_default: false }).unwrap()
}

prop_compose! {
    pub fn any_check()(
        kind in prop::sample::select(check::CheckType::NAMES.map(|(_, kind)| kind).to_vec()),
        http_req in prop::option::of("(GET|POST) /[!-~ö]{0,9} HTTP/1\\.[01]\r\nHost: a\r\n\r\n"),
        texts in prop::array::uniform3(prop::option::of("[\r\n -~ö]{1,20}")),
        host in prop::option::of("[a-z]{1,9}(:[1-9][0-9]{0,3})?|\\[::1\\]"),
        (port, interval_down) in (prop::option::of(1u16..), prop::option::of(10u32..=86_400_000)),
        (interval, timeout) in (10u32..=86_400_000, 1u32..=86_400_000),
        (rise, fall, concurrency, panic_threshold) in (1u8.., 1u8.., 1u16..=10_000, 0u8..=100),
        valid_statuses in prop::collection::btree_set(100u16..600, 1..9),
        headers in prop::collection::vec(("[A-Z][A-Za-z-]{2}", "([!-~ö]([ -~]{0,5}[!-~])?)?"), 0..4),
        url in "/[!-~ö]{0,9}",
        (ssl_verify, default_down) in any::<(bool, bool)>(),
        files in prop::option::of(("/[!-~ö]{0,9}", "/[!-~ö]{0,9}")),
    ) -> Check {
        let (ssl_cert, ssl_key) = files.unzip();
        let [send, expect, expect_body] = texts;
        let mut check = Check {
            kind, http_req, send, expect, port, host, interval, interval_down, timeout, rise, fall, concurrency, ssl_verify, ssl_cert, ssl_key,
            expect_body, headers, url, default_down, panic_threshold, valid_statuses: valid_statuses.into_iter().collect(),
            kept: Default::default(),
        };
        check.forget_what_is_not_used();
        check
    }
}

/// Options with values that are often good and sometimes not.
fn any_patch() -> impl Strategy<Value = String> {
    let option = prop::sample::select(vec![
        r#""type":"http""#,
        r#""type":"https""#,
        r#""type":"tcp""#,
        r#""http_req":"GET / HTTP/1.0\r\n\r\n""#,
        r#""http_req":"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n""#,
        r#""http_req":"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n""#,
        r#""http_req":false"#,
        r#""send":"PING""#,
        r#""send":false"#,
        r#""host":"a:1""#,
        r#""host":"a\r\nb""#,
        r#""url":"/a""#,
        r#""url":"/ HTTP/1.1\r\n\r\n""#,
        r#""headers":{"X":"y"}"#,
        r#""headers":["Host: b"]"#,
        r#""headers":["Transfer-Encoding: chunked"]"#,
        r#""headers":["X: y\nZ: 1"]"#,
        r#""expect_body":"ok""#,
        r#""ssl_verify":false"#,
        r#""valid_statuses":[204]"#,
        r#""interval_down":500"#,
        r#""rise":0"#,
    ]);
    prop::collection::vec(option, 0..4).prop_map(|options| format!("{{{}}}", options.join(",")))
}

proptest! {
    #[test]
    fn what_is_written_reads_as_the_same(check in any_check()) {
        let json = written(&check);
        prop_assert_eq!(read(&parse(&json).unwrap(), ""), Ok(check));
    }

    #[test]
    fn whatever_is_merged_a_probe_is_one_request(check in any_check(), patches in prop::collection::vec(any_patch(), 0..6)) {
        let mut check = check;
        for patch in patches {
            // The same option twice is no JSON.
            let Ok(patch) = parse(patch.as_bytes()) else { continue };
            if let Ok(merged) = merge(&check, &patch, "healthcheck") {
                check = merged;
            }
            prop_assert_eq!(read(&parse(&written(&check)).unwrap(), ""), Ok(check.clone()));
            for own in [None, Some("/x"), Some("x\r\n\r\nGET /")] {
                let host = own.map(|own| if own == "/x" { "b:1".to_string() } else { own.to_string() });
                let own = PeerCheck { url: own.map(str::to_string), host, ..PeerCheck::default() };
                for peer_host in ["10.0.0.1:80", "unix:/a", "a\r\n\r\nGET /"] {
                    prop_assert_eq!(request::check_one(&probe_request::request(&check, peer_host, Some(&own))), Ok(()));
                }
            }
        }
    }
}
