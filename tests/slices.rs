//! Answers that are written in slices: the slices make the answer, however long each is, and each upstream in it is of one moment.

mod support;

use dyups::config::report::Window;
use dyups::error::Code;
use dyups::pace::Pace;
use dyups::stats::ended::Ended;
use dyups::stats::place::Places;
use dyups::stats::tally::{Tally, Try};
use dyups::status::doc::Shape;
use dyups::status::metrics::{Format, MetricsAnswer, Parts};
use dyups::status::report::ReportAnswer;
use dyups::status::slices::{Sliced, whole};
use dyups::status::table::{RoutesAnswer, TableAnswer};
use dyups::status::text::{Text, TextAnswer};
use dyups::table::Table;
use dyups::upstream::{Route, Target, Upstream};
use proptest::prelude::*;
use serde_json::Value;
use support::*;

const MIB: u64 = 1 << 20;

/// A table with upstreams of so many peers each, routes to them, and traffic at each third peer.
fn filled(scratch: &Scratch, sizes: &[usize]) -> Table {
    let (mut table, _) = open(&scratch.file("region"), 8 * MIB).expect("usable");
    table.keep_statistics(8 * MIB).expect("room");
    for (nth, &size) in sizes.iter().enumerate() {
        table.set_upstream(&numbered(nth, size, 1), SOON).expect("room");
        let target = Target { upstream: format!("u{nth}"), weight: 1 };
        let route = Route { host: format!("h{nth}"), targets: vec![target], key: None };
        table.set_route(&route, SOON).expect("room");
        let (mut tally, places) = (Tally::default(), Places::of(table.region()).expect("on"));
        for (at, of) in tries(&table, &format!("u{nth}")).into_iter().enumerate().filter(|(at, _)| at % 3 == 0) {
            let ended = Ended { status: 200 + at as u16 % 5, header_ms: Some(at as u32), ..Ended::default() };
            tally.add(Try { ended, ..of }, &places);
        }
        while !tally.flush(&places) {}
    }
    table
}

/// An upstream whose peers all have this weight.
fn numbered(nth: usize, size: usize, weight: u16) -> Upstream {
    let server = |at: usize| format!("10.{nth}.{}.{}:80", at / 250, at % 250);
    let peers = (0..size).map(|at| peer(&server(at), weight)).collect();
    Upstream { name: format!("u{nth}"), peers, ..Upstream::default() }
}

/// All slices of an answer, each of this length.
fn slices(mut answer: impl Sliced, peers: u32) -> Vec<Vec<u8>> {
    let mut slices = Vec::new();
    loop {
        let mut out = Vec::new();
        let more = answer.write(&mut Pace::of(peers), &mut out).expect("readable");
        slices.push(out);
        if !more {
            return slices;
        }
    }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (Value::Array(into), Value::Array(mut from)) => into.append(&mut from),
        (into, from) => *into = from,
    }
}

fn merged(slices: &[Vec<u8>]) -> Value {
    let mut all = Value::Object(serde_json::Map::new());
    for slice in slices {
        merge(&mut all, serde_json::from_slice(slice).expect("an object"));
    }
    all
}

/// Without the moment of a report, which each answer has its own of.
fn without_time(mut value: Value) -> Value {
    if let Some(mark) = value.get_mut("mark").and_then(Value::as_array_mut) {
        let joined = mark.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(";");
        *mark = vec![joined.split_once(';').map_or("", |(_, rest)| rest).into()];
    }
    value
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn slices_of_any_length_make_the_answer(sizes in prop::collection::vec(0usize..40, 0..8), big in 0usize..600, peers in 1u32..80) {
        let scratch = Scratch::new();
        let sizes: Vec<usize> = sizes.into_iter().chain([big]).collect();
        let table = filled(&scratch, &sizes);
        let last = format!("u{}", sizes.len() - 1);
        let name = Some(last.as_str());
        for (of, stats) in [(None, false), (None, true), (name, true)] {
            let answer = |shape| TableAnswer::of(&table, of, None, stats, shape).expect("readable");
            let all = whole(answer(Shape::Text)).expect("readable");
            prop_assert!(slices(answer(Shape::Text), peers).concat() == all);
            let value: Value = serde_json::from_slice(&all).expect("JSON");
            prop_assert!(merged(&slices(answer(Shape::Objects), peers)) == value);
            prop_assert!(all.ends_with(b",\"changed\":false}"), "the last field");
        }
        let routes = |shape| RoutesAnswer::of(&table, shape).expect("readable");
        let all = whole(routes(Shape::Text)).expect("readable");
        prop_assert!(slices(routes(Shape::Text), peers).concat() == all);
        prop_assert!(merged(&slices(routes(Shape::Objects), peers)) == serde_json::from_slice::<Value>(&all).expect("JSON"));
        for text in [Text::List, Text::Detail, Text::Routes, Text::Servers(&last), Text::Block(&last)] {
            let answer = || TextAnswer::of(&table, text).expect("readable");
            prop_assert!(slices(answer(), peers).concat() == whole(answer()).expect("readable"), "{text:?}");
        }
        for (format, peers_too) in [(Format::Text, true), (Format::OpenMetrics, true), (Format::Text, false)] {
            let parts = Parts { peers: peers_too, histograms: peers_too };
            let answer = || MetricsAnswer::of(&table, None, format, parts).expect("readable");
            prop_assert!(slices(answer(), peers).concat() == whole(answer()).expect("readable"), "{parts:?}");
        }
        let report = |shape| ReportAnswer::of(&table, &last, None, Window::All, shape).expect("readable");
        let all = merged(&slices(report(Shape::Objects), peers));
        prop_assert_eq!(all["peers"].as_array().map(Vec::len), Some(big));
        let at_once = serde_json::from_slice(&whole(report(Shape::Text)).expect("readable")).expect("JSON");
        prop_assert!(without_time(all) == without_time(at_once));
    }

    #[test]
    fn each_upstream_is_of_one_moment_whatever_changes_between_two_slices(
        peers in 1u32..50,
        changes in prop::collection::vec((0usize..6, 0usize..700, 2u16..9), 1..30),
    ) {
        let scratch = Scratch::new();
        let table = filled(&scratch, &[30, 0, 700, 5]);
        let mut answer = TableAnswer::of(&table, None, None, true, Shape::Objects).expect("readable");
        let mut metrics = MetricsAnswer::of(&table, None, Format::Text, Parts { peers: true, histograms: true }).expect("readable");
        let (mut all, mut page, mut more) = (Vec::new(), Vec::new(), true);
        for (nth, size, weight) in changes {
            if more {
                let mut out = Vec::new();
                more = answer.write(&mut Pace::of(peers), &mut out).expect("readable");
                metrics.write(&mut Pace::of(peers), &mut page).expect("readable");
                all.push(out);
            }
            match size {
                0 => drop(table.delete_upstream(&format!("u{nth}"), true, SOON)),
                _ => table.set_upstream(&numbered(nth, size, weight), SOON).expect("room"),
            }
        }
        if more {
            all.extend(slices(answer, peers));
        }
        slices(metrics, peers);
        let all = merged(&all);
        prop_assert!(all["changed"] == more || !more, "it says so");
        for (name, upstream) in all["upstreams"].as_object().expect("an object") {
            let peers = upstream["peers"].as_array().expect("a list");
            prop_assert!(peers.iter().all(|peer| peer["weight"] == peers[0]["weight"]), "{name} of two moments");
            let servers: std::collections::BTreeSet<String> = peers.iter().map(|peer| format!("{}:{}", peer["host"], peer["port"])).collect();
            prop_assert_eq!(servers.len(), peers.len(), "{}: a peer twice", name);
        }
    }
}

#[test]
fn a_peer_whose_place_another_one_took_has_none_of_its_numbers() {
    let scratch = Scratch::new();
    let table = filled(&scratch, &[30]);
    let mut answer = TableAnswer::of(&table, None, None, true, Shape::Objects).expect("readable");
    let mut all = vec![Vec::new()];
    while !String::from_utf8_lossy(&all.concat()).contains("10.0.0.1") {
        all.push(Vec::new());
        assert!(answer.write(&mut Pace::of(1), all.last_mut().expect("one")).expect("readable"));
    }
    all.retain(|slice| !slice.is_empty());
    // The peers go, and others get their cells, and traffic.
    table.delete_upstream("u0", true, SOON).expect("there");
    table.set_upstream(&numbered(7, 30, 1), SOON).expect("room");
    let cells = table.region().cells().expect("on");
    for cell in cells_of(&table, "u7").into_values() {
        cells.activate(0).ok();
        cells.count_in(0, cell, true).expect("a cell");
    }
    all.extend(slices(answer, 5));
    let all = merged(&all);
    let peers = all["upstreams"]["u0"]["peers"].as_array().expect("a list");
    assert_eq!((peers.len(), &all["changed"]), (30, &Value::from(true)));
    assert!(peers[5..].iter().all(|peer| peer["conns"] == 0 && peer["stats"]["requests"] == 0), "{peers:?}");
}

#[test]
fn an_upstream_that_changes_all_the_time_is_read_all_the_same() {
    let scratch = Scratch::new();
    let table = filled(&scratch, &[2000]);
    let mut answer = TableAnswer::of(&table, None, None, false, Shape::Text).expect("readable");
    let (mut out, mut weight) = (Vec::new(), 1);
    while answer.write(&mut Pace::of(3), &mut out).expect("readable") {
        weight = weight % 1000 + 1;
        if !String::from_utf8_lossy(&out).contains("\"u0\"") {
            table
                .put_peer("u0", &patch("10.0.0.0:80", weight), dyups::table::ops::Absent::Refuse, SOON)
                .expect("there");
        }
    }
    let all: Value = serde_json::from_slice(&out).expect("JSON");
    assert_eq!(all["upstreams"]["u0"]["peers"].as_array().map(Vec::len), Some(2000));
    assert_eq!(all["changed"], true);
}

#[test]
fn an_upstream_that_is_not_there_is_not_found() {
    let scratch = Scratch::new();
    let table = filled(&scratch, &[1]);
    let code = |error: dyups::error::Error| error.code;
    assert_eq!(
        TableAnswer::of(&table, Some("x"), None, false, Shape::Text).map(drop).map_err(code),
        Err(Code::NotFound)
    );
    assert_eq!(TextAnswer::of(&table, Text::Servers("x")).map(drop).map_err(code), Err(Code::NotFound));
    let report = ReportAnswer::of(&table, "u0", Some("10.9.9.9:1"), Window::All, Shape::Text).expect("there");
    assert_eq!(whole(report).map(drop).map_err(code), Err(Code::NotFound));
}

#[test]
fn a_change_that_is_under_way_may_change_the_answer_and_one_whose_writer_died_may_not() {
    let scratch = Scratch::new();
    let table = filled(&scratch, &[3]);
    let changed = || {
        let answer = TableAnswer::of(&table, None, None, false, Shape::Text).expect("readable");
        serde_json::from_slice::<Value>(&whole(answer).expect("readable")).expect("JSON")["changed"] == true
    };
    assert!(!changed());
    let writer = table.writer(SOON).expect("free");
    assert!(!changed(), "it has not begun");
    writer.begin().expect("inside");
    assert!(changed());
    drop(writer);
    assert!(!changed(), "nothing comes of it any more");
    table.set_upstream(&numbered(1, 2, 1), SOON).expect("room");
    assert!(!changed());
}
