//! Everything that can be full: the region, its file system, its records, the slots, a ring. In each case, a call that needs
//! more room is refused with a message that says the remedy, and the table is as it was. A call that needs no more room than
//! before works. Once there is room, all calls work.

#![allow(unsafe_code)]

mod support;

use dyups::balance::miss::Miss;
use dyups::balance::pick::{Ask, Handle, Picked};
use dyups::config::setup::DEFAULT_SIZE;
use dyups::error::{Code, Error};
use dyups::shm::layout::{LAYOUT, SLOTS, state};
use dyups::shm::lock::{FIRST_LISTED, FIRST_SLOT, Holder};
use dyups::shm::{Damaged, Mem, Memory, Writing};
use dyups::table::commit::{self, Build, CellPlan, RingPlan};
use dyups::table::directory::{self, Directory};
use dyups::table::ops::Absent;
use dyups::table::snapshot::{Flags, Group, build_ring, encode};
use dyups::table::store::{Stored, Table};
use dyups::upstream::{Check, Method, PeerPatch, Status, Upstream};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use support::*;

const MIB: u64 = 1 << 20;

// ---- the other process ------------------------------------------------------------------------------------------------

/// Plays its part for a test in another process; nothing when it runs as a test.
#[test]
fn helper_process() {
    let Some((role, args)) = role() else { return };
    match (role.as_str(), args.iter().map(String::as_str).collect::<Vec<_>>().as_slice()) {
        ("user", [path, size]) => user(Path::new(path), size.parse().expect("a number")),
        ("holder", [path, first, count]) => {
            let [first, count] = [first, count].map(|number| number.parse::<u32>().expect("a number"));
            [FIRST_SLOT, FIRST_LISTED].iter().for_each(|byte| lock_bytes(Path::new(path), byte + first, count));
            say("ready");
            orders().for_each(drop);
        }
        other => panic!("no role {other:?}"),
    }
}

/// Opens the region, and claims a slot when it is told to.
fn user(path: &Path, size: u64) {
    let (table, notes) = open(path, size).expect("it is there");
    say(notes.join("; "));
    for order in orders() {
        match order[0].as_str() {
            "claim" => report(table.region().claim_slot()),
            "list" => say(names(&table).join(" ")),
            "delete" => report(table.delete_upstream(&order[1], true, SOON).map(|()| "")),
            "count" => report(count(&table, order[1].parse().expect("a number"), order[2].parse().expect("a number"))),
            "room" => report(table.region().has_room_to_count().map(|()| "")),
            other => panic!("no order {other}"),
        }
    }
}

/// Begins to count in a slot, and counts a connection more to the peer with this cell. Whether it did.
fn count(table: &Table, slot: u32, cell: u32) -> Result<bool, Error> {
    table.region().count_for(slot)?;
    Ok(table.region().cells().expect("it has some").count_in(slot, cell, true)?)
}

/// Another process that has opened the region, and its messages for the operator.
fn another(path: &Path, size: u64) -> (Helper, String) {
    let mut helper = Helper::start("user", &[&path.display().to_string(), &size.to_string()]);
    let notes = helper.answer().expect("it opens");
    (helper, notes)
}

// ---- a file system of its own -----------------------------------------------------------------------------------------

/// Runs `body` where the scratch directory is a tmpfs of `size`, which it and its children alone see.
fn on_a_tmpfs(test: &str, size: &str, body: impl FnOnce(&Scratch) + Send) {
    let scratch = Scratch::new();
    let run = || {
        if mount_for_this_thread(test, scratch.path(), size) {
            body(&scratch);
        }
    };
    if let Err(panic) = std::thread::scope(|scope| scope.spawn(run).join()) {
        std::panic::resume_unwind(panic);
    }
}

// ---- tables -----------------------------------------------------------------------------------------------------------

/// An upstream of so many peers; each of its names has other ones.
fn of_size(name: &str, peers: usize) -> Upstream {
    let hash = directory::hash(name.as_bytes()) % 250;
    let peers = (0..peers).map(|i| peer(&format!("10.{hash}.{}.{}:80", i / 250, i % 250), 1)).collect();
    Upstream { name: name.into(), peers, ..Upstream::default() }
}

/// The address of a peer of [`of_size`].
fn server(name: &str, peer: usize) -> String {
    of_size(name, peer + 1).peers[peer].address.server().to_owned()
}

/// Adds upstreams, ever smaller ones, until not even one without peers fits. Answers the error of the last one.
fn fill(table: &Table) -> Error {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let add = |size| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // The name takes room too: where there is none for cells, there may be a lot in the heap.
        let name = format!("filler{number}{}", if size == 0 { "-".repeat(240) } else { String::new() });
        table.set_upstream(&of_size(&name, size), SOON).err()
    };
    let errors = [400, 50, 5, 1, 0].map(|size| std::iter::repeat_with(|| add(size)).flatten().next());
    fill_by_checks(table);
    errors.into_iter().flatten().last().expect("it ends")
}

/// Where there is no memory for the record of another name, there may be some in the heap. Checks of existing upstreams take
/// it.
fn fill_by_checks(table: &Table) {
    let fillers: Vec<String> = names(table).into_iter().filter(|name| name.ends_with('-')).collect();
    let mut left = fillers.iter();
    for bytes in [50_000, 5_000, 500] {
        let check = Check { http_req: Some("x".repeat(bytes)), ..Check::default() };
        let with_check = |name: &String| Upstream { check: Some(check.clone()), own_check: true, ..of_size(name, 0) };
        while left.next().is_some_and(|name| table.set_upstream(&with_check(name), SOON).is_ok()) {}
    }
}

fn filler(table: &Table) -> String {
    names(table).into_iter().find(|name| name.starts_with("filler")).expect("one is left")
}

/// Something of everything: upstreams from a file and others, with and without rings.
fn furnish(table: &Table) {
    table.load(&FILED.map(|name| of_size(name, 3)), false, SOON).expect("room");
    table.set_upstream(&of_size("own", 5), SOON).expect("room");
    table.set_upstream(&of_size("asked", 5), SOON).expect("room");
    table.build_ring("asked", SOON).expect("room");
    table.set_upstream(&ringed(), SOON).expect("room");
}

const FILED: [&str; 4] = ["filed", "touched", "gone", "stays"];

/// With rings of both groups.
fn ringed() -> Upstream {
    let mut ringed = Upstream { method: Some(Method::Chash), ..of_size("ringed", 7) };
    ringed.peers.iter_mut().for_each(|peer| peer.weight = 2);
    ringed.peers[5..].iter_mut().for_each(|peer| peer.backup = true);
    ringed
}

/// All that a change could change.
fn whole(table: &Table) -> (Vec<Stored>, u64, u64) {
    assert_no_leak(table);
    (table.all().expect("readable"), used(table), table.region().mem().load(state::RECORDS).expect("inside"))
}

/// Each upstream is picked from by both methods.
fn assert_service(table: &Table) {
    table.upstreams().expect("readable").iter().for_each(|stored| assert_picks(table, &stored.upstream));
}

fn assert_picks(table: &Table, upstream: &Upstream) {
    let Upstream { name, peers, .. } = upstream;
    for key in [None, Some(&b"key"[..])] {
        let ask = Ask { key, ..Ask::default() };
        match Handle::new(name.as_bytes()).pick(table, ask, false, &mut Picked::default()) {
            Ok(index) => assert!(peers[index as usize].takes_traffic(), "{name}"),
            Err(miss) => assert!(miss == Miss::NoPeer && !peers.iter().any(|peer| peer.takes_traffic()), "{name}"),
        }
    }
}

type Try = (&'static str, fn(&Table) -> Result<(), Error>);

fn put(table: &Table, name: &str, change: PeerPatch, absent: Absent) -> Result<(), Error> {
    table.put_peer(name, &change, absent, SOON)
}

fn load(table: &Table, names: &[&str]) -> Result<(), Error> {
    let file: Vec<Upstream> = names.iter().map(|name| of_size(name, 3)).collect();
    table.load(&file, false, SOON)
}

/// Calls that need more room than there was.
const GROWING: &[Try] = &[
    ("set_upstream of a new name", |table| table.set_upstream(&of_size("new", 3), SOON)),
    ("set_upstream of more peers", |table| table.set_upstream(&of_size("own", 200), SOON)),
    ("set_upstream with a ring", |table| {
        table.set_upstream(&Upstream { method: Some(Method::Chash), ..of_size("own", 5) }, SOON)
    }),
    ("add_peer to a new upstream", |table| put(table, "new", patch("10.0.0.9:80", 1), Absent::Make)),
    ("add_peer", |table| put(table, "own", patch("10.0.0.9:80", 1), Absent::Make)),
    ("add_peer to a ring", |table| put(table, "ringed", patch("10.0.0.9:80", 1), Absent::Make)),
    ("a weight that makes a ring larger", |table| {
        put(table, "ringed", patch(&server("ringed", 0), 50), Absent::Refuse)
    }),
    ("load of one more", |table| load(table, &["filed", "touched", "gone", "stays", "one-more"])),
    ("build_ring", |table| table.build_ring("own", SOON)),
];

/// Calls that need no more room than before. In this order: the last ones end the upstreams that the others change.
const NOT_GROWING: &[Try] = &[
    ("set_peer: max_fails", |table| {
        let change = PeerPatch { max_fails: Some(9), ..PeerPatch::new(address(&server("own", 1))) };
        put(table, "own", change, Absent::Refuse)
    }),
    ("set_peer: down", |table| {
        let change = PeerPatch { status: Some(Status::Down), ..PeerPatch::new(address(&server("own", 2))) };
        put(table, "own", change, Absent::Refuse)
    }),
    ("set_peer: a lighter weight in a ring", |table| {
        put(table, "ringed", patch(&server("ringed", 1), 1), Absent::Refuse)
    }),
    ("set_peer of one from a file", |table| put(table, "touched", patch(&server("touched", 0), 0), Absent::Refuse)),
    ("set_upstream of fewer peers", |table| table.set_upstream(&of_size("own", 4), SOON)),
    ("delete_peer", |table| table.delete_peer("own", &address(&server("own", 0)), SOON)),
    ("delete_peer from a file's", |table| table.delete_peer("filed", &address(&server("filed", 2)), SOON)),
    ("delete_peer from a ring", |table| table.delete_peer("ringed", &address(&server("ringed", 0)), SOON)),
    ("delete_peer from the backups' ring", |table| table.delete_peer("ringed", &address(&server("ringed", 6)), SOON)),
    ("delete_peer from a ring that was asked for", |table| {
        table.delete_peer("asked", &address(&server("asked", 4)), SOON)
    }),
    ("build_ring of what has one", |table| table.build_ring("ringed", SOON)),
    ("load of one less", |table| load(table, &["filed", "touched", "stays"])),
    ("load without what was touched", |table| load(table, &["filed", "stays"])),
    ("delete_upstream", |table| table.delete_upstream("own", true, SOON)),
    ("delete_upstream from a file", |table| table.delete_upstream("filed", true, SOON)),
    ("delete_upstream with rings", |table| table.delete_upstream("ringed", true, SOON)),
];

/// Tries everything in a table that is full: the changes that it refuses fail with `message`.
fn everything_is_tried(table: &Table, path: &Path, message: &str) {
    let refused = |error: &Error, what: &str| {
        assert_eq!(error.code, Code::Full, "{what}: {error}");
        assert!(error.message.contains(message), "{what}: {error}");
    };
    refused(&fill(table), "fill");
    for (what, change) in GROWING {
        let before = whole(table);
        let error = change(table).expect_err(what);
        refused(&error, what);
        assert_eq!(whole(table), before, "{what}");
    }
    assert_service(table);
    // A process that comes now finds all of it, and can make room too.
    let (mut helper, notes) = another(path, table.region().geometry().size);
    assert_eq!((notes.as_str(), helper.ask("list")), ("", names(table).join(" ")));
    assert_eq!(helper.ok("claim"), "0");
    assert_eq!(helper.ok(&format!("delete {}", filler(table))), "");
    helper.finish();
    for (what, change) in NOT_GROWING {
        refused(&fill(table), what);
        let before = whole(table);
        change(table).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(whole(table).1 <= before.1, "{what}");
        assert_service(table);
    }
    refused(&fill(table), "again");
}

/// Deletes until there is room, and then makes the changes that were refused.
fn with_room_all_is_done(table: &Table) {
    for (what, change) in GROWING {
        for name in names(table) {
            table.delete_upstream(&name, true, SOON).expect("deleting is always done");
        }
        furnish(table);
        change(table).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_service(table);
        assert_no_leak(table);
    }
}

// ---- the region -------------------------------------------------------------------------------------------------------

#[test]
fn in_a_full_region_only_what_grows_is_refused() {
    let (table, scratch) = table(MIB);
    furnish(&table);
    everything_is_tried(
        &table,
        &scratch.file("region"),
        "delete upstreams, or set a larger shm_size and restart nginx",
    );
    with_room_all_is_done(&table);
}

/// Memory whose owner dies before a store: from then on it stores nothing.
struct Dying<'a> {
    mem: &'a Mem,
    /// Stores that it lives to do.
    left: Cell<u64>,
}

impl Dying<'_> {
    fn lives(&self) -> Result<(), Damaged> {
        self.left.set(self.left.get().checked_sub(1).ok_or(Damaged)?);
        Ok(())
    }
}

impl Memory for Dying<'_> {
    type Word = <Mem as Memory>::Word;

    fn slice(&self, index: usize, len: usize) -> Result<&[Self::Word], Damaged> {
        self.mem.slice(index, len)
    }

    fn word(&self, index: usize) -> Result<&Self::Word, Damaged> {
        self.mem.word(index)
    }

    fn words(&self) -> usize {
        self.mem.words()
    }

    fn reserve(&self, index: usize, words: usize) -> std::io::Result<()> {
        self.mem.reserve(index, words)
    }

    fn store(&self, index: usize, value: u64) -> Result<(), Damaged> {
        self.lives().and_then(|()| self.mem.store(index, value))
    }

    fn publish(&self, index: usize, value: u64) -> Result<(), Damaged> {
        self.lives().and_then(|()| self.mem.publish(index, value))
    }

    fn store_all(&self, index: usize, values: &[u64]) -> Result<(), Damaged> {
        (index..).zip(values).try_for_each(|(index, &value)| self.store(index, value))
    }
}

/// A version with new rings, or without any.
fn build(upstream: &Upstream, flags: Flags, with_rings: bool) -> Build {
    let ring = |group| match build_ring(upstream, group).expect("small") {
        Some(ring) if with_rings => RingPlan::Build(ring),
        _ => RingPlan::None,
    };
    Build {
        image: encode(upstream, flags).expect("readable"),
        rings: Group::ALL.map(ring),
        must: true,
        cells: CellPlan::default(),
    }
}

fn words_of(mem: &Mem) -> Vec<u64> {
    let mut words = vec![0; mem.words()];
    mem.load_all(0, &mut words).expect("inside");
    words
}

#[test]
fn a_death_on_the_way_through_the_spare_leaves_the_old_version_or_the_new_one() {
    let (table, scratch) = table(SMALL);
    let mut old = Upstream { method: Some(Method::Chash), ..of_size("ringed", 3) };
    old.peers[2].backup = true;
    table.set_upstream(&old, SOON).expect("room");
    fill(&table);
    let mut new = old.clone();
    new.peers.remove(0);
    let tombstone = Upstream { name: "ringed".into(), ..Upstream::default() };
    let (mem, geometry, path) = (table.region().mem(), table.region().geometry(), scratch.file("region"));
    let image = words_of(mem);
    let found = || table.get("ringed").expect("readable").expect("there").upstream;
    for (new, with_rings) in [(&new, true), (&new, false), (&tombstone, false)] {
        let (mut deaths, mut done) = (0, false);
        let mut seen = [false; 2];
        while !done {
            mem.store_all(0, &image).expect("inside");
            let writer = table.region().writer(SOON).expect("free");
            let dying = Dying { mem, left: Cell::new(deaths) };
            let view = Directory::new(table.region()).find(b"ringed").expect("sound").expect("there");
            let build = build(new, Flags::TOUCHED, with_rings);
            done = commit::put(&Writing::new(&dying, geometry, &path), "ringed", build, Some(view)).is_ok();
            drop(writer);
            let at_once = found();
            assert!(at_once == old || at_once == *new, "store {deaths}: {at_once:?}");
            assert_picks(&table, &at_once);
            drop(table.writer(SOON).expect("repairable"));
            assert_eq!(found(), at_once, "store {deaths}: after the repair");
            assert_no_leak_of_heap(&table);
            seen[usize::from(at_once == *new)] = true;
            deaths += 1;
        }
        assert!(seen == [true, true] && used(&table) < image[state::USED], "{new:?}");
        println!("{deaths} deaths");
    }
}

// ---- its file system --------------------------------------------------------------------------------------------------

#[test]
fn on_a_full_file_system_only_what_grows_is_refused() {
    on_a_tmpfs("on_a_full_file_system_only_what_grows_is_refused", "1m", |scratch| {
        let (path, ballast) = (scratch.file("region"), scratch.file("ballast"));
        let (table, _notes) = open(&path, 8 * MIB).expect("room");
        furnish(&table);
        take_all(&ballast);
        let message = format!(
            "the file system of {} is full: make room there, or delete upstreams",
            region_file(&path).display()
        );
        everything_is_tried(&table, &path, &message);
        assert_eq!(table.set_upstream(&of_size("new", 3), SOON).expect_err("full").code, Code::Full);
        std::fs::remove_file(&ballast).expect("remove");
        table.set_upstream(&of_size("new", 3), SOON).expect("there is room again");
        with_room_all_is_done(&table);
    });
}

#[test]
fn a_file_system_that_is_full_at_the_start_is_a_message() {
    on_a_tmpfs("a_file_system_that_is_full_at_the_start_is_a_message", "1m", |scratch| {
        let (path, ballast) = (scratch.file("region"), scratch.file("ballast"));
        let refused = |size| {
            let error = open(&path, size).map(drop).expect_err("there is no room");
            let todo = "full: make room there, or name another place with shm_path";
            assert!(error.message.contains(&path.display().to_string()) && error.message.contains(todo), "{error}");
        };
        take_all(&ballast);
        refused(SMALL);
        refused(64 * MIB);
        std::fs::remove_file(&ballast).expect("remove");
        // The reserved part of 64 MiB does not fit even when there is nothing else.
        refused(64 * MIB);
        let (table, notes) = open(&path, SMALL).expect("what was half made is gone");
        assert_eq!((notes.as_slice(), names(&table).len()), (&[][..], 0));
    });
}

/// A page that one process has written takes no more memory in the others. A page that none has written is 0, and is not read.
#[test]
fn on_a_full_file_system_what_is_counted_is_seen_by_all_and_what_cannot_be_is_said() {
    let test = "on_a_full_file_system_what_is_counted_is_seen_by_all_and_what_cannot_be_is_said";
    on_a_tmpfs(test, "1m", |scratch| {
        let (path, ballast) = (scratch.file("region"), scratch.file("ballast"));
        let (table, _notes) = open(&path, SMALL).expect("room");
        table.set_upstream(&of_size("api", 3), SOON).expect("room");
        let cell = cells_of(&table, "api")[&server("api", 0)];
        let open_to_it = || table.region().cells().expect("some").open(cell);
        let (mut early, mut late) = (another(&path, SMALL).0, another(&path, SMALL).0);
        assert_eq!(early.ok("claim"), "0");
        assert_eq!(early.ok(&format!("count 0 {cell}")), "true");
        take_all(&ballast);
        assert_eq!(late.ok("claim"), "1", "a slot needs no memory");
        assert_eq!(late.ok(&format!("count 1 {cell}")), "false");
        // This process has not looked at it before.
        assert_eq!(open_to_it(), Ok(1));
        let file = dyups::shm::region::cells_of(&path, LAYOUT);
        let todo = format!("the file system of {} is full: make room there, or delete upstreams", file.display());
        let error = late.refused("room");
        assert!(error.starts_with("Full not all connections are counted, ") && error.ends_with(&todo), "{error}");
        assert_eq!(early.ok("room"), "");

        std::fs::remove_file(&ballast).expect("remove");
        assert_eq!(late.ok("room"), "");
        assert_eq!((late.ok(&format!("count 1 {cell}")), open_to_it()), ("true".into(), Ok(2)));
        early.kill();
        table.region().reap(None).expect("sound");
        assert_eq!(open_to_it(), Ok(1));
        assert!(!table.region().mem().is_torn());
        late.finish();
    });
}

// ---- another size -----------------------------------------------------------------------------------------------------

/// The demand of a full region, and the result where there is no room for two.
#[test]
fn a_larger_shm_size_is_had_at_the_next_start_if_the_file_system_holds_both() {
    let test = "a_larger_shm_size_is_had_at_the_next_start_if_the_file_system_holds_both";
    on_a_tmpfs(test, "3m", |scratch| {
        let (path, ballast) = (scratch.file("region"), scratch.file("ballast"));
        let table = open(&path, MIB / 2).expect("room").0;
        furnish(&table);
        let error = fill(&table);
        assert!(error.message.ends_with("delete upstreams, or set a larger shm_size and restart nginx"), "{error}");
        let before = table.all().expect("readable");
        drop(table);
        let why = format!("{}: shm_size is {MIB}, it had {} bytes", region_file(&path).display(), MIB / 2);

        take_all(&ballast);
        let (table, notes) = open(&path, MIB).expect("the old one is there");
        let kept = format!(
            "{why}, but it cannot be made anew and is kept: the file system of {} is full: make room there, or name another \
             place with shm_path",
            region_file(&path).display()
        );
        assert_eq!((notes, table.all()), (vec![kept], Ok(before.clone())));
        drop(table);

        std::fs::remove_file(&ballast).expect("remove");
        let (table, notes) = open(&path, MIB).expect("room");
        assert_eq!(notes, [format!("{why}: made anew with its table")]);
        let upstreams =
            |all: &[Stored]| all.iter().map(|stored| (stored.upstream.clone(), stored.flags)).collect::<Vec<_>>();
        assert_eq!(upstreams(&table.all().expect("readable")), upstreams(&before));
        for (what, change) in GROWING {
            change(&table).unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    });
}

#[test]
fn a_size_that_is_too_small_for_the_table_keeps_the_old_region() {
    let (table, scratch) = table(MIB);
    let path = scratch.file("region");
    fill(&table);
    let before = table.all();
    drop(table);
    let (table, notes) = open(&path, SMALL).expect("the old one is there");
    let [note] = notes.as_slice() else { panic!("{notes:?}") };
    let why = "shm_size is 262144, it had 1048576 bytes, but it cannot be made anew and is kept: the region is full: ";
    assert!(note.contains(why), "{note}");
    assert_eq!(table.all(), before);
    assert!(!PathBuf::from(format!("{}.new", region_file(&path).display())).exists());
}

// ---- 64 MB and 100,000 peers ------------------------------------------------------------------------------------------

#[test]
fn a_container_s_64_mb_hold_100_000_peers_and_serve_when_there_is_no_room_for_more() {
    let test = "a_container_s_64_mb_hold_100_000_peers_and_serve_when_there_is_no_room_for_more";
    on_a_tmpfs(test, "64m", |scratch| {
        let path = scratch.file("region");
        let (table, _notes) = open(&path, DEFAULT_SIZE).expect("room");
        let large = |number: usize| of_size(&format!("large{number}"), 10_000);
        (0..10).for_each(|number| table.set_upstream(&large(number), SOON).expect("room"));
        tell(format_args!("100,000 peers in 10 upstreams: {} KB", used(&table) * 64 / 1024));
        furnish(&table);
        // Rings take more than peers.
        let rings = (0..10).map_while(|number| table.build_ring(&format!("large{number}"), SOON).ok()).count();
        assert!((1..10).contains(&rings), "{rings}");
        everything_is_tried(&table, &path, &format!("the file system of {} is full: ", region_file(&path).display()));

        // Also of a large upstream.
        let name = "large9";
        table.delete_peer(name, &address(&server(name, 9_999)), SOON).expect("it does not grow");
        let down = PeerPatch { status: Some(Status::Down), ..PeerPatch::new(address(&server(name, 0))) };
        put(&table, name, down, Absent::Refuse).expect("it does not grow");
        assert_service(&table);
        table.delete_upstream(name, true, SOON).expect("deleting is always done");
        table.set_upstream(&large(9), SOON).expect("there is room again");
        assert_no_leak(&table);
    });
}

// ---- records, slots, a ring -------------------------------------------------------------------------------------------

#[test]
fn as_many_upstreams_as_records_fit_even_in_one_bucket() {
    let (table, _scratch) = table(SMALL);
    const MOST: usize = 256;
    assert_eq!(table.region().geometry().records, MOST);
    let all = in_bucket(9, MOST + 1);
    let set = |name: &str| table.set_upstream(&upstream(name, &["10.0.0.1:80"]), SOON);
    for round in 0..3 {
        all[..MOST].iter().for_each(|name| set(name).expect("room"));
        let before = whole(&table);
        let todo = "delete some, or set a larger shm_size and restart nginx";
        let expected = format!("the region is full: it has room for {MOST} upstreams and routes: {todo}");
        let one_more = || set(&all[MOST]);
        let a_peer_of_one_more = || put(&table, &all[MOST], patch("10.0.0.1:80", 1), Absent::Make);
        for error in [one_more().expect_err("one more"), a_peer_of_one_more().expect_err("one more")] {
            assert_eq!((error.code, &*error.message), (Code::Full, &*expected));
        }
        assert_eq!(whole(&table), before);
        put(&table, &all[7], patch("10.0.0.2:80", 3), Absent::Make).expect("those that are there may grow");
        // Front, middle and end of the chain go, and come again.
        for name in [&all[MOST - 1], &all[MOST / 2], &all[0]] {
            table.delete_upstream(name, true, SOON).expect("there");
            assert!(all[..MOST].iter().all(|other| (other == name) != table.upstream(other).is_ok()));
            one_more().expect("room");
            table.delete_upstream(&all[MOST], true, SOON).expect("there");
            set(name).expect("room");
        }
        assert_no_leak(&table);
        if round == 1 {
            all[..MOST].iter().rev().for_each(|name| table.delete_upstream(name, true, SOON).expect("there"));
            assert_eq!((used(&table), names(&table).len()), (0, 0));
        }
    }
}

#[test]
fn there_are_512_slots_and_the_next_worker_is_refused() {
    let (table, scratch) = table(SMALL);
    let path = scratch.file("region");
    let (mut first, _) = another(&path, SMALL);
    assert_eq!(first.ok("claim"), "0");
    let lock = scratch.file("region.lock").display().to_string();
    let mut rest = Helper::start("holder", &[&lock, "1", &(SLOTS - 1).to_string()]);
    assert_eq!(rest.answer().as_deref(), Some("ready"));
    let (mut last, notes) = another(&path, SMALL);
    assert_eq!(notes, "");
    let error = last.refused("claim");
    assert!(error.starts_with("Full all 512 worker slots are taken: "), "{error}");
    let workers = || table.region().workers(None).expect("readable");
    assert_eq!(workers().len(), SLOTS);
    assert!(workers().iter().all(|w| w.holder == Holder::Pid(if w.slot == 0 { first.pid() } else { rest.pid() })));
    // A process without one reads and changes all the same.
    table.set_upstream(&of_size("own", 3), SOON).expect("room");
    assert_eq!((last.ask("list"), last.ok("delete own")), ("own".into(), "".into()));
    first.kill();
    assert_eq!(last.ok("claim"), "0", "a dead worker's slot is free");
    rest.kill();
    assert_eq!(workers().iter().map(|w| (w.slot, w.holder)).collect::<Vec<_>>(), [(0, Holder::Pid(last.pid()))]);
    last.finish();
}

#[test]
fn a_ring_that_would_be_too_large_is_refused_by_name_and_rr_goes_on() {
    let (table, _scratch) = table(MIB);
    let api = |weight: u16| {
        let mut api = of_size("api", 2);
        api.peers.iter_mut().for_each(|peer| peer.weight = weight);
        api
    };
    table.set_upstream(&api(65535), SOON).expect("room");
    let before = whole(&table);
    let declared = Upstream { method: Some(Method::Chash), ..api(65535) };
    for refused in [table.build_ring("api", SOON), table.set_upstream(&declared, SOON)] {
        let error = refused.expect_err("too large");
        let allowed = "at most 16777216 (a total weight of 104857)";
        assert!(error.code == Code::Invalid && error.message.ends_with(allowed), "{error}");
    }
    assert_eq!(whole(&table), before);
    let mut handle = Handle::new(b"api");
    let mut pick = |key: &[u8]| {
        handle.pick(&table, Ask { key: Some(key), ..Ask::default() }, false, &mut Picked::default()).map(drop)
    };
    assert_eq!((pick(b"key"), pick(b"")), (Err(Miss::NoRing), Ok(())));
    // As large as the message says, it is only the region that is too small.
    table.set_upstream(&api((104_857u32 / 2) as u16), SOON).expect("room");
    let error = table.build_ring("api", SOON).expect_err("16 million points in a region of 1 MiB");
    assert!(error.code == Code::Full && error.message.starts_with("the region is full: "), "{error}");
    table.set_upstream(&api(3), SOON).expect("room");
    table.build_ring("api", SOON).expect("small enough");
    assert_eq!(pick(b"key"), Ok(()));
    assert_no_leak(&table);
}
