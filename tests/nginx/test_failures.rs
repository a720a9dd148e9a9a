//! Peers that fail, and peers that may have no more connections: the requests that they get, and the answers to clients.

use super::client::Client;
use super::counted::{Counted, NAME, PROTOCOLS, Protocol};
use super::gated::Gated;
use super::place::{self, Place};
use super::server::Nginx;
use super::system::wait_for;
use super::wrk::Wrk;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A backend that is a process of its own, to be killed.
fn backend(place: &Place, number: usize, address: SocketAddr) -> Nginx {
    let prefix = place.path(&format!("backend-{number}"));
    Nginx::plain(&prefix, &format!("server {{ listen {address}; location / {{ return 200 ok; }} }}"), address)
}

#[test]
fn a_backend_that_dies_under_load_costs_no_request_and_gets_one_probe_a_fail_timeout() {
    const FAIL_TIMEOUT: u64 = 2;
    let place = Place::new("dying-backend");
    let counted = Counted::start(&place, 0, "", "");
    let addresses = [0; 4].map(|_| place::free_address());
    let mut backends: Vec<_> =
        addresses.iter().enumerate().map(|(number, &address)| backend(&place, number, address)).collect();
    let servers = addresses.map(|address| format!("server {address} max_fails=1 fail_timeout={FAIL_TIMEOUT}s;\n"));
    counted.nginx.post(NAME, &servers.concat());
    let is_out = |index: usize| counted.of_peers("out")[index] == true;

    let wrk = Wrk::over(200, counted.http1, NAME);
    let requests = |count: u64| wait_for("requests are read", || counted.requests() >= count);
    requests(5000);
    backends[1].kill_all();
    wait_for("the dead backend is out", || is_out(1));
    wait_for("requests that had picked it before have ended", || counted.open()[1] == 0);

    let begun = Instant::now();
    let prober = Gated::closing_at(addresses[1]);
    wait_for("two probes", || prober.accepted() >= 2);
    let (probes, most) = (prober.accepted(), begun.elapsed().as_secs() / FAIL_TIMEOUT + 1);
    assert!(probes <= most, "{probes} probes of a dead peer in the time of {most}");
    drop(prober);
    backends[1].start_again();
    wait_for("a probe that succeeds brings it back", || !is_out(1));
    requests(counted.requests() + 2000);
    let served = wrk.stop();
    assert_eq!((served.bad, served.broken), (0, 0), "{served:?}");
    assert!(counted.of_peers("out").iter().all(|out| out == false));
    counted.assert_none_open("a backend that died");
    counted.nginx.assert_calm();
}

#[test]
fn a_post_that_was_sent_is_not_sent_again_unless_the_operator_says_so_and_a_get_is() {
    let place = Place::new("idempotent");
    let counted = Counted::start(&place, 2, "", "");
    counted.post("max_fails=0", false);
    let sent = || counted.backends.iter().map(Gated::requests).sum::<u64>();
    let post = ["-d", "one=1"];
    let cases: [(&str, &[&str], u64); 4] = [
        ("/pass/close", &post, 1),
        ("/pass/close", &[], 2),
        ("/non-idempotent/close", &post, 2),
        ("/non-idempotent/close", &[], 2),
    ];
    for protocol in PROTOCOLS {
        for (path, more, tries) in cases {
            let before = sent();
            assert_eq!(counted.curl(protocol, path, more).status(), 502, "{path}");
            assert_eq!(sent() - before, tries, "{protocol:?} {path} {more:?}");
        }
    }
    counted.assert_none_open("closed connections");
    counted.nginx.assert_calm();
}

/// Requests without a peer, by the log.
fn without_peer(counted: &Counted) -> usize {
    counted.nginx.error_log().matches("no live upstreams").count()
}

#[test]
fn a_peer_never_has_more_than_max_conns_over_all_workers_and_the_others_get_502_and_a_line() {
    const REQUESTS: u64 = 50;
    let place = Place::new("max-conns");
    let counted = Counted::start(&place, 1, "", "");
    counted.post("max_conns=3 max_fails=0", false);
    let backend = &counted.backends[0];
    let (full, ended) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..REQUESTS {
            scope.spawn(|| {
                let status = Client::new(counted.http1).get_fresh(NAME, "/pass/hold").expect("an answer").status;
                assert!([200, 502].contains(&status), "{status}");
                full.fetch_add((status == 502).into(), Ordering::SeqCst);
                ended.fetch_add(1, Ordering::SeqCst);
            });
        }
        wait_for("who has no peer has an answer", || ended.load(Ordering::SeqCst) + backend.at_once() == REQUESTS);
        counted.gate.open();
    });
    let full = full.into_inner();
    assert!((REQUESTS - 3..REQUESTS).contains(&full), "{full} got 502");
    assert_eq!(backend.most_at_once(), REQUESTS - full);
    assert_eq!(without_peer(&counted) as u64, full, "a line each");

    // Nor does it have fewer, if they come one after the other.
    counted.gate.close();
    let held: Vec<_> = (1..=3)
        .map(|number| {
            let curl = counted.curl(Protocol::Http2, "/pass/hold", &[]);
            wait_for("it is held", || backend.at_once() == number);
            curl
        })
        .collect();
    assert_eq!(counted.open(), [3]);
    assert_eq!(counted.curl(Protocol::Http1, "/pass/hold", &[]).status(), 502);
    counted.gate.open();
    held.into_iter().for_each(|curl| assert_eq!(curl.status(), 200));
    assert_eq!(counted.curl(Protocol::Http1, "/pass/hold", &[]).status(), 200);
    assert_eq!(backend.most_at_once(), 3);
    counted.assert_none_open("max_conns");
    counted.nginx.assert_calm();
}

#[test]
fn workers_that_race_for_the_last_connection_of_a_peer_do_not_both_get_it() {
    let place = Place::new("max-conns-race");
    let counted = Counted::start(&place, 1, "", "");
    counted.post("max_conns=1 max_fails=0", false);
    std::thread::scope(|scope| {
        for protocol in PROTOCOLS {
            let counted = &counted;
            scope.spawn(move || counted.h2load(protocol, 10_000, &["/pass/soon"]));
        }
    });
    assert!(counted.backends[0].requests() > 1, "it was asked, however slow the machine is");
    assert_eq!(counted.backends[0].most_at_once(), 1);
    counted.assert_none_open("a race");
    counted.nginx.assert_calm();
}

#[test]
fn retries_are_at_most_their_share_of_the_requests_when_every_backend_fails() {
    const REQUESTS: u64 = 500;
    const WORKERS: u64 = 2;
    let place = Place::new("retry-budget");
    let counted = Counted::start(&place, 4, "retry_percent = 20, retry_floor = 5", "");
    counted.post("max_fails=0", false);
    counted.h2load(Protocol::Http1, REQUESTS as usize, &["/pass/reset"]);
    let tries: u64 = counted.backends.iter().map(Gated::requests).sum();
    assert!(tries > REQUESTS + 5 + WORKERS, "{tries} tries: more retries than the floor");
    assert!(tries <= REQUESTS * 12 / 10 + 5 + WORKERS, "{tries} tries of {REQUESTS} requests");
    counted.assert_none_open("retries");
    counted.nginx.assert_calm();
}

#[test]
fn a_deleted_peer_gets_no_request_over_a_connection_that_was_kept() {
    let place = Place::new("deleted");
    let counted = Counted::start(&place, 2, "", "");
    counted.post("", false);
    let [deleted, stays] = &counted.backends[..] else { panic!("two backends") };
    let get = |count: usize| {
        for _ in 0..count {
            let answer = Client::new(counted.http1).get_fresh(NAME, "/kept/ok").expect("an answer");
            assert_eq!(answer.status, 200);
        }
    };
    get(40);
    assert!(deleted.connections() > 0 && stays.connections() > 0, "connections are kept");
    assert!(deleted.accepted() < deleted.requests(), "and used again");
    counted.nginx.change(&format!("delete_peer('{NAME}', {{ server = '{}' }})", deleted.name));
    let (before, had) = (deleted.requests(), stays.requests());
    get(100);
    assert!(deleted.connections() > 0, "they still are");
    assert_eq!((deleted.requests(), stays.requests()), (before, had + 100));
    counted.assert_none_open("kept connections");
    counted.nginx.assert_calm();
}

#[test]
fn a_failure_counts_though_another_upstream_answers_in_the_end() {
    let place = Place::new("covered");
    let counted = Counted::start(&place, 1, "", "");
    for (protocol, fails) in PROTOCOLS.into_iter().zip(1..) {
        counted.nginx.post(NAME, "server 127.0.0.1:1 max_fails=9;");
        assert_eq!(counted.curl(protocol, "/covered/refused", &[]).status(), 200);
        wait_for("it has failed", || counted.of_peers("fails") == [fails]);
    }
    counted.assert_none_open("an error page of another upstream");
    counted.nginx.assert_calm();
}

#[test]
fn a_failure_counts_whatever_status_the_client_is_shown() {
    let place = Place::new("masked");
    let counted = Counted::start(&place, 1, "", "");
    for protocol in PROTOCOLS {
        for (path, status, fails) in
            [("/pass/reset", 502, 1), ("/masked/reset", 404, 1), ("/timeout/late", 504, 1), ("/pass/500", 500, 0)]
        {
            // Anew, without the earlier failures.
            counted.nginx.admin("DELETE", &format!("/upstream/{NAME}"), "");
            counted.post("max_fails=3", false);
            assert_eq!(counted.curl(protocol, path, &[]).status(), status, "{path}");
            counted.assert_none_open(path);
            assert_eq!(counted.of_peers("fails"), [fails], "{protocol:?} {path}");
        }
    }
    counted.nginx.assert_calm();
}

#[test]
fn the_only_peer_is_asked_again_on_a_fresh_connection_when_one_that_was_kept_is_dead() {
    let place = Place::new("dead-idle");
    let counted = Counted::start(&place, 1, "", "");
    counted.post("max_fails=2", false);
    for path in ["/stock/once", "/kept/once"] {
        for number in 0..20 {
            assert_eq!(counted.curl(Protocol::Http1, path, &[]).status(), 200, "{path} {number}");
        }
    }
    assert_eq!(counted.of_peers("fails"), [0]);
    counted.assert_none_open("dead connections");
    counted.nginx.assert_calm();
}

#[test]
fn a_peer_that_is_out_is_brought_back_by_its_probe_and_by_no_request_that_began_before() {
    let place = Place::new("older-success");
    let counted = Counted::start(&place, 2, "retry_percent = 100", "");
    let [failing, other] = &counted.backends[..] else { panic!("two backends") };
    let servers = format!("server {} max_fails=1 fail_timeout=1s;\nserver {} max_fails=0;\n", failing.name, other.name);
    counted.nginx.post(NAME, &servers);
    let older = loop {
        let socket = counted.websocket();
        if counted.open() == [1, 0] {
            break socket;
        }
    };
    assert_eq!(counted.curl(Protocol::Http1, "/pass/reset", &[]).status(), 502);
    assert_eq!(counted.of_peers("out"), [true, false]);
    let mut held = Vec::new();
    wait_for("a probe", || {
        held.push(counted.curl(Protocol::Http1, "/pass/hold", &[]));
        counted.wait_for_open(1 + held.len() as u64, "held");
        counted.open()[0] == 2
    });
    drop(older);
    wait_for("the websocket has ended", || counted.open()[0] == 1);
    assert_eq!(counted.of_peers("out"), [true, false], "the probe has no answer yet");
    counted.gate.open();
    held.into_iter().for_each(|curl| assert_eq!(curl.status(), 200));
    wait_for("the probe brings it back", || counted.of_peers("out") == [false, false]);
    counted.assert_none_open("probes");
    counted.nginx.assert_calm();
}
