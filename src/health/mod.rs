//! How peers fare: what takes one out of the picking for a while, and what brings it back.

pub mod certificate;
pub mod judge;
pub mod prober;

use crate::error::{Code, Result};
use crate::shm::versioned::Unread;
use crate::shm::{Cells, Damaged, Memory};
use crate::state::failures::Health;
use crate::state::verdict::Verdict;
use crate::table::directory::{Directory, ailing_at, ails, healed};
use crate::table::snapshot::View;
use crate::table::store::Table;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Does something with every upstream that there is, also with those after one that makes no sense. Answers what went wrong first;
/// one that is changing is another time's.
fn each(table: &Table, each: impl FnMut(&Directory<'_>, u32) -> Result<()>) -> Result<()> {
    let taken = Directory::new(table.region()).taken()?;
    each_of(table, taken, each)
}

fn each_of(
    table: &Table,
    records: impl IntoIterator<Item = u32>,
    mut each: impl FnMut(&Directory<'_>, u32) -> Result<()>,
) -> Result<()> {
    let directory = Directory::new(table.region());
    let mut done = Ok(());
    for record in records {
        done = done.and(unless_changing(each(&directory, record)));
    }
    done
}

/// An upstream that changes too often to be read waits for the next time.
fn unless_changing(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if error.code == Code::Changing => Ok(()),
        done => done,
    }
}

/// Upstreams of which a look for idle peers reads the heads, at most: half a millisecond's.
pub const MOST_LOOKED_AT: usize = 4096;

/// Deletes the peers that leave and are idle. It does not wait for a writer, since there is a next time. Of very many
/// upstreams, each call looks at some, from `next` on, in turn.
pub fn delete_idle(table: &Table, next: &AtomicUsize) -> Result<()> {
    let mem = table.region().mem();
    let Some(cells) = table.region().cells() else { return Ok(()) };
    let idle = |view: &View| {
        let mut idle = Vec::new();
        for index in 0..if view.leaving { view.peers } else { 0 } {
            let cell = view.cell(mem, index)?;
            if view.bits(mem, index)?.is_leaving() && (cell == 0 || cells.open(cell)? == 0) {
                idle.push(view.ident(mem, index)?);
            }
        }
        Ok::<_, Damaged>(if idle.is_empty() { None } else { Some((view.name(mem)?, idle)) })
    };
    let taken = Directory::new(table.region()).taken()?;
    let count = taken.len().min(MOST_LOOKED_AT);
    let first = next.fetch_add(count, Ordering::Relaxed);
    let some = (0..count).map(|step| taken[(first.wrapping_add(step)) % taken.len()]);
    each_of(table, some, |directory, record| {
        let Some(Some((name, idle))) = directory.look(record, idle)? else { return Ok(()) };
        match table.delete_idle(&name, &idle, Duration::ZERO) {
            Err(error) if matches!(error.code, Code::Busy | Code::Superseded) => Ok(()),
            done => done,
        }
    })
}

/// Lets picks no longer look at peers whose upstream is well again.
pub fn heal(table: &Table) -> Result<()> {
    let Some(cells) = table.region().cells() else { return Ok(()) };
    each(table, |directory, record| Ok(heal_one(directory, &cells, record)?))
}

/// The same of one upstream, by its record.
pub fn heal_one<M: Memory>(
    directory: &Directory<'_, M>,
    cells: &Cells<'_, impl Memory>,
    record: u32,
) -> Result<(), Unread> {
    let (mem, at) = (directory.mem(), ailing_at(directory.geometry(), record));
    let ailing = mem.load(at)?;
    mem.fence();
    if !ails(ailing) || is_ill(directory, cells, record)? {
        return Ok(());
    }
    // If another peer has failed meanwhile, this is another number. But the worker that saw the failure may have died before it
    // changed the number.
    if mem.replace(at, ailing, healed(ailing))? {
        mem.fence();
        let ill = is_ill(directory, cells, record);
        if !matches!(ill, Ok(false)) {
            directory.tell_ailing(record)?;
        }
        ill?;
    }
    Ok(())
}

/// Marks upstreams whose peer failed while the worker that saw it died before setting the mark. Call after a worker's death. A
/// worker that finds the upstream well after this failure sees it ([`heal`]). One that did so before has left a number that
/// shows it here.
pub fn find_ailing(table: &Table) -> Result<()> {
    let Some(cells) = table.region().cells() else { return Ok(()) };
    let (mem, geometry) = (table.region().mem(), table.region().geometry());
    each(table, |directory, record| {
        if !ails(mem.load(ailing_at(geometry, record))?) && is_ill(directory, &cells, record)? {
            directory.tell_ailing(record)?;
        }
        Ok(())
    })
}

/// Whether probes have found a peer of this upstream down, which counts as long as there are probes.
fn is_down(view: &View, cells: &Cells<'_, impl Memory>, cell: u32) -> Result<bool, Damaged> {
    Ok(view.checked && Verdict(cells.verdict(cell)?).is_down())
}

/// Whether a pick of this upstream has to look at each peer.
fn is_ill<M: Memory>(
    directory: &Directory<'_, M>,
    cells: &Cells<'_, impl Memory>,
    record: u32,
) -> Result<bool, Unread> {
    let mem = directory.mem();
    let ill = |view: &View| {
        for index in 0..view.peers {
            let cell = view.cell(mem, index)?;
            // Asked last, since few peers are ill. A peer that can be picked nevertheless keeps no upstream on the slow path.
            if cell == 0 {
                continue;
            }
            let fails = !Health(cells.health(cell)?).is_well() && view.is_watched(mem, index)?;
            if fails || is_down(view, cells, cell)? && view.bits(mem, index)?.takes_traffic() {
                return Ok(true);
            }
        }
        Ok::<_, Damaged>(false)
    };
    Ok(directory.look(record, ill)?.unwrap_or(false))
}
