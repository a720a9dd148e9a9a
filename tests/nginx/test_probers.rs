//! The workers that probe, and the times: one worker probes each peer once an interval. No event of workers, upstreams, timers
//! and handlers changes that.

use super::generations::Generations;
use super::load::{Connections, Load};
use super::place::Place;
use super::probers::{Made, assert_even, between, conf, lines, made, next, set, shares, states, strays, workers};
use super::server::Nginx;
use super::sick::Sick;
use super::symptoms::Mode;
use super::system::{children, signal, stop, wait_for, wait_until};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Waits until every worker has probed its share for about two intervals.
fn settle(nginx: &Nginx, sick: &Sick, peers: usize) {
    let pids: BTreeSet<u32> = nginx.worker_pids().into_iter().collect();
    let mut seen = sick.probed();
    wait_for("each worker has a share", || {
        let now = made(sick);
        let found = workers(&now[seen..]) == pids;
        if now.len() >= seen + 2 * peers && !found {
            seen = now.len();
        }
        found
    });
    next(sick, 2 * peers);
}

#[test]
fn peers_are_shared_out_over_all_workers_and_each_is_probed_by_one_of_them_once_an_interval() {
    for workers in [2, 4] {
        let place = Place::new("shares");
        let sick = Sick::everywhere();
        let peers = sick.peers(40);
        let nginx = Nginx::start(&place, &conf(&place, workers, ""));
        let interval = Duration::from_millis(500);
        set(&nginx, "api", &peers, "interval = 500, timeout = 400");
        settle(&nginx, &sick, peers.len());
        let from = Instant::now();
        let made = next(&sick, 4 * peers.len());
        let longest = assert_even(&made, &peers, interval, (from, Instant::now()));
        let share = |pid: u32| made.iter().filter(|probe| probe.by == pid).count() / 4;
        let each: Vec<usize> = nginx.worker_pids().into_iter().map(share).collect();
        let fair = peers.len() / workers;
        assert!(each.iter().all(|share| *share >= fair / 3), "{each:?}");
        // A worker that a busy machine keeps waiting for half an interval has some of its share taken over.
        assert!(strays(&made) <= made.len() / 10, "{} of {}", strays(&made), made.len());
        println!("{workers} workers: shares {each:?}, {} strays, longest pause {longest:?}", strays(&made));
        nginx.assert_calm();
    }
}

/// A probe that has just arrived, and hangs.
fn fresh(sick: &Sick, patience: Duration) -> Made {
    let mut found = None;
    wait_for("a probe arrives", || {
        found = next(sick, 1).pop().filter(|probe| probe.at.elapsed() < patience);
        found.is_some()
    });
    found.expect("one")
}

#[test]
fn a_worker_killed_while_it_probes_leaves_no_peer_alone_for_two_intervals_and_the_new_one_takes_its_share() {
    for workers_of in [2, 4] {
        let place = Place::new("kill-prober");
        let sick = Sick::everywhere();
        let peers = sick.peers(30);
        let nginx = Nginx::start(&place, &conf(&place, workers_of, ""));
        let interval = Duration::from_millis(600);
        sick.set(Mode::Hung);
        set(&nginx, "api", &peers, "interval = 600, timeout = 300, fall = 255, concurrency = 30");
        settle(&nginx, &sick, peers.len());
        let begun = Instant::now();
        let victim = fresh(&sick, Duration::from_millis(100)).by;
        let killed = Instant::now();
        nginx.kill_workers(&[victim]);
        let new = nginx.worker_pids();
        next(&sick, 4 * peers.len());
        wait_for("the new worker probes", || new.iter().all(|pid| workers(&made(&sick)).contains(pid)));
        let now = Instant::now();
        let all = made(&sick);
        let orphans: Vec<_> = shares(&between(&all, begun - 2 * interval, killed))
            .into_iter()
            .filter(|(_, by)| by.contains_key(&victim))
            .map(|(peer, _)| peer)
            .collect();
        assert!(!orphans.is_empty());
        let longest = assert_even(&all, &peers, interval, (begun - interval, now));
        let late = between(&all, killed + interval, now);
        assert!(!workers(&late).contains(&victim), "it is dead");

        settle(&nginx, &sick, peers.len());
        let settled = next(&sick, 3 * peers.len());
        assert!(strays(&settled) <= settled.len() / 10, "{} of {}", strays(&settled), settled.len());
        assert_eq!(workers(&settled), nginx.worker_pids().into_iter().collect());
        assert_eq!(lines(&nginx, " went from "), 0);
        println!("{workers_of} workers: {} orphans, longest pause {longest:?}", orphans.len());
        nginx.assert_calm();
    }
}

#[test]
fn a_worker_stopped_while_it_probes_loses_its_share_and_what_it_says_when_it_wakes_counts_for_nothing() {
    let place = Place::new("stop-prober");
    let (sick, held) = (Sick::everywhere(), Sick::start());
    let peers = sick.peers(20);
    let nginx = Nginx::start(&place, &conf(&place, 2, ""));
    let interval = Duration::from_millis(1000);
    let all: Vec<_> = peers.iter().chain([&held.address]).collect();
    // None but the one that is held is ever late.
    set(&nginx, "api", &all, "interval = 1000, timeout = 5000, fall = 1");
    settle(&nginx, &sick, peers.len());
    // Its owner has a probe there that has no answer, and is stopped.
    held.set_probes(Mode::Hung);
    let victim = fresh(&held, Duration::from_millis(300)).by;
    assert!(stop(victim));
    let stopped = Instant::now();
    // This ends the connection. The result will be a failure, and one is enough.
    held.set_probes(Mode::Well);
    let taken_over = next(&held, 2);
    assert!(!workers(&taken_over).contains(&victim));
    let pause = taken_over[0].at - stopped;
    next(&sick, 3 * peers.len());
    let woken = Instant::now();
    let longest = assert_even(&made(&sick), &peers, interval, (stopped, woken));
    let meanwhile = made(&sick).into_iter().filter(|probe| probe.begun > stopped).collect::<Vec<_>>();
    assert!(!workers(&meanwhile).contains(&victim) && shares(&meanwhile).len() == peers.len());

    assert!(signal(victim as i32, libc::SIGCONT));
    wait_for("it has its share again", || made(&sick).iter().any(|probe| probe.by == victim && probe.at > woken));
    next(&sick, 2 * peers.len());
    assert_even(&made(&sick), &peers, interval, (woken, Instant::now()));
    wait_for("all are judged", || states(&nginx.status(), "api").values().all(|state| state == "up"));
    assert_eq!(lines(&nginx, " went from "), 0, "not even for a moment");
    println!("taken over after {pause:?}, longest pause {longest:?}");
    nginx.assert_calm();
}

#[test]
fn reloads_keep_states_and_wait_for_no_probe_and_leave_no_peer_alone() {
    let place = Place::new("reload-probers");
    let (sick, down, hung) = (Sick::everywhere(), Sick::start(), Sick::start());
    let peers = sick.peers(16);
    let nginx = Nginx::start(&place, &conf(&place, 2, ""));
    let interval = Duration::from_millis(500);
    down.set_probes(Mode::Status(500));
    hung.set_probes(Mode::Hung);
    let all: Vec<_> = peers.iter().chain([&down.address, &hung.address]).collect();
    set(&nginx, "api", &all, "interval = 500, timeout = 30000, fall = 2, rise = 2");
    let state = |nginx: &Nginx| states(&nginx.status(), "api").remove(&down.name).expect("it is there");
    wait_for("it is down", || state(&nginx) == "unhealthy");
    settle(&nginx, &sick, peers.len());
    let (from, traffic) = (Instant::now(), down.traffic());
    let load = Load::start(nginx.traffic, 2, |worker| _ = worker.get("api", Connections::Fresh));
    for _ in 0..4 {
        let hanging = hung.probed();
        nginx.reload();
        assert_eq!(state(&nginx), "unhealthy");
        // Sooner than after 30 seconds: workers that go do not wait for probes, and give them back.
        let all_new = || children(nginx.master()).len() == 2;
        assert!(wait_until(Duration::from_secs(10), all_new), "{:?}", children(nginx.master()));
        hung.wait_for_probes(hanging, 1);
        next(&sick, peers.len());
        load.wait_for_more(20);
    }
    next(&sick, 2 * peers.len());
    let now = Instant::now();
    let seen = load.stop();
    seen.assert_all_good();
    assert_eq!((seen.broken, down.traffic() - traffic), (0, 0), "of {} requests", seen.total());
    let longest = assert_even(&made(&sick), &peers, interval, (from, now));
    assert_even(&made(&down), &[down.address], interval, (from, now));
    assert_eq!(lines(&nginx, " went from "), 1, "states are kept");
    assert_eq!(lines(&nginx, "[error]"), 0);
    println!("{} requests beside 4 reloads, longest pause {longest:?}", seen.total());
    nginx.assert_calm();
}

#[test]
fn an_upgrade_keeps_states_and_probing_goes_on() {
    let place = Place::new("upgrade-probers");
    let (sick, down) = (Sick::everywhere(), Sick::start());
    let peers = sick.peers(16);
    let (nginx, old) = Generations::start(&place, &conf(&place, 2, ""));
    let interval = Duration::from_millis(500);
    down.set_probes(Mode::Status(500));
    let all: Vec<_> = peers.iter().chain([&down.address]).collect();
    let change = super::probers::upstream(&all, "interval = 500, timeout = 400, fall = 2");
    let change = format!("return require('dyups').set_upstream('api', {change})");
    assert_eq!(nginx.ask(old, "POST", "/eval", &change).body, "true");
    let state = |master| states(&nginx.status(master), "api").remove(&down.name).expect("it is there");
    wait_for("it is down", || state(old) == "unhealthy");
    next(&sick, peers.len());
    let from = Instant::now();
    let new = nginx.upgrade(old, 2);
    assert_eq!(state(new), "unhealthy");
    wait_for("both generations probe", || {
        let by = workers(&between(&made(&sick), from, Instant::now()));
        [old, new].iter().all(|master| master.workers().iter().all(|pid| by.contains(pid)))
    });
    nginx.quit(old);
    let gone = Instant::now();
    next(&sick, 2 * peers.len());
    assert_eq!(workers(&between(&made(&sick), gone, Instant::now())), new.workers().into_iter().collect());
    assert_eq!(state(new), "unhealthy");
    let longest = assert_even(&made(&sick), &peers, interval, (from, Instant::now()));
    let log = nginx.log();
    assert_eq!(log.lines().filter(|line| line.contains(" went from ")).count(), 1, "states are kept");
    println!("longest pause {longest:?}");
}

#[test]
fn an_upstream_that_is_replaced_keeps_the_states_of_its_peers() {
    const OPTIONS: &str = "interval = 200, timeout = 150, fall = 2, rise = 2";
    let place = Place::new("replace-probed");
    let backends: [Sick; 4] = std::array::from_fn(|_| Sick::start());
    let [down, well, other, added] = &backends;
    let nginx = Nginx::start(&place, &conf(&place, 2, ""));
    down.set_probes(Mode::Status(500));
    set(&nginx, "api", &[&down.name, &well.name, &other.name], OPTIONS);
    let state = |sick: &Sick| states(&nginx.status(), "api").remove(&sick.name).expect("it is there");
    wait_for("it is down", || state(down) == "unhealthy");
    let before = down.traffic();
    for servers in [[well, added, down].as_slice(), [down].as_slice(), [other, well, down, added].as_slice()] {
        let names: Vec<_> = servers.iter().map(|sick| &sick.name).collect();
        set(&nginx, "api", &names, OPTIONS);
        assert_eq!(state(down), "unhealthy");
        if servers.len() > 1 {
            (0..30).for_each(|_| assert_eq!(nginx.get("api", "/").status, 200));
            assert_eq!(down.traffic(), before);
        }
        down.wait_for_probes(down.probed(), 2);
    }
    assert_eq!(lines(&nginx, " went from "), 1);
    down.set_probes(Mode::Well);
    wait_for("it is up", || state(down) == "up");
    assert_eq!(lines(&nginx, " went from "), 2);
    nginx.assert_calm();
}
