//! The tries of one worker that are not in the sections yet. The worker adds them ten times a second, summed up, so a try costs its
//! request a few stores into memory that is the worker's own. A worker that dies takes its last ones with it.

use super::delta::Delta;
use super::ended::Ended;
use super::place::Places;
use super::span;
use crate::shm::{Damaged, Memory, clock};
use crate::table::Record;
use std::time::{Duration, Instant};

/// Tries that wait at most. The next one has to wait until they are added.
const MOST: usize = 4096;
/// How long a worker adds before it lets its event loop go on.
const SLICE: Duration = Duration::from_millis(1);

/// A try that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Try {
    /// The cell of its peer.
    pub cell: u32,
    /// How often that was taken.
    pub generation: u16,
    /// The place of its upstream.
    pub record: Record,
    /// The number of the change that made the upstream.
    pub created: u64,
    /// How it ended.
    pub ended: Ended,
}

/// All of a worker.
#[derive(Debug)]
pub struct Tally {
    waiting: Vec<Try>,
    /// They are in order.
    sorted: bool,
    /// How many may wait; 0: none, since no call will add them.
    most: usize,
    peer: Delta,
    upstream: Delta,
}

impl Default for Tally {
    fn default() -> Self {
        Tally { waiting: Vec::new(), sorted: false, most: MOST, peer: Delta::default(), upstream: Delta::default() }
    }
}

impl Tally {
    /// Adds one.
    pub fn add<M: Memory>(&mut self, one: Try, places: &Places<'_, M>) {
        if self.waiting.capacity() == 0 {
            self.waiting.reserve_exact(MOST);
        }
        self.waiting.push(one);
        self.sorted = false;
        if self.waiting.len() >= self.most {
            while !self.flush(places) {}
        }
    }

    /// Lets none wait from now on, since the worker ends.
    pub fn wait_no_more<M: Memory>(&mut self, places: &Places<'_, M>) {
        self.most = 0;
        while !self.flush(places) {}
    }

    /// Adds those that wait to the sections of their peers and upstreams, for about a millisecond; whether none is left.
    pub fn flush<M: Memory>(&mut self, places: &Places<'_, M>) -> bool {
        if self.waiting.is_empty() {
            return true;
        }
        let (began, now) = (Instant::now(), clock::epoch_ms());
        if !self.sorted {
            self.waiting.sort_unstable_by_key(|one| (one.record.order(), one.created, one.cell, one.generation));
            self.sorted = true;
        }
        let mut last: Option<Try> = None;
        while let Some(&one) = self.waiting.last() {
            if last.is_some_and(|last| (last.record, last.created) != (one.record, one.created)) {
                self.add_upstream(last, places, now);
                last = None;
                if began.elapsed() >= SLICE {
                    return false;
                }
            }
            // A large upstream too gives the event loop its turn.
            if last.is_some() && began.elapsed() >= SLICE {
                break;
            }
            self.add_peer(one, places, now);
            last = Some(one);
        }
        self.add_upstream(last, places, now);
        self.waiting.is_empty()
    }

    /// Adds all tries of the last peer.
    fn add_peer<M: Memory>(&mut self, of: Try, places: &Places<'_, M>, now: u64) {
        let is_its = |one: &Try| {
            (one.record, one.created, one.cell, one.generation) == (of.record, of.created, of.cell, of.generation)
        };
        while let Some(one) = self.waiting.pop_if(|one| is_its(one)) {
            self.peer.add(&one.ended, now);
        }
        self.upstream.add_all(&self.peer);
        let done = match places.of_peer(of.cell, of.generation) {
            Ok(Some(section)) => self.peer.add_into(&places.sections, section),
            _ => places.sections.add_uncounted(self.peer.sum(super::section::REQUESTS)),
        };
        // A spoiled file of statistics costs statistics.
        let _: Result<(), Damaged> = done;
        self.peer.clear();
    }

    fn add_upstream<M: Memory>(&mut self, of: Option<Try>, places: &Places<'_, M>, now: u64) {
        if let Some(of) = of
            && let Ok(Some(section)) = places.of_upstream(of.record, of.created)
        {
            let done = self.upstream.add_into(&places.sections, section);
            let _: Result<(), Damaged> = done.and_then(|()| span::add(&places.sections, section, now, &self.upstream));
        }
        self.upstream.clear();
    }
}
