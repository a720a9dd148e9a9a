//! The table that no kill can tear. In every operation, before a store to the region, the process dies by SIGKILL, and another
//! one goes on. A repair, too, dies before its stores, from the images that deaths left.
//!
//! `killpoints` takes a sample: every operation, every line of the library that stores, and some stores by chance. DYUPS_SEED is the
//! seed of that chance. `killpoints --all` takes every store of everything, `killpoints OPERATION` every store of that operation.
//! Needs the feature `killpoints`, and a process of one thread: hence no libtest.
#![allow(unsafe_code, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod after;
mod call;
mod checks;
mod choice;
mod coverage;
mod creation;
mod death;
mod full;
mod image;
mod operations;
mod own;
mod requests;
mod slow_start;
mod statistics;
mod subject;
mod words;

use after::Allowed;
use choice::Choice;
use death::{Place, Stores, dies_at};
use dyups::shm::Region;
use dyups::table::Table;
use dyups::table::open::Upstreams;
use dyups::upstream::{Method, Upstream};
use image::{Bytes, Image};
use operations::Operation;
use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use support::{Random, Scratch};

/// How long the next process waits for the lock of a dead one.
pub const WAIT: Duration = Duration::from_millis(100);
/// The smallest region: there is less to put back after each death.
pub const SMALL: u64 = 256 * 1024;
/// One for a thousand peers and their rings.
const LARGE: u64 = 4 << 20;

/// The sums over all deaths.
#[derive(Default)]
pub struct Tally {
    pub points: u64,
    pub in_repairs: u64,
    pub images: u64,
    /// The lines at which a process died.
    pub died: BTreeSet<Place>,
    /// The functions of [`Table`] that the operations called.
    pub called: BTreeSet<&'static str>,
}

/// Opens a region as `dyups.setup` does, all but the look over it.
pub fn open(path: &Path, size: u64) -> Table {
    Table::new(Region::open(path, size, &Upstreams).expect("open").0)
}

/// A region to die in, and its content before the first death.
struct Arena {
    table: Table,
    bytes: Bytes,
    empty: Image,
    choice: Choice,
}

impl Arena {
    fn new(path: &Path, size: u64, peers: usize, choice: Choice) -> Self {
        let table = open(path, size);
        let bytes = Bytes::of(table.region(), peers);
        let empty = bytes.image();
        Arena { table, bytes, empty, choice }
    }

    /// Kills one operation.
    fn kill_operation(&mut self, operation: &dyn Operation, subject: &Upstream, tally: &mut Tally) {
        self.bytes.put_back(&self.empty);
        subject::bystanders(&self.table);
        operation.prepare(&self.table, subject);
        let before = self.bytes.image();
        let old = after::state(&self.table);
        let stores = Stores::of(|| _ = tally.called.insert(operation.run(&self.table, subject)));
        let what = format!("{} of {} peers by {:?}", operation.name(), subject.peers.len(), subject.method);
        let allowed = Allowed { old, new: after::state_to_stay(&self.table, &what), operation };
        let mut outlines = HashSet::new();
        for nth in self.choice.of_operation(&stores) {
            let what = format!("{what}, store {nth} of {}", stores.count());
            self.bytes.put_back(&before);
            assert!(dies_at(nth, || _ = operation.run(&self.table, subject)), "{what}: survived");
            tally.points += 1;
            tally.died.insert(stores.place(nth));
            if outlines.insert(self.bytes.outline(self.table.region().geometry())) {
                self.kill_repair(&allowed, &what, tally);
            }
            allowed.check(&self.table, &what);
        }
        tally.images += outlines.len() as u64;
    }

    /// Kills the repair of the image at hand, and puts the image back.
    fn kill_repair(&mut self, allowed: &Allowed<'_>, what: &str, tally: &mut Tally) {
        let dead = self.bytes.image();
        let repair = || drop(self.table.writer(WAIT).expect("the lock"));
        let stores = Stores::of(repair);
        for nth in self.choice.of_repair(&stores, &tally.died) {
            let what = format!("{what}, store {nth} of {} of the repair", stores.count());
            self.bytes.put_back(&dead);
            assert!(dies_at(nth, repair), "{what}: survived");
            tally.in_repairs += 1;
            tally.died.insert(stores.place(nth));
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
    let all = only.is_some() || std::env::args().any(|arg| arg == "--all");
    let seed = seed();
    if !all {
        println!("a sample, with DYUPS_SEED={seed}");
    }
    let sampled = |otherwise| if all { otherwise } else { Choice::Sample(Random(seed)) };
    let wanted = |name: &str| only.as_ref().is_none_or(|only| only == name);
    let operations = || operations::all().filter(|operation| wanted(operation.name()));
    let mut progress = Progress::default();

    let mut small = Arena::new(&scratch.file("small"), SMALL, 256, sampled(Choice::All));
    for operation in operations() {
        for subject in subject::subjects() {
            small.kill_operation(operation, &subject, &mut tally);
        }
        progress.say(operation.name(), &tally);
    }
    // Not before: a process with a large image to copy forks slowly.
    let mut large = Arena::new(&scratch.file("large"), LARGE, 4096, sampled(Choice::Spread));
    for operation in operations().filter(|operation| operation.also_large()) {
        for method in [Method::Rr, Method::Chash] {
            large.kill_operation(operation, &subject::subject(1000, method), &mut tally);
        }
        progress.say(&format!("{}, 1,000 peers", operation.name()), &tally);
    }
    if wanted("creation") {
        creation::kill(scratch.path(), &mut sampled(Choice::All), &mut tally);
        progress.say("make a region", &tally);
    }
    if only.is_none() {
        coverage::check(&tally);
    }
    println!(
        "{} kill points in {} operations, {} more in repairs of {} images, {:.1} s",
        tally.points,
        operations::all().count() + 1,
        tally.in_repairs,
        tally.images,
        from.elapsed().as_secs_f64()
    );
}

/// The value of DYUPS_SEED, or another one each time.
fn seed() -> u64 {
    match std::env::var("DYUPS_SEED") {
        Ok(seed) => seed.parse().expect("DYUPS_SEED: a number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs(),
    }
}

/// The counts when the last line was printed.
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
