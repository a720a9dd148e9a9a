//! Peers that are to be deleted once they are idle, and peers that were deleted while they were not. Calls keep them, `status`
//! shows them, and a load of its answer brings them back as they were.

#![allow(unsafe_code)]

mod support;

use dyups::config::peer::peer_patch;
use dyups::config::{json, value};
use dyups::shm::cells::deleted::Ledger;
use dyups::shm::layout::LAYOUT;
use dyups::shm::region::cells_of as cells_file;
use dyups::table::Table;
use dyups::table::ops::Absent;
use dyups::upstream::PeerPatch;
use dyups::upstream::{Peer, Status, Upstream};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use support::*;

const ONE: &str = "10.0.0.1:80";
const TWO: &str = "10.0.0.2:80";

/// An upstream whose first peer leaves, and has a connection open.
fn leaving() -> (Table, Scratch) {
    let (table, scratch) = table(SMALL);
    table.set_upstream(&upstream("api", &[ONE, TWO]), SOON).expect("room");
    let cells = table.region().cells().expect("some");
    cells.activate(0).expect("room");
    cells.count_in(0, cells_of(&table, "api")[ONE], true).expect("inside");
    table.drain_peer("api", &address(ONE), SOON).expect("there");
    assert_eq!(shown(&table), Some(Status::Leaving));
    (table, scratch)
}

fn first(table: &Table) -> Option<Peer> {
    let peers = table.upstream("api").expect("there").upstream.peers;
    peers.into_iter().find(|peer| peer.address.same_as(&address(ONE)))
}

fn shown(table: &Table) -> Option<Status> {
    first(table).map(|peer| peer.status)
}

/// Its connection ends, and a worker does the work of each second.
fn becomes_idle(table: &Table) {
    let cells = table.region().cells().expect("some");
    if let Some(&cell) = cells_of(table, "api").get(ONE) {
        cells.count_in(0, cell, false).expect("inside");
    }
    table.delete_drained(&AtomicUsize::new(0)).expect("sound");
}

fn patch_of(json: &str) -> PeerPatch {
    peer_patch(&value::parse(json.as_bytes()).expect("JSON"), "peer").expect("a peer")
}

/// The upstreams as `status` shows them.
fn status(table: &Table) -> Vec<Upstream> {
    json::file(&dyups::status::json(table, None, None).expect("sound")).expect("a file").upstreams
}

#[test]
fn a_peer_that_leaves_is_there_as_long_as_it_has_a_connection() {
    let (table, _scratch) = leaving();
    table.delete_drained(&AtomicUsize::new(0)).expect("sound");
    assert_eq!(shown(&table), Some(Status::Leaving));
    becomes_idle(&table);
    assert_eq!(shown(&table), None);
    assert_no_leak(&table);
}

#[test]
fn a_peer_that_is_added_while_it_leaves_is_there_to_stay() {
    let given = |more: &str| patch_of(&format!(r#"{{"server":"{ONE}"{more}}}"#));
    for (absent, more, status) in [
        (Absent::Make, "", Status::Up),
        (Absent::Make, r#","weight":7"#, Status::Up),
        (Absent::Make, r#","leaving":false"#, Status::Up),
        (Absent::Make, r#","status":"drain""#, Status::Drain),
        (Absent::Make, r#","status":"down""#, Status::Down),
        (Absent::Refuse, "", Status::Drain),
        (Absent::Refuse, r#","weight":7"#, Status::Drain),
        (Absent::Refuse, r#","status":"up""#, Status::Up),
        (Absent::Refuse, r#","status":"drain""#, Status::Drain),
        (Absent::Refuse, r#","status":"drain","leaving":false"#, Status::Drain),
    ] {
        let (table, _scratch) = leaving();
        let cell = cells_of(&table, "api")[ONE];
        table.put_peer("api", &given(more), absent, SOON).expect("there");
        assert_eq!(shown(&table), Some(status), "{absent:?} {more}");
        becomes_idle(&table);
        assert_eq!(shown(&table), Some(status), "{absent:?} {more}, when it is idle");
        assert_eq!(cells_of(&table, "api").get(ONE), Some(&cell), "with the connections that it has");
    }
}

#[test]
fn a_call_can_say_that_a_peer_leaves() {
    for absent in [Absent::Make, Absent::Refuse] {
        for more in [r#""leaving":true"#, r#""leaving":true,"status":"drain""#, r#""leaving":true,"weight":3"#] {
            let (table, _scratch) = leaving();
            let patch = patch_of(&format!(r#"{{"server":"{ONE}",{more}}}"#));
            table.put_peer("api", &patch, absent, SOON).expect("there");
            assert_eq!(shown(&table), Some(Status::Leaving), "{absent:?} {more}");
            becomes_idle(&table);
            assert_eq!(shown(&table), None, "{absent:?} {more}");
        }
    }
}

#[test]
fn an_upstream_that_is_replaced_has_the_peers_of_its_list_as_that_says() {
    let (table, _scratch) = leaving();
    let shown_by_status = status(&table);
    table.set_upstream(&upstream("api", &[ONE, TWO]), SOON).expect("room");
    assert_eq!(shown(&table), Some(Status::Up));
    table.set_upstream(&shown_by_status[0], SOON).expect("room");
    assert_eq!(shown(&table), Some(Status::Leaving));
    becomes_idle(&table);
    assert_eq!(shown(&table), None);
}

#[test]
fn a_status_that_is_loaded_is_the_same_table_and_a_peer_leaves_as_before() {
    let (table, _scratch) = leaving();
    let before = status(&table);
    assert_eq!(before[0].peers[0].status, Status::Leaving);
    let (other, _other_scratch) = support::table(SMALL);
    other.load(&before, false, SOON).expect("room");
    assert_eq!(status(&other), before);
    other.delete_drained(&AtomicUsize::new(0)).expect("sound");
    assert_eq!(status(&other)[0].peers, before[0].peers[1..], "it is idle there");
    // That was the file's doing: it is followed as before.
    let file = [upstream("api", &[TWO, "10.0.0.3:80"])];
    other.load(&file, false, Duration::ZERO).expect("room");
    assert_eq!(status(&other), file);
}

// ---- peers that were deleted with connections open --------------------------------------------------------------------

/// A table of an upstream with three peers, of which the first and the last have 2 and 1 connections open.
fn connected() -> (Table, Scratch) {
    let (table, scratch) = table(SMALL);
    let cells = table.region().cells().expect("some");
    cells.activate(0).expect("room");
    table.set_upstream(&upstream("api", &[ONE, TWO, LONG]), SOON).expect("room");
    for server in [ONE, ONE, LONG] {
        open(&table, cells_of(&table, "api")[server], true);
    }
    assert_eq!(deleted(&table), []);
    (table, scratch)
}

const LONG: &str = "unix:/run/a/path/that/is/longer/than/what/fits/inline.sock";

fn open(table: &Table, cell: u32, more: bool) {
    table.region().cells().expect("some").count_in(0, cell, more).expect("inside");
}

/// Those that are no more: upstream, server and connections. `status` would first ask whether the worker lives that counted here.
fn deleted(table: &Table) -> Vec<(String, String, u64)> {
    let all = Ledger::of(table.region().cells().expect("some")).all().expect("sound");
    all.into_iter().map(|peer| (peer.upstream, peer.server, peer.conns)).collect()
}

fn gone(upstream: &str, server: &str, conns: u64) -> (String, String, u64) {
    (upstream.into(), server.into(), conns)
}

#[test]
fn a_peer_that_is_deleted_is_shown_until_its_last_connection_is_over() {
    let (table, _scratch) = connected();
    let cell = cells_of(&table, "api")[ONE];
    table.delete_peer("api", &address(ONE), SOON).expect("there");
    table.delete_peer("api", &address(TWO), SOON).expect("there");
    assert_eq!(deleted(&table), [gone("api", ONE, 2)]);
    open(&table, cell, false);
    assert_eq!(deleted(&table), [gone("api", ONE, 1)]);
    open(&table, cell, false);
    assert_eq!(deleted(&table), []);
    assert_no_leak(&table);
}

#[test]
fn however_a_peer_is_deleted_it_is_shown() {
    type Delete = fn(&Table);
    let without_two: Delete = |table| table.set_upstream(&upstream("api", &[TWO]), SOON).expect("room");
    let all: Delete = |table| table.delete_upstream("api", true, SOON).expect("there");
    let from_file: Delete = |table| {
        table.load(&[upstream("api", &[ONE, TWO, LONG])], true, SOON).expect("room");
        table.delete_upstream("api", true, SOON).expect("there");
    };
    let by_file: Delete = |table| table.load(&[upstream("api", &[TWO])], true, SOON).expect("room");
    for delete in [without_two, all, from_file, by_file] {
        let (table, _scratch) = connected();
        delete(&table);
        assert_eq!(deleted(&table), [gone("api", ONE, 2), gone("api", LONG, 1)]);
        assert_no_leak(&table);
        assert_eq!(deleted(&table), [gone("api", ONE, 2), gone("api", LONG, 1)], "after a repair");
    }
}

#[test]
fn one_that_is_made_again_begins_anew_beside_the_one_that_is_gone() {
    let (table, _scratch) = connected();
    let old = cells_of(&table, "api")[ONE];
    table.delete_upstream("api", true, SOON).expect("there");
    table.set_upstream(&upstream("api", &[ONE]), SOON).expect("room");
    table.set_upstream(&upstream("web", &[ONE]), SOON).expect("room");
    let new = cells_of(&table, "api")[ONE];
    open(&table, new, true);
    assert_eq!(deleted(&table), [gone("api", ONE, 2), gone("api", LONG, 1)]);
    [old, old].into_iter().for_each(|cell| open(&table, cell, false));
    table.delete_peer("api", &address(ONE), SOON).expect("there");
    assert_eq!(deleted(&table), [gone("api", LONG, 1), gone("api", ONE, 1)]);
}

#[test]
fn a_peer_that_is_deleted_where_there_is_no_room_is_shown_too() {
    let (table, _scratch) = connected();
    let mut size = 1024;
    while size > 0 {
        let filler: Vec<String> = (0..size).map(|i| format!("10.1.{}.{}:80", i >> 8, i & 255)).collect();
        let filler: Vec<&str> = filler.iter().map(String::as_str).collect();
        // Names take room too: as few as there can be.
        let name = format!("filler-{}", names(&table).len());
        match table.set_upstream(&upstream(&name, &filler), SOON) {
            Ok(()) => {}
            Err(_) => size /= 2,
        }
    }
    assert!(table.put_peer("api", &patch("10.0.0.9:80", 1), Absent::Make, SOON).is_err(), "it is full");
    table.delete_peer("api", &address(ONE), SOON).expect("by the spare");
    assert_eq!(deleted(&table), [gone("api", ONE, 2)]);
    assert_no_leak(&table);
}

#[test]
fn a_file_of_cells_that_had_no_room_for_it_is_made_anew() {
    let (table, scratch) = connected();
    drop(table);
    let file = cells_file(&scratch.file("region"), LAYOUT);
    let size = |file: &std::path::Path| std::fs::metadata(file).expect("there").len();
    let before = size(&file);
    let shorter = before - 128 * 1024;
    std::fs::OpenOptions::new().write(true).open(&file).expect("ours").set_len(shorter).expect("cut");
    let (table, _) = support::open(&scratch.file("region"), SMALL).expect("usable");
    assert_eq!((size(&file), deleted(&table)), (before, vec![]));
    assert_no_leak(&table);
}
