//! The oldest version of HTTP that nginx speaks, and a feature of the newer one alone: to take back one request of many.

use super::counted::{Counted, NAME, Protocol};
use super::place::Place;
use super::server::Conf;
use super::streams::Streams;

const LOCATIONS: &str = r#"
        location /one-zero/ {
            proxy_http_version 1.0;
            proxy_set_header Connection close;
            proxy_pass http://counted;
        }
"#;

/// The protocol of a client, and curl's option for it.
const VERSIONS: [(Protocol, &[&str]); 3] = [(Protocol::Http1, &["-0"]), (Protocol::Http1, &[]), (Protocol::Http2, &[])];

#[test]
fn a_stream_that_is_cancelled_is_counted_no_more_while_others_of_its_connection_go_on() {
    let place = Place::new("cancelled");
    let counted = Counted::start(&place, 2, "", "");
    counted.post("", false);
    // Before there is a header, and in the middle of a body.
    for path in ["/pass/hold", "/pass/half"] {
        counted.gate.close();
        let mut streams = Streams::connect(counted.http2);
        let held = [(); 4].map(|()| streams.get(NAME, path));
        counted.wait_for_open(4, path);
        if path.ends_with("/half") {
            streams.wait_for_begun(4);
        }
        streams.cancel(held[1]);
        counted.wait_for_open(3, path);
        streams.cancel(held[3]);
        counted.wait_for_open(2, path);
        let more = streams.get(NAME, path);
        counted.wait_for_open(3, "and one that came later on the same connection");
        counted.gate.open();
        let answers = streams.answers(3);
        for stream in [held[0], held[2], more] {
            assert_eq!(answers.get(&stream), Some(&true), "{path}: {answers:?}");
        }
        counted.assert_none_open(path);
    }
    assert!(counted.of_peers("fails").iter().all(|fails| fails == 0), "no peer failed");
    counted.nginx.assert_calm();
}

#[test]
fn requests_of_one_connection_are_counted_no_more_when_it_ends_whatever_became_of_each() {
    let place = Place::new("cancelled-all");
    let counted = Counted::start(&place, 2, "", "");
    counted.post("", false);
    let mut streams = Streams::connect(counted.http2);
    streams.get(NAME, "/pass/ok");
    let cancelled = streams.get(NAME, "/pass/hold");
    streams.get(NAME, "/pass/hold");
    streams.get(NAME, "/pass/half");
    streams.wait_for_begun(2);
    counted.wait_for_open(3, "those that go on");
    streams.cancel(cancelled);
    counted.wait_for_open(2, "those that were not cancelled");
    drop(streams);
    counted.assert_none_open("a connection that ended");
    counted.nginx.assert_calm();
}

#[test]
fn http_1_0_is_counted_on_either_side_until_the_answer_is_whole() {
    let place = Place::new("http-1-0");
    let conf = Conf { locations: LOCATIONS.into(), ..Conf::new(&place, 2) };
    let counted = Counted::with(&place, 2, "", conf);
    counted.post("", false);
    for (protocol, version) in VERSIONS {
        // An answer that says no length is whole when its connection ends.
        for path in ["/pass/hold", "/one-zero/hold", "/one-zero/half", "/one-zero/unsized"] {
            let what = format!("{protocol:?} {version:?} {path}");
            counted.gate.close();
            let (answered, gone) = (counted.curl(protocol, path, version), counted.curl(protocol, path, version));
            counted.wait_for_open(2, &what);
            gone.kill();
            counted.wait_for_open(1, &what);
            counted.gate.open();
            assert_eq!(answered.status(), 200, "{what}");
            counted.assert_none_open(&what);
        }
    }
    counted.nginx.assert_calm();
}

#[test]
fn a_try_that_failed_in_http_1_0_is_made_again_elsewhere() {
    let place = Place::new("http-1-0-retries");
    let conf = Conf { locations: LOCATIONS.into(), ..Conf::new(&place, 2) };
    let counted = Counted::with(&place, 1, "retry_percent = 100, retry_floor = 1000", conf);
    counted.post("max_fails=2 fail_timeout=60s", true);
    for (protocol, version) in VERSIONS {
        for _ in 0..5 {
            assert_eq!(counted.curl(protocol, "/one-zero/ok", version).status(), 200, "{protocol:?} {version:?}");
        }
    }
    counted.assert_none_open("refused connections");
    assert_eq!(counted.of_peers("fails"), [0, 2]);
    assert_eq!(counted.of_peers("out"), [false, true]);
    counted.nginx.assert_calm();
}
