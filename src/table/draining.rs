//! Peers that drain and are then deleted: the deletion.

use super::directory::Directory;
use super::ops::visible;
use super::snapshot::View;
use super::store::{Edit, Stored, Table};
use crate::error::{Code, Result};
use crate::shm::{Damaged, Region};
use crate::upstream::Status;
use std::borrow::Borrow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Upstreams whose heads one call reads at most. To read so many takes half a millisecond.
pub const MOST_LOOKED_AT: usize = 4096;

impl<R: Borrow<Region>> Table<R> {
    /// Deletes the peers that drain, were to be deleted, and are idle. It waits for no writer: there is a next time. Of very many
    /// upstreams, each call looks at some, from `next` on, in turn.
    ///
    /// # Errors
    ///
    /// The first thing that went wrong; the rest is done nevertheless.
    pub fn delete_drained(&self, next: &AtomicUsize) -> Result<()> {
        let mem = self.region().mem();
        let Some(cells) = self.region().cells() else { return Ok(()) };
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
        let directory = Directory::new(self.region());
        let taken = directory.taken()?;
        let count = taken.len().min(MOST_LOOKED_AT);
        let first = next.fetch_add(count, Ordering::Relaxed);
        let some = (0..count).map(|step| taken[(first.wrapping_add(step)) % taken.len()]);
        directory.visit(some, |record| {
            let Some(Some((name, idle))) = directory.look(record, idle)? else { return Ok(()) };
            match self.delete_idle(&name, &idle, Duration::ZERO) {
                Err(error) if matches!(error.code, Code::Busy | Code::Superseded) => Ok(()),
                done => done,
            }
        })
    }

    /// Takes those of `idle` out of their upstream that are to be deleted when they are idle, and were not made to stay.
    ///
    /// # Errors
    ///
    /// As [`Table::edit`].
    pub fn delete_idle(&self, name: &str, idle: &[u64], wait: Duration) -> Result<()> {
        self.edit(name, wait, |stored| {
            let Some(Stored { mut upstream, flags, .. }) = visible(stored) else { return Ok(Edit::Keep) };
            let before = upstream.peers.len();
            upstream.peers.retain(|peer| peer.status != Status::Leaving || !idle.contains(&peer.address.ident()));
            // This was said when they were drained: where a file did, the upstream follows it as before.
            Ok(if upstream.peers.len() == before { Edit::Keep } else { Edit::Put(upstream, flags) })
        })
    }
}
