//! The effect of a probe's result on the words that all workers share: the peer's verdict, and whether picks look at it.
//!
//! Picks take a peer if its operator lets it ([`crate::upstream::Status`]), probes have not found it down
//! ([`crate::state::verdict`]), and requests have not found it failing ([`crate::state::failures`]). Each of the three can take
//! it out, and none brings back a peer that another took out. There is one exception: a peer that probes bring back up begins
//! without the failures that requests met before.

use crate::shm::versioned::TRIES;
use crate::shm::{Cells, Damaged, Memory};
use crate::state::failures::Health;
use crate::state::usable::Bit;
use crate::state::verdict::{State, Transition, Verdict};
use crate::table::directory::Directory;

/// A peer whose probe has ended.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    /// The record of its upstream.
    pub record: u32,
    /// Its cell.
    pub cell: u32,
    /// Its place in the upstream, as far as its worker knows.
    pub index: u32,
    /// The verdict while its lease was still that of the probe. A worker that has judged since knows better.
    pub before: Verdict,
}

/// Adds a result, and answers the change that it makes, if any.
///
/// # Errors
///
/// [`Damaged`]: the record or a cell lies outside of its mapping.
pub fn judge<M: Memory>(
    directory: &Directory<'_, M>,
    cells: &Cells<'_, impl Memory>,
    judged: Judged,
    ok: bool,
    (rise, fall): (u8, u8),
) -> Result<Option<Transition>, Damaged> {
    let Judged { record, cell, index, before } = judged;
    let (after, change) = before.after(ok, rise, fall);
    let bit = if change.is_some() { bit_of(directory, record, cell, index) } else { Bit::default() };
    match change {
        // Before, since this worker may die between the two. And after, since a worker that has just found the upstream well
        // keeps the upstream so: it read this number first.
        Some(Transition { to: State::Down, .. }) => directory.mark_failure(record)?,
        // Before, so that no pick overlooks a peer that it can know to be up; and after, if one has found it down in between.
        Some(Transition { to: State::Up, .. }) => set_usable(directory, cells, record, bit, true)?,
        None => {}
    }
    if !cells.set_verdict(cell, before.0, after.0)? {
        return Ok(None);
    }
    directory.mem().fence();
    match change {
        Some(Transition { to: State::Down, .. }) => directory.mark_failure(record)?,
        Some(Transition { to: State::Up, .. }) => cure(cells, cell, after.generation())?,
        None => return Ok(None),
    }
    // Another result may have come since. Failures that requests meet keep it out as well: a pick that looks at it finds that.
    if cells.verdict(cell)? == after.0 {
        set_usable(directory, cells, record, bit, !after.is_down())?;
    }
    Ok(change)
}

/// The bit that tells picks whether the peer with this cell is usable. An upstream that cannot be read, or that changes soon,
/// has none.
fn bit_of<M: Memory>(directory: &Directory<'_, M>, record: u32, cell: u32, index: u32) -> Bit {
    let mem = directory.mem();
    // Not a look through all peers for each: many may go down at once.
    let bit = directory.look(record, |view| match view.index_of(mem, cell, index)? {
        Some(index) => view.usable_bit(mem, index),
        None => Ok(Bit::default()),
    });
    bit.ok().flatten().unwrap_or_default()
}

fn set_usable<M: Memory>(
    directory: &Directory<'_, M>,
    cells: &Cells<'_, impl Memory>,
    record: u32,
    bit: Bit,
    is_up: bool,
) -> Result<(), Damaged> {
    directory.record(record).change_usable(directory.mem(), cells, bit, is_up).map(|_| ())
}

fn cure(cells: &Cells<'_, impl Memory>, cell: u32, generation: u16) -> Result<(), Damaged> {
    // With each time that it is in vain, another worker has counted a failure.
    for _ in 0..TRIES {
        let word = Health(cells.health(cell)?);
        if word.is_well() || word.generation() != generation || cells.set_health(cell, word.0, word.cured().0)? {
            break;
        }
    }
    Ok(())
}
