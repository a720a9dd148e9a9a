//! Probes: workers find that one is due, one makes it, and one result counts. And a pick does not overlook a peer that they
//! have found down.

use crate::explore::explore;
use crate::memory::{Shared, Sheet, Words, geometry};
use crate::table;
use dyups::health::heal_one;
use dyups::health::judge::{Judged, judge};
use dyups::shm::cells::{Cells, Plan};
use dyups::shm::layout::Geometry;
use dyups::state::lease::{Due, Lease, Millis};
use dyups::state::slow_start;
use dyups::state::verdict::{State, Verdict};
use dyups::table::commit::{self, Build, CellPlan, RingPlan};
use dyups::table::directory::Directory;
use dyups::table::record::{Record, stamp_at};
use dyups::table::snapshot::{Flags, encode};
use dyups::upstream::{Check, Upstream};
use loom::thread;
use std::sync::Arc;

/// The only record, and the cell of its only peer.
const RECORD: u32 = 0;
const CELL: u32 = 1;

/// The probe is due, and has been for so long that the worker which took it then should be done.
const NOW: Millis = 1000;
/// When the next one is.
const NEXT: Millis = 2000;
const MOST_AHEAD: Millis = 5000;

/// An upstream of one peer with a check; the peer has failed before.
struct Scene {
    table: Shared,
    cells: Shared,
    geometry: Geometry,
    plan: Plan,
}

impl Scene {
    /// With a peer that has this lease, and was found up or down before.
    fn new(lease: impl Fn(Lease) -> Lease, down: bool) -> Scene {
        Scene::with(lease, down, 0)
    }

    /// The same with a `slow_start`.
    fn with(lease: impl Fn(Lease) -> Lease, down: bool, slow_start: u32) -> Scene {
        let (geometry, plan) = (geometry(1, 1, 16), Plan::for_cells(2));
        let table = Sheet::new(&geometry);
        let sheet = Sheet::holding(&vec![0; plan.words_of_rows(1)]);
        let cells = Cells::new(&sheet, &plan);
        cells.write_header(&[]).expect("inside");
        cells.activate(0).expect("inside");
        let mut upstream = Upstream { check: Some(Check::default()), ..table::version("u", 1) };
        upstream.peers[0].slow_start = slow_start;
        let build = Build {
            image: encode(&upstream, Flags::default()).expect("small"),
            rings: [RingPlan::None, RingPlan::None],
            must: true,
            cells: CellPlan { new: vec![0], ..CellPlan::default() },
        };
        let change = table::change(&table, &geometry).with_cells(Some(cells));
        commit::put(&change, "u", build, None).expect("room");
        let new = Lease(cells.lease(CELL).expect("inside"));
        assert_eq!(cells.set_lease(CELL, new.0, lease(new).0), Ok(true));
        if down {
            let word = cells.verdict(CELL).expect("inside");
            assert_eq!(cells.set_verdict(CELL, word, Verdict(word).after(false, 1, 1).0.0), Ok(true));
        }
        Directory::over(&table, &geometry).mark_failure(RECORD).expect("inside");

        // The words that a process changes in the rest of the model, and no others: each costs loom dearly.
        let before = sheet.image();
        let words = [cells.verdict(CELL), cells.lease(CELL)].map(|word| word.expect("inside"));
        assert_eq!(cells.set_verdict(CELL, words[0], !words[0]), Ok(true));
        assert_eq!(cells.set_lease(CELL, words[1], !words[1]), Ok(true));
        let usable = cells.usable(CELL, 0).expect("inside");
        assert_eq!(cells.set_usable(CELL, 0, usable, !usable), Ok(true));
        if slow_start != 0 {
            let start = cells.slow_start(CELL).expect("inside");
            assert_eq!(cells.set_slow_start(CELL, start, !start), Ok(true));
        }
        let after = sheet.image();
        // Failures, changes of the bits of usable peers, and when a worker has looked at these.
        let marks = stamp_at(&geometry, RECORD) + 3;
        let marks = marks..marks + 3;
        Scene {
            table: Shared::watching(&table.image(), |index| marks.contains(&index)),
            cells: Shared::watching(&before, |index| after[index] != before[index]),
            geometry,
            plan,
        }
    }

    fn process(self: &Arc<Scene>) -> Process {
        Process { scene: Arc::clone(self), table: self.table.reader(), cells: self.cells.reader() }
    }
}

/// A worker, and what it has mapped.
struct Process {
    scene: Arc<Scene>,
    table: Words,
    cells: Words,
}

impl Process {
    fn directory(&self) -> Directory<'_, Words> {
        Directory::over(&self.table, &self.scene.geometry)
    }

    fn cells(&self) -> Cells<'_, Words> {
        Cells::new(&self.cells, &self.scene.plan)
    }

    fn lease(&self) -> Lease {
        Lease(self.cells().lease(CELL).expect("inside"))
    }

    fn verdict(&self) -> Verdict {
        Verdict(self.cells().verdict(CELL).expect("inside"))
    }

    /// Takes the probe if it is due, as a prober does.
    fn take(&self, slot: u32) -> Option<Lease> {
        let lease = self.lease();
        let taken = lease.taken(slot, NEXT);
        let is_due = matches!(lease.due(NOW, MOST_AHEAD), Due::Since(_));
        (is_due && self.cells().set_lease(CELL, lease.0, taken.0).expect("inside")).then_some(taken)
    }

    /// Says what its probe found, as a prober does; whether it counts. One result is enough.
    fn end(&self, lease: Lease, ok: bool) -> bool {
        let before = self.verdict();
        let is_mine = self.cells().set_lease(CELL, lease.0, lease.until(NEXT).0).expect("inside");
        if is_mine {
            let judged = Judged { record: RECORD, cell: CELL, index: 0, before };
            judge(&self.directory(), &self.cells(), judged, ok, (1, 1)).expect("inside");
        }
        is_mine
    }

    fn heal(&self) {
        heal_one(&self.directory(), &self.cells(), RECORD).expect("readable");
    }

    /// The record of its upstream.
    fn record(&self) -> Record {
        Record::numbered(&self.scene.geometry, RECORD)
    }

    /// Whether the peer has begun a slow start.
    fn starts(&self) -> bool {
        slow_start::of(&self.cells(), CELL).expect("inside").is_some()
    }

    /// Whether picks look at each peer.
    fn ails(&self) -> bool {
        self.record().failures(&self.table).expect("inside").any()
    }
}

#[test]
fn of_workers_who_find_that_a_probe_is_due_one_makes_it() {
    let sights = ["[false, false, true]", "[false, true, false]", "[true, false, false]"];
    explore("probes, due", 4, &sights, |seen| {
        let scene = Arc::new(Scene::new(|new| new.until(NOW), false));
        let take = |slot| {
            let worker = scene.process();
            thread::spawn(move || worker.take(slot).is_some())
        };
        let workers = [take(0), take(1), take(2)];
        seen.note(workers.map(|worker| worker.join().expect("content")));
    });
}

#[test]
fn the_result_of_a_lease_that_is_another_workers_by_now_adds_nothing() {
    // Whose result counts, and what the peer is.
    let sights = [r#"(false, true, Down)"#, r#"(true, false, Up)"#];
    explore("probes, expired", 4, &sights, |seen| {
        let scene = Arc::new(Scene::new(|new| new.taken(0, NOW), true));
        let late = scene.process();
        // It was to be done by now, and has slept.
        let lease = late.lease();
        let late = thread::spawn(move || late.end(lease, true));
        let others: Vec<_> = [1, 2]
            .map(|slot| {
                let other = scene.process();
                thread::spawn(move || other.take(slot).is_some_and(|lease| other.end(lease, false)))
            })
            .into();
        let late = late.join().expect("content");
        let others = others.into_iter().map(|other| other.join().expect("content"));
        let counted = (late, others.fold(false, |one, other| one | other));
        let verdict = scene.process().verdict();
        // It was one before.
        assert_eq!(verdict.results(), 2, "one of both");
        seen.note((counted.0, counted.1, verdict.state()));
    });
}

#[test]
fn a_peer_that_goes_down_is_looked_at_by_picks_whoever_finds_its_upstream_well_meanwhile() {
    let sights = ["(Down, true)"];
    explore("probes, down", 5, &sights, |seen| {
        let scene = Arc::new(Scene::new(|new| new.taken(0, NEXT), false));
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let worker = scene.process();
                thread::spawn(move || worker.heal())
            })
            .collect();
        let prober = scene.process();
        assert!(prober.end(prober.lease(), false));
        // A worker that picks from now on.
        let (state, ails) = (prober.verdict().state(), prober.ails());
        assert!(state == State::Down && ails, "it is overlooked");
        workers.into_iter().for_each(|worker| worker.join().expect("content"));
        let last = scene.process();
        seen.note((last.verdict().state(), last.ails()));
    });
}

#[test]
fn a_peer_that_comes_up_starts_slowly_though_a_worker_finds_its_upstream_well_meanwhile() {
    // How many changes a pick has seen before it looked, and whether it has found the start. With the change, it has.
    let sights = ["(0, false)", "(0, true)", "(1, true)"];
    explore("probes, slow start", 5, &sights, |seen| {
        let scene = Arc::new(Scene::with(|new| new.taken(0, NEXT), true, 1_000_000));
        let healer = scene.process();
        let healer = thread::spawn(move || healer.heal());
        let picker = scene.process();
        let picker = thread::spawn(move || {
            let changes = picker.record().changes(&picker.table).expect("inside");
            (changes, picker.starts())
        });
        let prober = scene.process();
        assert!(prober.end(prober.lease(), true));
        let (state, ails) = (prober.verdict().state(), prober.ails());
        assert!(state == State::Up && ails && prober.starts(), "it has all its weight at once");
        healer.join().expect("content");
        assert!(scene.process().ails());
        seen.note(picker.join().expect("content"));
    });
}
