//! The ring in the region after changes, most of which merge it from the one before.

#![allow(unsafe_code)]

mod support;

use dyups::balance::miss::Miss;
use dyups::balance::pick::{Ask, Handle, Picked};
use dyups::order::chash::{self, Words};
use dyups::table::Table;
use dyups::table::directory::Directory;
use dyups::table::ops::Absent;
use dyups::table::snapshot::{Group, RingWords};
use dyups::upstream::{Address, HashId, Method, PeerPatch, Status, Upstream};
use support::*;

const SIZE: u64 = 16 << 20;
const NAME: &str = "api";

fn server(number: u64) -> String {
    format!("10.0.{}.{}:80", number / 256, number % 256)
}

/// A table with an upstream of as many peers, each tenth a backup, in any order of their numbers.
fn filled(count: u64) -> (Table, Scratch) {
    let (table, scratch) = table(SIZE);
    let mut peers: Vec<_> = (0..count).map(|number| peer(&server(number * 37 % 1000), 1)).collect();
    peers.iter_mut().step_by(10).for_each(|peer| peer.backup = true);
    let method = Some(Method::Chash);
    table.set_upstream(&Upstream { name: NAME.into(), method, peers, ..Upstream::default() }, SOON).expect("room");
    (table, scratch)
}

/// A change of one peer; a few of them are refused.
fn change(table: &Table, random: &mut Random) {
    let server = server(random.below(1000));
    let changed = |patch: PeerPatch| table.put_peer(NAME, &patch, Absent::Refuse, SOON);
    let _ = match random.below(8) {
        0..3 => table.put_peer(NAME, &PeerPatch::new(address(&server)), Absent::Make, SOON),
        3..5 => table.delete_peer(NAME, &address(&server), SOON),
        5 => changed(patch(&server, random.below(4) as u16)),
        6 => changed(PeerPatch { backup: Some(random.below(4) == 0), ..PeerPatch::new(address(&server)) }),
        _ => {
            let status = if random.below(2) == 0 { Status::Up } else { Status::Down };
            changed(PeerPatch { status: Some(status), ..PeerPatch::new(address(&server)) })
        }
    };
}

/// Whether there was a version to look at; asserts that its rings are those of its peers.
fn rings_are_right(table: &Table) -> bool {
    let (directory, mem) = (Directory::new(table.region()), table.region().mem());
    let Ok(Some((record, view))) = directory.find(NAME.as_bytes()) else { return false };
    let upstream = view.decode(mem);
    let words = view.rings.map(|ring| {
        let mut words = vec![0; if ring.block == 0 { 0 } else { ring.words() }];
        RingWords::new(mem, &ring).copy(0, &mut words).map(|()| words)
    });
    if directory.stamp_holds(record, view.stamp) != Ok(true) {
        return false;
    }
    let upstream = upstream.expect("it holds");
    for group in Group::ALL {
        let members: Vec<(u32, &Address, u16)> =
            group.members(&upstream).map(|(index, peer)| (index, &peer.address, peer.weight)).collect();
        let built = chash::build(&members, upstream.hash_id).expect("not too large");
        let place = view.rings[group as usize];
        match members.len() {
            0 => assert_eq!(place.block, 0),
            _ => assert!(place.shape == built.shape && words[group as usize].as_ref() == Some(&built.words)),
        }
    }
    true
}

#[test]
fn after_any_change_the_rings_are_those_that_would_be_built() {
    let (table, _scratch) = filled(100);
    let mut random = Random(1);
    for _ in 0..300 {
        change(&table, &mut random);
        assert!(rings_are_right(&table));
    }
    assert_no_leak(&table);
}

#[test]
fn writers_in_turn_never_publish_a_ring_of_recycled_words() {
    let (table, _scratch) = filled(100);
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let table = &table;
            scope.spawn(move || {
                let mut random = Random(seed);
                (0..200).for_each(|_| change(table, &mut random));
            });
        }
        let seen = (0..200).filter(|_| rings_are_right(&table)).count();
        assert!(seen > 0);
    });
    assert!(rings_are_right(&table));
    assert_no_leak(&table);
}

/// Lookups by chash of one handle: the index, and whether there was no ring.
fn lookups(table: &Table, count: usize) -> Vec<(Result<u32, Miss>, bool)> {
    let (mut handle, mut picked) = (Handle::new(NAME.as_bytes()), Picked::default());
    let mut lookup = |key: usize| {
        let key = key.to_le_bytes();
        let ask = Ask { key: Some(&key), method: Some(Method::Chash), ..Ask::default() };
        let index = handle.pick(table, ask, false, &mut picked);
        (index, picked.wants_ring != 0)
    };
    (0..count).map(&mut lookup).collect()
}

/// The answers of a ring of these peers, which is built here.
fn owners(upstream: &Upstream, count: usize) -> Vec<Result<u32, Miss>> {
    let members: Vec<_> = (0..).zip(&upstream.peers).map(|(index, peer)| (index, &peer.address, peer.weight)).collect();
    let ring = chash::build(&members, HashId::Nginx).expect("not too large");
    let owner = |key: usize| match chash::pick(&ring.words, ring.shape, chash::key_hash(&key.to_le_bytes()), |_| true) {
        chash::Pick::Peer(index) => Ok(index),
        other => panic!("{other:?}"),
    };
    (0..count).map(owner).collect()
}

fn undeclared(table: &Table, weights: impl IntoIterator<Item = u16>) -> Upstream {
    let peers = (0..).zip(weights).map(|(number, weight)| peer(&server(number), weight)).collect();
    let upstream = Upstream { name: NAME.into(), peers, ..Upstream::default() };
    table.set_upstream(&upstream, SOON).expect("room");
    upstream
}

fn generation(table: &Table) -> u64 {
    table.get(NAME).expect("readable").expect("there").generation
}

#[test]
fn lookups_without_a_ring_cost_as_much_as_one_and_then_a_pick_builds_it() {
    for count in [3, 10_000] {
        let (table, _scratch) = table(32 << 20);
        let upstream = undeclared(&table, std::iter::repeat_n(1, count));
        let before = generation(&table);
        let found = lookups(&table, 32);
        assert!(found.iter().map(|(index, _)| *index).eq(owners(&upstream, 32)), "of {count}");
        // A build takes as long as nine lookups.
        let without: Vec<bool> = found.iter().map(|(_, without)| *without).collect();
        assert!(without[..9].iter().all(|without| *without) && !without[9..].contains(&true), "{count}: {without:?}");
        assert_eq!(generation(&table), before + 1, "it is built once");
        assert!(rings_are_right(&table));
    }
}

#[test]
fn a_lookup_that_would_be_refused_for_its_weight_builds_the_ring() {
    let (table, _scratch) = table(64 << 20);
    let upstream = undeclared(&table, [20_001, 1, 7]);
    let found = lookups(&table, 5);
    assert!(found.iter().map(|(index, _)| *index).eq(owners(&upstream, 5)));
    assert!(found.iter().all(|(_, without)| !without));
    assert!(rings_are_right(&table));
}

#[test]
fn where_the_ring_has_no_room_lookups_go_on_without_it_until_it_has() {
    let (table, _scratch) = table(1 << 20);
    let upstream = undeclared(&table, [2000; 10]);
    let found = lookups(&table, 20);
    assert!(found.iter().map(|(index, _)| *index).eq(owners(&upstream, 20)));
    assert!(found.iter().all(|(_, without)| *without));
    // The same that cannot do without one.
    undeclared(&table, [2001; 10]);
    assert!(lookups(&table, 3).iter().all(|(index, _)| *index == Err(Miss::NoRing)));
    let upstream = undeclared(&table, [20; 10]);
    let found = lookups(&table, 20);
    assert!(found.iter().map(|(index, _)| *index).eq(owners(&upstream, 20)));
    assert!(!found[19].1);
}
