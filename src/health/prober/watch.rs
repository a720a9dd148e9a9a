//! Which peers of an upstream are probed, as of one version of it.

use crate::config;
use crate::health::check::{Check, PeerCheck};
use crate::health::lease::Millis;
use crate::shm::cells::GENERATION_SHIFT;
use crate::shm::{Cells, Damaged, Memory};
use crate::table::snapshot::View;
use crate::table::{Address, Status};
use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

/// Milliseconds to say what came of a probe, at least and at most.
const GRACE: (Millis, Millis) = (50, 500);
/// Milliseconds between two looks at all leases, at least and at most.
const SCANS: (Millis, Millis) = (10, 100);

/// An upstream with a check.
#[derive(Debug)]
pub struct Watched {
    /// Its name.
    pub name: Rc<str>,
    /// Its check.
    pub check: Rc<Check>,
    /// Who is probed.
    pub targets: Vec<Target>,
    /// Places in `targets` of those whose probes are due.
    pub ready: VecDeque<u32>,
    /// Those whose probes will be, and when: the next one is the last.
    coming: Vec<(u64, u32)>,
    /// When to look at all leases again.
    pub scan_at: u64,
    /// It is among those whose turns are to come.
    pub is_queued: bool,
    /// Probes of this worker that are under way.
    pub running: u32,
    /// Nobody has looked at its leases yet: times from before this worker began may have passed long ago.
    pub is_new: bool,
    /// Since when probes come too late, as more are due than may be under way.
    pub late_since: Option<u64>,
    /// Probes of this worker that have ended since.
    pub ended: u32,
    /// It was said that the check does not get round.
    pub warned: bool,
    /// What was said of why its peers cannot be probed.
    pub unprobed: Option<Box<str>>,
}

/// A peer that is probed.
#[derive(Debug)]
pub struct Target {
    /// Its cell, and how often that was taken.
    pub cell: u32,
    /// By this it is known that the cell is still its own.
    pub generation: u16,
    /// Peers with one key are probed together: the same address, in the same way.
    pub key: u64,
    /// Where it takes requests.
    pub address: Address,
    /// What is its own of the check.
    pub own: Option<Box<PeerCheck>>,
}

impl Watched {
    /// Reads what there is to probe of an upstream; `None` where there is nothing. Peers that are down or about to be deleted are not
    /// probed.
    pub fn read(view: &View, mem: &impl Memory, cells: &Cells<'_, impl Memory>) -> Result<Option<Watched>, Damaged> {
        let Some((check, mut own)) = view.checks(mem)? else { return Ok(None) };
        let mut plan = Vec::new();
        config::check::write(&mut plan, &check);
        let plan = hash_of(&plan);
        let mut targets = Vec::with_capacity(view.peers as usize);
        for index in 0..view.peers {
            let cell = view.cell(mem, index)?;
            if cell == 0 || matches!(view.bits(mem, index)?.status()?, Status::Down | Status::Leaving) {
                continue;
            }
            let (address, own) = (view.address(mem, index)?, own.remove(&index).map(Box::new));
            let generation = (cells.verdict(cell)? >> GENERATION_SHIFT) as u16;
            targets.push(Target { cell, generation, key: hash_of(&(plan, address.ident(), &own)), address, own });
        }
        Ok(Some(Watched {
            name: view.name(mem)?.into(),
            check: Rc::new(check),
            targets,
            ready: VecDeque::new(),
            coming: Vec::new(),
            scan_at: 0,
            is_queued: false,
            running: 0,
            is_new: true,
            late_since: None,
            ended: 0,
            warned: false,
            unprobed: None,
        }))
    }

    /// Goes on from an older version of itself.
    pub fn after(&mut self, old: &Watched) {
        (self.running, self.is_new, self.is_queued) = (old.running, old.is_new, old.is_queued);
        if self.check == old.check {
            (self.late_since, self.ended, self.warned) = (old.late_since, old.ended, old.warned);
            self.unprobed = old.unprobed.clone();
        }
    }

    /// Whether what is due in so many milliseconds may be due before the next look at all leases, were that late.
    pub fn is_soon(&self, ms: Millis) -> bool {
        u64::from(ms) <= 2 * self.scans()
    }

    /// Those whose probes are due before long, as all leases say.
    pub fn set_coming(&mut self, mut coming: Vec<(u64, u32)>) {
        coming.sort_unstable_by(|one, other| other.cmp(one));
        self.coming = coming;
    }

    /// One more of them.
    pub fn add_coming(&mut self, at: u64, target: u32) {
        let place = self.coming.partition_point(|&one| one > (at, target));
        self.coming.insert(place, (at, target));
    }

    /// Those of them that are due by now are ready.
    pub fn advance(&mut self, now: u64) {
        while let Some((_, target)) = self.coming.pop_if(|&mut (at, _)| at <= now) {
            self.ready.push_back(target);
        }
    }

    /// In how many milliseconds there is something to do.
    pub fn next(&self, now: u64) -> u64 {
        let coming = self.coming.last().map_or(self.scan_at, |&(at, _)| at);
        coming.min(self.scan_at).saturating_sub(now)
    }

    /// For how many milliseconds a worker takes a peer: for the probe, and to say what came of it.
    pub fn lease_time(&self) -> Millis {
        let grace = (self.check.interval / 4).clamp(GRACE.0, GRACE.1);
        self.check.timeout.saturating_add(grace)
    }

    /// Milliseconds between two looks at all leases.
    pub fn scans(&self) -> u64 {
        (self.check.interval / 4).clamp(SCANS.0, SCANS.1).into()
    }

    /// The furthest ahead that anybody sets the time of a probe.
    pub fn most_ahead(&self) -> Millis {
        let check = &self.check;
        let longest = check.interval.max(check.interval_down.unwrap_or(0)).max(check.timeout);
        longest.saturating_mul(2).saturating_add(self.lease_time())
    }
}

fn hash_of(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
