//! This library keeps the data that a later library of the same layout has stored: tiers, weights, options and kinds that it
//! does not know.

#![allow(unsafe_code)]

mod support;

use dyups::shm::WORD;
use dyups::table::commit::{self, Build, CellPlan, RingPlan};
use dyups::table::directory::Directory;
use dyups::table::ops::Absent;
use dyups::table::snapshot::{Flags, Kind, View, encode};
use dyups::table::{Table, directory};
use dyups::upstream::kept::{Extras, Foreign, ForeignPeer};
use dyups::upstream::{Peer, Status, Upstream};
use std::collections::BTreeMap;
use support::*;

fn view(table: &Table, name: &str) -> View {
    Directory::new(table.region()).find(name.as_bytes()).expect("readable").expect("there").1
}

/// The ids of an upstream's peers, by server, and the next one.
fn ids(table: &Table, name: &str) -> (BTreeMap<String, u32>, u32) {
    let (view, mem) = (view(table, name), table.region().mem());
    let of = |index| {
        let address = view.address(mem, index).expect("inside");
        (address.server().to_owned(), view.id(mem, index).expect("inside"))
    };
    ((0..view.peers).map(of).collect(), view.next_id)
}

fn expected(pairs: &[(&str, u32)]) -> BTreeMap<String, u32> {
    pairs.iter().map(|&(server, id)| (server.to_owned(), id)).collect()
}

#[test]
fn a_peer_keeps_its_id_and_no_other_gets_it_while_the_upstream_lives() {
    let scratch = Scratch::new();
    let base = scratch.file("region");
    let (table, _) = open(&base, SMALL).expect("usable");
    table.set_upstream(&upstream("api", &["10.0.0.1", "10.0.0.2", "10.0.0.3"]), SOON).expect("room");
    assert_eq!(ids(&table, "api"), (expected(&[("10.0.0.1", 0), ("10.0.0.2", 1), ("10.0.0.3", 2)]), 3));
    table.delete_peer("api", &address("10.0.0.3"), SOON).expect("there");
    table.put_peer("api", &patch("10.0.0.3", 1), Absent::Make, SOON).expect("room");
    table.set_upstream(&upstream("api", &["10.0.0.4", "10.0.0.3", "10.0.0.1"]), SOON).expect("room");
    let now = (expected(&[("10.0.0.1", 0), ("10.0.0.3", 3), ("10.0.0.4", 4)]), 5);
    assert_eq!(ids(&table, "api"), now);
    // Also where the region is made anew.
    drop(table);
    let (table, _) = open(&base, 2 * SMALL).expect("usable");
    assert_eq!((ids(&table, "api"), table.region().geometry().size), (now, 2 * SMALL));
    table.delete_upstream("api", true, SOON).expect("there");
    table.set_upstream(&upstream("api", &["10.0.0.9"]), SOON).expect("room");
    assert_eq!(ids(&table, "api"), (expected(&[("10.0.0.9", 0)]), 1), "another upstream of that name");
}

/// An upstream as a later library may have it.
fn from_later() -> Upstream {
    let extras = |entries: &[(u16, &[u8])]| Extras(entries.iter().map(|&(key, value)| (key, value.into())).collect());
    let foreign = |status, tier, weight, all: &[(u16, &[u8])]| {
        Some(Box::new(ForeignPeer { status, tier, weight, extras: extras(all) }))
    };
    Upstream {
        peers: vec![
            Peer { foreign: foreign(0, 0, 100_000, &[(1, b"node-1")]), ..peer("10.0.0.1", u16::MAX) },
            Peer { foreign: foreign(0, 2, 0, &[]), backup: true, ..peer("10.0.0.2", 3) },
            Peer {
                foreign: foreign(9, 0, 0, &[(7, b""), (500, &[0; 300])]),
                status: Status::Down,
                ..peer("10.0.0.3", 1)
            },
            peer("10.0.0.4", 1),
        ],
        foreign: Foreign { extras: extras(&[(65_535, b"an option of the upstream")]), ..Foreign::default() }.boxed(),
        ..upstream("api", &[])
    }
}

#[test]
fn options_numbers_and_tiers_of_a_later_library_are_kept() {
    let (table, _scratch) = table(SMALL);
    let later = from_later();
    table.set_upstream(&later, SOON).expect("room");
    assert_eq!(table.upstream("api").expect("there").upstream, later);
    // To this library they are the nearest that it knows.
    let (view, mem) = (view(&table, "api"), table.region().mem());
    let bits = [0, 1, 2].map(|index| view.bits(mem, index).expect("inside"));
    assert_eq!(bits.map(|bits| bits.weight()), [u16::MAX, 3, 1]);
    assert_eq!(bits.map(|bits| bits.group() as u8), [0, 1, 0]);
    assert_eq!(bits.map(|bits| bits.status()), [Status::Up, Status::Up, Status::Down]);
    assert_eq!(bits.map(|bits| bits.takes_traffic()), [true, true, false]);
    // An edit of one peer loses nothing of the others, nor any field of this one that it does not touch.
    table.put_peer("api", &patch("10.0.0.4", 9), Absent::Refuse, SOON).expect("there");
    table.delete_peer("api", &address("10.0.0.2"), SOON).expect("there");
    let stored = table.upstream("api").expect("there").upstream;
    assert_eq!((&stored.peers[0], &stored.peers[1]), (&later.peers[0], &later.peers[2]));
    assert_eq!(stored.foreign, later.foreign);
    table.put_peer("api", &patch("10.0.0.1", 5), Absent::Refuse, SOON).expect("there");
    let first = table.upstream("api").expect("there").upstream.peers.swap_remove(0);
    assert_eq!((first.weight, first.weight_number()), (5, 5), "said by this library's caller");
    assert_eq!(
        first.foreign.map(|foreign| foreign.extras),
        later.peers[0].foreign.clone().map(|foreign| foreign.extras)
    );
}

/// Publishes a version of a kind that no library has yet.
fn put_foreign(table: &Table, name: &str) {
    put_with(table, name, 77 << 32);
}

/// Publishes a version with this kind above 32 bits of a source.
fn put_with(table: &Table, name: &str, kind_and_source: u64) {
    let mut image = encode(&upstream(name, &["10.9.9.9"]), Flags::default()).expect("no check");
    image[16] |= kind_and_source;
    let cells = CellPlan { new: vec![0], ..CellPlan::default() };
    let build = Build { image, rings: [RingPlan::None, RingPlan::None], must: true, cells };
    commit::put(&*table.writer(SOON).expect("free"), name, build, None).expect("room");
}

/// The names of that kind, and the content of their blocks behind the head.
fn foreign(table: &Table) -> Vec<(String, Vec<u64>)> {
    let (mut found, mem) = (Vec::new(), table.region().mem());
    let read = |view: &View| {
        assert!(view.kind == Kind(77) || view.kind == Kind::UPSTREAM);
        let mut words = vec![0; 8 * WORD];
        dyups::shm::Memory::load_all(mem, view.stamp.word() + 24, &mut words[..3])?;
        Ok((view.kind == Kind(77)).then_some((view.name(mem)?, words)))
    };
    assert_eq!(Directory::new(table.region()).each_sound(read, |one| found.extend(one)), 0);
    found
}

#[test]
fn a_kind_that_this_library_does_not_know_is_kept_and_shown_nowhere() {
    let scratch = Scratch::new();
    let base = scratch.file("region");
    let (table, _) = open(&base, SMALL).expect("usable");
    table.set_upstream(&upstream("api", &["10.0.0.1"]), SOON).expect("room");
    put_foreign(&table, "www.example.com");
    let kept = foreign(&table);
    assert_eq!((kept.len(), names(&table), table.names()), (1, vec!["api".to_owned()], Ok(vec!["api".to_owned()])));
    assert_eq!(table.upstream("www.example.com").map_err(|error| error.code), Err(dyups::error::Code::NotFound));
    // An upstream may have the same name.
    table.set_upstream(&upstream("www.example.com", &["10.0.0.2"]), SOON).expect("room");
    table.delete_upstream("www.example.com", true, SOON).expect("there");
    table.load(&[], true, SOON).expect("room");
    assert_eq!((foreign(&table), names(&table)), (kept.clone(), vec!["api".to_owned()]));
    assert_eq!(table.repair(&table.writer(SOON).expect("free")), Ok(0));
    assert_eq!((foreign(&table), used_cells(&table)), (kept.clone(), 2));
    drop(table);
    let (table, notes) = open(&base, 2 * SMALL).expect("usable");
    assert!(notes.iter().all(|note| !note.contains("lost")), "{notes:?}");
    assert_eq!((foreign(&table), used_cells(&table)), (kept, 2));
    assert_eq!(directory::hash(b"www.example.com"), crc32fast::hash(b"www.example.com"), "whatever the kind");
}

#[test]
fn an_upstream_stays_that_of_its_source_through_edits_repairs_and_another_region() {
    let scratch = Scratch::new();
    let base = scratch.file("region");
    let (table, _) = open(&base, SMALL).expect("usable");
    let source = table.source("etcd http://127.0.0.1:2379/upstreams", SOON).expect("room");
    put_with(&table, "api", source.into());
    table.put_peer("api", &patch("10.0.0.2", 1), Absent::Make, SOON).expect("room");
    table.delete_peer("api", &address("10.9.9.9"), SOON).expect("there");
    assert_eq!(view(&table, "api").source, source);
    assert_eq!(table.repair(&table.writer(SOON).expect("free")), Ok(0));
    table.set_upstream(&upstream("api", &["10.0.0.1"]), SOON).expect("room");
    assert_eq!(view(&table, "api").source, source);
    drop(table);
    let (table, _) = open(&base, 2 * SMALL).expect("usable");
    assert_eq!(view(&table, "api").source, source);
    assert_eq!(table.source("etcd http://127.0.0.1:2379/upstreams", SOON), Ok(source));
    // One that is made after a deletion is another one.
    table.delete_upstream("api", true, SOON).expect("there");
    table.set_upstream(&upstream("api", &["10.0.0.1"]), SOON).expect("room");
    assert_eq!(view(&table, "api").source, 0);
}

#[test]
fn numbers_of_changes_go_on_in_a_region_that_is_made_anew() {
    let scratch = Scratch::new();
    let base = scratch.file("region");
    let (table, _) = open(&base, SMALL).expect("usable");
    for name in ["b", "a", "c"] {
        table.set_upstream(&upstream(name, &["10.0.0.1"]), SOON).expect("room");
    }
    table.put_peer("b", &patch("10.0.0.2", 1), Absent::Make, SOON).expect("room");
    let before = table.upstreams().expect("readable");
    let last = before.iter().map(|stored| stored.version).max().expect("three");
    drop(table);
    let (table, _) = open(&base, 2 * SMALL).expect("usable");
    assert_eq!(table.names(), Ok(["b", "a", "c"].map(str::to_owned).to_vec()));
    for (old, new) in before.iter().zip(table.upstreams().expect("readable")) {
        assert!(new.version > last && new.created == old.created, "{new:?}");
    }
}
