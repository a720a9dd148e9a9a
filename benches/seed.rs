//! 10,000 upstreams of 10 peers from a file.

use crate::cpu;
use crate::measure::alternate;
use crate::place::{self, Place};
use crate::table::{Line, time};
use crate::worker::Worker;
use std::fmt::Write;

const UPSTREAMS: usize = 10_000;
const PEERS: usize = 10;
const ROUNDS: usize = 7;
const MOST_NS: f64 = 1e9;

pub fn measure(place: &Place) -> Vec<Line> {
    let file = place.write("seed.json", &json());
    let conf = place.write("seed.conf", &nginx());
    let worker = Worker::alone(place);
    let setup = |files: &str| {
        let path = place.path("region");
        format!("require('changes').seed{{ shm_path = '{}', shm_size = '256m', files = {files} }}", path.display())
    };
    let (full, none) = (setup(&format!("'{}'", file.display())), setup("{}"));
    let [json, nginx] = alternate(
        ROUNDS,
        [
            Box::new(|| {
                worker.number(&none);
                worker.number(&full)
            }),
            Box::new(|| {
                let from = cpu::of_dead_children(std::process::id());
                let mut test = place::nginx_in(&place.path("worker"));
                let out = test.arg("-c").arg(&conf).arg("-t").output().expect("nginx -t");
                assert!(out.status.success(), "nginx -t: {}", String::from_utf8_lossy(&out.stderr));
                cpu::of_dead_children(std::process::id()) - from
            }),
        ],
    );
    let beside = format!("nginx, `-t` of the same in its syntax: {}", time(nginx.median()));
    vec![Line::new("10,000 upstreams of 10 peers from JSON", time(json.median()), beside, json.of(&nginx)).at_most(
        json.median(),
        MOST_NS,
        time,
    )]
}

/// A peer of an upstream: no two are alike.
fn peer(upstream: usize, peer: usize) -> String {
    format!("10.{}.{}.{}", upstream / 250, upstream % 250, peer + 1)
}

/// The file of all of them.
pub fn json() -> String {
    let upstreams: Vec<String> = (0..UPSTREAMS)
        .map(|upstream| {
            let peers: Vec<String> =
                (0..PEERS).map(|n| format!(r#"{{"host":"{}","port":8080}}"#, peer(upstream, n))).collect();
            format!(r#""upstream-{upstream}":{{"peers":[{}]}}"#, peers.join(","))
        })
        .collect();
    format!(r#"{{"upstreams":{{{}}}}}"#, upstreams.join(","))
}

fn nginx() -> String {
    let mut text = "pid test.pid;\nerror_log stderr warn;\nevents {}\nhttp {\n".to_owned();
    for upstream in 0..UPSTREAMS {
        let servers: String = (0..PEERS).map(|n| format!("server {}:8080; ", peer(upstream, n))).collect();
        writeln!(text, "upstream upstream-{upstream} {{ {servers} }}").expect("a String");
    }
    text + "}\n"
}
