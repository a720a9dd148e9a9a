//! Changes that do not grow the table work even where there is no room: a peer is taken down or out, an upstream deleted.
//!
//! A new version stands beside the old one before it is published, so it needs room of its own. Where there is none, the writer
//! writes it into the spare with which the heap begins, and publishes it there. Then nothing leads to the old version any more.
//! The writer writes the new one once more, over the old one, and publishes it again. The spare is free for the next change.
//! Each of these versions is whole, so a death at any point leaves one of them. A repair brings home a version that was left in
//! the spare.

use super::commit::{Build, CellPlan, RingPlan, publish, write};
use super::deleted;
use super::directory::Directory;
use super::record::stamp_at;
use super::snapshot::{ImagePeers, RingPlace, View, place};
use crate::order::chash::Ring;
use crate::shm::arena::{Room, granules_of};
use crate::shm::layout::Geometry;
use crate::shm::{Damaged, GRANULE_WORDS, Memory, Stamp, Writing};

/// Puts a version in the place of `old`, which is larger or as large in all its parts. False: it is not, or it is too large
/// for the spare; and nothing is changed.
///
/// # Errors
///
/// [`Damaged`]: a page of the region is gone, or a word does not make sense.
pub fn replace<M: Memory>(
    change: &Writing<'_, M>,
    record: u32,
    build: &mut Build,
    old: &View,
) -> Result<bool, Damaged> {
    if !fits(build, old) {
        return Ok(false);
    }
    let Ok(there) = write(change, Room::Spare, build, record)? else { return Ok(false) };
    let (mem, geometry) = (change.mem(), change.geometry());
    change.is_seen_by_all()?;
    Directory::over(mem, geometry).publish(record, there)?;
    // Now, since the old version is written over next.
    deleted::remember(change, old, &build.cells.freed)?;
    let in_spare = View::read(mem, geometry, stamp_at(geometry, record), there)?;
    let home = write_over(change, record, build, old, there)?;
    publish(change, record, home, build, Some(&in_spare))?;
    Ok(true)
}

/// Whether each part has room where that of `old` is, and there are generations for both versions.
fn fits(build: &Build, old: &View) -> bool {
    let fits = |new: usize, old: usize| granules_of(new) <= granules_of(old);
    let ring_fits = |(new, old): (&RingPlan, &RingPlace)| match new {
        RingPlan::Build(ring) => old.block != 0 && fits(ring.words.len(), old.words()),
        RingPlan::None | RingPlan::Keep(_) => true,
    };
    fits(build.image.len(), old.words)
        && build.rings.iter().zip(&old.rings).all(ring_fits)
        && old.stamp.generation() < Stamp::LAST_GENERATION - 1
}

/// Writes a version over `old`, to which nothing leads any more. The stamp after `there` leads to it.
fn write_over<M: Memory>(
    change: &Writing<'_, M>,
    record: u32,
    build: &mut Build,
    old: &View,
    there: Stamp,
) -> Result<Stamp, Damaged> {
    let mut places = [RingPlace::default(); 2];
    for ((new, plan), old) in places.iter_mut().zip(&build.rings).zip(&old.rings) {
        *new = match plan {
            RingPlan::Keep(kept) => *kept,
            RingPlan::Build(ring) => {
                change.rewrite(old.block, old.words(), &ring.words)?;
                RingPlace { block: old.block, shape: ring.shape }
            }
            RingPlan::None => {
                if old.block != 0 {
                    change.free(old.block, old.words())?;
                }
                RingPlace::default()
            }
        };
    }
    let home = there.next(old.stamp.block()).ok_or(Damaged)?;
    place(&mut build.image, record, home.generation(), places);
    change.rewrite(old.stamp.block(), old.words, &build.image)?;
    Ok(home)
}

/// Whether a part of this version lies in the spare: its writer died before it was home.
pub fn holds_part_of(geometry: &Geometry, view: &View) -> bool {
    is_spare(geometry, view.stamp.block()) || view.rings.iter().any(|ring| is_spare(geometry, ring.block))
}

fn is_spare(geometry: &Geometry, block: u32) -> bool {
    (geometry.heap_at..geometry.spare_end()).contains(&(block as usize))
}

/// A version as it stands in another region, with its rings. The cells that its peers have there are no cells here: all get new ones.
pub(super) fn copy_of(view: &View, mem: &impl Memory) -> Result<Build, Damaged> {
    let mut build = Build {
        image: words(mem, view.stamp.word(), view.words)?,
        rings: [RingPlan::None, RingPlan::None],
        must: true,
        cells: CellPlan::default(),
    };
    for (plan, ring) in build.rings.iter_mut().zip(&view.rings).filter(|(_, ring)| ring.block != 0) {
        *plan = copy_of_ring(ring, mem)?;
    }
    let mut peers = ImagePeers::of(&mut build.image);
    (0..peers.count()).for_each(|index| peers.set_cell(index, 0));
    build.cells.new = (0..view.peers).collect();
    Ok(build)
}

fn copy_of_ring(ring: &RingPlace, mem: &impl Memory) -> Result<RingPlan, Damaged> {
    let words = words(mem, ring.block as usize * GRANULE_WORDS, ring.words())?;
    Ok(RingPlan::Build(Ring { words, shape: ring.shape }))
}

/// A copy of so many words.
pub(super) fn words(mem: &impl Memory, at: usize, count: usize) -> Result<Vec<u64>, Damaged> {
    let mut words = vec![0; count];
    mem.load_all(at, &mut words).map(|()| words)
}

/// Brings a version home, if there is room. The version that it replaced has left some, once a repair has found it.
///
/// # Errors
///
/// [`Damaged`]: a page of the region is gone, or a word does not make sense.
pub fn clear_of<M: Memory>(change: &Writing<'_, M>, view: &View) -> Result<(), Damaged> {
    let image = words(change.mem(), view.stamp.word(), view.words)?;
    let mut build = Build { image, rings: [RingPlan::None, RingPlan::None], must: true, cells: CellPlan::default() };
    for (plan, ring) in build.rings.iter_mut().zip(&view.rings).filter(|(_, ring)| ring.block != 0) {
        *plan = match is_spare(change.geometry(), ring.block) {
            false => RingPlan::Keep(*ring),
            true => copy_of_ring(ring, change.mem())?,
        };
    }
    match write(change, Room::Home, &mut build, view.record)? {
        Ok(home) => publish(change, view.record, home, &build, Some(view)),
        // It stays until its next change.
        Err(_) => Ok(()),
    }
}
