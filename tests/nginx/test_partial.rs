//! A partial outage through nginx: 800 of 1,000 peers are out in a run, as when a rack fails.

use super::checked::Checked;
use super::load::{Connections, requests};
use super::place::{self, Place};
use super::system::wait_for;
use serde_json::{Value, json};

const PEERS: usize = 1000;
const UP: std::ops::Range<usize> = 700..900;

fn host(index: usize) -> String {
    format!("127.1.{}.{}", index / 250, 1 + index % 250)
}

/// A way to an upstream whose failures count.
const BALANCED: &str = "
    upstream failing { server 127.0.0.1:1; balancer_by_lua_block { require('dyups').balance('failures') } }
    server { listen @address@ reuseport; location / { proxy_pass http://failing; } }
";

#[test]
fn the_peers_that_are_left_share_the_requests_whether_probes_failures_or_the_operator_took_the_others_out() {
    let place = Place::alone("partial");
    let [port, nowhere] = [place::free_everywhere().port(), place::free_everywhere().port()];
    let backend = format!(
        "server {{ listen 0.0.0.0:{port} reuseport backlog=4096; access_log off; location / {{ return 200 $server_addr; }} }}\n"
    );
    let peers = |peer: &dyn Fn(usize) -> Value| -> Vec<Value> { (0..PEERS).map(peer).collect() };
    // Where nothing listens, a probe is refused at once.
    let by_probes = peers(&|index| {
        let check_port = if UP.contains(&index) { port } else { nowhere };
        json!({ "host": host(index), "port": port, "check_port": check_port })
    });
    let by_operator = peers(&|index| {
        let status = if UP.contains(&index) { "up" } else { "down" };
        json!({ "host": host(index), "port": port, "status": status })
    });
    // Requests find these out, one after the other.
    let by_failures = peers(&|index| {
        let port = if UP.contains(&index) { port } else { nowhere };
        json!({ "host": host(index), "port": port, "fail_timeout": 600 })
    });
    let check = json!({ "type": "tcp", "interval": 200, "fall": 1, "timeout": 5000, "concurrency": 100 });
    let upstreams = json!({
        "probes": { "peers": by_probes, "healthcheck": check }, "operator": { "peers": by_operator },
        "failures": { "peers": by_failures },
    });
    let balanced = place::free_address();
    let http = backend + &BALANCED.replace("@address@", &balanced.to_string());
    let checked = Checked::start(&place, 2, &http, &upstreams);
    let failed = || checked.states("failures").iter().filter(|&state| state == "unavail").count();
    wait_for("800 have failed", || {
        // More than one cycle, so that each is met.
        let _ = requests(balanced, "api", 1000, 8, Connections::Fresh);
        failed() == PEERS - UP.len()
    });
    wait_for("800 are out", || {
        checked.states("probes").iter().filter(|&state| state == "unhealthy").count() == PEERS - UP.len()
    });
    let traffic = checked.nginx.traffic;
    for (name, address) in [("probes", traffic), ("operator", traffic), ("failures", balanced)] {
        let seen = requests(address, name, 5000, 8, Connections::Fresh);
        seen.assert_all_good();
        for index in UP {
            let got = seen.from(&host(index));
            assert!((24..=26).contains(&got), "{name}: peer {index} has {got} of 5000, 25 is its share");
        }
    }
}
