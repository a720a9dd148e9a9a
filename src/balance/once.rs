//! One try of a pick, under one stamp: first the quick way, and where that finds no peer, group by group.

use super::attempt::Account;
use super::candidates::Candidates;
use super::debt::Debt;
use super::group::{InGroup, Notes, Promises};
use super::miss::Miss;
use super::picked::Picked;
use super::starters::Starters;
use super::tried::Tried;
use super::usable::Set;
use super::{ip_hash, least_conn, random};
use crate::order::chash;
use crate::random::Random;
use crate::shm::clock::now_ms;
use crate::shm::{Cells, Damaged, Memory};
use crate::state::failures::{Fitness, Health, Tenths};
use crate::state::verdict::Verdict;
use crate::table::Record;
use crate::table::snapshot::{Group, RingWords, View};
use crate::upstream::Method;
use std::cell::RefCell;

/// One try under one stamp.
pub(super) struct One<'a, M, C> {
    pub(super) mem: &'a M,
    pub(super) view: &'a View,
    pub(super) cells: Option<Cells<'a, C>>,
    pub(super) sets: &'a RefCell<[Set; 6]>,
    pub(super) starters: &'a RefCell<[Starters; 2]>,
    pub(super) tried: Option<&'a Tried>,
    /// Some peer may have to be passed over.
    pub(super) careful: bool,
    /// Some peer may be out.
    pub(super) has_failures: bool,
    /// The end of the request will be known, so it may be a trial.
    pub(super) counts: bool,
    /// The place of the upstream.
    pub(super) record: Record,
    /// The account of lookups without a ring, and whether a lookup is refused when they have cost enough.
    pub(super) debt: &'a Debt,
    pub(super) builds: bool,
}

/// The result of the first look at the primaries.
pub(super) enum Quick {
    /// The peer: nothing was tried, and there is one to pick.
    Index(u32),
    /// Anything else: the walk goes on from here, and passes over peers that must not be picked.
    Walk(Walk),
}

#[derive(Clone, Copy)]
pub(super) enum Walk {
    Rr,
    Chash(u32),
    Other(Method),
}

/// The walk of one pick, and the things that it draws from.
pub(super) struct Walker<'a> {
    walk: Walk,
    key: &'a [u8],
    pub(super) random: &'a mut Random,
    /// Its turn of the round robin, once one was needed.
    turn: Option<u64>,
    wants_ring: bool,
}

impl Walker<'_> {
    /// The method, where peers that start slowly have a part of their share by it. By the hash of a key they have all their keys at once:
    /// a key that went back and forth for a while would be cached nowhere.
    pub(super) fn starts_slowly(&self) -> Option<Method> {
        match self.walk {
            Walk::Rr => Some(Method::Rr),
            Walk::Other(method @ (Method::LeastConn | Method::Random | Method::RandomTwo)) => Some(method),
            Walk::Chash(_) | Walk::Other(_) => None,
        }
    }

    /// A peer of the group.
    pub(super) fn pick<M: Memory, C: Memory>(&mut self, among: &InGroup<'_, M, C>) -> Result<Option<u32>, Miss> {
        match self.walk {
            Walk::Chash(hash) => among.chash(hash, &mut self.wants_ring),
            Walk::Other(Method::LeastConn) => least_conn::pick(among, self.turn(among.one)?, self.random),
            Walk::Other(Method::RandomTwo) => match random::two(among, self.random)? {
                None => random::one(among, self.random),
                some => Ok(some),
            },
            Walk::Other(Method::Random) => random::one(among, self.random),
            Walk::Other(Method::IpHash) => ip_hash::pick(among, self.key, self.turn(among.one)?),
            Walk::Rr | Walk::Other(Method::Rr | Method::Chash) => among.take_in_turn(self.turn(among.one)?),
        }
    }

    /// Its turn, which is taken when it is needed. So peers that start slowly take none, and the others go on exactly.
    fn turn<M: Memory, C: Memory>(&mut self, one: &One<'_, M, C>) -> Result<u64, Miss> {
        let turn = match (self.turn, self.walk) {
            (Some(turn), _) => turn,
            (None, Walk::Rr) => one.turn_of_rr()?,
            (None, _) => one.record.take_turn(one.mem)?,
        };
        self.turn = Some(turn);
        Ok(turn)
    }
}

impl<M: Memory, C: Memory> One<'_, M, C> {
    #[inline(always)]
    pub(super) fn rr(&self) -> Result<Quick, Miss> {
        let schedule = &self.view.schedules[Group::Primary as usize];
        if schedule.len == 0 || self.careful {
            return Ok(Quick::Walk(Walk::Rr));
        }
        let position = (self.turn_of_rr()? % u64::from(schedule.len)) as u32;
        Ok(Quick::Index(self.view.scheduled(self.mem, schedule, position)?))
    }

    #[inline(always)]
    fn turn_of_rr(&self) -> Result<u64, Miss> {
        let start = self.view.schedules[Group::Primary as usize].start;
        Ok(self.record.take_turn(self.mem)?.wrapping_add(start.into()))
    }

    #[inline(always)]
    pub(super) fn chash(&self, key: &[u8]) -> Result<Quick, Miss> {
        let hash = chash::key_hash(key);
        let ring = &self.view.rings[Group::Primary as usize];
        if ring.block == 0 || self.careful {
            return Ok(Quick::Walk(Walk::Chash(hash)));
        }
        let words = RingWords::new(self.mem, ring);
        let position = chash::successor(&words, ring.shape, hash).ok_or(Damaged)?;
        let index = chash::peer_at(&words, ring.shape, position).ok_or(Damaged)?;
        Ok(Quick::Index(self.in_view(index)?))
    }

    /// A pick with peers to pass over, without a ring, among backups, or by a method that looks at more than one.
    #[cold]
    pub(super) fn slowly(
        &self,
        walk: Walk,
        key: &[u8],
        random: &mut Random,
        promises: &mut Promises,
    ) -> Result<(u32, bool), Miss> {
        let mut walker = Walker { walk, key, random, turn: None, wants_ring: false };
        let notes = Notes::default();
        let index = self.groups(&notes, &mut walker)?;
        let (trial, took) = (notes.trial.get(), notes.took.get());
        *promises = Promises { some: trial.is_some() || took.is_some(), trial, took };
        Ok((index, walker.wants_ring))
    }

    pub(super) fn account(&self, index: u32) -> Result<Account, Miss> {
        let (max_conns, limits) = self.view.limits(self.mem, self.in_view(index)?)?;
        let (cell, ident) = (self.view.cell(self.mem, index)?, self.view.ident(self.mem, index)?);
        let health = match self.cells {
            Some(cells) if cell != 0 => Health(cells.health(cell)?),
            _ => Health::default(),
        };
        let (created, serving) = (self.view.created, self.view.serving);
        let slow_start = if self.view.slow_starts { self.view.slow_start(self.mem, index)? } else { 0 };
        Ok(Account { cell, health, ident, max_conns, limits, slow_start, created, serving, ..Account::default() })
    }

    #[inline(never)]
    pub(super) fn write_out(&self, index: u32, wants_ring: bool, out: &mut Picked) -> Result<(), Miss> {
        out.fresh = 1;
        out.wants_ring = i32::from(wants_ring);
        out.peers = self.view.peers as i32;
        out.ident = self.view.ident(self.mem, index)?;
        out.len = self.view.text(self.mem, index, &mut out.text)? as i32;
        Ok(())
    }

    /// Asks the primaries, then the backups. Where all are out, it asks all of them again, since none is known to be better. It
    /// does not where one is well, though full or tried.
    pub(super) fn groups(&self, notes: &Notes, walker: &mut Walker<'_>) -> Result<u32, Miss> {
        let now_ms = now_ms();
        let mut some = false;
        let panics = self.panics(notes, now_ms)?;
        for lenient in [false, true] {
            if notes.well.get() {
                break;
            }
            if panics && !lenient {
                continue;
            }
            for group in Group::ALL {
                if self.view.schedules[group as usize].len != 0 {
                    some = true;
                    let among = InGroup { one: self, group, now_ms, lenient, notes, without: None };
                    let slowly = if lenient { None } else { among.slowly_started(walker)? };
                    if let Some(index) = slowly {
                        return Ok(index);
                    }
                    if let Some(index) = walker.pick(&among)? {
                        return Ok(index);
                    }
                }
            }
        }
        Err(match (some, notes.full.get()) {
            (false, _) => Miss::NoPeer,
            (true, true) => Miss::AllFull,
            (true, false) => Miss::AllTried,
        })
    }

    /// Whether fewer percent of the primaries that take traffic are usable than `panic_threshold`, but one at least. With none,
    /// the backups are asked, and then all.
    pub(super) fn panics(&self, notes: &Notes, now_ms: u64) -> Result<bool, Miss> {
        let threshold = u64::from(self.view.panic_threshold);
        if threshold == 0 || !self.view.checked || !self.has_failures {
            return Ok(false);
        }
        let primaries = InGroup { one: self, group: Group::Primary, now_ms, lenient: false, notes, without: None };
        let members = self.view.ranks[Group::Primary as usize].members;
        let usable = u64::from(primaries.usable_of(members)?);
        Ok(usable > 0 && usable * 100 < u64::from(members) * threshold)
    }

    /// Whether probes or failures have a peer out at a time.
    pub(super) fn is_out(&self, index: u32, now: Tenths) -> Result<bool, Damaged> {
        let Some(cells) = self.cells else { return Ok(false) };
        let cell = self.view.cell(self.mem, index)?;
        if cell == 0 {
            return Ok(false);
        }
        if self.view.checked && Verdict(cells.verdict(cell)?).is_down() {
            return Ok(true);
        }
        let health = Health(cells.health(cell)?);
        if health.is_well() {
            return Ok(false);
        }
        let (_, limits) = self.view.limits(self.mem, index)?;
        Ok(health.fitness(limits, now) == Fitness::Out)
    }

    pub(super) fn untried(&self, index: u32) -> Result<bool, Miss> {
        let ident = self.view.ident(self.mem, self.in_view(index)?)?;
        Ok(!self.tried.is_some_and(|tried| tried.has(ident)))
    }

    #[inline(always)]
    pub(super) fn in_view(&self, index: u32) -> Result<u32, Miss> {
        if index < self.view.peers { Ok(index) } else { Err(Miss::Damaged) }
    }
}
