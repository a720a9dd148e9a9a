//! Tables whose shared words are as workers leave them; the words are stored here, by hand.

use crate::WAIT;
use crate::subject::{made, patch};
use crate::support::changes::NEW;
use dyups::shm::Memory;
use dyups::shm::cells::GENERATION_SHIFT;
use dyups::shm::clock::now_ms;
use dyups::shm::layout::state;
use dyups::state::budget::WORDS;
use dyups::state::failures::Health;
use dyups::table::Table;
use dyups::table::directory::{self, Directory};
use dyups::table::ops::Absent;
use dyups::table::record::stamp_at;
use dyups::upstream::{PeerPatch, Upstream};

/// The slot of the worker that has connections.
pub const CONNECTED: u32 = 9;

/// The subject, with a connection to its first peers.
pub fn connected(table: &Table, subject: &Upstream) {
    made(table, subject);
    let (cells, mem) = (table.region().cells().expect("they are there"), table.region().mem());
    cells.activate(CONNECTED).expect("inside");
    let (_, view) = Directory::new(table.region()).find(subject.name.as_bytes()).expect("sound").expect("there");
    for index in 0..view.peers.min(3) {
        cells.count_in(CONNECTED, view.cell(mem, index).expect("inside"), true).expect("inside");
    }
}

/// Says that a peer of the upstream has failed.
pub fn ails(table: &Table, subject: &Upstream) {
    let (record, _) = Directory::new(table.region()).find(subject.name.as_bytes()).expect("sound").expect("there");
    table.region().mem().store(stamp_at(table.region().geometry(), record) + 3, 1).expect("inside");
}

/// A peer of the upstream has failed, which does not count as yet.
pub fn fails_unwatched(table: &Table, subject: &Upstream) {
    made(table, subject);
    limited(table, subject, 0);
    let (_, view) = Directory::new(table.region()).find(subject.name.as_bytes()).expect("sound").expect("there");
    let cell = view.cell(table.region().mem(), 0).expect("inside");
    let cells = table.region().cells().expect("they are there");
    let word = cells.health(cell).expect("a cell");
    assert_eq!(cells.set_health(cell, word, Health(word).failed(7).0), Ok(true));
}

/// A peer with these `max_fails`.
pub fn limited(table: &Table, subject: &Upstream, max_fails: u32) {
    let change = PeerPatch { max_fails: Some(max_fails), ..patch(0) };
    table.put_peer(&subject.name, &change, Absent::Make, WAIT).expect("change");
}

/// All peers but the last are out, the first of them for so long that one request may try it.
pub fn nearly_all_out(table: &Table, subject: &Upstream) {
    made(table, subject);
    let (_, view) = Directory::new(table.region()).find(subject.name.as_bytes()).expect("sound").expect("there");
    let cells = table.region().cells().expect("they are there");
    let now = (now_ms() / 100) as u32;
    for index in 0..view.peers.saturating_sub(1) {
        let cell = view.cell(table.region().mem(), index).expect("inside");
        let word = cells.health(cell).expect("a cell");
        let at = if index == 0 { now.wrapping_sub(1000) } else { now };
        assert_eq!(cells.set_health(cell, word, Health(word).failed(at).0), Ok(true));
    }
    ails(table, subject);
}

/// The cell that the next peer gets was taken as often as its bits can tell.
pub fn use_up_a_cell(table: &Table, subject: &Upstream) {
    table.put_peer(&subject.name, &patch(NEW), Absent::Make, WAIT).expect("add");
    let (_, view) = Directory::new(table.region()).find(subject.name.as_bytes()).expect("sound").expect("there");
    let cell = view.cell(table.region().mem(), view.peers - 1).expect("inside");
    table.delete_peer(&subject.name, &patch(NEW).address, WAIT).expect("delete");
    let cells = table.region().cells().expect("they are there");
    let word = cells.health(cell).expect("a cell");
    assert_eq!(cells.set_health(cell, word, u64::MAX << GENERATION_SHIFT), Ok(true));
}

/// The words of the upstream that stands in this one's place are no longer 0.
pub fn is_used(table: &Table, subject: &Upstream) {
    ails(table, subject);
    let (record, _) = Directory::new(table.region()).find(subject.name.as_bytes()).expect("sound").expect("there");
    let (mem, geometry) = (table.region().mem(), table.region().geometry());
    // Its budget, the time of the last look at all peers, and its section of statistics.
    let at = stamp_at(geometry, record);
    (0..WORDS).for_each(|index| mem.store(at + 10 + index, 7).expect("inside"));
    [5, 6].iter().for_each(|word| mem.store(at + word, 1).expect("inside"));
}

/// A directory that no death leaves and only a hostile worker makes. One link leads nowhere, one to a record of another bucket, and
/// one to a record that was never used. A record is for ever about to be linked. No upstream is lost by it.
pub fn spoiled(table: &Table, subject: &Upstream) {
    made(table, subject);
    let (mem, geometry) = (table.region().mem(), table.region().geometry());
    let plain = Directory::new(table.region()).find(b"plain").expect("readable").expect("there").0;
    let hash_at = stamp_at(geometry, plain) + 2;
    let bucket_of_plain = directory::hash(b"plain") as usize & (geometry.buckets - 1);
    let mut empty = (bucket_of_plain + 1..geometry.buckets)
        .map(|bucket| geometry.buckets_at + bucket)
        .filter(|&bucket| mem.load(bucket) == Ok(0));
    let mut next = || empty.next().expect("there are many");
    let (to_nowhere, to_plain, to_unused) = (next(), next(), next());
    let unused = mem.load(state::RECORDS_END).expect("inside") + 3;
    let counter = mem.load(hash_at).expect("inside") + (1 << 32);
    for (index, value) in [
        (to_nowhere, u64::MAX),
        (to_plain, u64::from(plain) + 1),
        (to_unused, unused + 1),
        (hash_at, counter),
        (state::WRITING, 1),
    ] {
        mem.store(index, value).expect("inside");
    }
}
