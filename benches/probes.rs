//! Active checks of many peers: the cost of a probe for the workers, the delay of other work in them, and the effect on
//! requests. Beside it, the effect of another process that makes as many connections to the same backend, since all share the
//! CPUs here.

use crate::backend::Backend;
use crate::client::Client;
use crate::cpu;
use crate::measure::{Figures, Run, alternate};
use crate::peers;
use crate::place::Place;
use crate::server::{Conf, Nginx};
use crate::steady::Clients;
use crate::system::wait_for;
use crate::table::{Line, time, times};
use crate::worker::{lua_peers, native, prepare};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

const PEERS: usize = 5000;
const INTERVAL: Duration = Duration::from_millis(3000);
const WORKERS: usize = 2;
const ROUNDS: usize = 5;
/// Connections by nothing but nginx's sockets, of which the cost is the mean.
const BARE: usize = 2000;
const CLIENTS: usize = 32;
/// Of a run with requests.
const INTERVALS: usize = 2;

const MOST_NS: f64 = 60e3;
const MOST_STALL_NS: f64 = 5e6;
const MOST_OF_P99: f64 = 1.2;

pub fn measure(place: &Place) -> Vec<Line> {
    let bench = Bench::start(place);
    let mut lines = vec![alone(&bench)];
    lines.extend(beside_requests(&bench));
    bench.proxy.assert_calm();
    lines
}

/// One nginx that probes and takes requests, a backend for probes and one for requests.
struct Bench {
    proxy: Nginx,
    probed: Backend,
    _asked: Backend,
}

impl Bench {
    fn start(place: &Place) -> Bench {
        let (probed, asked) = (Backend::named(place, "probed"), Backend::start(place));
        let mut conf = Conf::new(place, WORKERS);
        conf.setup = "shm_size = \"64m\", ".into();
        prepare(&mut conf, &native(place), "ngx.worker.id()");
        conf.init_worker += " require(\"stall\").start()";
        let proxy = Nginx::start(place, &conf);
        proxy.change(&format!("set_upstream('asked', {{ peers = {} }})", lua_peers(2, 4, asked.port)));
        proxy.change(&format!("set_upstream('probed', {{ peers = {} }})", lua_peers(1, PEERS, probed.port)));
        Bench { proxy, probed, _asked: asked }
    }

    /// Has the peers probed, or not; and waits until each was, or none is any more.
    fn switch(&self, on: bool) {
        let options = format!("{{ type = 'http', interval = {} }}", INTERVAL.as_millis());
        self.proxy.change(&format!("healthcheck('probed', {})", if on { &options } else { "false" }));
        let mut before = self.probed.count();
        let goal = before + PEERS;
        wait_for("probes begin or end", || {
            sleep(Duration::from_millis(200));
            let now = self.probed.count();
            let since = now - std::mem::replace(&mut before, now) - 1;
            if on { now >= goal } else { since == 0 }
        });
    }

    /// How many probes there are while `run` runs.
    fn probes(&self, run: impl FnOnce()) -> usize {
        let from = self.probed.count();
        run();
        self.probed.count() - from - 1
    }

    /// The longest that an event loop does not come to its timers while `run` runs, in ns.
    fn stall(&self, run: impl FnOnce()) -> f64 {
        assert_eq!(self.proxy.eval("return require('stall').look()"), "true");
        run();
        self.proxy.eval("return require('stall').latest()").parse().expect("ns")
    }

    /// CPU of the workers in an interval without requests, in ns, and the number of probes.
    fn idle(&self, on: bool) -> (f64, usize) {
        self.switch(on);
        let workers = self.proxy.worker_pids();
        let spent = || -> f64 { workers.iter().map(|&pid| cpu::of(pid)).sum() };
        let from = spent();
        let probes = self.probes(|| sleep(INTERVAL));
        (spent() - from, probes)
    }

    fn bare(&self) -> f64 {
        self.switch(false);
        let lua = format!("return require('probes').bare({BARE}, {})", self.probed.port);
        self.proxy.eval(&lua).parse().expect("ns")
    }
}

/// Whether so many intervals had as many probes as they should.
fn is_complete(probes: usize, intervals: usize) -> bool {
    (probes as f64 / (intervals * PEERS) as f64 - 1.0).abs() < 0.1
}

fn alone(bench: &Bench) -> Line {
    let disturbed = Cell::new(false);
    let cost = || {
        let ((without, _), (with, probes)) = (bench.idle(false), bench.idle(true));
        disturbed.set(disturbed.get() || !is_complete(probes, 1));
        (with - without) / probes as f64
    };
    let [cost, bare] = alternate(ROUNDS, [Box::new(cost) as Run<'_>, Box::new(|| bench.bare())]);
    let beside = format!("a connection and a request by nginx's sockets alone: {}", time(bare.median()));
    Line::new("a probe, 5,000 peers every 3 s, 2 workers, CPU", time(cost.median()), beside, cost.of(&bare))
        .at_most(cost.median(), MOST_NS, time)
        .doubted(disturbed.get())
}

/// The source of connections to the backend of probes meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    None,
    Probes,
    Another,
}

fn beside_requests(bench: &Bench) -> [Line; 3] {
    let mut clients = Clients::new(CLIENTS, bench.proxy.traffic, "asked");
    bench.switch(false);
    let rate = clients.saturating_rate(INTERVAL) / 2.0;
    let disturbed = Cell::new(false);
    let (clients, stalls) = (RefCell::new(clients), [const { RefCell::new(Vec::new()) }; 3]);
    let run = |by: By| -> Run<'_> {
        let (clients, stalls, disturbed) = (&clients, &stalls[by as usize], &disturbed);
        Box::new(move || {
            bench.switch(by == By::Probes);
            let mut times = Vec::new();
            let load = || times = clients.borrow_mut().times(rate, INTERVALS as u32 * INTERVAL);
            let probes = bench.probes(|| match by {
                By::Another => beside_as_many(bench.probed.port, load),
                _ => stalls.borrow_mut().push(bench.stall(load)),
            });
            disturbed.set(disturbed.get() || by != By::None && !is_complete(probes, INTERVALS));
            Figures::new(times).quantile(0.99)
        })
    };
    let [without, with, another] = alternate(ROUNDS, [By::None, By::Probes, By::Another].map(run));
    let stalls = |by: By| Figures::new(stalls[by as usize].borrow_mut().split_off(1)); // The first is of the round for nothing.
    let line = |what: &str, figures: &Figures, without: &Figures| {
        let what = format!("{rate:.0} requests a second, half of what saturates, during those probes: {what}");
        let beside = format!("without probes: {}", time(without.median()));
        Line::new(what, time(figures.median()), beside, figures.of(without)).doubted(disturbed.get())
    };
    let (ratio, stall) = (with.of(&without), stalls(By::Probes));
    [
        line("99 of 100", &with, &without).at_most(ratio, MOST_OF_P99, times),
        line("99 of 100, with another process in place of probes", &another, &without),
        line("longest stall of an event loop", &stall, &stalls(By::None)).at_most(stall.median(), MOST_STALL_NS, time),
    ]
}

/// Makes as many connections as all probes are while `run` runs, one by one and evenly.
fn beside_as_many(port: u16, run: impl FnOnce()) {
    let (is_over, begin) = (&AtomicBool::new(false), Instant::now());
    scope(|scope| {
        scope.spawn(move || {
            let hosts = (0..PEERS).cycle().map(|index| peers::host(1, index));
            let times = (0..).map(|number| begin + INTERVAL * number / PEERS as u32);
            for (host, due) in hosts.zip(times).take_while(|_| !is_over.load(Relaxed)) {
                sleep(due.saturating_duration_since(Instant::now()));
                let answer =
                    Client::new(SocketAddr::new(host.parse().expect("an address"), port)).get_fresh("probe", "/");
                assert_eq!(answer.expect("an answer").status, 200);
            }
        });
        run();
        is_over.store(true, Relaxed);
    });
}
