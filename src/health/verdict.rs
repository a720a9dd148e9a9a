//! What the result of a probe does to the words that all workers share: the peer's verdict, and whether picks look at it.
//!
//! A peer is picked when its operator lets it ([`crate::table::Status`]), probes have not found it down ([`super::active`]), and
//! requests have not found it failing ([`super::passive`]); each can take it out, and none brings back what another took out, but
//! for one: a peer that probes bring back up begins without the failures that requests met before.

use super::active::{Active, Change, State};
use super::passive::Health;
use crate::balance::usable::Bit;
use crate::shm::versioned::TRIES;
use crate::shm::{Cells, Damaged, Memory};
use crate::table::directory::{Directory, ailing_at, changes_at};

/// A peer whose probe has ended.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    /// The record of its upstream.
    pub record: u32,
    /// Its cell.
    pub cell: u32,
    /// What was known of it while its lease was still that of the probe: who has judged since knows better.
    pub before: Active,
}

/// Adds a result, and says what it changes.
pub fn judge<M: Memory>(
    directory: &Directory<'_, M>,
    cells: &Cells<'_, impl Memory>,
    judged: Judged,
    ok: bool,
    (rise, fall): (u8, u8),
) -> Result<Option<Change>, Damaged> {
    let Judged { record, cell, before } = judged;
    let (after, change) = before.after(ok, rise, fall);
    let goes_down = change.is_some_and(|change| change.to == State::Down);
    // Before, in case that this worker dies between the two; and after, so that whoever has just found the upstream well lets it
    // be: it looked at this number first.
    if goes_down {
        directory.tell_ailing(record)?;
    }
    if !cells.set_verdict(cell, before.0, after.0)? {
        return Ok(None);
    }
    directory.mem().fence();
    match change {
        Some(Change { to: State::Down, .. }) => directory.tell_ailing(record)?,
        Some(Change { to: State::Up, .. }) => cure(cells, cell, after.generation())?,
        None => {}
    }
    if change.is_some() {
        set_usable(directory, cells, judged, after)?;
    }
    Ok(change)
}

/// Has picks pass over a peer, or look at it again. A version that is changing has new bits soon, and what cannot be read none.
fn set_usable<M: Memory>(
    directory: &Directory<'_, M>,
    cells: &Cells<'_, impl Memory>,
    Judged { record, cell, .. }: Judged,
    after: Active,
) -> Result<(), Damaged> {
    let mem = directory.mem();
    let bit = directory.look(record, |view| {
        for index in 0..view.peers {
            if view.cell(mem, index)? == cell {
                return Bit::of(mem, view, index);
            }
        }
        Ok(Bit::default())
    });
    let Ok(Some(bit)) = bit else { return Ok(()) };
    // Failures that requests meet keep it out as well: the pick that looks at it finds that.
    mem.fence();
    if cells.verdict(cell)? == after.0 && bit.set(cells, !after.is_down())? {
        mem.add(changes_at(ailing_at(directory.geometry(), record)), 1)?;
    }
    Ok(())
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
