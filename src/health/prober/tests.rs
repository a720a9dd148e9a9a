//! Workers that share a table, on a clock of these tests' own.

use super::shared::READY;
use super::*;
use crate::config::value::parse;
use crate::shm::clock::now_ms;
use crate::state::failures::tenths;
use crate::state::slow_start;
use crate::table::ops::Absent;
use crate::upstream::{Address, Peer, PeerPatch, Upstream};
use std::collections::BTreeSet;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(1);

/// A table, its workers, and the time.
struct World {
    table: Table,
    dir: std::path::PathBuf,
    workers: Vec<Prober>,
    now: u64,
    news: Vec<String>,
}

/// A probe that a worker has begun: whose, its number, and where it goes.
struct Begun {
    worker: usize,
    id: u32,
    orders: Orders,
}

impl World {
    fn new(name: &str, workers: u32) -> World {
        World::sized(name, workers, 1 << 20)
    }

    fn sized(name: &str, workers: u32, size: u64) -> World {
        let dir = std::env::temp_dir().join(format!("dyups-prober-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("room");
        let (table, _) = Table::open(&dir.join("region"), size).expect("room");
        let slots = 0..workers;
        slots.clone().for_each(|slot| table.region().cells().expect("some").activate(slot).expect("room"));
        let workers = slots.map(|slot| Prober::new(slot, u64::from(slot) + 5, Rules::NEWEST)).collect();
        World { table, dir, workers, now: 1 << 33, news: Vec::new() }
    }

    fn set(&self, name: &str, servers: &[&str], options: &str) {
        let check = crate::config::check::read(&parse(options.as_bytes()).expect("JSON"), "").expect("a check");
        self.put(name, servers, Some(check));
    }

    fn put(&self, name: &str, servers: &[&str], check: Option<crate::upstream::Check>) {
        let peer = |server: &&str| Peer::new(Address::from_server(server).expect("one"));
        let peers = servers.iter().map(peer).collect();
        let upstream = Upstream { name: name.into(), peers, check, own_check: true, ..Upstream::default() };
        self.table.set_upstream(&upstream, WAIT).expect("room");
    }

    fn delete(&self, name: &str) {
        self.table.delete_upstream(name, true, WAIT).expect("it is there");
    }

    /// The probes that these workers begin within so many milliseconds.
    fn begin(&mut self, workers: &[usize], ms: u64) -> Vec<Begun> {
        let until = self.now + ms;
        let mut begun = Vec::new();
        while self.now < until {
            self.now += 10;
            for &worker in workers {
                let prober = &mut self.workers[worker];
                prober.tick(&self.table, self.now, || 0).expect("sound");
                while let Some((id, orders)) = prober.next(&self.table, self.now).expect("sound") {
                    begun.push(Begun { worker, id, orders });
                }
            }
        }
        begun
    }

    /// The same; each ends at once, well or not as `is_well` says. Answers the peers that were probed, in order, and their
    /// workers.
    fn run(&mut self, workers: &[usize], ms: u64, is_well: impl Fn(&str) -> bool) -> Vec<(String, usize)> {
        let until = self.now + ms;
        let mut probed = Vec::new();
        while self.now < until {
            for begun in self.begin(workers, 10) {
                probed.push((server(&begun.orders), begun.worker));
                self.end(&begun, is_well(&server(&begun.orders)));
            }
        }
        probed
    }

    fn end(&mut self, begun: &Begun, ok: bool) {
        let prober = &mut self.workers[begun.worker];
        let answer: &[u8] = if ok { b"HTTP/1.1 200 OK\r\n\r\n" } else { b"HTTP/1.1 500 No\r\n\r\n" };
        assert_eq!(prober.feed(begun.id, answer, self.now), 0);
        prober.end(&self.table, begun.id, Stage::Done, b"", self.now).expect("sound");
        self.news.extend(std::iter::from_fn(|| prober.notice()).map(|event| event.to_string()));
    }

    /// The states of an upstream's peers, in a word each.
    fn states(&self, name: &str) -> Vec<&'static str> {
        let states = crate::status::peers::states(&self.table, name).expect("sound");
        states.iter().map(|peer| peer.state.name()).collect()
    }

    /// The causes of these states, as `status` shows them.
    fn causes(&self, name: &str) -> Vec<Option<String>> {
        let states = crate::status::peers::states(&self.table, name).expect("sound");
        states.iter().map(|peer| peer.event(&self.table).map(|event| event.text)).collect()
    }

    fn news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.news)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn server(orders: &Orders) -> String {
    format!("{}:{}", orders.host, orders.port.unwrap_or(0))
}

fn servers(count: usize) -> Vec<String> {
    (1..=count).map(|i| format!("10.0.{}.{}:80", i / 256, i % 256)).collect()
}

fn texts(servers: &[String]) -> Vec<&str> {
    servers.iter().map(String::as_str).collect()
}

const EVERY_SECOND: &str = r#"{"interval": 1000, "timeout": 500, "rise": 2, "fall": 3}"#;

#[test]
fn each_peer_is_probed_once_an_interval_by_the_one_worker_whose_share_it_is() {
    let mut world = World::new("shares", 4);
    let all = servers(100);
    world.set("api", &texts(&all), EVERY_SECOND);
    let first = world.run(&[0, 1, 2, 3], 1100, |_| true);
    let names: BTreeSet<&String> = first.iter().map(|(server, _)| server).collect();
    assert!(names.len() == 100 && (100..=125).contains(&first.len()), "{} {}", names.len(), first.len());
    let later = world.run(&[0, 1, 2, 3], 10_000, |_| true);
    assert!((950..=1060).contains(&later.len()), "{}", later.len());
    for server in &all {
        let workers: BTreeSet<usize> = later.iter().filter(|(probed, _)| probed == server).map(|&(_, by)| by).collect();
        assert_eq!(workers.len(), 1, "{server}");
    }
    let share = |worker| later.iter().filter(|&&(_, by)| by == worker).count();
    assert!((0..4).all(|worker| share(worker) > 100), "{:?}", [0, 1, 2, 3].map(share));
}

#[test]
fn first_probes_are_spread_and_later_ones_do_not_meet() {
    let mut world = World::new("spread", 1);
    world.set("api", &texts(&servers(100)), EVERY_SECOND);
    let a_tenth: Vec<usize> = (0..60).map(|_| world.run(&[0], 100, |_| true).len()).collect();
    assert!(a_tenth[1..].iter().all(|probes| (1..30).contains(probes)), "{a_tenth:?}");
}

#[test]
fn a_probe_begins_when_it_is_due_and_not_when_all_leases_are_looked_at() {
    let mut world = World::new("fine", 1);
    world.set("api", &texts(&servers(100)), EVERY_SECOND);
    world.run(&[0], 2000, |_| true);
    let at_once: Vec<usize> = (0..500).map(|_| world.run(&[0], 10, |_| true).len()).collect();
    let (with_some, most) = (at_once.iter().filter(|&&probes| probes > 0).count(), at_once.iter().max());
    assert!(with_some > 250 && most < Some(&8), "{with_some} {most:?}");
    // Long probes, whose next ones are due soon after their end.
    let mut world = World::new("long", 1);
    world.set("api", &["10.0.0.1:80"], r#"{"interval": 1000, "timeout": 1000}"#);
    let mut late = Vec::new();
    let mut due = None;
    while late.len() < 40 {
        let begun = world.begin(&[0], 10);
        let Some(begun) = begun.first() else { continue };
        late.extend(due.map(|due| (world.now as Millis).wrapping_sub(due)));
        world.begin(&[0], 900);
        world.end(begun, true);
        due = Lease(world.table.region().cells().expect("some").lease(1).expect("inside")).at();
    }
    assert!(late.iter().all(|&ms| ms < 10), "{late:?}");
}

#[test]
fn a_peer_goes_down_after_fall_failures_and_comes_up_after_rise_successes_and_each_is_said_once() {
    let mut world = World::new("rise", 2);
    world.set("api", &["10.0.0.1:80", "10.0.0.2:80"], EVERY_SECOND);
    world.run(&[0, 1], 2000, |_| true);
    assert_eq!((world.states("api"), world.news()), (vec!["up", "up"], vec![]));
    let until_down = world.run(&[0, 1], 6000, |server| server != "10.0.0.2:80");
    assert!(until_down.iter().filter(|(server, _)| server == "10.0.0.2:80").count() >= 5);
    assert_eq!(world.states("api"), ["up", "unhealthy"]);
    assert_eq!(
        world.news(),
        [
            "upstream api: peer 10.0.0.2:80 went from up to down after 3 failed probes: status 500, which is not one of valid_statuses"
        ]
    );
    let why = "3 failed probes: status 500, which is not one of valid_statuses";
    assert_eq!(world.causes("api"), [None, Some(why.to_owned())]);
    world.run(&[0, 1], 4000, |_| true);
    assert_eq!(world.states("api"), ["up", "up"]);
    assert_eq!(world.causes("api"), [None, Some("2 good probes: answers as it should".to_owned())]);
    assert_eq!(
        world.news(),
        ["upstream api: peer 10.0.0.2:80 went from down to up after 2 good probes: answers as it should"]
    );
}

#[test]
fn the_share_of_a_worker_that_stops_moves_within_two_intervals_and_what_it_finds_then_counts_for_nothing() {
    for (interval, timeout) in [(300u64, 100), (1000, 900), (3000, 2000), (1000, 60_000)] {
        let mut world = World::new(&format!("stops-{interval}-{timeout}"), 3);
        let options = format!(r#"{{"interval": {interval}, "timeout": {timeout}, "fall": 1}}"#);
        world.set("api", &texts(&servers(30)), &options);
        world.run(&[0, 1, 2], 2 * interval, |_| true);
        // Worker 0 has begun a probe, and is stopped.
        let (held, mut last) = loop {
            let (held, rest): (Vec<_>, Vec<_>) =
                world.begin(&[0, 1, 2], 10).into_iter().partition(|begun| begun.worker == 0);
            let now = world.now;
            rest.iter().for_each(|begun| world.end(begun, true));
            if !held.is_empty() {
                break (
                    held,
                    texts(&servers(30)).iter().map(|&server| (server.to_string(), now)).collect::<HashMap<_, _>>(),
                );
            }
        };
        let most = if timeout > interval { interval.max(READY + 150) + interval } else { 2 * interval };
        for _ in 0..300 {
            for (server, _) in world.run(&[1, 2], 10, |_| true) {
                let since = world.now - last.insert(server.clone(), world.now).expect("one of them");
                assert!(since <= most, "{server} after {since} ms at {interval}");
            }
        }
        assert!(last.values().all(|&at| world.now - at <= most), "{interval}");
        held.iter().for_each(|begun| world.end(begun, false));
        assert_eq!((world.news(), world.states("api").iter().all(|&state| state == "up")), (vec![], true));
        // It is back, and gets its share again.
        world.run(&[0, 1, 2], 3 * interval, |_| true);
        let again = world.run(&[0, 1, 2], interval, |_| true);
        assert!(again.iter().filter(|&&(_, by)| by == 0).count() > 3 && again.len() <= 34, "{}", again.len());
    }
}

#[test]
fn who_slept_while_nobody_else_was_there_says_nothing_of_its_peers() {
    let mut world = World::new("slept", 1);
    world.set("api", &texts(&servers(30)), r#"{"interval": 1000, "timeout": 500, "fall": 1}"#);
    let held = world.begin(&[0], 400);
    assert!(held.len() > 3);
    world.now += 3_600_000;
    held.iter().for_each(|begun| world.end(begun, false));
    assert_eq!((world.news(), world.states("api").iter().all(|&state| state == "up")), (vec![], true));
    let probed: BTreeSet<String> = world.run(&[0], 1000, |_| true).into_iter().map(|(server, _)| server).collect();
    assert_eq!(probed.len(), 30);
}

#[test]
fn a_worker_that_is_late_makes_no_second_probe_beside_the_first() {
    let mut world = World::new("late", 1);
    world.set("api", &["10.0.0.1:80"], r#"{"interval": 1000, "timeout": 500}"#);
    let held = std::iter::repeat_with(|| world.begin(&[0], 10)).find(|begun| !begun.is_empty()).expect("one");
    assert_eq!((held.len(), world.begin(&[0], 1000).len()), (1, 0));
    world.end(&held[0], false);
    assert_eq!(world.begin(&[0], 300).len(), 1);
}

#[test]
fn probes_whose_end_nobody_tells_do_not_take_the_place_of_others_for_ever() {
    let mut world = World::new("lost", 1);
    world.set("api", &texts(&servers(30)), r#"{"interval": 1000, "timeout": 500, "concurrency": 3}"#);
    assert_eq!(world.begin(&[0], 1000).len(), 3);
    world.run(&[0], 2000, |_| true);
    let probed: BTreeSet<String> = world.run(&[0], 1100, |_| true).into_iter().map(|(server, _)| server).collect();
    assert_eq!((probed.len(), world.workers[0].running()), (30, 0));
}

#[test]
fn a_worker_that_is_full_says_so_and_leaves_no_upstream_without_probes() {
    let mut world = World::new("full", 1);
    let long = r#"{"interval": 1000, "timeout": 60000, "concurrency": 1000}"#;
    world.set("hung", &texts(&servers(400)), long);
    let mut held = world.begin(&[0], 2000);
    assert_eq!(held.len(), MOST_AT_ONCE);
    world.set("api", &["10.1.0.1:80"], EVERY_SECOND);
    let probed = world.run(&[0], 5000, |_| true);
    assert!((4..=6).contains(&probed.len()) && probed.iter().all(|(server, _)| server == "10.1.0.1:80"), "{probed:?}");
    held.drain(..).for_each(|begun| world.end(&begun, true));
    // As slow as that are all.
    for _ in 0..20 {
        let begun = world.begin(&[0], 900);
        begun.iter().for_each(|begun| world.end(begun, true));
    }
    let news = world.news();
    assert!(news.len() == 1 && news[0].contains("its 400 peers") && news[0].contains("at most 256 probes"), "{news:?}");
}

#[test]
fn each_of_very_many_that_change_at_once_is_told() {
    let mut world = World::sized("many", 1, 64 << 20);
    for i in 0..5000 {
        world.set(&format!("api-{i}"), &["10.0.0.1:80"], r#"{"interval": 1000, "timeout": 500, "fall": 1}"#);
    }
    world.run(&[0], 1000, |_| true);
    world.run(&[0], 2000, |_| false);
    assert_eq!(world.news().len(), 5000);
}

#[test]
fn an_upstream_that_changes_often_has_no_more_turns_than_others() {
    let mut world = World::new("turns", 1);
    for i in 0..200u32 {
        world.set("api", &["10.0.0.1:80", "10.0.0.2:80"], &format!(r#"{{"interval": 10, "timeout": {}}}"#, 1000 + i));
        world.now += 100;
        world.workers[0].tick(&world.table, world.now, || 0).expect("sound");
    }
    assert!(world.workers[0].turns.len() <= 1, "{}", world.workers[0].turns.len());
}

#[test]
fn a_worker_that_shuts_down_gives_its_peers_to_the_others_at_once() {
    let mut world = World::new("leaves", 2);
    world.set("api", &texts(&servers(40)), r#"{"interval": 10000, "timeout": 9000}"#);
    world.run(&[0, 1], 10_000, |_| true);
    let held = world.begin(&[0], 1000);
    world.workers[0].stop(&world.table, world.now).expect("sound");
    let probed: Vec<String> = world.run(&[1], 300, |_| true).into_iter().map(|(server, _)| server).collect();
    assert!(held.iter().all(|begun| probed.contains(&server(&begun.orders))), "{} {}", held.len(), probed.len());
    let stopped = &mut world.workers[0];
    assert_eq!((stopped.running(), stopped.feed(held[0].id, b"", world.now)), (0, 0));
}

#[test]
fn one_address_with_one_check_is_probed_once_for_all_upstreams_that_have_it() {
    let mut world = World::new("groups", 2);
    for name in ["a", "b", "c"] {
        world.set(name, &["10.0.0.1:80", "10.0.0.2:80"], EVERY_SECOND);
    }
    world.set("other", &["10.0.0.1:80"], r#"{"interval": 1000, "timeout": 500, "url": "/other"}"#);
    world.run(&[0, 1], 1000, |_| true);
    let probed = world.run(&[0, 1], 10_000, |server| server != "10.0.0.1:80");
    let of = |name: &str| probed.iter().filter(|(server, _)| server == name).count();
    assert!((19..=21).contains(&of("10.0.0.1:80")) && (9..=11).contains(&of("10.0.0.2:80")), "{}", probed.len());
    for name in ["a", "b", "c"] {
        assert_eq!(world.states(name), ["unhealthy", "up"], "{name}");
    }
    let news = world.news();
    assert_eq!((news.len(), news.iter().filter(|line| line.contains("upstream other: ")).count()), (4, 1), "{news:?}");
    // The first of them goes; the others are probed as before.
    world.delete("a");
    let probed = world.run(&[0, 1], 10_000, |_| true);
    let of = |name: &str| probed.iter().filter(|(server, _)| server == name).count();
    assert!((19..=21).contains(&of("10.0.0.1:80")) && (9..=11).contains(&of("10.0.0.2:80")), "{}", probed.len());
    assert_eq!((world.states("b"), world.states("c")), (vec!["up", "up"], vec!["up", "up"]));
}

#[test]
fn who_was_deleted_is_not_probed_and_not_judged_any_more() {
    let mut world = World::new("deleted", 2);
    world.set("api", &["10.0.0.1:80", "10.0.0.2:80"], r#"{"interval": 1000, "timeout": 500, "fall": 1}"#);
    let held = loop {
        let held = world.begin(&[0, 1], 10);
        if held.iter().any(|begun| server(&begun.orders) == "10.0.0.1:80") {
            break held;
        }
    };
    world.set("api", &["10.0.0.2:80"], r#"{"interval": 1000, "timeout": 500, "fall": 1}"#);
    held.iter().for_each(|begun| world.end(begun, server(&begun.orders) != "10.0.0.1:80"));
    let probed = world.run(&[0, 1], 5000, |_| true);
    assert!(probed.iter().all(|(server, _)| server == "10.0.0.2:80") && probed.len() >= 4, "{probed:?}");
    assert_eq!(world.news(), [""; 0]);
    // It is due, and goes before its turn.
    let prober = &mut world.workers[0];
    while prober.turns.is_empty() {
        world.now += 10;
        prober.tick(&world.table, world.now, || 0).expect("sound");
    }
    world.table.delete_upstream("api", true, WAIT).expect("there");
    assert!(prober.next(&world.table, world.now).is_ok_and(|next| next.is_none()));
}

#[test]
fn an_upstream_that_is_replaced_keeps_the_states_of_its_peers_and_one_whose_check_begins_anew_does_not() {
    let mut world = World::new("replaced", 1);
    let options = r#"{"interval": 1000, "timeout": 500, "fall": 1}"#;
    world.set("api", &["10.0.0.1:80"], options);
    world.run(&[0], 3000, |_| false);
    world.set("api", &["10.0.0.3:80", "10.0.0.1:80"], options);
    assert_eq!(world.states("api"), ["up", "unhealthy"]);
    world.put("api", &["10.0.0.3:80", "10.0.0.1:80"], None);
    assert_eq!((world.states("api"), world.run(&[0], 3000, |_| false).len()), (vec!["up", "up"], 0));
    world.set("api", &["10.0.0.3:80", "10.0.0.1:80"], options);
    assert_eq!(world.states("api"), ["up", "up"]);
}

#[test]
fn with_default_down_a_peer_is_out_until_probes_have_found_it_up() {
    let mut world = World::new("default-down", 1);
    world.set("api", &["10.0.0.1:80"], r#"{"interval": 1000, "timeout": 500, "default_down": true, "rise": 2}"#);
    assert_eq!(world.states("api"), ["checking"]);
    while world.run(&[0], 10, |_| true).is_empty() {}
    assert_eq!(world.states("api"), ["checking"], "one of two");
    world.run(&[0], 2200, |_| true);
    assert_eq!(world.states("api"), ["up"]);
    world.set(
        "api",
        &["10.0.0.1:80", "10.0.0.2:80"],
        r#"{"interval": 1000, "timeout": 500, "default_down": true, "rise": 2}"#,
    );
    assert_eq!(world.states("api"), ["up", "checking"]);
    world.run(&[0], 2200, |_| false);
    assert_eq!(world.states("api"), ["up", "unhealthy"]);
}

#[test]
fn a_peer_that_probes_bring_back_starts_slowly_and_those_of_a_new_table_do_not() {
    const SLOWLY: u32 = 100_000;
    let mut world = World::new("slowly", 1);
    let check = r#"{"interval": 1000, "timeout": 500, "default_down": true, "rise": 2, "fall": 3}"#;
    world.set("api", &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"], check);
    let slowly = |world: &World, server: &str| {
        let address = Address::from_server(server).expect("one");
        let patch = PeerPatch { slow_start: Some(SLOWLY), ..PeerPatch::new(address) };
        world.table.put_peer("api", &patch, Absent::Make, WAIT).expect("room");
    };
    ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"].iter().for_each(|server| slowly(&world, server));
    // Peers have their cells in their order, from 1 on.
    let now = || tenths(now_ms());
    let starting = |world: &World| {
        let cells = world.table.region().cells().expect("some");
        (1..=4).filter(|&cell| slow_start::goes_on(&cells, cell, SLOWLY, now()).expect("inside")).collect::<Vec<_>>()
    };
    world.run(&[0], 4000, |_| true);
    assert_eq!((world.states("api"), starting(&world)), (vec!["up"; 3], vec![]), "a new table");
    world.run(&[0], 6000, |server| server != "10.0.0.2:80");
    assert_eq!((world.states("api"), starting(&world)), (vec!["up", "unhealthy", "up"], vec![]));
    world.run(&[0], 4000, |_| true);
    assert_eq!((world.states("api"), starting(&world)), (vec!["up"; 3], vec![2]), "it was down");
    // One that comes to others starts when probes have found it up, and not when it comes.
    slowly(&world, "10.0.0.4:80");
    assert_eq!((world.states("api")[3], starting(&world)), ("checking", vec![2, 4]));
    let cells = world.table.region().cells().expect("some");
    let generation = cells.generation(4).expect("inside");
    slow_start::begin(&cells, 4, generation, now().wrapping_sub(5000)).expect("inside");
    world.run(&[0], 4000, |_| true);
    let cells = world.table.region().cells().expect("some");
    let start = slow_start::of(&cells, 4).expect("inside").expect("it has begun");
    assert_eq!((world.states("api")[3], start.part(SLOWLY, now())), ("up", Some(slow_start::WHOLE / 10)));
}

#[test]
fn a_probe_that_was_under_way_when_its_check_changed_leaves_nobody_unprobed() {
    let mut world = World::new("changed", 1);
    let options = |fall: u8| format!(r#"{{"interval": 1000, "timeout": 60000, "fall": {fall}}}"#);
    world.set("api", &["10.0.0.1:80"], &options(3));
    let held = std::iter::repeat_with(|| world.begin(&[0], 10)).find(|begun| !begun.is_empty()).expect("one");
    world.set("api", &["10.0.0.1:80"], &options(5));
    world.begin(&[0], 200);
    world.end(&held[0], true);
    assert_eq!(world.begin(&[0], 1000).len(), 1);
}

#[test]
fn a_peer_that_is_down_or_changing_is_probed_at_another_interval() {
    let mut world = World::new("interval", 1);
    world.set("api", &["10.0.0.1:80"], r#"{"interval": 5000, "interval_down": 500, "timeout": 400, "fall": 3}"#);
    world.run(&[0], 5000, |_| true);
    let probed = world.run(&[0], 10_000, |_| false);
    assert!((10..=22).contains(&probed.len()), "{}", probed.len());
    world.run(&[0], 1500, |_| true);
    let probed = world.run(&[0], 10_000, |_| true);
    assert!((1..=3).contains(&probed.len()), "{}", probed.len());
}

#[test]
fn no_more_are_under_way_than_concurrency_allows_and_it_is_said_once_when_that_does_not_get_round() {
    // Probes of 100 ms, three at a time.
    for (count, real) in [(50, 1400..2200), (1500, 45_000..65_000)] {
        let mut world = World::new(&format!("concurrency-{count}"), 1);
        let options = r#"{"interval": 1000, "timeout": 1000, "concurrency": 3}"#;
        world.set("api", &texts(&servers(count)), options);
        let mut running: Vec<(u64, Begun)> = Vec::new();
        for _ in 0..1000 {
            let begun = world.begin(&[0], 10);
            let now = world.now;
            running.extend(begun.into_iter().map(|begun| (now + 100, begun)));
            assert!(running.len() <= 3 && world.workers[0].running() == running.len());
            let (over, rest): (Vec<_>, Vec<_>) = running.into_iter().partition(|&(until, _)| until <= now);
            running = rest;
            over.iter().for_each(|(_, begun)| world.end(begun, true));
        }
        let news = world.news();
        let said = format!("its {count} peers are probed every ");
        assert!(news.len() == 1 && news[0].contains(&said), "{news:?}");
        let every: u64 =
            news[0].split("every ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("a number");
        assert!(real.contains(&every), "{count}: {every}");
    }
}

#[test]
fn after_a_long_time_without_workers_not_all_are_probed_at_once() {
    let mut world = World::new("restart", 1);
    world.set("api", &texts(&servers(100)), EVERY_SECOND);
    world.run(&[0], 2000, |_| true);
    for pause in [100_000, 3 << 30] {
        world.now += pause;
        world.workers[0] = Prober::new(0, 7, Rules::NEWEST);
        let a_tenth: Vec<usize> = (0..10).map(|_| world.run(&[0], 100, |_| true).len()).collect();
        assert!(a_tenth.iter().all(|&probes| probes < 30) && a_tenth.iter().sum::<usize>() >= 90, "{a_tenth:?}");
    }
}

#[test]
fn probes_that_bring_a_peer_up_clear_the_failures_of_requests_and_others_do_not() {
    use crate::state::failures::{Health, tenths};
    let mut world = World::new("passive", 1);
    world.set("api", &["10.0.0.1:80"], r#"{"interval": 1000, "timeout": 500, "fall": 1, "rise": 1}"#);
    world.run(&[0], 2000, |_| true);
    let fail = |world: &World| {
        let cells = world.table.region().cells().expect("some");
        let word = cells.health(1).expect("inside");
        assert!(cells.set_health(1, word, Health(word).failed(tenths(world.now)).0).expect("inside"));
    };
    fail(&world);
    world.run(&[0], 2000, |_| true);
    assert_eq!(world.states("api"), ["unavail"], "probes say that it is up, and said so before");
    world.run(&[0], 2000, |_| false);
    assert_eq!(world.states("api"), ["unhealthy"]);
    world.run(&[0], 2000, |_| true);
    assert_eq!(world.states("api"), ["up"]);
}

#[test]
fn peers_that_are_down_or_about_to_go_are_not_probed() {
    let mut world = World::new("status", 1);
    world.set("api", &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"], EVERY_SECOND);
    let mut upstream = world.table.upstream("api").expect("there").upstream;
    (upstream.peers[0].status, upstream.peers[1].status) =
        (crate::upstream::Status::Down, crate::upstream::Status::Drain);
    world.table.set_upstream(&upstream, WAIT).expect("room");
    let probed: BTreeSet<String> = world.run(&[0], 3000, |_| true).into_iter().map(|(server, _)| server).collect();
    assert_eq!(probed.into_iter().collect::<Vec<_>>(), ["10.0.0.2:80", "10.0.0.3:80"]);
}

#[test]
fn when_too_few_are_up_all_are_picked_from_and_no_longer_when_enough_are() {
    use crate::balance::pick::{Ask, Handle, Picked};
    let mut world = World::new("panic", 1);
    let options = r#"{"interval": 1000, "timeout": 500, "fall": 1, "rise": 1, "panic_threshold": 50}"#;
    let four = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"];
    world.set("api", &four, options);
    let mut handle = Handle::new(b"api");
    let mut picked_from = |world: &World| {
        let mut picked = Picked::default();
        let mut one = || handle.pick(&world.table, Ask::default(), false, &mut picked).expect("somebody");
        (0..40).map(|_| one()).collect::<BTreeSet<u32>>().into_iter().collect::<Vec<u32>>()
    };
    world.run(&[0], 2000, |_| true);
    assert_eq!(picked_from(&world), [0, 1, 2, 3]);
    // With a backup that is well and no primary, the backup; with some, all of them.
    let backup = "10.0.0.5:80";
    let mut upstream = world.table.upstream("api").expect("there").upstream;
    upstream.peers.push(Peer { backup: true, ..Peer::new(Address::from_server(backup).expect("one")) });
    world.table.set_upstream(&upstream, WAIT).expect("room");
    for (well, expected) in [(0, vec![4]), (1, vec![0, 1, 2, 3]), (4, vec![0, 1, 2, 3])] {
        world.run(&[0], 2500, |server| server == backup || four[..well].contains(&server));
        assert_eq!(picked_from(&world), expected, "{well} and a backup are up");
    }
    world.set("api", &four, options);
    for (well, expected) in [
        (3, vec![0, 1, 2]),
        (2, vec![0, 1]),
        (1, vec![0, 1, 2, 3]),
        (2, vec![0, 1]),
        (0, vec![0, 1, 2, 3]),
        (4, vec![0, 1, 2, 3]),
    ] {
        world.run(&[0], 2500, |server| four[..well].contains(&server));
        assert_eq!(picked_from(&world), expected, "{well} are up");
    }
}

/// One large upstream, probed by one worker.
fn large(name: &str, peers: usize) -> World {
    let world = World::sized(name, 1, 64 << 20);
    let all = servers(peers);
    world.set("api", &texts(&all), r#"{"interval": 1000, "timeout": 500, "concurrency": 10000}"#);
    world
}

fn targets(world: &World) -> usize {
    world.workers[0].upstreams.watched.values().map(|watched| watched.places.len()).sum()
}

/// Ticks until a worker has read all that there is. No tick reads more than it may.
fn read_all(world: &mut World) -> usize {
    for ticks in 1.. {
        world.now += 20;
        world.workers[0].tick(&world.table, world.now, || 0).expect("sound");
        assert!(world.workers[0].upstreams.cost <= upstreams::READ, "{}", world.workers[0].upstreams.cost);
        if ticks > 5 && !world.workers[0].upstreams.is_behind {
            return ticks;
        }
    }
    unreachable!("a worker that reads for ever")
}

#[test]
fn a_large_upstream_is_read_in_as_many_turns_as_it_takes_and_left_in_as_many() {
    const PEERS: usize = 5 * upstreams::READ;
    let mut world = large("slices", PEERS);
    let ticks = read_all(&mut world);
    assert!((5..=20).contains(&ticks) && targets(&world) == PEERS, "{ticks}: {}", targets(&world));
    // After a change all are looked at, and none is copied or lost.
    let gone = Address::from_server(&servers(1)[0]).expect("one");
    world.table.delete_peer("api", &gone, WAIT).expect("it is there");
    let ticks = read_all(&mut world);
    assert!((5..=20).contains(&ticks) && targets(&world) == PEERS - 1, "{ticks}: {}", targets(&world));
    world.delete("api");
    world.set("other", &["10.0.0.1:80"], EVERY_SECOND);
    let ticks = read_all(&mut world);
    assert!((5..=20).contains(&ticks) && targets(&world) == 1, "{ticks}: {}", targets(&world));
}

#[test]
fn the_leases_of_a_large_upstream_are_looked_at_over_several_turns() {
    const PEERS: usize = 3 * super::SCAN + 10;
    let mut world = large("leases", PEERS);
    read_all(&mut world);
    let looks_on =
        |world: &World| world.workers[0].upstreams.watched.values().any(|watched| watched.scanning.is_some());
    let mut in_between = 0;
    for _ in 0..40 {
        world.run(&[0], 10, |_| true);
        in_between += u32::from(looks_on(&world));
    }
    assert!(in_between >= 3, "{in_between} turns ended before all leases were looked at");
    let seen = |world: &mut World| world.run(&[0], 1200, |_| true).len();
    assert!(seen(&mut world) > 0, "peers are probed");
}

#[test]
fn while_the_list_turns_at_every_tick_each_peer_is_probed_and_nobody_who_is_gone() {
    const PEERS: usize = upstreams::READ + 500;
    let mut world = large("turning", PEERS);
    read_all(&mut world);
    let all = servers(PEERS + 1);
    let late = all.last().expect("one").clone();
    let mut gone: Option<&String> = None;
    let (mut probed, mut was_gone) = (BTreeSet::new(), Vec::new());
    for step in 0..150 {
        // One leaves, and the one before comes back at the end: all others move up.
        let next = &all[step * 7 % PEERS];
        let address = |server: &String| Address::from_server(server).expect("one");
        world.table.delete_peer("api", &address(next), WAIT).expect("it is there");
        if let Some(server) = gone.replace(next) {
            let back = crate::upstream::PeerPatch::new(address(server));
            world.table.put_peer("api", &back, crate::table::ops::Absent::Make, WAIT).expect("room");
        }
        if step == 50 {
            let new = crate::upstream::PeerPatch::new(address(&late));
            world.table.put_peer("api", &new, crate::table::ops::Absent::Make, WAIT).expect("room");
        }
        for (server, _) in world.run(&[0], 10, |_| true) {
            was_gone.extend((&server == gone.expect("one")).then(|| server.clone()));
            probed.insert(server);
        }
        assert!(world.workers[0].upstreams.cost <= upstreams::READ);
    }
    assert_eq!(was_gone, Vec::<String>::new());
    assert!(probed.contains(&late), "one that came in between");
    assert!(probed.len() > PEERS - 200, "{} of {PEERS}", probed.len());
}

#[test]
fn routes_are_not_read_again_while_they_stay_the_same() {
    let mut world = World::new("routes", 1);
    world.set("api", &["10.0.0.1:80"], EVERY_SECOND);
    let target = || crate::upstream::Target { upstream: "api".into(), weight: 1 };
    for i in 0..100 {
        let route = crate::upstream::Route { host: format!("host-{i}"), targets: vec![target()], key: None };
        world.table.set_route(&route, WAIT).expect("room");
    }
    read_all(&mut world);
    let mut costs = Vec::new();
    for _ in 0..200 {
        world.now += 20;
        world.workers[0].tick(&world.table, world.now, || 0).expect("sound");
        costs.push(world.workers[0].upstreams.cost);
    }
    assert!(costs[100..].iter().all(|&cost| cost < 10), "{costs:?}");
}
