//! Requests from their first try to their end, over a real table: counts, failures, retries. Without nginx: the tests make its
//! calls. A worker is a slot and the requests that it holds.

#![allow(unsafe_code)]

mod support;

use dyups::balance::attempt::Attempt;
use dyups::balance::miss::Miss;
use dyups::balance::outcome::Outcome;
use dyups::balance::pick::{Ask, Handle, Picked};
use dyups::balance::request::{Given, Refused, Requests, Tries, Wanted, Why};
use dyups::config::report::Window;
use dyups::error::Code;
use dyups::health;
use dyups::shm::clock::now_ms;
use dyups::shm::{Mem, Memory};
use dyups::state::budget::Allowance;
use dyups::state::events::Standing;
use dyups::state::failures::{Health, begin, tenths};
use dyups::stats::ended::Ended;
use dyups::status::metrics::{self, Format, Parts};
use dyups::status::peers::{PeerState, states as states_of};
use dyups::status::report;
use dyups::table::Record;
use dyups::table::directory::Directory;
use dyups::table::ops::Absent;
use dyups::table::store::Table;
use dyups::upstream::{Method, Peer, PeerPatch, Status, Upstream};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::*;

const PLENTY: Tries = Tries { most: 0, allowance: Allowance { percent: 100, floor: 1000 } };
/// Connections that the peers of a race may have.
const MAX_CONNS: u64 = 3;

/// Plays its part for a test in another process; nothing when it runs as a test.
#[test]
fn helper_process() {
    let Some((role, args)) = role() else { return };
    assert_eq!(role, "racer");
    let (table, _) = open(Path::new(&args[0]), SMALL).expect("the test made it");
    let slot = table.region().claim_slot().expect("free");
    table.region().count_for(slot).expect("room");
    race(&table, slot, &board(Path::new(&args[0])), args[1].parse().expect("a number"));
}

/// A worker: its requests, its slot, and its handle.
struct Worker<'a> {
    table: &'a Table,
    /// A request is watched by its own number.
    requests: Requests<usize>,
    slot: Option<u32>,
    handle: Handle,
    tries: Tries,
    method: Option<Method>,
    /// nginx adds a try for a dead connection.
    adds_tries: bool,
    picked: Picked,
    /// The peers whose texts it was given: another time it is not.
    known: BTreeSet<u32>,
}

/// The end of a try with this outcome.
fn ended(outcome: Outcome) -> Ended {
    match outcome {
        Outcome::Success => Ended { status: 200, connect_ms: Some(0), header_ms: Some(1), ..Ended::default() },
        Outcome::Failure => Ended { status: 502, ..Ended::default() },
        Outcome::Unknown => Ended::default(),
    }
}

impl<'a> Worker<'a> {
    /// Counts in this slot.
    fn new(table: &'a Table, slot: u32) -> Self {
        table.region().count_for(slot).expect("room");
        Worker { slot: Some(slot), ..Worker::without_slot(table) }
    }

    fn without_slot(table: &'a Table) -> Self {
        let (requests, handle, picked) = (Requests::default(), Handle::new(b"api"), Picked::default());
        let (tries, known) = (PLENTY, BTreeSet::new());
        Worker { table, requests, slot: None, handle, tries, method: None, adds_tries: true, picked, known }
    }

    fn given(&mut self, request: usize, why: Why, last: Outcome) -> Result<Given, Refused> {
        let wanted = Wanted {
            request,
            key: Some(b"10.1.2.3"),
            method: self.method,
            why,
            tries: self.tries,
            adds_tries: self.adds_tries,
            number: None,
            watch: request,
        };
        let given =
            self.requests.next(self.table, self.slot, &mut self.handle, &wanted, |_| ended(last), &mut self.picked)?;
        assert!(self.picked.fresh == 1 || self.known.contains(&given.index), "a peer without a text");
        self.known.insert(given.index);
        Ok(given)
    }

    fn next(&mut self, request: usize, why: Why) -> Result<u32, Refused> {
        self.given(request, why, Outcome::Unknown).map(|given| given.index)
    }

    fn first(&mut self, request: usize) -> u32 {
        self.next(request, Why::First).expect("somebody")
    }

    fn end(&mut self, request: usize, outcome: Outcome) {
        self.requests.end(self.table, request, |_| ended(outcome));
    }

    /// Where requests that succeed go to, each with a new connection.
    fn goes(&mut self, count: usize) -> Vec<u32> {
        let once = |_| {
            let index = self.first(1 << 40);
            self.end(1 << 40, Outcome::Success);
            index
        };
        (0..count).map(once).collect()
    }

    /// Lets a request to this peer fail, and ends where that leads.
    fn fail(&mut self, index: u32) {
        let request = 1 << 41;
        while self.first(request) != index {
            self.end(request, Outcome::Success);
        }
        self.end(request, Outcome::Failure);
    }
}

/// Peers with these limits; picked in turn.
fn limited(count: u8, max_fails: u32, fail_timeout: u32) -> Upstream {
    let peer = |i| Peer { max_fails, fail_timeout, ..peer(&format!("10.0.0.{i}:80"), 1) };
    Upstream {
        name: "api".into(),
        peers: (1..=count).map(peer).collect(),
        method: Some(Method::Rr),
        ..Upstream::default()
    }
}

fn table_with(upstream: &Upstream) -> (Table, Scratch) {
    let (table, scratch) = table(SMALL);
    table.set_upstream(upstream, SOON).expect("room");
    (table, scratch)
}

/// How its peers fare, whichever cells they have.
fn states(table: &Table) -> Vec<PeerState> {
    with_cells(table).into_iter().map(|state| PeerState { who: None, ..state }).collect()
}

fn with_cells(table: &Table) -> Vec<PeerState> {
    states_of(table, "api").expect("sound")
}

/// The cause of a peer's state.
fn cause(table: &Table, index: usize) -> Option<String> {
    with_cells(table)[index].event(table).map(|event| event.text)
}

fn idents(table: &Table) -> Vec<u64> {
    table.upstream("api").expect("there").upstream.peers.iter().map(|peer| peer.address.ident()).collect()
}

fn open_to_all(table: &Table) -> Vec<u64> {
    states(table).iter().map(|state| state.conns).collect()
}

// ---- failures ---------------------------------------------------------------------------------------------------------

#[test]
fn what_has_failed_max_fails_times_is_out_for_every_worker_at_once() {
    let (table, _scratch) = table_with(&limited(3, 2, 60));
    let (mut one, mut two) = (Worker::new(&table, 0), Worker::new(&table, 1));
    assert_eq!(two.goes(3), [0, 1, 2]);
    one.fail(1);
    assert!(two.goes(6).contains(&1), "once is not twice");
    two.fail(1);
    assert!(!one.goes(100).contains(&1) && !two.goes(100).contains(&1));
    let state = states(&table)[1];
    assert_eq!((state.fails, state.out, state.state), (2, true, Standing::Unavail));
    assert_eq!(cause(&table, 1).as_deref(), Some("2 failed requests: out for 60 s"));
    assert_eq!(cause(&table, 0), None);
    health::heal(&table).expect("sound");
    assert!(!one.goes(100).contains(&1), "it is not well");
    for method in [Method::Chash, Method::LeastConn, Method::Random, Method::RandomTwo, Method::IpHash] {
        one.method = Some(method);
        assert!(!one.goes(200).contains(&1), "{method:?}");
    }
}

#[test]
fn what_was_not_the_peer_s_doing_takes_nobody_out() {
    let (table, _scratch) = table_with(&limited(2, 1, 60));
    let mut worker = Worker::new(&table, 0);
    for request in 0..10 {
        worker.first(request);
        worker.end(request, Outcome::Unknown);
        worker.first(request);
        // Its answer was one to ask another about: as nginx has it for 403 and 404.
        worker.next(request, Why::Declined).expect("the other");
        worker.end(request, Outcome::Success);
    }
    assert_eq!(states(&table), [PeerState::default(); 2]);
}

#[test]
fn without_max_fails_nobody_is_out() {
    let (table, _scratch) = table_with(&limited(2, 0, 60));
    let mut worker = Worker::new(&table, 0);
    (0..20).for_each(|_| worker.fail(0));
    assert_eq!(worker.goes(4).iter().filter(|&&index| index == 0).count(), 2);
}

#[test]
fn after_fail_timeout_one_of_many_tries_it_and_its_success_makes_it_well() {
    let (table, _scratch) = table_with(&limited(4, 1, 1));
    let mut worker = Worker::new(&table, 100);
    worker.fail(2);
    assert!(!worker.goes(50).contains(&2));
    std::thread::sleep(Duration::from_millis(1350));
    let barrier = Barrier::new(8);
    let probes = || -> usize {
        std::thread::scope(|scope| {
            let many = |slot| {
                let (table, barrier) = (&table, &barrier);
                scope.spawn(move || {
                    let mut worker = Worker::new(table, slot);
                    worker.method =
                        [Method::Rr, Method::LeastConn, Method::Random, Method::Chash].get(slot as usize % 4).copied();
                    barrier.wait();
                    (0..200).filter(|&request| worker.first(request) == 2).count()
                })
            };
            let threads: Vec<_> = (0..8).map(many).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        })
    };
    assert_eq!(probes(), 1);
    // No process reports the end of that one: after the same time there is another one.
    assert!(!worker.goes(50).contains(&2));
    std::thread::sleep(Duration::from_millis(1350));
    let mut two = Worker::new(&table, 101);
    let request = (0..50).find(|&request| two.first(request) == 2).expect("the probe");
    assert!(!worker.goes(50).contains(&2), "there is one already");
    two.end(request, Outcome::Success);
    assert_eq!(worker.goes(40).iter().filter(|&&index| index == 2).count(), 10);
    assert_eq!((states(&table)[2].fails, cause(&table, 2).as_deref()), (0, Some("a trial request succeeded")));
}

#[test]
fn a_probe_that_fails_takes_it_out_again() {
    let (table, _scratch) = table_with(&limited(2, 3, 1));
    let mut worker = Worker::new(&table, 0);
    (0..3).for_each(|_| worker.fail(0));
    std::thread::sleep(Duration::from_millis(1350));
    worker.fail(0);
    assert_eq!(worker.goes(20), [1; 20], "one failure is enough now");
}

#[test]
fn a_pick_whose_end_nobody_tells_is_no_probe() {
    let (table, _scratch) = table_with(&limited(2, 1, 1));
    let mut worker = Worker::new(&table, 0);
    worker.fail(0);
    std::thread::sleep(Duration::from_millis(1350));
    let mut find = Handle::new(b"api");
    for _ in 0..20 {
        assert_eq!(find.pick(&table, Ask::default(), false, &mut Picked::default()), Ok(1));
    }
    assert!(worker.goes(2).contains(&0), "the probe");
}

#[test]
fn where_all_are_out_all_are_picked() {
    let (table, _scratch) = table_with(&limited(3, 1, 60));
    let mut worker = Worker::new(&table, 0);
    (0..3).for_each(|index| worker.fail(index));
    assert!(states(&table).iter().all(|state| state.out));
    let mut went = worker.goes(30);
    went.sort_unstable();
    assert_eq!(went, [[0; 10], [1; 10], [2; 10]].concat());
    // And one request goes to each of them, once.
    let tried =
        [Why::First, Why::Failed, Why::Failed].map(|why| worker.given(1, why, Outcome::Unknown).expect("another"));
    assert_eq!(tried.iter().map(|given| given.index).sum::<u32>(), 3);
    assert_eq!(tried.map(|given| given.again), [true, true, false]);
}

#[test]
fn a_late_failure_does_no_harm_to_whoever_has_the_cell_now() {
    for counted in [false, true] {
        let (table, _scratch) = table_with(&limited(1, 1, 60));
        let mut worker = if counted { Worker::new(&table, 7) } else { Worker::without_slot(&table) };
        worker.first(1);
        let cell = cells_of(&table, "api")["10.0.0.1:80"];
        table.delete_upstream("api", true, SOON).expect("there");
        // It is taken for dead. Otherwise no worker would get its cells.
        table.region().cells().expect("some").deactivate(7).expect("inside");
        let peers = vec![Peer { max_fails: 1, ..peer("10.0.0.99:80", 1) }];
        table.set_upstream(&Upstream { peers, ..limited(1, 1, 60) }, SOON).expect("room");
        assert_eq!(cells_of(&table, "api")["10.0.0.99:80"], cell);
        let given = worker.given(1, Why::First, Outcome::Failure);
        assert_eq!(given.map(|given| given.index), Ok(0), "the new one, where the last one failed");
        assert_eq!(states(&table), [PeerState::default()], "{counted}");
        worker.end(1, Outcome::Failure);
        assert_eq!(states(&table)[0].fails, 1, "its own it has");
    }
}

#[test]
fn a_late_success_makes_nobody_well_who_has_the_cell_now() {
    let (table, _scratch) = table_with(&limited(1, 1, 60));
    let mut worker = Worker::without_slot(&table);
    worker.first(1);
    table.delete_upstream("api", true, SOON).expect("there");
    table.set_upstream(&Upstream { peers: vec![peer("10.0.0.99:80", 1)], ..limited(1, 1, 60) }, SOON).expect("room");
    worker.fail(0);
    worker.end(1, Outcome::Success);
    assert_eq!(states(&table)[0].fails, 1);
}

/// In how many of these rounds it was so, while another thread finds all the time that all are well again.
fn while_healing(table: &Table, rounds: usize, mut is_so: impl FnMut(usize) -> bool) -> usize {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                health::heal(table).expect("sound");
            }
        });
        let count = (0..rounds).filter(|&round| is_so(round)).count();
        done.store(true, Ordering::Relaxed);
        count
    })
}

#[test]
fn a_failure_is_not_overlooked_by_who_finds_all_well_at_the_same_time() {
    let (table, _scratch) = table_with(&limited(2, 1, 60));
    let cell = cells_of(&table, "api")["10.0.0.1:80"];
    let cells = table.region().cells().expect("some");
    let mut worker = Worker::new(&table, 0);
    let overlooked = while_healing(&table, 500_000, |_| {
        worker.fail(0);
        let overlooked = worker.goes(2).contains(&0);
        // As a probe that succeeds.
        let word = cells.health(cell).expect("a cell");
        assert_eq!(cells.set_health(cell, word, begin(word)), Ok(true));
        overlooked
    });
    assert_eq!(overlooked, 0);
}

#[test]
fn failures_go_with_the_peer_through_changes() {
    let (table, _scratch) = table_with(&limited(2, 1, 60));
    let mut worker = Worker::new(&table, 0);
    worker.fail(0);
    let mut turned = limited(3, 1, 60);
    turned.peers.reverse();
    table.set_upstream(&turned, SOON).expect("room");
    assert!(!worker.goes(30).contains(&2), "it is the last one now");
}

/// Its place.
fn record(table: &Table) -> Record {
    let (record, _) = Directory::new(table.region()).find(b"api").expect("sound").expect("there");
    Record::numbered(table.region().geometry(), record)
}

fn ailing(table: &Table) -> bool {
    record(table).failures(table.region().mem()).expect("inside").any()
}

fn change(table: &Table, index: u8, change: impl Fn(&mut PeerPatch)) {
    let mut patch = PeerPatch::new(address(&format!("10.0.0.{}:80", index + 1)));
    change(&mut patch);
    table.put_peer("api", &patch, Absent::Refuse, SOON).expect("room");
}

#[test]
fn who_takes_no_part_keeps_nobody_on_the_slow_path_and_is_still_out_when_it_does_again() {
    type Change = fn(&mut PeerPatch);
    let ways: [(&str, Change, Change); 4] = [
        ("max_fails", |patch| patch.max_fails = Some(0), |patch| patch.max_fails = Some(1)),
        ("down", |patch| patch.status = Some(Status::Down), |patch| patch.status = Some(Status::Up)),
        ("drain", |patch| patch.status = Some(Status::Drain), |patch| patch.status = Some(Status::Up)),
        ("weight", |patch| patch.weight = Some(0), |patch| patch.weight = Some(1)),
    ];
    for (what, away, back) in ways {
        let (table, _scratch) = table_with(&limited(3, 1, 60));
        let mut worker = Worker::new(&table, 0);
        worker.fail(1);
        health::heal(&table).expect("sound");
        assert!(ailing(&table), "{what}");
        change(&table, 1, away);
        health::heal(&table).expect("sound");
        assert!(!ailing(&table), "{what}: all that take part are well");
        assert_eq!(worker.goes(30).contains(&1), what == "max_fails");
        change(&table, 0, |patch| patch.max_conns = Some(7));
        change(&table, 0, |patch| patch.max_conns = Some(0));
        assert!(!ailing(&table), "{what}: it still takes no part");
        change(&table, 1, back);
        assert!(!worker.goes(30).contains(&1), "{what}: it is out");
        health::heal(&table).expect("sound");
        assert!(!worker.goes(30).contains(&1), "{what}: and stays so");
    }
}

#[test]
fn a_version_that_comes_by_the_spare_does_not_overlook_who_is_out() {
    let (table, _scratch) = table_with(&limited(3, 1, 60));
    let mut worker = Worker::new(&table, 0);
    worker.fail(1);
    change(&table, 1, |patch| patch.max_fails = Some(0));
    health::heal(&table).expect("sound");
    assert!(!ailing(&table));
    let filler = |number: usize, peers: usize| Upstream {
        name: format!("filler{number}"),
        peers: (0..peers).map(|i| peer(&format!("10.9.{}.{}:80", i / 250, i % 250), 1)).collect(),
        ..Upstream::default()
    };
    let mut number = 0;
    for peers in [400, 50, 5, 1, 0] {
        while table.set_upstream(&filler(number, peers), SOON).is_ok() {
            number += 1;
        }
    }
    change(&table, 1, |patch| patch.max_fails = Some(1));
    assert!(!worker.goes(30).contains(&1), "it is out");
}

#[test]
fn who_dies_between_a_failure_and_what_is_to_be_said_of_it_leaves_its_peer_out() {
    let (table, _scratch) = table_with(&limited(2, 1, 60));
    let cell = cells_of(&table, "api")["10.0.0.1:80"];
    let (cells, mut worker) = (table.region().cells().expect("some"), Worker::new(&table, 0));
    let place = record(&table);
    let overlooked = while_healing(&table, 100_000, |round| {
        // As `balance` does it, but for the last step.
        place.mark_failure(table.region().mem()).expect("inside");
        (0..round % 50).for_each(|_| std::hint::spin_loop());
        let word = cells.health(cell).expect("a cell");
        assert_eq!(cells.set_health(cell, word, Health(word).failed(tenths(now_ms())).0), Ok(true));
        health::mark_failures(&table).expect("sound");
        // A worker that has found it well at the same time is about to see that it is not.
        let overlooked = (0..10_000).all(|_| worker.goes(2).contains(&0));
        let word = cells.health(cell).expect("a cell");
        assert_eq!(cells.set_health(cell, word, begin(word)), Ok(true));
        overlooked
    });
    assert_eq!(overlooked, 0);
}

#[test]
fn an_upstream_that_comes_where_another_was_has_its_own_budget() {
    let (table, _scratch) = table_with(&limited(2, 0, 60));
    let mut worker = Worker::new(&table, 0);
    worker.tries.allowance = Allowance { percent: 0, floor: 2 };
    let retried = |worker: &mut Worker<'_>| {
        let may = worker.given(1, Why::First, Outcome::Unknown).expect("there").again;
        let retried = may && worker.next(1, Why::Failed).is_ok();
        worker.end(1, Outcome::Unknown);
        retried
    };
    assert_eq!((0..5).filter(|_| retried(&mut worker)).count(), 2);
    let before = record(&table);
    table.delete_upstream("api", true, SOON).expect("there");
    table.set_upstream(&limited(2, 0, 60), SOON).expect("room");
    assert_eq!(record(&table), before, "the same place");
    assert_eq!((0..5).filter(|_| retried(&mut worker)).count(), 2);
}

#[test]
fn one_spoiled_upstream_keeps_no_other_from_getting_well_or_from_being_drained() {
    let (table, _scratch) = table(SMALL);
    let named = |name: &str| Upstream { name: name.into(), ..limited(2, 1, 60) };
    ["first", "spoiled", "api"].iter().for_each(|name| table.set_upstream(&named(name), SOON).expect("room"));
    table.drain_peer("api", &address("10.0.0.2:80"), SOON).expect("there");
    let (mem, geometry) = (table.region().mem(), table.region().geometry());
    let (spoiled, view) = Directory::new(table.region()).find(b"spoiled").expect("sound").expect("there");
    for place in [record(&table), Record::numbered(geometry, spoiled)] {
        place.mark_failure(mem).expect("inside");
    }
    // Its head makes no sense any more.
    mem.add(view.stamp.word() + 1, 1).expect("inside");
    assert_eq!(health::heal(&table).expect_err("one is spoiled").code, Code::Damaged);
    assert!(!ailing(&table));
    assert_eq!(table.delete_drained(&AtomicUsize::new(0)).expect_err("one is spoiled").code, Code::Damaged);
    assert_eq!(table.upstream("api").expect("there").upstream.peers.len(), 1);
}

// ---- retries ----------------------------------------------------------------------------------------------------------

#[test]
fn a_request_tries_as_often_as_it_may() {
    let (table, _scratch) = table_with(&limited(3, 0, 60));
    let mut worker = Worker::new(&table, 0);
    let again = |worker: &mut Worker<'_>, why| worker.given(1, why, Outcome::Unknown).map(|given| given.again);
    assert_eq!(
        [Why::First, Why::Failed, Why::Failed].map(|why| again(&mut worker, why)),
        [Ok(true), Ok(true), Ok(false)]
    );
    worker.end(1, Outcome::Unknown);
    worker.tries.most = 2;
    assert_eq!([Why::First, Why::Failed].map(|why| again(&mut worker, why)), [Ok(true), Ok(false)]);
    worker.tries.most = 64;
    assert_eq!(
        [Why::First, Why::Failed, Why::Failed].map(|why| again(&mut worker, why)),
        [Ok(true), Ok(true), Ok(false)]
    );
}

#[test]
fn a_try_that_nginx_adds_is_given_to_the_first_one_alone_whose_connection_was_dead() {
    let (table, _scratch) = table_with(&limited(3, 9, 60));
    let mut worker = Worker::new(&table, 0);
    worker.tries.most = 1;
    let first = worker.given(1, Why::First, Outcome::Unknown).expect("there");
    assert!(!first.again && worker.next(1, Why::Failed).is_ok(), "it was dead");
    assert!(worker.next(1, Why::Failed).is_ok(), "and so was the next one");
    worker.end(1, Outcome::Failure);
    let fails = |table: &Table| states(table).iter().map(|state| state.fails).sum::<u32>();
    assert_eq!(fails(&table), 1, "the last one is a failure");
    // Where another try was allowed, that and the one that nginx has added look the same.
    worker.tries.most = 2;
    assert!(worker.given(1, Why::First, Outcome::Unknown).expect("there").again);
    assert!(!worker.given(1, Why::Failed, Outcome::Unknown).expect("there").again);
    assert_eq!(worker.next(1, Why::Failed), Err(Refused::Tries));
    assert_eq!((fails(&table), open_to_all(&table)), (3, vec![0; 3]));
}

#[test]
fn a_connection_that_was_dead_is_no_retry_after_a_second_look_for_a_peer_either() {
    let mut upstream = limited(1, 1, 60);
    let (table, _scratch) = table_with(&upstream);
    let (mut worker, mut other) = (Worker::new(&table, 0), Worker::new(&table, 1));
    worker.tries.allowance = Allowance { percent: 0, floor: 0 };
    assert!(!worker.given(1, Why::First, Outcome::Unknown).expect("there").again);
    other.first(2);
    upstream.peers[0].max_conns = 1;
    table.set_upstream(&upstream, SOON).expect("room");
    assert_eq!(worker.next(1, Why::Failed), Err(Refused::Miss(Miss::AllFull)));
    other.end(2, Outcome::Success);
    assert_eq!(worker.next(1, Why::Failed), Ok(0));
    worker.end(1, Outcome::Unknown);
    assert_eq!(states(&table), [PeerState::default()]);
}

#[test]
fn peers_that_configuration_keeps_from_traffic_are_no_reason_to_try_again() {
    let mut upstream = limited(4, 0, 60);
    (upstream.peers[1].status, upstream.peers[2].status, upstream.peers[3].weight) = (Status::Down, Status::Drain, 0);
    let (table, _scratch) = table_with(&upstream);
    let mut worker = Worker::new(&table, 0);
    let mut again = || worker.given(1, Why::First, Outcome::Unknown).expect("there").again;
    assert!(!again());
    upstream.peers[3].weight = 1;
    table.set_upstream(&upstream, SOON).expect("room");
    assert!(again());
}

#[test]
fn who_was_told_that_it_may_try_again_does_so_instead_of_its_peer_s_own_answer() {
    let (table, _scratch) = table_with(&limited(4, 0, 60));
    let mut worker = Worker::new(&table, 0);
    worker.tries.allowance = Allowance { percent: 0, floor: 1 };
    let requests = [1, 2, 3, 4];
    assert!(requests.iter().all(|&request| worker.given(request, Why::First, Outcome::Unknown).expect("there").again));
    assert!(worker.next(1, Why::Failed).is_ok(), "the only retry");
    assert!(worker.next(2, Why::Answered).is_ok());
    assert!(worker.next(3, Why::Declined).is_ok());
    assert_eq!(worker.next(4, Why::Failed), Err(Refused::Budget), "there is no answer that would be lost");
    let next = worker.given(5, Why::First, Outcome::Unknown).expect("there");
    assert!(!next.again && next.spent, "the next one gets its peer's answer");
}

#[test]
fn once_the_budget_is_spent_a_try_that_reached_no_peer_is_still_followed_by_another() {
    let (table, _scratch) = table_with(&limited(4, 0, 60));
    let (mut one, mut two) = (Worker::new(&table, 0), Worker::new(&table, 1));
    let allowance = Allowance { percent: 0, floor: 0 };
    (one.tries.allowance, two.tries.allowance) = (allowance, allowance);
    for request in 0..50 {
        let tries = [Why::First, Why::Unreached, Why::Unreached, Why::Unreached]
            .map(|why| one.given(request, why, Outcome::Unknown).expect("another"));
        assert_eq!(
            tries.map(|given| (given.again, given.spent)),
            [true, true, true, false].map(|again| (again, false))
        );
        one.end(request, Outcome::Success);
    }
    assert!(one.next(1, Why::First).is_ok() && one.next(1, Why::Unreached).is_ok());
    assert_eq!(one.next(1, Why::Failed), Err(Refused::Budget), "this one has cost a peer something");
    one.end(1, Outcome::Unknown);
    // A peer's own answer must not be lost: its request goes on, and those that come after it get theirs.
    assert!(one.given(1, Why::First, Outcome::Unknown).expect("there").again);
    let beyond = one.given(1, Why::Answered, Outcome::Unknown).expect("another");
    assert_eq!((beyond.again, beyond.spent), (false, true));
    for worker in [&mut one, &mut two] {
        let given = worker.given(2, Why::First, Outcome::Unknown).expect("there");
        assert_eq!((given.again, given.spent), (false, true));
        worker.tries.allowance.floor = 2;
        assert!(worker.given(3, Why::First, Outcome::Unknown).expect("there").again, "there is room again");
    }
}

#[test]
fn a_kept_connection_that_is_dead_is_no_failure_no_retry_and_no_try_of_its_peer() {
    let (table, _scratch) = table_with(&limited(2, 1, 60));
    let mut worker = Worker::new(&table, 0);
    worker.tries.allowance = Allowance { percent: 0, floor: 0 };
    let again = |worker: &mut Worker<'_>, why| worker.given(1, why, Outcome::Unknown).map(|given| given.again);
    assert_eq!(again(&mut worker, Why::First), Ok(true));
    // nginx has added a try to the one that it was told of.
    assert_eq!([Why::Dead; 9].map(|why| again(&mut worker, why)), [Ok(false); 9]);
    assert_eq!(again(&mut worker, Why::Unreached), Ok(false), "this is the last one of two peers");
    worker.end(1, Outcome::Success);
    assert_eq!(states(&table).iter().map(|state| state.fails).sum::<u32>(), 1);
    assert_eq!(open_to_all(&table), [0, 0]);
}

#[test]
fn where_nginx_counts_a_dead_connection_as_a_try_the_only_peer_is_asked_again() {
    let (table, _scratch) = table_with(&limited(1, 1, 60));
    let mut worker = Worker::new(&table, 0);
    (worker.adds_tries, worker.tries.allowance) = (false, Allowance { percent: 0, floor: 0 });
    let again = |worker: &mut Worker<'_>, why| worker.given(1, why, Outcome::Unknown).map(|given| given.again);
    assert_eq!(again(&mut worker, Why::First), Ok(true), "in case that it is dead");
    assert_eq!([Why::Dead; 3].map(|why| again(&mut worker, why)), [Ok(true); 3]);
    worker.end(1, Outcome::Success);
    assert_eq!(states(&table), [PeerState::default()]);
    for why in [Why::Failed, Why::Unreached, Why::Answered] {
        worker.next(1, Why::First).expect("there");
        assert_eq!(worker.next(1, why), Err(Refused::Tries), "{why:?}: there is no other peer");
    }
    assert_eq!((open_to_all(&table), states(&table)[0].fails), (vec![0], 3));
    // Where all of them are dead for ever, it ends.
    worker.next(1, Why::First).expect("there");
    assert!((0..100).any(|_| again(&mut worker, Why::Dead) == Ok(false)));
}

#[test]
fn a_probe_over_a_dead_connection_is_left_to_another_request() {
    let (table, _scratch) = table_with(&limited(2, 1, 1));
    let mut worker = Worker::new(&table, 0);
    worker.fail(0);
    std::thread::sleep(Duration::from_millis(1350));
    let request = (0..50).find(|&request| worker.first(request) == 0).expect("the probe");
    assert!(!worker.goes(9).contains(&0), "there is one already");
    // By turn it is this request again, or another one.
    let again = worker.next(request, Why::Dead).expect("both are usable");
    let probe = if again == 0 { request } else { (60..110).find(|&other| worker.first(other) == 0).expect("left") };
    worker.end(probe, Outcome::Success);
    assert_eq!(states(&table)[0].fails, 0);
}

#[test]
fn who_is_out_is_no_way_out_for_requests_that_others_are_too_full_for_or_have_failed() {
    let mut upstream = limited(2, 1, 60);
    upstream.peers[0].max_conns = 1;
    let (table, _scratch) = table_with(&upstream);
    let mut worker = Worker::new(&table, 0);
    worker.fail(1);
    assert_eq!(worker.first(1), 0);
    for (_, method) in Method::NAMES {
        worker.method = Some(method);
        assert_eq!(worker.next(2, Why::First), Err(Refused::Miss(Miss::AllFull)), "{method:?}");
    }
    worker.end(1, Outcome::Success);
    (upstream.peers[0].max_conns, upstream.peers[0].max_fails) = (0, 0);
    table.set_upstream(&upstream, SOON).expect("room");
    for (_, method) in Method::NAMES {
        worker.method = Some(method);
        assert_eq!(worker.first(3), 0, "{method:?}");
        assert_eq!(worker.next(3, Why::Failed), Err(Refused::Miss(Miss::AllTried)), "{method:?}");
    }
    assert_eq!(states(&table)[1].fails, 1);
}

#[test]
fn a_request_that_this_worker_did_not_begin_is_held_until_it_ends() {
    let (table, _scratch) = table_with(&limited(2, 0, 60));
    let mut worker = Worker::new(&table, 0);
    assert!(!worker.requests.holds(1));
    worker.next(1, Why::Failed).expect("there");
    assert!(worker.requests.holds(1));
    assert!(worker.requests.sweep(&table, true, |watch| watch == 1, |_, _| ended(Outcome::Unknown)), "it is watched");
    worker.end(1, Outcome::Unknown);
    assert!(worker.requests.is_empty());
}

#[test]
fn retries_are_a_share_of_all_workers_requests() {
    let (table, _scratch) = table_with(&limited(4, 0, 60));
    let (mut one, mut two) = (Worker::new(&table, 0), Worker::new(&table, 1));
    let allowance = Allowance { percent: 20, floor: 5 };
    (one.tries, two.tries) = (Tries { most: 0, allowance }, Tries { most: 0, allowance });
    let retried = |worker: &mut Worker<'_>, request| {
        let may = worker.given(request, Why::First, Outcome::Unknown).expect("there").again;
        if !may {
            // Then nginx does not ask.
            worker.end(request, Outcome::Failure);
            return false;
        }
        let retry = worker.next(request, Why::Failed);
        assert!(retry.is_ok() || retry == Err(Refused::Budget), "{retry:?}");
        assert!(retry.is_ok() || open_to_all(&table).iter().sum::<u64>() == 0, "what was refused is counted");
        worker.end(request, Outcome::Failure);
        retry.is_ok()
    };
    assert_eq!((0..20).filter(|&request| retried(&mut one, request)).count(), 5, "the floor");
    assert!(!retried(&mut two, 1));
    one.goes(100);
    let more = (0..100).filter(|&request| retried(&mut two, request)).count();
    // 221 requests in the end, each of them 1/5 of a retry; the last ones of them came too late.
    assert!((30..=39).contains(&more), "{more}");
    assert_eq!(open_to_all(&table), [0; 4]);
}

#[test]
fn retries_and_those_that_the_budget_refuses_are_counted_and_metrics_show_what_the_budget_remembers() {
    let (mut table, _scratch) = table(SMALL);
    table.keep_statistics(1 << 20).expect("room");
    table.set_upstream(&limited(4, 0, 60), SOON).expect("room");
    let mut worker = Worker::new(&table, 0);
    worker.tries.allowance = Allowance { percent: 0, floor: 2 };
    let requests = [1, 2, 3, 4, 5];
    requests.iter().for_each(|&request| assert!(worker.next(request, Why::First).is_ok()));
    // Two that cost the budget, one that is free, one that is refused, and one beyond the budget.
    assert!(worker.next(1, Why::Failed).is_ok() && worker.next(2, Why::Failed).is_ok());
    assert!(worker.next(3, Why::Unreached).is_ok());
    assert_eq!(worker.next(4, Why::Failed), Err(Refused::Budget));
    assert!(worker.next(5, Why::Answered).is_ok());
    requests.iter().for_each(|&request| worker.end(request, Outcome::Success));
    worker.requests.add_statistics(&table, true);
    let report = report::json(&table, "api", None, &Window::All).expect("there");
    let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
    let of_peers = report["peers"].as_array().expect("a list").iter().filter_map(|peer| peer["retries"].as_u64());
    assert_eq!((&report["requests"], &report["retries"], of_peers.sum::<u64>()), (&9.into(), &4.into(), 4));
    assert_eq!(report["refused_retries"], 1, "{report}");
    let page = metrics::text(&table, None, Format::Text, Parts { peers: true, histograms: false }).expect("sound");
    let page = String::from_utf8(page).expect("text");
    for (name, value) in [
        ("retries_total", 4),
        ("refused_retries_total", 1),
        ("retry_budget_requests", 5),
        ("retry_budget_retries", 3),
        ("retry_budget_overdrawn", 1),
    ] {
        let line = format!("dyups_upstream_{name}{{upstream=\"api\"}} {value}\n");
        assert!(page.contains(&line), "no {line} in {page}");
    }
}

#[test]
fn a_retry_that_is_refused_takes_no_probe_from_others() {
    let mut upstream = limited(2, 1, 1);
    upstream.peers[1].max_fails = 9;
    let (table, _scratch) = table_with(&upstream);
    let mut worker = Worker::new(&table, 0);
    worker.fail(0);
    let given = worker.given(1, Why::First, Outcome::Unknown).expect("there");
    assert!(given.index == 1 && given.again);
    std::thread::sleep(Duration::from_millis(1350));
    worker.tries.allowance = Allowance { percent: 0, floor: 0 };
    assert_eq!(worker.next(1, Why::Failed), Err(Refused::Budget));
    assert!(worker.goes(2).contains(&0), "the probe");
}

#[test]
fn what_nginx_is_over_with_is_open_no_more_though_the_request_goes_on() {
    let (table, _scratch) = table_with(&limited(2, 9, 60));
    let mut worker = Worker::new(&table, 0);
    let index = worker.first(1) as usize;
    worker.first(2);
    let ident = idents(&table)[index];
    let mut sweep = |over: usize, outcome| {
        let of = |request: usize, trying: &Attempt| {
            assert_eq!((request, trying.account.ident), (1, ident));
            ended(outcome)
        };
        (worker.requests.sweep(&table, true, |watch| watch == over, of), open_to_all(&table).iter().sum::<u64>())
    };
    assert_eq!(sweep(3, Outcome::Failure), (false, 2));
    assert_eq!(sweep(1, Outcome::Failure), (true, 1));
    assert_eq!(sweep(1, Outcome::Failure), (false, 1), "once");
    assert_eq!((states(&table)[index].fails, worker.requests.len()), (1, 2));
    worker.end(1, Outcome::Failure);
    worker.end(2, Outcome::Success);
    assert_eq!((open_to_all(&table), states(&table)[index].fails), (vec![0, 0], 1));
    assert!(worker.requests.is_empty());
}

#[test]
fn a_pick_ends_where_a_peer_is_out_and_no_worker_has_said_so() {
    let mut upstream = limited(2, 1, 60);
    upstream.peers[0].max_conns = 5;
    let (table, _scratch) = table_with(&upstream);
    let (_, view) = Directory::new(table.region()).find(b"api").expect("sound").expect("there");
    let cells = table.region().cells().expect("some");
    for index in 0..2 {
        let cell = view.cell(table.region().mem(), index).expect("inside");
        let word = Health(cells.health(cell).expect("inside"));
        // The worker that saw the failure dies before it marks the upstream.
        assert_eq!(cells.set_health(cell, word.0, word.failed(tenths(now_ms())).0), Ok(true));
    }
    let mut worker = Worker::new(&table, 0);
    for method in Method::NAMES {
        worker.method = Some(method.1);
        let _ = worker.next(1, Why::First);
        let _ = worker.next(1, Why::Failed);
        worker.end(1, Outcome::Unknown);
    }
}

#[test]
fn after_a_redirect_within_nginx_a_request_begins_anew() {
    let (table, _scratch) = table_with(&limited(2, 2, 60));
    let mut worker = Worker::new(&table, 0);
    let first = worker.given(1, Why::First, Outcome::Unknown).expect("there");
    worker.given(1, Why::First, Outcome::Failure).expect("there");
    assert_eq!(worker.requests.len(), 1);
    assert_eq!(states(&table)[first.index as usize].fails, 1, "the one before it failed");
    assert_eq!(open_to_all(&table).iter().sum::<u64>(), 1);
    assert!(worker.next(1, Why::Failed).is_ok(), "it has tried none of the two");
    worker.end(1, Outcome::Success);
    assert!(worker.requests.is_empty());
    assert_eq!(open_to_all(&table), [0, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_retry_goes_to_nobody_it_has_tried(
        weights in prop::collection::vec(1u16..5, 1..90), method in 0usize..6, fails in prop::collection::vec(any::<bool>(), 90),
        limits in prop::collection::vec(prop_oneof![3 => Just(0u32), 1 => Just(1)], 90), backups in 0usize..4,
    ) {
        let mut upstream = limited(weights.len() as u8, 1, 60);
        for (at, peer) in upstream.peers.iter_mut().enumerate() {
            (peer.weight, peer.max_conns, peer.backup) = (weights[at], limits[at], at % 7 < backups && at > 0);
        }
        let (table, _scratch) = table_with(&upstream);
        let (mut worker, mut full) = (Worker::new(&table, 0), Worker::new(&table, 1));
        worker.method = Some(Method::NAMES[method].1);
        // Some are full, and some are out.
        let mut request = 0;
        let filled = loop {
            request += 1;
            let Ok(index) = full.next(request, Why::First) else { break request };
            if request > 20 {
                break request;
            }
            if fails[index as usize] {
                full.end(request, Outcome::Failure);
            }
        };
        let (mut tried, mut why) = (Vec::new(), Why::First);
        let last = loop {
            match worker.given(1, why, Outcome::Unknown) {
                Ok(given) => tried.push(given.index),
                Err(refused) => break Some(refused),
            }
            if tried.len() == weights.len() {
                break None;
            }
            why = if fails[tried.len() % 90] { Why::Failed } else { Why::Declined };
        };
        let mut distinct = tried.clone();
        distinct.sort_unstable();
        distinct.dedup();
        prop_assert_eq!(distinct.len(), tried.len(), "{:?}", tried);
        let states = states(&table);
        let is_full = |index: usize| limits[index] != 0 && states[index].conns >= 1;
        let was_tried = |index: usize| tried.contains(&(index as u32));
        let left: Vec<_> = (0..weights.len()).filter(|&index| !was_tried(index) && !is_full(index)).collect();
        // Those that are out, only where all are.
        let all_out = states.iter().all(|state| state.out);
        let wrongly = left.iter().filter(|&&index| all_out || !states[index].out).count();
        prop_assert!(tried.len() == 64 || wrongly == 0, "{:?} of {:?} were left: {:?}", left, states, last);
        prop_assert!(matches!(last, None | Some(Refused::Miss(Miss::AllTried | Miss::AllFull))), "{:?}", last);
        worker.end(1, Outcome::Unknown);
        (0..=filled).for_each(|request| full.end(request, Outcome::Unknown));
        prop_assert_eq!(open_to_all(&table).iter().sum::<u64>(), 0);
    }

    #[test]
    fn counts_are_what_is_held(steps in prop::collection::vec((0usize..2, 1usize..6, 0u8..7), 1..120), method in 0usize..6) {
        let mut upstream = limited(4, 3, 60);
        (upstream.peers[1].max_conns, upstream.peers[3].max_conns) = (2, 1);
        let (table, _scratch) = table_with(&upstream);
        let mut workers = [0, 1].map(|slot| Worker::new(&table, slot));
        workers.iter_mut().for_each(|worker| worker.method = Some(Method::NAMES[method].1));
        let mut held: BTreeMap<(usize, usize), u32> = BTreeMap::new();
        for (at, request, what) in steps {
            let key = (at, request);
            let (why, outcome) = match what {
                0 | 1 => (Some(Why::First), Outcome::Failure),
                2 if held.contains_key(&key) => (Some(Why::Failed), Outcome::Unknown),
                3 if held.contains_key(&key) => (Some(Why::Declined), Outcome::Unknown),
                4 => (None, Outcome::Failure),
                5 => (None, Outcome::Success),
                _ => (None, Outcome::Unknown),
            };
            held.remove(&key);
            match why.map(|why| workers[at].given(request, why, outcome)) {
                Some(Ok(given)) => drop(held.insert(key, given.index)),
                Some(Err(refused)) => prop_assert!(!matches!(refused, Refused::Miss(Miss::Damaged | Miss::Changing)), "{refused:?}"),
                None => workers[at].end(request, outcome),
            }
            let counts = [0, 1, 2, 3].map(|index| held.values().filter(|&&other| other == index).count() as u64);
            prop_assert_eq!(&open_to_all(&table), &counts);
            prop_assert!(counts[1] <= 2 && counts[3] <= 1);
        }
        for (at, request) in held.into_keys() {
            workers[at].end(request, Outcome::Success);
        }
        prop_assert_eq!(open_to_all(&table), [0; 4]);
    }
}

// ---- max_conns --------------------------------------------------------------------------------------------------------

#[test]
fn those_with_the_least_take_turns_over_all_workers() {
    let (table, _scratch) = table_with(&limited(4, 1, 60));
    let (mut one, mut two) = (Worker::new(&table, 0), Worker::new(&table, 1));
    (one.method, two.method) = (Some(Method::LeastConn), Some(Method::LeastConn));
    let busy = one.first(1);
    let mut went: Vec<u32> = (0..6).flat_map(|_| [one.goes(1), two.goes(1)].concat()).collect();
    let turn = went[..3].to_vec();
    assert!(went.chunks(3).all(|next| next == turn), "{went:?}");
    went.sort_unstable();
    went.dedup();
    assert!(went.len() == 3 && !went.contains(&busy), "{went:?}");
}

#[test]
fn who_is_full_is_passed_over_by_every_method_and_when_all_are_it_is_said() {
    for (_, method) in Method::NAMES {
        let mut upstream = limited(3, 1, 60);
        upstream.peers.iter_mut().for_each(|peer| peer.max_conns = 2);
        let (table, _scratch) = table_with(&upstream);
        let (mut one, mut two) = (Worker::new(&table, 0), Worker::new(&table, 1));
        (one.method, two.method) = (Some(method), Some(method));
        for request in 0..3 {
            one.first(request);
            two.first(request);
        }
        assert_eq!(open_to_all(&table), [2; 3], "{method:?}");
        assert_eq!(one.next(9, Why::First), Err(Refused::Miss(Miss::AllFull)), "{method:?}");
        two.end(1, Outcome::Success);
        one.first(9);
        assert_eq!(open_to_all(&table), [2; 3], "{method:?}");
    }
}

/// Shared counters beside the region. By peer: the number of racers that hold it. Behind them: how often one had too many, and
/// how often one had any.
fn board(path: &Path) -> Mem {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path.with_extension("board"))
        .expect("open");
    file.set_len(4096).expect("room");
    let mem = Mem::map(&file, 4096).expect("room");
    mem.reserve(0, 512).expect("room");
    mem
}

/// Holds up to three requests at a time, and says so on the board while it does.
fn race(table: &Table, slot: u32, board: &Mem, rounds: usize) {
    let mut worker = Worker::new(table, slot);
    let mut held = std::collections::VecDeque::new();
    say("ready");
    orders().next();
    for request in 0..rounds {
        worker.method = Some(Method::NAMES[request % 6].1);
        match worker.next(request, Why::First) {
            Ok(index) => {
                let before = board.add(index as usize, 1).expect("inside");
                board.add(if before >= MAX_CONNS { 100 } else { 101 }, 1).expect("inside");
                held.push_back((request, index));
            }
            Err(Refused::Miss(Miss::AllFull)) => worker.end(request, Outcome::Unknown),
            Err(other) => panic!("{other:?}"),
        }
        if held.len() == 3 || (request % 5 == 0 && !held.is_empty()) {
            let (request, index) = held.pop_front().expect("some");
            board.add(index as usize, u64::MAX).expect("inside");
            worker.end(request, Outcome::Success);
        }
    }
    for (request, index) in held {
        board.add(index as usize, u64::MAX).expect("inside");
        worker.end(request, Outcome::Success);
    }
    say("done");
    orders().for_each(drop);
}

#[test]
fn of_two_who_race_for_the_last_connection_one_gets_it() {
    const ROUNDS: usize = 20_000;
    /// A pick takes some microseconds where the system does not stop it.
    const UNDISTURBED: Duration = Duration::from_micros(100);
    let mut upstream = limited(1, 0, 60);
    upstream.peers[0].max_conns = 1;
    let (table, _scratch) = table_with(&upstream);
    let arrived = AtomicUsize::new(0);
    // A Barrier wakes one after the other.
    let meet = |meeting: usize| {
        arrived.fetch_add(1, Ordering::SeqCst);
        for spins in 0.. {
            assert!(spins < 20_000_000, "the other one is gone");
            if arrived.load(Ordering::SeqCst) >= 2 * meeting {
                break;
            } else if spins > 5000 {
                std::thread::yield_now();
            }
        }
    };
    let got = |slot| {
        let mut worker = Worker::new(&table, slot);
        let once = |request| {
            (worker.handle, worker.known) = (Handle::new(b"api"), BTreeSet::new());
            meet(2 * request + 1);
            // Another distance between the two in each round: some of them meet within the pick.
            (0..request * (7 + 4 * slot as usize) % 61).for_each(|_| std::hint::spin_loop());
            let began = Instant::now();
            let got = worker.next(request, Why::First).is_ok();
            let was_stopped = began.elapsed() > UNDISTURBED;
            meet(2 * request + 2);
            worker.end(request, Outcome::Success);
            (got, was_stopped)
        };
        (0..ROUNDS).map(once).collect::<Vec<_>>()
    };
    let [one, two] = std::thread::scope(|scope| {
        [0, 1]
            .map(|slot| {
                scope.spawn({
                    let got = &got;
                    move || got(slot)
                })
            })
            .map(|thread| thread.join().expect("no panic"))
    });
    let both = one.iter().zip(&two).filter(|(one, two)| one.0 && two.0).count();
    assert_eq!(both, 0);
    // Where the system stops one of the two in between, the other does not wait for it.
    let undisturbed: Vec<_> = one.iter().zip(&two).filter(|(one, two)| !one.1 && !two.1).collect();
    let neither = undisturbed.iter().filter(|(one, two)| !one.0 && !two.0).count();
    assert!(undisturbed.len() > ROUNDS / 100, "{} rounds went undisturbed", undisturbed.len());
    assert!(neither <= undisturbed.len() / 50, "{neither} of {} times neither got it", undisturbed.len());
}

#[test]
fn processes_that_race_never_have_more_than_max_conns() {
    let mut upstream = limited(2, 1, 60);
    upstream.peers.iter_mut().for_each(|peer| peer.max_conns = MAX_CONNS as u32);
    let (table, scratch) = table_with(&upstream);
    let path = scratch.file("region");
    let board = board(&path);
    let start = |_| Helper::start("racer", &[&path.display().to_string(), "40000"]);
    let mut racers: Vec<Helper> = (0..4).map(start).collect();
    racers.iter_mut().for_each(|racer| assert_eq!(racer.answer().as_deref(), Some("ready")));
    racers.iter_mut().for_each(|racer| racer.send("go"));
    racers.iter_mut().for_each(|racer| assert_eq!(racer.answer().as_deref(), Some("done")));
    let (too_many, given) = (board.load(100).expect("inside"), board.load(101).expect("inside"));
    tell(format_args!(
        "4 processes, 160,000 requests for 2 peers of {MAX_CONNS} connections: {given} had one, {too_many} one too many"
    ));
    assert_eq!(too_many, 0);
    assert!(given > 20_000, "{given}");
    assert_eq!(open_to_all(&table), [0, 0]);
}
