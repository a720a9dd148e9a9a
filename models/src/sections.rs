//! Sections of statistics: workers add to one, and one changes hands beside a worker that is late and a reader.

use crate::explore::explore;
use crate::memory::{Image, Shared, Sheet, Words, geometry};
use crate::table::{put, remove, version};
use dyups::shm::cells::{Cells, Plan};
use dyups::shm::layout::Geometry;
use dyups::shm::sections::{SIDE_BY_SIDE, Section, Sections, UNIT};
use dyups::shm::{Damaged, Memory};
use dyups::stats::delta::Delta;
use dyups::stats::ended::Ended;
use dyups::stats::place::{Counted, Places};
use dyups::stats::section::{CREATED, REQUESTS, SELECTED};
use dyups::stats::totals::Totals;
use dyups::table::Record;
use dyups::table::directory::Directory;
use loom::thread;

/// The only cell beside the one that belongs to no peer, and the only record.
const CELL: u32 = 1;
const RECORD: u32 = 0;
/// Words of a file before its sections: a page of the header, and one of owners.
const BEFORE: usize = 2 * 4096 / 8;
/// The owner of an upstream's section that took it when the machine booted.
const OWNER: u64 = 1 << 63 | RECORD as u64;

/// The sum of tries that ended at `now`: two words of a section, one of them the greatest.
fn batch(tries: u64, now: u64) -> Delta {
    let mut batch = Delta::default();
    (0..tries).for_each(|_| batch.add(&Ended::default(), now));
    batch
}

/// The numbers that batches change.
fn numbers(totals: &Totals) -> (u64, u64) {
    (totals.word(REQUESTS), totals.word(SELECTED))
}

/// The work of a process of a model.
type Work<'a> = &'a dyn Fn(&All<Sheet>);

/// The memories that places lie in: the region, its cells, and the file of statistics.
#[derive(Clone)]
struct All<M> {
    region: M,
    cells: M,
    statistics: M,
}

impl All<Sheet> {
    fn holding(images: &All<Vec<u64>>) -> Self {
        let [region, cells, statistics] =
            [&images.region, &images.cells, &images.statistics].map(|image| Sheet::holding(image));
        All { region, cells, statistics }
    }

    fn images(&self) -> All<Vec<u64>> {
        let [region, cells, statistics] = [&self.region, &self.cells, &self.statistics].map(Sheet::image);
        All { region, cells, statistics }
    }
}

impl All<Shared> {
    fn reader(&self) -> All<Words> {
        let [region, cells, statistics] = [&self.region, &self.cells, &self.statistics].map(Shared::reader);
        All { region, cells, statistics }
    }

    /// With the statistics as a process has them that empties a section.
    fn resetter(&self) -> All<Words> {
        All { statistics: self.statistics.resetter(), ..self.reader() }
    }

    /// With the table and the cells as the holder of the writer lock has them.
    fn writer(&self) -> All<Words> {
        All { statistics: self.statistics.reader(), region: self.region.writer(), cells: self.cells.writer() }
    }
}

/// A peer, and the upstream that it is of, each with traffic or not.
#[derive(Clone, Copy)]
struct Scene {
    geometry: Geometry,
    plan: Plan,
}

impl Scene {
    fn new() -> Scene {
        Scene { geometry: geometry(0, 1, 10), plan: Plan::for_cells(2) }
    }

    /// A new peer and a new upstream, and a file with room for so many units.
    fn sheets(&self, units: usize) -> All<Sheet> {
        let cells = Sheet::holding(&vec![0; self.plan.words_of_rows(0)]);
        Cells::new(&cells, &self.plan).write_header(&[]).expect("inside");
        assert_eq!(Cells::new(&cells, &self.plan).take(1, 0).expect("inside"), Some(vec![CELL]));
        let region = Sheet::new(&self.geometry);
        put(&region, &self.geometry, &version("a", 1));
        All { region, cells, statistics: Sheet::holding(&vec![0; BEFORE + units * (UNIT + 1)]) }
    }

    fn places<'a, M: Memory>(&'a self, all: &'a All<M>) -> Places<'a, M> {
        let (cells, sections) = (Cells::new(&all.cells, &self.plan), Sections::over(&all.statistics));
        Places::over(&all.region, &self.geometry, cells, sections)
    }

    fn generation<M: Memory>(&self, all: &All<M>) -> u16 {
        Cells::new(&all.cells, &self.plan).generation(CELL).expect("inside")
    }

    /// Adds a batch to the peer of this generation; whether it has a section.
    fn add<M: Memory>(&self, all: &All<M>, generation: u16, batch: &Delta) -> bool {
        let places = self.places(all);
        let section = places.of_peer(CELL, generation).expect("inside");
        section.map(|section| batch.add_into(&places.sections, section).expect("inside")).is_some()
    }

    /// Deletes the peer, and gives its cell to another one; the generation of that.
    fn replace_peer<M: Memory>(&self, all: &All<M>) -> u16 {
        let cells = Cells::new(&all.cells, &self.plan);
        cells.give_back(&[CELL]).expect("inside");
        assert_eq!(cells.take(1, 0).expect("inside"), Some(vec![CELL]));
        self.generation(all)
    }

    /// The number of the change that made the upstream, and its place.
    fn created<M: Memory>(&self, all: &All<M>) -> (Record, u64) {
        let (record, view) = Directory::over(&all.region, &self.geometry).find(b"a").expect("sound").expect("there");
        (Record::numbered(&self.geometry, record), view.created)
    }

    /// Ends the upstream, and makes one of the same name, which gets the section of the first one and a batch.
    fn replace_upstream<M: Memory>(&self, all: &All<M>, batch: &Delta) {
        remove(&all.region, &self.geometry, "a");
        put(&all.region, &self.geometry, &version("a", 2));
        let ((record, created), places) = (self.created(all), self.places(all));
        let section = places.of_upstream(record, created).expect("inside").expect("that of the first one");
        batch.add_into(&places.sections, section).expect("inside");
    }

    /// The words of a model that begins with these, and whose processes do these things in any order.
    fn images(&self, sheets: &All<Sheet>, works: &[Work<'_>]) -> All<Image> {
        let before = sheets.images();
        let image = |words: &Vec<u64>| Sheet::holding(words).before(|_| ());
        let mut images =
            All { region: image(&before.region), cells: image(&before.cells), statistics: image(&before.statistics) };
        for work in works {
            let after = All::holding(&before);
            work(&after);
            images.region.trying_on(&after.region);
            images.cells.trying_on(&after.cells);
            images.statistics.trying_on(&after.statistics);
        }
        images
    }

    fn totals<M: Memory>(&self, all: &All<M>, counted: Counted) -> Result<Option<Totals>, Damaged> {
        let places = self.places(all);
        places.read(counted, |section| Totals::read(&places.sections, section))
    }
}

impl All<Image> {
    fn shared(&self) -> All<Shared> {
        let [region, cells, statistics] = [&self.region, &self.cells, &self.statistics].map(Shared::holding);
        All { region, cells, statistics }
    }
}

#[test]
fn what_two_workers_add_at_once_is_the_sum_of_it_and_the_greatest() {
    let scene = Scene::new();
    let sheets = scene.sheets(2);
    let generation = scene.generation(&sheets);
    // How many sections were handed out: one of two is given back.
    let sights = ["1", "2"];
    let first = |all: &All<Sheet>| assert!(scene.add(all, generation, &batch(1, 70)));
    let second = |all: &All<Sheet>| assert!(scene.add(all, generation, &batch(2, 80)));
    let beaten = |all: &All<Sheet>| {
        // As if the other one had taken the first section in vain.
        let places = scene.places(all);
        let _ = places.sections.take(1, 9, |_, _| false);
        first(all);
    };
    let images = scene.images(&sheets, &[&first, &second, &beaten]);
    explore("sections, two add", 4, &sights, move |seen| {
        let shared = images.shared();
        let add = |tries: u64, now: u64| {
            let shared = shared.clone();
            thread::spawn(move || assert!(scene.add(&shared.reader(), generation, &batch(tries, now))))
        };
        let workers = [add(1, 70), add(2, 80)];
        workers.into_iter().for_each(|worker| worker.join().expect("content"));
        let all = shared.reader();
        let counted = scene.places(&all).find_peer(CELL).expect("inside").expect("it has traffic");
        let totals = scene.totals(&all, counted).expect("inside").expect("its own");
        assert_eq!(numbers(&totals), (3, 80));
        seen.note(all.statistics.load(8).expect("inside"));
    });
}

#[test]
fn answers_of_two_statuses_that_begin_at_once_are_counted_at_each() {
    let scene = Scene::new();
    let sheets = scene.sheets(1);
    let generation = scene.generation(&sheets);
    fn answer(status: u16) -> Delta {
        let mut delta = Delta::default();
        delta.add(&Ended { status, header_ms: Some(0), ..Ended::default() }, 0);
        delta
    }
    assert!(scene.add(&sheets, generation, &batch(1, 0)));
    let both =
        |all: &All<Sheet>| [200, 404].iter().for_each(|&status| assert!(scene.add(all, generation, &answer(status))));
    let other =
        |all: &All<Sheet>| [404, 200].iter().for_each(|&status| assert!(scene.add(all, generation, &answer(status))));
    let images = scene.images(&sheets, &[&both, &other]);
    explore("sections, two statuses", 4, &[r#"[("200", 2), ("404", 1)]"#], move |seen| {
        let shared = images.shared();
        let workers = [&[200, 200][..], &[404]].map(|statuses| {
            let shared = shared.clone();
            thread::spawn(move || {
                let all = shared.reader();
                statuses.iter().for_each(|&status| assert!(scene.add(&all, generation, &answer(status))));
            })
        });
        workers.into_iter().for_each(|worker| worker.join().expect("content"));
        let all = shared.reader();
        let counted = scene.places(&all).find_peer(CELL).expect("inside").expect("it has traffic");
        seen.note(scene.totals(&all, counted).expect("inside").expect("its own").codes());
    });
}

#[test]
fn a_section_that_changes_hands_has_its_peer_s_tries_and_one_late_batch_at_most() {
    let scene = Scene::new();
    let sheets = scene.sheets(1);
    let old = scene.generation(&sheets);
    assert!(scene.add(&sheets, old, &batch(4, 50)));
    let replace = move |all: &All<Sheet>| {
        let new = scene.replace_peer(all);
        assert!(scene.add(all, new, &batch(1, 60)));
    };
    let late = |all: &All<Sheet>| assert!(scene.add(all, old, &batch(2, 70)));
    let images = scene.images(&sheets, &[&replace, &late]);
    // Whether the late worker found a section, and the tries that the new peer has.
    let sights = ["(false, 1)", "(true, 1)", "(true, 3)"];
    explore("sections, late worker", 4, &sights, move |seen| {
        let shared = images.shared();
        let late = {
            let shared = shared.clone();
            thread::spawn(move || scene.add(&shared.reader(), old, &batch(2, 70)))
        };
        let writer = shared.writer();
        let new = scene.replace_peer(&writer);
        let worker = shared.resetter();
        assert!(scene.add(&worker, new, &batch(1, 60)));
        let late = late.join().expect("content");
        let counted = scene.places(&worker).find_peer(CELL).expect("inside").expect("it has traffic");
        let (requests, selected) = numbers(&scene.totals(&worker, counted).expect("inside").expect("its own"));
        assert!(selected == 60 || late && selected == 70, "{selected}");
        seen.note((late, requests));
    });
}

#[test]
fn a_reader_of_a_section_that_changes_hands_sees_no_numbers_of_another_peer() {
    let scene = Scene::new();
    let sheets = scene.sheets(1);
    let old = scene.generation(&sheets);
    assert!(scene.add(&sheets, old, &batch(4, 50)));
    let counted = scene.places(&sheets).find_peer(CELL).expect("inside").expect("it has traffic");
    let replace = |all: &All<Sheet>| {
        let new = scene.replace_peer(all);
        assert!(scene.add(all, new, &batch(1, 60)));
    };
    let images = scene.images(&sheets, &[&replace]);
    explore("sections, reader of a peer", 4, &["None", "Some((4, 50))"], move |seen| {
        let shared = images.shared();
        let writer = {
            let shared = shared.clone();
            thread::spawn(move || {
                scene.replace_peer(&shared.writer());
            })
        };
        let worker = {
            let shared = shared.clone();
            thread::spawn(move || {
                let all = shared.resetter();
                let new = scene.generation(&all);
                if new != old {
                    scene.add(&all, new, &batch(1, 60));
                }
            })
        };
        let totals = scene.totals(&shared.reader(), counted).expect("inside");
        seen.note(totals.as_ref().map(numbers));
        writer.join().expect("content");
        worker.join().expect("content");
    });
}

#[test]
fn a_reader_of_a_section_that_changes_hands_sees_no_numbers_of_another_upstream() {
    let scene = Scene::new();
    let sheets = scene.sheets(SIDE_BY_SIDE);
    let (record, created) = scene.created(&sheets);
    let section = {
        let sections = scene.places(&sheets).sections;
        let section = sections.take(SIDE_BY_SIDE, OWNER, |_, _| false).expect("inside").expect("room");
        sections.store(section, CREATED, created).expect("inside");
        batch(4, 50).add_into(&sections, section).expect("inside");
        section
    };
    assert_eq!((section, record.set_section(&sheets.region, None, section)), (Section(0), Ok(true)));
    let counted = scene.places(&sheets).find_upstream(record, created).expect("inside").expect("it has traffic");
    let images = scene.images(&sheets, &[&|all: &All<Sheet>| scene.replace_upstream(all, &batch(1, 60))]);
    explore("sections, reader of an upstream", 3, &["None", "Some((4, 50))"], move |seen| {
        let shared = images.shared();
        let writer = {
            let shared = shared.clone();
            thread::spawn(move || scene.replace_upstream(&shared.writer(), &batch(1, 60)))
        };
        let totals = scene.totals(&shared.reader(), counted).expect("inside");
        seen.note(totals.as_ref().map(numbers));
        writer.join().expect("content");
    });
}
