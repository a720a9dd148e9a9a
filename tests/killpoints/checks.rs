//! Checks, and the probes of a worker.

use crate::WAIT;
use crate::subject::made;
use crate::words::CONNECTED;
use dyups::health;
use dyups::health::judge::{Judged, judge};
use dyups::health::prober::{Prober, Stage};
use dyups::http::response::Rules;
use dyups::state::verdict::Verdict;
use dyups::table::Table;
use dyups::table::directory::Directory;
use dyups::upstream::{Check, Upstream};

/// It is checked, and another upstream with its first peer is so too.
pub fn made_and_checked(table: &Table, subject: &Upstream) {
    made(table, &checked(subject));
    let peers = subject.peers.iter().take(1).cloned().collect();
    made(table, &checked(&Upstream { name: "plain".into(), peers, ..Upstream::default() }));
    // As a worker that has been there for long.
    let cells = table.region().cells().expect("they are there");
    assert!(cells.activate(CONNECTED).is_ok() && cells.set_ready(CONNECTED, 1).is_ok());
}

/// The same with a check, which finds all peers down as long as none was probed.
fn checked(subject: &Upstream) -> Upstream {
    let check = Check { default_down: true, panic_threshold: 50, fall: 1, rise: 1, ..Check::default() };
    Upstream { check: Some(check), own_check: true, ..subject.clone() }
}

/// It is checked, and a probe has found its first peer down.
pub fn first_is_down(table: &Table, subject: &Upstream) {
    let check = Check { fall: 1, rise: 1, ..Check::default() };
    made(table, &Upstream { check: Some(check), own_check: true, ..subject.clone() });
    let cells = table.region().cells().expect("they are there");
    assert!(cells.activate(CONNECTED).is_ok() && cells.set_ready(CONNECTED, 1).is_ok());
    let (record, view) = Directory::new(table.region()).find(subject.name.as_bytes()).expect("sound").expect("there");
    if view.peers != 0 {
        let cell = view.cell(table.region().mem(), 0).expect("inside");
        let before = Verdict(cells.verdict(cell).expect("a cell"));
        let judged = Judged { record, cell, index: 0, before };
        judge(&Directory::new(table.region()), &cells, judged, false, (1, 1)).expect("sound");
    }
}

/// Probes all peers, and finds them well.
pub fn probe_all_well(table: &Table, _: &Upstream) {
    let (mut prober, now) = (Prober::new(CONNECTED, 1, Rules::NEWEST), 1_020_000);
    prober.tick(table, now - 4000, || 0).expect("sound");
    prober.tick(table, now, || 0).expect("sound");
    while let Some((id, _)) = prober.next(table, now).expect("sound") {
        prober.feed(id, b"HTTP/1.1 200 OK\r\n\r\n", now);
        prober.end(table, id, Stage::Done, b"", now).expect("sound");
    }
}

/// Brings all up, the first down again, and stops with a probe under way.
pub fn probe(table: &Table, _: &Upstream) {
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

/// Upstreams follow a default, and the subject does not follow it yet.
pub fn made_before_the_default(table: &Table, subject: &Upstream) {
    follow_the_default(table);
    made(table, subject);
}

/// The default holds for this call: a process that dies takes it along.
pub fn follow_the_default(table: &Table) {
    table.set_default_check(Some(Check::default()));
    table.spread_default_check(WAIT).expect("spread");
    table.set_default_check(None);
}
