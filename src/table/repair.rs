//! How a change that died half way is cleared away: all blocks and cells that the table reaches are marked, and the rest is free. The
//! caller holds the writer lock.

use super::directory::{self, Directory};
use super::in_place;
use super::record::stamp_at;
use super::snapshot::{Kind, View};
use crate::error::Result;
use crate::shm::arena::Marks;
use crate::shm::cells::CellMarks;
use crate::shm::{GRANULE_WORDS, Memory, Writing};

/// Marks the blocks that can be reached and frees the rest. Drops upstreams that do not make sense, and answers their number.
///
/// # Errors
///
/// [`Code::Damaged`](crate::error::Code::Damaged): a page of the region is gone, or a word lies outside of it.
pub fn repair<M: Memory>(change: &Writing<'_, M>) -> Result<u64> {
    let (mem, geometry) = (change.mem(), change.geometry());
    change.begin()?;
    let (mut marks, mut in_spare) = (Marks::new(geometry), Vec::new());
    // Whole blocks have their words to themselves, so each word is read once. Without a bound, records that each claim the
    // whole heap would have the repair read it that often.
    let mut left = 2 * mem.words();
    let mut cells = change.cells().map(|cells| CellMarks::new(cells.plan()));
    let lost = Directory::over(mem, geometry).rebuild(|record, hash, stamp| {
        let Ok(view) = View::read(mem, geometry, stamp_at(geometry, record), stamp) else { return false };
        let whole = view.record == record && mark_whole(&mut marks, &mut left, &view, mem, hash);
        if let (true, Some(cells)) = (whole, &mut cells) {
            (0..view.peers).filter_map(|index| view.cell(mem, index).ok()).for_each(|cell| cells.mark(cell));
        }
        if whole && in_place::holds_part_of(geometry, &view) {
            in_spare.push(view);
        }
        whole
    })?;
    change.rebuild(&marks)?;
    if let (Some(cells), Some(marks)) = (change.cells(), &cells) {
        cells.rebuild(marks)?;
    }
    in_spare.iter().try_for_each(|view| in_place::clear_of(change, view))?;
    change.end()?;
    Ok(lost)
}

/// Marks a snapshot that makes sense. The words that it reads for that are taken from those that are `left`.
fn mark_whole(marks: &mut Marks, left: &mut usize, view: &View, mem: &impl Memory, hash: u32) -> bool {
    let words = blocks_of(view).map(|(_, words)| words).sum();
    let Some(still_left) = left.checked_sub(words) else { return false };
    // First the marking: a block that overlaps another is not read.
    if !mark(marks, view) {
        return false;
    }
    *left = still_left;
    let whole = is_there(view, mem) && is_whole(view, mem, hash);
    if !whole {
        blocks_of(view).for_each(|(block, words)| marks.unmark(block, words));
    }
    whole
}

/// Whether there is memory behind all of it. A page that no process has written has none. Where there is no more memory, even a
/// look would tear the mapping.
fn is_there(view: &View, mem: &impl Memory) -> bool {
    blocks_of(view).all(|(block, words)| mem.reserve(block as usize * GRANULE_WORDS, words).is_ok())
}

/// Whether all of it is as it was written, can be read, and is found by its name. Otherwise no caller could even delete it.
/// Only a library that knows the kind reads the words behind the head.
fn is_whole(view: &View, mem: &impl Memory, hash: u32) -> bool {
    let is_readable = || match view.kind {
        Kind::UPSTREAM => view.decode(mem).is_ok(),
        Kind::ROUTE => view.decode_route(mem).is_ok(),
        _ => true,
    };
    let is_found = || view.name(mem).is_ok_and(|name| directory::hash(name.as_bytes()) == hash);
    view.is_sealed(mem) == Ok(true) && is_found() && is_readable()
}

/// Marks all blocks of a snapshot, or none.
fn mark(marks: &mut Marks, view: &View) -> bool {
    let mut done = Vec::new();
    for (block, words) in blocks_of(view) {
        if !marks.mark(block, words) {
            done.into_iter().for_each(|(block, words)| marks.unmark(block, words));
            return false;
        }
        done.push((block, words));
    }
    true
}

fn blocks_of(view: &View) -> impl Iterator<Item = (u32, usize)> {
    let rings = view.rings.into_iter().filter(|ring| ring.block != 0).map(|ring| (ring.block, ring.words()));
    std::iter::once((view.stamp.block(), view.words)).chain(rings)
}
