//! The effect of a probe's result on the words that all workers share: the peer's verdict, and whether picks look at it.
//!
//! Picks take a peer if its operator lets it ([`crate::upstream::Status`]), probes have not found it down
//! ([`crate::state::verdict`]), and requests have not found it failing ([`crate::state::failures`]). Each of the three can take
//! it out, and none brings back a peer that another took out. There is one exception: a peer that probes bring back up begins
//! without the failures that requests met before.

use crate::shm::clock::now_ms;
use crate::shm::versioned::TRIES;
use crate::shm::{Cells, Damaged, Memory};
use crate::state::failures::{Health, tenths};
use crate::state::slow_start;
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
    let Shown { bit, slow_start } =
        if change.is_some() { shown(directory, record, cell, index) } else { Shown::default() };
    let is_up = change.is_some_and(|change| change.to == State::Up);
    let starts = is_up && slow_start != 0 && slow_start::comes_back(cells, cell, before)?;
    if starts {
        slow_start::begin(cells, cell, after.generation(), tenths(now_ms()))?;
    }
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
    if starts {
        directory.record(record).mark_start(directory.mem())?;
    }
    // Another result may have come since. Failures that requests meet keep it out as well: a pick that looks at it finds that.
    if cells.verdict(cell)? == after.0 {
        set_usable(directory, cells, record, bit, !after.is_down())?;
    }
    Ok(change)
}

/// The parts of a version that matter where a peer goes down or comes up.
#[derive(Default)]
struct Shown {
    /// It tells picks whether the peer is usable.
    bit: Bit,
    slow_start: u32,
}

/// Those of the peer with this cell. An upstream that cannot be read, or that changes soon, has none.
fn shown<M: Memory>(directory: &Directory<'_, M>, record: u32, cell: u32, index: u32) -> Shown {
    let mem = directory.mem();
    // Not a look through all peers for each: many may go down at once.
    let shown = directory.look(record, |view| match view.index_of(mem, cell, index)? {
        Some(index) => Ok(Shown { bit: view.usable_bit(mem, index)?, slow_start: view.slow_start(mem, index)? }),
        None => Ok::<_, Damaged>(Shown::default()),
    });
    shown.ok().flatten().unwrap_or_default()
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
