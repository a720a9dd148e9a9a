//! Slow start: a peer that comes back, or that comes to others, has its share of the requests step by step.

use super::backends::Backends;
use super::checked::Checked;
use super::load::{Connections, requests};
use super::place::{self, Place};
use super::server::{Conf, Nginx};
use super::sick::{HEALTH, Sick};
use super::support::tell;
use super::symptoms::Mode;
use super::system::wait_for;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Seconds that a slow start takes.
const SECONDS: u64 = 4;
/// Seconds so many that a slow start goes on for the whole test.
const LONG: u64 = 100_000;
/// Of requests that go to four peers, one of which is at a tenth of its weight.
const MANY: usize = 620;
/// So many are its share.
const FEW: std::ops::RangeInclusive<u64> = 17..=23;

/// Of one of four peers, so long after its slow start began.
fn share(since: Duration) -> f64 {
    let has = (0.1 + 0.9 * since.as_secs_f64() / SECONDS as f64).min(1.0);
    has / (3.0 + has)
}

/// Sends requests for so many seconds, and asserts that in each of them the last backend has its share.
fn assert_ramp(nginx: &Nginx, backends: &Backends, began: Instant, seconds: u64, what: &str) {
    for second in 0..seconds {
        let (mut all, mut seen, mut expected) = (0, 0, 0.0);
        while began.elapsed() < Duration::from_secs(second + 1) {
            let from = began.elapsed();
            let answers = requests(nginx.traffic, "api", 200, 8, Connections::Kept);
            answers.assert_all_good();
            all += answers.total();
            seen += answers.from(&backends.names[3]);
            expected += share((from + began.elapsed()) / 2) * answers.total() as f64;
        }
        let [got, wanted] = [seen as f64, expected].map(|part| part * 100.0 / all as f64);
        tell(format_args!("{what}, second {second}: {seen} of {all}: {got:.1} %, {wanted:.1} % is the ramp"));
        assert!(all > 0 && (got - wanted).abs() <= 3.0, "{what}, second {second}: {got} %, not {wanted} %");
    }
}

#[test]
fn a_peer_that_is_added_or_that_drained_has_its_share_second_by_second() {
    let place = Place::alone("slow-start");
    let backends = Backends::start(&place, 4);
    let nginx = Nginx::start(&place, &Conf::new(&place, 2));
    let servers = backends.servers(&["", "", "", &format!("slow_start={SECONDS}s")]);
    let first: String = servers.lines().take(3).map(|line| format!("{line}\n")).collect();
    nginx.post("api", &first);
    requests(nginx.traffic, "api", 300, 8, Connections::Kept).assert_all_good();
    nginx.post("api", &servers);
    let throttle = nginx.status()["upstreams"]["api"]["peers"][3]["throttle"].as_u64();
    assert!(throttle.is_some_and(|percent| (10..100).contains(&percent)), "{throttle:?}");
    assert_ramp(&nginx, &backends, Instant::now(), SECONDS + 1, "added");
    for status in ["drain", "up"] {
        nginx.change(&format!("set_peer(\"api\", {})", backends.peer(3, &format!("status = \"{status}\""))));
    }
    assert_ramp(&nginx, &backends, Instant::now(), 2, "drained");
    nginx.assert_calm();
}

/// A way to an upstream whose failures count.
const BALANCED: &str = "
    upstream failing { server 127.0.0.1:1; balancer_by_lua_block { require('dyups').balance('failures') } }
    server { listen @address@ reuseport; location / { proxy_pass http://failing; } }
";

/// Asserts that the first peer has the share of a tenth of its weight.
fn assert_few(address: SocketAddr, upstream: &str, sick: &Sick) {
    let seen = requests(address, upstream, MANY, 8, Connections::Fresh);
    seen.assert_all_good();
    let got = seen.from(&sick.name);
    assert!(FEW.contains(&got), "{upstream}: {got} of {MANY}, and not {FEW:?}");
}

#[test]
fn a_peer_that_probes_or_a_trial_request_bring_back_has_a_tenth_of_its_weight_at_first() {
    let place = Place::new("slowly-back");
    let sick: Vec<Sick> = (0..4).map(|_| Sick::start()).collect();
    let peer = |sick: &Sick| json!({ "server": sick.name, "slow_start": LONG, "fail_timeout": 1 });
    let peers: Vec<Value> = sick.iter().map(peer).collect();
    let check = json!({ "url": HEALTH, "interval": 200, "timeout": 5000, "rise": 2, "fall": 1 });
    let upstreams = json!({
        "probes": { "peers": peers, "healthcheck": check }, "failures": { "peers": peers, "healthcheck": false },
    });
    let balanced = place::free_address();
    let checked = Checked::start(&place, 2, &BALANCED.replace("@address@", &balanced.to_string()), &upstreams);
    let even = requests(checked.nginx.traffic, "probes", 400, 8, Connections::Fresh);
    assert_eq!(sick.iter().map(|sick| even.from(&sick.name)).collect::<Vec<_>>(), [100; 4], "a new table");

    sick[0].set(Mode::Stopped);
    checked.wait_for_states("probes", &["unhealthy", "up", "up", "up"]);
    wait_for("requests have found it out", || {
        let _ = requests(balanced, "failures", 40, 4, Connections::Fresh);
        checked.states("failures")[0] == "unavail"
    });
    sick[0].set(Mode::Well);
    checked.wait_for_states("probes", &["up"; 4]);
    assert_few(checked.nginx.traffic, "probes", &sick[0]);
    wait_for("a trial has brought it back", || {
        let _ = requests(balanced, "failures", 40, 4, Connections::Fresh);
        checked.states("failures")[0] == "up"
    });
    assert_few(balanced, "failures", &sick[0]);
}
