//! One operation, instruction by instruction.

use super::content::{Whole, way};
use super::heirs::Heirs;
use super::image::{Image, LOCK, Watch};
use super::operation::Operation;
use super::support::{SMALL, Scratch, locks};
use super::traced::{Stop, Traced};
use dyups::shm::lock::{CREATION, WRITER};
use std::iter::Sum;
use std::path::PathBuf;
use std::{fmt, io};

/// The observations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub operations: u64,
    pub instructions: u64,
    /// Instructions that changed the files of the region.
    pub stores: u64,
    /// The number of times that another process took over from there.
    pub recoveries: u64,
}

impl Sum for Seen {
    fn sum<I: Iterator<Item = Seen>>(all: I) -> Seen {
        all.fold(Seen::default(), |sum, seen| Seen {
            operations: sum.operations + seen.operations,
            instructions: sum.instructions + seen.instructions,
            stores: sum.stores + seen.stores,
            recoveries: sum.recoveries + seen.recoveries,
        })
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen { operations, instructions, stores, recoveries } = self;
        write!(
            f,
            "{operations} calls in {instructions} instructions; {stores} changed the region: {recoveries} recoveries"
        )
    }
}

/// Looks at one operation after the other.
pub struct Stepper {
    rehearsal: PathBuf,
    live: PathBuf,
    heirs: Heirs,
    pub seen: Seen,
}

impl Stepper {
    /// It works below `scratch`.
    pub fn new(scratch: &Scratch) -> Stepper {
        Stepper {
            rehearsal: scratch.file("rehearsal"),
            live: scratch.file("live"),
            heirs: Heirs::new(scratch),
            seen: Seen::default(),
        }
    }

    /// Looks at one. Answers the last image before the table changed and the first one afterwards.
    pub fn look_at(&mut self, operation: &Operation) -> io::Result<Vec<Image>> {
        println!("{}", operation.name);
        let (way, code) = self.rehearse(operation);
        let mut driver = operation.prepare(&self.live);
        let traced = Traced::attach(driver.pid())?;
        driver.tell("mark");
        driver.tell(&operation.call_in(&self.live));
        traced.to_mark();
        let around = self.follow(&traced, operation, &way);
        drop(traced);
        assert_eq!(driver.answer().code, code, "as in the rehearsal");
        self.seen.operations += 1;
        Ok(around)
    }

    /// Follows the process to its next mark.
    fn follow(&mut self, traced: &Traced, operation: &Operation, way: &[Whole]) -> Vec<Image> {
        let lock = self.live.join(LOCK);
        let locked = || [CREATION, WRITER].iter().any(|&byte| locks::holder(&lock, byte).is_some());
        let mut watch = Watch::new(&self.live);
        let mut around = Vec::new();
        let mut last = Image::of(&self.live);
        let mut at = self.take_over(&last, way, 0);
        loop {
            // Work without a lock only computes, and is its own affair.
            let looking = operation.unlocked || locked();
            let stop = if looking { traced.step() } else { traced.to_system_call() };
            self.seen.instructions += u64::from(looking);
            if watch.changed() {
                assert!(looking, "it changed something and held no lock");
                self.seen.stores += 1;
                let image = Image::of(&self.live);
                let now = self.take_over(&image, way, at);
                if now != at {
                    around = vec![last, image.clone()];
                }
                (at, last) = (now, image);
            }
            if stop == Stop::Mark {
                assert_eq!(at, way.len() - 1, "it has ended, so it is done");
                return around;
            }
        }
    }

    fn take_over(&mut self, image: &Image, way: &[Whole], from: usize) -> usize {
        let (at, recoveries) = self.heirs.take_over(image, way, from);
        self.seen.recoveries += recoveries;
        at
    }

    /// Has it done without being watched: the tables that there may be meanwhile, and its result.
    fn rehearse(&self, operation: &Operation) -> (Vec<Whole>, i32) {
        let mut driver = operation.prepare(&self.rehearsal);
        let look = self.rehearsal.with_extension("look");
        let old = Whole::of(&Image::of(&self.rehearsal), &look, SMALL);
        let answer = driver.call(&operation.call_in(&self.rehearsal));
        assert_eq!(answer.code < 0, operation.fails, "{answer:?}");
        let new = Whole::of(&Image::of(&self.rehearsal), &look, SMALL);
        (way(&old, &new), answer.code)
    }
}
