//! An operator's settings of checks, for one upstream or for all.

use super::directory::Directory;
use super::ops::{no_upstream, visible};
use super::snapshot::{Flags, View};
use super::store::{Edit, Stored, Table};
use crate::error::Result;
use crate::shm::versioned::Unread;
use crate::shm::{Memory, Region};
use crate::upstream::{Check, Upstream};
use std::borrow::Borrow;
use std::time::Duration;

impl<R: Borrow<Region>> Table<R> {
    /// Gives an upstream the check that `next` makes of the one that is set; `None`: it has none.
    ///
    /// In all else the upstream follows its file as before.
    ///
    /// # Errors
    ///
    /// Those of `next`, and as for any change; the check is as it was.
    pub fn set_check(
        &self,
        name: &str,
        next: impl Fn(Option<&Check>) -> Result<Option<Check>>,
        wait: Duration,
    ) -> Result<()> {
        self.edit(name, wait, |stored| {
            let Stored { upstream: old, flags, .. } = visible(stored).ok_or_else(|| no_upstream(name))?;
            let check = next(old.check.as_ref())?;
            // Every worker may say the same when it starts.
            if old.own_check && check == old.check && flags.has(Flags::CHECK_BY_HAND) {
                return Ok(Edit::Keep);
            }
            let new = Upstream { check, own_check: true, ..old };
            new.check_port()?;
            Ok(Edit::Put(new, flags.with(Flags::CHECK_BY_HAND)))
        })
    }

    /// Has all upstreams that have no check of their own follow the default.
    ///
    /// # Errors
    ///
    /// [`Code::Changing`](crate::error::Code::Changing): changes met each of 16 reads of one upstream.
    /// [`Code::Damaged`](crate::error::Code::Damaged): a word lies outside of the region.
    /// Those of [`Table::edit`]; the upstreams before the one that fails follow the default.
    pub fn spread_default_check(&self, wait: Duration) -> Result<()> {
        let (mem, default) = (self.region().mem(), self.default_check());
        let differs = |view: &View| {
            let has_default = view.own_check
                || view.flags.has(Flags::DELETED)
                || view.checks(mem)?.map(|(check, _)| check) == default;
            Ok(if has_default { None } else { Some(view.name(mem)?) })
        };
        let mut names = Vec::new();
        let directory = Directory::new(self.region());
        let mut left = 2 * mem.words();
        for record in directory.taken()? {
            match directory.look_within(record, &mut left, differs) {
                // A caller that needs this upstream gets the error.
                Err(Unread::Damaged) => {}
                found => names.extend(found?.flatten()),
            }
        }
        for name in names {
            self.edit(&name, wait, |stored| match visible(stored) {
                Some(Stored { upstream, flags, .. }) if !upstream.own_check && upstream.check != default => {
                    Ok(Edit::Put(Upstream { check: default.clone(), ..upstream }, flags))
                }
                _ => Ok(Edit::Keep),
            })
            .map_err(|error| error.within(format!("upstream {name}")))?;
        }
        Ok(())
    }
}
