//! Finds the peers that are due, by the leases of an upstream's peers, every now and then. In between only the time goes on.
//!
//! A turn of the event loop looks at so many leases at most. An upstream that has more is looked at over several turns. Peers
//! that were due before stay due meanwhile.

use super::groups::Groups;
use super::probe::Probe;
use super::shared::Shared;
use super::watch::{Target, Watched};
use crate::error::Result;
use crate::random::Random;
use crate::state::lease::{Due, Lease, Millis, patience, share_of};
use crate::state::verdict::Verdict;
use std::collections::HashMap;
use std::ops::Range;

/// The knowledge of a worker beside the upstream itself.
pub struct Scan<'a> {
    /// Where leases are.
    pub place: &'a Shared<'a>,
    /// The peers that are probed together.
    pub groups: &'a Groups,
    /// The workers that are ready to probe.
    pub workers: &'a [u32],
    /// This one.
    pub slot: u32,
    /// Its probes that are under way.
    pub running: &'a HashMap<u32, Probe>,
}

/// A look at all leases that is not over.
#[derive(Debug, Default)]
pub struct Scanning {
    /// The place of the peer that is looked at next.
    next: usize,
    /// How long those have been due that are, and their places.
    ready: Vec<(Millis, u32)>,
    /// When the others will be that are soon due, and their places.
    coming: Vec<(u64, u32)>,
    /// No worker has looked at these leases before.
    is_new: bool,
}

impl Scan<'_> {
    /// Finds the peers that are due for this worker, and those that will be before the next look. Looks at no more leases than
    /// `left`, and takes those off it.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Damaged`]: a cell lies outside of the mapping. This look at the upstream ends there.
    pub fn of(&self, watched: &mut Watched, random: &mut Random, left: &mut usize) -> Result<()> {
        let mut scanning = watched.scanning.take().unwrap_or_default();
        scanning.is_new |= std::mem::take(&mut watched.is_new);
        let places = scanning.next..watched.targets.len().min(scanning.next.saturating_add(*left));
        *left = left.saturating_sub(places.len().max(1));
        scanning.next = places.end;
        let looked = self.look(watched, random, places, &mut scanning);
        if looked.is_ok() && scanning.next < watched.targets.len() {
            watched.scanning = Some(scanning);
            return Ok(());
        }
        watched.scan_at = self.place.now + watched.scans();
        let Scanning { mut ready, coming, .. } = scanning;
        // The peer that has waited longest is first. Otherwise the last ones would never have their turn where some have none.
        ready.sort_unstable_by(|one, other| other.cmp(one));
        self.note_lateness(watched, ready.first().map_or(0, |&(late, _)| late));
        watched.ready.clear();
        watched.ready.extend(ready.iter().map(|&(_, place)| place));
        watched.set_coming(coming);
        looked
    }

    /// Looks at the leases of the peers at `places`.
    fn look(
        &self,
        watched: &Watched,
        random: &mut Random,
        places: Range<usize>,
        scanning: &mut Scanning,
    ) -> Result<()> {
        let (most, patience) = (watched.most_ahead(), patience(watched.check.interval));
        let Scanning { ready, coming, is_new, .. } = scanning;
        let targets = (places.start as u32..).zip(&watched.targets[places]);
        for (place, target) in targets.filter(|(_, target)| target.cell != 0) {
            let lease = Lease(self.place.cells.lease(target.cell)?);
            let due = self.place.due(lease, most)?;
            if matches!(due, Due::In(ms) if lease.owner().is_some() || !watched.is_soon(ms)) {
                continue;
            }
            // Asked last, since few peers are due.
            if lease.generation() != target.generation || !self.groups.leads(target.key, target.cell) {
                continue;
            }
            let within = match due {
                Due::In(ms) => ms,
                // A new peer that was not probed for long is spread as well.
                Due::Since(late) if !(*is_new && late > watched.check.interval) => {
                    if (late >= patience || self.has(target)) && !self.is_running(target, lease) {
                        ready.push((late, place));
                    }
                    continue;
                }
                _ => self.spread(watched, target, lease, random)?,
            };
            if watched.is_soon(within) && self.has(target) {
                coming.push((self.place.now + u64::from(within), place));
            }
        }
        Ok(())
    }

    /// Chooses in how many milliseconds a peer is probed for the first time.
    fn spread(&self, watched: &Watched, target: &Target, lease: Lease, random: &mut Random) -> Result<Millis> {
        let active = Verdict(self.place.cells.verdict(target.cell)?);
        let within = random.below(active.interval(&watched.check).max(1));
        let first = lease.until(self.place.millis().wrapping_add(within));
        // Another worker that does so at the same time is as right.
        self.place.cells.set_lease(target.cell, lease.0, first.0)?;
        Ok(within)
    }

    fn note_lateness(&self, watched: &mut Watched, latest: Millis) {
        let is_busy =
            self.running.len() >= super::MOST_AT_ONCE || watched.running >= u32::from(watched.check.concurrency);
        match (latest > watched.check.interval / 4, watched.late_since) {
            (false, _) => watched.late_since = None,
            (true, None) if is_busy => (watched.late_since, watched.ended) = (Some(self.place.now), 0),
            (true, _) => {}
        }
    }

    /// A message, once, about an upstream whose probes take longer than its interval. The worker that has its first peer
    /// answers it.
    pub fn is_late(&self, watched: &mut Watched) -> Option<String> {
        let for_ms = self.place.now - watched.late_since?;
        let check = &watched.check;
        // It takes a round of as many as may be under way to know how long they take.
        if watched.warned
            || for_ms < 4 * u64::from(check.interval)
            || watched.ended < watched.running.max(1)
            || !self.has(watched.targets.iter().find(|target| target.cell != 0)?)
        {
            return None;
        }
        watched.warned = true;
        let is_probed =
            |target: &&Target| target.cell != 0 && self.has(target) && self.groups.leads(target.key, target.cell);
        let share = watched.targets.iter().filter(is_probed).count() as u64;
        let real = (share * for_ms / u64::from(watched.ended)).max(check.interval.into());
        let (name, peers, interval) = (&watched.name, watched.places.len(), check.interval);
        let why = match watched.running >= u32::from(check.concurrency) {
            true => format!("concurrency {} allows no more: set a greater one", check.concurrency),
            false => format!("a worker makes at most {} probes at a time: take more workers", super::MOST_AT_ONCE),
        };
        Some(format!(
            "upstream {name}: its {peers} peers are probed every {real} ms and not every {interval} ms, as {why}, or a longer \
             interval"
        ))
    }

    /// Whether this worker still runs a probe of a peer after its time is over. Its result counts for nothing, but another
    /// probe beside it would be too much.
    fn is_running(&self, target: &Target, lease: Lease) -> bool {
        lease.owner() == Some(self.slot) && self.running.values().any(|probe| probe.cell == target.cell)
    }

    /// Whether a peer is of this worker's share.
    fn has(&self, target: &Target) -> bool {
        share_of(target.cell, self.workers) == Some(self.slot)
    }
}
