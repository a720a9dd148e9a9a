//! Open connections: counted by workers while a writer gives the cell to another peer, and while others count too.

use crate::explore::explore;
use crate::memory::{Shared, Sheet, Words};
use dyups::balance::attempt::{Account, Attempt, Claimed, Counters, claim};
use dyups::shm::Damaged;
use dyups::shm::cells::{Cells, Plan};
use dyups::state::failures::{Health, Limits};
use loom::thread;
use std::ops::Range;
use std::sync::Arc;

/// The only cell beside the one that belongs to no peer.
const CELL: u32 = 1;
/// The workers.
const SLOTS: Range<u32> = 0..3;

/// A peer with the only cell, as two workers have picked it; whose cell is free again if it was deleted.
struct Scene {
    shared: Shared,
    /// The words at the beginning.
    image: Vec<u64>,
    plan: Plan,
    account: Account,
}

impl Scene {
    fn new(deleted: bool, max_conns: u32) -> Scene {
        let plan = Plan::for_cells(2);
        let sheet = Sheet::holding(&vec![0; plan.words_of_rows(SLOTS.len())]);
        let cells = Cells::new(&sheet, &plan);
        cells.write_header(&[]).expect("inside");
        for slot in SLOTS {
            cells.activate(slot).expect("inside");
            // Each has counted before: there is memory behind its row.
            [true, false].iter().for_each(|&more| assert_eq!(cells.count_in(slot, CELL, more), Ok(true)));
        }
        assert_eq!(cells.take(1, 0).expect("inside"), Some(vec![CELL]));
        let account = Account {
            cell: CELL,
            health: Health(cells.health(CELL).expect("inside")),
            max_conns,
            ..Account::default()
        };
        if deleted {
            cells.give_back(&[CELL]).expect("inside");
        }
        let image = sheet.image();
        // The words that a process changes in the rest of the model, and no others: each costs loom dearly.
        let other = Sheet::holding(&image);
        let cells = Cells::new(&other, &plan);
        let _ = cells.take(1, 0).expect("inside");
        SLOTS.for_each(|slot| assert_eq!(cells.count_in(slot, CELL, true), Ok(true)));
        let changed = other.image();
        let shared = Shared::watching(&image, |index| changed[index] != image[index]);
        Scene { shared, image, plan, account }
    }

    /// Its peer has failed at time 0, and a worker that looks changes that alone.
    fn failed() -> Scene {
        let scene = Scene::new(false, 0);
        let sheet = Sheet::holding(&scene.image);
        let (cells, before) = (Cells::new(&sheet, &scene.plan), scene.account.health);
        assert_eq!(cells.set_health(CELL, before.0, before.failed(0).0), Ok(true));
        let image = sheet.image();
        Scene { shared: Shared::watching(&image, |index| image[index] != scene.image[index]), ..scene }
    }

    /// A worker counts: whether it goes on to the peer.
    fn begins(&self, mem: &Words, slot: u32) -> Option<Attempt> {
        self.place(mem).begin(self.account, Some(slot)).expect("inside")
    }

    fn place<'a>(&'a self, mem: &'a Words) -> Counters<'a, Words> {
        Counters { mem, cells: Some(Cells::new(mem, &self.plan)), history: None, places: None, now_ms: 0 }
    }
}

#[test]
fn a_cell_goes_to_another_peer_or_a_worker_counts_for_the_last_one_and_never_both() {
    let sights = ["(false, 0)", "(false, 1)", "(false, 2)", "(true, 0)"];
    explore("cells, counted and taken", 4, &sights, move |seen| {
        let scene = Arc::new(Scene::new(true, 0));
        let count = |slot: u32| {
            let scene = Arc::clone(&scene);
            thread::spawn(move || u32::from(scene.begins(&scene.shared.reader(), slot).is_some()))
        };
        let workers = [count(0), count(1)];
        let mem = scene.shared.reader();
        let taken = Cells::new(&mem, &scene.plan).take(1, 0).expect("inside").is_some();
        let counted: u32 = workers.into_iter().map(|worker| worker.join().expect("content")).sum();
        assert!(!(taken && counted > 0), "a worker counts with another peer");
        seen.note((taken, counted));
    });
}

#[test]
fn of_workers_who_find_that_a_peer_may_be_probed_one_does_so() {
    let limits = Limits { max_fails: 1, fail_timeout: 1 };
    explore(
        "cells, probe",
        4,
        &[r#"["no", "no", "probe"]"#, r#"["no", "probe", "no"]"#, r#"["probe", "no", "no"]"#],
        move |seen| {
            let scene = Arc::new(Scene::failed());
            let claim = |_| {
                let scene = Arc::clone(&scene);
                thread::spawn(move || {
                    let mem = scene.shared.reader();
                    match claim(&Cells::new(&mem, &scene.plan), CELL, limits, 100).expect("inside") {
                        Claimed::Trial(_) => "probe",
                        Claimed::No => "no",
                        Claimed::Yes => "yes",
                    }
                })
            };
            let workers: Vec<_> = SLOTS.map(claim).collect();
            seen.note(workers.into_iter().map(|worker| worker.join().expect("content")).collect::<Vec<_>>());
        },
    );
}

#[test]
fn of_workers_who_count_at_once_no_more_than_max_conns_stay() {
    for (max_conns, sights) in [(1, &["0", "1"][..]), (2, &["0", "1", "2"])] {
        explore("cells, max_conns", 4, sights, move |seen| {
            let scene = Arc::new(Scene::new(false, max_conns));
            let count = |slot: u32| {
                let scene = Arc::clone(&scene);
                thread::spawn(move || -> Result<u32, Damaged> {
                    let mem = scene.shared.reader();
                    let trying = scene.begins(&mem, slot).expect("nobody deletes it");
                    Ok(u32::from(!scene.place(&mem).is_crowded(&trying)?))
                })
            };
            let workers: Vec<_> = SLOTS.map(count).collect();
            let stay: u32 = workers.into_iter().map(|worker| worker.join().expect("content").expect("inside")).sum();
            assert!(stay <= max_conns, "{stay} have a connection");
            seen.note(stay);
        });
    }
}
