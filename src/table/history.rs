//! Enters changes of upstreams into the history beside the region. An entry is the change itself, and an event of each peer that the
//! operator has taken out or brought back by it. Copies a history where another region takes the table over.

use super::change_log::{Difference, Turned};
use super::directory::Directory;
use super::snapshot::{Kind, View};
use super::store::Table;
use crate::shm::history::{Event, History, Who};
use crate::shm::{Mem, Old, Region, clock};
use crate::state::events::{Cause, Standing, remember};
use std::collections::HashMap;

/// Enters a change by `origin`, unless its origin is known better. No caller waits for it, and no change is refused for it.
pub fn enter(table: &Table, change: &Difference, origin: &str) {
    let Some(history) = table.region().history() else { return };
    let _ = history.add_change(&change.entry(origin, clock::epoch_ms()));
    let Some(cells) = table.region().cells().filter(|_| !change.turned.is_empty()) else { return };
    let by = change.by.as_deref().unwrap_or(origin);
    for (turned, cell) in turned_cells(table, change) {
        let [from, to] = turned.statuses.map(Standing::from);
        remember(&history, &cells, cell, [from, to], Cause::Operator, format!("{} by {by}", to.name()));
    }
}

/// The peers that the change has turned, with their cells. Another writer may have taken some away since.
fn turned_cells(table: &Table, change: &Difference) -> Vec<(Turned, u32)> {
    let turned: HashMap<u64, Turned> = change.turned.iter().map(|&turned| (turned.ident, turned)).collect();
    let (directory, mem) = (Directory::new(table.region()), table.region().mem());
    let read = |view: &View| {
        let all = (0..view.peers).map(|index| view.ident_and_cell(mem, index));
        let with = |(ident, cell)| turned.get(&ident).filter(|_| cell != 0).map(|&turned| (turned, cell));
        all.filter_map(|peer| peer.map(with).transpose()).collect()
    };
    let found = directory.find(change.upstream.as_bytes()).ok().flatten();
    found.and_then(|(record, _)| directory.look(record, read).ok()?).unwrap_or_default()
}

/// Copies the history of a region into that of `new`, which has its table: the changes, and the events of the peers.
pub fn copy(old: &Old<'_>, new: &Region, to: &History<'_, Mem>) {
    for change in old.history.changes().unwrap_or_default() {
        let _ = to.add_change(&change);
    }
    let mut all = events(old, new).unwrap_or_default();
    // Where there is no room for the events of all, those of the peers with the latest ones stay.
    all.sort_by_key(|(_, events)| events.last().map(|event| event.time));
    for (who, event) in all.iter().flat_map(|(who, events)| events.iter().map(|event| (*who, event))) {
        let _ = to.add_event(who, event);
    }
}

/// The events of each peer that has any, under its cell in the new region.
fn events(old: &Old<'_>, new: &Region) -> Option<Vec<(Who, Vec<Event>)>> {
    let (old_cells, new_cells) = (old.cells?, new.cells()?);
    let mut events_of: HashMap<(String, u64), Vec<Event>> = HashMap::new();
    each_peer(old.region, |name, ident, cell| {
        let events = old_cells.who(cell).and_then(|who| old.history.events(who)).unwrap_or_default();
        if !events.is_empty() {
            events_of.insert((name.to_owned(), ident), events);
        }
    });
    let mut all = Vec::new();
    each_peer(new, |name, ident, cell| {
        let events = events_of.remove(&(name.to_owned(), ident));
        all.extend(new_cells.who(cell).ok().zip(events));
    });
    Some(all)
}

/// Calls `each` with the upstream, the identity and the cell of each peer.
fn each_peer(region: &Region, mut each: impl FnMut(&str, u64, u32)) {
    let mem = region.mem();
    let read = |view: &View| {
        let peers = (0..view.peers).map(|index| view.ident_and_cell(mem, index));
        Ok((view.name(mem)?, peers.collect::<Result<Vec<_>, _>>()?))
    };
    let read = |view: &View| if view.kind == Kind::UPSTREAM { read(view).map(Some) } else { Ok(None) };
    Directory::new(region).each_sound(read, |upstream| {
        if let Some((name, peers)) = upstream {
            peers.iter().filter(|(_, cell)| *cell != 0).for_each(|&(ident, cell)| each(&name, ident, cell));
        }
    });
}
