//! Worker slots: who lives, told by the kernel.
//!
//! A slot is claimed by locking its byte of the lock file for life. Death frees it, however it came, so a slot needs no
//! heartbeat and no look at /proc, and a reused pid confuses nobody.

use super::layout::{Geometry, SLOT, SLOTS};
use super::lock::{FIRST_SLOT, Holder, LockFile};
use super::memory::{Damaged, Memory};
use crate::error::{Code, Error, Result};

/// Words of a slot.
mod word {
    /// When it was last claimed, seconds since the epoch.
    pub const SINCE: usize = 0;
}

/// A live process that has claimed a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Number of the slot.
    pub slot: u32,
    /// Who holds it; this process knows itself by its pid.
    pub holder: Holder,
    /// Seconds since the epoch at which it was claimed.
    pub since: u64,
}

/// Claims the first free slot for the rest of this process's life.
pub fn claim(mem: &impl Memory, geometry: &Geometry, lock: &LockFile) -> Result<u32> {
    for slot in 0..SLOTS as u32 {
        if lock.keep(FIRST_SLOT + slot)? {
            enter(mem, geometry, slot)?;
            return Ok(slot);
        }
    }
    Err(Error::new(
        Code::Full,
        format!(
            "all {SLOTS} worker slots are taken: old workers that still shut down hold theirs (worker_shutdown_timeout)"
        ),
    ))
}

fn enter(mem: &impl Memory, geometry: &Geometry, slot: u32) -> std::result::Result<(), Damaged> {
    let at = geometry.slots_at + slot as usize * SLOT;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    mem.store(at + word::SINCE, now)
}

/// Whether another process than this one lives in any slot.
pub fn others_live(lock: &LockFile) -> Result<Option<Holder>> {
    lock.holder(FIRST_SLOT, SLOTS as u32)
}

/// All live workers; `own` is this process's slot, whose lock it cannot see itself.
pub fn live(mem: &impl Memory, geometry: &Geometry, lock: &LockFile, own: Option<u32>) -> Result<Vec<Worker>> {
    let mut workers = Vec::new();
    for slot in 0..SLOTS as u32 {
        let holder = match own == Some(slot) {
            true => Some(Holder::Pid(std::process::id())),
            false => lock.holder(FIRST_SLOT + slot, 1)?,
        };
        if let Some(holder) = holder {
            let since = mem.load(geometry.slots_at + slot as usize * SLOT + word::SINCE)?;
            workers.push(Worker { slot, holder, since });
        }
    }
    Ok(workers)
}
