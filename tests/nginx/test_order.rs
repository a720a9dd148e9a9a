//! Round robin is exact over all workers.

use super::backends::Backends;
use super::client::Client;
use super::load::{Connections, requests};
use super::place::Place;
use super::server::{Conf, Nginx};
use std::process::Command;

const WEIGHTS: [&str; 3] = ["weight=5", "weight=1", "weight=1"];

fn started(name: &str, workers: usize) -> (Place, Backends, Nginx) {
    let place = Place::new(name);
    let backends = Backends::start(&place, 3);
    let nginx = Nginx::start(&place, &Conf::new(&place, workers));
    nginx.post("api", &backends.servers(&WEIGHTS));
    (place, backends, nginx)
}

fn assert_exact(counts: &[u64], what: &str) {
    assert_eq!(counts.iter().sum::<u64>(), 10_000, "{what}: {counts:?}");
    let exact = counts.iter().zip([7143, 1428, 1428]).all(|(&count, share)| count.abs_diff(share) <= 1);
    assert!(exact, "{what}: {counts:?} instead of 7143±1 1428±1 1428±1");
}

fn ten_thousand_requests_are_shared_out(workers: usize) {
    let (_place, backends, nginx) = started("shares", workers);
    for round in 1..=2 {
        let seen = requests(nginx.traffic, "api", 10_000, 64, Connections::Kept);
        seen.assert_all_good();
        let counts = backends.take_counts();
        assert_exact(&counts, &format!("round {round}"));
        assert_eq!(backends.names.iter().map(|name| seen.from(name)).collect::<Vec<_>>(), counts);
        assert_eq!(seen.workers.len(), workers, "every worker served");
    }
    nginx.assert_calm();
}

#[test]
fn ten_thousand_requests_over_64_connections_are_shared_out_exactly_by_2_workers() {
    ten_thousand_requests_are_shared_out(2);
}

#[test]
fn ten_thousand_requests_over_64_connections_are_shared_out_exactly_by_4_workers() {
    ten_thousand_requests_are_shared_out(4);
}

#[test]
fn h2load_counts_the_same() {
    let (_place, backends, nginx) = started("h2load", 2);
    let url = format!("http://{}/", nginx.traffic);
    // h2load has no Host of its own choice for HTTP/1.1; the address is a name as good as any.
    let host = nginx.traffic.ip().to_string();
    nginx.post(&host, &backends.servers(&WEIGHTS));
    let out = Command::new("h2load")
        .args(["-n", "10000", "-c", "64", "-t", "2", "--h1", &url])
        .output()
        .expect("h2load: make deps installs it");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("status codes: 10000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{text}");
    assert_exact(&backends.take_counts(), "h2load");
}

#[test]
fn the_order_is_nginxs_from_one_connection_and_from_many() {
    let (_place, backends, nginx) = started("order", 4);
    let [a, b, c] = [0, 1, 2].map(|index| backends.names[index].as_str());
    let order = [a, a, b, a, c, a, a];
    let mut one = Client::new(nginx.traffic);
    for (turn, expected) in order.iter().cycle().take(70).enumerate() {
        assert_eq!(one.get("api", "/").expect("an answer").body, *expected, "request {turn} of one connection");
    }
    // 70 is ten rounds: the next request is the first of a round again, wherever it is served.
    let mut workers = std::collections::BTreeSet::new();
    for (turn, expected) in order.iter().cycle().take(140).enumerate() {
        let answer = nginx.get("api", "/");
        assert_eq!(answer.body, *expected, "request {turn}, each on a connection of its own");
        workers.insert(answer.header("x-worker").map(str::to_owned));
    }
    assert_eq!(workers.len(), 4, "every worker served some");
}
