//! The load of a peer, for the methods that compare it.

use super::candidates::Candidates;
use super::miss::Miss;
use crate::state::slow_start::WHOLE;

/// Open connections a unit of weight: a fraction that is compared, never divided.
#[derive(Clone, Copy)]
pub(super) struct Load {
    open: u64,
    pub(super) weight: u64,
}

impl Load {
    /// That of a peer.
    pub(super) fn of(among: &impl Candidates, index: u32) -> Result<Load, Miss> {
        Ok(Load { open: among.open(index)?, weight: among.weight(index)?.into() })
    }

    /// That of a peer that has only this part of its weight.
    pub(super) fn of_part(among: &impl Candidates, index: u32, part: u64) -> Result<Load, Miss> {
        let Load { open, weight } = Load::of(among, index)?;
        Ok(Load { open: open.saturating_mul(WHOLE), weight: weight * part })
    }

    fn cross(self, other: Load) -> (u64, u64) {
        (self.open.saturating_mul(other.weight), other.open.saturating_mul(self.weight))
    }

    /// Whether this is less than `other`.
    pub(super) fn is_less(self, other: Load) -> bool {
        let (own, others) = self.cross(other);
        own < others
    }
}
