//! What a worker adds to one section: the numbers of some tries, summed up.

use super::ended::Ended;
use super::histogram::bucket;
use super::section::*;
use crate::shm::sections::{Section, Sections};
use crate::shm::versioned::TRIES;
use crate::shm::{Damaged, Memory};

/// Sums for the words of a section.
#[derive(Debug)]
pub struct Delta {
    sums: Box<[u64; END]>,
    /// Which of them are not 0.
    touched: Vec<u16>,
    /// Answers by status.
    codes: Vec<(u16, u64)>,
}

impl Default for Delta {
    fn default() -> Self {
        Delta { sums: Box::new([0; END]), touched: Vec::with_capacity(END), codes: Vec::with_capacity(CODE_COUNT) }
    }
}

impl Delta {
    /// A sum, for the word of that name.
    pub fn sum(&self, word: usize) -> u64 {
        self.sums[word]
    }

    /// Answers by status.
    pub fn codes(&self) -> &[(u16, u64)] {
        &self.codes
    }

    /// Adds the numbers of a try that ended at `now`, in milliseconds since the epoch.
    pub fn add(&mut self, ended: &Ended, now: u64) {
        self.add_to(REQUESTS, 1);
        self.add_to(SENT, ended.sent);
        self.add_to(RECEIVED, ended.received);
        self.add_to(SELECTED, now.saturating_sub(ended.response_ms.unwrap_or_default().into()));
        if let (Some(ms), false) = (ended.connect_ms, ended.kept) {
            self.add_to(CONNECTS, 1);
            self.add_time(CONNECT_SUM, CONNECT_MAX, ms);
        }
        self.add_to(KEPT, ended.kept.into());
        self.add_to(RETRIES, ended.retry.into());
        match ended.header_ms {
            Some(ms) => {
                self.add_code(ended.status);
                self.add_time(HEADER_SUM, HEADER_MAX, ms);
                self.add_to(HEADER_TIMES + bucket(ms), 1);
            }
            None => {
                self.add_to(FAILED, ended.has_failed().into());
                self.add_to(TIMEOUTS, ended.has_timed_out().into());
                self.add_to(REFUSED, ended.was_refused().into());
            }
        }
        if let Some(ms) = ended.response_ms {
            self.add_time(RESPONSE_SUM, RESPONSE_MAX, ms);
            self.add_to(RESPONSE_TIMES + bucket(ms), 1);
        }
    }

    fn add_time(&mut self, sum: usize, max: usize, ms: u32) {
        self.add_to(sum, ms.into());
        self.add_to(max, ms.into());
    }

    fn add_to(&mut self, word: usize, value: u64) {
        if value == 0 {
            return;
        }
        let sum = &mut self.sums[word];
        if *sum == 0 {
            self.touched.push(word as u16);
        }
        *sum = if GREATEST.contains(&word) { (*sum).max(value) } else { sum.saturating_add(value) };
    }

    fn add_code(&mut self, status: u16) {
        match self.codes.iter_mut().find(|(other, _)| *other == status) {
            Some((_, count)) => *count += 1,
            None => self.codes.push((status, 1)),
        }
    }

    /// Adds the sums of another one.
    pub fn add_all(&mut self, other: &Delta) {
        other.touched.iter().for_each(|&word| self.add_to(word.into(), other.sums[usize::from(word)]));
        for &(status, count) in &other.codes {
            match self.codes.iter_mut().find(|(other, _)| *other == status) {
                Some((_, sum)) => *sum += count,
                None => self.codes.push((status, count)),
            }
        }
    }

    /// Adds all of it to a section.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the section is outside of the file.
    pub fn add_into<M: Memory>(&self, sections: &Sections<'_, M>, section: Section) -> Result<(), Damaged> {
        for word in self.touched.iter().map(|&word| usize::from(word)) {
            match GREATEST.contains(&word) {
                true => raise(sections, section, word, self.sums[word])?,
                false => sections.add(section, word, self.sums[word])?,
            }
        }
        self.codes.iter().try_for_each(|&(status, count)| count_code(sections, section, status, count))
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.touched.drain(..).for_each(|word| self.sums[usize::from(word)] = 0);
        self.codes.clear();
    }
}

/// Stores a number where a smaller one is.
fn raise<M: Memory>(sections: &Sections<'_, M>, section: Section, word: usize, value: u64) -> Result<(), Damaged> {
    for _ in 0..TRIES {
        let old = sections.load(section, word)?;
        if old >= value || sections.replace(section, word, old, value)? {
            break;
        }
    }
    Ok(())
}

/// Counts answers in the word of their status, which it may get now. Where all words have others, in that of their class.
fn count_code<M: Memory>(sections: &Sections<'_, M>, section: Section, status: u16, count: u64) -> Result<(), Damaged> {
    let begun = u64::from(status) << CODE_SHIFT;
    for word in (CODES..CODES + CODE_COUNT).take_while(|_| status != 0) {
        let mut old = sections.load(section, word)?;
        if old == 0 && !sections.replace(section, word, 0, begun)? {
            old = sections.load(section, word)?;
        }
        if old == 0 || old >> CODE_SHIFT == u64::from(status) {
            return sections.add(section, word, count);
        }
    }
    sections.add(section, CLASSES + class(status), count)
}
