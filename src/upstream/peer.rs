//! One peer: its address, and the options that an operator sets.

use super::kept::ForeignPeer;
use super::{Address, PeerCheck};

/// Whether a peer takes part in the picking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Status {
    /// Picked.
    #[default]
    Up = 0,
    /// Out: never picked.
    Down = 1,
    /// No new picks. Requests under way may finish.
    Drain = 2,
    /// The same, and then it is deleted. Files and calls say that it drains, and beside that, that it is leaving.
    Leaving = 3,
}

impl Status {
    /// All of them, by the name that files and calls use.
    pub const NAMES: [(&'static str, Status); 3] =
        [("up", Status::Up), ("down", Status::Down), ("drain", Status::Drain)];

    /// The one with this number.
    pub fn numbered(number: u64) -> Option<Status> {
        [Status::Up, Status::Down, Status::Drain, Status::Leaving].into_iter().find(|&status| status as u64 == number)
    }

    /// The same without the deletion.
    pub fn to_stay(self) -> Status {
        if self == Status::Leaving { Status::Drain } else { self }
    }

    /// `"up"`, `"down"` or `"drain"`.
    pub fn name(self) -> &'static str {
        match self {
            Status::Leaving => Status::Drain.name(),
            status => Self::NAMES[status as usize].0,
        }
    }
}

/// A peer of an upstream. Options that `server` lines set have nginx's own names and defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it listens, as written and as parsed.
    pub address: Address,
    /// Share of the traffic, 0..=65535; 0 takes none and keeps its place. Default 1.
    pub weight: u16,
    /// Default up.
    pub status: Status,
    /// Picked only when no primary can be. Default false.
    pub backup: bool,
    /// Most open connections at once, 0 for no limit. Default 0.
    pub max_conns: u32,
    /// Failures within `fail_timeout` that take the peer out, 0 for never. Default 1.
    pub max_fails: u32,
    /// Seconds: the window of `max_fails`, and how long the peer is out. Default 10.
    pub fail_timeout: u32,
    /// Seconds over which a peer that came back grows to its weight, 0 for at once. Default 0.
    pub slow_start: u32,
    /// The options for its probes alone; never an empty one. In a box, since few peers have it.
    pub check: Option<Box<PeerCheck>>,
    /// Data that another version has stored beside, if any.
    pub foreign: Option<Box<ForeignPeer>>,
}

impl Peer {
    /// A peer at `address` with every default.
    pub fn new(address: Address) -> Self {
        Peer {
            address,
            weight: 1,
            status: Status::Up,
            backup: false,
            max_conns: 0,
            max_fails: 1,
            fail_timeout: 10,
            slow_start: 0,
            check: None,
            foreign: None,
        }
    }

    /// The number of its status as it is stored.
    pub fn status_number(&self) -> u8 {
        let foreign = self.foreign.as_ref().filter(|_| self.status == Status::Down).map_or(0, |foreign| foreign.status);
        if foreign == 0 { self.status as u8 } else { foreign }
    }

    /// The number of its tier as it is stored: 0 for a primary, 1 for a backup.
    pub fn tier_number(&self) -> u8 {
        let foreign = self.foreign.as_ref().map_or(0, |foreign| foreign.tier);
        if self.backup { foreign.max(1) } else { 0 }
    }

    /// Its weight as it is stored: maybe one that is too large for this library.
    pub fn weight_number(&self) -> u32 {
        let foreign = self.foreign.as_ref().filter(|_| self.weight == u16::MAX).map_or(0, |foreign| foreign.weight);
        foreign.max(self.weight.into())
    }

    /// Whether configuration lets this peer be picked at all.
    pub fn takes_traffic(&self) -> bool {
        self.status == Status::Up && self.weight > 0
    }
}
