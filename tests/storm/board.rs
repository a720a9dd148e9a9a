//! The truth about the table, in a file beside it that all processes of a storm map: a word for each thing that changes. It
//! outlives killed processes. A reader can look at it before and after it looks at the table.

use dyups::shm::units::PAGE;
use dyups::shm::{Mem, Memory};
use std::ops::Range;
use std::path::Path;

/// The content of a thing: 0 for absent, else a number that it shows in the table.
pub type Content = u8;

/// A thing at one instant: its content, its content after the change under way, and the number of announced changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    announced: u64,
    pub now: Content,
    pub next: Content,
}

impl Cell {
    fn of(word: u64) -> Cell {
        Cell { announced: word >> 16, now: (word >> 8) as u8, next: word as u8 }
    }

    fn word(self) -> u64 {
        self.announced << 16 | u64::from(self.now) << 8 | u64::from(self.next)
    }

    /// Whether its owner has announced a change and not yet acknowledged it.
    pub fn is_under_way(self) -> bool {
        self.now != self.next
    }
}

/// The states of a thing before and after a look at the table.
#[derive(Clone, Copy, Debug)]
pub struct Span(pub Cell, pub Cell);

impl Span {
    /// Whether a look in between may have found `content`.
    pub fn may_be(self, content: Content) -> bool {
        let Span(before, after) = self;
        after.announced > before.announced + 1 || [before.now, before.next, after.now, after.next].contains(&content)
    }

    /// Whether it may have been there, with any content.
    pub fn may_exist(self) -> bool {
        (1..=Content::MAX).any(|content| self.may_be(content))
    }
}

/// The counts of a process.
#[derive(Clone, Copy)]
pub enum Count {
    Finds,
    Absent,
    Changing,
    Changes,
    Refused,
}

/// Words of a process: a cache line.
const SEAT: usize = 8;
const STOP: usize = 0;
const WRONG: usize = 1;
const FIRST_SEAT: usize = 8;

pub struct Board {
    mem: Mem,
    seats: usize,
}

impl Board {
    /// The board in the file at `path`, which is made.
    pub fn open(path: &Path, seats: usize, cells: usize) -> Board {
        let bytes = ((FIRST_SEAT + seats * SEAT + cells) * 8).next_multiple_of(PAGE);
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path).expect("open the board");
        file.set_len(bytes as u64).expect("room");
        Board { mem: Mem::map(&file, bytes).expect("mapped"), seats }
    }

    fn at(&self, cell: usize) -> usize {
        FIRST_SEAT + self.seats * SEAT + cell
    }

    /// The table is read before or after this, never meanwhile.
    pub fn cells(&self, cells: Range<usize>) -> Vec<Cell> {
        self.mem.fence();
        let cells = cells.map(|cell| Cell::of(self.mem.load(self.at(cell)).expect("inside"))).collect();
        self.mem.fence();
        cells
    }

    pub fn cell(&self, cell: usize) -> Cell {
        self.cells(cell..cell + 1)[0]
    }

    fn write(&self, cell: usize, content: Cell) {
        self.mem.fence();
        self.mem.publish(self.at(cell), content.word()).expect("inside");
    }

    /// Announces the content that a process is about to try.
    pub fn announce(&self, cell: usize, next: Content) {
        let Cell { announced, now, .. } = self.cell(cell);
        self.write(cell, Cell { announced: announced + 1, now, next });
    }

    /// States the content, after the change that was announced is over.
    pub fn settle(&self, cell: usize, content: Content) {
        self.write(cell, Cell { now: content, next: content, ..self.cell(cell) });
    }

    pub fn add(&self, seat: usize, count: Count) {
        self.mem.add(FIRST_SEAT + seat * SEAT + count as usize, 1).expect("inside");
    }

    /// Of all processes.
    pub fn sum(&self, count: Count) -> u64 {
        (0..self.seats).map(|seat| self.mem.load(FIRST_SEAT + seat * SEAT + count as usize).expect("inside")).sum()
    }

    pub fn stop(&self) {
        self.mem.publish(STOP, 1).expect("inside");
    }

    pub fn is_stopped(&self) -> bool {
        self.mem.load(STOP) != Ok(0)
    }

    /// A failure that must not be. It is noted here too, since its process may be killed before it has reported it.
    pub fn wrong(&self, what: &str) -> ! {
        self.mem.add(WRONG, 1).expect("inside");
        panic!("{what}");
    }

    pub fn assert_nothing_wrong(&self) {
        assert_eq!(self.mem.load(WRONG), Ok(0), "processes saw what must not be: see above");
    }
}
