//! The table and the cells beside it, at some time.

use super::watch::{Target, Watched};
use crate::error::Result;
use crate::shm::{Cells, Mem};
use crate::state::lease::{Due, Lease, Millis};
use crate::table::directory::Directory;
use crate::table::snapshot::View;
use crate::table::store::Table;
use crate::upstream::Status;

/// A worker that was not ready to probe for so many milliseconds loses its share.
pub const READY: u64 = 600;

/// The parts of the table that a worker reads.
pub struct Shared<'a> {
    /// The directory of the upstreams.
    pub directory: Directory<'a>,
    /// The cells of their peers.
    pub cells: Cells<'a, Mem>,
    /// The region.
    pub mem: &'a Mem,
    /// Milliseconds since the boot.
    pub now: u64,
}

impl<'a> Shared<'a> {
    /// That of `table`; `None`: it has no cells.
    pub fn of(table: &'a Table, now: u64) -> Option<Shared<'a>> {
        let cells = table.region().cells()?;
        Some(Shared { directory: Directory::new(table.region()), cells, mem: table.region().mem(), now })
    }

    /// Now, as leases have it.
    pub fn millis(&self) -> Millis {
        self.now as Millis
    }

    /// The slots of the workers that are ready to probe.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Damaged`]: the words about workers lie outside of the mapping.
    pub fn workers(&self) -> Result<Vec<u32>> {
        Ok(self.cells.ready(self.ready_since())?)
    }

    fn ready_since(&self) -> u64 {
        self.now.saturating_sub(READY).max(1)
    }

    /// When a probe is due. That of a worker which is not ready any more is: it died, sleeps, or shuts down.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Damaged`]: the word about the owner lies outside of the mapping.
    pub fn due(&self, lease: Lease, most: Millis) -> Result<Due> {
        let due = lease.due(self.millis(), most);
        match (due, lease.owner()) {
            (Due::In(_), Some(owner)) if !self.cells.is_ready(owner, self.ready_since())? => Ok(Due::Since(0)),
            _ => Ok(due),
        }
    }

    /// Gives back a peer whose probe counts for nothing: it is due now, unless another worker has taken it since.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Damaged`]: the cell lies outside of the mapping.
    pub fn give_back(&self, cell: u32, lease: Lease) -> Result<()> {
        Ok(self.cells.set_lease(cell, lease.0, lease.until(self.millis()).0).map(|_| ())?)
    }

    /// Gives back a peer that could not be probed: it is due in so many milliseconds, unless another worker has taken it since.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Damaged`]: the cell lies outside of the mapping.
    pub fn put_off(&self, cell: u32, lease: Lease, ms: Millis) -> Result<()> {
        let later = lease.until(self.millis().wrapping_add(ms));
        Ok(self.cells.set_lease(cell, lease.0, later.0).map(|_| ())?)
    }

    /// Whether a peer is probed by the version that is in force, in the same way as when it was met.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Changing`], [`crate::error::Code::Damaged`]: the upstream cannot be read.
    pub fn is_probed(&self, record: u32, target: &Target, watched: &Watched) -> Result<bool> {
        let is_probed = |view: &View| {
            if !view.checked || view.options_digest(self.mem)? != watched.options {
                return Ok(false);
            }
            let Some(index) = view.index_of(self.mem, target.cell, target.index)? else { return Ok(false) };
            Ok(!matches!(view.bits(self.mem, index)?.status(), Status::Down | Status::Leaving))
        };
        Ok(self.directory.look(record, is_probed)?.unwrap_or(false))
    }

    /// Whether an upstream is checked and has the peer with this cell, in any version. `index` is the peer's place when this
    /// worker last met it.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Changing`], [`crate::error::Code::Damaged`]: the upstream cannot be read.
    pub fn has(&self, record: u32, cell: u32, index: u32) -> Result<bool> {
        let has = |view: &View| Ok(view.checked && view.index_of(self.mem, cell, index)?.is_some());
        Ok(self.directory.look(record, has)?.unwrap_or(false))
    }
}
