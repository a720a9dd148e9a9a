//! Brings upstreams back to quick picks: a pick looks at each peer only while a peer of its upstream has failed, is down, or
//! starts slowly.

use crate::error::Result;
use crate::shm::clock::now_ms;
use crate::shm::versioned::Unread;
use crate::shm::{Cells, Damaged, Memory};
use crate::state::failures::{Health, tenths};
use crate::state::slow_start;
use crate::state::verdict::Verdict;
use crate::table::Table;
use crate::table::directory::Directory;
use crate::table::snapshot::View;

/// Lets picks no longer look at peers whose upstream is well again.
///
/// # Errors
///
/// [`crate::error::Code::Damaged`]: the region or an upstream makes no sense. The upstreams after that one are healed
/// nevertheless.
pub fn heal(table: &Table) -> Result<()> {
    let Some(cells) = table.region().cells() else { return Ok(()) };
    let directory = Directory::new(table.region());
    directory.visit(directory.taken()?, |record| Ok(heal_one(&directory, &cells, record)?))
}

/// The same for one upstream, by its record.
///
/// # Errors
///
/// - [`Unread::Changing`]: changes met each of 16 reads.
/// - [`Unread::Damaged`]: the upstream or a cell makes no sense.
pub fn heal_one<M: Memory>(
    directory: &Directory<'_, M>,
    cells: &Cells<'_, impl Memory>,
    record: u32,
) -> Result<(), Unread> {
    let (mem, place) = (directory.mem(), directory.record(record));
    let failures = place.failures(mem)?;
    mem.fence();
    if !failures.any() || is_ill(directory, cells, record)? {
        return Ok(());
    }
    // If another peer has failed meanwhile, this is another number. But the worker that saw the failure may have died before it
    // changed the number.
    if place.mark_well(mem, failures)? {
        mem.fence();
        let ill = is_ill(directory, cells, record);
        if !matches!(ill, Ok(false)) {
            directory.mark_failure(record)?;
        }
        ill?;
    }
    Ok(())
}

/// Marks upstreams whose peer failed while the worker that saw it died before setting the mark. Call after a worker's death. A
/// worker that finds the upstream well after this failure sees it ([`heal`]). One that did so before has left a number that
/// shows it here.
///
/// # Errors
///
/// [`crate::error::Code::Damaged`]: the region or an upstream makes no sense. The upstreams after that one are marked
/// nevertheless.
pub fn mark_failures(table: &Table) -> Result<()> {
    let Some(cells) = table.region().cells() else { return Ok(()) };
    let directory = Directory::new(table.region());
    directory.visit(directory.taken()?, |record| {
        if !directory.record(record).failures(directory.mem())?.any() && is_ill(&directory, &cells, record)? {
            directory.mark_failure(record)?;
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
    let (mem, now) = (directory.mem(), tenths(now_ms()));
    let ill = |view: &View| {
        for index in 0..view.peers {
            let cell = view.cell(mem, index)?;
            // Asked last, since few peers are ill. A peer that can be picked nevertheless keeps no upstream on the slow path.
            if cell == 0 {
                continue;
            }
            let fails = !Health(cells.health(cell)?).is_well() && view.is_watched(mem, index)?;
            let starts = || {
                let slow_start = if view.slow_starts { view.slow_start(mem, index)? } else { 0 };
                slow_start::goes_on(cells, cell, slow_start, now)
            };
            if fails || (is_down(view, cells, cell)? || starts()?) && view.bits(mem, index)?.takes_traffic() {
                return Ok(true);
            }
        }
        Ok::<_, Damaged>(false)
    };
    Ok(directory.look(record, ill)?.unwrap_or(false))
}
