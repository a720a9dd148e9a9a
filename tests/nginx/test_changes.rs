//! Every request that begins after the acknowledgement of a change meets the change.

use super::backends::Backends;
use super::client::Client;
use super::load::{Connections, Load, Seen, requests};
use super::place::Place;
use super::server::{Conf, Nginx};
use super::support::attach_as_it_is;
use dyups::shm::history::Change;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// 1,000 requests are shared out evenly among just these backends: not one was picked from another table.
fn assert_even(nginx: &Nginx, backends: &Backends, members: &[usize], what: &str) {
    let seen = requests(nginx.traffic, "api", 1000, 8, Connections::Fresh);
    seen.assert_all_good();
    let mut pids: Vec<u32> = nginx.worker_pids();
    pids.sort_unstable();
    assert_eq!(seen.workers.iter().copied().collect::<Vec<_>>(), pids, "{what}: every worker served some");
    let share = 1000 / members.len() as u64;
    for (index, &count) in backends.take_counts().iter().enumerate() {
        match members.contains(&index) {
            true => assert!(count.abs_diff(share) <= 1, "{what}: backend {index} got {count} instead of {share}±1"),
            false => assert_eq!(count, 0, "{what}: backend {index} is not in the table"),
        }
    }
}

fn changed_table_serves(workers: usize) {
    let place = Place::new("changes");
    let backends = Backends::start(&place, 4);
    let nginx = Nginx::start(&place, &Conf::new(&place, workers));
    nginx.post("api", &backends.servers(&["", ""]));
    assert_even(&nginx, &backends, &[0, 1], "at first");
    for round in 0..6 {
        let third = 2 + round % 2;
        let peer = backends.peer(third, "");
        nginx.change(&format!("add_peer('api', {peer})"));
        assert_even(&nginx, &backends, &[0, 1, third], "after add_peer");
        nginx.change(&format!("delete_peer('api', {peer})"));
        assert_even(&nginx, &backends, &[0, 1], "after delete_peer");

        let name = &backends.names[third];
        nginx.post("api", &(backends.servers(&["", ""]) + &format!("server {name};")));
        assert_even(&nginx, &backends, &[0, 1, third], "after a POST that adds");
        nginx.post("api", &format!("server {name};"));
        assert_even(&nginx, &backends, &[third], "after a POST that replaces");
        nginx.post("api", &backends.servers(&["", ""]));
        assert_even(&nginx, &backends, &[0, 1], "after a POST that takes it out");
    }
    nginx.assert_calm();
}

#[test]
fn a_thousand_fresh_requests_after_each_change_all_meet_the_new_table_of_2_workers() {
    changed_table_serves(2);
}

#[test]
fn a_thousand_fresh_requests_after_each_change_all_meet_the_new_table_of_4_workers() {
    changed_table_serves(4);
}

#[test]
fn a_deleted_upstream_is_gone_for_every_worker_at_once() {
    let place = Place::new("deleted");
    let backends = Backends::start(&place, 2);
    let nginx = Nginx::start(&place, &Conf::new(&place, 4));
    for _ in 0..20 {
        nginx.post("api", &backends.servers(&["", ""]));
        requests(nginx.traffic, "api", 200, 8, Connections::Fresh).assert_all_good();
        assert_eq!(nginx.admin("DELETE", "/upstream/api", "").body, "success");
        let seen = requests(nginx.traffic, "api", 200, 8, Connections::Fresh);
        assert_eq!(seen.statuses.into_iter().collect::<Vec<_>>(), [(502, 200)]);
    }
}

/// The acknowledged deletions of a client, a word a peer: odd while the peer is surely deleted.
///
/// It becomes odd after a deletion was acknowledged, and even before the next addition is sent. A request that finds it odd
/// and just the same when the answer is there cannot have been answered by this peer.
struct Gone(Vec<AtomicU64>);

impl Gone {
    fn new(peers: usize) -> Gone {
        Gone((0..peers).map(|_| AtomicU64::new(0)).collect())
    }

    fn step(&self, peer: usize) {
        self.0[peer].fetch_add(1, Ordering::SeqCst);
    }

    fn all(&self) -> Vec<u64> {
        self.0.iter().map(|word| word.load(Ordering::SeqCst)).collect()
    }
}

/// A client of the admin server that makes one change after the other.
struct Changer {
    client: Client,
}

impl Changer {
    fn send(&mut self, method: &str, path: &str, body: &str) -> (u16, String) {
        let answer = self.client.send(method, "localhost", path, body, false).expect("an answer");
        (answer.status, answer.body)
    }

    fn lua(&mut self, lua: &str) {
        let answer = self.send("POST", "/eval", &format!("return require(\"dyups\").{lua}"));
        assert_eq!(answer, (200, "true".into()), "{lua}");
    }
}

const CHANGES: usize = 10_000;

#[test]
fn ten_thousand_changes_under_load_cost_no_request_and_no_deleted_peer_answers() {
    let place = Place::new("storm");
    let backends = Arc::new(Backends::start(&place, 9));
    let nginx = Nginx::start(&place, &Conf::new(&place, 2));
    // Backend 0 is always there. 1 to 4 come and go in `lua`, one call each; 5 to 8 in `http`, as a whole.
    nginx.post("lua", &backends.servers(&[""; 5]));
    nginx.post("http", &backends.servers(&[""]));
    let gone = Arc::new(Gone::new(9));
    (5..9).for_each(|peer| gone.step(peer));

    let load = {
        let (gone, backends) = (gone.clone(), backends.clone());
        Load::start(nginx.traffic, 6, move |worker| {
            let host = if worker.number % 2 == 0 { "lua" } else { "http" };
            let connections = if worker.number < 2 { Connections::Fresh } else { Connections::Kept };
            let before = gone.all();
            let Some(answer) = worker.get(host, connections) else { return };
            let after = gone.all();
            if let Some(peer) = backends.names.iter().position(|name| *name == answer.body)
                && before[peer] % 2 == 1
                && before[peer] == after[peer]
            {
                worker.seen.wrong.push(format!("{host}: backend {peer} answered after its deletion"));
            }
        })
    };

    std::thread::scope(|scope| {
        let changer = || Changer { client: Client::new(nginx.admin) };
        for own in [[1, 2], [3, 4]] {
            let (mut changer, gone, backends) = (changer(), &gone, &backends);
            scope.spawn(move || {
                for change in 0..CHANGES / 4 {
                    let peer = own[change / 2 % 2];
                    let lua = backends.peer(peer, &format!("weight = {}", 1 + change % 3));
                    if change % 2 == 0 {
                        changer.lua(&format!("delete_peer('lua', {lua})"));
                        gone.step(peer);
                    } else {
                        gone.step(peer);
                        changer.lua(&format!("add_peer('lua', {lua})"));
                    }
                }
            });
        }
        let (mut changer, gone, backends) = (changer(), &gone, &backends);
        scope.spawn(move || {
            let mut there: Vec<usize> = Vec::new();
            for change in 0..CHANGES / 2 {
                // The subsets of 5 to 8, in an order that jumps.
                let next: Vec<usize> = (5..9).filter(|peer| (change * 7) >> (peer - 5) & 1 == 1).collect();
                next.iter().filter(|peer| !there.contains(peer)).for_each(|&peer| gone.step(peer));
                let servers = [0].iter().chain(&next).map(|&peer| format!("server {};", backends.names[peer]));
                let answer = changer.send("POST", "/upstream/http", &servers.collect::<String>());
                assert_eq!(answer, (200, "success".into()));
                there.iter().filter(|peer| !next.contains(peer)).for_each(|&peer| gone.step(peer));
                there = next;
            }
        });
    });
    let seen: Seen = load.stop();
    seen.assert_all_good();
    assert_eq!(seen.broken, 0);
    assert!(seen.total() > 2000, "the load was none: {}", seen.total());
    let served = backends.names.iter().filter(|name| seen.from(name) > 0).count();
    assert_eq!(served, 9, "every peer had its time");
    nginx.assert_calm();
    println!("{} requests during {CHANGES} changes, the slowest {:?}", seen.total(), seen.slowest);
}

#[test]
fn upstreams_that_come_and_go_leave_a_stable_one_alone() {
    let place = Place::new("create-delete");
    let backends = Backends::start(&place, 3);
    let nginx = Nginx::start(&place, &Conf::new(&place, 2));
    nginx.post("stable", &backends.servers(&["weight=5", "", ""]));
    backends.take_counts();
    let load = Load::start(nginx.traffic, 4, |worker| {
        let connections = if worker.number == 0 { Connections::Fresh } else { Connections::Kept };
        worker.get("stable", connections);
    });
    let free_before = nginx.status()["region"]["free"].clone();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let mut changer = Changer { client: Client::new(nginx.admin) };
            let backends = &backends;
            scope.spawn(move || {
                for round in 0..2000 {
                    let name = format!("u{thread}-{}", round % 100);
                    let path = format!("/upstream/{name}");
                    let servers = backends.servers(&["weight=2", "backup", "down"][..1 + round % 3]);
                    match thread {
                        0 => changer
                            .lua(&format!("set_upstream('{name}', {{ peers = {{ {} }} }})", backends.peer(0, ""))),
                        _ => assert_eq!(changer.send("POST", &path, &servers), (200, "success".into())),
                    }
                    if round % 100 == 99 {
                        for back in 0..100 {
                            let name = format!("u{thread}-{back}");
                            match thread {
                                0 => changer.lua(&format!("delete_upstream('{name}', {{ force = true }})")),
                                _ => {
                                    let answer = changer.send("DELETE", &format!("/upstream/{name}"), "");
                                    assert_eq!(answer, (200, "success".into()));
                                }
                            }
                        }
                    }
                }
            });
        }
    });
    let seen = load.stop();
    seen.assert_all_good();
    assert_eq!(seen.broken, 0);
    let counts = backends.take_counts();
    let total = counts.iter().sum::<u64>() as f64;
    // The order is exact while the table stands still, and the other upstreams are not its table.
    for (count, share) in counts.iter().zip([5.0, 1.0, 1.0]) {
        assert!((*count as f64 - total * share / 7.0).abs() <= 5.0, "{counts:?}");
    }
    assert_eq!(nginx.admin("GET", "/list", "").body, "stable\n");
    assert_eq!(nginx.status()["region"]["free"], free_before, "what was deleted gave its memory back");
    nginx.assert_calm();
    println!("{} requests during 12000 changes, the slowest {:?}", seen.total(), seen.slowest);
}

#[test]
fn status_says_since_when_and_by_what_change_a_peer_is_out_or_back() {
    let place = Place::new("operator-events");
    let nginx = Nginx::start(&place, &Conf::new(&place, 2));
    nginx.post("api", "server 10.0.0.1; server 10.0.0.2;");
    let peer = |index: usize| nginx.status()["upstreams"]["api"]["peers"][index].clone();
    assert!(peer(0)["since"].is_null() && peer(0)["cause"].is_null());
    let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after it").as_secs();
    let before = now();
    nginx.change("set_peer('api', { server = '10.0.0.1', status = 'down' }, { by = 'deploy 42' })");
    let down = peer(0);
    assert_eq!(down["cause"], "down by Lua (\"deploy 42\")");
    assert!((before..=now()).contains(&down["since"].as_u64().expect("a time")), "{down}");
    nginx.post("api", "server 10.0.0.1; server 10.0.0.2 drain;");
    let causes = [0, 1].map(|index| peer(index)["cause"].clone());
    assert_eq!(causes, ["up by HTTP from 127.0.0.1", "drain by HTTP from 127.0.0.1"]);
    // Another setting is no event.
    nginx.change("set_peer('api', { server = '10.0.0.1', weight = 5 })");
    assert_eq!(peer(0)["cause"], "up by HTTP from 127.0.0.1");
}

#[test]
fn the_history_has_each_change_with_its_origin_its_versions_and_what_it_did() {
    let place = Place::new("history");
    let upstreams =
        place.write("upstreams.json", r#"{"upstreams": {"filed": {"peers": [{"server": "10.0.0.1:80"}]}}}"#);
    let conf = Conf::new(&place, 2).files(&[&upstreams]);
    let nginx = Nginx::start(&place, &conf);
    nginx.post("api", "server 10.0.0.1; server 10.0.0.2;");
    nginx.change("add_peer('api', { server = '10.0.0.3' }, { by = 'deploy 42' })");
    nginx.change("delete_upstream('api', { force = true })");
    let table = attach_as_it_is(&conf.shm_path, 8 << 20);
    let all = table.region().history().expect("one").changes().expect("readable");
    let file = format!("file {}", upstreams.display());
    let expected = [
        ("filed", file.get(..64).unwrap_or(&file), [0, 1], "0 -> 1 peers (1 added, 0 removed, 0 changed), version 1"),
        ("api", "HTTP from 127.0.0.1", [0, 2], "0 -> 2 peers (2 added, 0 removed, 0 changed), version 2"),
        ("api", "Lua (\"deploy 42\")", [2, 3], "2 -> 3 peers (1 added, 0 removed, 0 changed), version 3"),
        ("api", "Lua", [3, 0], "3 -> 0 peers (0 added, 3 removed, 0 changed), version 4"),
    ];
    let told = |change: &Change| (change.name.clone(), change.by.clone(), change.versions, change.summary.clone());
    let expected =
        expected.map(|(name, by, versions, what)| (name.to_owned(), by.to_owned(), versions, what.to_owned()));
    assert_eq!(all.iter().map(told).collect::<Vec<_>>(), expected);
    assert!(all.iter().all(|change| change.time > 1_700_000_000_000), "{all:?}");
}
