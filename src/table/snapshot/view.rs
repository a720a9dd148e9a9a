//! The head of a version, as readers read and check it.

use super::entries::{entries_a_word, is_wide, unpack};
use super::head::{MOST_HEADER, NAME, bit, class, name_len, peers_at, word};
use super::ring::check_ring;
use super::shares::SHARE;
use super::{Flags, Group, Kind, RingPlace, RingWords, halves, seal_of_head};
use crate::checksum::Checksum;
use crate::order::chash::{self, RingShape};
use crate::shm::layout::{Geometry, Shape};
use crate::shm::{Damaged, Memory, Stamp, WORD, packed, versioned};
use crate::table::options::{self, Checks, PeerChecks};
use crate::table::ranks::{self, Ranks};
use crate::upstream::kept::Foreign;
use crate::upstream::{Check, HashId, MAX_PEERS, Method, Peer, Upstream};

/// A schedule inside the block.
#[derive(Clone, Copy, Debug, Default)]
pub struct Schedule {
    at: usize,
    /// Entries; 0: the group has no peer to pick.
    pub len: u32,
    /// The entry that turn 0 is at.
    pub start: u32,
}

/// The header of a snapshot, read and checked: everything that it places lies inside the mapping.
#[derive(Clone, Copy, Debug, Default)]
pub struct View {
    /// The version that it was read from.
    pub stamp: Stamp,
    /// Words of the block.
    pub words: usize,
    /// Number of peers.
    pub peers: u32,
    /// The record that leads here.
    pub record: u32,
    /// The upstream's own method.
    pub method: Option<Method>,
    /// The text of a peer that its ring hashes.
    pub hash_id: HashId,
    /// The numbers of a method and a hash id that this library does not know.
    foreign: (u8, u8),
    /// Its flags.
    pub flags: Flags,
    /// By [`Group`].
    pub schedules: [Schedule; 2],
    /// By [`Group`].
    pub rings: [RingPlace; 2],
    /// By [`Group`].
    pub ranks: [Ranks; 2],
    /// Number of the change that made the upstream; 0: not known.
    pub created: u64,
    /// Number of the change that made this version.
    pub version: u64,
    /// Where the round robin starts, in parts of a cycle of 2^32.
    pub start: u32,
    /// The id of the next peer that is new.
    pub next_id: u32,
    /// Its kind.
    pub kind: Kind,
    /// The number of its source; 0: files, or an operator at run time.
    pub source: u32,
    /// Some peer has a `max_conns`.
    pub limited: bool,
    /// Some peer has a `slow_start`.
    pub slow_starts: bool,
    /// Some peer is deleted once it is idle.
    pub leaving: bool,
    /// How many peers take traffic, as far as configuration goes; at most 255.
    pub serving: u32,
    /// Some peer is not [watched](View::is_watched).
    pub unwatched: bool,
    /// The peers are checked.
    pub checked: bool,
    /// The check is the upstream's own, or an operator said of this very upstream that it has none.
    pub own_check: bool,
    /// A peer that was never probed counts as down.
    pub default_down: bool,
    /// Percent: when fewer of the primaries that take traffic are up, all of them are picked from.
    pub panic_threshold: u8,
    /// All peers are primaries of one weight, so that there are no shares.
    pub(super) alike: bool,
    pub(super) shares_at: usize,
    /// First word and bytes of the options of checks; 0 bytes: there are none.
    checks: (usize, usize),
    /// First word and words of the extras; 0 words: there are none.
    pub(super) extras: (usize, usize),
    pub(super) is_of_layout_1: bool,
    /// Words before the name.
    head: usize,
    name_len: usize,
    pub(super) peers_at: usize,
    /// Words of a peer.
    pub(super) peer: usize,
    wide: bool,
}

/// The ranks that a header tells of. Layout 1 has none.
fn ranks_of(
    header: &[u64; MOST_HEADER],
    group: Group,
    at: usize,
    peers: u32,
    inside: &impl Fn(usize, usize) -> bool,
) -> Result<Ranks, Damaged> {
    let (first, members) = halves(header[word::RANKS + group as usize]);
    let classes = (header[word::CLASSES] >> (16 * group as usize)) as u16 as usize;
    let ordered = header[word::CLASSES] >> (class::ORDERED + group as u32) & 1 == 1;
    let words = ranks::words(members as usize, classes, peers as usize);
    match members <= peers && classes <= ranks::MOST_CLASSES && inside(first as usize, words) {
        true => Ok(Ranks { at: at + first as usize, members, classes: classes as u32, ordered }),
        false => Err(Damaged),
    }
}

impl View {
    /// Reads the header that `stamp`, loaded from `place`, leads to.
    ///
    /// It looks at the stamp again before it follows any number of the header. A header that is being recycled could lead to memory
    /// that is not reserved, where even a load may end in SIGBUS.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the stamp leads to nothing or has changed, a number in the head is out of bounds, or its checksum is wrong.
    pub fn read(mem: &impl Memory, geometry: &Geometry, place: usize, stamp: Stamp) -> Result<View, Damaged> {
        let at = stamp.word();
        if stamp.block() == 0 {
            return Err(Damaged);
        }
        let mut header = [0; MOST_HEADER];
        let head = geometry.shape.head;
        mem.load_all(at, &mut header[..head])?;
        let (words, peers) = halves(header[word::SIZES]);
        let (identity, places) = (header[word::IDENTITY], header[word::PLACES]);
        let (method, hash_id) = ((identity >> 40) as u8, (identity >> 48) as u8);
        let wide = is_wide(peers as usize);
        let mut view = View {
            stamp,
            words: words as usize,
            peers,
            record: identity as u32,
            name_len: name_len(identity),
            method: Method::numbered(method.into()),
            hash_id: HashId::numbered(hash_id).unwrap_or_default(),
            foreign: (
                if Method::numbered(method.into()).is_none() { method } else { 0 },
                if HashId::numbered(hash_id).is_none() { hash_id } else { 0 },
            ),
            flags: Flags((identity >> 56) as u8),
            peers_at: peers_at(places),
            limited: places >> bit::LIMITED & 1 == 1,
            slow_starts: places >> bit::SLOW_STARTS & 1 == 1,
            leaving: places >> bit::LEAVING & 1 == 1,
            serving: (places >> bit::SERVING & bit::MOST_SERVING) as u32,
            unwatched: places >> bit::UNWATCHED & 1 == 1,
            checked: places >> bit::CHECKED & 1 == 1,
            own_check: places >> bit::OWN_CHECK & 1 == 1,
            default_down: places >> bit::DEFAULT_DOWN & 1 == 1,
            panic_threshold: (places >> bit::PANIC_THRESHOLD) as u8,
            created: header[word::CREATED],
            version: header[word::VERSION],
            start: halves(header[word::START]).0,
            next_id: halves(header[word::START]).1,
            source: halves(header[word::ORIGIN]).0,
            kind: Kind(halves(header[word::ORIGIN]).1 as u8),
            is_of_layout_1: geometry.shape == Shape::V1,
            head,
            peer: geometry.shape.peer,
            wide,
            ..View::default()
        };
        let inside = |from: usize, count: usize| from.checked_add(count).is_some_and(|end| end <= view.words);
        let name_words = view.name_len.div_ceil(WORD);
        let name_fits = view.name_len > 0 && inside(head, name_words);
        if at + view.words > mem.words()
            || peers as usize > MAX_PEERS
            || !name_fits
            || !inside(view.peers_at, peers as usize * view.peer)
        {
            return Err(Damaged);
        }
        for group in Group::ALL {
            let (first, len) = halves(header[word::SCHEDULES + group as usize]);
            if !inside(first as usize, (len as usize).div_ceil(entries_a_word(peers as usize))) {
                return Err(Damaged);
            }
            let (block, points) = halves(header[word::RINGS + group as usize]);
            let start = ((u64::from(view.start) * u64::from(len)) >> 32) as u32;
            view.schedules[group as usize] = Schedule { at: at + first as usize, len, start };
            let shape = RingShape { points, bits: (places >> (8 * group as usize)) as u8 };
            view.rings[group as usize] = RingPlace { block, shape };
        }
        view.rings.iter().try_for_each(|ring| check_ring(mem, ring))?;
        for group in Group::ALL {
            view.ranks[group as usize] = ranks_of(&header, group, at, peers, &inside)?;
        }
        if head > word::SHARES {
            let shares = halves(header[word::SHARES]).0 as usize;
            view.alike = header[word::CLASSES] >> class::ALIKE & 1 == 1;
            view.shares_at = at + shares;
            if !view.alike && !inside(shares, 2 * ((peers as usize).div_ceil(SHARE) + 1)) {
                return Err(Damaged);
            }
        }
        let (first, len) = halves(header[word::CHECKS]);
        view.checks = (first as usize, len as usize);
        if !inside(view.checks.0, view.checks.1.div_ceil(WORD)) {
            return Err(Damaged);
        }
        let (first, len) = halves(header[word::EXTRAS]);
        view.extras = (first as usize, len as usize);
        if !inside(view.extras.0, view.extras.1) {
            return Err(Damaged);
        }
        if !versioned::holds(mem, place, stamp)? {
            return Err(Damaged);
        }
        let mut name = [0; NAME];
        mem.load_all(at + head, &mut name[..name_words])?;
        let seal = seal_of_head(&header[..head], &name[..name_words], stamp.generation());
        if header[word::SEALS] as u32 == seal { Ok(view) } else { Err(Damaged) }
    }

    /// Whether all words behind the head, and those of the rings, are as a writer left them.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn is_sealed(&self, mem: &impl Memory) -> Result<bool, Damaged> {
        let rings = self.rings.iter().filter(|ring| ring.block != 0);
        let rings_hold = rings.clone().all(|ring| chash::is_sealed(&RingWords::new(mem, ring), ring.shape));
        let sealed = (mem.load(self.stamp.word() + word::SEALS)? >> 32) as u32;
        Ok(rings_hold && sealed == self.seal_of_body(mem)?)
    }

    /// The right value of the high half of the word with the checksums.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn seal_of_body(&self, mem: &impl Memory) -> Result<u32, Damaged> {
        let head = self.head + self.name_len.div_ceil(WORD);
        let first = self.stamp.word() + head;
        let copy = |from, out: &mut [u64]| mem.load_all(first + from, out);
        Checksum::default().and_copied(self.words - head, copy).map(Checksum::value)
    }

    /// Whether this is the upstream called `name`.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn is_named(&self, mem: &impl Memory, name: &[u8]) -> Result<bool, Damaged> {
        let mut own = [0; 256];
        unpack(mem, self.stamp.word() + self.head, self.name_len, &mut own)?;
        Ok(&own[..self.name_len] == name)
    }

    /// The peer at `position` of the group's schedule.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the entry is no peer's index, or lies outside of the memory.
    #[inline(always)]
    pub fn scheduled(&self, mem: &impl Memory, schedule: &Schedule, position: u32) -> Result<u32, Damaged> {
        self.entry(mem, schedule.at, position)
    }

    /// The peer at `position` of entries that begin at word `at` of the mapping.
    #[inline(always)]
    pub(in crate::table) fn entry(&self, mem: &impl Memory, at: usize, position: u32) -> Result<u32, Damaged> {
        let position = position as usize;
        let index = match self.wide {
            false => (mem.load(at + position / 4)? >> (position % 4 * 16)) as u16 as u32,
            true => (mem.load(at + position / 2)? >> (position % 2 * 32)) as u32,
        };
        if index < self.peers { Ok(index) } else { Err(Damaged) }
    }

    /// Reads the name.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the name is not UTF-8, or a word lies outside of the memory.
    pub fn name(&self, mem: &impl Memory) -> Result<String, Damaged> {
        let mut name = [0; 256];
        unpack(mem, self.stamp.word() + self.head, self.name_len, &mut name)?;
        Ok(std::str::from_utf8(&name[..self.name_len]).map_err(|_| Damaged)?.to_owned())
    }

    /// Reads the whole upstream.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the name, a peer, an option of a check or an extra does not make sense, or a word lies outside of the memory.
    pub fn decode(&self, mem: &impl Memory) -> Result<Upstream, Damaged> {
        // With room for one more, since most changes add a peer.
        let mut peers = Vec::with_capacity(self.peers as usize + 1);
        self.decode_peers(mem, &mut peers, usize::MAX)?;
        self.decode_with(mem, peers)
    }

    /// Reads the next `most` peers behind those that `peers` has. Options of their probes are not among their words. True: those were the
    /// last.
    pub(in crate::table) fn decode_peers(
        &self,
        mem: &impl Memory,
        peers: &mut Vec<Peer>,
        most: usize,
    ) -> Result<bool, Damaged> {
        let end = (self.peers as usize).min(peers.len().saturating_add(most));
        for index in peers.len()..end {
            peers.push(self.peer(mem, index as u32)?);
        }
        Ok(end == self.peers as usize)
    }

    /// Reads all but the peers, which were read before.
    pub(in crate::table) fn decode_with(&self, mem: &impl Memory, peers: Vec<Peer>) -> Result<Upstream, Damaged> {
        let (mut upstream, own) = self.decode_without_peers(mem)?;
        upstream.peers = peers;
        for (index, check) in own {
            upstream.peers.get_mut(index as usize).ok_or(Damaged)?.check = Some(Box::new(check));
        }
        self.read_extras(mem, &mut upstream)?;
        Ok(upstream)
    }

    /// Reads the upstream without its peers and the extras, and the options of single peers, by index.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the name or an option of a check does not make sense, or a word lies outside of the memory.
    pub fn decode_without_peers(&self, mem: &impl Memory) -> Result<(Upstream, PeerChecks), Damaged> {
        let (name, Checks { check, peers, kept: options }) = (self.name(mem)?, self.stored_checks(mem)?);
        let (method, hash_id) = self.foreign;
        let upstream = Upstream {
            name,
            method: self.method,
            hash_id: self.hash_id,
            peers: Vec::new(),
            check,
            own_check: self.own_check,
            foreign: Foreign { method, hash_id, options, ..Foreign::default() }.boxed(),
        };
        Ok((upstream, peers))
    }

    /// The check of the peers, and the options of single peers, by index. `None`: they are not checked, or not by this library.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the stored options do not make sense, or a word lies outside of the memory.
    pub fn checks(&self, mem: &impl Memory) -> Result<Option<(Check, PeerChecks)>, Damaged> {
        if !self.checked {
            return Ok(None);
        }
        let Checks { check, peers, .. } = self.stored_checks(mem)?;
        Ok(check.map(|check| (check, peers)))
    }

    /// A number that changes with the options of its checks. Where there are very many options, it changes with each version.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn options_digest(&self, mem: &impl Memory) -> Result<u64, Damaged> {
        const MOST: usize = 64 << 10;
        let (first, len) = self.checks;
        if len > MOST {
            return Ok(self.stamp.0);
        }
        let mut words = vec![0; len.div_ceil(WORD)];
        mem.load_all(self.stamp.word() + first, &mut words)?;
        Ok(words
            .iter()
            .fold(len as u64, |digest, word| (digest ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)))
    }

    fn stored_checks(&self, mem: &impl Memory) -> Result<Checks, Damaged> {
        let (first, len) = self.checks;
        if len == 0 {
            return Ok(Checks::default());
        }
        if len > options::MOST_BYTES {
            return Err(Damaged);
        }
        let mut words = vec![0; len.div_ceil(WORD)];
        mem.load_all(self.stamp.word() + first, &mut words)?;
        Checks::read(&packed::unpack(&words, len))
    }
}
