//! The probing of one worker: it finds the peers that are due, takes some of them, and reports the results.
//!
//! The caller makes the connections. Workers share only words of the cells ([`crate::state::lease`], [`super::judge`]). The
//! rest belongs to this worker, which makes it anew when the table changes.

mod groups;
mod notices;
mod probe;
mod reading;
mod scan;
mod shared;
mod tick;
mod upstreams;
mod watch;

pub use notices::{Notice, PeerEvent};
pub use probe::{Orders, Probe, Stage};

use super::judge::{Judged, judge};
use crate::error::Result;
use crate::http::response::Rules;
use crate::random::Random;
use crate::state::events::{Cause, Standing, remember};
use crate::state::lease::{Due, Lease, Millis};
use crate::state::verdict::{State, Transition, Verdict};
use crate::stats::place::Places;
use crate::table::store::Table;
use groups::Member;
use notices::Notices;
use probe::shown;
use scan::Scan;
use shared::Shared;
use std::collections::{HashMap, VecDeque};
use std::ops::Bound;
use tick::Tick;
use upstreams::Upstreams;
use watch::{Target, Watched};

/// Milliseconds between two looks at the versions of all upstreams.
const LOOK: u64 = 100;
/// The same while there is more to read than a look could.
const READ_ON: u64 = 20;
/// Milliseconds between two ticks, at most. A worker that shuts down is seen to do so at a tick.
const MOST: u64 = 100;
/// Peers whose leases a tick looks at; at least one upstream's.
const SCAN: usize = 8192;
/// Most probes of this worker that are under way; beyond them one for each upstream that has none, up to as many again.
pub const MOST_AT_ONCE: usize = 256;

/// The probing of one worker.
#[derive(Debug)]
pub struct Prober {
    slot: u32,
    /// The answers that its nginx takes.
    rules: Rules,
    random: Random,
    upstreams: Upstreams,
    /// The records of those upstreams that have a peer that is due.
    turns: VecDeque<u32>,
    running: HashMap<u32, Probe>,
    next_id: u32,
    /// The slots of the workers that are ready.
    workers: Vec<u32>,
    tick: Tick,
    looked_at: u64,
    /// The record that the last scan ended with.
    scanned: u32,
    unread: Notices,
}

impl Prober {
    /// The prober of the worker in `slot`, whose nginx has these rules.
    pub fn new(slot: u32, seed: u64, rules: Rules) -> Prober {
        Prober {
            slot,
            rules,
            random: Random::new(seed),
            upstreams: Upstreams::default(),
            turns: VecDeque::new(),
            running: HashMap::new(),
            next_id: 0,
            workers: Vec::new(),
            tick: Tick::default(),
            looked_at: 0,
            scanned: 0,
            unread: Notices::default(),
        }
    }

    /// The slot of its worker.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Reads the upstreams that have changed, and finds the probes that are due by now. `spent` answers how many milliseconds
    /// this worker has spent on a CPU. Answers in how many milliseconds to come again.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Damaged`]: the region, an upstream or a cell makes no sense. Where it is one upstream,
    /// the others are probed nevertheless.
    pub fn tick(&mut self, table: &Table, now: u64, spent: impl FnOnce() -> u64) -> Result<u64> {
        let Some(place) = Shared::of(table, now) else { return Ok(MOST) };
        place.cells.set_ready(self.slot, now.max(1))?;
        self.tick.measure(now, spent);
        let mut done = Ok(());
        let pause = if self.upstreams.is_behind { READ_ON } else { LOOK };
        if now.saturating_sub(self.looked_at) >= pause {
            self.looked_at = now;
            self.drop_lost(now);
            self.workers = place.workers()?;
            done = self.upstreams.look(&place);
        }
        // An error of one upstream does not keep the others from their probes.
        let next = self.scan(&place);
        done.and(next)
    }

    /// Drops probes whose code has died: it will not report how they ended.
    fn drop_lost(&mut self, now: u64) {
        let is_lost = |probe: &Probe| now > probe.began + 2 * u64::from(probe.lease_time);
        let lost: Vec<u32> = self.running.iter().filter(|(_, probe)| is_lost(probe)).map(|(&id, _)| id).collect();
        for id in lost {
            self.running.remove(&id).iter().for_each(|probe| self.ended(probe));
        }
    }

    /// Finds the peers that are due. Answers the milliseconds until the next one is. Of very many peers, each call looks at
    /// some, in turn.
    fn scan(&mut self, place: &Shared<'_>) -> Result<u64> {
        let Prober { upstreams, workers, random, turns, unread, running, .. } = self;
        let (mut left, mut next, mut done) = (SCAN, MOST, Ok(()));
        let (slot, last) = (self.slot, self.scanned);
        let least = self.tick.least(upstreams.watched.len());
        for range in [(Bound::Excluded(last), Bound::Unbounded), (Bound::Unbounded, Bound::Included(last))] {
            for (&record, watched) in upstreams.watched.range_mut(range) {
                if left == 0 {
                    next = 0;
                    break;
                }
                self.scanned = record;
                watched.advance(place.now);
                if watched.scan_at <= place.now && watched.is_read {
                    let one = Scan { place, groups: &upstreams.groups, workers, slot, running };
                    done = done.and(one.of(watched, random, &mut left));
                    one.is_late(watched).into_iter().for_each(|warning| unread.add(Notice::Warning(warning)));
                }
                if !watched.is_queued && !watched.ready.is_empty() {
                    watched.is_queued = true;
                    turns.push_back(record);
                }
                next = next.min(watched.next(place.now));
            }
        }
        done.map(|()| next.max(least))
    }

    /// How many probes may begin, as of the last tick. Not all of the peers need be there any more.
    pub fn due(&self) -> usize {
        let watched = self.turns.iter().filter_map(|record| self.upstreams.watched.get(record));
        watched.filter(|watched| self.may_begin(watched)).map(|watched| watched.ready.len()).sum()
    }

    /// Whether one more probe of an upstream may begin.
    fn may_begin(&self, watched: &Watched) -> bool {
        let under_way = self.running.len();
        let is_full = under_way >= MOST_AT_ONCE && watched.running > 0 || under_way >= 2 * MOST_AT_ONCE;
        !is_full && watched.running < u32::from(watched.check.concurrency)
    }

    /// Takes a peer whose probe is due, unless as many are under way as may be. The number names the probe in other calls.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Changing`], [`crate::error::Code::Damaged`]: the upstream of a peer that is due cannot
    /// be read.
    pub fn next(&mut self, table: &Table, now: u64) -> Result<Option<(u32, Orders)>> {
        let Some(place) = Shared::of(table, now) else { return Ok(None) };
        while let Some((record, target)) = self.pop_ready() {
            if let Some(taken) = self.take(&place, record, target)? {
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }

    /// Of the upstreams that may have another probe under way, the next in turn.
    fn pop_ready(&mut self) -> Option<(u32, u32)> {
        for _ in 0..self.turns.len() {
            let Some(record) = self.turns.pop_front() else { break };
            let may = self.upstreams.watched.get(&record).is_some_and(|watched| self.may_begin(watched));
            let Some(watched) = self.upstreams.watched.get_mut(&record) else { continue };
            let target = if may { watched.ready.pop_front() } else { None };
            watched.is_queued = !watched.ready.is_empty();
            if watched.is_queued {
                self.turns.push_back(record);
            }
            if let Some(target) = target {
                return Some((record, target));
            }
        }
        None
    }

    fn take(&mut self, place: &Shared<'_>, record: u32, target: u32) -> Result<Option<(u32, Orders)>> {
        let is_current = self.upstreams.is_current(place, record)?;
        let Some(watched) = self.upstreams.watched.get_mut(&record) else { return Ok(None) };
        let Some(target) = watched.targets.get(target as usize).filter(|target| target.cell != 0) else {
            return Ok(None);
        };
        // A peer that was deleted or changed is not probed. One that is still there is found when the new version is read.
        if !is_current && !place.is_probed(record, target, watched)? {
            return Ok(None);
        }
        let lease = Lease(place.cells.lease(target.cell)?);
        let is_due = matches!(place.due(lease, watched.most_ahead())?, Due::Since(_));
        if !is_due || lease.generation() != target.generation {
            return Ok(None);
        }
        let taken = lease.taken(self.slot, place.millis().wrapping_add(watched.lease_time()));
        if !place.cells.set_lease(target.cell, lease.0, taken.0)? {
            return Ok(None);
        }
        let orders = match Orders::new(&watched.check, &target.address, target.own.as_deref()) {
            Ok(orders) => orders,
            Err(why) => {
                let (cell, interval) = (target.cell, watched.check.interval);
                self.cannot_probe(record, &why);
                return place.put_off(cell, taken, interval).map(|()| None);
            }
        };
        watched.running += 1;
        let probe = Probe::new(watched, (record, target.key, target.cell), taken, place.now, self.rules);
        self.next_id = self.next_id.wrapping_add(1) & i32::MAX as u32;
        self.running.insert(self.next_id, probe);
        Ok(Some((self.next_id, orders)))
    }

    /// Gives a probe the next bytes of its answer. Answers how many milliseconds it has left; 0: it is over.
    pub fn feed(&mut self, id: u32, bytes: &[u8], now: u64) -> u32 {
        let Some(probe) = self.running.get_mut(&id) else { return 0 };
        if probe.feed(bytes) { 0 } else { probe.left(now) }
    }

    /// Milliseconds that a probe has left.
    pub fn left(&self, id: u32, now: u64) -> u32 {
        self.running.get(&id).map_or(0, |probe| probe.left(now))
    }

    /// How many probes are under way.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Ends a probe. Its result counts, unless its time was over or another worker has taken its peer since.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Changing`], [`crate::error::Code::Damaged`]: an upstream that has the peer cannot be
    /// read. The result does not count there.
    pub fn end(&mut self, table: &Table, id: u32, stage: Stage, error: &[u8], now: u64) -> Result<()> {
        let Some(probe) = self.running.remove(&id) else { return Ok(()) };
        self.ended(&probe);
        let Some(place) = Shared::of(table, now) else { return Ok(()) };
        let (key, cell, lease, check, began) = (probe.key, probe.cell, probe.lease, probe.check.clone(), probe.began);
        if matches!(lease.due(place.millis(), Millis::MAX), Due::Since(_)) {
            // A worker that slept knows nothing about the peer.
            return place.give_back(cell, lease);
        }
        if stage == Stage::NotMade {
            self.cannot_probe(probe.record, &shown(error));
            return place.put_off(cell, lease, check.interval);
        }
        let result = probe.end(stage, error);
        let judged = self.judged(&place, key, cell)?;
        let Some((_, leader)) = judged.first() else {
            // The peer that is there by now need not wait until the time of this probe is over.
            return place.give_back(cell, lease);
        };
        let (after, _) = leader.before.after(result.is_ok(), check.rise, check.fall);
        let at = self.next_time(began, after.interval(&check), now);
        if !place.cells.set_lease(cell, lease.0, lease.until(at as Millis).0)? {
            return Ok(());
        }
        self.comes(judged[0].0, at, now);
        for (member, judged) in judged {
            if member.cell != cell {
                // Only where no other worker has stored one. So a peer that is probed in its place later goes on from here.
                let old = Lease(place.cells.lease(member.cell)?);
                place.cells.set_lease(member.cell, old.0, old.until(at as Millis).0)?;
            }
            if let Some(places) = Places::of(table.region()) {
                places.probed(member.cell, judged.before.generation(), result.is_ok());
            }
            let limits = (check.rise, check.fall);
            if let Some(change) = judge(&place.directory, &place.cells, judged, result.is_ok(), limits)? {
                let why = match &result {
                    Err(why) if change.to == State::Down => why,
                    _ => "answers as it should",
                };
                self.tell(member, change, why);
                let turn = [change.from, change.to].map(Standing::from);
                if let Some(places) = Places::of(table.region()) {
                    places.turned(member.cell, judged.before.generation(), turn);
                }
                if let Some(history) = table.region().history() {
                    remember(&history, &place.cells, member.cell, turn, Cause::Probes, change.because(why));
                }
            }
        }
        Ok(())
    }

    /// The fault is this worker's own, and takes no peer out. The log has it once.
    fn cannot_probe(&mut self, record: u32, why: &str) {
        let Some(watched) = self.upstreams.watched.get_mut(&record) else { return };
        if watched.unprobed.as_deref() != Some(why) {
            watched.unprobed = Some(why.into());
            let name = &watched.name;
            self.unread.add(Notice::Warning(format!("upstream {name}: its peers are not probed: {why}")));
        }
    }

    /// A peer's next probe may be due before this worker looks at its lease again.
    fn comes(&mut self, member: Member, at: u64, now: u64) {
        if let Some(watched) = self.upstreams.watched.get_mut(&member.record)
            && watched.is_soon(at.saturating_sub(now) as Millis)
        {
            watched.add_coming(at, member.target);
        }
    }

    fn ended(&mut self, probe: &Probe) {
        // Another upstream may have the record by now.
        let watched = self.upstreams.watched.get_mut(&probe.record);
        if let Some(watched) = watched.filter(|watched| watched.name == probe.upstream) {
            watched.running = watched.running.saturating_sub(1);
            watched.ended = watched.ended.saturating_add(1);
        }
    }

    /// All peers that a probe of the peer with this cell is for, with their verdicts; the leader is the first. Empty: that peer
    /// was deleted, or is probed in another way by now.
    fn judged(&self, place: &Shared<'_>, key: u64, cell: u32) -> Result<Vec<(Member, Judged)>> {
        let mut all = Vec::new();
        for member in self.upstreams.groups.members(key) {
            let Some(target) = self.target(member) else { continue };
            let before = Verdict(place.cells.verdict(member.cell)?);
            let is_its_own = before.generation() == target.generation;
            let is_current = self.upstreams.is_current(place, member.record)?;
            if is_its_own && (is_current || place.has(member.record, member.cell, target.index)?) {
                all.push((member, Judged { record: member.record, cell: member.cell, index: target.index, before }));
            }
        }
        // A peer with a lower cell that has come meanwhile leads from now on.
        all.sort_by_key(|(member, _)| member.cell != cell);
        if all.first().is_some_and(|(member, _)| member.cell != cell) {
            all.clear();
        }
        Ok(all)
    }

    fn target(&self, member: Member) -> Option<&Target> {
        self.upstreams.watched.get(&member.record)?.targets.get(member.target as usize)
    }

    /// Intervals go from beginning to beginning, so that a slow answer makes none longer. Each is a little longer or shorter,
    /// so that peers do not come to be probed together.
    fn next_time(&mut self, began: u64, interval: u32, now: u64) -> u64 {
        let twentieth = interval / 20;
        let jitter = self.random.below(2 * twentieth + 1);
        (began + u64::from(interval - twentieth) + u64::from(jitter)).max(now)
    }

    fn tell(&mut self, member: Member, change: Transition, why: &str) {
        let (Some(watched), Some(target)) = (self.upstreams.watched.get(&member.record), self.target(member)) else {
            return;
        };
        let event = PeerEvent {
            upstream: watched.name.to_string(),
            server: target.address.text().to_string(),
            change,
            why: why.to_string(),
        };
        self.unread.add(Notice::Peer(event));
    }

    /// The next thing that an operator should know.
    pub fn notice(&mut self) -> Option<Notice> {
        self.unread.next()
    }

    /// This worker probes no more. It gives back the probes that are under way, and the other workers take over its share.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Damaged`]: the slot or a cell lies outside of the mapping.
    pub fn stop(&mut self, table: &Table, now: u64) -> Result<()> {
        let Some(place) = Shared::of(table, now) else { return Ok(()) };
        place.cells.set_ready(self.slot, 0)?;
        for (_, probe) in std::mem::take(&mut self.running) {
            place.give_back(probe.cell, probe.lease)?;
        }
        self.upstreams = Upstreams::default();
        self.turns.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
