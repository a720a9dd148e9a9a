//! CPU that a proxied request costs its worker, beside nginx's own upstreams.

use crate::backend::Backend;
use crate::measure::{Figures, Run, alternate, alternate_all};
use crate::peers::{self, servers};
use crate::place::Place;
use crate::table::{Line, time, times};
use crate::worker::{Worker, lua_peers};
use std::fmt::Write;
use std::process::Command;
use std::sync::OnceLock;

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

/// The most that `balance` may add to a request by nginx's own upstream with a zone, with few peers and with many.
const MOST_OF_NGINX: f64 = 1.10;
const MOST_OF_NGINX_MANY: f64 = 1.0;
const PART_ROUNDS: usize = 15;

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
    let peers = lua_peers(1, 4, backend.port);
    // h2load names the address in Host.
    let host = worker.nginx.traffic.ip();
    worker.order(&format!("require('dyups').set_upstream('{host}', {{ peers = {peers} }})"));
    let peers = lua_peers(1, 1000, backend.port);
    worker.order(&format!(
        "require('dyups').set_upstream('least_conn-1000', {{ method = 'least_conn', peers = {peers} }})"
    ));
    let mut lines = vec![beside_a_constant_peer(&worker)];
    lines.extend(beside_nginx(&worker));
    lines.extend(parts(&worker));
    lines.extend(examples(&worker));
    lines.extend(balanced_among_many(&worker));
    lines
}

/// The peer that answers for one of the upstreams below.
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
    let servers = servers(1, 1000, port);
    writeln!(text, "upstream nginx-least_conn-1000 {{ zone least 32m; least_conn; {servers} keepalive 64; }}")
        .expect("a String");
    for (name, key) in BALANCED {
        let call = format!("require(\"dyups\").balance(\"{name}\"{key})");
        let body = format!("server 127.0.0.1:1; balancer_by_lua_block {{ {call} }} keepalive 64;");
        writeln!(text, "upstream balance-{name} {{ {body} }}").expect("a String");
    }
    text.extend(EXAMPLES.iter().filter(|(_, _, from)| !from.is_empty()).map(|(_, name, from)| block(from, name)));
    text
}

/// The upstreams that `balance` serves, with the key.
const BALANCED: [(&str, &str); 3] = [("rr-4", ""), ("chash-1000", ", \"one key\""), ("least_conn-1000", "")];

/// Configurations that people begin with: a path, its upstream, and the text whose block that is. Their upstream is named by
/// the Host header, and so is nginx's own beside them.
const EXAMPLES: [(&str, &str, &str); 3] = [
    ("example-nginx", "nginx-rr-4", ""),
    ("example-readme", "readme", include_str!("../README.md")),
    ("example-demo", "demo", include_str!("../nginx-test.conf")),
];

/// The block `upstream dyups {}` of a configuration, under another name.
fn block(text: &str, name: &str) -> String {
    let begin = text.find("upstream dyups {").expect("a block");
    let end = begin + text[begin..].find("\n    }\n").expect("its end");
    text[begin..end].replace("upstream dyups {", &format!("upstream {name} {{")) + "\n}\n"
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
    names.push("nginx-least_conn-1000".into());
    let plain = names.iter().map(|name| format!("location = /{name} {{ proxy_pass http://{name}; }}\n"));
    let balanced =
        BALANCED.map(|(name, _)| format!("location = /balance-{name} {{ proxy_pass http://balance-{name}; }}\n"));
    let examples = EXAMPLES.map(|(path, upstream, _)| {
        let headers = "proxy_set_header Connection \"\"; proxy_set_header Host $host;";
        format!("location = /{path} {{ proxy_pass http://{upstream}; {headers} }}\n")
    });
    plain.chain(balanced).chain(examples).collect()
}

/// CPU of a request by nginx's own round robin among 4 peers on this machine, in ns, once it was measured.
pub static NGINX: OnceLock<f64> = OnceLock::new();

/// The addition of each part to a request by nginx's own round robin among 4 peers in a zone.
fn parts(worker: &Worker) -> Vec<Line> {
    let run = |path: &'static str| -> Run<'_> { Box::new(move || request(worker, path, CLOSE_REQUESTS)) };
    let [nginx, constant, find, balance] =
        alternate(PART_ROUNDS, ["nginx-rr-4", "constant", "dyups-rr-4", "balance-rr-4"].map(run));
    NGINX.get_or_init(|| nginx.median());
    let beside = format!("nginx, its own round robin: {}", time(nginx.median()));
    let line = |what: &str, figures: &Figures| {
        let what = format!("request, 4 peers, {what}");
        Line::new(what, time(figures.median()), beside.clone(), figures.of(&nginx))
    };
    let all = balance.of(&nginx);
    vec![
        line("a balancer in Lua that names a peer", &constant),
        line("`find` in it", &find),
        line("`balance` in it", &balance).at_most(all, MOST_OF_NGINX, times),
    ]
}

/// The configurations that people begin with, as they stand.
fn examples(worker: &Worker) -> Vec<Line> {
    let run = |path: &'static str| -> Run<'_> { Box::new(move || request(worker, path, CLOSE_REQUESTS)) };
    let [nginx, readme, demo] = alternate(PART_ROUNDS, EXAMPLES.map(|(path, ..)| path).map(run));
    let beside = format!("nginx, its own round robin: {}", time(nginx.median()));
    let line = |what: &str, figures: &Figures| {
        Line::new(format!("request, 4 peers, {what}"), time(figures.median()), beside.clone(), figures.of(&nginx))
    };
    vec![
        line("README's example: `find(ngx.var.host)`", &readme),
        line("nginx-test.conf: `balance(ngx.var.host)`", &demo),
    ]
}

/// `balance` where nginx looks at each peer.
fn balanced_among_many(worker: &Worker) -> Vec<Line> {
    let run = |path: &'static str| -> Run<'_> { Box::new(move || request(worker, path, REQUESTS)) };
    let paths = ["nginx-least_conn-1000", "balance-least_conn-1000", "nginx-chash-1000", "balance-chash-1000"];
    let [least_nginx, least, hash_nginx, hash] = alternate(ROUNDS, paths.map(run));
    let line = |what: &str, nginx: &Figures, figures: &Figures| {
        let (what, ratio) = (format!("request, 1,000 peers, `balance` by {what}"), figures.of(nginx));
        let beside = format!("nginx, its own: {}", time(nginx.median()));
        Line::new(what, time(figures.median()), beside, ratio).at_most(ratio, MOST_OF_NGINX_MANY, times)
    };
    vec![line("least_conn", &least_nginx, &least), line("chash of one key", &hash_nginx, &hash)]
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
pub fn request(worker: &Worker, path: &str, count: usize) -> f64 {
    let url = format!("http://{}/{path}", worker.nginx.traffic);
    let from = worker.cpu();
    let load =
        Command::new("h2load").args(["--h1", "-t", "1", "-c", CONNECTIONS, "-n", &count.to_string(), &url]).output();
    let spent = worker.cpu() - from;
    let said = String::from_utf8_lossy(&load.expect("h2load: make deps FOR=bench installs it").stdout).into_owned();
    assert!(said.contains(&format!(" {count} 2xx")), "{url}:\n{said}");
    spent / count as f64
}
