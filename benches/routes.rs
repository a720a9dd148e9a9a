//! `find` by a host that a route leads to an upstream, beside `find` by the name of that.

use crate::measure::{Figures, Run, alternate_all};
use crate::place::Place;
use crate::table::{Line, time};
use crate::worker::{Worker, lua_peers};

const ROUNDS: usize = 7;
const PEERS: usize = 4;
const HOSTS: usize = 100_000;
/// Hosts that one call of Lua makes routes for.
const BATCH: usize = 5000;

/// A row: its name, the words for it, and the host, as find.lua takes it.
const ROWS: [(&str, &str, &str); 6] = [
    ("own", "a name without a route", "'blue'"),
    ("host", "a host", "'www.example.com'"),
    ("wildcard", "a host below `*.example.org`", "'a.b.c.example.org'"),
    ("turns", "a split by turns, 90 and 10", "'turns.example.com'"),
    ("key", "a split by `$remote_addr`, 90 and 10", "'key.example.com'"),
    ("hosts", "one of 65,536 hosts of 100,000", "KEY"),
];

pub fn measure(place: &Place) -> Vec<Line> {
    let plain = Worker::alone(place);
    let routed = Worker::start(place, "routed", 0, "routed-region", |conf| conf.setup += "routes = true, ");
    for (worker, name) in [(&plain, "blue"), (&routed, "blue"), (&routed, "green")] {
        worker.order(&format!("require('dyups').set_upstream('{name}', {{ peers = {} }})", lua_peers(1, PEERS, 8080)));
    }
    let split = "{ { 'blue', 90 }, { 'green', 10 } }";
    for route in [
        "'www.example.com', 'blue'",
        "'*.example.org', 'blue'",
        &format!("'turns.example.com', {split}"),
        &format!("'key.example.com', {split}, {{ key = '$remote_addr' }}"),
    ] {
        routed.order(&format!("require('dyups').set_route({route})"));
    }
    for first in (0..HOSTS).step_by(BATCH) {
        routed.order(&format!("require('find').hosts({first}, {}, 'blue')", first + BATCH - 1));
    }
    plain.order("require('find').host('name', \"'blue'\")");
    for (name, _, host) in ROWS {
        routed.order(&format!("require('find').host('{name}', \"{host}\")"));
    }
    let run = |worker: &'_ Worker, name: &str| -> f64 { worker.number(&format!("require('find').run('{name}')")) };
    let mut runs: Vec<Run<'_>> = vec![Box::new(|| run(&plain, "name"))];
    runs.extend(ROWS.map(|(name, ..)| -> Run<'_> { Box::new(|| run(&routed, name)) }));
    let figures = alternate_all(ROUNDS, runs);
    let (by_name, figures) = figures.split_first().expect("measured");
    let line = |((_, what, _), figure): (&(&str, &str, &str), &Figures)| {
        let beside = format!("by name, without routes: {}", time(by_name.median()));
        Line::new(format!("`find` with routes, {what}"), time(figure.median()), beside, figure.of(by_name))
    };
    ROWS.iter().zip(figures).map(line).collect()
}
