//! The history beside a region: which events it has of peers, and that it goes with the table into another region.

#![allow(unsafe_code)]

mod support;

use dyups::shm::history::{Change, Event};
use dyups::shm::layout::LAYOUT;
use dyups::shm::region::{cells_of, history_of, lock_of};
use dyups::state::events::Standing;
use dyups::status::peers::{PeerState, states};
use dyups::table::change_log::{MOST_TURNED, record};
use dyups::table::history::enter;
use dyups::table::store::Table;
use dyups::upstream::{Peer, Status, Upstream};
use std::path::Path;
use std::time::Instant;
use support::*;

const MIB: u64 = 1 << 20;

fn upstream(name: &str, statuses: &[Status]) -> Upstream {
    let peer = |(nth, &status): (usize, &Status)| {
        let server = format!("10.{}.{}.{}:80", nth >> 16, nth >> 8 & 255, nth & 255);
        Peer { status, ..peer(&server, 1) }
    };
    Upstream { name: name.into(), peers: statuses.iter().enumerate().map(peer).collect(), ..Upstream::default() }
}

/// Changes an upstream as a caller called `by` does.
fn put(table: &Table, name: &str, statuses: &[Status], by: &str) {
    let (done, changes) = record(|| table.set_upstream(&upstream(name, statuses), SOON));
    done.expect("room");
    changes.iter().for_each(|change| enter(table, change, by));
}

fn peers(table: &Table, name: &str) -> Vec<PeerState> {
    states(table, name).expect("sound")
}

fn causes(table: &Table, name: &str) -> Vec<Option<String>> {
    peers(table, name).iter().map(|peer| peer.event(table).map(|event| event.text)).collect()
}

fn changes(table: &Table) -> Vec<Change> {
    table.region().history().expect("one").changes().expect("readable")
}

fn opened(path: &Path, size: u64) -> Table {
    open(path, size).expect("usable").0
}

/// An upstream whose peers were turned often, beside one that goes again, so that cells have other numbers in a new region.
fn turned(table: &Table) {
    use Status::{Down, Drain, Up};
    put(table, "first", &[Up; 5], "file");
    put(table, "api", &[Up, Up, Up], "file");
    put(table, "api", &[Down, Up, Drain], "Lua");
    put(table, "api", &[Up, Up, Drain], "HTTP");
    table.delete_upstream("first", true, SOON).expect("there");
}

#[test]
fn a_region_of_another_size_and_one_beside_a_new_lock_file_have_all_changes_and_events() {
    let scratch = Scratch::new();
    let path = scratch.file("region");
    let table = opened(&path, SMALL);
    turned(&table);
    let events = |table: &Table| -> Vec<Vec<Event>> {
        let history = table.region().history().expect("one");
        let who = |peer: &PeerState| peer.who.expect("it has a cell");
        peers(table, "api").iter().map(|peer| history.events(who(peer)).expect("readable")).collect()
    };
    let before = (changes(&table), events(&table));
    assert_eq!(before.1.iter().map(Vec::len).collect::<Vec<_>>(), [2, 0, 1]);
    drop(table);
    for (size, what) in [(4 * MIB, "larger"), (SMALL, "smaller")] {
        let table = opened(&path, size);
        assert_eq!((changes(&table), events(&table)), before, "{what}");
        let expected = [Some("up by HTTP".to_owned()), None, Some("drain by Lua".to_owned())];
        assert_eq!(causes(&table, "api"), expected, "{what}");
    }
    std::fs::remove_file(lock_of(&path)).expect("there");
    let table = opened(&path, SMALL);
    assert_eq!((changes(&table), events(&table)), before);
    // It goes on from there.
    put(&table, "api", &[Status::Up; 3], "Lua");
    assert_eq!(changes(&table).len(), before.0.len() + 1);
    assert_eq!(causes(&table, "api")[2].as_deref(), Some("up by Lua"));
}

#[test]
fn a_lost_or_spoiled_file_beside_a_region_costs_no_table() {
    let scratch = Scratch::new();
    let path = scratch.file("region");
    turned(&opened(&path, SMALL));
    let (cells, history) = (cells_of(&path, LAYOUT), history_of(&path, LAYOUT));
    std::fs::remove_file(&cells).expect("there");
    let table = opened(&path, 4 * MIB);
    assert_eq!((changes(&table).len(), causes(&table, "api")), (4, vec![None, None, None]));
    drop(table);
    let bytes = std::fs::metadata(&history).expect("there").len() as usize;
    for (size, spoiled) in [(SMALL, vec![]), (4 * MIB, vec![0xff; bytes]), (SMALL, vec![0; 4096])] {
        std::fs::write(&history, spoiled).expect("there");
        let table = opened(&path, size);
        assert_eq!((names(&table), changes(&table)), (vec!["api".to_owned()], vec![]));
    }
    std::fs::remove_file(&history).expect("there");
    std::fs::create_dir(&history).expect("the name is free");
    let (table, notes) = open(&path, 4 * MIB).expect("usable");
    assert!(table.region().history().is_none() && notes.iter().any(|note| note.contains("is not kept")), "{notes:?}");
    assert_eq!((names(&table), causes(&table, "api")), (vec!["api".to_owned()], vec![None, None, None]));
}

#[test]
fn a_change_that_turns_very_many_peers_has_events_of_the_first_of_them_and_takes_no_time() {
    let (table, _scratch) = table(64 * MIB);
    let peers = 100_000;
    put(&table, "api", &vec![Status::Up; peers], "file");
    let (done, changes) = record(|| table.set_upstream(&upstream("api", &vec![Status::Drain; peers]), SOON));
    done.expect("room");
    let began = Instant::now();
    changes.iter().for_each(|change| enter(&table, change, "Lua"));
    println!("{} events entered in {:?}", MOST_TURNED, began.elapsed());
    let causes = causes(&table, "api");
    assert_eq!(causes.iter().filter(|cause| cause.is_some()).count(), MOST_TURNED);
    assert!(self::peers(&table, "api").iter().all(|peer| peer.state == Standing::Drain));
}
