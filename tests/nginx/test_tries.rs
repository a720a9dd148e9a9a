//! Three sources say the same of each try: the books of the backends, the access log of nginx, and the statistics.

use super::counted::{Counted, NAME, PROTOCOLS, Protocol, read_until};
use super::gated::Served;
use super::place::Place;
use super::server::Conf;
use super::streams::Streams;
use super::system::{PATIENCE, wait_until};
use super::tries::{self, Book, Try};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Requests before the first worker is killed, and in all.
const QUIET: u64 = 4000;
const REQUESTS: u64 = 5000;
const KILLS: u64 = 3;

const LOCATIONS: &str = r#"
        location /cached/ { proxy_cache answers; proxy_cache_valid 200 1m; proxy_pass http://counted; }
        location /next/ { proxy_next_upstream error timeout http_404; proxy_pass http://counted; }
        location /unbuffered-answer/ { proxy_buffering off; proxy_pass http://counted; }
"#;

/// When each worker came to its timers of a tenth of a second.
const BEATS: &str = r#"
    ngx.timer.every(0.1, function() ngx.shared.beats:lpush(ngx.worker.pid(), ngx.now()) end)
"#;

/// Requests that end by themselves, of each kind. ngx_lua makes the subrequests of the last one in HTTP/1 alone.
const MIXED: [&str; 19] = [
    "/pass/ok",
    "/pass/404",
    "/pass/large",
    "/unbuffered-answer/large",
    "/by-uri/500",
    "/by-name/500",
    "/pass/accel",
    "/exec",
    "/auth/ok",
    "/mirrored/ok",
    "/ssi",
    "/kept/ok",
    "/cached/ok",
    "/next/404",
    "/timeout/late",
    "/pass/reset",
    "/pass/close",
    "/non-idempotent/500",
    "/capture",
];

/// Requests of the other kinds.
const IMPATIENT: u64 = 200;
const MOODY: u64 = 80;

/// nginx with its log, and clients.
struct World {
    counted: Counted,
    log: PathBuf,
    /// Requests that clients have made.
    begun: AtomicU64,
}

impl World {
    /// Three backends, and a peer that refuses.
    fn start(place: &Place) -> World {
        let (mut conf, log) = (Conf::new(place, 2), place.path("tries.log"));
        conf.locations = tries::LOG.replace("@log@", &log.display().to_string()) + LOCATIONS;
        conf.http = format!(
            "{}lua_shared_dict beats 1m;\nproxy_cache_path {} keys_zone=answers:1m use_temp_path=off;\n",
            tries::FORMAT,
            place.workers_dir("cache").display()
        );
        conf.init_worker += BEATS;
        let counted = Counted::with(place, 3, "retry_percent = false", conf);
        counted.post("max_fails=0", true);
        counted.gate.open();
        World { counted, log, begun: AtomicU64::new(0) }
    }

    fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    fn have_begun(&self, count: u64) {
        self.begun.fetch_add(count, Ordering::Relaxed);
    }

    fn wait_for_begun(&self, total: u64) {
        assert!(wait_until(4 * PATIENCE, || self.begun() >= total), "{} of {total} requests", self.begun());
    }

    /// Requests that end by themselves, until there were `total` in all.
    fn mixed(&self, protocol: Protocol, total: u64) {
        let paths = if protocol == Protocol::Http1 { &MIXED[..] } else { &MIXED[..MIXED.len() - 1] };
        while self.begun() < total {
            // Each of 20 connections, or of 5, takes all paths.
            self.have_begun(self.counted.h2load(protocol, 20 * paths.len(), paths));
        }
    }

    /// Clients that go before the answer is there; each second one at once.
    fn impatient(&self, count: u64) {
        for nth in 0..count {
            let mut client = self.counted.connect();
            // It may be to a worker that is killed.
            let _ = write!(client, "GET /pass/late HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
            std::thread::sleep(Duration::from_millis(nth % 2 * 10));
        }
        self.have_begun(count);
    }

    /// Clients that go on, but take back three of four requests.
    fn moody(&self, count: u64) {
        for nth in 0..count / 4 {
            let mut streams = Streams::connect(self.counted.http2);
            let asked = [(); 4].map(|()| streams.get(NAME, "/pass/late"));
            std::thread::sleep(Duration::from_millis(nth % 2 * 10));
            asked.into_iter().skip(1).for_each(|stream| streams.cancel(stream));
            streams.answers(1);
        }
        self.have_begun(count);
    }

    /// Short websockets one after the other, beside a long one.
    fn websockets(&self, done: &AtomicBool) {
        let mut long = self.counted.websocket();
        self.have_begun(1);
        while !done.load(Ordering::Relaxed) {
            let mut short = self.counted.websocket();
            self.have_begun(1);
            for socket in [&mut short, &mut long] {
                socket.write_all(b"there and back\n").expect("sent");
                assert_eq!(read_until(socket, "\n"), "there and back\n");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn logged(&self) -> Vec<Try> {
        tries::logged(&std::fs::read_to_string(&self.log).expect("a log"))
    }

    /// The report, and its peers by server.
    fn reported(&self) -> (Value, BTreeMap<String, Book>) {
        let report = self.counted.nginx.eval("return require('cjson').encode(assert(require('dyups').report('api')))");
        let report: Value = serde_json::from_str(&report).unwrap_or_else(|error| panic!("{report}: {error}"));
        let peers = report["peers"].as_array().expect("a list").iter();
        let of = |peer: &Value| (peer["server"].as_str().expect("text").to_owned(), Book::reported(peer));
        let books = peers.map(of).collect();
        (report, books)
    }

    /// The requests that the backends had, by number and backend.
    fn served(&self) -> BTreeMap<(String, String), Vec<Served>> {
        let mut all: BTreeMap<_, Vec<Served>> = BTreeMap::new();
        for backend in &self.counted.backends {
            let of = |served: &Served| (served.id.clone(), backend.name.clone());
            backend.book().into_iter().for_each(|served| all.entry(of(&served)).or_default().push(served));
        }
        all
    }

    /// Waits until each try of the log is in the book of its backend, with the same answer and as many bytes. Answers those that
    /// backends alone have.
    fn wait_for_the_books(&self, logged: &[Try]) -> Vec<Served> {
        let (mut served, mut lonely) = (BTreeMap::new(), Vec::new());
        let agree = wait_until(PATIENCE, || {
            served = self.served();
            lonely.clear();
            for one in logged.iter().filter(|one| one.sent != 0) {
                let its = served.entry((one.id.clone(), one.server.clone())).or_default();
                match its.iter().position(|served| agree(one, served)) {
                    Some(at) => drop(its.swap_remove(at)),
                    None => lonely.push((one.clone(), its.clone())),
                }
            }
            lonely.is_empty()
        });
        assert!(agree, "{} tries, such as {:#?}", lonely.len(), &lonely[..lonely.len().min(3)]);
        served.into_values().flatten().collect()
    }

    /// Kills a worker after some more requests. Answers its pid, and [`World::counted_until`].
    fn kill(&self, nth: u64) -> (u32, f64) {
        self.wait_for_begun(QUIET + nth * (REQUESTS - QUIET) / (KILLS + 1));
        let pid = self.counted.nginx.worker_pids()[0];
        self.counted.nginx.kill_workers(&[pid]);
        (pid, self.counted_until(pid))
    }

    /// From when on a worker that was killed may not have counted: when it came to its timers for the last time but one. Since then it
    /// has come to that of the statistics once more. 0: it did not live so long.
    fn counted_until(&self, pid: u32) -> f64 {
        let beats = format!("local beats = ngx.shared.beats beats:lpop({pid}) return beats:lpop({pid}) or 0");
        self.counted.nginx.eval(&beats).parse().expect("a time")
    }
}

/// Whether nginx and a backend say the same of a try.
fn agree(one: &Try, served: &Served) -> bool {
    let same_bytes = one.sent == served.read && (one.received == served.written || one.answered().is_none());
    let same_end = match (one.status, one.answered()) {
        (_, Some(status)) => served.status == Some(status),
        // It closed the connection.
        (Some(502), None) => served.status.is_none(),
        // It took too long, for nginx or for the client.
        _ => served.status == Some(200),
    };
    one.worker == served.worker && same_bytes && same_end
}

/// The books without the ends of answers: where the client has gone, they are known to a few milliseconds, since nginx sets them later.
fn all_but_ends(books: &BTreeMap<String, Book>) -> BTreeMap<String, Book> {
    let without = |book: &Book| Book { response: [book.response[0], 0, 0], ..book.clone() };
    books.iter().map(|(server, book)| (server.clone(), without(book))).collect()
}

/// Whether statistics have all that was logged. They may lack these last tries of killed workers, and may have tries of requests that
/// their workers did not log.
fn is_within(statistics: &Book, logged: &Book, last: &Book, unlogged: &[Served]) -> bool {
    let (statistics, logged, last) = (statistics.counts(), logged.counts(), last.counts());
    let of = |counts: &BTreeMap<String, u64>, name: &str| counts.get(name).copied().unwrap_or(0);
    statistics.keys().chain(logged.keys()).all(|name| {
        let more: u64 = match &**name {
            "sent" => unlogged.iter().map(|served| served.read).sum(),
            "received" => unlogged.iter().map(|served| served.written).sum(),
            _ => unlogged.len() as u64,
        };
        let all = of(&logged, name);
        (all - of(&last, name)..=all + more).contains(&of(&statistics, name))
    })
}

#[test]
fn backends_log_and_statistics_agree_on_5000_mixed_requests_but_for_the_last_ones_of_killed_workers() {
    let place = Place::new("tries");
    let world = &World::start(&place);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for protocol in PROTOCOLS {
            scope.spawn(move || world.mixed(protocol, QUIET));
        }
        scope.spawn(|| world.impatient(IMPATIENT));
        scope.spawn(|| world.moody(MOODY));
        scope.spawn(|| world.websockets(&done));
        world.wait_for_begun(QUIET / 2);
        world.counted.nginx.reload();
        world.wait_for_begun(QUIET);
        done.store(true, Ordering::Relaxed);
    });
    agree_on_each_try(world);
    let killed = std::thread::scope(|scope| {
        for protocol in PROTOCOLS {
            scope.spawn(move || world.mixed(protocol, REQUESTS));
        }
        scope.spawn(|| world.impatient(IMPATIENT / 2));
        let _websockets = [(); 6].map(|()| world.counted.websocket());
        (1..=KILLS).map(|nth| world.kill(nth)).collect()
    });
    agree_but_for_the_last(world, &killed);
    world.counted.nginx.assert_calm();
}

/// All of it, while no worker has died.
fn agree_on_each_try(world: &World) {
    world.counted.assert_none_open("mixed requests");
    let logged = world.logged();
    let unlogged = world.wait_for_the_books(&logged);
    assert!(unlogged.is_empty(), "{unlogged:#?}");
    let (expected, mut reported) = (Book::of_peers(&logged), (Value::Null, BTreeMap::new()));
    let agree = wait_until(PATIENCE, || {
        reported = world.reported();
        all_but_ends(&reported.1) == all_but_ends(&expected)
    });
    let (whole, peers) = reported;
    assert!(agree, "{peers:#?}\n{expected:#?}");
    for (server, book) in &peers {
        let apart = book.response[1].abs_diff(expected[server].response[1]);
        assert!(apart <= 2 * (IMPATIENT + MOODY), "{server}: {apart} ms");
    }
    // Of the upstream there are the same.
    let (all, sum) = (Book::reported(&whole).counts(), Book::of_peers(&logged));
    for (name, count) in all {
        let sum: u64 = sum.values().filter_map(|book| book.counts().get(&name).copied()).sum();
        assert_eq!(count, sum, "{name}");
    }
    for (backend, peer) in world.counted.backends.iter().zip(whole["peers"].as_array().expect("a list")) {
        let kept = peer["connect_time"]["kept"].as_u64().expect("a number");
        assert!(kept > 0 && peer["selected"].as_u64() > Some(1_700_000_000_000), "{peer}");
        // Each other try had a connection of its own.
        assert_eq!(backend.accepted() + kept, peers[&backend.name].requests, "{}", backend.name);
    }
    for name in ["retries", "failed", "timeouts", "refused"] {
        assert!(whole[name].as_u64() > Some(500), "{name}: {whole}");
    }
    assert_eq!(whole["uncounted"], 0);
    let log = world.counted.nginx.log();
    assert!(!log.contains("states of tries"), "{log}");
}

/// These workers have died: each with the time until which it had counted.
fn agree_but_for_the_last(world: &World, killed: &BTreeMap<u32, f64>) {
    world.counted.assert_none_open("mixed requests and kills");
    let logged = world.logged();
    let unlogged = world.wait_for_the_books(&logged);
    assert!(unlogged.iter().all(|served| killed.contains_key(&served.worker)), "{unlogged:#?}");
    let is_last = |one: &&Try| killed.get(&one.worker).is_some_and(|&until| one.logged >= until);
    let last: Vec<&Try> = logged.iter().filter(is_last).collect();
    assert!(last.len() < logged.len() / 10, "{} of {}", last.len(), logged.len());
    let (all, last) = (Book::of_peers(&logged), Book::of_peers(last));
    let mut reported = BTreeMap::new();
    let agree = wait_until(PATIENCE, || {
        reported = world.reported().1;
        let lack = |server| last.get(server).cloned().unwrap_or_default();
        all.iter().all(|(server, book)| is_within(&reported[server], book, &lack(server), &unlogged))
    });
    assert!(agree, "{reported:#?}\n{all:#?}\n{last:#?}\n{unlogged:#?}");
}
