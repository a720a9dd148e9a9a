//! gRPC: requests of HTTP/2 from end to end.

use super::certificates::Authority;
use super::counted::{Counted, Curl, NAME, Protocol};
use super::fronts::Fronts;
use super::gated::{Gate, Gated};
use super::place::{self, Place};
use super::server::Conf;
use super::streams::Streams;

const LOCATIONS: &str = r#"
        location /grpc/ { grpc_pass grpc://counted; }
        location /grpc-kept/ { grpc_pass grpc://kept; }
        location /grpcs/ { grpc_pass grpcs://counted; }
        location /drop/ { grpc_pass grpc://counted; }
        location /anyway/ {
            grpc_read_timeout 100ms;
            grpc_next_upstream error timeout non_idempotent;
            grpc_pass grpc://counted;
        }
        location /hurried/ { grpc_read_timeout 100ms; grpc_pass grpc://counted; }
"#;

fn start(place: &Place, backends: usize) -> Counted {
    let conf = Conf { locations: LOCATIONS.into(), ..Conf::new(place, 2) };
    Counted::with(place, backends, "retry_percent = 100, retry_floor = 1000", conf)
}

fn fronts(place: &Place, counted: &Counted) -> Fronts {
    Fronts::start(place, "http2", "", &counted.backends)
}

const MESSAGE: [&str; 2] = ["-d", "a message"];

fn call(counted: &Counted, path: &str, more: &[&str]) -> Curl {
    let headers = ["-X", "POST", "-H", "Content-Type: application/grpc", "-H", "TE: trailers"];
    counted.curl(Protocol::Http2, path, &[&headers, more].concat())
}

/// Failures of all peers together.
fn fails(counted: &Counted) -> u64 {
    counted.of_peers("fails").iter().map(|fails| fails.as_u64().expect("a number")).sum()
}

#[test]
fn a_call_is_counted_while_it_is_held_and_not_after() {
    let place = Place::new("grpc");
    let counted = start(&place, 2);
    let authority = Authority::new(&place, "trusted");
    let plain = fronts(&place, &counted);
    let by_tls = Fronts::start(&place, "ssl http2", &authority.sign("backend.test"), &counted.backends);
    // As of any call, no length is told before the end: that comes with the trailer.
    for (path, fronts) in [("/grpc/unsized", &plain), ("/grpc-kept/unsized", &plain), ("/grpcs/unsized", &by_tls)] {
        counted.gate.close();
        counted.nginx.post(NAME, &fronts.servers(""));
        let shown = [&MESSAGE[..], &["-D", "-"]].concat();
        let (answered, gone) = (call(&counted, path, &shown), call(&counted, path, &MESSAGE));
        counted.wait_for_open(2, path);
        gone.kill();
        counted.wait_for_open(1, path);
        counted.gate.open();
        let said = answered.said();
        assert!(said.ends_with("200") && said.contains("grpc-status: 0"), "{path}: {said}");
        counted.assert_none_open(path);
    }
    assert!(counted.of_peers("fails").iter().all(|fails| fails == 0), "no peer failed");
    counted.nginx.assert_calm();
}

#[test]
fn a_call_goes_on_from_a_peer_where_nobody_listens_until_that_is_out() {
    const CALLS: u64 = 10;
    let place = Place::new("grpc-refused");
    let counted = start(&place, 1);
    let fronts = fronts(&place, &counted);
    let dead = format!("server {} max_fails=2 fail_timeout=60s;\n", place::free_address());
    counted.nginx.post(NAME, &(dead + &fronts.servers("max_fails=0")));
    for _ in 0..CALLS {
        assert_eq!(call(&counted, "/grpc/ok", &MESSAGE).status(), 200);
    }
    counted.assert_none_open("refused connections");
    assert_eq!(counted.of_peers("fails"), [2, 0]);
    assert_eq!(counted.of_peers("out"), [true, false]);
    assert_eq!(counted.backends[0].requests(), CALLS);
    counted.nginx.assert_calm();
}

#[test]
fn a_call_that_was_sent_fails_its_peer_and_is_not_sent_again() {
    let place = Place::new("grpc-failures");
    let counted = start(&place, 2);
    let fronts = fronts(&place, &counted);
    let plain = Gated::start(&Gate::default());
    let both = fronts.servers("max_fails=5");
    let not_http2 = format!("server {} max_fails=5;\n", plain.name);
    let cases = [
        ("its stream is reset", "/drop/it", &both, 502),
        ("no answer comes", "/hurried/hold", &both, 504),
        ("the answer is not of HTTP/2", "/grpc/ok", &not_http2, 502),
    ];
    for (what, path, servers, status) in cases {
        // Anew, without the earlier failures.
        counted.nginx.admin("DELETE", &format!("/upstream/{NAME}"), "");
        counted.nginx.post(NAME, servers);
        // Without a message: of an answer that comes before all of that was read, curl does not always see the status.
        assert_eq!(call(&counted, path, &[]).status(), status, "{what}");
        counted.assert_none_open(what);
        assert_eq!(fails(&counted), 1, "{what}");
    }
    counted.nginx.assert_calm();
}

/// nginx passes a message on as it comes, and keeps none of it.
#[test]
fn a_call_whose_message_was_sent_is_not_sent_again_though_non_idempotent_allows_it() {
    let place = Place::new("grpc-once");
    let counted = start(&place, 2);
    let fronts = fronts(&place, &counted);
    for (message, tries) in [(&MESSAGE[..], 1), (&[], 2)] {
        counted.nginx.admin("DELETE", &format!("/upstream/{NAME}"), "");
        counted.nginx.post(NAME, &fronts.servers("max_fails=5"));
        assert_eq!(call(&counted, "/anyway/hold", message).status(), 504);
        counted.assert_none_open("timeouts");
        assert_eq!(fails(&counted), tries, "{message:?}");
    }
    counted.nginx.assert_calm();
}

#[test]
fn a_call_that_is_cancelled_is_counted_no_more_while_others_of_its_connection_go_on() {
    let place = Place::new("grpc-cancelled");
    let counted = start(&place, 1);
    let fronts = fronts(&place, &counted);
    counted.nginx.post(NAME, &fronts.servers(""));
    let mut streams = Streams::connect(counted.http2);
    let calls = [(); 3].map(|()| streams.get(NAME, "/grpc/hold"));
    counted.wait_for_open(3, "calls");
    streams.cancel(calls[1]);
    counted.wait_for_open(2, "calls that were not cancelled");
    counted.gate.open();
    assert_eq!(*streams.answers(2), [(calls[0], true), (calls[2], true)].into());
    counted.assert_none_open("calls");
    counted.nginx.assert_calm();
}
