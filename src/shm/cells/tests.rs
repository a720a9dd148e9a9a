use super::plan::ROW_NUMBERS;
use super::*;
use crate::shm::layout::SLOTS;
use crate::shm::mem::Mem;
use crate::shm::mem::tests::scratch;
use crate::shm::versioned::Unread;
use crate::state::failures::Health;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

fn made(plan: &Plan) -> Mem {
    let mem = scratch(plan.bytes());
    Cells::new(&mem, plan).write_header(&title(plan, 7, [1, 2])).expect("inside");
    mem
}

fn take(cells: &Cells<'_, Mem>) -> Option<u32> {
    cells.take(1, 0).expect("sound").map(|taken| taken[0])
}

/// Connections more, or fewer.
fn count(cells: &Cells<'_, Mem>, slot: u32, cell: u32, change: i32) {
    (0..change.abs()).for_each(|_| assert_eq!(cells.count_in(slot, cell, change > 0), Ok(true)));
}

#[test]
fn each_cell_is_taken_once_and_the_first_is_nobody_s() {
    let plan = Plan::for_cells(130);
    let mem = made(&plan);
    let cells = Cells::new(&mem, &plan);
    assert_eq!((1..130).map(|_| take(&cells)).collect::<Vec<_>>(), (1..130).map(Some).collect::<Vec<_>>());
    assert_eq!((take(&cells), cells.used()), (None, Ok(129)));
    cells.give_back(&[64]).expect("inside");
    cells.give_back(&[127]).expect("inside");
    assert_eq!((cells.used(), take(&cells), take(&cells), take(&cells)), (Ok(127), Some(64), Some(127), None));
}

#[test]
fn a_cell_that_is_taken_again_begins_anew_and_keeps_count_of_it() {
    let plan = Plan::for_cells(8);
    let mem = made(&plan);
    let cells = Cells::new(&mem, &plan);
    let health = || Health(cells.health(1).expect("a cell"));
    assert_eq!(take(&cells), Some(1));
    assert_eq!((health().generation(), health().fails()), (1, 0));
    assert_eq!(cells.set_health(1, health().0, health().failed(5).0), Ok(true));
    let late = health().0;
    cells.give_back(&[1]).expect("inside");
    assert_eq!(take(&cells), Some(1));
    assert_eq!((health().generation(), health().fails()), (2, 0));
    assert_eq!(cells.set_health(1, late, 0), Ok(false), "who held on to the one before changes nothing");
}

/// Has a cell been taken as often as its bits can tell.
fn use_up(cells: &Cells<'_, Mem>, cell: u32) {
    let word = cells.health(cell).expect("a cell");
    assert_eq!(cells.set_health(cell, word, u64::MAX << GENERATION_SHIFT), Ok(true));
}

#[test]
fn who_slept_while_a_cell_had_any_number_of_owners_finds_none_of_them_in_the_place_of_its_own() {
    let plan = Plan::for_cells(4);
    let mem = made(&plan);
    let cells = Cells::new(&mem, &plan);
    cells.activate(0).expect("free");
    assert_eq!(take(&cells), Some(1));
    let words = || [cells.health(1), cells.verdict(1), cells.lease(1)].map(|word| word.expect("a cell"));
    let first = words();
    cells.give_back(&[1]).expect("inside");
    let mut owners = 0;
    while let Some(cell) = take(&cells) {
        assert!(cell != 1 || words().iter().zip(first).all(|(&word, first)| word != first), "owner {owners}");
        cells.give_back(&[cell]).expect("inside");
        owners += 1;
    }
    assert_eq!((owners, cells.retired(), cells.used()), (3 * 65_535 - 1, Ok(3), Ok(0)));
    assert!(matches!(cells.take(1, 0), Ok(None)), "and again");
    // Another worker comes, and that one lives on.
    cells.activate(1).expect("free");
    assert_eq!((take(&cells), cells.retired()), (None, Ok(3)));
    cells.deactivate(0).expect("inside");
    assert_eq!(cells.retired(), Ok(0));
    let mut all: Vec<u32> = (0..3).filter_map(|_| take(&cells)).collect();
    all.sort_unstable();
    assert_eq!((all, take(&cells)), (vec![1, 2, 3], None));
    assert_eq!((cells.generation(1), cells.returns(1)), (Ok(1), Ok(1)));
}

#[test]
fn a_worker_that_begins_in_the_slot_of_one_that_ended_keeps_no_cell_waiting() {
    let plan = Plan::for_cells(3);
    let mem = made(&plan);
    let cells = Cells::new(&mem, &plan);
    cells.activate(0).expect("free");
    let taken = cells.take(2, 0).expect("sound").expect("free");
    use_up(&cells, 1);
    cells.give_back(&taken).expect("inside");
    assert_eq!([(); 2].map(|()| take(&cells)), [Some(2), None]);
    cells.activate(0).expect("free");
    assert_eq!((take(&cells), take(&cells)), (Some(1), None));
}

#[test]
fn where_a_process_without_a_slot_may_hold_on_to_a_peer_no_cell_comes_back_before_all_have_ended() {
    let plan = Plan::for_cells(2);
    let mem = made(&plan);
    let cells = Cells::new(&mem, &plan);
    assert_eq!(take(&cells), Some(1));
    use_up(&cells, 1);
    cells.goes_unnumbered().expect("inside");
    cells.give_back(&[1]).expect("inside");
    cells.activate(0).expect("free");
    cells.deactivate(0).expect("inside");
    assert_eq!((take(&cells), cells.retired()), (None, Ok(1)));
    cells.all_are_numbered().expect("inside");
    assert_eq!((take(&cells), cells.retired()), (Some(1), Ok(0)));
}

#[test]
fn a_repair_neither_loses_a_retired_cell_nor_gives_it_away_too_early() {
    let plan = Plan::for_cells(3);
    let mem = made(&plan);
    let cells = Cells::new(&mem, &plan);
    cells.activate(0).expect("free");
    let taken = cells.take(2, 0).expect("sound").expect("free");
    taken.iter().for_each(|&cell| use_up(&cells, cell));
    // Its writer dies before it gives them back, and a repair does so.
    cells.rebuild(&CellMarks::new(&plan)).expect("inside");
    assert_eq!((cells.used(), take(&cells), cells.retired()), (Ok(0), None, Ok(2)));
    cells.activate(1).expect("free");
    cells.deactivate(0).expect("inside");
    // Another one dies when it has brought one back, and before that has begun anew.
    cells.bring_back(1).expect("inside");
    cells.rebuild(&CellMarks::new(&plan)).expect("inside");
    assert_eq!((take(&cells), cells.retired()), (Some(2), Ok(1)), "that one waits once more");
    cells.deactivate(1).expect("inside");
    assert_eq!((take(&cells), cells.returns(1), cells.generation(1)), (Some(1), Ok(2), Ok(1)));
}

#[test]
fn a_cell_that_was_never_taken_takes_no_memory_by_a_look_for_a_free_one() {
    let plan = Plan::for_cells(100_000);
    let made = made(&plan);
    let mem = Scarce { mem: &made, from: Cell::new(usize::MAX), asked: Cell::new(0) };
    let cells = Cells::new(&mem, &plan);
    assert_eq!(cells.take(100_000, 0).expect("sound"), None);
    assert_eq!((cells.retired(), mem.asked.get()), (Ok(0), 0));
}

#[test]
fn a_cell_with_open_connections_is_not_taken_and_is_found_again() {
    let plan = Plan::for_cells(8);
    let mem = made(&plan);
    let cells = Cells::new(&mem, &plan);
    cells.activate(3).expect("inside");
    assert_eq!([(); 2].map(|()| take(&cells)), [Some(1), Some(2)]);
    count(&cells, 3, 1, 1);
    cells.give_back(&[1]).expect("inside");
    assert_eq!(take(&cells), Some(3), "not 1");
    assert_eq!(take(&cells), Some(4), "nor now");
    count(&cells, 3, 1, -1);
    assert_eq!(take(&cells), Some(1), "it has ended");
    count(&cells, 3, 2, 5);
    cells.give_back(&[2]).expect("inside");
    cells.deactivate(3).expect("inside");
    assert_eq!(take(&cells), Some(2), "the worker has ended");
}

#[test]
fn however_many_wait_for_their_connections_none_is_lost() {
    let plan = Plan::for_cells(1000);
    let mem = made(&plan);
    let cells = Cells::new(&mem, &plan);
    cells.activate(0).expect("inside");
    let first: Vec<u32> = (0..300).filter_map(|_| take(&cells)).collect();
    for &cell in &first {
        count(&cells, 0, cell, 1);
        cells.give_back(&[cell]).expect("inside");
    }
    let more: Vec<u32> = (0..300).filter_map(|_| take(&cells)).collect();
    assert!(more.iter().eq((301..601).collect::<Vec<_>>().iter()), "{more:?}");
    first.iter().for_each(|&cell| count(&cells, 0, cell, -1));
    assert_eq!((0..1000).filter_map(|_| take(&cells)).count(), 699);
    assert_eq!(cells.used(), Ok(999));
}

#[test]
fn changes_beside_connections_that_end_take_no_more_and_more_cells() {
    let plan = Plan::for_cells(10_000);
    let mem = made(&plan);
    let cells = Cells::new(&mem, &plan);
    cells.activate(0).expect("inside");
    let mut now = take(&cells).expect("free");
    for _ in 0..5000 {
        // One takes the place of another, whose last request is over when the next change comes.
        count(&cells, 0, now, 1);
        let next = take(&cells).expect("free");
        cells.give_back(&[now]).expect("inside");
        let last = std::mem::replace(&mut now, take(&cells).expect("free"));
        cells.give_back(&[next]).expect("inside");
        count(&cells, 0, last, -1);
    }
    let last = (1..10_000).filter(|&cell| cells.health(cell) != Ok(0)).max();
    assert!(last < Some(10), "{last:?}");
}

#[test]
fn a_sum_is_that_of_the_active_slots_and_a_row_begins_at_0() {
    let plan = Plan::for_cells(2000);
    let mem = made(&plan);
    let cells = Cells::new(&mem, &plan);
    (0..1999).for_each(|_| assert!(take(&cells).is_some()));
    let last = SLOTS as u32 - 1;
    for slot in [0, 63, 64, last] {
        cells.activate(slot).expect("inside");
        count(&cells, slot, 1999, 2);
        count(&cells, slot, 1998, 1);
    }
    assert_eq!((cells.active(), cells.open(1999), cells.open(1998)), (Ok(vec![0, 63, 64, last]), Ok(8), Ok(4)));
    count(&cells, 5, 1999, 9);
    cells.deactivate(64).expect("inside");
    assert_eq!((cells.open(1999), cells.open_of(64, 1999)), (Ok(6), Ok(2)), "neither before nor after it is active");
    cells.activate(64).expect("inside");
    assert_eq!((cells.open(1999), cells.open_of(64, 1999)), (Ok(6), Ok(0)));
    assert_eq!((cells.open(1997), cells.open(2)), (Ok(0), Ok(0)));
    count(&cells, 0, 1997, -1);
    assert_eq!(cells.open(1997), Ok(0), "there is no less than none");
}

/// Memory of which there may be no more, and which counts how often it was asked for.
struct Scarce<'a> {
    mem: &'a Mem,
    /// There is none from this word on.
    from: Cell<usize>,
    asked: Cell<usize>,
}

impl Memory for Scarce<'_> {
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

    fn reserve(&self, index: usize, words: usize) -> io::Result<()> {
        self.asked.set(self.asked.get() + 1);
        if index + words > self.from.get() { Err(io::Error::from_raw_os_error(libc::ENOSPC)) } else { Ok(()) }
    }
}

#[test]
fn where_there_is_no_memory_nothing_is_counted_and_nothing_is_an_error() {
    let plan = Plan::for_cells(3 * CHUNK * ROW_NUMBERS);
    let made = made(&plan);
    let (first, last) = (1, 2 * CHUNK as u32 * ROW_NUMBERS as u32);
    let mem = Scarce { mem: &made, from: Cell::new(plan.rows_at + plan.row + CHUNK), asked: Cell::new(0) };
    let cells = Cells::new(&mem, &plan);
    cells.activate(1).expect("inside");
    assert_eq!((cells.count_in(1, first, true), cells.count_in(1, last, true)), (Ok(true), Ok(false)));
    assert_eq!((cells.open(first), cells.open(last)), (Ok(1), Ok(0)));
    assert_eq!(cells.count_in(1, last, false), Ok(false));
    assert_eq!(cells.take(1, 0).expect("there is memory for the cell"), Some(vec![2]), "the first has a connection");
    mem.from.set(usize::MAX);
    assert_eq!((cells.count_in(1, last, true), cells.open(last)), (Ok(true), Ok(1)));
    assert_eq!((cells.count_in(1, last, false), cells.open(last)), (Ok(true), Ok(0)));
}

#[test]
fn where_nobody_has_counted_a_look_and_a_worker_s_start_ask_for_no_memory() {
    let plan = Plan::for_cells(100_000);
    let made = made(&plan);
    let mem = Scarce { mem: &made, from: Cell::new(0), asked: Cell::new(0) };
    let cells = Cells::new(&mem, &plan);
    [0, 1, SLOTS as u32 - 1].iter().for_each(|&slot| cells.activate(slot).expect("inside"));
    assert!((0..100_000).all(|cell| cells.open(cell) == Ok(0)));
    assert_eq!(mem.asked.get(), 0);
}

/// Memory beside a hostile worker. No replacement succeeds, and at each fence the worker counts a connection in a free cell.
struct Haunted<'a> {
    mem: &'a Mem,
    /// The row in which it counts.
    at: usize,
}

impl Memory for Haunted<'_> {
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

    fn reserve(&self, index: usize, words: usize) -> io::Result<()> {
        self.mem.reserve(index, words)
    }

    fn replace(&self, _: usize, _: u64, _: u64) -> Result<bool, Damaged> {
        Ok(false)
    }

    fn fence(&self) {
        let free = (self.at..).find(|&at| self.mem.load(at) == Ok(0)).expect("one is");
        self.mem.store(free, 1 << 32 | 1).expect("inside");
    }
}

#[test]
fn who_means_it_ends_in_an_error_and_not_in_a_wait_without_end() {
    let plan = Plan::for_cells(1000);
    let made = made(&plan);
    let sound = Cells::new(&made, &plan);
    sound.activate(0).expect("free");
    count(&sound, 0, 1, 1);
    let mem = Haunted { mem: &made, at: plan.rows_at };
    let haunted = Cells::new(&mem, &plan);
    assert!(matches!(haunted.take(1, 0), Err(Untaken::Unread(Unread::Changing))));
    assert_eq!((haunted.activate(1), haunted.deactivate(0)), (Err(Unread::Changing), Err(Unread::Changing)));
    assert_eq!((haunted.deactivate(1), sound.used()), (Ok(()), Ok(0)));
    assert!(take(&sound) > Some(16));
}

#[test]
fn what_is_outside_is_damage() {
    let plan = Plan::for_cells(100);
    let mem = made(&plan);
    let cells = Cells::new(&mem, &plan);
    for cell in [0, 100, 101, u32::MAX] {
        assert_eq!(cells.health(cell), Err(Damaged), "{cell}");
        assert_eq!(cells.set_health(cell, 0, 1), Err(Damaged));
        assert_eq!(cells.give_back(&[cell]), Err(Damaged));
    }
    for (slot, cell) in [(0, 100), (0, u32::MAX), (SLOTS as u32, 1), (u32::MAX, 1)] {
        assert_eq!(cells.count_in(slot, cell, true), Err(Damaged), "{slot} {cell}");
        assert_eq!(cells.open_of(slot, cell), Err(Damaged));
    }
    assert_eq!((cells.open(99), cells.used()), (Ok(0), Ok(0)));
    let mut marks = CellMarks::new(&plan);
    [0, 7, 7, 99, 100, 127, 128, u32::MAX].iter().for_each(|&cell| marks.mark(cell));
    cells.rebuild(&marks).expect("inside");
    assert_eq!(cells.used(), Ok(2));
}

#[test]
fn a_repair_that_finds_all_in_order_changes_nothing_but_where_the_search_begins() {
    let plan = Plan::for_cells(300);
    let mem = made(&plan);
    let cells = Cells::new(&mem, &plan);
    let mut marks = CellMarks::new(&plan);
    (0..200).filter_map(|_| take(&cells)).for_each(|cell| marks.mark(cell));
    let words = || (0..plan.rows_at).filter(|&at| at != header::LOWEST_FREE).map(|at| mem.load(at)).collect::<Vec<_>>();
    let before = words();
    cells.rebuild(&marks).expect("inside");
    assert!(before == words());
    assert_eq!(take(&cells), Some(201));
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Take,
    GiveBack(usize),
    Open(u32, usize),
    Close(usize),
    Activate(u32),
    Deactivate(u32),
    Rebuild,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let slot = || prop_oneof![Just(0), Just(1), Just(64), Just(SLOTS as u32 - 1)];
    prop::collection::vec(
        prop_oneof![
            5 => Just(Op::Take),
            4 => any::<usize>().prop_map(Op::GiveBack),
            5 => (slot(), any::<usize>()).prop_map(|(slot, at)| Op::Open(slot, at)),
            4 => any::<usize>().prop_map(Op::Close),
            1 => slot().prop_map(Op::Activate),
            1 => slot().prop_map(Op::Deactivate),
            1 => Just(Op::Rebuild),
        ],
        0..150,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn is_its_model(size in 2usize..80, ops in ops()) {
        let plan = Plan::for_cells(size);
        let mem = made(&plan);
        let cells = Cells::new(&mem, &plan);
        let mut taken = BTreeSet::new();
        let mut open: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let sum = |open: &BTreeMap<u32, Vec<u32>>, cell| open.values().flatten().filter(|&&other| other == cell).count() as u64;
        for op in ops {
            match op {
                Op::Take => {
                    let free = (1..size as u32).any(|cell| !taken.contains(&cell) && sum(&open, cell) == 0);
                    let cell = take(&cells);
                    prop_assert_eq!(cell.is_some(), free);
                    if let Some(cell) = cell {
                        prop_assert!((1..size as u32).contains(&cell) && sum(&open, cell) == 0);
                        prop_assert!(taken.insert(cell), "{} twice", cell);
                    }
                }
                Op::GiveBack(at) if !taken.is_empty() => {
                    let cell = *taken.iter().nth(at % taken.len()).expect("below");
                    taken.remove(&cell);
                    cells.give_back(&[cell]).expect("inside");
                }
                Op::Open(slot, at) if open.contains_key(&slot) && !taken.is_empty() => {
                    let cell = *taken.iter().nth(at % taken.len()).expect("below");
                    open.get_mut(&slot).expect("active").push(cell);
                    count(&cells, slot, cell, 1);
                }
                Op::Close(at) => {
                    let some: Vec<u32> = open.iter().filter(|(_, cells)| !cells.is_empty()).map(|(&slot, _)| slot).collect();
                    if !some.is_empty() {
                        let slot = some[at % some.len()];
                        let held = open.get_mut(&slot).expect("active");
                        count(&cells, slot, held.swap_remove(at % held.len()), -1);
                    }
                }
                Op::Activate(slot) => {
                    open.insert(slot, Vec::new());
                    cells.activate(slot).expect("inside");
                }
                Op::Deactivate(slot) => {
                    open.remove(&slot);
                    cells.deactivate(slot).expect("inside");
                }
                Op::Rebuild => {
                    let mut marks = CellMarks::new(&plan);
                    taken.iter().for_each(|&cell| marks.mark(cell));
                    cells.rebuild(&marks).expect("inside");
                }
                _ => {}
            }
            prop_assert_eq!(cells.used(), Ok(taken.len() as u64));
            prop_assert_eq!(cells.active(), Ok(open.keys().copied().collect()));
            for cell in 1..size as u32 {
                prop_assert_eq!(cells.open(cell), Ok(sum(&open, cell)));
            }
            let some: Vec<u32> = (1..size as u32).filter(|cell| cell % 7 != 3).collect();
            let busy = some.iter().copied().filter(|&cell| sum(&open, cell) != 0).collect();
            prop_assert_eq!(cells.busy(&some), Ok(busy));
        }
    }

    #[test]
    fn whatever_was_spoiled_there_is_an_answer(
        size in 2usize..200,
        spoiled in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u64>(), Just(u64::MAX), Just(0), 0u64..300]), 1..20),
        header in prop::collection::vec((0..header::WORDS + 4, prop_oneof![any::<u64>(), Just(u64::MAX), 0u64..300]), 0..8),
    ) {
        let plan = Plan::for_cells(size);
        let mem = made(&plan);
        let cells = Cells::new(&mem, &plan);
        [0, 1, SLOTS as u32 - 1].iter().for_each(|&slot| cells.activate(slot).expect("inside"));
        let held: Vec<u32> = (0..size / 2).filter_map(|_| take(&cells)).collect();
        for (at, value) in spoiled {
            mem.store(at.index(plan.rows_at + plan.row), value).expect("inside");
        }
        for (at, value) in header {
            mem.store(at, value).expect("inside");
        }
        for cell in 0..size as u32 + 2 {
            let inside = (1..size as u32).contains(&cell);
            prop_assert_eq!(cells.health(cell).is_ok(), inside);
            prop_assert_eq!(cells.open(cell).is_ok(), (cell as usize) < size || cells.active() == Ok(vec![]));
            prop_assert_eq!(cells.count_in(1, cell, true).is_ok(), (cell as usize) < size);
        }
        for _ in 0..10 {
            if let Ok(Some(cell)) = cells.take(1, 0) {
                prop_assert!((1..size as u32).contains(&cell[0]));
            }
        }
        held.iter().for_each(|&cell| cells.give_back(&[cell]).expect("inside"));
        cells.activate(5).expect("inside");
        let (_, _) = (cells.used(), cells.active());
        let mut marks = CellMarks::new(&plan);
        marks.mark(1);
        cells.rebuild(&marks).expect("inside");
        prop_assert_eq!(cells.used(), Ok(1));
    }
}
