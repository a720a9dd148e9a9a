//! The table that no kill can tear: in every operation, before every store to the region, the process dies by SIGKILL, and
//! another one goes on. A repair, too, dies before each of its stores, from every image that a death left.
//!
//! `killpoints` runs everything, `killpoints OPERATION` one. Needs the feature `killpoints`, and a process of one thread: hence
//! no libtest.
#![allow(unsafe_code, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod after;
mod coverage;
mod creation;
mod death;
mod image;
mod operations;

use after::Allowed;
use death::{Stores, dies_at};
use dyups::shm::Region;
use dyups::table::Table;
use dyups::table::open::Upstreams;
use dyups::upstream::{Method, Upstream};
use image::{Bytes, Image};
use operations::{OPERATIONS, Operation};
use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};
use support::Scratch;

/// How long the next process waits for the lock of a dead one.
pub const WAIT: Duration = Duration::from_millis(100);
/// The smallest region: there is less to put back after each death.
pub const SMALL: u64 = 256 * 1024;
/// One for a thousand peers and their rings.
const LARGE: u64 = 4 << 20;

/// What all deaths together were.
#[derive(Default)]
pub struct Tally {
    pub points: u64,
    pub in_repairs: u64,
    pub images: u64,
    pub places: BTreeSet<(&'static str, u32)>,
}

/// Opens a region as `dyups.setup` does, all but the look over it.
pub fn open(path: &Path, size: u64) -> Table {
    Table::new(Region::open(path, size, &Upstreams).expect("open").0)
}

/// A region to die in, and what it was before anybody did.
struct Arena {
    table: Table,
    bytes: Bytes,
    empty: Image,
    choice: Choice,
}

/// At which stores processes die.
#[derive(Clone, Copy, PartialEq)]
enum Choice {
    All,
    /// Where there are too many: 200 spread evenly, and those around every step of the operation; of each repair, 5.
    Some,
}

impl Choice {
    fn of_operation(self, stores: &Stores) -> BTreeSet<u64> {
        if self == Choice::All { stores.all() } else { &stores.spread(200) | &stores.steps() }
    }

    fn of_repair(self, stores: &Stores) -> BTreeSet<u64> {
        if self == Choice::All { stores.all() } else { stores.spread(5) }
    }
}

impl Arena {
    fn new(path: &Path, size: u64, peers: usize, choice: Choice) -> Self {
        let table = open(path, size);
        let bytes = Bytes::of(table.region(), peers);
        let empty = bytes.image();
        Arena { table, bytes, empty, choice }
    }

    /// Kills one operation.
    fn kill_operation(&mut self, operation: &Operation, subject: &Upstream, tally: &mut Tally) {
        self.bytes.put_back(&self.empty);
        operations::bystanders(&self.table);
        (operation.prepare)(&self.table, subject);
        let before = self.bytes.image();
        let old = after::state(&self.table);
        let stores = Stores::of(|| (operation.run)(&self.table, subject));
        tally.places.extend(stores.places());
        let what = format!("{} of {} peers by {:?}", operation.name, subject.peers.len(), subject.method);
        let allowed = Allowed { old, new: after::state_to_stay(&self.table, &what), make_room: operation.make_room };
        let mut outlines = HashSet::new();
        for nth in self.choice.of_operation(&stores) {
            let what = format!("{what}, store {nth} of {}", stores.count());
            self.bytes.put_back(&before);
            assert!(dies_at(nth, || (operation.run)(&self.table, subject)), "{what}: survived");
            tally.points += 1;
            if outlines.insert(self.bytes.outline(self.table.region().geometry())) {
                self.kill_repair(&allowed, &what, tally);
            }
            allowed.check(&self.table, &what);
        }
        tally.images += outlines.len() as u64;
    }

    /// Kills the repair of the image at hand, and puts the image back.
    fn kill_repair(&mut self, allowed: &Allowed, what: &str, tally: &mut Tally) {
        let dead = self.bytes.image();
        let repair = || drop(self.table.writer(WAIT).expect("the lock"));
        let stores = Stores::of(repair);
        tally.places.extend(stores.places());
        for nth in self.choice.of_repair(&stores) {
            let what = format!("{what}, store {nth} of {} of the repair", stores.count());
            self.bytes.put_back(&dead);
            assert!(dies_at(nth, repair), "{what}: survived");
            tally.in_repairs += 1;
            allowed.check(&self.table, &what);
        }
        self.bytes.put_back(&dead);
    }
}

fn main() {
    let scratch = Scratch::new();
    let from = Instant::now();
    let mut tally = Tally::default();
    let only = std::env::args().nth(1).filter(|name| !name.starts_with('-'));
    let wanted = |name: &str| only.as_ref().is_none_or(|only| only == name);
    let operations = || OPERATIONS.iter().filter(|operation| wanted(operation.name));
    let mut progress = Progress::default();

    let mut small = Arena::new(&scratch.file("small"), SMALL, 256, Choice::All);
    for operation in operations() {
        for subject in operations::subjects() {
            small.kill_operation(operation, &subject, &mut tally);
        }
        progress.say(operation.name, &tally);
    }
    // Not before: a process with a large image to copy forks slowly.
    let mut large = Arena::new(&scratch.file("large"), LARGE, 4096, Choice::Some);
    for operation in operations().filter(|operation| operation.also_large) {
        for method in [Method::Rr, Method::Chash] {
            large.kill_operation(operation, &operations::subject(1000, method), &mut tally);
        }
        progress.say(&format!("{}, 1,000 peers", operation.name), &tally);
    }
    if wanted("creation") {
        creation::kill(scratch.path(), &mut tally);
        progress.say("make a region", &tally);
    }
    if only.is_none() {
        coverage::check(&tally.places);
    }
    println!(
        "{} kill points in {} operations, {} more in repairs of {} images, {:.1} s",
        tally.points,
        OPERATIONS.len() + 1,
        tally.in_repairs,
        tally.images,
        from.elapsed().as_secs_f64()
    );
}

/// What was counted when the last line was printed.
#[derive(Default)]
struct Progress {
    points: u64,
    in_repairs: u64,
}

impl Progress {
    fn say(&mut self, name: &str, tally: &Tally) {
        println!(
            "{name:44} {:6} deaths, {:6} in repairs",
            tally.points - self.points,
            tally.in_repairs - self.in_repairs
        );
        *self = Progress { points: tally.points, in_repairs: tally.in_repairs };
    }
}
