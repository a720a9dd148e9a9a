//! A peer more among 10,000, beside the reload that it takes in nginx.

use crate::measure::{Figures, Run, alternate};
use crate::peers::{host, json, servers};
use crate::place::Place;
use crate::plain::Plain;
use crate::table::{Line, time};
use crate::worker::{Worker, new_region};

const PEERS: usize = 10_000;
const ROUNDS: usize = 11;
/// Changes of which the cost of a reload is the mean.
const RELOADS: usize = 2;
/// Starts of nginx, each with a region of its own.
const FRESH_ROUNDS: usize = 7;
/// Eight distinct weights, alike in number: 10,000 peers have a schedule of 65,001 entries.
const WEIGHTS: [u16; 8] = [1, 2, 3, 5, 7, 9, 11, 14];
/// Seven heavy peers among light ones: as long a schedule, and no long runs of one weight in it.
const HEAVY: [u16; 7] = [7800, 7801, 7802, 7803, 7804, 7805, 7807];

const MOST_RR_NS: f64 = 1e6;
const MOST_WARM_RING_NS: f64 = 4e6;
const MOST_FRESH_RING_NS: f64 = 12e6;

pub fn measure(place: &Place) -> Vec<Line> {
    let with_one_more = |one: &str| format!("{}{one}", servers(1, PEERS, 8080));
    let versions = [with_one_more("server 127.9.9.9:8080;"), with_one_more("")];
    let rr = Plain::start(place, "plain-rr", "", &versions[1]);
    let hash = Plain::start(place, "plain-hash", "hash $arg_key consistent;", &versions[1]);
    let worker = Worker::alone(place);
    set_upstream(&worker, "equal", "rr", &[1; PEERS]);
    set_upstream(&worker, "weights", "rr", &std::array::from_fn(|index| WEIGHTS[index % WEIGHTS.len()]));
    set_upstream(&worker, "heavy", "rr", &std::array::from_fn(|index| HEAVY.get(index).copied().unwrap_or(1)));
    set_upstream(&worker, "ring", "chash", &[1; PEERS]);
    let add = |name| -> Run<'_> {
        let worker = &worker;
        Box::new(move || worker.number(&format!("require('changes').add('{name}')")))
    };
    let reload = |plain| -> Run<'_> {
        let versions = &versions;
        Box::new(move || Plain::cost(plain, versions, RELOADS))
    };
    let [slow, slow_hash, equal, weights, heavy, ring] =
        alternate(ROUNDS, [reload(&rr), reload(&hash), add("equal"), add("weights"), add("heavy"), add("ring")]);
    let [slow_beside, fresh] = alternate(FRESH_ROUNDS, [reload(&hash), Box::new(|| add_in_fresh_memory(place))]);
    vec![
        line("rr", &equal, &slow, MOST_RR_NS),
        line("rr, 8 weights, schedule of 65,001", &weights, &slow, MOST_RR_NS),
        line("rr, 7 heavy ones among them", &heavy, &slow, MOST_RR_NS),
        line("chash, warm memory", &ring, &slow_hash, MOST_WARM_RING_NS),
        line("chash, fresh memory", &fresh, &slow_beside, MOST_FRESH_RING_NS),
    ]
}

fn line(what: &str, figure: &Figures, reload: &Figures, most: f64) -> Line {
    let what = format!("`add_peer` to 10,000 peers, {what}");
    let beside = format!("nginx, CPU of a reload: {}", time(reload.median()));
    Line::new(what, time(figure.median()), beside, figure.of(reload)).at_most(figure.median(), most, time)
}

fn set_upstream(worker: &Worker, name: &str, method: &str, weights: &[u16; PEERS]) {
    let peer = |(index, weight): (usize, &u16)| format!("{{host=\"{}\",port=8080,weight={weight}}}", host(1, index));
    let peers = weights.iter().enumerate().map(peer).collect::<Vec<_>>().join(",");
    worker.order(&format!("require('dyups').set_upstream('{name}', {{ method = '{method}', peers = {{{peers}}} }})"));
}

/// The first change after a start: the worker has not made one, and the region has no page that was used before.
fn add_in_fresh_memory(place: &Place) -> f64 {
    new_region(place, "fresh");
    let peers = json(1, PEERS, 8080);
    let file = place.write("ring.json", &format!(r#"{{"upstreams":{{"ring":{{"method":"chash","peers":{peers}}}}}}}"#));
    let worker = Worker::start(place, "fresh-worker", 0, "fresh", |conf| {
        conf.setup += &format!("files = \"{}\", ", file.display());
    });
    worker.number("require('changes').add_first('ring')")
}
