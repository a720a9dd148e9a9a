//! What the statistics add to a request: instructions of its worker, by callgrind, and CPU.

use crate::backend::Backend;
use crate::callgrind;
use crate::measure::{Figures, Run, alternate};
use crate::place::Place;
use crate::requests::request;
use crate::server::Conf;
use crate::table::{Line, digits, time};
use crate::worker::{Worker, lua_peers};

const ROUNDS: usize = 25;
const REQUESTS: usize = 10_000;
/// The most that a request may cost more.
const MOST_INSTRUCTIONS: f64 = 1000.0;

pub fn measure(place: &Place) -> Vec<Line> {
    let backend = Backend::start(place);
    vec![instructions(place, &backend), cpu(place, &backend)]
}

/// Statistics on and off.
const BOTH: [(&str, bool); 2] = [("on", true), ("off", false)];

/// `balance` of 4 peers over kept connections.
fn configure(conf: &mut Conf, on: bool) {
    conf.setup += &format!("statistics = {on}, ");
    let body = "server 127.0.0.1:1; balancer_by_lua_block { require(\"dyups\").balance(\"api\") } keepalive 64;";
    conf.http = format!("upstream balanced {{ {body} }}");
    conf.locations = "location = /balanced { proxy_pass http://balanced; }".into();
}

fn peers(backend: &Backend) -> String {
    format!("require('dyups').set_upstream('api', {{ peers = {} }})", lua_peers(1, 4, backend.port))
}

/// In turns, and by an exact count: a clock does not tell so small a difference from the moods of a machine.
fn instructions(place: &Place, backend: &Backend) -> Line {
    let [on, off] = BOTH.map(|(name, on)| {
        let mut conf = Conf::new(place, 1);
        conf.shm_path = place.path(&format!("callgrind-{name}-region"));
        configure(&mut conf, on);
        Figures::new((0..3).map(|_| callgrind::of_a_request(place, &conf, &peers(backend), "/balanced")).collect())
    });
    let more = on.median() - off.median();
    let count = |instructions: f64| format!("{instructions:.0} instructions");
    Line::new(
        "request, 4 peers, `balance` with statistics",
        count(on.median()),
        format!("statistics = false: {}", count(off.median())),
        on.of(&off),
    )
    .at_most(more, MOST_INSTRUCTIONS, |more| format!("{more:.0} more"))
}

fn cpu(place: &Place, backend: &Backend) -> Line {
    let workers = BOTH.map(|(name, on)| {
        let worker = Worker::start(place, name, 0, &format!("{name}-region"), |conf| configure(conf, on));
        worker.order(&peers(backend));
        worker
    });
    let run = |worker| -> Run<'_> { Box::new(move || request(worker, "balanced", REQUESTS)) };
    let [on, off] = alternate(ROUNDS, workers.each_ref().map(run));
    let ratios = on.ratios(&off);
    let spread = format!("{} to {}", digits(ratios.quantile(0.1)), digits(ratios.quantile(0.9)));
    let what = format!("the same, CPU (8 of 10 ratios are {spread})");
    Line::new(what, time(on.median()), format!("statistics = false: {}", time(off.median())), ratios.median())
}
