//! Which peers of an upstream are probed. [`super::reading`] has them follow the table.

use super::reading::Reading;
use super::scan::Scanning;
use crate::state::lease::Millis;
use crate::table::options::PeerChecks;
use crate::upstream::{Address, Check, PeerCheck};
use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

/// Milliseconds to report the result of a probe, at least and at most.
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
    /// The options of some of its peers alone, by index, in the version that was read last.
    pub(super) own: PeerChecks,
    /// The hash of its check.
    pub(super) plan: u64,
    /// The digest of its options, those of single peers too.
    pub(super) options: u64,
    /// The peers that are probed. A place is free where the cell is 0.
    pub targets: Vec<Target>,
    /// By cell: their places.
    pub(super) places: HashMap<u32, u32>,
    /// Places that are free.
    pub(super) free: Vec<u32>,
    /// How far it is read, if not wholly.
    pub(super) reading: Option<Reading>,
    /// The number of this pass through its peers.
    pub(super) pass: u32,
    /// All of its peers were met once.
    pub is_read: bool,
    /// Places in `targets` of those whose probes are due.
    pub ready: VecDeque<u32>,
    /// The peers whose probes will be due, and when. The next one stands last.
    coming: Vec<(u64, u32)>,
    /// When to look at all leases again.
    pub scan_at: u64,
    /// How far they are looked at, if not all are.
    pub scanning: Option<Scanning>,
    /// It is in the queue of the prober.
    pub is_queued: bool,
    /// Probes of this worker that are under way.
    pub running: u32,
    /// This worker has not looked at its leases yet. Times from before this worker began may have passed long ago.
    pub is_new: bool,
    /// Since when probes come too late, as more are due than may be under way.
    pub late_since: Option<u64>,
    /// Probes of this worker that have ended since.
    pub ended: u32,
    /// The operator was told that probes take longer than the interval.
    pub warned: bool,
    /// The message that its peers cannot be probed, if the log has it already.
    pub unprobed: Option<Box<str>>,
}

/// A peer that is probed.
#[derive(Debug)]
pub struct Target {
    /// Its cell.
    pub cell: u32,
    /// The generation of the cell while it is this peer's.
    pub generation: u16,
    /// Where it stood in the upstream when it was met.
    pub index: u32,
    /// The pass that has met it last.
    pub(super) pass: u32,
    /// The check that it was met with.
    pub(super) plan: u64,
    /// Peers with one key are probed together: the same address, in the same way.
    pub key: u64,
    /// Where it takes requests.
    pub address: Address,
    /// Its own options of the check.
    pub own: Option<Box<PeerCheck>>,
}

impl Watched {
    /// An upstream whose peers are not read yet.
    pub fn new(name: &str, check: Check) -> Watched {
        Watched {
            name: name.into(),
            check: Rc::new(check),
            own: PeerChecks::default(),
            plan: 0,
            options: 0,
            targets: Vec::new(),
            places: HashMap::new(),
            free: Vec::new(),
            reading: None,
            pass: 0,
            is_read: false,
            ready: VecDeque::new(),
            coming: Vec::new(),
            scan_at: 0,
            is_queued: false,
            running: 0,
            is_new: true,
            scanning: None,
            late_since: None,
            ended: 0,
            warned: false,
            unprobed: None,
        }
    }

    /// Whether a peer that is due in so many milliseconds may be due before the next look at all leases, even a late one.
    pub fn is_soon(&self, ms: Millis) -> bool {
        u64::from(ms) <= 2 * self.scans()
    }

    /// Sets the peers whose probes are due before long, by all leases.
    pub fn set_coming(&mut self, mut coming: Vec<(u64, u32)>) {
        coming.sort_unstable_by(|one, other| other.cmp(one));
        self.coming = coming;
    }

    /// Adds one of these.
    pub fn add_coming(&mut self, at: u64, target: u32) {
        let place = self.coming.partition_point(|&one| one > (at, target));
        self.coming.insert(place, (at, target));
    }

    /// Makes those ready that are due by now.
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

    /// For how many milliseconds a worker takes a peer: for the probe, and to report its result.
    pub fn lease_time(&self) -> Millis {
        let grace = (self.check.interval / 4).clamp(GRACE.0, GRACE.1);
        self.check.timeout.saturating_add(grace)
    }

    /// Milliseconds between two looks at all leases.
    pub fn scans(&self) -> u64 {
        (self.check.interval / 4).clamp(SCANS.0, SCANS.1).into()
    }

    /// The furthest ahead that a worker sets the time of a probe.
    pub fn most_ahead(&self) -> Millis {
        let check = &self.check;
        let longest = check.interval.max(check.interval_down.unwrap_or(0)).max(check.timeout);
        longest.saturating_mul(2).saturating_add(self.lease_time())
    }
}

pub(super) fn hash_of(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
