//! Worker slots: claimed by processes that die, while another one lists them.

use crate::explore::explore;
use crate::memory::{Shared, Sheet, geometry};
use dyups::error::Result;
use dyups::shm::layout::Geometry;
use dyups::shm::lock::{Holder, Locks};
use dyups::shm::slots::{self, Worker};
use loom::sync::Mutex;
use loom::thread;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The kernel's record locks of one file: byte to pid.
#[derive(Default)]
struct Kernel(Mutex<BTreeMap<u32, u32>>);

impl Kernel {
    fn locks<T>(&self, look: impl FnOnce(&mut BTreeMap<u32, u32>) -> T) -> T {
        look(&mut self.0.lock().expect("no panic under it"))
    }
}

/// The state that all processes of a model share. `living`: their knowledge of each other's slots, by no means of the library.
struct Machine {
    kernel: Kernel,
    shared: Shared,
    geometry: Geometry,
    living: std::sync::Mutex<BTreeSet<u32>>,
}

/// One process; its pid tells when it claims.
struct Process<'a> {
    machine: &'a Machine,
    pid: u32,
}

impl Locks for Process<'_> {
    fn keep(&self, byte: u32) -> Result<bool> {
        Ok(self.machine.kernel.locks(|locks| locks.insert(byte, *locks.get(&byte).unwrap_or(&self.pid)).is_none()))
    }

    fn give_back(&self, byte: u32) {
        self.machine.kernel.locks(|locks| locks.remove(&byte));
    }

    fn holder(&self, byte: u32, count: u32) -> Result<Option<Holder>> {
        let other = |(_, &pid): (&u32, &u32)| (pid != self.pid).then_some(Holder::Pid(pid));
        Ok(self.machine.kernel.locks(|locks| locks.range(byte..byte + count).find_map(other)))
    }
}

/// The clock when a process claims its slot. It is set back now and then.
fn time_of(pid: u32) -> u64 {
    1000 - u64::from(pid % 2)
}

impl Process<'_> {
    fn claim(&self) -> u32 {
        // The holder of a slot's byte writes its word.
        let mem = self.machine.shared.writer();
        let slot = slots::claim(&mem, &self.machine.geometry, self, time_of(self.pid)).expect("free");
        assert!(self.machine.living.lock().expect("no panic under it").insert(slot), "two live claims of slot {slot}");
        slot
    }

    fn live(&self) -> Vec<Worker> {
        slots::live(&self.machine.shared.reader(), &self.machine.geometry, self, None).expect("readable")
    }

    fn die(self, slot: u32) {
        self.machine.living.lock().expect("no panic under it").remove(&slot);
        self.machine.kernel.locks(|locks| locks.retain(|_, &mut pid| pid != self.pid));
    }
}

/// A machine whose slots were used before, by processes that lived long ago.
fn machine(geometry: Geometry) -> Arc<Machine> {
    let mut image = Sheet::new(&geometry).image();
    (0..geometry.slots as usize).for_each(|slot| image[geometry.slots_at + slot * dyups::shm::layout::OURS.slot] = 5);
    Arc::new(Machine {
        kernel: Kernel::default(),
        shared: Shared::watching(&image, |_| true),
        geometry,
        living: Default::default(),
    })
}

fn slots_of(workers: &[Worker]) -> Vec<(u32, Holder)> {
    workers.iter().map(|worker| (worker.slot, worker.holder)).collect()
}

/// Every worker with its own time and no other's.
fn check(workers: &[Worker]) {
    for worker in workers {
        let Holder::Pid(pid) = worker.holder else { panic!("{worker:?}") };
        assert_eq!(worker.since, time_of(pid), "{worker:?}");
    }
}

#[test]
fn a_slot_that_goes_from_hand_to_hand_is_listed_as_one_of_them_had_it() {
    let geometry = geometry(1, 1, 1);
    let sights = ["[(0, Pid(1))]", "[(0, Pid(2))]", "[(0, Pid(3))]", "[]"];
    explore("slot, hand to hand", 6, &sights, move |seen| {
        let machine = machine(geometry);
        let others = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || {
                for pid in 1..=3 {
                    let process = Process { machine: &machine, pid };
                    let slot = process.claim();
                    process.die(slot);
                }
            })
        };
        let workers = Process { machine: &machine, pid: 9 }.live();
        check(&workers);
        seen.note(slots_of(&workers));
        others.join().expect("content");
    });
}

#[test]
fn two_processes_at_once_never_have_one_slot() {
    let geometry = geometry(2, 1, 1);
    let sights = ["(0, 0)", "(0, 1)", "(1, 0)"];
    explore("slots, two at once", 4, &sights, move |seen| {
        let machine = machine(geometry);
        let life = |pid: u32| {
            let machine = Arc::clone(&machine);
            thread::spawn(move || {
                let process = Process { machine: &machine, pid };
                let slot = process.claim();
                process.die(slot);
                slot
            })
        };
        let (one, two) = (life(1), life(2));
        let workers = Process { machine: &machine, pid: 9 }.live();
        check(&workers);
        seen.note((one.join().expect("content"), two.join().expect("content")));
    });
}
