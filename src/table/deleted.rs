//! Peers that are deleted while connections are open to them. A writer leaves their names for `status`.

use super::snapshot::{MAX_TEXT, View};
use crate::shm::cells::deleted::{self, Ledger, Removed};
use crate::shm::{Damaged, Memory, Writing};

const _: () = assert!(crate::upstream::name::MAX_NAME_BYTES <= deleted::MAX_NAME && MAX_TEXT <= deleted::MAX_SERVER);

/// Remembers the peers of `old` whose cells are among `freed`, in order, and have connections open. No pick leads to `old` any more.
/// Mostly there are no such peers, and nothing else is read. Peers that cannot be read are not remembered: a deletion does not fail
/// for them.
///
/// # Errors
///
/// [`Damaged`]: a word lies outside of the memory.
pub fn remember<M: Memory>(change: &Writing<'_, M>, old: &View, freed: &[u32]) -> Result<(), Damaged> {
    let Some(cells) = change.cells() else { return Ok(()) };
    let busy = cells.busy(freed)?;
    if busy.is_empty() {
        return Ok(());
    }
    let Ok(name) = old.name(change.mem()) else { return Ok(()) };
    let removed: Vec<Removed> = removed(change.mem(), old, &busy).take(deleted::ENTRIES).collect();
    Ledger::of(cells).add(name.as_bytes(), &removed)
}

fn removed<M: Memory>(mem: &M, old: &View, busy: &[u32]) -> impl Iterator<Item = Removed> {
    (0..old.peers).filter_map(|index| {
        let cell = old.cell(mem, index).ok().filter(|cell| busy.binary_search(cell).is_ok())?;
        let mut text = [0; MAX_TEXT];
        let len = old.text(mem, index, &mut text).ok()?;
        Some(Removed { cell, server: text[..len].to_vec() })
    })
}
