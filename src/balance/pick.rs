//! One pick: from an upstream's name and a key to a peer, without a lock, a system call or an allocation.
//!
//! A [`Handle`] remembers the place of its upstream and the fields of its header, as of one stamp. As long as the stamp is the
//! record's, a pick is: the stamp, the method's own few words, the stamp again.

use super::attempt::Account;
use super::debt::Debt;
use super::group::Promises;
use super::miss::Miss;
use super::once::{One, Quick, Walk};
pub use super::picked::Picked;
use super::starters::Starters;
use super::tried::MAX_TRIED;
pub use super::tried::Tried;
use super::usable::Set;
use crate::random::Random;
use crate::shm::clock::now_ms;
use crate::shm::layout::Geometry;
use crate::shm::versioned::TRIES;
use crate::shm::{Cells, Damaged, Memory, Stamp};
use crate::state::usable::Bit;
use crate::table::Record;
use crate::table::directory::Directory;
use crate::table::snapshot::{Flags, View};
use crate::table::store::Table;
use crate::upstream::Method;
use std::cell::RefCell;
use std::time::Duration;

/// The request for a pick.
#[derive(Debug, Default)]
pub struct Ask<'a> {
    /// The bytes that chash hashes; `None` or empty: rr, as in nginx.
    pub key: Option<&'a [u8]>,
    /// `None`: the upstream's own method, else chash with a key and rr without.
    pub method: Option<Method>,
    /// The peers to pass over. The pick adds its peer.
    pub tried: Option<&'a mut Tried>,
    /// Keep the data that counting with the peer needs: [`Handle::account`].
    pub counts: bool,
}

/// An upstream's name and its last known place and header. A handle belongs to one thread.
#[derive(Debug)]
pub struct Handle {
    name: Box<[u8]>,
    record: Record,
    view: View,
    /// The usable peers of each group; then all peers; and then the usable peers that are steady.
    sets: RefCell<[Set; 6]>,
    /// The peers of each group that are in their slow start.
    starters: RefCell<[Starters; 2]>,
    random: Random,
    account: Account,
    promises: Promises,
    debt: Debt,
    /// One bit a peer: its text was given out since the stamp changed.
    given: Vec<u64>,
}

impl Handle {
    /// A handle for `name`, whether or not there is such an upstream yet.
    pub fn new(name: &[u8]) -> Self {
        Handle {
            name: name.into(),
            record: Record::default(),
            sets: RefCell::default(),
            starters: RefCell::default(),
            view: View::default(),
            account: Account::default(),
            promises: Promises::default(),
            debt: Debt::default(),
            random: Random::new(now_ms() << 32 ^ u64::from(std::process::id())),
            given: Vec::new(),
        }
    }

    /// The name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Picks a peer. Returns its index, good for this version of the upstream only; the rest is in `out`.
    ///
    /// With `cached`, nothing is written (`fresh` 0) when this handle has answered the same index before and the upstream has
    /// not changed since. A caller that keeps the texts by index need not make them again.
    ///
    /// # Errors
    ///
    /// - [`Miss::NotFound`]: no upstream has the name.
    /// - [`Miss::NoPeer`]: the upstream has no peer that configuration lets pick.
    /// - [`Miss::AllTried`]: the request has tried all peers that may be picked, or 64 peers.
    /// - [`Miss::AllFull`]: the same, but a peer that it has not tried has as many connections open as it may.
    /// - [`Miss::NoRing`]: chash would walk too far: there is no ring, or most peers on it cannot be picked.
    /// - [`Miss::Changing`]: changes met each of 16 tries, or other workers have become the trials of too many peers.
    /// - [`Miss::Damaged`]: the table makes no sense.
    #[inline(always)]
    pub fn pick(&mut self, table: &Table, ask: Ask<'_>, cached: bool, out: &mut Picked) -> Result<u32, Miss> {
        let Ask { key, method, mut tried, counts } = ask;
        let region = table.region();
        let (mem, geometry, cells) = (region.mem(), region.geometry(), region.cells());
        let ask = Ask { key, method, tried: tried.as_deref_mut(), counts };
        match self.pick_within(mem, geometry, cells, ask, cached, true, out) {
            Err(Miss::NoRing) => self.pick_with_ring(table, Ask { key, method, tried, counts }, cached, out),
            picked => picked,
        }
    }

    /// Builds the ring first, if the writer lock is free at once, since lookups without it have cost as much by now, or are
    /// refused. Otherwise they go on, and the next pick tries again.
    #[cold]
    #[inline(never)]
    fn pick_with_ring(&mut self, table: &Table, ask: Ask<'_>, cached: bool, out: &mut Picked) -> Result<u32, Miss> {
        if !self.debt.may_build() {
            return Err(Miss::NoRing);
        }
        let name = String::from_utf8_lossy(&self.name);
        let built = table.build_ring(&name, Duration::ZERO);
        self.debt.built(&built);
        let is_built = built.is_ok();
        table.lacks_ring(&name, built.err());
        let region = table.region();
        let picked = self.pick_within(region.mem(), region.geometry(), region.cells(), ask, cached, false, out);
        if is_built && picked == Err(Miss::NoRing) {
            // There is a ring, and it does not help.
            self.debt.rest();
        }
        picked
    }

    /// Looks whether its upstream is still there. True: it has changed since the last pick or look, so that no text that was given out
    /// since then is one of this version.
    ///
    /// # Errors
    ///
    /// - [`Miss::NotFound`]: no upstream has the name.
    /// - [`Miss::Changing`]: changes met each of 16 reads.
    /// - [`Miss::Damaged`]: the table makes no sense.
    pub fn look(&mut self, table: &Table) -> Result<bool, Miss> {
        let region = table.region();
        let stamp = self.view.stamp;
        if stamp != Stamp::default() && self.record.stamp(region.mem()) == Ok(stamp) {
            return Ok(false);
        }
        self.find(region.mem(), region.geometry())?;
        Ok(true)
    }

    /// Whether the method hashes the address of the client: then a pick wants that as its key.
    pub fn wants_client(&mut self, table: &Table, method: Option<Method>) -> bool {
        let region = table.region();
        if method.is_none() && self.record.stamp(region.mem()) != Ok(self.view.stamp) {
            // The pick reports an error.
            let _ = self.find(region.mem(), region.geometry());
        }
        method.or(self.view.method) == Some(Method::IpHash)
    }

    /// The data that counting with the last picked peer needs, if [`Ask::counts`] was set.
    pub fn account(&self) -> Account {
        self.account
    }

    /// [`Handle::pick`] from the table in `mem`.
    ///
    /// # Errors
    ///
    /// As [`Handle::pick`]. It builds no ring: [`Miss::NoRing`] where a lookup without one would take too long.
    #[inline(always)]
    pub fn pick_in(
        &mut self,
        mem: &impl Memory,
        geometry: &Geometry,
        cells: Option<Cells<'_, impl Memory>>,
        ask: Ask<'_>,
        cached: bool,
        out: &mut Picked,
    ) -> Result<u32, Miss> {
        self.pick_within(mem, geometry, cells, ask, cached, false, out)
    }

    /// With `builds`, [`Miss::NoRing`] also says that lookups without a ring have cost enough: the caller builds it.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn pick_within(
        &mut self,
        mem: &impl Memory,
        geometry: &Geometry,
        cells: Option<Cells<'_, impl Memory>>,
        mut ask: Ask<'_>,
        cached: bool,
        builds: bool,
        out: &mut Picked,
    ) -> Result<u32, Miss> {
        if ask.tried.as_ref().is_some_and(|tried| tried.count as usize >= MAX_TRIED) {
            return Err(Miss::AllTried);
        }
        for _ in 0..TRIES {
            let stamp = self.record.stamp(mem).unwrap_or_default();
            if stamp != self.view.stamp || stamp == Stamp::default() {
                self.find(mem, geometry)?;
                continue;
            }
            let picked = self.pick_once(mem, cells, &ask, cached, builds, out);
            let holds = self.record.holds(mem, stamp)?;
            if self.promises.some {
                self.settle(cells, holds && picked.is_ok())?;
            }
            if holds {
                let index = picked?;
                if out.fresh != 0 && cached && !ask.counts {
                    self.gave(index);
                }
                if let Some(tried) = &mut ask.tried {
                    tried.push(out.ident);
                }
                return Ok(index);
            }
        }
        Err(Miss::Changing)
    }

    /// Keeps the promises of a pick, now that it is known whether the pick holds. A worker that slept until here may have
    /// looked at a cell that another peer has by now.
    #[cold]
    fn settle(&mut self, cells: Option<Cells<'_, impl Memory>>, holds: bool) -> Result<(), Damaged> {
        let Promises { trial, took, .. } = std::mem::take(&mut self.promises);
        match (cells, trial, took) {
            (Some(cells), _, Some((turn, count))) if holds => cells.take_turn(turn, count),
            (Some(cells), Some(trial), _) if !holds => trial.give_back(&cells),
            _ => Ok(()),
        }
    }

    /// Looks the name up anew.
    #[cold]
    fn find(&mut self, mem: &impl Memory, geometry: &Geometry) -> Result<(), Miss> {
        let (record, view) = Directory::over(mem, geometry).find(&self.name)?.ok_or(Miss::NotFound)?;
        if view.flags.has(Flags::DELETED) {
            return Err(Miss::NotFound);
        }
        self.record = Record::numbered(geometry, record);
        self.view = view;
        self.given.clear();
        self.given.resize((view.peers as usize).div_ceil(64), 0);
        Ok(())
    }

    #[inline(always)]
    fn pick_once<C: Memory>(
        &mut self,
        mem: &impl Memory,
        cells: Option<Cells<'_, C>>,
        ask: &Ask<'_>,
        cached: bool,
        builds: bool,
        out: &mut Picked,
    ) -> Result<u32, Miss> {
        // Taken apart: the view is looked at where it lies while the others change.
        let Handle { view, sets, starters, random, account, given, record, promises, debt, .. } = self;
        let (view, record) = (&*view, *record);
        // As nginx: without a key, or with an empty one, there is nothing to hash.
        let key = ask.key.unwrap_or_default();
        let method = match ask.method.or(view.method) {
            Some(Method::Chash | Method::IpHash) | None if key.is_empty() => Method::Rr,
            Some(method) => method,
            None => Method::Chash,
        };
        let tried = ask.tried.as_deref();
        let has_failures = record.failures(mem)?.any();
        let careful = view.limited || tried.is_some() || has_failures;
        let one = One {
            mem,
            view,
            cells,
            sets,
            starters,
            tried,
            careful,
            has_failures,
            counts: ask.counts,
            record,
            debt,
            builds,
        };
        let quick = match method {
            Method::Rr => one.rr()?,
            Method::Chash => one.chash(key)?,
            other => Quick::Walk(Walk::Other(other)),
        };
        let (index, wants_ring) = match quick {
            Quick::Index(index) => (index, false),
            Quick::Walk(walk) => one.slowly(walk, key, random, promises)?,
        };
        if ask.counts {
            let trial = promises.trial;
            let usable = if trial.is_some() { view.usable_bit(mem, index)? } else { Bit::default() };
            *account = Account { record, trial, usable, ..one.account(index)? };
        }
        // A caller that keeps a set of tried peers needs the identity of this one.
        if cached && !wants_ring && tried.is_none() && was_given(given, index) {
            out.fresh = 0;
        } else {
            one.write_out(index, wants_ring, out)?;
        }
        Ok(index)
    }

    /// The caller that keeps texts by index has got the text of this peer. A pick that counts does not say so by itself, since
    /// it may be thrown away, and the text with it.
    pub fn gave(&mut self, index: u32) {
        if let Some(bits) = self.given.get_mut(index as usize / 64) {
            *bits |= 1 << (index % 64);
        }
    }
}

#[inline(always)]
fn was_given(given: &[u64], index: u32) -> bool {
    given.get(index as usize / 64).is_some_and(|bits| bits >> (index % 64) & 1 == 1)
}
