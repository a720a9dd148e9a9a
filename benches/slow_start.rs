//! `find` while a peer starts slowly, beside `find` of the same peers when none does.

use crate::measure::{Run, alternate};
use crate::place::Place;
use crate::table::{Line, time};
use crate::worker::Worker;

const ROUNDS: usize = 11;
/// Seconds: no ramp ends while this is measured.
const SLOW_START: u32 = 3600;

pub fn measure(place: &Place) -> Vec<Line> {
    let worker = Worker::alone(place);
    let peer = |number: usize| format!("{{ host = '127.1.0.{number}', port = 8080, slow_start = {SLOW_START} }}");
    let peers = (1..=4).map(peer).collect::<Vec<_>>().join(", ");
    for name in ["steady", "starting"] {
        worker.order(&format!("require('find').dyups('{name}', 'rr', 0, {{ {peers} }})"));
    }
    for status in ["drain", "up"] {
        let change = format!("{{ host = '127.1.0.1', port = 8080, status = '{status}' }}");
        worker.order(&format!("require('dyups').set_peer('starting', {change})"));
    }
    let run = |name: &'static str| -> Run<'_> {
        let worker = &worker;
        Box::new(move || worker.number(&format!("require('find').run('{name}')")))
    };
    let [steady, starting] = alternate(ROUNDS, [run("steady"), run("starting")]);
    let beside = format!("none starts: {}", time(steady.median()));
    let what = "`find`, rr, 4 peers, one of which starts slowly";
    vec![Line::new(what, time(starting.median()), beside, starting.of(&steady))]
}
