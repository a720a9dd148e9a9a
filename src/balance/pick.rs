//! One pick: from an upstream's name and a key to a peer, without a lock, a system call or an allocation.
//!
//! A [`Handle`] remembers where its upstream was found and what its header said, as of one stamp. As long as the stamp is the
//! record's, a pick is: the stamp, the method's own few words, the stamp again.

use super::candidates::Candidates;
use super::chash::{self, Base, Pick};
use super::debt::Debt;
use super::place::{Claimed, Probe, claim};
use super::random::Random;
use super::{Method, ip_hash, least_conn, random};
use crate::health::active::Active;
use crate::health::passive::{Fitness, Health, Limits, Tenths, tenths};
use crate::shm::cells::Turn;
use crate::shm::clock::now_ms;
use crate::shm::layout::Geometry;
use crate::shm::versioned::{TRIES, Unread};
use crate::shm::{Cells, Damaged, Memory, Stamp};
use crate::table::directory::{Directory, ailing_at, ails, budget_at, counter_at, panic_at, stamp_at};
use crate::table::snapshot::{Flags, Group, MAX_TEXT, RingWords, View};
use crate::table::store::Table;
use std::cell::Cell;
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

/// What is asked of a pick.
#[derive(Debug, Default)]
pub struct Ask<'a> {
    /// What chash hashes; `None` or empty: rr, as in nginx.
    pub key: Option<&'a [u8]>,
    /// `None`: the upstream's own method, else chash with a key and rr without.
    pub method: Option<Method>,
    /// Passed over, and added to.
    pub tried: Option<&'a mut Tried>,
    /// What is needed to count with the peer is kept: [`Handle::account`].
    pub counts: bool,
}

/// What is needed to count with a peer, as of the version that it was picked from.
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
    /// What takes it out.
    pub limits: Limits,
    /// This is the one probe of a peer that is out.
    pub probe: Option<Probe>,
    /// How many peers of its upstream take traffic.
    pub serving: u32,
    /// The word that says that peers of its upstream have failed.
    pub ailing_at: usize,
    /// The first word of its upstream's [budget](super::budget).
    pub budget_at: usize,
}

/// What a pick says beside the index.
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
    stamp_at: usize,
    counter_at: usize,
    ailing_at: usize,
    panic_at: usize,
    view: View,
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
        let nowhere = usize::MAX;
        Handle {
            name: name.into(),
            stamp_at: nowhere,
            counter_at: nowhere,
            ailing_at: nowhere,
            panic_at: nowhere,
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
    /// With `cached`, nothing is written out (`fresh` 0) when this handle gave the same index out already and the upstream
    /// has not changed since: whoever keeps the texts by index need not make them again.
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

    /// Builds the ring first, if the writer lock can be had at once, as lookups without it have cost as much as that by now, or are
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

    /// Whether the method hashes the address of the client: then a pick wants that as its key.
    pub fn wants_client(&mut self, table: &Table, method: Option<Method>) -> bool {
        let region = table.region();
        if method.is_none() && region.mem().load_acquire(self.stamp_at) != Ok(self.view.stamp.0) {
            // What is wrong is said by the pick.
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
            let stamp = Stamp(mem.load_acquire(self.stamp_at).unwrap_or_default());
            if stamp != self.view.stamp || stamp == Stamp::default() {
                self.find(mem, geometry)?;
                continue;
            }
            let picked = self.pick_once(mem, cells, &ask, cached, builds, out);
            let holds = crate::shm::versioned::holds(mem, self.stamp_at, stamp)?;
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

    /// Does what a pick has promised, now that it is known whether it holds: whoever slept until here may have looked at what is
    /// another peer's by now.
    #[cold]
    fn settle(&mut self, cells: Option<Cells<'_, impl Memory>>, holds: bool) -> Result<(), Damaged> {
        let Promises { probe, took, .. } = std::mem::take(&mut self.promises);
        match (cells, probe, took) {
            (Some(cells), _, Some((turn, count))) if holds => cells.take_turn(turn, count),
            (Some(cells), Some(probe), _) if !holds => probe.give_back(&cells),
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
        self.stamp_at = stamp_at(geometry, record);
        self.counter_at = counter_at(geometry, record);
        self.ailing_at = ailing_at(geometry, record);
        self.panic_at = panic_at(geometry, record);
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
        let Handle { view, random, account, given, counter_at, ailing_at, panic_at, promises, debt, .. } = self;
        let (view, counter_at, ailing_at, panic_at) = (&*view, *counter_at, *ailing_at, *panic_at);
        // As nginx: without a key, or with an empty one, there is nothing to hash.
        let key = ask.key.unwrap_or_default();
        let method = match ask.method.or(view.method) {
            Some(Method::Chash | Method::IpHash) | None if key.is_empty() => Method::Rr,
            Some(method) => method,
            None => Method::Chash,
        };
        let tried = ask.tried.as_deref();
        let careful = view.limited || tried.is_some() || ails(mem.load(ailing_at)?);
        let one = One { mem, view, cells, tried, careful, counts: ask.counts, panic_at, debt, builds };
        let quick = match method {
            Method::Rr => one.rr(counter_at)?,
            Method::Chash => one.chash(key)?,
            other => Quick::Walk(Walk::Other(other, mem.add(counter_at, 1)?)),
        };
        let (index, wants_ring) = match quick {
            Quick::Index(index) => (index, false),
            Quick::Walk(walk) => one.slowly(walk, key, random, promises)?,
        };
        if ask.counts {
            let (probe, budget_at) = (promises.probe, budget_at(counter_at));
            *account = Account { ailing_at, probe, budget_at, ..one.account(index)? };
        }
        // Who keeps a set of the tried ones needs to know who this is.
        if cached && !wants_ring && tried.is_none() && was_given(given, index) {
            out.fresh = 0;
        } else {
            one.write_out(index, wants_ring, out)?;
        }
        Ok(index)
    }

    /// The text of this peer has come to whoever keeps texts by index. Where a pick counts, that is not said by itself: it may be
    /// thrown away, and the text with it.
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
    tried: Option<&'a Tried>,
    /// Some peer may have to be passed over.
    careful: bool,
    /// How the request ends will be known: it may be a probe.
    counts: bool,
    /// The word that says that all are picked from.
    panic_at: usize,
    /// Where lookups without a ring are written down, and whether one is refused when they have cost enough.
    debt: &'a Debt,
    builds: bool,
}

/// What the first look at the primaries gives.
enum Quick {
    /// The peer: nothing was tried, and there is somebody to pick.
    Index(u32),
    /// Anything else: from here on, passing over whom must not be picked.
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
    fn rr(&self, counter_at: usize) -> Result<Quick, Miss> {
        let schedule = &self.view.schedules[Group::Primary as usize];
        let count = self.mem.add(counter_at, 1)?.wrapping_add(schedule.start.into());
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
            Walk::Other(Method::RandomTwo, count) => match random::two(among, random)? {
                None => random::one(among, count, random),
                some => Ok(some),
            },
            Walk::Other(Method::Random, count) => random::one(among, count, random),
            Walk::Other(Method::IpHash, count) => ip_hash::pick(among, key, count),
            Walk::Other(Method::Rr | Method::Chash, count) => among.take_in_turn(count),
        };
        let notes = Notes::default();
        let index = self.groups(&notes, &mut pick)?;
        let (probe, took) = (notes.probe.get(), notes.took.get());
        *promises = Promises { some: probe.is_some() || took.is_some(), probe, took };
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

    /// Asks the primaries, then the backups; and where all are out, all of them again: then nobody knows better. Not where
    /// one is well, though it is full or was tried.
    fn groups(
        &self,
        notes: &Notes,
        pick: &mut impl FnMut(&InGroup<'_, M, C>) -> Result<Option<u32>, Miss>,
    ) -> Result<u32, Miss> {
        let now = tenths(now_ms());
        let mut some = false;
        let panics = self.view.panic_threshold != 0 && self.mem.load(self.panic_at)? != 0;
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
                    let among = InGroup { one: self, group, now, lenient, notes };
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
    now: Tenths,
    /// Those that are out may be picked.
    lenient: bool,
    notes: &'a Notes,
}

/// What a look at the groups leaves behind.
#[derive(Default)]
struct Notes {
    /// Somebody was passed over who had too many connections.
    full: Cell<bool>,
    /// Somebody was passed over who is not out.
    well: Cell<bool>,
    /// Who was claimed last is out, and this its probe.
    probe: Cell<Option<Probe>>,
    /// Who was taken among equals, and at which turn.
    took: Cell<Option<(Turn, u64)>>,
}

/// What is to be done when it is known whether a pick holds; nothing while there are none.
#[derive(Debug, Default)]
struct Promises {
    some: bool,
    /// As in [`Notes`].
    probe: Option<Probe>,
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
        let (view, mem) = (self.one.view, self.one.mem);
        let bits = view.bits(mem, self.one.in_view(index)?)?;
        if bits.group() != self.group || !bits.takes_traffic() {
            return Ok(false);
        }
        if !self.one.careful {
            return Ok(true);
        }
        let untried = self.one.untried(index)?;
        let Some((cells, cell)) = self.cell(index)? else {
            self.notes.well.set(self.notes.well.get() || !untried);
            return Ok(untried);
        };
        let (max_conns, limits) = view.limits(mem, index)?;
        let full = untried && max_conns != 0 && cells.open(cell)? >= max_conns.into();
        let is_down = view.checked && Active(cells.verdict(cell)?).is_down();
        let out = match Health(cells.health(cell)?).fitness(limits, self.now) {
            _ if is_down => true,
            Fitness::Out => true,
            // Whose end nobody tells is no probe.
            Fitness::Probe { out, .. } => out && !self.one.counts,
            Fitness::Well => false,
        };
        if untried && !full {
            return Ok(self.lenient || !out);
        }
        self.notes.full.set(self.notes.full.get() || full);
        self.notes.well.set(self.notes.well.get() || !out);
        Ok(false)
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
        let claimed = claim(&cells, cell, limits, self.now)?;
        self.notes.probe.set(match claimed {
            Claimed::Probe(word) => Some(Probe { cell, word, limits }),
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

    /// The same answer from the peers alone: slow, exact, and without memory. `lacks`: there is no ring.
    fn without_ring(&self, hash: u32, lacks: bool) -> Result<Option<u32>, Miss> {
        let (mut weight, mut all) = (0, 0);
        for index in 0..self.peers() {
            let own = u64::from(self.weight(index)?);
            all += own;
            if self.fits(index)? {
                weight += own;
            }
        }
        let is_spent = lacks && self.one.builds && self.one.debt.is_spent(weight, all);
        if is_spent || weight > MAX_WEIGHT_WITHOUT_RING {
            return Err(Miss::NoRing);
        }
        self.one.debt.walk(weight);
        // Whoever has just become somebody else's probe is passed over the next time.
        for _ in 0..TRIES {
            let mut damage = None;
            let members =
                (0..self.peers()).map_while(|index| self.ring_member(index).map_err(|miss| damage = Some(miss)).ok());
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
