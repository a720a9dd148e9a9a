//! What the result of a probe does to the words that all workers share: the peer's verdict, and whether its upstream panics.
//!
//! A peer is picked when its operator lets it ([`crate::table::Status`]), probes have not found it down ([`super::active`]), and
//! requests have not found it failing ([`super::passive`]); each can take it out, and none brings back what another took out, but
//! for one: a peer that probes bring back up begins without the failures that requests met before.

use super::active::{Active, Change, State};
use super::passive::Health;
use crate::shm::versioned::TRIES;
use crate::shm::{Cells, Damaged, Memory};
use crate::table::directory::{Directory, panic_at};
use crate::table::snapshot::{Group, View};

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
    Ok(change)
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

/// Has all workers know whether so few peers of an upstream are up that all are picked from. To be called after each change, and now
/// and then, in case that somebody has died before.
pub fn settle_panic<M: Memory>(
    directory: &Directory<'_, M>,
    cells: &Cells<'_, impl Memory>,
    record: u32,
) -> Result<(), crate::shm::versioned::Unread> {
    let (mem, at) = (directory.mem(), panic_at(directory.geometry(), record));
    for _ in 0..TRIES {
        let panics = directory.look(record, |view| panics(view, mem, cells))?.unwrap_or(false).into();
        if mem.load(at)? == panics {
            break;
        }
        mem.store(at, panics)?;
        // Whoever has changed a peer and said otherwise meanwhile did so before it looked again: one of us sees both.
        mem.fence();
    }
    Ok(())
}

/// Whether fewer percent of the primaries that take traffic are up than `panic_threshold`, but one at least: with none, the backups
/// are asked, and then all.
fn panics(view: &View, mem: &impl Memory, cells: &Cells<'_, impl Memory>) -> Result<bool, Damaged> {
    if !view.checked || view.panic_threshold == 0 {
        return Ok(false);
    }
    let (mut serving, mut up) = (0u64, 0u64);
    for index in 0..view.peers {
        let bits = view.bits(mem, index)?;
        if bits.takes_traffic() && bits.group() == Group::Primary {
            let cell = view.cell(mem, index)?;
            serving += 1;
            up += u64::from(cell == 0 || !Active(cells.verdict(cell)?).is_down());
        }
    }
    Ok(up > 0 && up * 100 < serving * u64::from(view.panic_threshold))
}
