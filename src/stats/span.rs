//! The last 60 seconds and 60 minutes of an upstream, one after the other in two rings of its section.
//!
//! A place of a ring has the number of its second or minute, plus 1. The first worker that adds to the next one stores its number,
//! marked as being emptied, then 0 in the other words, then the number. Another worker that meets the mark waits a moment, and
//! then adds nothing: a worker that dies there costs this second's numbers in the ring, and no totals.

use super::delta::Delta;
use super::section::span::*;
use super::section::{self, class};
use crate::shm::sections::{Section, Sections};
use crate::shm::{Damaged, Memory};

/// The place is being emptied.
const EMPTIED: u64 = 1 << 63;
/// Looks at a place that is being emptied.
const LOOKS: u32 = 2000;

/// The sums over some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Tries.
    pub requests: u64,
    /// Tries that failed.
    pub failed: u64,
    /// Answers up to 2xx, 3xx, 4xx, and of 5xx and others.
    pub classes: [u64; 4],
    /// Milliseconds until headers, and until the ends of responses.
    pub times: [u64; 2],
    /// How many of each there were.
    pub counts: [u64; 2],
}

/// A ring.
#[derive(Clone, Copy, Debug)]
struct Ring {
    first: usize,
    /// Milliseconds of a place.
    ms: u64,
}

const SECONDS: Ring = Ring { first: FIRST, ms: 1000 };
const MINUTES: Ring = Ring { first: FIRST + COUNT * WORDS, ms: 60_000 };

/// Adds what happened at `now`, in milliseconds since the epoch.
///
/// # Errors
///
/// [`Damaged`]: the section is outside of the file.
pub fn add<M: Memory>(sections: &Sections<'_, M>, at: Section, now: u64, delta: &Delta) -> Result<(), Damaged> {
    [SECONDS, MINUTES].iter().try_for_each(|ring| ring.add(sections, at, now, delta))
}

/// The sums over the last `seconds`, without the second or minute that is under way: by the second up to 60, by the minute above.
///
/// # Errors
///
/// [`Damaged`]: the section is outside of the file.
pub fn sums<M: Memory>(sections: &Sections<'_, M>, at: Section, now: u64, seconds: u64) -> Result<Sums, Damaged> {
    match seconds {
        0..=60 => SECONDS.sums(sections, at, now, seconds),
        _ => MINUTES.sums(sections, at, now, seconds.div_ceil(60).min(60)),
    }
}

impl Ring {
    fn word(&self, number: u64) -> usize {
        self.first + (number % COUNT as u64) as usize * WORDS
    }

    fn add<M: Memory>(&self, sections: &Sections<'_, M>, at: Section, now: u64, delta: &Delta) -> Result<(), Damaged> {
        let number = now / self.ms;
        if !self.begin(sections, at, number)? {
            return Ok(());
        }
        let mut classes = [0; 4];
        delta.codes().iter().for_each(|&(status, count)| classes[class(status).clamp(1, 4) - 1] += count);
        let headers = delta.codes().iter().map(|(_, count)| count).sum::<u64>();
        let responses = (0..super::histogram::BUCKETS).map(|bucket| delta.sum(section::RESPONSE_TIMES + bucket)).sum();
        let halves = |low: u64, high: u64| low & u64::from(u32::MAX) | high << 32;
        for (word, value) in [
            (REQUESTS, delta.sum(section::REQUESTS)),
            (FAILED, delta.sum(section::FAILED)),
            (UP_TO_3XX, halves(classes[0], classes[1])),
            (FROM_4XX, halves(classes[2], classes[3])),
            (HEADER_SUM, delta.sum(section::HEADER_SUM)),
            (RESPONSE_SUM, delta.sum(section::RESPONSE_SUM)),
            (TIMES, halves(headers, responses)),
        ] {
            if value != 0 {
                sections.add(at, self.word(number) + word, value)?;
            }
        }
        Ok(())
    }

    /// Has the place of a second or minute begin, if no worker has yet. Whether it has begun.
    fn begin<M: Memory>(&self, sections: &Sections<'_, M>, at: Section, number: u64) -> Result<bool, Damaged> {
        let (first, stamp) = (self.word(number), number + 1);
        for _ in 0..LOOKS {
            let old = sections.load(at, first + STAMP)?;
            if old == stamp {
                return Ok(true);
            }
            // Not by a worker that is late.
            if old & !EMPTIED > stamp {
                return Ok(false);
            }
            if old == stamp | EMPTIED {
                std::hint::spin_loop();
            } else if sections.replace(at, first + STAMP, old, stamp | EMPTIED)? {
                (first + 1..first + WORDS).try_for_each(|word| sections.store(at, word, 0))?;
                return sections.replace(at, first + STAMP, stamp | EMPTIED, stamp);
            }
        }
        Ok(false)
    }

    fn sums<M: Memory>(&self, sections: &Sections<'_, M>, at: Section, now: u64, places: u64) -> Result<Sums, Damaged> {
        let (mut sums, this) = (Sums::default(), now / self.ms);
        for number in this.saturating_sub(places)..this {
            let first = self.word(number);
            if sections.load(at, first + STAMP)? != number + 1 {
                continue;
            }
            let load = |word| sections.load(at, first + word);
            let halves = |word| load(word).map(|both| [both & u64::from(u32::MAX), both >> 32]);
            sums.requests += load(REQUESTS)?;
            sums.failed += load(FAILED)?;
            let classes = [halves(UP_TO_3XX)?, halves(FROM_4XX)?].concat();
            sums.classes.iter_mut().zip(classes).for_each(|(sum, count)| *sum += count);
            let times = [load(HEADER_SUM)?, load(RESPONSE_SUM)?];
            sums.times.iter_mut().zip(times).for_each(|(sum, ms)| *sum += ms);
            sums.counts.iter_mut().zip(halves(TIMES)?).for_each(|(sum, count)| *sum += count);
        }
        Ok(sums)
    }
}
