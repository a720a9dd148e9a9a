//! Primaries and backups.

use crate::upstream::{Peer, Upstream};

/// Primaries, and the backups that are picked when no primary can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// `backup = false`.
    Primary = 0,
    /// `backup = true`.
    Backup = 1,
}

impl Group {
    /// In the order in which they are asked.
    pub const ALL: [Group; 2] = [Group::Primary, Group::Backup];

    /// The peers of the group that configuration lets pick, with their indexes.
    pub fn members(self, upstream: &Upstream) -> impl Iterator<Item = (u32, &Peer)> {
        let backup = self == Group::Backup;
        (0u32..).zip(&upstream.peers).filter(move |(_, peer)| peer.backup == backup && peer.takes_traffic())
    }
}
