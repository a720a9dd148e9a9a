//! `find` in a worker: at most an empty FFI call, two locked adds and 10 ns, from 4 to 10,000 peers.

use crate::measure::{Figures, Run, alternate_all};
use crate::peers;
use crate::place::Place;
use crate::table::{Line, time};
use crate::worker::{Worker, lua_peers};

const ROUNDS: usize = 11;
const SIZES: [usize; 4] = [4, 100, 1000, 10_000];
/// Beyond an empty call and two locked adds.
const OWN_NS: f64 = 10.0;
/// The most that a ring of 10,000 peers may cost beyond that.
const RING_NS: f64 = 40.0;
/// 10,000 peers as against 4.
const GROWTH: f64 = 1.15;

/// Keys of chash: so few that their part of the ring stays in the CPU's caches, and more.
const KEYS: [usize; 2] = [1024, 65_536];

/// A row: the upstream, the method, the number of peers, the number of keys.
struct Row {
    by: &'static str,
    method: &'static str,
    peers: usize,
    keys: usize,
}

impl Row {
    fn name(&self) -> String {
        format!("{}-{}-{}-{}", self.by, self.method, self.peers, self.keys)
    }

    fn is(&self, by: &str, method: &str, peers: usize) -> bool {
        (self.by, self.method, self.peers) == (by, method, peers)
    }
}

pub fn measure(place: &Place) -> Vec<Line> {
    let worker = Worker::alone(place);
    worker.order("require('find').yardsticks()");
    let rows = rows(&worker);
    let run = |name: String| -> Run<'_> {
        let worker = &worker;
        Box::new(move || worker.number(&format!("require('find').run('{name}')")))
    };
    let names = ["empty".to_owned(), "add".to_owned()].into_iter().chain(rows.iter().map(Row::name));
    let figures = alternate_all(ROUNDS, names.map(run).collect());
    let (yardsticks, figures) = figures.split_at(2);
    let limit = yardsticks[0].median() + 2.0 * yardsticks[1].median() + OWN_NS;
    let smallest = rows.iter().zip(figures).find(|(row, _)| row.is("find", "rr", SIZES[0])).expect("measured").1;
    rows.iter().zip(figures).map(|(row, figure)| line(row, figure, &yardsticks[0], limit, smallest)).collect()
}

fn rows(worker: &Worker) -> Vec<Row> {
    let other = std::env::var("PEERS").ok().filter(|dir| !dir.is_empty());
    let mut rows = Vec::new();
    for (method, keys) in [("rr", 0), ("chash", KEYS[0]), ("chash", KEYS[1])] {
        for peers in SIZES {
            let list = lua_peers(1, peers, 8080);
            let row = Row { by: "find", method, peers, keys };
            worker.order(&format!("require('find').dyups('{}', '{method}', {keys}, {list})", row.name()));
            rows.push(row);
            if let Some(dir) = &other {
                let row = Row { by: "lua-resty-balancer", method, peers, keys };
                worker.order(&format!("require('find').others('{dir}', '{}', '{method}', {keys}, {list})", row.name()));
                rows.push(row);
            }
        }
    }
    rows
}

fn line(row: &Row, figure: &Figures, empty: &Figures, limit: f64, smallest: &Figures) -> Line {
    let keys = if row.keys == 0 { String::new() } else { format!(" of {} keys", peers::count(row.keys)) };
    let what = format!("`{}`, {}{keys}, {} peers", row.by, row.method, peers::count(row.peers));
    let beside = format!("an empty FFI call: {}", time(empty.median()));
    let line = Line::new(what, time(figure.median()), beside, figure.of(empty));
    let most = match (row.by, row.method, row.peers) {
        ("find", "rr", 10_000) => limit.min(smallest.median() * GROWTH),
        ("find", "rr", _) => limit,
        ("find", "chash", 10_000) if row.keys == KEYS[0] => limit + RING_NS,
        _ => return line,
    };
    line.at_most(figure.median(), most, time)
}
