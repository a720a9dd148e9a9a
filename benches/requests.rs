//! What a proxied request costs the worker that proxies it, beside nginx's own upstreams.

use crate::backend::Backend;
use crate::measure::{Figures, Run, alternate, alternate_all};
use crate::peers::{self, servers};
use crate::place::Place;
use crate::table::{Line, time, times};
use crate::worker::{Worker, lua_peers};
use std::fmt::Write;
use std::process::Command;

/// `find` beside a balancer that always names the same peer: the difference is small, so many rounds.
const CLOSE_ROUNDS: usize = 25;
const CLOSE_REQUESTS: usize = 10_000;
const MOST_OF_CONSTANT: f64 = 1.03;

const ROUNDS: usize = 9;
const REQUESTS: usize = 4000;
const CONNECTIONS: &str = "16";
/// Peers, and the most of nginx's own `hash ... consistent` that a request by chash of one key may cost.
const SIZES: [(usize, Option<f64>); 3] = [(4, None), (1000, Some(0.8)), (10_000, Some(0.25))];
const METHODS: [&str; 2] = ["rr", "chash"];

pub fn measure(place: &Place) -> Vec<Line> {
    let backend = Backend::start(place);
    let worker = Worker::start(place, "worker", 0, "region", |conf| {
        conf.http = upstreams(backend.port);
        conf.locations = locations();
    });
    for (size, _) in SIZES {
        for method in METHODS {
            let peers = lua_peers(1, size, backend.port);
            let set = "require('dyups').set_upstream";
            worker.order(&format!("{set}('{method}-{size}', {{ method = '{method}', peers = {peers} }})"));
        }
        assert_eq!(answer(&worker, "dyups", "chash", size), answer(&worker, "nginx", "chash", size), "the key's peer");
    }
    let mut lines = vec![beside_a_constant_peer(&worker)];
    lines.extend(beside_nginx(&worker));
    lines
}

/// Who answers for one of the upstreams below.
fn answer(worker: &Worker, by: &str, method: &str, size: usize) -> String {
    worker.nginx.get("bench", &format!("/{by}-{method}-{size}")).body
}

/// For each size and method one of nginx's own and one of dyups; and one with a constant peer.
fn upstreams(port: u16) -> String {
    let mut text = balancer("constant", &format!("\"{}:{port}\"", peers::host(1, 0)));
    for (size, _) in SIZES {
        for (method, hash, key) in [("rr", "", ""), ("chash", "hash \"one key\" consistent;", ", \"one key\"")] {
            let name = format!("{method}-{size}");
            let zone = format!("zone {name} 32m;");
            let servers = servers(1, size, port);
            writeln!(text, "upstream nginx-{name} {{ {zone} {hash} {servers} keepalive 64; }}").expect("a String");
            text += &balancer(&format!("dyups-{name}"), &format!("require(\"dyups\").find(\"{name}\"{key})"));
        }
    }
    text
}

fn balancer(name: &str, peer: &str) -> String {
    format!(
        "upstream {name} {{
             server 127.0.0.1:1;
             balancer_by_lua_block {{ assert(require(\"ngx.balancer\").set_current_peer({peer})) }}
             keepalive 64;
         }}\n"
    )
}

fn locations() -> String {
    let mut names = vec!["constant".to_owned()];
    for (size, _) in SIZES {
        names.extend(METHODS.iter().flat_map(|method| ["nginx", "dyups"].map(|by| format!("{by}-{method}-{size}"))));
    }
    names.iter().map(|name| format!("location = /{name} {{ proxy_pass http://{name}; }}\n")).collect()
}

fn beside_a_constant_peer(worker: &Worker) -> Line {
    let row = |path: &'static str| -> Run<'_> { Box::new(move || request(worker, path, CLOSE_REQUESTS)) };
    let [constant, find] = alternate(CLOSE_ROUNDS, [row("constant"), row("dyups-rr-4")]);
    let beside = format!("a constant peer: {}", time(constant.median()));
    let ratio = find.of(&constant);
    Line::new("request, `find` of 4 peers", time(find.median()), beside, ratio).at_most(ratio, MOST_OF_CONSTANT, times)
}

fn beside_nginx(worker: &Worker) -> Vec<Line> {
    let rows = || METHODS.iter().flat_map(|method| SIZES.map(|(size, most)| (*method, size, most)));
    let run = |path: String| -> Run<'_> { Box::new(move || request(worker, &path, REQUESTS)) };
    let runs = rows()
        .flat_map(|(method, size, _)| ["nginx", "dyups"].map(|by| run(format!("{by}-{method}-{size}"))))
        .collect();
    let figures = alternate_all(ROUNDS, runs);
    rows()
        .zip(figures.chunks(2))
        .map(|((method, size, most), pair)| line(method, size, most.filter(|_| method == "chash"), &pair[0], &pair[1]))
        .collect()
}

fn line(method: &str, size: usize, most: Option<f64>, nginx: &Figures, dyups: &Figures) -> Line {
    let (what, own) = match method {
        "rr" => ("rr", "its own round robin"),
        _ => ("chash, one key", "its own `hash` `consistent`"),
    };
    let what = format!("request, {what}, {} peers", peers::count(size));
    let beside = format!("nginx, {own}: {}", time(nginx.median()));
    let ratio = dyups.of(nginx);
    let line = Line::new(what, time(dyups.median()), beside, ratio);
    match most {
        Some(most) => line.at_most(ratio, most, times),
        None => line,
    }
}

/// CPU of the worker for a request to `path`, in ns: the mean of `count` of them.
fn request(worker: &Worker, path: &str, count: usize) -> f64 {
    let url = format!("http://{}/{path}", worker.nginx.traffic);
    let from = worker.cpu();
    let load =
        Command::new("h2load").args(["--h1", "-t", "1", "-c", CONNECTIONS, "-n", &count.to_string(), &url]).output();
    let spent = worker.cpu() - from;
    let said = String::from_utf8_lossy(&load.expect("h2load: tools/deps bench installs it").stdout).into_owned();
    assert!(said.contains(&format!(" {count} 2xx")), "{url}:\n{said}");
    spent / count as f64
}
