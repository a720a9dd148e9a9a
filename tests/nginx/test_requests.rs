//! A connection that balance() counts as open is open: while a request is under way, and never after, whichever way the request
//! took.

use super::counted::{Counted, NAME, PROTOCOLS, Protocol, read_until};
use super::gated::LONG;
use super::place::Place;
use super::system::{signal, wait_for};
use std::io::{Read, Write};

/// A request that is held at a backend in the end.
struct Way {
    path: &'static str,
    /// Connections that are open while it is held: those of subrequests that are over are not.
    meanwhile: u64,
}

const WAYS: [Way; 9] = [
    Way { path: "/pass/hold", meanwhile: 1 },
    Way { path: "/by-uri/500", meanwhile: 1 },
    Way { path: "/by-name/500", meanwhile: 1 },
    Way { path: "/pass/accel", meanwhile: 1 },
    Way { path: "/exec", meanwhile: 1 },
    Way { path: "/auth/hold", meanwhile: 1 },
    Way { path: "/auth-held/ok", meanwhile: 1 },
    Way { path: "/mirrored/hold", meanwhile: 2 },
    Way { path: "/ssi", meanwhile: 1 },
];

/// Calls `what` for each protocol and each way, held.
fn each_way(counted: &Counted, what: impl Fn(Protocol, &Way)) {
    for protocol in PROTOCOLS {
        for way in &WAYS {
            counted.gate.close();
            what(protocol, way);
            counted.gate.open();
            counted.wait_for_held(0, "the next one begins");
            counted.assert_none_open(&format!("{protocol:?} {}", way.path));
        }
    }
}

#[test]
fn a_request_is_counted_while_it_is_under_way_and_not_after_its_success_by_any_way() {
    let place = Place::new("counted");
    let counted = Counted::start(&place, 2, "", "");
    counted.post("", false);
    each_way(&counted, |protocol, way| {
        let curl = counted.curl(protocol, way.path, &[]);
        counted.wait_for_held(way.meanwhile, &format!("{protocol:?} {}", way.path));
        counted.gate.open();
        assert_eq!(curl.status(), 200, "{protocol:?} {}", way.path);
    });
    counted.nginx.assert_calm();
}

#[test]
fn a_request_whose_client_goes_is_counted_no_more_though_its_backend_goes_on() {
    let place = Place::new("aborted");
    let counted = Counted::start(&place, 2, "", "");
    counted.post("", false);
    each_way(&counted, |protocol, way| {
        let curl = counted.curl(protocol, way.path, &[]);
        counted.wait_for_held(way.meanwhile, &format!("{protocol:?} {}", way.path));
        curl.kill();
        // nginx does not tell a mirror's client, whose request goes on.
        if way.path.starts_with("/mirrored") {
            counted.gate.open();
        }
        counted.wait_for_open(0, &format!("{protocol:?} {}", way.path));
    });
    for protocol in PROTOCOLS {
        counted.gate.close();
        let curl = counted.curl(protocol, "/pass/half", &["-N"]);
        counted.wait_for_open(1, "in the middle of a body");
        curl.kill();
        counted.assert_none_open("a client that went in the middle of a body");
    }
    // ngx_lua captures in HTTP/1.1 alone.
    let curl = counted.curl(Protocol::Http1, "/capture", &[]);
    counted.wait_for_held(1, "a capture that is held, and not the one that has ended");
    curl.kill();
    counted.gate.open();
    counted.assert_none_open("captures whose client went");
    let mut upload = counted.connect();
    write!(upload, "POST /unbuffered/ok HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 10\r\n\r\n12345").expect("sent");
    counted.wait_for_open(1, "in the middle of an upload");
    drop(upload);
    counted.assert_none_open("a client that went in the middle of its upload");
    assert!(counted.of_peers("fails").iter().all(|fails| fails == 0), "no peer failed");
    counted.nginx.assert_calm();
}

#[test]
fn a_response_that_was_read_is_not_open_though_its_client_is_slow() {
    let place = Place::new("slow-client");
    let counted = Counted::start(&place, 1, "", "");
    counted.post("", false);
    let mut slow = counted.connect();
    write!(slow, "GET /pass/long HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n").expect("sent");
    wait_for("its request is read", || counted.backends[0].requests() == 1);
    counted.wait_for_open(0, "a response that nginx keeps for its client");
    let mut response = Vec::new();
    slow.read_to_end(&mut response).expect("a response");
    assert!(response.len() > LONG, "it had not been sent");
    counted.assert_none_open("a slow client");
    counted.nginx.assert_calm();
}

#[test]
fn a_peer_that_takes_one_connection_takes_a_request_after_its_own_subrequest() {
    let place = Place::new("subrequest-first");
    let counted = Counted::start(&place, 1, "", "");
    counted.post("max_conns=1", false);
    counted.gate.open();
    for protocol in PROTOCOLS {
        for path in ["/auth/ok", "/exec", "/by-uri/500", "/by-name/500", "/pass/accel"].repeat(20) {
            assert_eq!(counted.curl(protocol, path, &[]).status(), 200, "{protocol:?} {path}");
        }
    }
    assert_eq!(counted.backends[0].most_at_once(), 1);
    counted.assert_none_open("subrequests");
    counted.nginx.assert_calm();
}

#[test]
fn a_try_that_failed_is_counted_no_more_after_retries_and_timeouts() {
    let place = Place::new("failed-tries");
    let counted = Counted::start(&place, 2, "retry_percent = 100", "");
    for protocol in PROTOCOLS {
        counted.post("max_fails=0", true);
        for _ in 0..6 {
            counted.gate.close();
            let curl = counted.curl(protocol, "/pass/hold", &[]);
            counted.wait_for_open(1, "after a refused connection or without one");
            counted.gate.open();
            assert_eq!(curl.status(), 200, "refused connections are tried again");
        }
        counted.assert_none_open("refused connections");
        counted.post("max_fails=0", false);
        counted.gate.close();
        assert_eq!(counted.curl(protocol, "/timeout/hold", &[]).status(), 504);
        counted.assert_none_open("timeouts");
        assert_eq!(counted.curl(protocol, "/pass/reset", &[]).status(), 502);
        assert_eq!(counted.curl(protocol, "/pass/close", &[]).status(), 502);
        counted.assert_none_open("closed connections");
    }
    counted.nginx.assert_calm();
}

#[test]
fn a_websocket_is_counted_until_it_is_closed() {
    let place = Place::new("websocket");
    let counted = Counted::start(&place, 1, "", "");
    counted.post("", false);
    let mut socket = counted.websocket();
    for _ in 0..3 {
        socket.write_all(b"frame").expect("sent");
        assert_eq!(read_until(&mut socket, "frame"), "frame");
        assert_eq!(counted.open(), [1]);
    }
    drop(socket);
    counted.assert_none_open("a websocket that was closed");
    counted.nginx.assert_calm();
}

#[test]
fn pipelined_requests_are_counted_one_after_the_other_and_streams_at_once() {
    let place = Place::new("pipelined");
    let counted = Counted::start(&place, 2, "", "");
    counted.post("", false);
    let mut stream = counted.connect();
    let (ok, last) = (format!("GET /pass/ok HTTP/1.1\r\nHost: {NAME}\r\n\r\n"), "/pass/hold HTTP/1.1");
    let held = format!("GET {last}\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
    stream.write_all((ok.repeat(5) + &held).as_bytes()).expect("sent");
    counted.wait_for_open(1, "the last of six pipelined requests");
    counted.gate.open();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("answers");
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 6, "{answers}");
    counted.assert_none_open("pipelined requests");

    counted.gate.close();
    let url = |path: &str| format!("http://{}{path}", counted.http2);
    let mut urls = vec!["--parallel".to_owned(), "--parallel-immediate".into()];
    urls.extend((0..4).flat_map(|_| ["-o".into(), "/dev/null".into(), url("/pass/hold")]));
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let streams = counted.curl(Protocol::Http2, "/pass/hold", &urls);
    counted.wait_for_open(5, "streams of HTTP/2");
    streams.kill();
    counted.assert_none_open("streams of HTTP/2");
    counted.nginx.assert_calm();
}

/// A held request of each protocol.
fn hold_both(counted: &Counted) -> Vec<super::counted::Curl> {
    counted.gate.close();
    let curls = PROTOCOLS.iter().flat_map(|&protocol| (0..3).map(move |_| protocol));
    let curls: Vec<_> = curls.map(|protocol| counted.curl(protocol, "/pass/hold", &[])).collect();
    counted.wait_for_open(6, "held requests");
    curls
}

#[test]
fn what_a_worker_that_dies_or_ends_has_counted_is_taken_back() {
    let place = Place::new("dying-workers");
    let mut counted = Counted::start(&place, 2, "", "worker_shutdown_timeout 300ms;");
    counted.post("", false);
    let killed = hold_both(&counted);
    counted.nginx.kill_workers(&counted.nginx.worker_pids());
    counted.assert_none_open("SIGKILL of the workers");
    drop(killed);

    let ended = hold_both(&counted);
    let old = counted.nginx.worker_pids();
    old.iter().for_each(|&pid| assert!(signal(pid as i32, libc::SIGTERM)));
    wait_for("new workers after TERM", || {
        let now = counted.nginx.worker_pids();
        now.len() == 2 && now.iter().all(|pid| !old.contains(pid))
    });
    counted.assert_none_open("TERM of the workers");
    drop(ended);

    let timed_out = hold_both(&counted);
    counted.nginx.reload();
    counted.assert_none_open("worker_shutdown_timeout");
    drop(timed_out);

    let stopped = hold_both(&counted);
    assert!(signal(counted.nginx.master() as i32, libc::SIGTERM));
    counted.nginx.wait_until_gone();
    counted.nginx.start_again();
    counted.assert_none_open("TERM of nginx");
    drop(stopped);
    counted.nginx.assert_calm();
}

#[test]
fn a_reload_keeps_counting_what_old_workers_serve_until_they_are_done() {
    let place = Place::new("reloaded");
    let counted = Counted::start(&place, 2, "", "");
    counted.post("", false);
    let held = hold_both(&counted);
    counted.nginx.reload();
    assert_eq!(counted.total(), 6, "after a reload");
    let more = counted.curl(Protocol::Http1, "/pass/hold", &[]);
    counted.wait_for_open(7, "old and new workers");
    counted.nginx.reload();
    assert_eq!(counted.total(), 7, "after another reload");
    counted.gate.open();
    for curl in held.into_iter().chain([more]) {
        assert_eq!(curl.status(), 200, "old workers finish what they have begun");
    }
    counted.assert_none_open("a reload");
    counted.nginx.assert_calm();
}

#[test]
fn a_change_of_the_upstream_keeps_the_counts_of_peers_that_stay_and_gives_none_to_those_that_come() {
    let place = Place::new("counted-changes");
    let counted = Counted::start(&place, 2, "", "");
    let [old, new] = &counted.backends[..] else { panic!("two backends") };
    let set = |names: &[&str]| {
        let servers: String = names.iter().map(|name| format!("server {name};\n")).collect();
        counted.nginx.post(NAME, &servers);
    };
    set(&[&old.name]);
    let held = hold_both(&counted);
    set(&[&new.name, &old.name]);
    assert_eq!(counted.open(), [0, 6], "of the peer that stays");
    set(&[&new.name]);
    assert_eq!(counted.open(), [0], "of the one that came");
    set(&[&old.name, &new.name]);
    assert_eq!(counted.open()[1], 0);
    counted.gate.open();
    held.into_iter().for_each(|curl| assert_eq!(curl.status(), 200));
    counted.assert_none_open("changes");
    counted.nginx.assert_calm();
}
