//! Readers beside a writer that ends upstreams and makes others of the same records and the same blocks.

use crate::explore::explore;
use crate::memory::{Image, Shared, Sheet, geometry};
use crate::table::{names_in_bucket, pick, put, remove, version};
use dyups::balance::pick::Handle;
use dyups::shm::Memory;
use dyups::shm::layout::Geometry;
use loom::thread;

/// Two records, two buckets, and room for two upstreams.
const RECORDS: usize = 2;
const TWO_UPSTREAMS: usize = 10;

/// A change of an upstream.
#[derive(Clone)]
enum Step {
    Make(String),
    End(String),
}

use Step::{End, Make};

impl Step {
    fn take<M: Memory>(&self, mem: &M, geometry: &Geometry) {
        match self {
            Make(name) => put(mem, geometry, &version(name, 3)),
            End(name) => remove(mem, geometry, name),
        }
    }
}

/// A table of two upstreams before `steps`, the second one before the first one in their chain, as far as they share it.
fn table_before(steps: &[Step], [first, second]: [&str; 2], geometry: &Geometry) -> Image {
    let sheet = Sheet::new(geometry);
    put(&sheet, geometry, &version(first, 1));
    put(&sheet, geometry, &version(second, 2));
    sheet.before(|sheet| {
        // A pick counts.
        for name in [first, second] {
            pick(sheet, geometry, &mut Handle::new(name.as_bytes()));
        }
        for step in steps {
            step.take(sheet, geometry);
            if let Make(name) = step {
                pick(sheet, geometry, &mut Handle::new(name.as_bytes()));
            }
        }
    })
}

/// A reader that asks for some upstreams in turn, beside a writer of `steps`, in a table of the two `names`.
fn beside(what: &'static str, preemptions: usize, names: [&str; 2], steps: &[Step], asked: &[&str], sights: &[&str]) {
    let geometry = geometry(0, RECORDS, TWO_UPSTREAMS);
    let (image, steps) = (table_before(steps, names, &geometry), steps.to_owned());
    let asked: Vec<String> = asked.iter().map(|&name| name.to_owned()).collect();
    explore(what, preemptions, sights, move |seen| {
        let shared = Shared::holding(&image);
        let writer = {
            let (mem, steps) = (shared.writer(), steps.clone());
            thread::spawn(move || steps.iter().for_each(|step| step.take(&mem, &geometry)))
        };
        let mem = shared.reader();
        let found = |name: &String| pick(&mem, &geometry, &mut Handle::new(name.as_bytes()));
        seen.note(asked.iter().map(found).collect::<Vec<_>>());
        writer.join().expect("content");
    });
}

#[test]
fn an_upstream_whose_chain_loses_a_record_to_another_chain_is_always_found() {
    let [stays, gone] = names_in_bucket(0, RECORDS);
    let [made] = names_in_bucket(1, RECORDS);
    let steps = [End(gone.clone()), Make(made)];
    beside("stays, record to another chain", 6, [&stays, &gone], &steps, &[&stays], &["[Some(1)]"]);
}

#[test]
fn an_upstream_whose_chain_gets_a_record_back_from_another_chain_is_always_found() {
    let [stays, gone, back] = names_in_bucket(0, RECORDS);
    let [made] = names_in_bucket(1, RECORDS);
    let steps = [End(gone.clone()), Make(made.clone()), End(made), Make(back)];
    beside("stays, record there and back", 4, [&stays, &gone], &steps, &[&stays], &["[Some(1)]"]);
}

/// The same hash in the same record: all that differs is how often it was linked.
#[test]
fn an_upstream_whose_chain_gets_a_record_back_under_its_old_name_is_always_found() {
    let [stays, gone] = names_in_bucket(0, RECORDS);
    let [made] = names_in_bucket(1, RECORDS);
    let steps = [End(gone.clone()), Make(made.clone()), End(made), Make(gone.clone())];
    beside("stays, record back as it was", 4, [&stays, &gone], &steps, &[&stays], &["[Some(1)]"]);
}

#[test]
fn a_reader_sees_the_new_name_only_after_the_old_one_is_gone() {
    let [stays, gone] = names_in_bucket(0, RECORDS);
    let [made] = names_in_bucket(1, RECORDS);
    let steps = [End(gone.clone()), Make(made.clone())];
    let sights = ["[None, None]", "[None, Some(2)]", "[Some(3), None]"];
    beside("new name, then old", 2, [&stays, &gone], &steps, &[&made, &gone], &sights);
}

/// A handle remembers record and stamp: neither leads it to the upstream that has them now.
#[test]
fn a_handle_never_picks_from_the_upstream_that_took_its_place() {
    let [stays, gone] = names_in_bucket(0, RECORDS);
    let [made] = names_in_bucket(1, RECORDS);
    let geometry = geometry(0, RECORDS, TWO_UPSTREAMS);
    let steps = [End(gone.clone()), Make(made)];
    let image = table_before(&steps, [&stays, &gone], &geometry);
    explore("handle of the old name", 3, &["None", "Some(2)"], move |seen| {
        let shared = Shared::holding(&image);
        let (reader, writer) = (shared.reader(), shared.writer());
        let mut handle = Handle::new(gone.as_bytes());
        assert_eq!(pick(&reader, &geometry, &mut handle), Some(2));
        let steps = steps.clone();
        let writer = thread::spawn(move || steps.iter().for_each(|step| step.take(&writer, &geometry)));
        seen.note(pick(&reader, &geometry, &mut handle));
        writer.join().expect("content");
    });
}
