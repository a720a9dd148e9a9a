//! What an operator says of checks, of one upstream or of all.

use super::ops::{no_upstream, visible};
use super::snapshot::Flags;
use super::store::{Edit, Stored, Table};
use super::upstream::Upstream;
use crate::config::check;
use crate::config::fields::HEALTHCHECK;
use crate::config::value::Value;
use crate::error::Result;
use crate::shm::Region;
use std::borrow::Borrow;
use std::time::Duration;

impl<R: Borrow<Region>> Table<R> {
    /// Sets the options of an upstream's check: what is not in `options` stays as it is. `false`: it has none.
    ///
    /// In all else the upstream follows its file as before.
    pub fn set_check(&self, name: &str, options: &Value, wait: Duration) -> Result<()> {
        self.edit(name, wait, |stored| {
            let Stored { upstream: old, flags, .. } = visible(stored).ok_or_else(|| no_upstream(name))?;
            let check = check::merge_or_none(old.check.as_ref(), options, HEALTHCHECK.name)?;
            // Every worker may say the same when it starts.
            if old.own_check && check == old.check && flags.has(Flags::CHECK_BY_HAND) {
                return Ok(Edit::Keep);
            }
            Ok(Edit::Put(Upstream { check, own_check: true, ..old }, flags.with(Flags::CHECK_BY_HAND)))
        })
    }
}
