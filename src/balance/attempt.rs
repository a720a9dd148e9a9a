//! The effect of a try on the cell of its peer: the try is counted there, and its end makes the peer better or worse.
//!
//! No lock is taken. Other workers may count, pick, heal or give the cell to another peer at the same time. So each stores
//! first and looks afterwards, never the other way round.

use super::outcome::Outcome;
use crate::shm::clock::now_ms;
use crate::shm::history::History;
use crate::shm::versioned::TRIES;
use crate::shm::{Cells, Damaged, Mem, Memory};
use crate::state::events::{Cause, Standing, remember};
use crate::state::failures::{Fitness, Health, Limits, Tenths, tenths};
use crate::state::slow_start;
use crate::state::usable::Bit;
use crate::stats::place::Places;
use crate::table::{Record, Table};

/// The data that counting with a peer needs, as of the version that it was picked from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Its cell; 0: it has none.
    pub cell: u32,
    /// How it fared then. Another peer may have the cell by the time that this one is counted.
    pub health: Health,
    /// The identity of its address.
    pub ident: u64,
    /// Most connections that may be open to it; 0: any number.
    pub max_conns: u32,
    /// The limits that take it out.
    pub limits: Limits,
    /// Seconds that its slow start takes; 0: it has none.
    pub slow_start: u32,
    /// This is the one trial of a peer that is out.
    pub trial: Option<Trial>,
    /// The bit by which that peer is usable again once the trial has ended well.
    pub usable: Bit,
    /// The number of the change that made its upstream.
    pub created: u64,
    /// How many peers of its upstream take traffic.
    pub serving: u32,
    /// The place of its upstream.
    pub record: Record,
}

/// A try that is under way.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// The data of its peer.
    pub account: Account,
    /// When it began, in milliseconds since the boot.
    pub began_ms: u64,
    /// Its number among the tries that nginx has of the request, if that is known.
    pub number: Option<u32>,
    /// Another try of its request came before it.
    pub retry: bool,
    /// The slot in whose row it is counted.
    counted: Option<u32>,
}

/// Where peers are counted.
#[derive(Debug)]
pub struct Counters<'a, M> {
    /// The region.
    pub mem: &'a M,
    /// Beside it.
    pub cells: Option<Cells<'a, M>>,
    /// The history, which gets an event where a peer goes out or comes back.
    pub history: Option<History<'a, M>>,
    /// The statistics; none where they are off.
    pub places: Option<Places<'a, M>>,
    /// Since the boot.
    pub now_ms: u64,
}

impl<'a> Counters<'a, Mem> {
    /// The counters of `table`, at this time.
    pub fn of(table: &'a Table) -> Self {
        let region = table.region();
        let (cells, history, places) = (region.cells(), region.history(), Places::of(region));
        Counters { mem: region.mem(), cells, history, places, now_ms: now_ms() }
    }
}

impl<M: Memory> Counters<'_, M> {
    /// Counts a connection to a peer that was picked. `None`: it was deleted since then, and another peer has its cell.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the cell of the peer, or the place of its upstream, lies outside of the mapping.
    pub fn begin(&self, account: Account, slot: Option<u32>) -> Result<Option<Attempt>, Damaged> {
        let mut trying = Attempt { account, began_ms: self.now_ms, number: None, retry: false, counted: None };
        let Some(cells) = self.cells.filter(|_| account.cell != 0) else { return Ok(Some(trying)) };
        if let Some(slot) = slot {
            trying.counted = cells.count_in(slot, account.cell, true)?.then_some(slot);
        }
        // Between the pick and here, this worker may have slept for any time. A writer marks that a cell begins anew, and then
        // looks whether a worker counts. Either it sees that this one does, or this one sees the mark.
        self.mem.fence();
        if Health(cells.health(account.cell)?).generation() != account.health.generation() {
            self.end(&trying, Outcome::Unknown)?;
            return Ok(None);
        }
        Ok(Some(trying))
    }

    /// Whether its peer has more connections than it may, now that this try is counted.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the cell of the peer lies outside of the mapping.
    pub fn is_crowded(&self, trying: &Attempt) -> Result<bool, Damaged> {
        let Account { cell, max_conns, .. } = trying.account;
        match self.cells {
            Some(cells) if max_conns != 0 && trying.counted.is_some() => {
                // There was a fence since it was counted. So of two workers that do so, one at least sees the other.
                Ok(cells.open(cell)? > max_conns.into())
            }
            _ => Ok(false),
        }
    }

    /// Ends a try: its connection counts no more, and its outcome changes the health of its peer.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the cell of the peer, or the place of its upstream, lies outside of the mapping.
    pub fn end(&self, trying: &Attempt, outcome: Outcome) -> Result<(), Damaged> {
        let Some(cells) = self.cells.filter(|_| trying.account.cell != 0) else { return Ok(()) };
        if let Some(slot) = trying.counted {
            cells.count_in(slot, trying.account.cell, false)?;
        }
        match outcome {
            Outcome::Unknown => Ok(()),
            Outcome::Success => self.succeeded(&cells, trying),
            Outcome::Failure => self.failed(&cells, trying),
        }
    }

    /// Gives back the trial that this try was to be. Another request may make it.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the cell of the peer, or the place of its upstream, lies outside of the mapping.
    pub fn give_back_trial(&self, trying: &Attempt) -> Result<(), Damaged> {
        match (self.cells, trying.account.trial) {
            (Some(cells), Some(trial)) => {
                trial.give_back(&cells)?;
                self.mem.fence();
                self.set_usable(&cells, trying)
            }
            _ => Ok(()),
        }
    }

    fn succeeded(&self, cells: &Cells<'_, M>, trying: &Attempt) -> Result<(), Damaged> {
        let word = cells.health(trying.account.cell)?;
        match Health(word).succeeded(trying.account.health) {
            // A worker that changes it at the same time knows better.
            Some(well) => {
                let was_out = Health(word).is_out(trying.account.limits);
                let starts = was_out && trying.account.slow_start != 0;
                if starts {
                    slow_start::begin(cells, trying.account.cell, well.generation(), tenths(self.now_ms))?;
                }
                let is_it = cells.set_health(trying.account.cell, word, well.0)?;
                self.mem.fence();
                self.set_usable(cells, trying)?;
                if starts {
                    trying.account.record.mark_start(self.mem)?;
                }
                if is_it && was_out {
                    self.remember(cells, trying, [Standing::Unavail, Standing::Up], "a trial request succeeded".into());
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Lets picks look at a peer again that its one trial has brought back.
    fn set_usable(&self, cells: &Cells<'_, M>, trying: &Attempt) -> Result<(), Damaged> {
        let Account { usable, record, .. } = trying.account;
        record.change_usable(self.mem, cells, usable, true).map(|_| ())
    }

    fn failed(&self, cells: &Cells<'_, M>, trying: &Attempt) -> Result<(), Damaged> {
        let Account { cell, limits, record, .. } = trying.account;
        if limits.max_fails == 0 {
            return Ok(());
        }
        let tell = || record.mark_failure(self.mem);
        // Before, since this worker may die between the two. And after, since a worker that has just found the upstream well
        // keeps the upstream so: it read this number first.
        tell()?;
        let mut is_now_out = None;
        // With each time that it fails, another worker has counted a failure.
        for _ in 0..TRIES {
            let word = cells.health(cell)?;
            if Health(word).generation() != trying.account.health.generation() {
                return Ok(());
            }
            let failed = Health(word).failed(tenths(self.now_ms));
            if cells.set_health(cell, word, failed.0)? {
                is_now_out = Some(failed).filter(|failed| failed.is_out(limits) && !Health(word).is_out(limits));
                break;
            }
        }
        self.mem.fence();
        tell()?;
        if let Some(failed) = is_now_out {
            let (fails, s) = (failed.fails(), if failed.fails() == 1 { "" } else { "s" });
            let text = format!("{fails} failed request{s}: out for {} s", limits.fail_timeout);
            self.remember(cells, trying, [Standing::Up, Standing::Unavail], text);
        }
        Ok(())
    }

    fn remember(&self, cells: &Cells<'_, M>, trying: &Attempt, turn: [Standing; 2], text: String) {
        let Account { cell, health, .. } = trying.account;
        if let Some(history) = &self.history {
            remember(history, cells, cell, turn, Cause::Requests, text);
        }
        if let Some(places) = &self.places {
            places.turned(cell, health.generation(), turn);
        }
    }
}

/// The one trial of a peer, which a request makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The cell of the peer.
    pub cell: u32,
    /// The word of the cell that states the trial.
    pub word: Health,
    /// The limits that have the peer out.
    pub limits: Limits,
}

impl Trial {
    /// Gives back a trial that no request makes. Another request may make it.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the cell lies outside of the mapping.
    pub fn give_back<M: Memory>(self, cells: &Cells<'_, M>) -> Result<(), Damaged> {
        // A worker that changes it at the same time knows better.
        cells.set_health(self.cell, self.word.0, self.word.given_back(self.limits).0).map(|_| ())
    }
}

/// The verdict of a pick about a peer that fitted when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// Nothing: another worker has become its one trial.
    No,
    /// Send a request.
    Yes,
    /// Send a request, the only one until it is known how that ended. The cell says so by this word.
    Trial(Health),
}

/// Takes the peer with this cell for a request.
///
/// # Errors
///
/// [`Damaged`]: the cell lies outside of the mapping.
pub fn claim<M: Memory>(cells: &Cells<'_, M>, cell: u32, limits: Limits, now: Tenths) -> Result<Claimed, Damaged> {
    let word = cells.health(cell)?;
    Ok(match Health(word).fitness(limits, now) {
        Fitness::Well => Claimed::Yes,
        Fitness::Out => Claimed::No,
        Fitness::Trial { claim, out } => match (cells.set_health(cell, word, claim.0)?, out) {
            (true, true) => Claimed::Trial(claim),
            (_, false) => Claimed::Yes,
            (false, true) => Claimed::No,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::pick::{Ask, Handle, Picked};
    use crate::upstream::{Address, Peer, Upstream};
    use std::time::Duration;

    #[test]
    fn who_sleeps_between_the_pick_and_the_count_counts_with_nobody_else() {
        let dir = std::env::temp_dir().join(format!("dyups-request-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("room");
        let (table, _) = Table::open(&dir.join("region"), 256 << 10).expect("room");
        let set = |servers: &[&str]| {
            let peers = servers.iter().map(|server| Peer::new(Address::from_server(server).expect("one"))).collect();
            table.set_upstream(&Upstream { name: "api".into(), peers, ..Upstream::default() }, Duration::from_secs(1))
        };
        set(&["10.0.0.1:80"]).expect("room");
        let cells = table.region().cells();
        cells.expect("some").activate(3).expect("room");
        let (mut handle, mut picked) = (Handle::new(b"api"), Picked::default());
        handle.pick(&table, Ask { counts: true, ..Ask::default() }, true, &mut picked).expect("one");
        let account = handle.account();
        let counters = Counters { mem: table.region().mem(), cells, history: None, places: None, now_ms: 5000 };
        for slot in [None, Some(3)] {
            assert!(
                counters
                    .begin(account, slot)
                    .is_ok_and(|trying| trying.is_some_and(|trying| counters.end(&trying, Outcome::Failure).is_ok()))
            );
        }
        set(&[]).expect("room");
        set(&["10.0.0.2:80"]).expect("room");
        let cells = cells.expect("some");
        let is_another_s = || {
            for slot in [None, Some(3)] {
                assert!(counters.begin(account, slot).is_ok_and(|trying| trying.is_none()));
            }
        };
        is_another_s();
        // As if it had slept while 65,000 peers came and went; and then a few more do.
        let word = cells.health(account.cell).expect("a cell");
        assert_eq!(cells.set_health(account.cell, word, u64::MAX << 48), Ok(true));
        for _ in 0..3 {
            set(&[]).expect("room");
            set(&["10.0.0.3:80"]).expect("room");
            is_another_s();
        }
        assert_eq!(
            (cells.open(account.cell), cells.health(account.cell).map(|word| Health(word).fails())),
            (Ok(0), Ok(0))
        );
        std::fs::remove_dir_all(&dir).expect("ours");
    }
}
