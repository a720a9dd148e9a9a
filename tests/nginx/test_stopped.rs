//! Workers that are stopped, and wake to another table.

use super::backends::Backends;
use super::client::{Client, Response};
use super::place::Place;
use super::server::{Conf, Nginx};
use super::support::memory;
use super::system::{signal, stop};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A thousand changes a second for ten seconds. `api` goes from one backend to another, and others come and go in the memory
/// that it leaves. Answers the number of changes.
const CHANGES: &str = r#"
local dyups, one, other, last = require "dyups", "@one@", "@other@", "@last@"
local function set(name, server)
    assert(dyups.set_upstream(name, { method = "chash", peers = { { server = server } } }))
end
ngx.update_time()
local begun, done = ngx.now(), 0
while true do
    local due = (ngx.now() - begun) * 1000
    if due >= 10000 then break end
    while done < due do
        done = done + 1
        set("api", done % 2 == 0 and one or other)
        if done % 4 == 0 then set("passing", "127.0.0.1:1") end
        if done % 4 == 2 then dyups.delete_upstream("passing", { force = true }) end
    end
    ngx.sleep(0.001)
    ngx.update_time()
end
dyups.delete_upstream("passing", { force = true })
set("api", last)
return done
"#;

fn worker_of(answer: &Response) -> u32 {
    answer.header("x-worker").and_then(|pid| pid.parse().ok()).expect("X-Worker")
}

/// A kept connection to each worker, by its pid. Each has been asked for `host` there.
fn one_connection_each(address: SocketAddr, host: &str, path: &str, workers: &[u32]) -> BTreeMap<u32, Client> {
    let mut found = BTreeMap::new();
    while found.len() < workers.len() {
        let mut client = Client::new(address);
        let answer = client.get(host, path).expect("an answer");
        found.entry(worker_of(&answer)).or_insert(client);
    }
    found
}

/// One after the other until it is over: each is good. How many there were, and the slowest.
fn ask_until(over: &AtomicBool, mut client: Client, good: &[&str]) -> (u64, Duration) {
    let (mut count, mut slowest) = (0, Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let answer = client.get("api", "/").expect("an answer");
        assert!(answer.status == 200 && good.contains(&answer.body.as_str()), "{answer:?}");
        slowest = slowest.max(begun.elapsed());
        count += 1;
    }
    (count, slowest)
}

#[test]
fn three_of_four_workers_stopped_for_ten_seconds_hold_up_nobody_and_wake_to_the_table_as_it_is() {
    let place = Place::new("stopped");
    let backends = Backends::start(&place, 4);
    let [first, one, other, last] = [0, 1, 2, 3].map(|index| backends.names[index].as_str());
    let nginx = Nginx::start(&place, &Conf::new(&place, 4));
    nginx.change(&format!("set_upstream('api', {{ method = 'chash', peers = {{ {{ server = '{first}' }} }} }})"));
    let used = nginx.status()["region"]["used"].clone();

    let workers = nginx.worker_pids();
    let mut clients = one_connection_each(nginx.traffic, "api", "/", &workers);
    let mut admins = one_connection_each(nginx.admin, "localhost", "/list", &workers);
    let (live, client) = clients.pop_first().expect("four");
    let mut admin = admins.remove(&live).expect("four");
    let private = || workers.iter().map(|&pid| (pid, memory::private(pid))).collect::<BTreeMap<u32, u64>>();
    let before = private();
    assert!(clients.keys().all(|&pid| stop(pid)), "they stand");

    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| ask_until(&over, client, &[first, one, other, last]));
        // Each of these has a request in its socket when it wakes.
        let asked: Vec<_> = clients
            .iter_mut()
            .map(|(&pid, client)| (pid, scope.spawn(|| [client.get("api", "/"), client.get("api", "/?key=k")])))
            .collect();
        let changes = CHANGES.replace("@one@", one).replace("@other@", other).replace("@last@", last);
        let answer = admin.send("POST", "localhost", "/eval", &changes, false).expect("an answer");
        let done: u64 = answer.body.parse().unwrap_or_else(|_| panic!("{answer:?}"));
        assert_eq!((worker_of(&answer), answer.status), (live, 200));
        for &(pid, _) in &asked {
            assert!(signal(pid as i32, libc::SIGCONT));
        }
        for (pid, answers) in asked {
            for answer in answers.join().expect("a client") {
                let answer = answer.expect("an answer");
                assert_eq!((answer.status, answer.body.as_str(), worker_of(&answer)), (200, last, pid));
            }
        }
        over.store(true, Ordering::Relaxed);
        let (count, slowest) = load.join().expect("a client");
        println!("{done} changes of api, {count} requests beside three stopped workers, the slowest took {slowest:?}");
        // A process that is held up waits for all of the ten seconds. A machine that is busy with other things makes one wait
        // too.
        assert!(done > 5000 && count > 1000 && slowest < Duration::from_secs(5));
    });
    for (pid, after) in private() {
        assert!(after < before[&pid] + 4096, "worker {pid}: {after} KiB of its own after {} KiB", before[&pid]);
    }
    let region = &nginx.status()["region"];
    assert_eq!((&region["used"], region["repairs"].as_u64()), (&used, Some(0)));
    nginx.assert_calm();
}
