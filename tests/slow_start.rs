//! Slow start: which peers begin one, and the share of the picks that such a peer has meanwhile, in one process and in several.

#![allow(unsafe_code)]

mod support;

use dyups::balance::attempt::Counters;
use dyups::balance::outcome::Outcome;
use dyups::balance::pick::{Ask, Handle, Picked, Tried};
use dyups::health::heal;
use dyups::shm::clock::now_ms;
use dyups::state::failures::{Health, tenths};
use dyups::state::slow_start;
use dyups::state::verdict::Verdict;
use dyups::status::metrics::{self, Format, Parts};
use dyups::status::{self, peers::states};
use dyups::table::Table;
use dyups::table::directory::Directory;
use dyups::table::ops::Absent;
use dyups::upstream::{Check, Method, Peer, PeerPatch, Status, Upstream};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use support::*;

/// So long that nothing moves while a test looks.
const LONG: u32 = 100_000;

fn server(i: usize) -> String {
    format!("10.0.{}.{}:80", i / 250, 1 + i % 250)
}

fn slow(server: &str, weight: u16, slow_start: u32) -> Peer {
    Peer { slow_start, ..peer(server, weight) }
}

/// Peers with a long slow start, of these weights.
fn of_weights(weights: &[u16]) -> Upstream {
    let peers = (0..).zip(weights).map(|(i, &weight)| slow(&server(i), weight, LONG)).collect();
    Upstream { peers, ..upstream("api", &[]) }
}

/// Which peers start slowly now.
fn starting(table: &Table) -> Vec<String> {
    let cells = table.region().cells().expect("some");
    let peers = table.upstream("api").expect("there").upstream.peers;
    let slow_start: BTreeMap<String, u32> =
        peers.iter().map(|peer| (peer.address.server().to_owned(), peer.slow_start)).collect();
    let starts = |server: &String, cell| {
        slow_start::goes_on(&cells, cell, slow_start[server], tenths(now_ms())).expect("inside")
    };
    cells_of(table, "api")
        .into_iter()
        .filter(|(server, cell)| starts(server, *cell))
        .map(|(server, _)| server)
        .collect()
}

/// Has a peer be so many parts of 1,000 on its way, as if it had begun so long ago.
fn begun(table: &Table, server: &str, done: u32) {
    let cells = table.region().cells().expect("some");
    let cell = cells_of(table, "api")[server];
    let generation = Health(cells.health(cell).expect("inside")).generation();
    let ago = (u64::from(LONG) * 10 * u64::from(done) / 1000) as u32;
    slow_start::begin(&cells, cell, generation, tenths(now_ms()).wrapping_sub(ago)).expect("inside");
    let directory = Directory::new(table.region());
    let (record, _) = directory.find(b"api").expect("readable").expect("there");
    directory.record(record).mark_start(table.region().mem()).expect("inside");
}

/// How often each peer is picked.
fn picks(table: &Table, handle: &mut Handle, method: Method, count: usize) -> BTreeMap<String, u64> {
    let mut seen = BTreeMap::new();
    for _ in 0..count {
        *seen.entry(picked(table, handle, method)).or_default() += 1;
    }
    seen
}

fn picked(table: &Table, handle: &mut Handle, method: Method) -> String {
    let mut out = Picked::default();
    let ask = Ask { method: Some(method), key: Some(b"a key"), ..Ask::default() };
    handle.pick(table, ask, false, &mut out).expect("one fits");
    String::from_utf8(out.text[..out.len as usize].to_vec()).expect("text")
}

const BY_SHARE: [Method; 4] = [Method::Rr, Method::LeastConn, Method::Random, Method::RandomTwo];

// ---- the share ---------------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn each_has_the_share_of_the_weight_that_it_has_by_now(
        weights in prop::collection::vec(1u16..6, 2..9),
        starters in prop::collection::vec((any::<prop::sample::Index>(), 0u32..1000), 1..4),
    ) {
        let (table, _scratch) = table(SMALL);
        table.set_upstream(&of_weights(&weights), SOON).expect("room");
        let whole: u64 = weights.iter().map(|&weight| u64::from(weight) * 1000).sum();
        let mut has: Vec<u64> = weights.iter().map(|&weight| u64::from(weight) * 1000).collect();
        let mut is_starter = vec![false; weights.len()];
        for (index, done) in starters {
            let i = index.index(weights.len());
            begun(&table, &server(i), done);
            // In thousandths: it begins at a tenth, and the test takes no time to speak of.
            has[i] = u64::from(weights[i]) * (100 + 900 * u64::from(done) / 1000);
            is_starter[i] = true;
        }
        let start: u64 = (0..weights.len()).filter(|&i| is_starter[i]).map(|i| u64::from(weights[i]) * 1000).sum();
        if start * 2 > whole {
            has = weights.iter().map(|&weight| u64::from(weight) * 1000).collect();
        }
        let all: u64 = has.iter().sum();
        for method in BY_SHARE {
            let count = 4000;
            let seen = picks(&table, &mut Handle::new(b"api"), method, count);
            for (i, &has) in has.iter().enumerate() {
                let (got, share) = (seen.get(&server(i)).copied().unwrap_or(0) as f64, has as f64 / all as f64);
                let points = (got / count as f64 - share).abs() * 100.0;
                prop_assert!(points <= 3.0, "{method:?}: {i} has {got} of {count}, {share} is its share, {weights:?} {is_starter:?}");
            }
        }
    }

    #[test]
    fn the_round_robin_is_exact_among_those_that_are_steady(
        weights in prop::collection::vec(1u16..6, 3..9), done in 0u32..1000, workers in 1usize..4,
    ) {
        let (table, _scratch) = table(SMALL);
        let heavy = weights.iter().sum::<u16>();
        // The first one starts, and it is at most half.
        let weights: Vec<u16> = [heavy.min(5)].into_iter().chain(weights).collect();
        table.set_upstream(&of_weights(&weights), SOON).expect("room");
        begun(&table, &server(0), done);
        let mut handles: Vec<Handle> = (0..workers).map(|_| Handle::new(b"api")).collect();
        let (mut seen, mut steady, mut turn) = (BTreeMap::<String, u64>::new(), 0, 0);
        // Ten cycles of the steady ones, however many picks the starter has in between.
        while steady < 10 * u64::from(heavy) {
            turn += 1;
            let picked = picked(&table, &mut handles[turn % workers], Method::Rr);
            steady += u64::from(picked != server(0));
            *seen.entry(picked).or_default() += 1;
        }
        for (i, &weight) in weights.iter().enumerate().skip(1) {
            prop_assert_eq!(seen[&server(i)], 10 * u64::from(weight), "{}: {:?} of {:?}", i, seen, weights);
        }
    }
}

#[test]
fn a_hundred_starters_of_a_thousand_have_their_share_together_and_each_for_itself() {
    let (table, _scratch) = table(8 << 20);
    table.set_upstream(&of_weights(&[1; 1000]), SOON).expect("room");
    (0..100).for_each(|i| begun(&table, &server(i * 10), 500));
    for method in BY_SHARE {
        let seen = picks(&table, &mut Handle::new(b"api"), method, 95_500);
        let of = |i: usize| seen.get(&server(i)).copied().unwrap_or(0);
        let together: u64 = (0..100).map(|i| of(i * 10)).sum();
        assert!((5490..=5510).contains(&together), "{method:?}: {together}, 5500 are their share");
        let range = |of_them: &dyn Fn(usize) -> bool| {
            let counts = (0..1000).filter(|&i| of_them(i)).map(of);
            (counts.clone().min().expect("some"), counts.max().expect("some"))
        };
        let (starters, steady) = (range(&|i| i % 10 == 0), range(&|i| i % 10 != 0));
        assert!(starters.0 > 20 && starters.1 < 95, "{method:?}: {starters:?}, 55 is the share of one");
        if method == Method::Rr {
            assert_eq!(steady, (100, 100));
        } else {
            assert!(steady.0 > 50 && steady.1 < 160, "{method:?}: {steady:?}, 100 is the share of one");
        }
    }
}

#[test]
fn by_the_hash_of_a_key_it_has_all_its_keys_at_once() {
    for method in [Method::Chash, Method::IpHash] {
        let (table, _scratch) = table(SMALL);
        let many = Upstream { method: Some(method), ..of_weights(&[1; 5]) };
        table.set_upstream(&many, SOON).expect("room");
        let went = |handle: &mut Handle| -> Vec<u32> {
            let pick = |i: u32| {
                let key = format!("10.{}.{}.1", i / 200, i % 200);
                let ask = Ask { key: Some(key.as_bytes()), ..Ask::default() };
                handle.pick(&table, ask, false, &mut Picked::default()).expect("one")
            };
            (0..500).map(pick).collect()
        };
        let mut handle = Handle::new(b"api");
        let before = went(&mut handle);
        begun(&table, &server(2), 0);
        assert_eq!(starting(&table), [server(2)]);
        assert_eq!(went(&mut handle), before, "{method:?}");
    }
}

#[test]
fn least_conn_compares_by_the_weight_that_it_has_and_gives_it_no_more_than_its_share_of_picks() {
    let (table, _scratch) = table(SMALL);
    table.set_upstream(&of_weights(&[1, 1, 1]), SOON).expect("room");
    begun(&table, &server(0), 500);
    let cells = table.region().cells().expect("some");
    cells.activate(0).expect("room");
    let cell = |i: usize| cells_of(&table, "api")[&server(i)];
    let open =
        |i: usize, count: usize, up: bool| (0..count).for_each(|_| _ = cells.count_in(0, cell(i), up).expect("inside"));
    let share = |method| {
        let seen = picks(&table, &mut Handle::new(b"api"), method, 2000);
        seen.get(&server(0)).copied().unwrap_or(0) * 1000 / 2000
    };
    for method in [Method::LeastConn, Method::RandomTwo] {
        // The others are busy, and it is idle: it gets its share and not all of them.
        open(1, 10, true);
        open(2, 10, true);
        assert!((205..=225).contains(&share(method)), "{method:?}: {}", share(method));
        // With 0.55 of a weight, 5 connections are as many as 9 of a whole one, and 6 as many as 11.
        open(0, 5, true);
        assert!((205..=225).contains(&share(method)), "{method:?}: {}", share(method));
        open(0, 1, true);
        assert_eq!(share(method), 0, "{method:?}");
        open(0, 6, false);
        open(1, 10, false);
        open(2, 10, false);
    }
}

#[test]
fn where_no_steady_peer_fits_a_starter_is_picked() {
    let (table, _scratch) = table(SMALL);
    let mut it = of_weights(&[1, 1, 1]);
    it.peers[1].max_conns = 1;
    it.peers[2].max_conns = 1;
    it.peers.push(Peer { backup: true, ..peer("10.9.9.9:80", 1) });
    table.set_upstream(&it, SOON).expect("room");
    begun(&table, &server(0), 0);
    let cells = table.region().cells().expect("some");
    cells.activate(0).expect("room");
    for i in [1, 2] {
        cells.count_in(0, cells_of(&table, "api")[&server(i)], true).expect("inside");
    }
    for method in BY_SHARE {
        let seen = picks(&table, &mut Handle::new(b"api"), method, 100);
        assert_eq!(seen, BTreeMap::from([(server(0), 100)]), "{method:?}");
    }
}

#[test]
fn a_retry_goes_to_a_peer_that_was_not_tried_whether_it_starts_or_not() {
    let (table, _scratch) = table(SMALL);
    table.set_upstream(&of_weights(&[1, 1, 1]), SOON).expect("room");
    begun(&table, &server(0), 0);
    for method in BY_SHARE {
        let mut handle = Handle::new(b"api");
        for _ in 0..50 {
            let (mut tried, mut seen) = (Tried::default(), Vec::new());
            for _ in 0..3 {
                let ask = Ask { method: Some(method), tried: Some(&mut tried), ..Ask::default() };
                seen.push(handle.pick(&table, ask, false, &mut Picked::default()).expect("one is left"));
            }
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2], "{method:?}");
        }
    }
}

// ---- who starts --------------------------------------------------------------------------------------------------------

fn put(table: &Table, patch: PeerPatch) {
    table.put_peer("api", &patch, Absent::Make, SOON).expect("room");
}

fn slow_patch(server: &str) -> PeerPatch {
    PeerPatch { slow_start: Some(LONG), ..patch(server, 1) }
}

#[test]
fn a_peer_that_is_added_to_others_starts_slowly_and_those_of_a_new_table_do_not() {
    let (table, _scratch) = table(SMALL);
    let file = of_weights(&[1, 1, 1]);
    table.load(std::slice::from_ref(&file), false, SOON).expect("room");
    assert_eq!(starting(&table), [""; 0]);
    // A file that has one more by the next reload.
    let more = Upstream { peers: of_weights(&[1; 4]).peers, ..file.clone() };
    table.load(std::slice::from_ref(&more), false, SOON).expect("room");
    assert_eq!(starting(&table), [server(3)]);
    // At run time: by itself, or with all others.
    put(&table, slow_patch("10.7.0.1:80"));
    put(&table, patch("10.7.0.2:80", 1));
    assert_eq!(starting(&table), [server(3), "10.7.0.1:80".into()], "the other one has no slow_start");
    let mut all = table.upstream("api").expect("there").upstream;
    all.peers.push(slow("10.7.0.3:80", 1, LONG));
    table.set_upstream(&all, SOON).expect("room");
    assert_eq!(starting(&table), [server(3), "10.7.0.1:80".into(), "10.7.0.3:80".into()], "others go on");
    // One that goes and comes is another one.
    table.delete_peer("api", &address(&server(0)), SOON).expect("there");
    put(&table, slow_patch(&server(0)));
    assert!(starting(&table).contains(&server(0)));
}

#[test]
fn the_first_peers_of_an_upstream_do_not_start_slowly() {
    let (table, _scratch) = table(SMALL);
    put(&table, slow_patch(&server(0)));
    assert_eq!(starting(&table), [""; 0], "it is alone");
    table.delete_upstream("api", true, SOON).expect("there");
    table.set_upstream(&of_weights(&[1, 1]), SOON).expect("room");
    assert_eq!(starting(&table), [""; 0], "it was deleted, and is a new one");
    // Where the name is remembered as deleted.
    table.load(&[of_weights(&[1, 1])], true, SOON).expect("room");
    table.delete_upstream("api", true, SOON).expect("there");
    table.set_upstream(&of_weights(&[1, 1]), SOON).expect("room");
    assert_eq!(starting(&table), [""; 0]);
    // Where none has taken traffic.
    for i in [0, 1] {
        put(&table, PeerPatch { status: Some(Status::Down), ..PeerPatch::new(address(&server(i))) });
    }
    put(&table, PeerPatch { status: Some(Status::Up), ..PeerPatch::new(address(&server(0))) });
    assert_eq!(starting(&table), [""; 0]);
}

#[test]
fn a_peer_that_drained_or_was_down_starts_slowly_when_it_takes_traffic_again() {
    let out = [
        ("drain", Some(Status::Drain), None),
        ("down", Some(Status::Down), None),
        ("leaving", Some(Status::Leaving), None),
        ("weight", None, Some(0)),
    ];
    for (name, status, weight) in out {
        let (table, _scratch) = table(SMALL);
        table.set_upstream(&of_weights(&[1, 1, 1]), SOON).expect("room");
        put(&table, PeerPatch { status, weight, ..PeerPatch::new(address(&server(1))) });
        assert_eq!(starting(&table), [""; 0], "{name}");
        put(&table, PeerPatch { status: Some(Status::Up), ..patch(&server(1), 1) });
        assert_eq!(starting(&table), [server(1)], "{name}");
        let seen = picks(&table, &mut Handle::new(b"api"), Method::Rr, 2100);
        assert!((95..=105).contains(&seen[&server(1)]), "{name}: {seen:?}");
        // Another change of it begins nothing anew, and ends nothing.
        begun(&table, &server(1), 500);
        put(&table, PeerPatch { max_fails: Some(7), ..patch(&server(1), 2) });
        let seen = picks(&table, &mut Handle::new(b"api"), Method::Rr, 3100);
        assert!((1090..=1110).contains(&seen[&server(1)]), "{name}: {seen:?}");
    }
}

#[test]
fn status_and_metrics_say_how_much_of_its_weight_a_peer_has_while_it_takes_traffic() {
    let (table, _scratch) = table(SMALL);
    table.set_upstream(&of_weights(&[1, 1, 1]), SOON).expect("room");
    let throttle = || -> Vec<Option<u8>> {
        let states = states(&table, "api").expect("sound");
        states.into_iter().map(|state| state.throttle).collect()
    };
    assert_eq!(throttle(), [None; 3]);
    begun(&table, &server(1), 0);
    begun(&table, &server(2), 500);
    assert_eq!(throttle(), [None, Some(10), Some(55)]);
    let page = metrics::text(&table, None, Format::Text, Parts { peers: true, histograms: false }).expect("sound");
    let page = String::from_utf8(page).expect("text");
    let ratio = |i| format!("dyups_peer_slow_start_ratio{{upstream=\"api\",server=\"{}\"}}", server(i));
    assert!(page.contains(&(ratio(2) + " 0.55\n")) && !page.contains(&ratio(0)), "{page}");
    put(&table, PeerPatch { status: Some(Status::Down), ..PeerPatch::new(address(&server(2))) });
    assert_eq!(throttle(), [None, Some(10), None], "it takes no traffic");
    put(&table, PeerPatch { slow_start: Some(0), ..PeerPatch::new(address(&server(1))) });
    assert_eq!(throttle(), [None; 3], "it has no slow start any more");
    // As a file or a caller gives it back.
    begun(&table, &server(0), 0);
    let status = status::json(&table, Some("api"), None).expect("sound");
    let status: serde_json::Value = serde_json::from_slice(&status).expect("JSON");
    assert_eq!(status["upstreams"]["api"]["peers"][0]["throttle"], 10, "{status}");
}

#[test]
fn a_peer_that_is_alone_or_of_the_larger_half_has_all_its_weight_at_once() {
    let (table, _scratch) = table(SMALL);
    table.set_upstream(&of_weights(&[1, 1, 1, 1]), SOON).expect("room");
    let share = |method| {
        let seen = picks(&table, &mut Handle::new(b"api"), method, 1000);
        (0..4).map(|i| seen.get(&server(i)).copied().unwrap_or(0)).collect::<Vec<_>>()
    };
    for (i, wanted) in [(0, [32, 322, 322, 322]), (1, [45, 45, 454, 454]), (2, [250; 4]), (3, [250; 4])] {
        begun(&table, &server(i), 0);
        let seen = share(Method::Rr);
        let is_near = |(seen, wanted): (&u64, &u64)| seen.abs_diff(*wanted) <= 20;
        assert!(seen.iter().zip(&wanted).all(is_near), "{seen:?}, but {wanted:?} are their shares");
    }
    let (table, _scratch) = support::table(SMALL);
    let mut two = of_weights(&[1, 1]);
    two.peers[1].backup = true;
    table.set_upstream(&two, SOON).expect("room");
    begun(&table, &server(0), 0);
    let seen = picks(&table, &mut Handle::new(b"api"), Method::Rr, 100);
    assert_eq!(seen, BTreeMap::from([(server(0), 100)]), "alone among the primaries");
}

#[test]
fn a_peer_whose_trial_succeeds_starts_slowly() {
    let (table, _scratch) = table(SMALL);
    let mut it = of_weights(&[1, 1, 1]);
    it.peers.iter_mut().for_each(|peer| peer.fail_timeout = 0);
    table.set_upstream(&it, SOON).expect("room");
    let mut handle = Handle::new(b"api");
    let mut try_one = |fails: bool| {
        let ask = Ask { counts: true, ..Ask::default() };
        let index = handle.pick(&table, ask, false, &mut Picked::default()).expect("one");
        let counters = Counters::of(&table);
        let trying = counters.begin(handle.account(), None).expect("inside").expect("it is there");
        let outcome = if fails && index == 1 { Outcome::Failure } else { Outcome::Success };
        counters.end(&trying, outcome).expect("inside");
        index
    };
    let is_out = || {
        let cells = table.region().cells().expect("some");
        !Health(cells.health(cells_of(&table, "api")[&server(1)]).expect("inside")).is_well()
    };
    wait_for("it has failed", || {
        try_one(true);
        is_out()
    });
    assert_eq!(starting(&table), [""; 0]);
    wait_for("a trial has brought it back", || {
        try_one(false);
        !is_out()
    });
    assert_eq!(starting(&table), [server(1)]);
    let mine = (0..2100).filter(|_| try_one(false) == 1).count();
    assert!((95..=105).contains(&mine), "{mine}");
}

#[test]
fn a_peer_that_probes_had_down_starts_slowly_where_the_checks_end_and_one_that_was_never_up_does_not() {
    let (table, _scratch) = table(SMALL);
    let check = |default_down| Check { default_down, ..Check::default() };
    let it = Upstream { check: Some(check(true)), own_check: true, ..of_weights(&[1, 1, 1, 1]) };
    table.set_upstream(&it, SOON).expect("room");
    let cells = table.region().cells().expect("some");
    let judge = |i: usize, ok| {
        let cell = cells_of(&table, "api")[&server(i)];
        let old = Verdict(cells.verdict(cell).expect("inside"));
        assert_eq!(cells.set_verdict(cell, old.0, old.after(ok, 1, 1).0.0), Ok(true));
    };
    [0, 1, 2].iter().for_each(|&i| judge(i, true));
    judge(1, false);
    // Another check has the verdicts go on.
    table.set_check("api", |_| Ok(Some(check(false))), SOON).expect("there");
    assert_eq!(starting(&table), [""; 0]);
    table.set_check("api", |_| Ok(None), SOON).expect("there");
    assert_eq!(starting(&table), [server(1)]);
    let seen = picks(&table, &mut Handle::new(b"api"), Method::Rr, 3100);
    assert!((95..=105).contains(&seen[&server(1)]), "{seen:?}");
}

#[test]
fn picks_look_at_each_peer_as_long_as_one_starts_and_no_longer() {
    let (table, _scratch) = table(SMALL);
    let mut it = of_weights(&[1, 1, 1]);
    table.set_upstream(&it, SOON).expect("room");
    it.peers.push(slow(&server(3), 1, 1));
    table.set_upstream(&it, SOON).expect("room");
    let directory = Directory::new(table.region());
    let (record, _) = directory.find(b"api").expect("readable").expect("there");
    let is_marked = || directory.record(record).failures(table.region().mem()).expect("inside").any();
    heal(&table).expect("sound");
    assert!(is_marked(), "it has a second to go");
    wait_for("its slow start is over", || starting(&table).is_empty());
    heal(&table).expect("sound");
    assert!(!is_marked());
    let seen = picks(&table, &mut Handle::new(b"api"), Method::Rr, 400);
    assert!((0..4).all(|i| seen[&server(i)] == 100), "{seen:?}");
}

#[test]
fn a_worker_that_slept_begins_no_slow_start_of_the_next_peer() {
    let (table, _scratch) = table(SMALL);
    table.set_upstream(&of_weights(&[1, 1]), SOON).expect("room");
    let cells = table.region().cells().expect("some");
    let cell = cells_of(&table, "api")[&server(1)];
    let generation = cells.generation(cell).expect("inside");
    table.delete_peer("api", &address(&server(1)), SOON).expect("there");
    table.delete_upstream("api", true, SOON).expect("there");
    table.set_upstream(&of_weights(&[1, 1, 1]), SOON).expect("room");
    assert!(cells_of(&table, "api").values().any(|&next| next == cell), "another peer has its cell");
    let before = cells.slow_start(cell).expect("inside");
    slow_start::begin(&cells, cell, generation, tenths(now_ms())).expect("inside");
    assert_eq!((cells.slow_start(cell), starting(&table)), (Ok(before), vec![]));
}

// ---- several processes, and the time -----------------------------------------------------------------------------------

/// Seconds that the slow start takes.
const SECONDS: u32 = 5;
/// Picks of all processes in a second, at least.
const RATE: u64 = 5000;

/// A process that picks, and answers how often it has picked the last peer and how often at all, second by second.
fn picker(path: &std::path::Path, rate: u64, from_ms: u64) -> String {
    let (table, _) = open(path, SMALL).expect("there");
    let mut handle = Handle::new(b"api");
    let (mut seen, mut count) = (vec![(0u64, 0u64); SECONDS as usize + 1], 0);
    loop {
        let since = now_ms().saturating_sub(from_ms);
        let second = (since / 1000) as usize;
        if second >= seen.len() {
            break;
        }
        while count < rate * since / 1000 {
            let last = picked(&table, &mut handle, Method::Rr) == server(3);
            seen[second].0 += u64::from(last);
            seen[second].1 += 1;
            count += 1;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    seen.iter().map(|(mine, all)| format!("{mine},{all}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn helper_process() {
    let Some((_, args)) = role() else { return };
    for order in orders() {
        let [rate, from] = [&order[0], &order[1]].map(|number| number.parse().expect("a number"));
        say(picker(std::path::Path::new(&args[0]), rate, from));
    }
}

/// The share of the picks that a peer has which joins three others, second by second.
fn assert_ramp(processes: u64) {
    let (table, scratch) = table(SMALL);
    let mut it = of_weights(&[1, 1, 1]);
    table.set_upstream(&it, SOON).expect("room");
    let path = scratch.file("region");
    let start = |_| Helper::start("picker", &[path.to_str().expect("text")]);
    let mut helpers: Vec<Helper> = (0..processes).map(start).collect();
    it.peers.push(slow(&server(3), 1, SECONDS));
    let from = now_ms();
    table.set_upstream(&it, SOON).expect("room");
    helpers.iter_mut().for_each(|helper| helper.send(&format!("{} {from}", 2 * RATE / processes)));
    let mut sums = vec![(0, 0); SECONDS as usize + 1];
    for helper in &mut helpers {
        let answer = helper.answer().expect("it has picked");
        for (sum, pair) in sums.iter_mut().zip(answer.split(' ')) {
            let (mine, all) = pair.split_once(',').expect("two");
            sum.0 += mine.parse::<u64>().expect("a number");
            sum.1 += all.parse::<u64>().expect("a number");
        }
    }
    for (second, &(mine, all)) in sums.iter().enumerate() {
        // In the middle of the second.
        let done = ((second as f64 + 0.5) / f64::from(SECONDS)).min(1.0);
        let has = if second < SECONDS as usize { 0.1 + 0.9 * done } else { 1.0 };
        let (share, wanted) = (mine as f64 * 100.0 / all as f64, has * 100.0 / (3.0 + has));
        tell(format_args!(
            "second {second}, {processes} processes: {mine} of {all}: {share:.1} %, {wanted:.1} % is the ramp"
        ));
        assert!(all >= RATE, "{all} picks are too few to tell");
        assert!((share - wanted).abs() <= 3.0, "second {second}: {share} %, and not {wanted} %");
    }
}

#[test]
fn the_share_each_second_is_that_of_the_ramp_in_two_processes() {
    assert_ramp(2);
}

#[test]
fn the_share_each_second_is_that_of_the_ramp_in_four_processes() {
    let began = Instant::now();
    assert_ramp(4);
    assert!(began.elapsed() >= Duration::from_secs(SECONDS.into()));
}
