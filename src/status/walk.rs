//! A walk over all names of a table, in slices: first it learns the names, then it has one after the other.

use crate::error::Result;
use crate::pace::Pace;
use crate::shm::Memory;
use crate::shm::layout::state;
use crate::table::copy::{Copied, Copy, Copying};
use crate::table::directory::Directory;
use crate::table::snapshot::{Flags, Kind, View};
use crate::table::store::Table;
use std::collections::BTreeSet;
use std::time::Duration;

/// The order of the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By name.
    Name,
    /// In the order in which they were made.
    Made,
}

/// The walk.
#[derive(Debug)]
pub struct Walk<'a> {
    table: &'a Table,
    kind: Kind,
    order: Order,
    /// The next record whose name is to be learned; `None`: all are known.
    next: Option<u32>,
    /// Words that the rest may claim, see [`Directory::each`].
    words: usize,
    /// Names that come, each behind the number of the change that made it, or 0.
    names: BTreeSet<(u64, String)>,
    copying: Option<Copying<'a>>,
    /// The number of the table's last change when it began; `None`: one was under way.
    began: Option<u64>,
}

/// The number of the last change; `None`: one is under way.
fn settled(table: &Table) -> Result<Option<u64>> {
    if let Some(sequence) = table.settled()? {
        return Ok(Some(sequence));
    }
    // The mark of a change stays where its writer has died, until the next writer. A dead one has no lock.
    let is_dead = table.region().writer(Duration::ZERO).is_ok();
    Ok(if is_dead { Some(table.region().mem().load(state::SEQUENCE)?) } else { None })
}

/// The next step of a walk.
#[derive(Debug)]
pub enum Step<T> {
    /// The next one.
    Next(T),
    /// The slice is over.
    Pause,
    /// There is none any more.
    End,
}

impl<'a> Walk<'a> {
    /// Over all names of this kind.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Damaged`]: a word lies outside of the region.
    pub fn over(table: &'a Table, kind: Kind, order: Order) -> Result<Self> {
        let (names, words) = (BTreeSet::new(), 2 * table.region().mem().words());
        Ok(Walk { table, kind, order, next: Some(0), words, names, copying: None, began: settled(table)? })
    }

    /// Over one upstream.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::NotFound`]: there is none of this name. Those of reading it.
    pub fn to(table: &'a Table, name: &str) -> Result<Self> {
        table.upstream_exists(name)?;
        let walk = Walk::over(table, Kind::UPSTREAM, Order::Name)?;
        Ok(Walk { next: None, names: [(0, name.to_owned())].into(), ..walk })
    }

    /// Whether any upstream or route may have changed since the walk began.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Damaged`]: a word lies outside of the region.
    pub fn is_outdated(&self) -> Result<bool> {
        Ok(self.began.is_none() || settled(self.table)? != self.began)
    }

    /// The next name.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Changing`], [`crate::error::Code::Damaged`]: a name cannot be read.
    pub fn name(&mut self, pace: &mut Pace) -> Result<Step<String>> {
        let (directory, mem) = (Directory::new(self.table.region()), self.table.region().mem());
        while let Some(record) = self.next {
            if record >= directory.used_records()? {
                self.next = None;
                break;
            } else if !pace.step() {
                return Ok(Step::Pause);
            }
            let name = |view: &View| {
                Ok(if view.flags.has(Flags::DELETED) { None } else { Some((view.created, view.name(mem)?)) })
            };
            let found = directory.look_of(self.kind, record, &mut self.words, name)?.flatten();
            self.names.extend(found.map(|(made, name)| (if self.order == Order::Made { made } else { 0 }, name)));
            self.next = Some(record + 1);
        }
        while let Some((made, name)) = self.names.pop_first() {
            if !pace.step() {
                self.names.insert((made, name));
                return Ok(Step::Pause);
            }
            // One that was deleted and made again meanwhile may have been met twice. It counts where it was made last.
            let is_it = |(_, view): &(u32, View)| view.created == made;
            if made == 0 || directory.find_of(self.kind, name.as_bytes())?.as_ref().is_some_and(is_it) {
                return Ok(Step::Next(name));
            }
        }
        Ok(Step::End)
    }

    /// The next upstream, whole.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Changing`], [`crate::error::Code::Damaged`]: an upstream cannot be read.
    pub fn upstream(&mut self, pace: &mut Pace) -> Result<Step<Copied>> {
        loop {
            if self.copying.is_none() {
                match self.name(pace)? {
                    Step::Next(name) => self.copying = Some(Copying::of(self.table, &name)),
                    Step::Pause => return Ok(Step::Pause),
                    Step::End => return Ok(Step::End),
                }
            }
            let Some(copying) = &mut self.copying else { continue };
            match copying.go_on(pace)? {
                Copy::Begun => return Ok(Step::Pause),
                Copy::Whole(copied) => {
                    self.copying = None;
                    return Ok(Step::Next(*copied));
                }
                // It was deleted since its name was learned.
                Copy::Gone => self.copying = None,
            }
        }
    }
}
