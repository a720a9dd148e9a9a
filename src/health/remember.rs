//! The events of peers in the history beside the region: since when, and why, a peer is up or down.

use crate::shm::clock;
use crate::shm::history::Event;
use crate::state::verdict::Transition;
use crate::table::Table;

/// The cause of an event, as the history has it.
pub const PROBES: u8 = 1;

/// Adds what probes have found of the peer with this cell. Nothing is refused where that cannot be.
pub fn remember(table: &Table, cell: u32, change: Transition, why: &str) {
    let (Some(history), Some(cells)) = (table.region().history(), table.region().cells()) else { return };
    let Transition { from, to, after } = change;
    let s = if after == 1 { "" } else { "s" };
    let text = format!("{after} {} probe{s}: {why}", to.results());
    let event = Event { time: clock::epoch_ms(), from: from as u8, to: to as u8, cause: PROBES, text };
    if let Ok(who) = cells.who(cell) {
        let _ = history.add_event(who, &event);
    }
}
