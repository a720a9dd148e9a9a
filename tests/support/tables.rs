//! Regions and tables of a test, the upstreams in them, and whether a change has leaked anything.

use super::Scratch;
use dyups::error::Result;
use dyups::shm::layout::{LAYOUT, state};
use dyups::shm::{Memory, Region};
use dyups::state::failures::Health;
use dyups::stats::ended::Ended;
use dyups::stats::tally::Try;
use dyups::table::Record;
use dyups::table::directory::{self, Directory};
use dyups::table::snapshot::View;
use dyups::table::store::Table;
use dyups::upstream::{Address, Peer, PeerPatch, Upstream};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a test waits for a lock that must be free.
pub const SOON: Duration = Duration::from_secs(5);
/// The smallest region: 64 upstreams.
pub const SMALL: u64 = 256 * 1024;

/// Opens a table the way `process` does.
pub fn open(path: &Path, size: u64) -> Result<(Table, Vec<String>)> {
    Table::open(path, size)
}

/// The file of the region that its users call `base`.
pub fn region_file(base: &Path) -> PathBuf {
    dyups::shm::region::file_of(base, LAYOUT)
}

/// Opens a table that is there, without the repair that an unused one gets.
pub fn attach_as_it_is(path: &Path, size: u64) -> Table {
    let (region, notes) = Region::open(path, size, &dyups::table::open::Upstreams).expect("usable");
    assert!(notes.is_empty(), "{notes:?}");
    Table::new(region)
}

/// A table of its own for a test, and the directory that it lives in.
pub fn table(size: u64) -> (Table, Scratch) {
    let scratch = Scratch::new();
    let (table, notes) = open(&scratch.file("region"), size).expect("a new region");
    assert_eq!(notes, Vec::<String>::new());
    (table, scratch)
}

pub fn address(server: &str) -> Address {
    Address::from_server(server).expect(server)
}

pub fn peer(server: &str, weight: u16) -> Peer {
    Peer { weight, ..Peer::new(address(server)) }
}

pub fn patch(server: &str, weight: u16) -> PeerPatch {
    PeerPatch { weight: Some(weight), ..PeerPatch::new(address(server)) }
}

/// An upstream with peers of weight 1.
pub fn upstream(name: &str, servers: &[&str]) -> Upstream {
    Upstream {
        name: name.to_owned(),
        peers: servers.iter().map(|server| peer(server, 1)).collect(),
        ..Upstream::default()
    }
}

/// Names of all upstreams.
pub fn names<R: std::borrow::Borrow<Region>>(table: &Table<R>) -> Vec<String> {
    table.upstreams().expect("readable").into_iter().map(|stored| stored.upstream.name).collect()
}

/// Names whose records share one bucket of the smallest region.
pub fn in_bucket(bucket: u32, count: usize) -> Vec<String> {
    (0..).map(|i| format!("n{i}")).filter(|name| directory::hash(name.as_bytes()) % 64 == bucket).take(count).collect()
}

/// Granules in use.
pub fn used<R: std::borrow::Borrow<Region>>(table: &Table<R>) -> u64 {
    table.region().mem().load(state::USED).expect("inside")
}

/// The cells of an upstream's peers, by server.
pub fn cells_of<R: std::borrow::Borrow<Region>>(table: &Table<R>, name: &str) -> BTreeMap<String, u32> {
    let mem = table.region().mem();
    let (_, view) = Directory::new(table.region()).find(name.as_bytes()).expect("readable").expect("there");
    let of = |index| {
        let address = view.address(mem, index).expect("inside");
        (address.server().to_owned(), view.cell(mem, index).expect("inside"))
    };
    (0..view.peers).map(of).collect()
}

/// How many cells are taken.
pub fn used_cells<R: std::borrow::Borrow<Region>>(table: &Table<R>) -> u64 {
    table.region().cells().expect("it has some").used().expect("inside")
}

/// Asserts that a repair would find in use just the blocks and cells that the region says: nothing leaked, nothing is used
/// twice. And that the spare is free.
pub fn assert_no_leak<R: std::borrow::Borrow<Region>>(table: &Table<R>) {
    // The leavings of the last death are cleared away first, as by any next writer.
    drop(table.writer(SOON).expect("free"));
    let cells: Vec<u32> = names(table).iter().flat_map(|name| cells_of(table, name).into_values()).collect();
    let distinct: BTreeSet<u32> = cells.iter().copied().collect();
    assert!(!distinct.contains(&0), "a peer has no cell");
    assert_eq!(distinct.len(), cells.len(), "two peers have one cell");
    let before = used_cells(table);
    assert_eq!(before, cells.len() as u64, "cells that are taken");
    assert_no_leak_of_heap(table);
    assert_eq!(used_cells(table), before, "after a repair");
}

/// The same of the heap alone: where a test has written versions by itself, whose peers have no cells or any.
pub fn assert_no_leak_of_heap<R: std::borrow::Borrow<Region>>(table: &Table<R>) {
    let counted = |word| table.region().mem().load(word).expect("inside");
    let geometry = table.region().geometry();
    let taken = |granule: &usize| counted(geometry.granule_bits_at + granule / 64) >> (granule % 64) & 1 == 1;
    let writer = table.writer(SOON).expect("free");
    let before = (counted(state::USED), counted(state::RECORDS), names(table));
    table.repair(&writer).expect("repairable");
    assert_eq!((counted(state::USED), counted(state::RECORDS), names(table)), before, "after a repair");
    assert_eq!((geometry.heap_at..geometry.spare_end()).find(taken), None, "in the spare");
}

/// A try at each peer of an upstream, to be ended in any way.
pub fn tries(table: &Table, name: &str) -> Vec<Try> {
    let (region, mem) = (table.region(), table.region().mem());
    let (number, _) = Directory::new(region).find(name.as_bytes()).expect("readable").expect("there");
    let cells = region.cells().expect("some");
    let read = |view: &View| {
        let one = |index| {
            let cell = view.cell(mem, index)?;
            let generation = Health(cells.health(cell)?).generation();
            let record = Record::numbered(region.geometry(), number);
            Ok(Try { cell, generation, record, created: view.created, ended: Ended::default() })
        };
        (0..view.peers).map(one).collect()
    };
    Directory::new(region).look(number, read).expect("readable").expect("there")
}
