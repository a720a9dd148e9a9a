//! The operations at which a process dies: the changes of one upstream, and those that only this suite can do.

use crate::support::changes::{self, CHANGES, Change, NEW, server};
use crate::{WAIT, call};
use dyups::balance::outcome::Outcome;
use dyups::balance::pick::{Ask, Handle, Picked};
use dyups::balance::request::{Requests, Tries, Wanted, Why};
use dyups::health;
use dyups::health::prober::{Prober, Stage};
use dyups::http::response::Rules;
use dyups::shm::cells::GENERATION_SHIFT;
use dyups::shm::clock::now_ms;
use dyups::shm::history;
use dyups::shm::layout::state;
use dyups::shm::{GRANULE, Memory};
use dyups::state::budget::{Allowance, WORDS};
use dyups::state::failures::Health;
use dyups::table::Table;
use dyups::table::directory::{self, Directory};
use dyups::table::ops::Absent;
use dyups::table::record::stamp_at;
use dyups::table::snapshot::{Flags, encode};
use dyups::upstream::{Address, Check, Method, PeerPatch, Upstream};

/// The upstream that the operations are about.
pub const SUBJECT: &str = "subject";
/// The slot of the worker that has connections.
const CONNECTED: u32 = 9;
/// One operation.
pub trait Operation {
    fn name(&self) -> &'static str;
    /// It is also tried with a thousand peers.
    fn also_large(&self) -> bool;
    /// Prepares the table.
    fn prepare(&self, table: &Table, subject: &Upstream);
    /// Runs it. Answers which function of [`Table`] it called.
    fn run(&self, table: &Table, subject: &Upstream) -> &'static str;
    /// After its death in a full region: deletes something.
    fn make_room(&self, _table: &Table) {}
}

impl Operation for Change {
    fn name(&self) -> &'static str {
        self.name
    }

    fn also_large(&self) -> bool {
        self.also_large
    }

    fn prepare(&self, table: &Table, subject: &Upstream) {
        for before in (self.before)(subject) {
            call::make(table, &before).1.expect("done");
        }
    }

    fn run(&self, table: &Table, subject: &Upstream) -> &'static str {
        let (function, result) = call::make(table, &(self.call)(subject));
        assert_eq!(result.is_err(), (self.refused)(subject), "{result:?}");
        function
    }
}

/// An operation of this suite alone.
struct Own {
    name: &'static str,
    /// The function of [`Table`] that it calls.
    calls: &'static str,
    prepare: fn(&Table, &Upstream),
    run: fn(&Table, &Upstream),
    make_room: fn(&Table),
    also_large: bool,
}

impl Operation for Own {
    fn name(&self) -> &'static str {
        self.name
    }

    fn also_large(&self) -> bool {
        self.also_large
    }

    fn prepare(&self, table: &Table, subject: &Upstream) {
        (self.prepare)(table, subject);
    }

    fn run(&self, table: &Table, subject: &Upstream) -> &'static str {
        (self.run)(table, subject);
        self.calls
    }

    fn make_room(&self, table: &Table) {
        (self.make_room)(table);
    }
}

/// All of them. `coverage` sees to it that none is missing.
pub fn operations() -> impl Iterator<Item = &'static dyn Operation> {
    let changes = CHANGES.iter().map(|change| change as &dyn Operation);
    changes.chain(OWN.iter().map(|own| own as &dyn Operation))
}

/// Of 0, 1, 3 and 20 peers, by both methods.
pub fn subjects() -> impl Iterator<Item = Upstream> {
    [0, 1, 3, 20].into_iter().flat_map(|size| [Method::Rr, Method::Chash].map(|method| subject(size, method)))
}

/// One of `size` peers.
pub fn subject(size: usize, method: Method) -> Upstream {
    changes::subject(SUBJECT, size, method)
}

/// Peer number `i`.
pub fn patch(i: usize) -> PeerPatch {
    PeerPatch::new(Address::from_server(&server(i)).expect("an address"))
}

/// Upstreams that were acknowledged before, and that no process may lose: by rr, by chash with a long text, and one deleted
/// that a file would bring back.
pub fn bystanders(table: &Table) {
    let named = |name: &str, method| Upstream { name: name.into(), ..subject(2, method) };
    let mut hashed = named("hashed", Method::Chash);
    let long = Address::from_server("unix:/run/a/path/that/is/longer/than/what/fits/inline.sock").expect("an address");
    hashed.peers.push(PeerPatch::new(long).into_peer());
    table.set_upstream(&hashed, WAIT).expect("set");
    table.load(&[named("deleted", Method::Rr)], false, WAIT).expect("load");
    table.delete_upstream("deleted", true, WAIT).expect("delete");
    table.set_upstream(&named("plain", Method::Rr), WAIT).expect("set");
}

fn nothing(_: &Table, _: &Upstream) {}

fn room_enough(_: &Table) {}

fn made(table: &Table, subject: &Upstream) {
    table.set_upstream(subject, WAIT).expect("set");
}

/// Loads a file that has the subject, or not. Each upstream of a load is a change of its own: this one changes nothing else.
fn load(table: &Table, subject: Option<&Upstream>) {
    let deleted = Upstream { name: "deleted".into(), ..Upstream::default() };
    let file: Vec<Upstream> = subject.into_iter().chain([&deleted]).cloned().collect();
    table.load(&file, false, WAIT).expect("load");
}

fn from_file(table: &Table, subject: &Upstream) {
    load(table, Some(subject));
}

/// Leaves room for the subject's ring, and one granule: too little for its peers.
fn nearly_full(table: &Table, subject: &Upstream) {
    let room = ring_granules(table, subject) + 1;
    fill_but(table, room);
}

/// The subject, and no room for another version of it.
fn made_and_full(table: &Table, subject: &Upstream) {
    made(table, subject);
    fill_but(table, 0);
}

/// Leaves `room` granules, or one more: by a ring, which is quickly read, and by peers, which fit exactly.
fn fill_but(table: &Table, room: u64) {
    let free = || table.region().geometry().heap_bytes() / GRANULE as u64 - used(table) - room;
    let ring = |weight| Upstream {
        name: "filler-ring".into(),
        method: Some(Method::Chash),
        peers: vec![PeerPatch { weight: Some(weight), ..patch(0) }.into_peer()],
        ..Upstream::default()
    };
    // A unit of weight takes less than 13 granules.
    table.set_upstream(&ring((free() - 13) as u16 / 13), WAIT).expect("set");
    let peers = |peers: usize| Upstream {
        name: "filler".into(),
        peers: (0..peers).map(|i| patch(i).into_peer()).collect(),
        ..Upstream::default()
    };
    let most = (0..400).rev().map(peers).find(|filler| granules(filler) <= free()).expect("one fits");
    table.set_upstream(&most, WAIT).expect("set");
}

/// The subject, with a connection to its first peers.
fn connected(table: &Table, subject: &Upstream) {
    made(table, subject);
    let (cells, mem) = (table.region().cells().expect("they are there"), table.region().mem());
    cells.activate(CONNECTED).expect("inside");
    let (_, view) = Directory::new(table.region()).find(subject.name.as_bytes()).expect("sound").expect("there");
    for index in 0..view.peers.min(3) {
        cells.count_in(CONNECTED, view.cell(mem, index).expect("inside"), true).expect("inside");
    }
}

/// Says that a peer of the upstream has failed.
fn ails(table: &Table, subject: &Upstream) {
    let (record, _) = Directory::new(table.region()).find(subject.name.as_bytes()).expect("sound").expect("there");
    table.region().mem().store(stamp_at(table.region().geometry(), record) + 3, 1).expect("inside");
}

/// The cell that the next peer gets was taken as often as its bits can tell.
fn use_up_a_cell(table: &Table, subject: &Upstream) {
    table.put_peer(&subject.name, &patch(NEW), Absent::Make, WAIT).expect("add");
    let (_, view) = Directory::new(table.region()).find(subject.name.as_bytes()).expect("sound").expect("there");
    let cell = view.cell(table.region().mem(), view.peers - 1).expect("inside");
    table.delete_peer(&subject.name, &patch(NEW).address, WAIT).expect("delete");
    let cells = table.region().cells().expect("they are there");
    let word = cells.health(cell).expect("a cell");
    assert_eq!(cells.set_health(cell, word, u64::MAX << GENERATION_SHIFT), Ok(true));
}

/// The words of the upstream that stands in this one's place are no longer 0.
fn is_used(table: &Table, subject: &Upstream) {
    ails(table, subject);
    let (record, _) = Directory::new(table.region()).find(subject.name.as_bytes()).expect("sound").expect("there");
    let (mem, geometry) = (table.region().mem(), table.region().geometry());
    // Its budget, and the time of the last look at all peers.
    let at = stamp_at(geometry, record);
    (0..WORDS).for_each(|index| mem.store(at + 10 + index, 7).expect("inside"));
    mem.store(at + 5, 1).expect("inside");
}

/// A peer with these `max_fails`.
fn limited(table: &Table, subject: &Upstream, max_fails: u32) {
    let change = PeerPatch { max_fails: Some(max_fails), ..patch(0) };
    table.put_peer(&subject.name, &change, Absent::Make, WAIT).expect("change");
}

/// A peer of the upstream has failed, which does not count as yet.
fn fails_unwatched(table: &Table, subject: &Upstream) {
    made(table, subject);
    limited(table, subject, 0);
    let (_, view) = Directory::new(table.region()).find(subject.name.as_bytes()).expect("sound").expect("there");
    let cell = view.cell(table.region().mem(), 0).expect("inside");
    let cells = table.region().cells().expect("they are there");
    let word = cells.health(cell).expect("a cell");
    assert_eq!(cells.set_health(cell, word, Health(word).failed(7).0), Ok(true));
}

/// All peers but the last are out, the first of them for so long that one request may try it.
fn nearly_all_out(table: &Table, subject: &Upstream) {
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

/// Requests that meet peers that are out, and bring one back.
fn balance_among_the_out(table: &Table, subject: &Upstream) {
    let (mut requests, mut handle) = (Requests::default(), Handle::new(subject.name.as_bytes()));
    for request in 1..=subject.peers.len() + 2 {
        let tries = Tries { most: 0, allowance: Allowance { percent: 20, floor: 10 } };
        let (method, why) = (Some(Method::Rr), Why::First);
        let wanted = Wanted { request, key: None, method, why, tries, adds_tries: true, watch: request };
        let _ = requests.next(table, Some(3), &mut handle, &wanted, |_| Outcome::Unknown, &mut Picked::default());
        requests.end(table, request, |_| Outcome::Success);
    }
}

/// Three requests: a try that fails and one that does not. The last one goes on after an answer, beyond its budget.
fn balance(table: &Table, subject: &Upstream) {
    let (mut requests, mut handle) = (Requests::default(), Handle::new(subject.name.as_bytes()));
    for request in [1, 2, 3] {
        for why in [Why::First, if request == 3 { Why::Answered } else { Why::Failed }] {
            let allowance =
                if request == 3 { Allowance { percent: 0, floor: 0 } } else { Allowance { percent: 20, floor: 10 } };
            let tries = Tries { most: 0, allowance };
            let method = if request == 1 { Method::Rr } else { Method::LeastConn };
            let (method, adds_tries) = (Some(method), true);
            let wanted = Wanted { request, key: None, method, why, tries, adds_tries, watch: request };
            let _ = requests.next(table, Some(3), &mut handle, &wanted, |_| Outcome::Unknown, &mut Picked::default());
        }
        requests.end(table, request, |_| Outcome::Success);
    }
}

/// The same with a check, which finds all peers down as long as none was probed.
fn checked(subject: &Upstream) -> Upstream {
    let check = Check { default_down: true, panic_threshold: 50, fall: 1, rise: 1, ..Check::default() };
    Upstream { check: Some(check), own_check: true, ..subject.clone() }
}

/// It is checked, and another upstream with its first peer is so too.
fn made_and_checked(table: &Table, subject: &Upstream) {
    made(table, &checked(subject));
    let peers = subject.peers.iter().take(1).cloned().collect();
    made(table, &checked(&Upstream { name: "plain".into(), peers, ..Upstream::default() }));
    // As a worker that has been there for long.
    let cells = table.region().cells().expect("they are there");
    assert!(cells.activate(CONNECTED).is_ok() && cells.set_ready(CONNECTED, 1).is_ok());
}

/// Upstreams follow a default, and the subject does not follow it yet.
fn made_before_the_default(table: &Table, subject: &Upstream) {
    follow_the_default(table);
    made(table, subject);
}

/// The default holds for this call: a process that dies takes it along.
fn follow_the_default(table: &Table) {
    table.set_default_check(Some(Check::default()));
    table.spread_default_check(WAIT).expect("spread");
    table.set_default_check(None);
}

/// Brings all up, the first down again, and stops with a probe under way.
fn probe(table: &Table, _: &Upstream) {
    let mut prober = Prober::new(CONNECTED, 1, Rules::NEWEST);
    let due = |prober: &mut Prober, now| {
        // When it sees a peer for the first time, it chooses when to probe it.
        prober.tick(table, now - 4000, || 0).expect("sound");
        prober.tick(table, now, || 0).expect("sound");
        std::iter::from_fn(|| prober.next(table, now).expect("sound")).map(|(id, _)| id).collect::<Vec<_>>()
    };
    for (now, answer) in [(1_020_000, &b"HTTP/1.1 200 OK\r\n\r\n"[..]), (1_040_000, b"no")] {
        for id in due(&mut prober, now) {
            prober.feed(id, answer, now);
            prober.end(table, id, Stage::Done, b"", now).expect("sound");
            prober.tick(table, now, || 0).expect("sound");
        }
        health::heal(table).expect("sound");
    }
    due(&mut prober, 1_060_000);
    prober.stop(table, 1_060_000).expect("sound");
}

/// The granules of the subject's rings.
fn ring_granules(table: &Table, subject: &Upstream) -> u64 {
    let before = used(table);
    table.set_upstream(subject, WAIT).expect("set");
    let both = used(table) - before;
    table.delete_upstream(SUBJECT, true, WAIT).expect("delete");
    both - granules(subject)
}

fn granules(upstream: &Upstream) -> u64 {
    encode(upstream, Flags::default()).expect("readable").len().div_ceil(8) as u64
}

fn used(table: &Table) -> u64 {
    table.region().mem().load(state::USED).expect("inside")
}

/// A directory that no death leaves and only a hostile worker makes: a link to nowhere, one to a record of another bucket, one to a
/// record that was never used, and a record that is for ever about to be linked. No upstream is lost by it.
fn spoiled(table: &Table, subject: &Upstream) {
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

fn delete_filler(table: &Table) {
    table.delete_upstream("filler-ring", true, WAIT).expect("delete");
}

fn pick(table: &Table, subject: &Upstream) {
    let ask = Ask { key: None, method: Some(Method::Rr), tried: None, ..Ask::default() };
    let picked = Handle::new(subject.name.as_bytes()).pick(table, ask, false, &mut Picked::default());
    assert_eq!(picked.is_ok(), !subject.peers.is_empty());
}

const PLAIN: Own = Own { name: "", calls: "", prepare: made, run: nothing, make_room: room_enough, also_large: false };

const OWN: &[Own] = &[
    Own {
        name: "delete peers that are connected",
        calls: "set_upstream",
        prepare: connected,
        run: |table, subject| table.set_upstream(&Upstream { peers: vec![], ..subject.clone() }, WAIT).expect("set"),
        ..PLAIN
    },
    Own {
        name: "delete an upstream that is connected",
        calls: "delete_upstream",
        prepare: connected,
        run: |table, subject| table.delete_upstream(&subject.name, true, WAIT).expect("delete"),
        ..PLAIN
    },
    Own {
        name: "delete a peer that is idle",
        calls: "delete_idle",
        prepare: |table, subject| {
            made(table, subject);
            let _ = table.drain_peer(&subject.name, &patch(0).address, WAIT);
        },
        run: |table, subject| {
            let idle = [patch(0).address.ident()];
            table.delete_idle(&subject.name, &idle, WAIT).expect("done");
        },
        ..PLAIN
    },
    Own {
        name: "create where one was used",
        calls: "set_upstream",
        prepare: |table, subject| {
            made(table, subject);
            is_used(table, subject);
            table.delete_upstream(&subject.name, true, WAIT).expect("delete");
        },
        run: |table, subject| table.set_upstream(subject, WAIT).expect("set"),
        ..PLAIN
    },
    Own {
        name: "let failures count again",
        calls: "put_peer",
        prepare: fails_unwatched,
        run: |table, subject| limited(table, subject, 1),
        ..PLAIN
    },
    Own { name: "balance", calls: "pick", run: balance, ..PLAIN },
    Own {
        name: "balance among peers that are out",
        calls: "pick",
        prepare: nearly_all_out,
        run: balance_among_the_out,
        ..PLAIN
    },
    Own {
        name: "find that all are well",
        calls: "pick",
        prepare: |table, subject| {
            made(table, subject);
            ails(table, subject);
        },
        run: |table, _| health::heal(table).expect("sound"),
        ..PLAIN
    },
    Own { name: "probe", calls: "pick", prepare: made_and_checked, run: probe, ..PLAIN },
    Own {
        name: "follow the default check",
        calls: "spread_default_check",
        prepare: made_before_the_default,
        run: |table, _| follow_the_default(table),
        ..PLAIN
    },
    Own {
        name: "count for a worker, and no more",
        calls: "pick",
        run: |table, _| {
            let count = || table.region().cells().expect("they are there").count_in(7, 1, true);
            assert_eq!(count(), Ok(true));
            table.region().count_for(7).expect("sound");
            // Its row begins anew.
            assert_eq!(count(), Ok(true));
            table.region().reap(None).expect("sound");
        },
        ..PLAIN
    },
    Own {
        name: "retire a cell and bring it back",
        calls: "put_peer",
        prepare: |table, subject| {
            made(table, subject);
            use_up_a_cell(table, subject);
        },
        run: |table, subject| {
            table.put_peer(&subject.name, &patch(NEW), Absent::Make, WAIT).expect("add");
            table.region().cells().expect("they are there").goes_unnumbered().expect("inside");
        },
        ..PLAIN
    },
    Own {
        name: "delete what a file has",
        calls: "delete_upstream",
        prepare: from_file,
        run: |table, subject| table.delete_upstream(&subject.name, true, WAIT).expect("delete"),
        also_large: true,
        ..PLAIN
    },
    Own { name: "load", calls: "load", prepare: nothing, run: from_file, ..PLAIN },
    Own {
        name: "load without it",
        calls: "load",
        prepare: from_file,
        run: |table, _| load(table, None),
        also_large: true,
        ..PLAIN
    },
    Own {
        name: "refused: full",
        calls: "set_upstream",
        prepare: nearly_full,
        run: |table, subject| {
            let larger = |peers| Upstream { peers, ..subject.clone() };
            let peers = (0..4000).map(|i| patch(i).into_peer()).collect();
            let refused = match subject.method {
                // Its ring fits, and has to be given back.
                Some(Method::Chash) if !subject.peers.is_empty() => table.set_upstream(subject, WAIT),
                _ => table.set_upstream(&larger(peers), WAIT),
            };
            assert!(refused.is_err(), "more than the region holds");
        },
        make_room: delete_filler,
        ..PLAIN
    },
    Own {
        name: "delete a peer where all is full",
        calls: "delete_peer",
        prepare: made_and_full,
        run: |table, subject| {
            let deleted = table.delete_peer(&subject.name, &patch(subject.peers.len() / 2).address, WAIT);
            // The ring of the largest does not fit into the spare.
            let too_large = subject.peers.len() == 20 && subject.method == Some(Method::Chash);
            assert_eq!(deleted.is_ok(), !subject.peers.is_empty() && !too_large, "{deleted:?}");
        },
        make_room: delete_filler,
        ..PLAIN
    },
    Own {
        name: "delete a connected peer where all is full",
        calls: "delete_peer",
        prepare: |table, subject| {
            connected(table, subject);
            fill_but(table, 0);
        },
        run: |table, subject| drop(table.delete_peer(&subject.name, &patch(0).address, WAIT)),
        make_room: delete_filler,
        ..PLAIN
    },
    Own {
        name: "look it over at the start",
        calls: "check",
        run: |table, _| assert_eq!(table.check(WAIT), Ok(None)),
        also_large: true,
        ..PLAIN
    },
    Own {
        name: "repair what was spoiled",
        calls: "check",
        prepare: spoiled,
        run: |table, _| assert_eq!(table.check(WAIT), Ok(None)),
        ..PLAIN
    },
    Own { name: "pick", calls: "pick", run: pick, ..PLAIN },
    Own {
        name: "remember a change",
        calls: "add_change",
        run: |table, _| {
            let history = table.region().history().expect("it is there");
            history
                .add_change(&history::Change { time: 1, name: SUBJECT.into(), ..history::Change::default() })
                .expect("inside");
        },
        ..PLAIN
    },
    Own {
        name: "give a source its number",
        calls: "source",
        run: |table, _| assert_eq!(table.source("etcd:/services", WAIT), Ok(1)),
        ..PLAIN
    },
    // The last, since this process, which does all once to count, keeps it.
    Own {
        name: "claim a slot",
        calls: "claim_slot",
        run: |table, _| assert!(table.region().claim_slot().is_ok()),
        ..PLAIN
    },
];
