//! Shares: how much all peers before each 64th weigh, so that a unit of all weights leads to its peer.

use super::head::{class, word};
use super::{Group, View};
use crate::shm::{Damaged, Memory};
use crate::upstream::Upstream;

/// Peers between two shares.
pub(super) const SHARE: usize = 64;

/// Appends the shares of both groups. Peers that take no traffic count too, as nginx's `ip_hash` has it.
pub(super) fn append_shares(words: &mut Vec<u64>, upstream: &Upstream) {
    let weight = upstream.peers.first().map(|peer| peer.weight);
    if upstream.peers.iter().all(|peer| !peer.backup && Some(peer.weight) == weight) {
        words[word::CLASSES] |= 1 << class::ALIKE;
        return;
    }
    words[word::SHARES] = words.len() as u64;
    for group in Group::ALL {
        let mut sum = 0;
        for peers in upstream.peers.chunks(SHARE) {
            words.push(sum);
            let own = peers.iter().filter(|peer| peer.backup == (group == Group::Backup));
            sum += own.map(|peer| u64::from(peer.weight)).sum::<u64>();
        }
        words.push(sum);
    }
}

impl View {
    /// The weight of all peers of a group, whether or not they take traffic.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn weight_of_all(&self, mem: &impl Memory, group: Group) -> Result<u64, Damaged> {
        match (self.alike, group) {
            (true, Group::Primary) if self.peers > 0 => {
                Ok(u64::from(self.bits(mem, 0)?.weight()) * u64::from(self.peers))
            }
            (true, _) => Ok(0),
            (false, _) => mem.load(self.share_at(group, (self.peers as usize).div_ceil(SHARE))),
        }
    }

    /// The peer that unit `unit` of all weights of a group belongs to.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn peer_of_unit(&self, mem: &impl Memory, group: Group, unit: u64) -> Result<Option<u32>, Damaged> {
        if self.alike {
            let weight = u64::from(self.bits(mem, 0)?.weight());
            return Ok(unit.checked_div(weight).filter(|&index| index < self.peers.into()).map(|index| index as u32));
        }
        let (mut low, mut high) = (0, (self.peers as usize).div_ceil(SHARE));
        // The last share that is not beyond the unit.
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if mem.load(self.share_at(group, middle))? <= unit { low = middle } else { high = middle }
        }
        let mut left = unit.saturating_sub(mem.load(self.share_at(group, low))?);
        for index in (low * SHARE) as u32..self.peers.min(((low + 1) * SHARE) as u32) {
            let bits = self.bits(mem, index)?;
            let weight = if bits.group() == group { u64::from(bits.weight()) } else { 0 };
            match left.checked_sub(weight) {
                Some(rest) => left = rest,
                None => return Ok(Some(index)),
            }
        }
        Ok(None)
    }

    fn share_at(&self, group: Group, share: usize) -> usize {
        self.shares_at + group as usize * ((self.peers as usize).div_ceil(SHARE) + 1) + share
    }
}
