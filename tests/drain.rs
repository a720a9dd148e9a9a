//! Peers that are to be deleted once they are idle: how they are made to stay, and that a status brings them back as they were.

#![allow(unsafe_code)]

mod common;

use common::*;
use dyups::config::peer::{PeerPatch, peer_patch};
use dyups::config::{json, value};
use dyups::health;
use dyups::table::ops::Absent;
use dyups::table::{Peer, Status, Table, Upstream};
use std::time::Duration;

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

/// Its connection ends, and what is done once a second is done.
fn becomes_idle(table: &Table) {
    let cells = table.region().cells().expect("some");
    if let Some(&cell) = cells_of(table, "api").get(ONE) {
        cells.count_in(0, cell, false).expect("inside");
    }
    health::delete_idle(table).expect("sound");
}

fn patch_of(json: &str) -> PeerPatch {
    peer_patch(&value::parse(json.as_bytes()).expect("JSON"), "peer").expect("a peer")
}

/// The upstreams as `status` shows them.
fn status(table: &Table) -> Vec<Upstream> {
    json::file(&dyups::status::json(table, None).expect("sound")).expect("a file")
}

#[test]
fn a_peer_that_leaves_is_there_as_long_as_it_has_a_connection() {
    let (table, _scratch) = leaving();
    health::delete_idle(&table).expect("sound");
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
    let (other, _other_scratch) = common::table(SMALL);
    other.load(&before, false, SOON).expect("room");
    assert_eq!(status(&other), before);
    health::delete_idle(&other).expect("sound");
    assert_eq!(status(&other)[0].peers, before[0].peers[1..], "it is idle there");
    // That was the file's doing: it is followed as before.
    let file = [upstream("api", &[TWO, "10.0.0.3:80"])];
    other.load(&file, false, Duration::ZERO).expect("room");
    assert_eq!(status(&other), file);
}
