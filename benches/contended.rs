//! Two processes that pick at once: from one upstream they share a counter, from two they share nothing.

use crate::measure::{Figures, Run, alternate};
use crate::place::Place;
use crate::table::{Line, time, times};
use crate::worker::Worker;
use std::cell::Cell;

const ROUNDS: usize = 9;
/// One run.
const WINDOW_NS: f64 = 100e6;
/// Until all have read their orders.
const LEAD_NS: f64 = 20e6;
/// A process that had less of its CPU was not contended by the other one all the time.
const SHARE: f64 = 0.98;
/// How often a run is made again for that.
const TRIES: usize = 10;

const MOST_NS: f64 = 60.0;
const LEAST_TOGETHER: f64 = 1.6;

pub fn measure(place: &Place) -> Vec<Line> {
    let workers = ["left", "right"];
    let workers: Vec<Worker> = (0..)
        .zip(workers)
        .map(|(cpu, name)| {
            let worker = Worker::start(place, name, cpu, "contended", |_| ());
            worker.order(&format!("require('contended').prepare('{name}', {})", cpu + 1));
            worker
        })
        .collect();
    let (one, two) = (&workers[..1], &workers[..]);
    let least_share = Cell::new(1.0_f64);
    let run = |workers, row| -> Run<'_> {
        let least_share = &least_share;
        Box::new(move || {
            let (ns, share) = at_once(workers, row);
            least_share.set(least_share.get().min(share));
            ns
        })
    };
    let [empty, empty_two, add, add_own, add_shared, find, find_own, find_shared] = alternate(
        ROUNDS,
        [
            run(one, "empty"),
            run(two, "empty"),
            run(one, "add_own"),
            run(two, "add_own"),
            run(two, "add_shared"),
            run(one, "find_own"),
            run(two, "find_own"),
            run(two, "find_shared"),
        ],
    );
    let both = |what: &str, two: &Figures, one: &Figures| {
        Line::new(what, time(two.median()), format!("one process: {}", time(one.median())), together(two, one))
    };
    let disturbed = least_share.get() < SHARE;
    vec![
        Line::new(
            "`find`, rr, 2 processes on one upstream",
            time(find_shared.median()),
            format!("2 processes, locked adds to one word: {}", time(add_shared.median())),
            find_shared.of(&add_shared),
        )
        .at_most(find_shared.median(), MOST_NS, time)
        .doubted(disturbed),
        both("`find`, rr, 2 processes on two upstreams; ratio: picks in the same time", &find_own, &find)
            .at_least(together(&find_own, &find), LEAST_TOGETHER, times)
            .doubted(disturbed),
        both("the same of an empty FFI call", &empty_two, &empty),
        both("the same of a locked add, a word each", &add_own, &add),
    ]
}

/// The calls of two processes in the time in which one does 1.
fn together(two: &Figures, one: &Figures) -> f64 {
    2.0 * one.of(two)
}

/// Runs `row` in all workers at the same time: ns of CPU a call, and the least share of a CPU of a worker.
fn at_once(workers: &[Worker], row: &str) -> (f64, f64) {
    let mut best = (0.0, 0.0);
    for _ in 0..TRIES {
        let start = workers[0].number("require('native').now()") + LEAD_NS;
        let order = format!("require('contended').run('{row}', {start:.0}, {WINDOW_NS})");
        let answers: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = workers.iter().map(|worker| scope.spawn(|| worker.ask(&order))).collect();
            threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
        });
        let pairs = answers.iter().map(|answer| {
            let (ns, share) = answer.split_once(' ').expect("two numbers");
            (ns.parse::<f64>().expect("ns"), share.parse::<f64>().expect("a share"))
        });
        let (rate, share) = pairs.fold((0.0, 1.0_f64), |all, (ns, share)| (all.0 + 1.0 / ns, all.1.min(share)));
        if share > best.1 {
            best = (workers.len() as f64 / rate, share);
        }
        if best.1 >= SHARE {
            break;
        }
    }
    best
}
