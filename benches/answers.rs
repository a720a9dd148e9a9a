//! Long answers: how long one keeps its worker from other work, and what requests notice of ten scrapes at once.

use crate::backend::Backend;
use crate::measure::{Figures, Run, alternate};
use crate::place::{Place, free_address};
use crate::seed;
use crate::server::{Conf, Nginx};
use crate::steady::Clients;
use crate::table::{Line, digits, time};
use crate::worker::{lua_peers, native, prepare};
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
/// Peers of the upstream that a report is made of; each has had traffic.
const PEERS: usize = 10_000;
const ROUTES: usize = 100_000;
/// Routes that one call of Lua makes.
const BATCH: usize = 5000;
/// How much longer than without an answer an event loop may be kept from other work.
const MOST_STALL_NS: f64 = 5e6;

const SCRAPES: usize = 10;
const SCRAPE_ROUNDS: usize = 3;
const CLIENTS: usize = 32;
/// Of requests, at whose beginning all scrapes begin.
const WINDOW: Duration = Duration::from_secs(5);

/// The answer that a client wants.
#[derive(Clone, Copy)]
enum Ask<'a> {
    /// A path of the HTTP interface.
    Get(&'a str),
    /// `report` of this upstream, by Lua.
    Report(&'a str),
}

pub fn measure(place: &Place) -> Vec<Line> {
    let backend = Backend::start(place);
    let mut lines = stalls(place, &backend);
    lines.extend(scraped(place, &backend));
    lines
}

/// A nginx with 10,000 upstreams of 10 peers.
fn start(place: &Place, name: &str, workers: usize) -> Nginx {
    let file = place.write("answers.json", &seed::json());
    let mut conf = Conf::new(place, workers).files(&[&file]);
    conf.shm_path = place.path(&format!("{name}-region"));
    conf.setup += "shm_size = \"256m\", ";
    prepare(&mut conf, &native(place), "ngx.worker.id()");
    conf.init_worker += " require(\"stall\").start()";
    let (traffic, admin) = (free_address(), free_address());
    Nginx::with_text(&place.path(name), &conf.text(traffic, admin), workers, traffic, admin)
}

/// The longest stall of a worker while one answer is made, beside that of as long a time without one.
fn stalls(place: &Place, backend: &Backend) -> Vec<Line> {
    let nginx = start(place, "answers", 1);
    // GET /metrics and GET /status are of the 10,000 upstreams alone.
    let mut lines = vec![
        stall(&nginx, "GET /metrics, 10,000 upstreams of 10 peers", Ask::Get("/metrics")),
        stall(&nginx, "GET /metrics?peers=false, 10,000 upstreams of 10 peers", Ask::Get("/metrics?peers=false")),
        stall(&nginx, "GET /status, 10,000 upstreams of 10 peers", Ask::Get("/status")),
        stall(&nginx, "GET /detail, 10,000 upstreams of 10 peers", Ask::Get("/detail")),
    ];
    // h2load names the address in Host.
    let big = nginx.traffic.ip().to_string();
    nginx.change(&format!("set_upstream('{big}', {{ peers = {} }})", lua_peers(1, PEERS, backend.port)));
    visit_all_peers(&nginx);
    let peers = crate::peers::count(PEERS);
    lines.push(stall(&nginx, &format!("`report`, an upstream of {peers} peers with traffic"), Ask::Report(&big)));
    nginx.change(&format!("delete_upstream('{big}', {{ force = true }})"));
    for first in (0..ROUTES).step_by(BATCH) {
        nginx.eval(&format!(
            "for i = {first}, {} do
                 assert(require('dyups').set_route('customer-' .. i .. '.example.com', 'upstream-' .. i % 10000))
             end",
            first + BATCH - 1
        ));
    }
    lines.push(stall(&nginx, "GET /routes, 100,000 routes", Ask::Get("/routes")));
    nginx.assert_calm();
    lines
}

/// One request to each peer of the upstream that the address of the traffic server names, by turns.
fn visit_all_peers(nginx: &Nginx) {
    let url = format!("http://{}/", nginx.traffic);
    let mut load = Command::new("h2load");
    load.args(["--h1", "-t", "1", "-c", "16", "-n", &PEERS.to_string(), &url]);
    let said = load.output().expect("h2load: make deps FOR=bench installs it").stdout;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains(&format!(" {PEERS} 2xx")), "{said}");
    // The workers add up what has ended ten times a second.
    sleep(Duration::from_millis(500));
}

fn stall(nginx: &Nginx, what: &str, ask: Ask<'_>) -> Line {
    let walls = RefCell::new(Vec::new());
    let bytes = Cell::new(0);
    let with = || {
        let (stall, (wall, size)) = stall_during(nginx, || answer(nginx, ask));
        walls.borrow_mut().push(wall.as_nanos() as f64);
        bytes.set(size);
        stall
    };
    let without = || {
        let wall = Figures::new(walls.borrow().clone()).median();
        stall_during(nginx, || sleep(Duration::from_nanos(wall as u64))).0
    };
    let [with, without] = alternate(ROUNDS, [Box::new(with) as Run<'_>, Box::new(without)]);
    let wall = time(Figures::new(walls.into_inner()).median());
    // A table of Lua has no bytes.
    let size = if bytes.get() > 0 { format!(", {} MB", digits(bytes.get() as f64 / 1e6)) } else { String::new() };
    let what = format!("longest stall of a worker: {what}; done in {wall}{size}");
    let above = with.median() - without.median();
    Line::new(what, time(with.median()), format!("idle: {}", time(without.median())), with.of(&without)).at_most(
        above,
        MOST_STALL_NS,
        |ns| format!("{} above idle", time(ns)),
    )
}

/// The longest that the event loop does not come to its timers while `run` runs, in ns; and the result of that.
fn stall_during<T>(nginx: &Nginx, run: impl FnOnce() -> T) -> (f64, T) {
    assert_eq!(nginx.eval("return require('stall').look()"), "true");
    // The beat comes to know of it within a tenth of a second.
    sleep(Duration::from_millis(150));
    let value = run();
    (nginx.eval("return require('stall').latest()").parse().expect("ns"), value)
}

/// How long an answer took, and its bytes; 0: it has none.
fn answer(nginx: &Nginx, ask: Ask<'_>) -> (Duration, usize) {
    let begin = Instant::now();
    let size = match ask {
        Ask::Get(path) => get(nginx.admin, path),
        Ask::Report(upstream) => {
            let report = nginx.eval(&format!("return #assert(require('dyups').report('{upstream}')).peers"));
            assert_eq!(report, PEERS.to_string());
            0
        }
    };
    (begin.elapsed(), size)
}

/// The bytes of an answer. It is asked for by HTTP/1.0, so it ends with its connection, and may come as it is made.
fn get(address: SocketAddr, path: &str) -> usize {
    let mut stream = TcpStream::connect(address).expect("nginx listens");
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).expect("sent");
    let (mut bytes, mut buffer, mut first) = (0, vec![0; 1 << 18], true);
    loop {
        let count = stream.read(&mut buffer).expect("an answer");
        if first {
            let head = &buffer[..count.min(40)];
            assert!(head.starts_with(b"HTTP/1.1 200 "), "GET {path}: {:?}", String::from_utf8_lossy(head));
        }
        (bytes, first) = (bytes + count, false);
        if count == 0 {
            return bytes;
        }
    }
}

/// Requests at half of the rate that saturates two workers, while ten clients scrape at once, and without.
fn scraped(place: &Place, backend: &Backend) -> Vec<Line> {
    let nginx = start(place, "scraped", 2);
    nginx.change(&format!("set_upstream('asked', {{ peers = {} }})", lua_peers(2, 4, backend.port)));
    let mut clients = Clients::new(CLIENTS, nginx.traffic, "asked");
    let rate = clients.saturating_rate(Duration::from_secs(3)) / 2.0;
    let (clients, last) = (RefCell::new(clients), RefCell::new(Vec::new()));
    let medians = [const { RefCell::new(Vec::new()) }; 2];
    let run = |scrapes: usize| -> Run<'_> {
        let (clients, last, medians, admin) = (&clients, &last, &medians[scrapes.min(1)], nginx.admin);
        Box::new(move || {
            let times = scope(|scope| {
                let scraping: Vec<_> = (0..scrapes).map(|_| scope.spawn(move || scrape(admin))).collect();
                let times = clients.borrow_mut().times(rate, WINDOW);
                let ends = scraping.into_iter().map(|scrape| scrape.join().expect("an answer"));
                last.borrow_mut().extend(ends.reduce(f64::max));
                Figures::new(times)
            });
            medians.borrow_mut().push(times.median());
            times.quantile(0.99)
        })
    };
    let [without, with] = alternate(SCRAPE_ROUNDS, [run(0), run(SCRAPES)]);
    nginx.assert_calm();
    let [quiet, scraped] = medians.map(|medians| Figures::new(medians.into_inner().split_off(1)));
    let last = Figures::new(last.into_inner().split_off(1)).median();
    let line = |what: &str, figures: &Figures, without: &Figures| {
        let what = format!("{rate:.0} requests a second, half of what saturates, during 10 scrapes at once: {what}");
        Line::new(
            what,
            time(figures.median()),
            format!("without scrapes: {}", time(without.median())),
            figures.of(without),
        )
    };
    vec![
        line("median", &scraped, &quiet),
        line(&format!("99 of 100 (the last scrape ends after {})", time(last)), &with, &without),
    ]
}

/// How long one scrape took, in ns.
fn scrape(admin: SocketAddr) -> f64 {
    let begin = Instant::now();
    get(admin, "/metrics");
    begin.elapsed().as_nanos() as f64
}
