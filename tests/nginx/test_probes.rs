//! The bytes that probes send, and their verdicts about answers, over real connections.

use super::backends::Backends;
use super::checked::{Checked, upstream};
use super::place::{self, Place};
use super::sick::{HEALTH, Sick};
use super::support::tell;
use super::symptoms::{Mode, PING};
use super::system::wait_for;
use super::test_answers::nginx_version;
use dyups::version::NginxVersion;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Milliseconds of probes that wait in vain.
const SHORT: u64 = 500;

/// A byte often enough for a timeout that begins anew with each; all of it takes much longer than [`SHORT`].
const SLOWLY: Mode = Mode::Drip(Duration::from_millis(50));
/// Each byte is a packet.
const SPLIT: Mode = Mode::Drip(Duration::from_millis(2));

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nI am\r\n6;x=y\r\n alive\r\n0\r\n\r\n";
const CUT_OFF: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nI am\r\n6;x=y\r\n al";
const CLOSE_DELIMITED: &str = "HTTP/1.0 200 OK\r\nServer: old\r\n\r\nI am alive";
const HINTS_FIRST: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
const CHUNKED_TWICE: &str =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
const NO_HEADER: &str = "HTTP/1.1 200 OK\r\nPHP Notice  undefined\r\n\r\n";

const RAW: &str = "GET /health HTTP/1.0\r\nHost: foo.com\r\nX-Odd:   spaces \t kept \r\n\r\n";
const RAW_WITH_BODY: &str =
    "POST /health HTTP/1.1\r\nHost: foo.com\r\nConnection: close\r\nContent-Length: 4\r\n\r\n\r\n\r\n";
const HEAD: &str = "HEAD /health HTTP/1.0\r\n\r\n";

/// A peer and its check.
struct Case {
    name: &'static str,
    mode: Mode,
    /// Options of the check, beside those of all.
    check: Value,
    /// The request that it is to get from each probe, where that differs from the default; `@peer@` is its address.
    asked: Option<&'static str>,
    /// Why it is unhealthy; nothing if it is up.
    why: &'static str,
}

fn case(name: &'static str, mode: Mode, check: Value, asked: Option<&'static str>, why: &'static str) -> Case {
    Case { name, mode, check, asked, why }
}

fn cases() -> Vec<Case> {
    // test_answers.rs has the differences. Here each worker is to know its nginx.
    let version = nginx_version();
    let from = |minor, why, before| if version >= NginxVersion::new(1, minor, 0) { why } else { before };
    let ping = || json!({ "type": "tcp", "url": false, "send": PING, "expect": "+PONG\r\n" });
    vec![
        case("default", Mode::Well, json!({}), None, ""),
        case("status-line-in-pieces", SPLIT, json!({}), None, ""),
        case("103-first", Mode::Says(HINTS_FIRST), json!({}), None, from(29, "", "status 103, which is not one")),
        case("twice", Mode::Says(CHUNKED_TWICE), json!({}), None, from(23, "two Transfer-Encoding headers", "")),
        case("no-header", Mode::Says(NO_HEADER), json!({}), None, r#""PHP Notice  undefined" has no good name"#),
        case("302", Mode::Status(302), json!({}), None, ""),
        case("204", Mode::Status(204), json!({}), None, "status 204, which is not one of valid_statuses"),
        case("valid-statuses", Mode::Status(404), json!({ "valid_statuses": [503, 404] }), None, ""),
        case("200-is-none-of-them", Mode::Well, json!({ "valid_statuses": [503, 404] }), None, "status 200, which is"),
        case("length", Mode::Well, json!({ "expect_body": "127." }), None, ""),
        case("length-in-pieces", SPLIT, json!({ "expect_body": "127." }), None, ""),
        case("chunked", Mode::Says(CHUNKED), json!({ "expect_body": "I am alive" }), None, ""),
        case(
            "chunked-and-cut-off",
            Mode::Says(CUT_OFF),
            json!({ "expect_body": "I am alive" }),
            None,
            "closed the conn",
        ),
        case("close-delimited", Mode::Says(CLOSE_DELIMITED), json!({ "expect_body": "am alive" }), None, ""),
        case(
            "without-it",
            Mode::Says(CLOSE_DELIMITED),
            json!({ "expect_body": "am dead" }),
            None,
            "expect_body is not in the body, which has 10 bytes",
        ),
        case("raw", Mode::Well, json!({ "url": false, "http_req": RAW }), Some(RAW), ""),
        case("raw-with-body", Mode::Well, json!({ "url": false, "http_req": RAW_WITH_BODY }), Some(RAW_WITH_BODY), ""),
        case("head", Mode::Well, json!({ "url": false, "http_req": HEAD }), Some(HEAD), ""),
        case(
            "headers",
            Mode::Well,
            json!({ "url": "/health?full", "host": "api.local:81", "headers": { "X-A": "1", "User-Agent": "me" } }),
            Some(
                "GET /health?full HTTP/1.1\r\nHost: api.local:81\r\nConnection: close\r\nUser-Agent: me\r\nX-A: 1\r\n\r\n",
            ),
            "",
        ),
        case(
            "headers-in-order",
            Mode::Well,
            json!({ "headers": ["X-B: 2", "x-a: 1", "Host: theirs"] }),
            Some(
                "GET /health HTTP/1.1\r\nUser-Agent: dyups\r\nConnection: close\r\nX-B: 2\r\nx-a: 1\r\nHost: theirs\r\n\r\n",
            ),
            "",
        ),
        case("slow-as-a-whole", SLOWLY, json!({ "timeout": SHORT }), None, "answer: not within 500 ms"),
        case("tcp", Mode::Well, json!({ "type": "tcp", "url": false }), Some(""), ""),
        case("tcp-refused", Mode::Stopped, json!({ "type": "tcp", "url": false }), None, "connect: connection refused"),
        case("tcp-expect", Mode::Well, ping(), Some(PING), ""),
        case("tcp-expect-in-pieces", SPLIT, ping(), Some(PING), ""),
        case("tcp-not-as-expected", Mode::Status(500), ping(), Some(PING), r#"answered "-ERR"#),
        case("tcp-hung", Mode::Hung, with(ping(), "timeout", SHORT.into()), Some(PING), "answer: not within 500 ms"),
        case("tcp-closes", Mode::ClosesEarly, ping(), Some(PING), "closed the connection before its answer was whole"),
    ]
}

fn with(mut value: Value, key: &str, other: Value) -> Value {
    value[key] = other;
    value
}

/// The options of all, and of one of them. A peer that is to be up begins as down, so that probes have to bring it up.
fn check(case: &Case) -> Value {
    let mut check = json!({ "url": HEALTH, "interval": 100, "timeout": 5000, "rise": 2, "fall": 2 });
    check["default_down"] = case.why.is_empty().into();
    for (key, value) in case.check.as_object().expect("options") {
        check[key] = value.clone();
    }
    if check["url"] == false {
        check.as_object_mut().expect("options").remove("url");
    }
    check
}

#[test]
fn probes_send_what_was_asked_for_and_understand_every_answer_that_http_allows() {
    let place = Place::new("probes");
    let cases = cases();
    let sicks: Vec<Sick> = cases.iter().map(|_| Sick::start()).collect();
    let mut upstreams = Map::new();
    for (case, sick) in cases.iter().zip(&sicks) {
        sick.set(case.mode);
        upstreams.insert(case.name.into(), upstream(&[&sick.name], &check(case)));
    }
    let checked = Checked::start(&place, 2, "", &upstreams.into());
    for (case, sick) in cases.iter().zip(&sicks) {
        checked.wait_for_states(case.name, &[if case.why.is_empty() { "up" } else { "unhealthy" }]);
        let change = checked.wait_for_change(case.name, if case.why.is_empty() { "up" } else { "down" });
        assert!(change.why.contains(case.why) && change.after == 2, "{}: {change:?}", case.name);
        let default = "GET /health HTTP/1.1\r\nHost: @peer@\r\nUser-Agent: dyups\r\nConnection: close\r\n\r\n";
        let expected = case.asked.unwrap_or(default).replace("@peer@", &sick.name);
        for probe in sick.probes() {
            assert_eq!(String::from_utf8_lossy(&probe.raw), expected, "{}", case.name);
        }
        assert!(sick.probed() >= 2 || case.mode == Mode::Stopped, "{}", case.name);
        // A backend that holds a probe learns late that no one waits any more, and meets the next probe before that.
        assert!(case.mode.holds() || sick.most_probes_at_once() <= 1, "{}: two probes at a time", case.name);
    }
    let slow = &sicks[cases.iter().position(|case| case.mode == SLOWLY).expect("one is slow")];
    let probes = slow.wait_for_probes(0, 4);
    // The next one begins when it was cut off: its interval has long passed by then.
    let pause = probes.windows(2).map(|two| two[1].at - two[0].at).min().expect("some");
    assert!(pause < Duration::from_millis(2 * SHORT), "{pause:?} for a timeout of {SHORT} ms");
    assert_eq!(checked.lines().len(), cases.len(), "{:?}", checked.lines());
    checked.assert_each_change_is_one_line_and_one_event();
    checked.nginx.assert_calm();
    let probes: usize = sicks.iter().map(Sick::probed).sum();
    tell(format_args!("probes: {} checks, {probes} probes, each byte for byte", cases.len()));
}

#[test]
fn peers_by_unix_socket_and_ipv6_are_probed_where_they_are() {
    let place = Place::new("probes-families");
    let names = vec![format!("unix:{}", place.socket("probed.sock").display()), free_ipv6()];
    let backends = Backends::at(&place, names);
    let check = |body: &str, port: Value| {
        let up = !body.contains("nobody");
        json!({ "interval": 100, "timeout": 5000, "expect_body": body, "default_down": up, "port": port })
    };
    let mut upstreams = Map::new();
    for name in &backends.names {
        upstreams.insert(format!("{name}-up").replace([':', '/'], "_"), upstream(&[name], &check(name, json!(false))));
        let other = upstream(&[name], &check("nobody", json!(false)));
        upstreams.insert(format!("{name}-down").replace([':', '/'], "_"), other);
    }
    let checked = Checked::start(&place, 2, "", &upstreams.clone().into());
    for name in upstreams.keys() {
        checked.wait_for_states(name, &[if name.ends_with("-down") { "unhealthy" } else { "up" }]);
    }
    assert!(backends.take_counts().iter().all(|&count| count >= 5), "two to be up, and three to be down");
    // A path has no port that another could take the place of.
    let with_port = upstream(&backends.names[..1], &json!({ "port": 1 }));
    let lua =
        format!("return require('dyups').set_upstream('with-port', require('cjson').decode([==[{with_port}]==]))");
    let why = format!("healthcheck.port: 1: peer {} has no port", backends.names[0]);
    let answer = checked.nginx.eval(&lua);
    assert!(answer.starts_with(&format!("nil upstream.{why}")), "{answer}");
    checked.assert_each_change_is_one_line_and_one_event();
    checked.nginx.assert_calm();
}

fn free_ipv6() -> String {
    let free = std::net::TcpListener::bind("[::1]:0").expect("IPv6 on loopback");
    free.local_addr().expect("an address").to_string()
}

#[test]
fn probes_go_to_the_port_of_the_check_or_the_peers_own_and_traffic_to_that_of_its_address() {
    let place = Place::new("probes-port");
    let (traffic, admin) = (Sick::at(place::free_address(), "/none"), Sick::start());
    let check = json!({ "url": HEALTH, "interval": 100, "timeout": 5000, "port": admin.address.port(), "fall": 2 });
    let upstreams = json!({ "api": upstream(&[&traffic.name], &check) });
    let checked = Checked::start(&place, 2, "", &upstreams);
    admin.set(Mode::Status(500));
    checked.wait_for_states("api", &["unhealthy"]);
    admin.set(Mode::Well);
    checked.wait_for_states("api", &["up"]);
    assert_eq!((traffic.probed(), traffic.traffic(), admin.traffic()), (0, 0, 0));
    assert_eq!(checked.nginx.get("api", "/").body, traffic.name);
    wait_for("probes go on", || admin.probed() > 6);
    assert_eq!((traffic.accepted(), traffic.traffic(), admin.traffic()), (1, 1, 0));
    let host = format!("Host: {}\r\n", admin.name);
    assert!(admin.probes().iter().all(|probe| String::from_utf8_lossy(&probe.raw).contains(&host)));

    // A peer's own options come before that.
    let own = Sick::at(place::free_address(), "/own");
    let peer = json!({ "server": traffic.name, "check_port": own.address.port(), "check_url": "/own?of=peer" });
    checked.set("api", &json!({ "peers": [peer], "healthcheck": check }));
    let before = admin.probed();
    for probe in own.wait_for_probes(0, 3) {
        let expected = format!("GET /own?of=peer HTTP/1.1\r\nHost: {}\r\n", own.name);
        assert!(String::from_utf8_lossy(&probe.raw).starts_with(&expected), "{probe:?}");
    }
    // But for one that was under way.
    assert!(admin.probed() <= before + 1);
    assert_eq!((checked.states("api"), traffic.accepted()), (vec!["up".into()], 1));
    checked.assert_each_change_is_one_line_and_one_event();
    checked.nginx.assert_calm();
}
