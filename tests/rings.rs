//! The ring in the region after changes, most of which merge it from the one before.

#![allow(unsafe_code)]

mod common;

use common::*;
use dyups::balance::Method;
use dyups::balance::chash::{self, Words};
use dyups::config::peer::PeerPatch;
use dyups::table::directory::Directory;
use dyups::table::ops::Absent;
use dyups::table::snapshot::{Group, RingWords};
use dyups::table::{Address, Status, Table, Upstream};

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
