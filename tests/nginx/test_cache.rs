//! Answers out of nginx's cache cost no connection. The requests that fill it and keep it fresh count like all others.

use super::client::Client;
use super::counted::{Counted, NAME, PROTOCOLS};
use super::place::{self, Place};
use super::server::Conf;
use super::streams::Streams;
use super::system::wait_for;

const LOCATIONS: &str = r#"
        proxy_cache answers;
        proxy_cache_key $uri;
        add_header X-Cache $upstream_cache_status always;
        location /uncached/ { proxy_cache off; proxy_pass http://counted; }
        location /cached/ { proxy_cache_valid 200 10m; proxy_pass http://counted; }
        location /locked/ { proxy_cache_valid 200 10m; proxy_cache_lock on; proxy_cache_lock_timeout 20s; proxy_pass http://counted; }
        location /stale/ {
            proxy_cache_valid 200 1s;
            proxy_cache_use_stale updating error;
            proxy_cache_background_update on;
            proxy_pass http://counted;
        }
"#;

fn start(place: &Place) -> Counted {
    let cache = place.workers_dir("cache");
    let http = format!("proxy_cache_path {} keys_zone=answers:1m use_temp_path=off;\n", cache.display());
    let conf = Conf { http, locations: LOCATIONS.into(), ..Conf::new(place, 2) };
    let counted = Counted::with(place, 1, "", conf);
    counted.post("max_fails=0", false);
    counted
}

/// Where an answer with 200 comes from, as nginx says.
fn get(counted: &Counted, path: &str) -> String {
    let answer = Client::new(counted.http1).get_fresh(NAME, path).expect("an answer");
    assert_eq!(answer.status, 200, "{path}");
    answer.header("x-cache").expect("X-Cache").to_owned()
}

#[test]
fn a_miss_is_counted_and_a_hit_opens_no_connection() {
    let place = Place::new("cache");
    let counted = start(&place);
    for (protocol, path) in PROTOCOLS.into_iter().zip(["/cached/1/hold", "/cached/2/hold"]) {
        counted.gate.close();
        let before = counted.backends[0].requests();
        let miss = counted.curl(protocol, path, &[]);
        counted.wait_for_open(1, "a miss");
        counted.gate.open();
        assert_eq!(miss.status(), 200);
        counted.assert_none_open("a miss");
        counted.gate.close();
        for _ in 0..5 {
            assert_eq!(counted.curl(protocol, path, &[]).status(), 200);
            assert_eq!(get(&counted, path), "HIT");
        }
        counted.assert_none_open("hits");
        assert_eq!(counted.backends[0].requests() - before, 1);
    }
    counted.nginx.assert_calm();
}

/// The counts of a request once nginx has been told that its client takes it back.
fn open_when_cancelled(counted: &Counted, path: &str) -> Vec<u64> {
    counted.gate.close();
    let mut streams = Streams::connect(counted.http2);
    let cancelled = streams.get(NAME, path);
    counted.wait_for_open(1, path);
    if path.ends_with("/half") {
        streams.wait_for_begun(1);
    }
    streams.cancel(cancelled);
    // nginx reads one thing after the other.
    let later = streams.get(NAME, "/requests");
    assert_eq!(streams.answers(1).get(&later), Some(&true));
    let open = counted.open();
    counted.gate.open();
    counted.assert_none_open(path);
    open
}

#[test]
fn what_may_be_cached_is_counted_until_its_backend_answers_though_its_client_has_gone() {
    let place = Place::new("cache-cancelled");
    let counted = start(&place);
    assert_eq!(open_when_cancelled(&counted, "/uncached/hold"), [0]);
    assert_eq!(open_when_cancelled(&counted, "/uncached/half"), [0]);
    assert_eq!(open_when_cancelled(&counted, "/cached/hold"), [1], "nginx goes on with it");
    assert_eq!(open_when_cancelled(&counted, "/cached/half"), [1], "and fetches what has begun to its end");
    assert_eq!(get(&counted, "/cached/half"), "HIT");
    counted.nginx.assert_calm();
}

#[test]
fn of_requests_that_wait_for_one_answer_just_one_is_counted() {
    const WAITING: u64 = 5;
    let place = Place::new("cache-lock");
    let counted = start(&place);
    for (protocol, path) in PROTOCOLS.into_iter().zip(["/locked/1/hold", "/locked/2/hold"]) {
        counted.gate.close();
        let before = counted.backends[0].requests();
        let (read, mut asked) = (counted.requests(), 0);
        let waiting: Vec<_> = (0..WAITING).map(|_| counted.curl(protocol, path, &[])).collect();
        wait_for("all have arrived", || {
            // To ask is a request too.
            asked += 1;
            counted.requests() >= read + asked + WAITING
        });
        counted.wait_for_open(1, path);
        counted.gate.open();
        waiting.into_iter().for_each(|curl| assert_eq!(curl.status(), 200));
        counted.assert_none_open(path);
        assert_eq!(counted.backends[0].requests() - before, 1, "{path}");
    }
    counted.nginx.assert_calm();
}

#[test]
fn an_update_in_the_background_is_counted_until_it_is_over_or_has_failed() {
    let place = Place::new("cache-update");
    let counted = start(&place);
    let stale = || wait_for("it is stale", || get(&counted, "/stale/hold") == "STALE");
    counted.gate.open();
    assert_eq!(get(&counted, "/stale/hold"), "MISS");
    counted.assert_none_open("what fills the cache, which it has done then");
    counted.gate.close();
    stale();
    counted.wait_for_open(1, "an update");
    for _ in 0..3 {
        assert_eq!(get(&counted, "/stale/hold"), "UPDATING");
    }
    assert_eq!(counted.open(), [1], "one update at a time");
    counted.gate.open();
    counted.assert_none_open("an update");
    assert_eq!(counted.backends[0].requests(), 2);

    counted.nginx.post(NAME, &format!("server {} max_fails=0;\n", place::free_address()));
    stale();
    counted.assert_none_open("an update that failed");
    counted.nginx.assert_calm();
}
