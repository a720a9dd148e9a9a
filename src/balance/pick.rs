//! One pick: from an upstream's name and a key to a peer, without a lock, a system call or an allocation.
//!
//! A [`Handle`] remembers where its upstream was found and what its header said, as of one stamp. As long as the stamp is the
//! record's, a pick is: the stamp, the method's own few words, the stamp again.

use super::attempt::{Claimed, Trial, claim};
use super::candidates::{Candidates, mixed};
use super::debt::Debt;
use super::usable::{Bits, Passed, Set};
use super::{ip_hash, least_conn, random};
use crate::order::chash::{self, Base, Pick};
use crate::random::Random;
use crate::shm::cells::Turn;
use crate::shm::clock::now_ms;
use crate::shm::layout::Geometry;
use crate::shm::versioned::{TRIES, Unread};
use crate::shm::{Cells, Damaged, Memory, Stamp};
use crate::state::failures::{Fitness, Health, Limits, Tenths, tenths};
use crate::state::usable::Bit;
use crate::state::verdict::Verdict;
use crate::table::Record;
use crate::table::directory::Directory;
use crate::table::snapshot::{Flags, Group, MAX_TEXT, RingWords, View};
use crate::table::store::Table;
use crate::upstream::Method;
use std::cell::{Cell, RefCell};
use std::time::Duration;

/// Most peers that one request may try; then there is none left for it.
pub(crate) const MAX_TRIED: usize = 64;

/// Largest total weight whose keys are looked up without a ring: 160 steps a unit, some 4 ms in all.
const MAX_WEIGHT_WITHOUT_RING: u64 = 20_000;

/// The peers that a request has tried, by the identity of their address, so that it outlives changes of the table.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Tried {
    /// How many of `idents` are set, at most 64; then there is no peer left for the request. 0 for a new one.
    pub count: u32,
    /// Identities of the tried peers.
    pub idents: [u64; 64],
}

impl Default for Tried {
    fn default() -> Self {
        Tried { count: 0, idents: [0; MAX_TRIED] }
    }
}

impl Tried {
    /// Those that were tried.
    fn idents(&self) -> &[u64] {
        &self.idents[..(self.count as usize).min(MAX_TRIED)]
    }

    fn has(&self, ident: u64) -> bool {
        self.idents().contains(&ident)
    }

    /// Adds one.
    pub fn push(&mut self, ident: u64) {
        if let Some(free) = self.idents.get_mut(self.count as usize) {
            *free = ident;
            self.count += 1;
        }
    }
}

/// Why there is no peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// No upstream has this name.
    NotFound,
    /// It has no peer that configuration lets pick.
    NoPeer,
    /// All that can be picked have been tried.
    AllTried,
    /// All that can be picked have as many connections open as they may.
    AllFull,
    /// chash would take too long without a ring, and there is none.
    NoRing,
    /// The table changed under the reader too often.
    Changing,
    /// The region does not make sense.
    Damaged,
}

impl From<Damaged> for Miss {
    fn from(Damaged: Damaged) -> Self {
        Miss::Damaged
    }
}

impl From<Unread> for Miss {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Changing => Miss::Changing,
            Unread::Damaged => Miss::Damaged,
        }
    }
}

/// The request for a pick.
#[derive(Debug, Default)]
pub struct Ask<'a> {
    /// The bytes that chash hashes; `None` or empty: rr, as in nginx.
    pub key: Option<&'a [u8]>,
    /// `None`: the upstream's own method, else chash with a key and rr without.
    pub method: Option<Method>,
    /// Passed over, and added to.
    pub tried: Option<&'a mut Tried>,
    /// Keep the data that counting with the peer needs: [`Handle::account`].
    pub counts: bool,
}

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
    /// This is the one trial of a peer that is out.
    pub trial: Option<Trial>,
    /// The bit by which that peer is usable again once the trial has ended well.
    pub usable: Bit,
    /// How many peers of its upstream take traffic.
    pub serving: u32,
    /// The place of its upstream.
    pub record: Record,
}

/// The answer of a pick beside the index.
#[derive(Debug)]
#[repr(C)]
pub struct Picked {
    /// 0: nothing below is set, since the caller has had all of it before (`dyups_find_cached` only). 1: read on.
    pub fresh: i32,
    /// 1 when the upstream lacks the ring that this pick wanted.
    pub wants_ring: i32,
    /// How many peers this version of the upstream has; every index is below it.
    pub peers: i32,
    /// Bytes of `text` that are set.
    pub len: i32,
    /// Identity of the peer's address: what a tried set holds.
    pub ident: u64,
    /// `host:port`, `[host]:port` or `unix:/path`; not terminated.
    pub text: [u8; 120],
}

impl Default for Picked {
    fn default() -> Self {
        Picked { fresh: 0, wants_ring: 0, peers: 0, len: 0, ident: 0, text: [0; MAX_TEXT] }
    }
}

/// An upstream's name and what was last seen of it. Belongs to one thread.
#[derive(Debug)]
pub struct Handle {
    name: Box<[u8]>,
    record: Record,
    view: View,
    /// By group, those that are usable, and then all.
    sets: RefCell<[Set; 4]>,
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

    /// Of the peer that was picked last, if [`Ask::counts`] said so.
    pub fn account(&self) -> Account {
        self.account
    }

    /// [`Handle::pick`] from the table in `mem`.
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
        let Handle { view, sets, random, account, given, record, promises, debt, .. } = self;
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
        let one =
            One { mem, view, cells, sets, tried, careful, has_failures, counts: ask.counts, record, debt, builds };
        let quick = match method {
            Method::Rr => one.rr()?,
            Method::Chash => one.chash(key)?,
            other => Quick::Walk(Walk::Other(other, record.take_turn(mem)?)),
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

/// One try under one stamp.
struct One<'a, M, C> {
    mem: &'a M,
    view: &'a View,
    cells: Option<Cells<'a, C>>,
    sets: &'a RefCell<[Set; 4]>,
    tried: Option<&'a Tried>,
    /// Some peer may have to be passed over.
    careful: bool,
    /// Some peer may be out.
    has_failures: bool,
    /// How the request ends will be known: it may be a trial.
    counts: bool,
    /// The place of the upstream.
    record: Record,
    /// Where lookups without a ring are written down, and whether one is refused when they have cost enough.
    debt: &'a Debt,
    builds: bool,
}

/// The result of the first look at the primaries.
enum Quick {
    /// The peer: nothing was tried, and there is one to pick.
    Index(u32),
    /// Anything else: the walk goes on from here, and passes over peers that must not be picked.
    Walk(Walk),
}

#[derive(Clone, Copy)]
enum Walk {
    Rr(u64),
    Chash(u32),
    /// A method, and whose turn it is by round robin.
    Other(Method, u64),
}

impl<M: Memory, C: Memory> One<'_, M, C> {
    #[inline(always)]
    fn rr(&self) -> Result<Quick, Miss> {
        let schedule = &self.view.schedules[Group::Primary as usize];
        let count = self.record.take_turn(self.mem)?.wrapping_add(schedule.start.into());
        if schedule.len == 0 || self.careful {
            return Ok(Quick::Walk(Walk::Rr(count)));
        }
        let position = (count % u64::from(schedule.len)) as u32;
        Ok(Quick::Index(self.view.scheduled(self.mem, schedule, position)?))
    }

    #[inline(always)]
    fn chash(&self, key: &[u8]) -> Result<Quick, Miss> {
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
    fn slowly(
        &self,
        walk: Walk,
        key: &[u8],
        random: &mut Random,
        promises: &mut Promises,
    ) -> Result<(u32, bool), Miss> {
        let mut wants_ring = false;
        let mut pick = |among: &InGroup<'_, M, C>| match walk {
            Walk::Rr(count) => among.take_in_turn(count),
            Walk::Chash(hash) => among.chash(hash, &mut wants_ring),
            Walk::Other(Method::LeastConn, count) => least_conn::pick(among, count, random),
            Walk::Other(Method::RandomTwo, _) => match random::two(among, random)? {
                None => random::one(among, random),
                some => Ok(some),
            },
            Walk::Other(Method::Random, _) => random::one(among, random),
            Walk::Other(Method::IpHash, count) => ip_hash::pick(among, key, count),
            Walk::Other(Method::Rr | Method::Chash, count) => among.take_in_turn(count),
        };
        let notes = Notes::default();
        let index = self.groups(&notes, &mut pick)?;
        let (trial, took) = (notes.trial.get(), notes.took.get());
        *promises = Promises { some: trial.is_some() || took.is_some(), trial, took };
        Ok((index, wants_ring))
    }

    fn account(&self, index: u32) -> Result<Account, Miss> {
        let (max_conns, limits) = self.view.limits(self.mem, self.in_view(index)?)?;
        let (cell, ident) = (self.view.cell(self.mem, index)?, self.view.ident(self.mem, index)?);
        let health = match self.cells {
            Some(cells) if cell != 0 => Health(cells.health(cell)?),
            _ => Health::default(),
        };
        let serving = self.view.serving;
        Ok(Account { cell, health, ident, max_conns, limits, serving, ..Account::default() })
    }

    #[inline(never)]
    fn write_out(&self, index: u32, wants_ring: bool, out: &mut Picked) -> Result<(), Miss> {
        out.fresh = 1;
        out.wants_ring = i32::from(wants_ring);
        out.peers = self.view.peers as i32;
        out.ident = self.view.ident(self.mem, index)?;
        out.len = self.view.text(self.mem, index, &mut out.text)? as i32;
        Ok(())
    }

    /// Asks the primaries, then the backups. Where all are out, it asks all of them again, since none is known to be better. It
    /// does not where one is well, though full or tried.
    fn groups(
        &self,
        notes: &Notes,
        pick: &mut impl FnMut(&InGroup<'_, M, C>) -> Result<Option<u32>, Miss>,
    ) -> Result<u32, Miss> {
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
                    let among = InGroup { one: self, group, now_ms, lenient, notes };
                    if let Some(index) = pick(&among)? {
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
    fn panics(&self, notes: &Notes, now_ms: u64) -> Result<bool, Miss> {
        let threshold = u64::from(self.view.panic_threshold);
        if threshold == 0 || !self.view.checked || !self.has_failures {
            return Ok(false);
        }
        let primaries = InGroup { one: self, group: Group::Primary, now_ms, lenient: false, notes };
        let members = self.view.ranks[Group::Primary as usize].members;
        let usable = u64::from(primaries.usable(members)?);
        Ok(usable > 0 && usable * 100 < u64::from(members) * threshold)
    }

    /// Whether probes or failures have a peer out at a time.
    fn is_out(&self, index: u32, now: Tenths) -> Result<bool, Damaged> {
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

    fn untried(&self, index: u32) -> Result<bool, Miss> {
        let ident = self.view.ident(self.mem, self.in_view(index)?)?;
        Ok(!self.tried.is_some_and(|tried| tried.has(ident)))
    }

    #[inline(always)]
    fn in_view(&self, index: u32) -> Result<u32, Miss> {
        if index < self.view.peers { Ok(index) } else { Err(Miss::Damaged) }
    }
}

/// One group of it.
struct InGroup<'a, M, C> {
    one: &'a One<'a, M, C>,
    group: Group,
    /// Since the boot.
    now_ms: u64,
    /// Those that are out may be picked.
    lenient: bool,
    notes: &'a Notes,
}

/// The notes of a look at the groups.
#[derive(Default)]
struct Notes {
    /// It has passed over a peer with too many connections.
    full: Cell<bool>,
    /// It has passed over a peer that is not out.
    well: Cell<bool>,
    /// The peer that was claimed last is out, and this is its trial.
    trial: Cell<Option<Trial>>,
    /// The peer that was taken among equals, and its turn.
    took: Cell<Option<(Turn, u64)>>,
}

/// The work that waits until it is known whether a pick holds; nothing while there are no promises.
#[derive(Debug, Default)]
struct Promises {
    some: bool,
    /// As in [`Notes`].
    trial: Option<Trial>,
    /// As in [`Notes`].
    took: Option<(Turn, u64)>,
}

impl<M: Memory, C: Memory> Candidates for InGroup<'_, M, C> {
    fn len(&self) -> u32 {
        self.one.view.schedules[self.group as usize].len
    }

    fn scheduled(&self, position: u32) -> Result<u32, Miss> {
        let schedule = &self.one.view.schedules[self.group as usize];
        Ok(self.one.view.scheduled(self.one.mem, schedule, position)?)
    }

    fn peers(&self) -> u32 {
        self.one.view.peers
    }

    fn weight(&self, index: u32) -> Result<u16, Miss> {
        let bits = self.one.view.bits(self.one.mem, self.one.in_view(index)?)?;
        Ok(if bits.group() == self.group { bits.weight() } else { 0 })
    }

    fn fits(&self, index: u32) -> Result<bool, Miss> {
        Ok(self.look(index)? == Look::Fits)
    }

    fn takes_traffic(&self, index: u32) -> Result<bool, Miss> {
        Ok(self.one.view.bits(self.one.mem, self.one.in_view(index)?)?.takes_traffic())
    }

    fn waited(&self, index: u32, count: u64) -> Result<u64, Miss> {
        Ok(match self.cell(index)? {
            Some((cells, cell)) => cells.turn(cell)?.waited(count),
            None => 0,
        })
    }

    fn took(&self, index: u32, count: u64) -> Result<(), Miss> {
        if let Some((cells, cell)) = self.cell(index)? {
            self.notes.took.set(Some((cells.turn(cell)?, count)));
        }
        Ok(())
    }

    fn claim(&self, index: u32) -> Result<bool, Miss> {
        if !self.one.careful || self.lenient {
            return Ok(true);
        }
        let Some((cells, cell)) = self.cell(index)? else { return Ok(true) };
        let (_, limits): (u32, Limits) = self.one.view.limits(self.one.mem, index)?;
        let claimed = claim(&cells, cell, limits, tenths(self.now_ms))?;
        self.notes.trial.set(match claimed {
            Claimed::Trial(word) => Some(Trial { cell, word, limits }),
            _ => None,
        });
        Ok(claimed != Claimed::No)
    }

    fn open(&self, index: u32) -> Result<u64, Miss> {
        Ok(match self.cell(index)? {
            Some((cells, cell)) => cells.open(cell)?,
            None => 0,
        })
    }

    fn weight_of_all(&self) -> Result<u64, Miss> {
        Ok(self.one.view.weight_of_all(self.one.mem, self.group)?)
    }

    fn peer_of_unit(&self, unit: u64) -> Result<Option<u32>, Miss> {
        Ok(self.one.view.peer_of_unit(self.one.mem, self.group, unit)?)
    }

    fn is_alone(&self) -> Result<bool, Miss> {
        let set = &mut *self.set();
        self.refresh(set)?;
        Ok(set.count <= 1)
    }

    fn in_turn(&self, count: u64) -> Result<Option<u32>, Miss> {
        let set = &mut *self.set();
        self.refresh(set)?;
        let mut passed = Passed::new();
        if self.one.tried.is_some_and(|tried| tried.count > 0) {
            // By chance: the turn after that of a peer which refuses would always be the same one's.
        } else if set.all && set.total != 0 && !self.is_empty() {
            // In nginx's order.
            let index = self.scheduled((count % u64::from(self.len())) as u32)?;
            if self.meet(index)? == Look::Fits {
                return Ok(Some(index));
            }
            self.pass(set, index, &mut passed)?;
        } else if set.total != 0
            && let Some(place) = set.place(&self.bits(), set.turn(count))?
        {
            let index = self.bits().peer(place.rank)?;
            if self.meet(index)? == Look::Fits {
                return Ok(Some(index));
            }
            passed.add(place);
        }
        let mut tries = 0;
        self.drawn_beside(set, passed, &mut |total| {
            tries += 1;
            mixed(count, tries, total)
        })
    }

    fn drawn(&self, draw: &mut dyn FnMut(u64) -> u64) -> Result<Option<u32>, Miss> {
        let set = &mut *self.set();
        self.refresh(set)?;
        self.drawn_beside(set, Passed::new(), draw)
    }
}

/// The verdict of a pick about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Take it.
    Fits,
    /// Pass over it, though others may take it.
    Passed,
    /// Pass over it, as everybody: it is out.
    Out,
}

/// Milliseconds after which bits that are cleared are put right.
const MS_BETWEEN_LOOKS: u64 = 100;
/// The most peers that a pick looks at, all of them, before it finds none.
const FEW: u32 = 64;
/// Peers that a pick meets with their bits set though they are out, before it looks at all of them.
const MOST_MET: u32 = 8;
/// Members up to which a panic goes by a look at each.
const FEW_TO_PANIC: u32 = 128;
/// How often bits may change under a pick before it looks at the peers themselves.
const MOST_DISTURBED: u32 = 4;

/// Whether a walk along a ring of so many points takes longer than a look at all points of the peers that are usable. A step of
/// the one takes 15 ns, and 160 of the other 800 ns for each unit of weight.
fn is_walked_far(usable: u64, points: u32) -> bool {
    let all = u64::from(points) / 160;
    usable.saturating_mul(usable).saturating_mul(53) < all
}

/// The peers that are usable.
impl<'a, M: Memory, C: Memory> InGroup<'a, M, C> {
    /// All are, as far as this pick is concerned.
    fn takes_all(&self) -> bool {
        self.lenient || !self.one.has_failures
    }

    fn set(&self) -> std::cell::RefMut<'a, Set> {
        let at = self.group as usize + if self.takes_all() { 2 } else { 0 };
        std::cell::RefMut::map(self.one.sets.borrow_mut(), |sets| &mut sets[at])
    }

    fn bits(&self) -> Bits<'a, M, C> {
        let cells = if self.takes_all() { None } else { self.one.cells };
        Bits { mem: self.one.mem, view: self.one.view, cells, group: self.group }
    }

    /// Has `set` say what the bits say; and, where these have not been for a while, the bits what the cells say.
    fn refresh(&self, set: &mut Set) -> Result<(), Miss> {
        if !set.is_of(self.one.view, self.changes()?) {
            self.read(set)?;
        }
        if !set.all && self.looked_before(MS_BETWEEN_LOOKS)? {
            self.put_right(set)?;
        }
        Ok(())
    }

    fn changes(&self) -> Result<u64, Damaged> {
        if self.takes_all() { Ok(0) } else { self.one.record.changes(self.one.mem) }
    }

    fn read(&self, set: &mut Set) -> Result<(), Miss> {
        // The number before the bits: a bit that changes in between has the set read once more.
        let changes = self.changes()?;
        self.one.mem.fence();
        Ok(set.read(&self.bits(), changes)?)
    }

    /// Whether all peers were last looked at so long ago; then this worker is the one to do so now.
    fn looked_before(&self, ms: u64) -> Result<bool, Damaged> {
        self.one.record.takes_look(self.one.mem, self.now_ms, ms)
    }

    /// Looks at the cells of all members.
    fn put_right(&self, set: &mut Set) -> Result<(), Miss> {
        let now = tenths(self.now_ms);
        if self.bits().put_right(|index| self.one.is_out(self.one.in_view(index).map_err(|_| Damaged)?, now))? {
            self.one.record.mark_change(self.one.mem)?;
            self.read(set)?;
        }
        Ok(())
    }

    /// How many of so many members are usable.
    fn usable(&self, members: u32) -> Result<u32, Miss> {
        if members > FEW_TO_PANIC {
            let set = &mut *self.set();
            self.refresh(set)?;
            return Ok(set.count);
        }
        let (bits, now) = (self.bits(), tenths(self.now_ms));
        let mut usable = 0;
        for rank in 0..members {
            usable += u32::from(!self.one.is_out(bits.peer(rank)?, now)?);
        }
        Ok(usable)
    }

    /// The verdict of a pick about a peer. A peer that is out is marked as not usable.
    fn meet(&self, index: u32) -> Result<Look, Miss> {
        let look = self.look(index)?;
        if look == Look::Out {
            self.clear(index)?;
        }
        Ok(look)
    }

    /// Leaves a peer out of what is drawn from.
    fn pass(&self, set: &Set, index: u32, passed: &mut Passed) -> Result<(), Miss> {
        let (view, mem) = (self.one.view, self.one.mem);
        let weight = view.bits(mem, index)?.weight();
        if let Some(rank) = view.ranks[self.group as usize].rank_of(mem, view, index, weight)?
            && let Some(place) = set.place_of(&self.bits(), rank)?
        {
            passed.add(place);
        }
        Ok(())
    }

    /// A peer that fits, by weight, of those that are not passed over.
    fn drawn_beside(
        &self,
        set: &mut Set,
        mut passed: Passed,
        draw: &mut dyn FnMut(u64) -> u64,
    ) -> Result<Option<u32>, Miss> {
        let (mut met, mut disturbed, mut looked) = (0, 0, self.takes_all());
        loop {
            let left = set.total.saturating_sub(passed.weight);
            if left == 0 && (looked || set.all || !self.may_look_again()?) {
                return Ok(None);
            }
            if left == 0 || met == MOST_MET && !looked {
                looked = true;
                self.put_right(set)?;
                passed = Passed::new();
                continue;
            }
            if passed.is_full() || disturbed == MOST_DISTURBED {
                return self.walk(draw);
            }
            let Some(place) = set.place(&self.bits(), passed.skip(draw(left)))? else {
                disturbed += 1;
                self.read(set)?;
                passed = Passed::new();
                continue;
            };
            let index = self.bits().peer(place.rank)?;
            match self.meet(index)? {
                Look::Fits => return Ok(Some(index)),
                Look::Passed => {}
                Look::Out => met += 1,
            }
            passed.add(place);
        }
    }

    /// Whether all peers may be looked at before none is found. A look at many of them is not due at each request.
    fn may_look_again(&self) -> Result<bool, Damaged> {
        let members = self.one.view.ranks[self.group as usize].members;
        if members <= FEW { Ok(true) } else { self.looked_before(1 + u64::from(members) / 1000) }
    }

    /// Any peer that fits, by a look at each: for a pick that meets too many which do not.
    #[cold]
    fn walk(&self, draw: &mut dyn FnMut(u64) -> u64) -> Result<Option<u32>, Miss> {
        let peers = self.peers();
        let first = draw(peers.into()) as u32;
        for step in 0..peers {
            let index = ((u64::from(first) + u64::from(step)) % u64::from(peers)) as u32;
            if self.fits(index)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Says that a peer which is out is not usable.
    #[cold]
    fn clear(&self, index: u32) -> Result<(), Miss> {
        let (Some(cells), false) = (self.one.cells, self.takes_all()) else { return Ok(()) };
        let (mem, record) = (self.one.mem, self.one.record);
        let bit = self.one.view.usable_bit(mem, index)?;
        if record.change_usable(mem, &cells, bit, false)? {
            mem.fence();
            // It may have come back between the look and the store.
            if !self.one.is_out(index, tenths(self.now_ms))? {
                record.change_usable(mem, &cells, bit, true)?;
            }
        }
        Ok(())
    }

    fn look(&self, index: u32) -> Result<Look, Miss> {
        let (view, mem) = (self.one.view, self.one.mem);
        let bits = view.bits(mem, self.one.in_view(index)?)?;
        if bits.group() != self.group || !bits.takes_traffic() {
            return Ok(Look::Passed);
        }
        if !self.one.careful {
            return Ok(Look::Fits);
        }
        let untried = self.one.untried(index)?;
        let Some((cells, cell)) = self.cell(index)? else {
            self.notes.well.set(self.notes.well.get() || !untried);
            return Ok(if untried { Look::Fits } else { Look::Passed });
        };
        let (max_conns, limits) = view.limits(mem, index)?;
        let full = untried && max_conns != 0 && cells.open(cell)? >= max_conns.into();
        let is_down = view.checked && Verdict(cells.verdict(cell)?).is_down();
        let (out, waits) = match Health(cells.health(cell)?).fitness(limits, tenths(self.now_ms)) {
            _ if is_down => (true, false),
            Fitness::Out => (true, false),
            // A try whose end is not reported is no trial.
            Fitness::Trial { out, .. } => (false, out && !self.one.counts),
            Fitness::Well => (false, false),
        };
        if untried && !full && (self.lenient || !out && !waits) {
            return Ok(Look::Fits);
        }
        if !untried || full {
            self.notes.full.set(self.notes.full.get() || full);
            self.notes.well.set(self.notes.well.get() || !out && !waits);
        }
        Ok(if out && !self.lenient { Look::Out } else { Look::Passed })
    }
}

impl<'a, M: Memory, C: Memory> InGroup<'a, M, C> {
    fn cell(&self, index: u32) -> Result<Option<(Cells<'a, C>, u32)>, Miss> {
        let Some(cells) = self.one.cells else { return Ok(None) };
        let cell = self.one.view.cell(self.one.mem, index)?;
        Ok((cell != 0).then_some((cells, cell)))
    }

    fn chash(&self, hash: u32, wants_ring: &mut bool) -> Result<Option<u32>, Miss> {
        let ring = &self.one.view.rings[self.group as usize];
        if ring.block == 0 {
            *wants_ring = true;
            return self.without_ring(hash, true);
        }
        match self.usable_weight()? {
            0 => return Ok(None),
            usable if is_walked_far(usable, ring.shape.points) => return self.without_ring(hash, false),
            _ => {}
        }
        let mut damaged = false;
        let take = |index| {
            self.take(index).unwrap_or_else(|_| {
                damaged = true;
                false
            })
        };
        let picked = chash::pick(&RingWords::new(self.one.mem, ring), ring.shape, hash, take);
        match picked {
            _ if damaged => Err(Miss::Damaged),
            Pick::Peer(index) => Ok(Some(index)),
            Pick::Nobody => Ok(None),
            Pick::TooFar => self.without_ring(hash, false),
            Pick::Damaged => Err(Miss::Damaged),
        }
    }

    /// The weight of all usable peers, and more than nothing if one is usable.
    fn usable_weight(&self) -> Result<u64, Miss> {
        let set = &mut *self.set();
        self.refresh(set)?;
        if set.total == 0 && !self.takes_all() && self.may_look_again()? {
            self.put_right(set)?;
        }
        Ok(set.total)
    }

    /// The same answer from the peers alone: slow, exact, and without memory. `lacks`: there is no ring.
    fn without_ring(&self, hash: u32, lacks: bool) -> Result<Option<u32>, Miss> {
        let (mut weight, all) = (0, self.weight_of_all()?);
        for index in self.bits().peers() {
            let index = index?;
            if self.fits(index)? {
                weight += u64::from(self.weight(index)?);
            }
        }
        let is_spent = lacks && self.one.builds && self.one.debt.is_spent(weight, all);
        if is_spent || weight > MAX_WEIGHT_WITHOUT_RING {
            return Err(Miss::NoRing);
        }
        self.one.debt.walk(weight);
        // A peer that another pick has just claimed as its trial is passed over the next time.
        for _ in 0..TRIES {
            let mut damage = None;
            let member = |index: Result<u32, Damaged>| self.ring_member(index?);
            let bits = self.bits();
            let members = bits.peers().map_while(|index| member(index).map_err(|miss| damage = Some(miss)).ok());
            let picked = chash::pick_without_ring(members, hash, |_| true);
            match (damage, picked) {
                (Some(damage), _) => return Err(damage),
                (None, Some(index)) if !self.claim(index)? => {}
                (None, picked) => return Ok(picked),
            }
        }
        Err(Miss::Changing)
    }

    /// A peer as the ring sees it: with weight 0 unless it can be picked now.
    fn ring_member(&self, index: u32) -> Result<(u32, Base, u16), Miss> {
        if !self.fits(index)? {
            return Ok((index, Base(0), 0));
        }
        let address = self.one.view.address(self.one.mem, index)?;
        Ok((index, Base::of(&address, self.one.view.hash_id), self.weight(index)?))
    }
}
