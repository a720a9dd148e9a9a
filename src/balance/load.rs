//! The load of a peer, for the methods that compare it.

use super::candidates::Candidates;
use super::miss::Miss;

/// Open connections a unit of weight: a fraction that is compared, never divided.
#[derive(Clone, Copy)]
pub(super) struct Load {
    open: u64,
    pub(super) weight: u16,
}

impl Load {
    /// That of a peer.
    pub(super) fn of(among: &impl Candidates, index: u32) -> Result<Load, Miss> {
        Ok(Load { open: among.open(index)?, weight: among.weight(index)? })
    }

    fn cross(self, other: Load) -> (u64, u64) {
        (self.open.saturating_mul(other.weight.into()), other.open.saturating_mul(self.weight.into()))
    }

    /// Whether this is less than `other`.
    pub(super) fn is_less(self, other: Load) -> bool {
        let (own, others) = self.cross(other);
        own < others
    }
}
