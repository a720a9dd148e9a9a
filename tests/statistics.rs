//! Statistics beside a table: each try is counted once, whichever workers count, and whatever becomes of its peer.

#![allow(unsafe_code)]

mod support;

use dyups::config::report::Window;
use dyups::shm::layout::LAYOUT;
use dyups::shm::region::statistics_of;
use dyups::stats::ended::Ended;
use dyups::stats::place::Places;
use dyups::stats::tally::{Tally, Try};
use dyups::status::report::json;
use dyups::table::Table;
use proptest::prelude::*;
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};
use support::*;

const MIB: u64 = 1 << 20;

fn with_statistics(base: &Path, bytes: u64) -> Table {
    let (mut table, _) = open(base, SMALL).expect("usable");
    table.keep_statistics(bytes).expect("room");
    table
}

fn report(table: &Table, name: &str) -> Value {
    serde_json::from_slice(&json(table, name, None, &Window::All).expect("there")).expect("JSON")
}

fn answered(status: u16, ms: u32) -> Ended {
    Ended {
        status,
        connect_ms: Some(1),
        header_ms: Some(ms),
        response_ms: Some(2 * ms),
        sent: 10,
        received: 100,
        ..Ended::default()
    }
}

fn set(table: &Table, name: &str, servers: &[&str]) {
    table.set_upstream(&upstream(name, servers), SOON).expect("room");
}

#[test]
fn what_workers_add_at_once_is_the_sum_of_it() {
    let scratch = Scratch::new();
    let table = with_statistics(&scratch.file("region"), MIB);
    set(&table, "api", &["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    let peers = tries(&table, "api");
    std::thread::scope(|scope| {
        for worker in 0..4u32 {
            let (table, peers) = (&table, &peers);
            scope.spawn(move || {
                let (mut tally, places) = (Tally::default(), Places::of(table.region()).expect("on"));
                for nth in 0..3000u32 {
                    // More statuses than have numbers of their own.
                    let status = 200 + (nth % 20) as u16;
                    let one = peers[(nth % 3) as usize];
                    tally.add(Try { ended: answered(status, nth % 100), ..one }, &places);
                    if nth % 50 == worker {
                        tally.flush(&places);
                    }
                }
                while !tally.flush(&places) {}
            });
        }
    });
    let report = report(&table, "api");
    assert_eq!(
        (&report["requests"], &report["sent"], &report["received"]),
        (&12_000.into(), &120_000.into(), &1_200_000.into())
    );
    let codes = report["codes"].as_object().expect("codes");
    let sum: u64 = codes.values().map(|count| count.as_u64().expect("a number")).sum();
    assert_eq!((sum, codes.len(), &codes["2xx"]), (12_000, 17, &Value::from(2400)), "{codes:?}");
    assert_eq!((&report["header_time"]["max"], &report["response_time"]["count"]), (&99.into(), &12_000.into()));
    assert_eq!(report["header_time"]["p50"], 49.5);
    let peers = report["peers"].as_array().expect("peers");
    assert!(peers.iter().all(|peer| peer["requests"] == 4000), "{report}");
    let last: Value =
        serde_json::from_slice(&json(&table, "api", None, &Window::Seconds(120)).expect("there")).expect("JSON");
    assert!(last["requests"] == 0 || last["requests"] == 12_000, "the minute that is under way is not in it: {last}");
}

#[test]
fn a_namesake_and_the_next_peer_of_a_cell_begin_at_0_and_late_tries_count_at_neither() {
    let scratch = Scratch::new();
    let table = with_statistics(&scratch.file("region"), MIB);
    set(&table, "api", &["10.0.0.1"]);
    let (mut tally, places) = (Tally::default(), Places::of(table.region()).expect("on"));
    let old = Try { ended: answered(200, 5), ..tries(&table, "api")[0] };
    tally.add(old, &places);
    tally.flush(&places);
    assert_eq!(report(&table, "api")["requests"], 1);
    table.delete_upstream("api", true, SOON).expect("there");
    set(&table, "api", &["10.0.0.9"]);
    assert_eq!(tries(&table, "api")[0].cell, old.cell, "the same cell");
    tally.add(old, &places);
    tally.flush(&places);
    let empty = report(&table, "api");
    assert_eq!(
        (&empty["requests"], &empty["peers"][0]["requests"], &empty["uncounted"]),
        (&0.into(), &0.into(), &1.into())
    );
    let new = Try { ended: answered(404, 5), ..tries(&table, "api")[0] };
    tally.add(new, &places);
    tally.flush(&places);
    let report = report(&table, "api");
    assert_eq!(
        (&report["requests"], &report["codes"]["404"], &report["codes"]["200"]),
        (&1.into(), &1.into(), &Value::Null)
    );
}

#[test]
fn sections_of_deleted_peers_are_used_again_and_where_there_is_none_it_is_said() {
    let scratch = Scratch::new();
    // Some twenty units.
    let table = with_statistics(&scratch.file("region"), 64 << 10);
    let (mut tally, places) = (Tally::default(), Places::of(table.region()).expect("on"));
    for round in 0..200 {
        let servers: Vec<String> = (0..8).map(|nth| format!("10.0.{round}.{nth}")).collect();
        set(&table, "api", &servers.iter().map(String::as_str).collect::<Vec<_>>());
        for one in tries(&table, "api") {
            tally.add(Try { ended: answered(200, 1), ..one }, &places);
        }
        while !tally.flush(&places) {}
        let report = report(&table, "api");
        assert!(
            report["peers"].as_array().expect("peers").iter().all(|peer| peer["requests"] == 1),
            "{round}: {report}"
        );
        assert_eq!(report["requests"], 8 * (round + 1));
    }
    let servers: Vec<String> = (0..40).map(|nth| format!("10.9.9.{nth}")).collect();
    set(&table, "many", &servers.iter().map(String::as_str).collect::<Vec<_>>());
    for one in tries(&table, "many") {
        tally.add(Try { ended: answered(200, 1), ..one }, &places);
    }
    while !tally.flush(&places) {}
    assert!(report(&table, "many")["uncounted"].as_u64().expect("a number") >= 20);
}

#[test]
fn statistics_outlive_their_processes_and_a_lost_or_spoiled_file_begins_anew() {
    let scratch = Scratch::new();
    let base = scratch.file("region");
    let count = |table: &Table| {
        let (mut tally, places) = (Tally::default(), Places::of(table.region()).expect("on"));
        tally.add(Try { ended: answered(200, 5), ..tries(table, "api")[0] }, &places);
        tally.flush(&places);
        report(table, "api")["requests"].as_u64().expect("a number")
    };
    let table = with_statistics(&base, MIB);
    set(&table, "api", &["10.0.0.1"]);
    assert_eq!((count(&table), count(&table)), (1, 2));
    drop(table);
    assert_eq!(count(&with_statistics(&base, MIB)), 3);
    let file = statistics_of(&base, LAYOUT);
    std::fs::remove_file(&file).expect("there");
    assert_eq!(count(&with_statistics(&base, MIB)), 1);
    std::fs::write(&file, b"short").expect("there");
    assert_eq!(count(&with_statistics(&base, MIB)), 1);
    assert_eq!(count(&with_statistics(&base, 2 * MIB)), 1, "another size");
    assert_eq!(count(&with_statistics(&base, 2 * MIB)), 2);
}

#[test]
fn a_file_that_is_cut_short_under_the_mapping_costs_statistics_alone() {
    let scratch = Scratch::new();
    let base = scratch.file("region");
    let table = with_statistics(&base, MIB);
    set(&table, "api", &["10.0.0.1", "10.0.0.2"]);
    let (mut tally, places) = (Tally::default(), Places::of(table.region()).expect("on"));
    for cut in [false, true, true] {
        if cut {
            let file = std::fs::OpenOptions::new().write(true).open(statistics_of(&base, LAYOUT)).expect("there");
            file.set_len(0).expect("ours");
        }
        tries(&table, "api").iter().for_each(|&one| tally.add(Try { ended: answered(200, 5), ..one }, &places));
        while !tally.flush(&places) {}
        let _ = json(&table, "api", None, &Window::All);
        let _ = json(&table, "api", None, &Window::Seconds(3600));
    }
    set(&table, "api", &["10.0.0.3"]);
    assert_eq!((names(&table), table.region().lost()), (vec!["api".to_owned()], None));
}

/// Nanoseconds of adding the 100 tries of each tenth of a second, by workers that count at these peers at the same time.
fn cost_of_adding(table: &Table, peers: &[Try]) -> u128 {
    const TRIES: u32 = 100;
    const ROUNDS: u32 = 3000;
    let start = std::sync::Barrier::new(peers.len());
    let work = |one: &Try| {
        let (mut tally, places) = (Tally::default(), Places::of(table.region()).expect("on"));
        let mut spent = Duration::ZERO;
        start.wait();
        for _ in 0..ROUNDS {
            (0..TRIES).for_each(|nth| tally.add(Try { ended: answered(200, nth % 50), ..*one }, &places));
            let began = Instant::now();
            while !tally.flush(&places) {}
            spent += began.elapsed();
        }
        spent.as_nanos() / u128::from(ROUNDS)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = peers.iter().map(|one| scope.spawn(|| work(one))).collect();
        let costs = workers.into_iter().map(|worker| worker.join().expect("it ends"));
        costs.sum::<u128>() / peers.len() as u128
    })
}

#[test]
#[ignore = "needs a quiet machine"]
fn adding_costs_little_where_two_workers_count_at_one_peer() {
    let scratch = Scratch::new();
    let table = with_statistics(&scratch.file("region"), MIB);
    ["api", "other"].iter().for_each(|name| set(&table, name, &["10.0.0.1"]));
    let (one, other) = (tries(&table, "api")[0], tries(&table, "other")[0]);
    let least = |peers: &[Try]| (0..9).map(|_| cost_of_adding(&table, peers)).min().expect("some");
    let [alone, apart, at_one] = [&[one][..], &[one, other], &[one, one]].map(least);
    println!(
        "100 tries of a tenth of a second: one worker {alone} ns, two at two upstreams {apart} ns, two at one peer {at_one} ns"
    );
    assert!(at_one < 100_000, "a thousandth of the time");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn whatever_is_spoiled_there_is_an_answer_and_the_table_stands(
        spoiled in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 1..40), header: bool,
    ) {
        let scratch = Scratch::new();
        let base = scratch.file("region");
        let table = with_statistics(&base, 256 << 10);
        set(&table, "api", &["10.0.0.1", "10.0.0.2"]);
        let (mut tally, places) = (Tally::default(), Places::of(table.region()).expect("on"));
        let mut add = || {
            tries(&table, "api").iter().for_each(|&one| tally.add(Try { ended: answered(200, 5), ..one }, &places));
            while !tally.flush(&places) {}
        };
        add();
        let file = std::fs::OpenOptions::new().write(true).open(statistics_of(&base, LAYOUT)).expect("there");
        for (at, value) in &spoiled {
            use std::os::unix::fs::FileExt;
            let words = if header { 600 } else { (256 << 10) / 8 };
            file.write_all_at(&value.to_ne_bytes(), 8 * at.index(words) as u64).expect("inside");
        }
        add();
        let _ = json(&table, "api", None, &Window::All);
        let _ = json(&table, "api", None, &Window::Seconds(60));
        prop_assert_eq!(names(&table), ["api"]);
    }
}
