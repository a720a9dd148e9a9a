//! The rings of chash, each in a block of its own.

use super::Group;
use crate::order::chash::{self, Ring, RingShape};
use crate::shm::{Damaged, GRANULE_WORDS, Mem, Memory};
use crate::upstream::{Address, Upstream};

/// A ring in a block of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingPlace {
    /// Its block, 0 for none.
    pub block: u32,
    /// How it is laid out.
    pub shape: RingShape,
}

impl RingPlace {
    /// Words of the ring.
    pub fn words(&self) -> usize {
        self.shape.words()
    }
}

/// A ring's words in the mapping.
#[derive(Clone, Copy, Debug)]
pub struct RingWords<'a, M = Mem> {
    mem: &'a M,
    at: usize,
}

impl<'a, M: Memory> RingWords<'a, M> {
    /// The words of the ring at `place`.
    #[inline(always)]
    pub fn new(mem: &'a M, place: &RingPlace) -> Self {
        RingWords { mem, at: place.block as usize * GRANULE_WORDS }
    }
}

impl<M: Memory> chash::Words for RingWords<'_, M> {
    #[inline(always)]
    fn word(&self, index: usize) -> Option<u64> {
        self.mem.load(self.at + index).ok()
    }

    fn copy(&self, index: usize, out: &mut [u64]) -> Option<()> {
        self.mem.load_all(self.at.checked_add(index)?, out).ok()
    }
}

pub(super) fn check_ring(mem: &impl Memory, ring: &RingPlace) -> Result<(), Damaged> {
    let at = ring.block as usize * GRANULE_WORDS;
    let fits = ring.block == 0 || ring.shape.is_sound() && at + ring.words() <= mem.words();
    if fits { Ok(()) } else { Err(Damaged) }
}

/// Words of the ring that [`build_ring`] makes.
///
/// # Errors
///
/// As [`chash::shape_of`].
pub fn ring_words(upstream: &Upstream, group: Group) -> crate::error::Result<usize> {
    let members = group.members(upstream).map(|(index, peer)| (index, peer.weight));
    chash::shape_of(members).map(RingShape::words)
}

/// The ring of a group's members, `None` when it has no members.
///
/// # Errors
///
/// As [`chash::build`].
pub fn build_ring(upstream: &Upstream, group: Group) -> crate::error::Result<Option<Ring>> {
    let members = ring_members(upstream, group);
    if members.is_empty() {
        return Ok(None);
    }
    chash::build(&members, upstream.hash_id).map(Some)
}

/// The answer of [`build_ring`] for `new`, made from the ring of `old` at `place`. `None`: it has to be built.
///
/// The stamp that led to `place` must hold afterwards: else the ring may have been recycled while it was read.
pub fn merge_ring(mem: &impl Memory, place: &RingPlace, old: &Upstream, new: &Upstream, group: Group) -> Option<Ring> {
    // Where another version of this library hashes other texts, this one cannot tell which peer has which points.
    let is_known = old.hash_number() == old.hash_id as u8 && old.hash_number() == new.hash_number();
    if place.block == 0 || !is_known {
        return None;
    }
    let (from, to) = (ring_members(old, group), ring_members(new, group));
    chash::merge(&RingWords::new(mem, place), place.shape, &from, &to, new.hash_id)
}

fn ring_members(upstream: &Upstream, group: Group) -> Vec<(u32, &Address, u16)> {
    group.members(upstream).map(|(index, peer)| (index, &peer.address, peer.weight)).collect()
}
