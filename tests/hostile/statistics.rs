//! A file of statistics that is spoiled or foreign, and cells and records that lead to any section of it. Tries are counted or not, reports
//! and metrics have an answer, and the table stands.

use crate::children::{fork, wait};
use crate::inherited::become_worker;
use crate::region::{accesses, memory};
use crate::support::{Random, SMALL, SOON, Scratch, names, open, tries, upstream};
use dyups::config::report::Window;
use dyups::error::Result;
use dyups::shm::Mem;
use dyups::shm::layout::LAYOUT;
use dyups::shm::region::statistics_of;
use dyups::shm::sections::{SIDE_BY_SIDE, Section, Sections, UNIT, units};
use dyups::stats::ended::Ended;
use dyups::stats::place::Places;
use dyups::stats::tally::{Tally, Try};
use dyups::status::metrics::{Format, Parts, text};
use dyups::status::report::json;
use dyups::table::Table;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Bytes of the file: room for some twenty units.
const BYTES: u64 = 64 << 10;
/// Touches that a call may take, of the region and the files beside it.
const TOUCHES: u64 = 1 << 20;
/// Bytes that a call may take.
const TAKEN: usize = 4 << 20;

/// A table with two upstreams, which keeps statistics.
struct Scene {
    table: Table,
    scratch: Scratch,
}

impl Scene {
    fn new() -> Scene {
        let scratch = Scratch::new();
        let (mut table, _) = open(&scratch.file("region"), SMALL).expect("a new region");
        table.keep_statistics(BYTES).expect("room");
        table.set_upstream(&upstream("api", &["10.0.0.1", "10.0.0.2", "10.0.0.3"]), SOON).expect("room");
        table.set_upstream(&upstream("other", &["10.0.0.4"]), SOON).expect("room");
        let scene = Scene { table, scratch };
        scene.use_all();
        scene
    }

    fn file(&self) -> PathBuf {
        statistics_of(&self.scratch.file("region"), LAYOUT)
    }

    /// Stores a word of the file.
    fn spoil(&self, word: usize, value: u64) {
        let file = fs::File::options().write(true).open(self.file()).expect("there");
        file.write_all_at(&value.to_ne_bytes(), 8 * word as u64).expect("inside");
    }

    /// Counts tries of all peers, and shows all numbers, within the bounds.
    fn use_all(&self) {
        let table = &self.table;
        let places = Places::of(table.region()).expect("on");
        for name in ["api", "other"] {
            let mut tally = Tally::default();
            for (status, one) in [200, 404, 0]
                .into_iter()
                .flat_map(|status| tries(table, name).into_iter().map(move |one| (status, one)))
            {
                let header_ms = (status != 0).then_some(7);
                let ended = Ended {
                    status,
                    connect_ms: Some(1),
                    header_ms,
                    response_ms: Some(9),
                    sent: 1,
                    received: 2,
                    ..Ended::default()
                };
                tally.add(Try { ended, ..one }, &places);
            }
            within_bounds(|| while !tally.flush(&places) {});
            let whole = within_bounds(|| json(table, name, None, &Window::All));
            let mark = whole.ok().map(|whole| {
                let report: serde_json::Value = serde_json::from_slice(&whole).expect("JSON");
                let texts: Vec<String> = serde_json::from_value(report["mark"].clone()).expect("texts");
                texts.join(";")
            });
            let windows = [Window::Seconds(60), Window::Seconds(3600)].into_iter().chain(mark.map(Window::Since));
            windows.for_each(|window| drop(within_bounds(|| json(table, name, None, &window))));
        }
        let parts = Parts { peers: true, histograms: true };
        [Format::Text, Format::OpenMetrics]
            .into_iter()
            .for_each(|format| drop(within_bounds(|| text(table, None, format, parts))));
    }

    /// The table is as it was, and changes.
    fn stands(&self) {
        assert_eq!(names(&self.table), ["api", "other"]);
        self.table.set_upstream(&upstream("new", &["10.0.0.9"]), SOON).expect("room");
        self.table.delete_upstream("new", true, SOON).expect("there");
    }
}

fn within_bounds<T>(body: impl FnOnce() -> T) -> T {
    let (bytes, value) = memory::most(|| accesses::at_most(TOUCHES, body));
    assert!(bytes <= TAKEN, "it took {bytes} bytes");
    value
}

/// The values that a word is spoiled with.
fn values(random: &mut Random) -> [u64; 6] {
    [0, 1, u64::MAX, 1 << 63, u64::from(u32::MAX), random.below(u64::MAX)]
}

/// The header, the owners, and all that was ever counted, word by word.
pub fn each_word_of_a_file_of_statistics_may_be_any_number() {
    let scene = Scene::new();
    let mut random = Random(1);
    let words = BYTES as usize / 8;
    let sound = fs::read(scene.file()).expect("readable");
    let used = |word: &usize| *word < 64 || sound[8 * word..8 * word + 8] != [0; 8];
    let used: Vec<usize> = (0..words).filter(used).collect();
    assert!(used.len() > 100, "{} words are used", used.len());
    for word in used {
        for value in values(&mut random) {
            scene.spoil(word, value);
            scene.use_all();
        }
    }
    for value in values(&mut random) {
        (0..words).for_each(|word| scene.spoil(word, value));
        scene.use_all();
    }
    scene.stands();
}

/// Inside of the file, at its end and outside; one in the middle of another one.
pub fn a_cell_and_a_record_may_lead_to_any_section() {
    let scene = Scene::new();
    let region = scene.table.region();
    let (cells, mem, units) = (region.cells().expect("some"), region.mem(), units(BYTES as usize));
    let ends =
        [units - SIDE_BY_SIDE as u32, units - 1, units, units + 1, u32::MAX / UNIT as u32, u32::MAX - 1, u32::MAX];
    for number in (0..12).chain(ends) {
        // A cell that leads to a section keeps it, so the peers are new ones.
        let server = |nth: u32| format!("10.0.{nth}.1:{}", 1000 + number % 9000);
        let servers = [1, 2, 3].map(server);
        scene.table.set_upstream(&upstream("api", &servers.each_ref().map(String::as_str)), SOON).expect("room");
        let all = tries(&scene.table, "api");
        let lead = |one: &Try| cells.set_section(one.cell, one.generation, Section(number));
        assert!(all.iter().all(|one| lead(one) == Ok(true)), "{number}");
        scene.use_all();
        let old = all[0].record.section(mem).expect("inside");
        assert_eq!(all[0].record.set_section(mem, old, Section(number)), Ok(true));
        scene.use_all();
    }
    scene.stands();
}

/// By a process that has nothing but the mapping.
pub fn a_file_of_statistics_that_is_spoiled_while_it_is_used_is_survived() {
    const TIME: Duration = Duration::from_secs(2);
    let scene = Scene::new();
    let sections = scene.table.region().sections().expect("on");
    let spoiler = fork(|| {
        become_worker(&[]);
        spoil(&sections);
    });
    let (begun, mut rounds) = (Instant::now(), 0);
    while begun.elapsed() < TIME {
        scene.use_all();
        rounds += 1;
    }
    // SAFETY: a signal to our own child, which has not been waited for.
    unsafe { libc::kill(spoiler, libc::SIGKILL) };
    assert!(libc::WIFSIGNALED(wait(spoiler)), "it ended by itself");
    println!("{rounds} rounds");
    scene.stands();
}

/// Stores any number in any word of the sections, for ever.
fn spoil(sections: &Sections<'_, Mem>) {
    let mut random = Random(2);
    let sections_end = u64::from(units(BYTES as usize));
    loop {
        let (section, word) = (Section(random.below(sections_end) as u32), random.below(UNIT as u64) as usize);
        let value = [0, u64::MAX, random.below(1 << 48), 1 << 63][random.below(4) as usize];
        sections.store(section, word, value).expect("inside");
        std::thread::sleep(Duration::from_micros(20));
    }
}

/// Another file in the place of the statistics, at the next start of nginx.
struct Foreign {
    what: &'static str,
    put: fn(&Path, &[u8]),
    /// In the message; none: the statistics begin anew, or go on.
    why: Option<&'static str>,
}

const FOREIGN: [Foreign; 13] = [
    Foreign { what: "none", put: |path, _| fs::remove_file(path).expect("ours"), why: None },
    Foreign { what: "an empty one", put: |path, _| write(path, b""), why: None },
    Foreign { what: "one of a few bytes", put: |path, _| write(path, b"short"), why: None },
    Foreign { what: "one that was cut", put: |path, sound| write(path, &sound[..sound.len() / 2]), why: None },
    Foreign { what: "a longer one", put: |path, sound| write(path, &[sound, sound].concat()), why: None },
    Foreign { what: "that of a program", put: |path, sound| write(path, &vec![b'x'; sound.len()]), why: None },
    Foreign { what: "another layout", put: |path, sound| write(path, &with(sound, 1, 2)), why: None },
    Foreign { what: "another region's", put: |path, sound| write(path, &with(sound, 3, 1)), why: None },
    Foreign { what: "another boot's", put: |path, sound| write(path, &with(sound, 4, 1)), why: None },
    Foreign {
        what: "a directory",
        put: |path, _| {
            fs::remove_file(path).expect("ours");
            fs::create_dir(path).expect("mkdir");
        },
        why: Some("is not a regular file"),
    },
    Foreign {
        what: "a pipe that no process writes to",
        put: |path, _| {
            fs::remove_file(path).expect("ours");
            assert!(Command::new("mkfifo").args(["-m", "600"]).arg(path).status().expect("mkfifo").success());
        },
        why: Some("is not a regular file"),
    },
    Foreign {
        what: "a link to another file",
        put: |path, sound| {
            let elsewhere = path.with_extension("elsewhere");
            write(&elsewhere, sound);
            fs::remove_file(path).expect("ours");
            symlink(elsewhere, path).expect("a link");
        },
        why: Some("symbolic"),
    },
    Foreign {
        what: "one that all may write",
        put: |path, _| fs::set_permissions(path, PermissionsExt::from_mode(0o666)).expect("ours"),
        why: Some("mode"),
    },
];

/// A file of this user alone.
fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("room");
    fs::set_permissions(path, PermissionsExt::from_mode(0o600)).expect("ours");
}

fn with(sound: &[u8], word: usize, value: u64) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    bytes[8 * word..8 * word + 8].copy_from_slice(&value.to_ne_bytes());
    bytes
}

fn requests(table: &Table) -> Result<u64> {
    let report: serde_json::Value = serde_json::from_slice(&json(table, "api", None, &Window::All)?).expect("JSON");
    Ok(report["requests"].as_u64().expect("a number"))
}

/// Each begins anew, or is refused by a message that names it; the table is there in any case.
pub fn a_foreign_file_of_statistics_is_none() {
    for Foreign { what, put, why } in FOREIGN {
        let Scene { table, scratch } = Scene::new();
        assert_eq!(requests(&table), Ok(9), "{what}");
        drop(table);
        let (base, file) = (scratch.file("region"), statistics_of(&scratch.file("region"), LAYOUT));
        put(&file, &fs::read(&file).expect("readable"));
        let (mut table, notes) = open(&base, SMALL).expect("usable");
        assert_eq!(notes, Vec::<String>::new(), "{what}");
        let kept = table.keep_statistics(BYTES).map_err(|error| error.message.into_owned());
        match (why, kept) {
            (None, kept) => assert_eq!((kept, requests(&table)), (Ok(()), Ok(0)), "{what}"),
            (Some(why), kept) => {
                let message = kept.expect_err(what);
                assert!(message.contains(why) && message.contains(&file.display().to_string()), "{what}: {message}");
                assert!(requests(&table).is_err(), "{what}");
            }
        }
        let scene = Scene { table, scratch };
        scene.stands();
    }
}
