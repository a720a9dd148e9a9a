//! One pick: from an upstream's name and a key to a peer, without a lock, a system call or an allocation.
//!
//! A [`Handle`] remembers where its upstream was found and what its header said, as of one stamp. As long as the stamp is the
//! record's, a pick is: the stamp, the method's own few words, the stamp again.

use super::Method;
use super::chash::{self, Base, Pick};
use crate::shm::layout::Geometry;
use crate::shm::versioned::{TRIES, Unread};
use crate::shm::{Damaged, Memory, Stamp};
use crate::table::directory::{Directory, counter_at, stamp_at};
use crate::table::snapshot::{Flags, Group, MAX_TEXT, RingWords, View};
use crate::table::store::Table;

/// Most peers that one request may try; then there is none left for it.
pub(crate) const MAX_TRIED: usize = 64;

/// How far a pick that must pass over tried peers follows the schedule or the ring, before it looks at every peer.
const WALK: u32 = 128;

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
    fn idents(&self) -> &[u64] {
        &self.idents[..(self.count as usize).min(MAX_TRIED)]
    }

    fn has(&self, ident: u64) -> bool {
        self.idents().contains(&ident)
    }

    fn push(&mut self, ident: u64) {
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
}

/// What a pick says beside the index.
#[derive(Debug)]
#[repr(C)]
pub struct Picked {
    /// 0: nothing below is set, since the caller has had all of it before (`dyups_find_cached` only). 1: read on.
    pub fresh: i32,
    /// 1 when the upstream lacks the ring that this pick wanted, see `dyups_build_ring`.
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
    view: View,
    /// One bit a peer: its text was given out since the stamp changed.
    given: Vec<u64>,
}

impl Handle {
    /// A handle for `name`, whether or not there is such an upstream yet.
    pub fn new(name: &[u8]) -> Self {
        let nowhere = usize::MAX;
        Handle { name: name.into(), stamp_at: nowhere, counter_at: nowhere, view: View::default(), given: Vec::new() }
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
        self.pick_in(table.region().mem(), table.region().geometry(), ask, cached, out)
    }

    /// [`Handle::pick`] from the table in `mem`.
    #[inline(always)]
    pub fn pick_in(
        &mut self,
        mem: &impl Memory,
        geometry: &Geometry,
        mut ask: Ask<'_>,
        cached: bool,
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
            let picked = self.pick_once(mem, &ask, cached, out);
            if crate::shm::versioned::holds(mem, self.stamp_at, stamp)? {
                let index = picked?;
                if out.fresh != 0 {
                    self.given_out(index, cached);
                }
                if let Some(tried) = &mut ask.tried {
                    tried.push(out.ident);
                }
                return Ok(index);
            }
        }
        Err(Miss::Changing)
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
        self.view = view;
        self.given.clear();
        self.given.resize((view.peers as usize).div_ceil(64), 0);
        Ok(())
    }

    #[inline(always)]
    fn pick_once(&self, mem: &impl Memory, ask: &Ask<'_>, cached: bool, out: &mut Picked) -> Result<u32, Miss> {
        let view = &self.view;
        // As nginx: without a key, or with an empty one, there is nothing to hash.
        let key = ask.key.unwrap_or_default();
        let method = match ask.method.or(view.method) {
            _ if key.is_empty() => Method::Rr,
            Some(method) => method,
            None => Method::Chash,
        };
        let one = One { mem, view, tried: ask.tried.as_deref() };
        let quick = match method {
            Method::Rr => one.rr(self.counter_at)?,
            Method::Chash => one.chash(key)?,
        };
        match quick {
            Quick::Index(index) if cached && self.was_given(index) => {
                out.fresh = 0;
                Ok(index)
            }
            Quick::Index(index) => one.write_out(index, false, out),
            Quick::Walk(walk) => one.slowly(walk, out),
        }
    }

    #[inline(always)]
    fn was_given(&self, index: u32) -> bool {
        self.given.get(index as usize / 64).is_some_and(|bits| bits >> (index % 64) & 1 == 1)
    }

    fn given_out(&mut self, index: u32, cached: bool) {
        if let (true, Some(bits)) = (cached, self.given.get_mut(index as usize / 64)) {
            *bits |= 1 << (index % 64);
        }
    }
}

/// One try under one stamp.
struct One<'a, M> {
    mem: &'a M,
    view: &'a View,
    tried: Option<&'a Tried>,
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
}

impl<M: Memory> One<'_, M> {
    #[inline(always)]
    fn rr(&self, counter_at: usize) -> Result<Quick, Miss> {
        let count = self.mem.add(counter_at, 1)?;
        let schedule = &self.view.schedules[Group::Primary as usize];
        if schedule.len == 0 || self.tried.is_some() {
            return Ok(Quick::Walk(Walk::Rr(count)));
        }
        let position = (count % u64::from(schedule.len)) as u32;
        Ok(Quick::Index(self.view.scheduled(self.mem, schedule, position)?))
    }

    #[inline(always)]
    fn chash(&self, key: &[u8]) -> Result<Quick, Miss> {
        let hash = chash::key_hash(key);
        let ring = &self.view.rings[Group::Primary as usize];
        if ring.block == 0 || self.tried.is_some() {
            return Ok(Quick::Walk(Walk::Chash(hash)));
        }
        let words = RingWords::new(self.mem, ring);
        let position = chash::successor(&words, ring.shape, hash).ok_or(Damaged)?;
        let index = chash::peer_at(&words, ring.shape, position).ok_or(Damaged)?;
        Ok(Quick::Index(self.in_view(index)?))
    }

    /// A pick with peers to pass over, without a ring, or among backups.
    #[cold]
    fn slowly(&self, walk: Walk, out: &mut Picked) -> Result<u32, Miss> {
        let mut wants_ring = false;
        let index = self.groups(|group| match walk {
            Walk::Rr(count) => self.rr_in(group, count),
            Walk::Chash(hash) => self.chash_in(group, hash, &mut wants_ring),
        })?;
        self.write_out(index, wants_ring, out)
    }

    #[inline(never)]
    fn write_out(&self, index: u32, wants_ring: bool, out: &mut Picked) -> Result<u32, Miss> {
        out.fresh = 1;
        out.wants_ring = i32::from(wants_ring);
        out.peers = self.view.peers as i32;
        out.ident = self.view.ident(self.mem, index)?;
        out.len = self.view.text(self.mem, index, &mut out.text)? as i32;
        Ok(index)
    }

    /// Asks the primaries, then the backups.
    fn groups(&self, mut ask: impl FnMut(Group) -> Result<Option<u32>, Miss>) -> Result<u32, Miss> {
        let mut some = false;
        for group in Group::ALL {
            if self.view.schedules[group as usize].len != 0 {
                some = true;
                if let Some(index) = ask(group)? {
                    return Ok(index);
                }
            }
        }
        Err(if some { Miss::AllTried } else { Miss::NoPeer })
    }

    fn rr_in(&self, group: Group, count: u64) -> Result<Option<u32>, Miss> {
        let schedule = &self.view.schedules[group as usize];
        let len = u64::from(schedule.len);
        for step in 0..len.min(u64::from(WALK)) {
            let index = self.view.scheduled(self.mem, schedule, (count.wrapping_add(step) % len) as u32)?;
            if self.untried(index)? {
                return Ok(Some(index));
            }
        }
        self.scan(group)
    }

    fn chash_in(&self, group: Group, hash: u32, wants_ring: &mut bool) -> Result<Option<u32>, Miss> {
        let ring = &self.view.rings[group as usize];
        if ring.block == 0 {
            *wants_ring = true;
            return self.without_ring(group, hash);
        }
        let mut damaged = false;
        let untried = |index| {
            self.untried(index).unwrap_or_else(|_| {
                damaged = true;
                false
            })
        };
        let picked = chash::pick(&RingWords::new(self.mem, ring), ring.shape, hash, untried);
        match picked {
            _ if damaged => Err(Miss::Damaged),
            Pick::Peer(index) => Ok(Some(index)),
            Pick::Nobody => Ok(None),
            Pick::TooFar => self.without_ring(group, hash),
            Pick::Damaged => Err(Miss::Damaged),
        }
    }

    /// The same answer from the peers alone: slow, exact, and without memory.
    fn without_ring(&self, group: Group, hash: u32) -> Result<Option<u32>, Miss> {
        let mut weight = 0;
        for index in 0..self.view.peers {
            if self.member(group, index)? {
                weight += u64::from(self.view.bits(self.mem, index)?.weight());
            }
        }
        if weight > MAX_WEIGHT_WITHOUT_RING {
            return Err(Miss::NoRing);
        }
        let mut damage = None;
        let members = (0..self.view.peers)
            .map_while(|index| self.ring_member(group, index).map_err(|miss| damage = Some(miss)).ok());
        let picked = chash::pick_without_ring(members, hash, |_| true);
        damage.map_or(Ok(picked), Err)
    }

    /// A peer as the ring sees it: with weight 0 unless it can be picked now.
    fn ring_member(&self, group: Group, index: u32) -> Result<(u32, Base, u16), Miss> {
        if !self.member(group, index)? || !self.untried(index)? {
            return Ok((index, Base(0), 0));
        }
        let address = self.view.address(self.mem, index)?;
        Ok((index, Base::of(&address, self.view.hash_id), self.view.bits(self.mem, index)?.weight()))
    }

    /// The first untried member of the group: what remains when the tried ones are many in a row.
    fn scan(&self, group: Group) -> Result<Option<u32>, Miss> {
        for index in 0..self.view.peers {
            if self.member(group, index)? && self.untried(index)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    fn member(&self, group: Group, index: u32) -> Result<bool, Damaged> {
        let bits = self.view.bits(self.mem, index)?;
        Ok(bits.group() == group && bits.takes_traffic())
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
