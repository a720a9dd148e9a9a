//! Readers beside a writer that dies, wherever that is, and the next one, which repairs what is left and goes on.

use crate::explore::Exploration;
use crate::memory::{Mortal, Shared, Sheet, geometry};
use crate::table::{change, names_in_bucket, pick, put, remove, version};
use dyups::balance::pick::Handle;
use dyups::shm::Memory;
use dyups::shm::layout::Geometry;
use dyups::table::repair;
use loom::thread;

const RECORDS: usize = 4;
/// Room for one more version than there are upstreams: what the dead one used is used again.
const HEAP: usize = 20;

/// The change of an upstream by a dying writer.
#[derive(Clone, Copy, PartialEq)]
enum Work {
    Create,
    Change,
    Delete,
}

impl Work {
    fn of<M: Memory>(self, mem: &M, geometry: &Geometry, name: &str) {
        match self {
            Work::Create | Work::Change => put(mem, geometry, &version(name, 3)),
            Work::Delete => remove(mem, geometry, name),
        }
    }
}

/// The writer after the one that died.
fn go_on<M: Memory>(mem: &M, geometry: &Geometry, name: &str) {
    let change = change(mem, geometry);
    if change.needs_repair().expect("inside") {
        assert_eq!(repair::repair(&change), Ok(0), "nothing is lost");
    }
    put(mem, geometry, &version(name, 9));
}

/// A reader beside both: of an upstream that the first one changes, and of one behind it in its chain.
fn beside_a_death(name: &'static str, preemptions: usize, work: Work, sights: &[&str]) {
    let geometry = geometry(0, RECORDS, HEAP);
    let [stays, changed] = names_in_bucket(0, RECORDS);
    let [next] = names_in_bucket(1, RECORDS);
    let sheet = Sheet::new(&geometry);
    put(&sheet, &geometry, &version(&stays, 1));
    if work != Work::Create {
        put(&sheet, &geometry, &version(&changed, 2));
    }
    let table = sheet.image();
    let mut exploration = Exploration::new(name, preemptions);
    for stores in 0..=sheet.stores(|sheet| work.of(sheet, &geometry, &changed)) {
        // A pick counts.
        let count = |sheet: &Sheet| {
            for name in [&stays, &changed] {
                pick(sheet, &geometry, &mut Handle::new(name.as_bytes()));
            }
        };
        let image = Sheet::holding(&table).before(|sheet| {
            count(sheet);
            sheet.until_death(stores, |mem| work.of(mem, &geometry, &changed));
            count(sheet);
            go_on(sheet, &geometry, &next);
        });
        let names = [stays.clone(), changed.clone(), next.clone()];
        exploration.run(move |seen| {
            let shared = Shared::holding(&image);
            let writers = {
                let (shared, [_, changed, next]) = (shared.clone(), names.clone());
                thread::spawn(move || {
                    shared.writer().until_death(stores, |mem| work.of(mem, &geometry, &changed));
                    go_on(&shared.writer(), &geometry, &next);
                })
            };
            let mem = shared.reader();
            let [stays, changed, _] = names.each_ref().map(|name| Handle::new(name.as_bytes()));
            let pick = |mut handle| pick(&mem, &geometry, &mut handle);
            let found = [pick(changed), pick(stays)];
            assert_eq!(found[1], Some(1));
            seen.note(found[0]);
            writers.join().expect("content");
        });
    }
    exploration.saw(sights);
}

#[test]
fn a_death_in_a_creation_and_its_repair_show_readers_the_new_upstream_or_none() {
    beside_a_death("death in a creation", 4, Work::Create, &["None", "Some(3)"]);
}

#[test]
fn a_death_in_a_change_and_its_repair_show_readers_the_old_version_or_the_new_one() {
    beside_a_death("death in a change", 2, Work::Change, &["Some(2)", "Some(3)"]);
}

#[test]
fn a_death_in_a_deletion_and_its_repair_show_readers_the_upstream_or_none() {
    beside_a_death("death in a deletion", 2, Work::Delete, &["None", "Some(2)"]);
}
