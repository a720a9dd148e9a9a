//! Processes that find, add and delete in tight loops, and a killer. The board knows the acknowledged changes. Each find
//! meanwhile, and the table at the end, has to agree with it.
//!
//! DYUPS_STORM_KILLS says how many are killed (200).

#![allow(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

mod board;
mod process;
mod world;

use board::{Board, Count};
use dyups::error::Code;
use dyups::shm::Memory;
use dyups::shm::layout::state;
use dyups::table::store::Table;
use dyups::upstream::Upstream;
use process::{Process, Spans};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};
use support::*;
use world::{CELLS, SEATS, WORLD};

/// Plays its part for a test in another process; nothing when it runs as a test.
#[test]
fn helper_process() {
    let Some((role, args)) = role() else { return };
    let [path, size, seat, seed] = args.as_slice() else { panic!("no role {role} with {args:?}") };
    let board = Board::open(&Path::new(path).with_extension("board"), SEATS, CELLS);
    let (table, notes) = open(Path::new(path), size.parse().expect("a number")).expect("the test made it");
    assert_eq!(notes, Vec::<String>::new());
    say("ready");
    Process::new(&table, &board, seat.parse().expect("a number"), seed.parse().expect("a number")).run();
    orders().for_each(drop);
}

struct Storm<'a> {
    table: &'a Table,
    board: Board,
    path: &'a Path,
    processes: Vec<Helper>,
    random: Random,
    killed: u64,
    in_flight: u64,
    slowest: Duration,
}

impl Storm<'_> {
    fn begin<'a>(table: &'a Table, path: &'a Path) -> Storm<'a> {
        let board = Board::open(&path.with_extension("board"), SEATS, CELLS);
        let random = Random(std::process::id().into());
        let mut storm =
            Storm { table, board, path, processes: vec![], random, killed: 0, in_flight: 0, slowest: Duration::ZERO };
        storm.processes = (0..SEATS).map(|seat| storm.start(seat)).collect();
        storm
    }

    fn start(&mut self, seat: usize) -> Helper {
        let path = self.path.display().to_string();
        let [size, seat, seed] = [self.table.region().geometry().size, seat as u64, self.random.below(1 << 40)];
        let mut process = Helper::start("storm", &[&path, &size.to_string(), &seat.to_string(), &seed.to_string()]);
        assert_eq!(process.answer().as_deref(), Some("ready"));
        process
    }

    /// The processes that are to die, after a while: half of them, if possible, in the middle of a change.
    fn victims(&mut self) -> Vec<usize> {
        std::thread::sleep(Duration::from_micros(self.random.below(3000)));
        let anyone = self.random.below(SEATS as u64) as usize;
        match self.random.below(12) {
            0 => (0..SEATS).collect(),
            1 => vec![anyone, (anyone + 1) % SEATS],
            2..6 => vec![anyone],
            _ => vec![self.writing().unwrap_or(anyone)],
        }
    }

    /// A process in the middle of a change, if that is seen soon: a change is short.
    fn writing(&self) -> Option<usize> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(20) {
            let pid = self.table.region().mem().load(state::WRITING).expect("inside");
            if let Some(seat) = self.processes.iter().position(|process| u64::from(process.pid()) == pid) {
                return Some(seat);
            }
        }
        None
    }

    /// Kills them, and settles the changes that were under way: done or not done, but whole.
    fn kill(&mut self, victims: &[usize]) {
        for &seat in victims {
            let status = self.processes[seat].kill();
            self.board.assert_nothing_wrong();
            assert_eq!(status.signal(), Some(libc::SIGKILL), "it ended by itself: {status}");
            self.killed += 1;
        }
        if victims.len() < SEATS {
            self.assert_that_others_go_on();
        }
        for &seat in victims {
            self.settle(seat);
        }
    }

    fn assert_that_others_go_on(&mut self) {
        let (begun, changes) = (Instant::now(), self.board.sum(Count::Changes));
        wait_for("the others change the table", || self.board.sum(Count::Changes) > changes);
        self.slowest = self.slowest.max(begun.elapsed());
    }

    fn settle(&mut self, seat: usize) {
        let under_way = |&cell: &usize| WORLD.owner(cell) == seat && self.board.cell(cell).is_under_way();
        let unacknowledged: Vec<usize> = (0..CELLS).filter(under_way).collect();
        assert!(unacknowledged.len() <= 1, "one change at a time: {unacknowledged:?}");
        for cell in unacknowledged {
            let (found, said) = (self.content(cell), self.board.cell(cell));
            assert!([said.now, said.next].contains(&found), "thing {cell} is {found}, not one of {said:?}");
            self.in_flight += u64::from(found == said.next);
            self.board.settle(cell, found);
        }
    }

    /// The content of a thing in the table.
    fn content(&self, cell: usize) -> board::Content {
        let upstream = WORLD.upstream_of(cell);
        let read = self.read(upstream);
        let mut peers = read.iter().flat_map(|read| &read.peers);
        let peer = match WORLD.is_shared(upstream) {
            true => peers.find(|peer| peer.address == WORLD.shared[cell]),
            false => peers.next(),
        };
        peer.map_or(0, |peer| WORLD.content(upstream, peer))
    }

    fn read(&self, upstream: usize) -> Option<Upstream> {
        loop {
            match self.table.upstream(&WORLD.names[upstream]) {
                Ok(stored) => return Some(stored.upstream),
                Err(error) if error.code == Code::NotFound => return None,
                Err(error) => assert_eq!(error.code, Code::Changing, "{error}"),
            }
        }
    }

    /// Now that no process changes it, the table has the acknowledged changes, and nothing else.
    fn assert_table(&self) {
        for upstream in 0..WORLD.names.len() {
            let spans = Spans::now(&self.board, upstream);
            match self.read(upstream) {
                Some(read) => assert!(spans.allow(upstream, &read), "{read:?}: {spans:?}"),
                None => assert!(!WORLD.is_shared(upstream) && spans.may_be_empty(), "{upstream} is gone: {spans:?}"),
            }
        }
        let known = |name: &String| WORLD.names.contains(name) || name == FILLER;
        assert!(names(self.table).iter().all(known), "{:?}", names(self.table));
        assert_no_leak(self.table);
    }

    /// Kills until so many are dead, replacing them.
    fn rage(&mut self, kills: u64) {
        while self.killed < kills {
            let victims = self.victims();
            self.kill(&victims);
            if victims.len() == SEATS {
                self.assert_table();
            }
            for seat in victims {
                self.processes[seat] = self.start(seat);
            }
        }
    }

    /// Stops the processes that live, which have to be content.
    fn end(&mut self) {
        self.board.stop();
        self.processes.drain(..).for_each(Helper::finish);
        self.board.assert_nothing_wrong();
    }
}

/// A storm in a region of `size`, all but `left` bytes of which are taken. How many changes were refused, and
/// how many repaired.
fn storm(what: &str, kills: u64, size: u64, left: Option<u64>) -> (u64, u64) {
    let (table, scratch) = table(size);
    for upstream in (0..WORLD.names.len()).filter(|&upstream| WORLD.is_shared(upstream)) {
        table.set_upstream(&WORLD.empty(upstream), SOON).expect("room");
    }
    if let Some(left) = left {
        table.set_upstream(&filler(table.region().geometry().heap_bytes() - left), SOON).expect("room");
    }
    let path = scratch.file("region");
    let begun = Instant::now();
    let mut storm = Storm::begin(&table, &path);
    storm.rage(kills);
    storm.end();
    storm.assert_table();
    let [finds, absent, changing, changes, refused] =
        [Count::Finds, Count::Absent, Count::Changing, Count::Changes, Count::Refused]
            .map(|count| storm.board.sum(count));
    let repairs = table.region().mem().load(state::REPAIRS).expect("inside");
    tell(format_args!(
        "{what}: {} kills of {SEATS} processes, {changes} changes acknowledged, {} done and not yet acknowledged, {refused} \
         refused, {finds} finds ({absent} of nothing, {changing} times changing), {repairs} repairs, others changed the \
         table again after at most {:?}: {:?}",
        storm.killed,
        storm.in_flight,
        storm.slowest,
        begun.elapsed()
    ));
    assert!(changes > storm.killed && finds > changes && absent > 0);
    assert!(changing <= finds / 1000, "{changing} of {finds}");
    for name in names(&table) {
        table.delete_upstream(&name, true, SOON).expect("there");
    }
    assert_eq!((used(&table), table.region().mem().load(state::RECORDS)), (0, Ok(0)), "nothing is left");
    assert_no_leak(&table);
    (refused, repairs)
}

const FILLER: &str = "filler";

/// An upstream that takes some `bytes`.
fn filler(bytes: u64) -> Upstream {
    let peers = (0..bytes / 66).map(|i| peer(&format!("10.{}.{}.{}:81", i >> 16, i >> 8 & 255, i & 255), 1)).collect();
    Upstream { name: FILLER.into(), peers, ..Upstream::default() }
}

#[test]
fn in_a_storm_of_kills_nobody_finds_what_was_not_there_and_nothing_acknowledged_is_lost() {
    let (refused, repairs) = storm("storm", storm_kills(), 8 << 20, None);
    assert!(refused == 0 && repairs > 0, "{refused} refused, {repairs} repairs");
}

#[test]
fn in_a_storm_without_room_what_grows_is_refused_and_deleting_is_not() {
    let (refused, _) = storm("storm in a full region", storm_kills() / 4, 4 << 20, Some(300_000));
    assert!(refused > 0);
}
