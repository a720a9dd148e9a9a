//! Enters changes of upstreams into the history beside the region: the change itself, and an event of each peer that its operator has
//! taken out or brought back by it.

use super::change_log::{Difference, Turned};
use super::directory::Directory;
use super::snapshot::View;
use super::store::Table;
use crate::shm::clock;
use crate::state::events::{Cause, Standing, remember};
use std::collections::HashMap;

/// Enters a change by `origin`, unless its origin is known better. Nothing waits for it, and nothing is refused for it.
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
