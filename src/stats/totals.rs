//! The totals of a section as they were at one moment, and the difference of two moments.

use super::histogram::{BUCKETS, quantile};
use super::section::*;
use crate::shm::sections::{Section, Sections};
use crate::shm::{Damaged, Memory};

/// The totals of a peer, or of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals(Box<[u64; END]>);

impl Default for Totals {
    fn default() -> Self {
        Totals(Box::new([0; END]))
    }
}

/// How many there were of a kind of time, and their sum and greatest in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
    /// The greatest since the totals began.
    pub max: u64,
}

impl Times {
    /// Their mean in milliseconds; 0: there are none.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }
}

impl Totals {
    /// Reads those of a section. Workers add to it meanwhile, so a number may be ahead of another by a moment.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the section is outside of the file.
    pub fn read<M: Memory>(sections: &Sections<'_, M>, section: Section) -> Result<Totals, Damaged> {
        let mut totals = Totals::default();
        for (word, value) in totals.0.iter_mut().enumerate() {
            *value = sections.load(section, word)?;
        }
        Ok(totals)
    }

    /// A word of [`super::section`].
    pub fn word(&self, word: usize) -> u64 {
        self.0[word]
    }

    /// The answers by status, and by class where a status has no number of its own.
    pub fn codes(&self) -> Vec<(String, u64)> {
        let by_status = (CODES..CODES + CODE_COUNT).map(|word| self.0[word]).filter(|word| word >> CODE_SHIFT != 0);
        let mut all: Vec<(String, u64)> =
            by_status.map(|word| ((word >> CODE_SHIFT).to_string(), word & ((1 << CODE_SHIFT) - 1))).collect();
        let names = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];
        all.extend(names.iter().enumerate().map(|(class, name)| (name.to_string(), self.0[CLASSES + class])));
        all.retain(|&(_, count)| count != 0);
        all.sort();
        all
    }

    /// Times until headers.
    pub fn header_times(&self) -> (Times, [u64; BUCKETS]) {
        self.times(HEADER_TIMES, HEADER_SUM, HEADER_MAX)
    }

    /// Times until the ends of responses.
    pub fn response_times(&self) -> (Times, [u64; BUCKETS]) {
        self.times(RESPONSE_TIMES, RESPONSE_SUM, RESPONSE_MAX)
    }

    fn times(&self, first: usize, sum: usize, max: usize) -> (Times, [u64; BUCKETS]) {
        let mut counts = [0; BUCKETS];
        counts.copy_from_slice(&self.0[first..first + BUCKETS]);
        (Times { count: counts.iter().sum(), sum: self.0[sum], max: self.0[max] }, counts)
    }

    /// Times until there were new connections.
    pub fn connect_times(&self) -> Times {
        Times { count: self.0[CONNECTS], sum: self.0[CONNECT_SUM], max: self.0[CONNECT_MAX] }
    }

    /// What has been added since `before`. The greatest times stay those since the beginning.
    pub fn since(&self, before: &Totals) -> Totals {
        let mut since = self.clone();
        for (word, value) in since.0.iter_mut().enumerate() {
            let old = before.0[word];
            *value = match word {
                DOWN_SINCE | CREATED => *value,
                _ if GREATEST.contains(&word) => *value,
                CODES.. if word < CODES + CODE_COUNT => match old >> CODE_SHIFT == *value >> CODE_SHIFT {
                    // The status stays, and its answers are those since then.
                    true => value.saturating_sub(old & ((1 << CODE_SHIFT) - 1)),
                    false => *value,
                },
                _ => value.saturating_sub(old),
            };
        }
        since
    }

    /// The same as a text, to be read again by [`Totals::from_mark`]: the words that are not 0.
    pub fn mark(&self) -> String {
        let words = self.0.iter().enumerate().filter(|&(_, &value)| value != 0);
        words.map(|(word, value)| format!("{word:x}:{value:x}")).collect::<Vec<_>>().join(",")
    }

    /// The totals that a text stands for; `None`: it is none of those texts.
    ///
    /// ```
    /// use dyups::stats::totals::Totals;
    /// assert_eq!(Totals::from_mark(""), Some(Totals::default()));
    /// assert_eq!(Totals::from_mark("0:2a").map(|totals| totals.word(0)), Some(42));
    /// assert_eq!(Totals::from_mark("ffff:1"), None);
    /// ```
    pub fn from_mark(text: &str) -> Option<Totals> {
        let mut totals = Totals::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (word, value) = part.split_once(':')?;
            *totals.0.get_mut(usize::from_str_radix(word, 16).ok()?)? = u64::from_str_radix(value, 16).ok()?;
        }
        Some(totals)
    }
}

/// The shares of times whose percentiles reports have, and their names.
pub const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];

/// These percentiles, in milliseconds.
pub fn percentiles(counts: &[u64; BUCKETS]) -> [(&'static str, Option<f64>); 4] {
    PERCENTILES.map(|(name, share)| (name, quantile(counts, share)))
}
