//! The immutable block that readers pick from: how an upstream is laid out in words, and how it is read back.
//!
//! ```text
//! word 0   words of the block : 32 | number of peers : 32          (low half first)
//!      1   record : 32 | name length : 8 | method : 8 | hash id : 8 | flags : 8
//!      2   schedule of the primaries: first word : 32 | entries : 32
//!      3   schedule of the backups
//!      4   ring of the primaries: its own block : 32 | points : 32
//!      5   ring of the backups
//!      6   bits of the two rings : 8, 8 | flags and how many peers take traffic : 16 | first word of the peers : 16 |
//!          panic threshold of the check : 16
//!      7   checksum of the head, which is these words, the name and the generation : 32 | checksum of all behind it : 32
//!      8   options of checks: first word : 32 | bytes : 32; 0: there are none
//!      9   number of the change that made the upstream; 0 in layout 1, as the next three are
//!     10   number of the change that made this version, which no other version of the table has
//!     11   where the round robin starts, in parts of a cycle : 32 | 0 : 32
//!     12   ranks of the primaries: first word : 32 | members : 32
//!     13   ranks of the backups
//!     14   how many classes they have : 16, 16 | in order : 1, 1 | all peers are primaries of one weight : 1
//!     15   shares: first word : 32 | 0 : 32; where all peers are alike there are none
//!     16   name, padded to whole words; in layout 1 it begins at 9
//!          peers, 8 words (a cache line) each; more in some layouts (shm/layout.rs)
//!          texts of peers that are longer than 24 bytes
//!          schedules, 2 bytes an entry, 4 above 65,536 peers
//!          options of checks, as JSON (table/checks.rs)
//!          ranks (table/ranks.rs)
//!          shares: for the primaries, and for the backups, what all peers before each 64th weigh, and what all do
//! ```
//!
//! The head is all that leads anywhere: whoever reads it checks it, so that one spoiled word never frees or shows what is
//! another upstream's. What is behind it, and the rings, a repair checks.
//!
//! A peer: its identity; one word of what a pick looks at; two of numbers; the place of a long text : 32 | its cell : 32; 24
//! bytes of text.

use super::address::Address;
use super::checks::{self, Checks, PeerChecks};
use super::kept::Foreign;
use super::peer::{Peer, Status};
use super::ranks::{self, Ranks};
use super::upstream::{MAX_PEERS, Upstream};
use crate::balance::chash::{self, Ring, RingShape};
use crate::balance::{HashId, Method, rr};
use crate::health::active::Active;
use crate::health::check::Check;
use crate::health::passive::Limits;
use crate::shm::checksum::Checksum;
use crate::shm::layout::{Geometry, OURS};
use crate::shm::{Damaged, Mem, Memory, Stamp, WORD, versioned};

/// Words before the name.
pub const HEADER: usize = OURS.head;
/// The most of them in any layout.
const MOST_HEADER: usize = 20;
/// Which of them has the checksums, and which the options of checks.
const SEALS: usize = 7;
const CHECKS: usize = 8;
/// Words that layout 1 does not have.
const CREATED: usize = 9;
const VERSION: usize = 10;
const START: usize = 11;
const RANKS: usize = 12;
const CLASSES: usize = 14;
const SHARES: usize = 15;
/// Bits of the word with the classes: the orders are written down, and all peers are alike.
const ORDERED: u32 = 32;
const ALIKE: u32 = 34;
/// Peers between two shares.
const SHARE: usize = 64;
/// Bit of the word with the places: some peer has a `max_conns`.
const LIMITED: u32 = 16;
/// And: some peer is deleted once it is idle.
const LEAVING: u32 = 17;
/// And a number of 8 bits: peers that take traffic; as many as it has bits for.
const SERVING: u32 = 18;
const MOST_SERVING: u64 = 255;
/// And: some peer can be picked whatever its failures are, or cannot be picked at all.
const UNWATCHED: u32 = 26;
/// And of its check: it has one, its own and not the default, and peers count as down until they are probed.
const CHECKED: u32 = 27;
const OWN_CHECK: u32 = 28;
const DEFAULT_DOWN: u32 = 29;
/// Where the first word of the peers is in it, and the panic threshold.
const PEERS_AT: u32 = 32;
const PANIC_THRESHOLD: u32 = 48;
/// Most words of a name.
const NAME: usize = super::name::MAX_NAME_BYTES.div_ceil(WORD);
/// Words of a peer that all layouts have. Those that follow them in some are nothing yet.
const PEER: usize = 8;
/// Bytes of text that fit into the peer's own words.
const INLINE: usize = 3 * WORD;
/// Longest text of a peer in bytes, whole words.
pub const MAX_TEXT: usize = super::address::MAX_TEXT_BYTES;

/// What a table remembers of an upstream beside its configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// Changed at run time: a reload of the files leaves it alone.
    pub const TOUCHED: Flags = Flags(1);
    /// Its name is in the files that were loaded last.
    pub const IN_FILE: Flags = Flags(2);
    /// Deleted at run time and remembered, since the files would bring it back.
    pub const DELETED: Flags = Flags(4);
    /// Somebody asked for chash, so each version has a ring.
    pub const RING: Flags = Flags(8);
    /// Its check was set at run time: a reload of the files leaves that alone.
    pub const CHECK_BY_HAND: Flags = Flags(16);

    /// Whether `flag` is set.
    pub fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 != 0
    }

    /// With `flag` set.
    #[must_use]
    pub fn with(self, flag: Flags) -> Flags {
        Flags(self.0 | flag.0)
    }

    /// With `flag` cleared.
    #[must_use]
    pub fn without(self, flag: Flags) -> Flags {
        Flags(self.0 & !flag.0)
    }
}

/// Primaries, and the backups that are picked when no primary can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// `backup = false`.
    Primary = 0,
    /// `backup = true`.
    Backup = 1,
}

impl Group {
    /// In the order in which they are asked.
    pub const ALL: [Group; 2] = [Group::Primary, Group::Backup];

    /// The peers of the group that configuration lets pick, with their indexes.
    pub fn members(self, upstream: &Upstream) -> impl Iterator<Item = (u32, &Peer)> {
        let backup = self == Group::Backup;
        (0u32..).zip(&upstream.peers).filter(move |(_, peer)| peer.backup == backup && peer.takes_traffic())
    }
}

/// A schedule inside the block.
#[derive(Clone, Copy, Debug, Default)]
pub struct Schedule {
    at: usize,
    /// Entries; 0: the group has nobody to pick.
    pub len: u32,
    /// The entry that turn 0 is at.
    pub start: u32,
}

/// A ring in a block of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingPlace {
    /// Its block, 0 for none.
    pub block: u32,
    /// How it is laid out.
    pub shape: RingShape,
}

impl RingPlace {
    /// Words of the ring.
    pub fn words(&self) -> usize {
        self.shape.words()
    }
}

/// The header of a snapshot, read and checked: all that it places lies inside the mapping.
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
    /// What its ring hashes.
    pub hash_id: HashId,
    /// The numbers of a method and a hash id that this library does not know.
    foreign: (u8, u8),
    /// What is remembered of it.
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
    /// Some peer has a `max_conns`.
    pub limited: bool,
    /// Some peer is deleted once it is idle.
    pub leaving: bool,
    /// How many peers take traffic, as far as configuration goes; at most 255.
    pub serving: u32,
    /// Some peer is not [watched](View::is_watched).
    pub unwatched: bool,
    /// The peers are checked.
    pub checked: bool,
    /// The check is the upstream's own, or it is said of this very upstream that it has none.
    pub own_check: bool,
    /// A peer that was never probed counts as down.
    pub default_down: bool,
    /// Percent: when fewer of the primaries that take traffic are up, all of them are picked from.
    pub panic_threshold: u8,
    /// All peers are primaries of one weight, so that there are no shares.
    alike: bool,
    shares_at: usize,
    /// First word and bytes of the options of checks; 0 bytes: there are none.
    checks: (usize, usize),
    /// Words before the name.
    head: usize,
    name_len: usize,
    peers_at: usize,
    /// Words of a peer.
    peer: usize,
    wide: bool,
}

/// The word of a peer that a pick looks at.
#[derive(Clone, Copy, Debug)]
pub struct PeerBits(u64);

impl PeerBits {
    fn of(peer: &Peer) -> Self {
        let address = &peer.address;
        PeerBits(
            address.text().len() as u64
                | (address.host_len() as u64) << 8
                | u64::from(address.port().unwrap_or(0)) << 16
                | u64::from(peer.weight) << 32
                | (peer.status as u64) << 48
                | u64::from(peer.backup) << 50
                | u64::from(address.port_written()) << 51,
        )
    }

    fn text_len(self) -> usize {
        (self.0 as u8 as usize).min(MAX_TEXT)
    }

    /// Weight.
    pub fn weight(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// Which group it belongs to.
    pub fn group(self) -> Group {
        if self.0 >> 50 & 1 == 1 { Group::Backup } else { Group::Primary }
    }

    fn address(self, text: &[u8], ident: u64) -> Result<Address, Damaged> {
        let text = std::str::from_utf8(text).map_err(|_| Damaged)?;
        let (host_len, port) = ((self.0 >> 8) as u8 as usize, (self.0 >> 16) as u16);
        Address::from_parts(text, host_len, port, self.0 >> 51 & 1 == 1, ident).ok_or(Damaged)
    }

    /// As the operator has it.
    pub fn status(self) -> Result<Status, Damaged> {
        Status::numbered(self.0 >> 48 & 3).ok_or(Damaged)
    }

    /// Whether it is deleted once it is idle.
    pub fn is_leaving(self) -> bool {
        self.0 >> 48 & 3 == Status::Leaving as u64
    }

    /// Whether configuration lets it be picked.
    pub fn takes_traffic(self) -> bool {
        self.0 >> 48 & 3 == 0 && self.weight() > 0
    }
}

fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

fn joined(low: usize, high: usize) -> u64 {
    low as u64 | (high as u64) << 32
}

/// Lays out `upstream`. [`place`] completes the image when its record and its rings have their places.
///
/// # Errors
///
/// As [`checks::write()`].
pub fn encode(upstream: &Upstream, flags: Flags) -> crate::error::Result<Vec<u64>> {
    let members = Group::ALL.map(|group| -> Vec<(u32, u16)> {
        group.members(upstream).map(|(index, peer)| (index, peer.weight)).collect()
    });
    let schedules = members.each_ref().map(|weights| rr::schedule(weights));
    let count = upstream.peers.len();
    let entries: usize = schedules.iter().map(|schedule| schedule.len().div_ceil(entries_a_word(count))).sum();
    let head = HEADER + upstream.name.len().div_ceil(WORD);
    let peers_at = head.next_multiple_of(PEER);
    let long_at = peers_at + count * OURS.peer;
    let mut words = Vec::with_capacity(long_at + entries);
    words.resize(HEADER, 0);
    words.extend(packed(upstream.name.as_bytes()));
    let mut long = Vec::new();
    words.resize(long_at, 0);
    // In one pass over the peers: there are many of them.
    let (mut limited, mut leaving, mut unwatched, mut checks, mut serving) =
        (false, false, false, upstream.check.is_some() || upstream.foreign.is_some(), 0);
    for (peer, words) in upstream.peers.iter().zip(words[peers_at..].chunks_exact_mut(OURS.peer)) {
        encode_peer(peer, words, long_at, &mut long);
        limited |= peer.max_conns != 0;
        leaving |= peer.status == Status::Leaving;
        serving += u64::from(peer.takes_traffic());
        unwatched |= !peer.takes_traffic() || peer.max_fails == 0;
        checks |= peer.check.is_some();
    }
    words.append(&mut long);
    for (schedule, place) in schedules.iter().zip(2..) {
        words[place] = joined(words.len(), schedule.len());
        append_schedule(&mut words, schedule, count);
    }
    if checks {
        let options = checks::write(upstream)?;
        words[CHECKS] = joined(words.len(), options.len());
        words.extend(packed(&options));
    }
    append_ranks(&mut words, &members, count);
    append_shares(&mut words, upstream);
    words[0] = joined(words.len(), count);
    words[1] = (upstream.name.len() as u64) << 32
        | u64::from(upstream.method_number()) << 40
        | u64::from(upstream.hash_number()) << 48
        | u64::from(flags.0) << 56;
    let (default_down, panic_threshold) =
        upstream.check.as_ref().map_or((false, 0), |check| (check.default_down, check.panic_threshold));
    words[6] = (peers_at as u64) << PEERS_AT
        | u64::from(panic_threshold) << PANIC_THRESHOLD
        | u64::from(limited) << LIMITED
        | u64::from(leaving) << LEAVING
        | u64::from(unwatched) << UNWATCHED
        | u64::from(upstream.check.is_some()) << CHECKED
        | u64::from(upstream.own_check) << OWN_CHECK
        | u64::from(default_down) << DEFAULT_DOWN
        | serving.min(MOST_SERVING) << SERVING;
    Ok(words)
}

/// Appends the peers of each group by weight.
fn append_ranks(words: &mut Vec<u64>, members: &[Vec<(u32, u16)>; 2], peers: usize) {
    for (group, members) in members.iter().enumerate() {
        let ranking = ranks::rank(members);
        words[RANKS + group] = joined(words.len(), ranking.members);
        words[CLASSES] |= (ranking.classes.len() as u64) << (16 * group);
        words[CLASSES] |= u64::from(ranking.order.is_some()) << (ORDERED + group as u32);
        ranks::append(words, &ranking, peers, |words, order| append_schedule(words, order, peers));
    }
}

/// Appends from where on a unit of all weights of a group is to be sought: with those of peers that take no traffic, as nginx's
/// `ip_hash` has it.
fn append_shares(words: &mut Vec<u64>, upstream: &Upstream) {
    let weight = upstream.peers.first().map(|peer| peer.weight);
    if upstream.peers.iter().all(|peer| !peer.backup && Some(peer.weight) == weight) {
        words[CLASSES] |= 1 << ALIKE;
        return;
    }
    words[SHARES] = words.len() as u64;
    for group in Group::ALL {
        let mut sum = 0;
        for peers in upstream.peers.chunks(SHARE) {
            words.push(sum);
            let own = peers.iter().filter(|peer| peer.backup == (group == Group::Backup));
            sum += own.map(|peer| u64::from(peer.weight)).sum::<u64>();
        }
        words.push(sum);
    }
}

/// The peers of an image, by index.
#[derive(Debug)]
pub struct ImagePeers<'a>(&'a mut [u64]);

impl<'a> ImagePeers<'a> {
    /// Those of an image that [`encode`] has laid out.
    pub fn of(image: &'a mut [u64]) -> Self {
        ImagePeers(image)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        halves(self.0[0]).1 as usize
    }

    fn at(&self, index: usize) -> usize {
        peers_at(self.0[6]) + index * OURS.peer
    }

    /// The identity of a peer's address.
    pub fn ident(&self, index: usize) -> u64 {
        self.0[self.at(index)]
    }

    /// The cells of all.
    pub fn cells(&self) -> impl Iterator<Item = u32> {
        self.words().map(|words| halves(words[4]).1)
    }

    /// The cells of those that take traffic, and whether failures take them out.
    pub fn serving_cells(&self) -> impl Iterator<Item = (u32, bool)> {
        let serving = self.words().filter(|words| PeerBits(words[1]).takes_traffic());
        serving.map(|words| (halves(words[4]).1, is_watched(words)))
    }

    fn words(&self) -> impl Iterator<Item = &[u64]> {
        (0..self.count()).map(|index| &self.0[self.at(index)..][..PEER])
    }

    /// Whether the round robin goes over the same peers as in `old`, in the same order and by the same weights.
    pub fn are_picked_as(&self, mem: &impl Memory, old: &View) -> Result<bool, Damaged> {
        if self.count() != old.peers as usize {
            return Ok(false);
        }
        for (index, words) in (0..).zip(self.words()) {
            if words[0] != old.ident(mem, index)? || words[1] != old.bits(mem, index)?.0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether there is a check.
    pub fn is_checked(&self) -> bool {
        self.0[6] >> CHECKED & 1 == 1
    }

    /// Whether a peer that was never probed counts as down.
    pub fn default_down(&self) -> bool {
        self.0[6] >> DEFAULT_DOWN & 1 == 1
    }

    /// What the verdict of a peer that was never probed is.
    pub fn first_verdict(&self) -> u64 {
        Active::begin(0, self.default_down()).0
    }

    /// Gives a peer its cell.
    pub fn set_cell(&mut self, index: usize, cell: u32) {
        let at = self.at(index) + 4;
        self.0[at] = joined(self.0[at] as u32 as usize, cell as usize);
    }
}

/// Writes into an image which change made its upstream, and where the round robin starts.
pub fn set_origin(image: &mut [u64], created: u64, start: u32) {
    image[CREATED] = created;
    image[START] = start.into();
}

/// Writes into an image which change makes it, and its upstream if that is new.
pub fn set_version(image: &mut [u64], version: u64) {
    image[VERSION] = version;
    if image[CREATED] == 0 {
        image[CREATED] = version;
    }
}

/// Writes into an image where it will be reached from, by a stamp of which generation, and where its rings are. Then all of it
/// is there, and gets its checksums.
pub fn place(image: &mut [u64], record: u32, generation: u64, rings: [RingPlace; 2]) {
    place_hosts(image);
    image[1] = joined(record as usize, halves(image[1]).1 as usize);
    let [primary, backup] = rings.map(|ring| u64::from(ring.shape.bits));
    image[6] = image[6] & !0xffff | primary | backup << 8;
    for (group, ring) in rings.iter().enumerate() {
        image[4 + group] = joined(ring.block as usize, ring.shape.points as usize);
    }
    let (header, rest) = image.split_at_mut(HEADER);
    let (name, body) = rest.split_at(name_len(header[1]).div_ceil(WORD));
    header[SEALS] = u64::from(Checksum::of(body)) << 32;
    header[SEALS] |= u64::from(seal_of_head(header, name, generation));
}

/// Says where the bits of usable peers lie, now that peers have their cells.
fn place_hosts(image: &mut [u64]) {
    let peers = halves(image[0]).1 as usize;
    for group in 0..2 {
        let (first, members) = halves(image[RANKS + group]);
        let classes = (image[CLASSES] >> (16 * group)) as u16 as usize;
        let ordered = image[CLASSES] >> (ORDERED + group as u32) & 1 == 1;
        let (first, members) = (first as usize, members as usize);
        let order_at = first + ranks::order_at(members, classes);
        let peers_at = peers_at(image[6]);
        let cell = |image: &[u64], rank: usize| {
            let index = if ordered { entry_of(image, order_at, rank, peers) } else { rank };
            halves(image[peers_at + index * OURS.peer + 4]).1
        };
        ranks::set_hosts(image, first, classes, members, cell);
    }
}

/// The low half of the word with the checksums.
pub fn seal_of_head(header: &[u64], name: &[u64], generation: u64) -> u32 {
    let mut head = [0; 1 + MOST_HEADER + NAME];
    let name_at = 1 + header.len();
    head[0] = generation;
    head[1..name_at].copy_from_slice(header);
    head[1 + SEALS] >>= 32;
    head[name_at..][..name.len()].copy_from_slice(name);
    Checksum::of(&head[..name_at + name.len()])
}

fn peers_at(places: u64) -> usize {
    usize::from((places >> PEERS_AT) as u16)
}

fn name_len(identity: u64) -> usize {
    (identity >> 32) as u8 as usize
}

/// Fills the words of a peer, which are 0. Where they will lie, and not elsewhere first: there are 10,000 of them.
fn encode_peer(peer: &Peer, words: &mut [u64], long_at: usize, long: &mut Vec<u64>) {
    let text = peer.address.text().as_bytes();
    words[0] = peer.address.ident();
    words[1] = PeerBits::of(peer).0;
    words[2] = joined(peer.max_conns as usize, peer.max_fails as usize);
    words[3] = joined(peer.fail_timeout as usize, peer.slow_start as usize);
    if text.len() <= INLINE {
        words[5..].iter_mut().zip(packed(text)).for_each(|(word, bytes)| *word = bytes);
    } else {
        words[4] = (long_at + long.len()) as u64;
        long.extend(packed(text));
    }
}

/// Whether failures take the peer with these words out: it is picked, and has a `max_fails`.
fn is_watched(words: &[u64]) -> bool {
    PeerBits(words[1]).takes_traffic() && halves(words[2]).1 != 0
}

fn append_schedule(words: &mut Vec<u64>, schedule: &[u32], peers: usize) {
    match entries_a_word(peers) {
        NARROW => append_entries::<NARROW>(words, schedule),
        _ => append_entries::<WIDE>(words, schedule),
    }
}

/// `N` entries to a word, the first one lowest.
fn append_entries<const N: usize>(words: &mut Vec<u64>, entries: &[u32]) {
    let word = |entries: &[u32]| entries.iter().rev().fold(0, |word, &entry| word << (64 / N) | u64::from(entry));
    let (whole, rest) = entries.as_chunks::<N>();
    words.extend(whole.iter().map(|entries| word(entries)));
    words.extend((!rest.is_empty()).then(|| word(rest)));
}

/// Entries of a schedule in a word, by how many bits an index has.
const NARROW: usize = 4;
const WIDE: usize = 2;

/// Entries of a schedule in a word.
pub(super) fn entries_a_word(peers: usize) -> usize {
    if is_wide(peers) { WIDE } else { NARROW }
}

/// The entry at `position` of entries that begin at word `at` of an image.
fn entry_of(image: &[u64], at: usize, position: usize, peers: usize) -> usize {
    let entries = entries_a_word(peers);
    let bits = 64 / entries;
    (image[at + position / entries] >> (position % entries * bits)) as usize & ((1 << bits) - 1)
}

fn is_wide(peers: usize) -> bool {
    peers > 1 << 16
}

/// Bytes as little-endian words, the last one filled up with zeros.
fn packed(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let (whole, rest) = bytes.as_chunks::<WORD>();
    // By shifts: bytes that are stored one by one and then loaded as a word keep the processor waiting.
    let last = rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
    whole.iter().map(|bytes| u64::from_le_bytes(*bytes)).chain((!rest.is_empty()).then_some(last))
}

/// Reads `len` bytes that [`packed`] gave from word `at` on into the front of `out`.
#[inline(always)]
fn unpack(mem: &impl Memory, at: usize, len: usize, out: &mut [u8]) -> Result<(), Damaged> {
    let out = out.get_mut(..len.next_multiple_of(WORD)).ok_or(Damaged)?;
    for (i, bytes) in out.as_chunks_mut::<WORD>().0.iter_mut().enumerate() {
        *bytes = mem.load(at + i)?.to_le_bytes();
    }
    Ok(())
}

/// The ranks that a header tells of. Layout 1 has none.
fn ranks_of(
    header: &[u64; MOST_HEADER],
    group: Group,
    at: usize,
    peers: u32,
    inside: &impl Fn(usize, usize) -> bool,
) -> Result<Ranks, Damaged> {
    let (first, members) = halves(header[RANKS + group as usize]);
    let classes = (header[CLASSES] >> (16 * group as usize)) as u16 as usize;
    let ordered = header[CLASSES] >> (ORDERED + group as u32) & 1 == 1;
    let words = ranks::words(members as usize, classes, peers as usize);
    match members <= peers && classes <= ranks::MOST_CLASSES && inside(first as usize, words) {
        true => Ok(Ranks { at: at + first as usize, members, classes: classes as u32, ordered }),
        false => Err(Damaged),
    }
}

impl View {
    /// Reads the header that `stamp`, loaded from `place`, leads to.
    ///
    /// The stamp is looked at again before anything that the header says is followed: a header that is being recycled could
    /// lead to memory that nobody has reserved, where even a load may end in SIGBUS.
    pub fn read(mem: &impl Memory, geometry: &Geometry, place: usize, stamp: Stamp) -> Result<View, Damaged> {
        let at = stamp.word();
        if stamp.block() == 0 {
            return Err(Damaged);
        }
        let mut header = [0; MOST_HEADER];
        let head = geometry.shape.head;
        mem.load_all(at, &mut header[..head])?;
        let (words, peers) = halves(header[0]);
        let (identity, places) = (header[1], header[6]);
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
            limited: places >> LIMITED & 1 == 1,
            leaving: places >> LEAVING & 1 == 1,
            serving: (places >> SERVING & MOST_SERVING) as u32,
            unwatched: places >> UNWATCHED & 1 == 1,
            checked: places >> CHECKED & 1 == 1,
            own_check: places >> OWN_CHECK & 1 == 1,
            default_down: places >> DEFAULT_DOWN & 1 == 1,
            panic_threshold: (places >> PANIC_THRESHOLD) as u8,
            created: header[CREATED],
            version: header[VERSION],
            start: header[START] as u32,
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
            let (first, len) = halves(header[2 + group as usize]);
            if !inside(first as usize, (len as usize).div_ceil(entries_a_word(peers as usize))) {
                return Err(Damaged);
            }
            let (block, points) = halves(header[4 + group as usize]);
            let start = ((u64::from(view.start) * u64::from(len)) >> 32) as u32;
            view.schedules[group as usize] = Schedule { at: at + first as usize, len, start };
            let shape = RingShape { points, bits: (places >> (8 * group as usize)) as u8 };
            view.rings[group as usize] = RingPlace { block, shape };
        }
        view.rings.iter().try_for_each(|ring| check_ring(mem, ring))?;
        for group in Group::ALL {
            view.ranks[group as usize] = ranks_of(&header, group, at, peers, &inside)?;
        }
        if head > SHARES {
            let shares = halves(header[SHARES]).0 as usize;
            view.alike = header[CLASSES] >> ALIKE & 1 == 1;
            view.shares_at = at + shares;
            if !view.alike && !inside(shares, 2 * ((peers as usize).div_ceil(SHARE) + 1)) {
                return Err(Damaged);
            }
        }
        let (first, len) = halves(header[CHECKS]);
        view.checks = (first as usize, len as usize);
        if !inside(view.checks.0, view.checks.1.div_ceil(WORD)) {
            return Err(Damaged);
        }
        if !versioned::holds(mem, place, stamp)? {
            return Err(Damaged);
        }
        let mut name = [0; NAME];
        mem.load_all(at + head, &mut name[..name_words])?;
        let seal = seal_of_head(&header[..head], &name[..name_words], stamp.generation());
        if header[SEALS] as u32 == seal { Ok(view) } else { Err(Damaged) }
    }

    /// Whether all words behind the head, and those of the rings, are what was once written there.
    pub fn is_sealed(&self, mem: &impl Memory) -> Result<bool, Damaged> {
        let rings = self.rings.iter().filter(|ring| ring.block != 0);
        let rings_hold = rings.clone().all(|ring| chash::is_sealed(&RingWords::new(mem, ring), ring.shape));
        let sealed = (mem.load(self.stamp.word() + SEALS)? >> 32) as u32;
        Ok(rings_hold && sealed == self.seal_of_body(mem)?)
    }

    /// What the high half of the word with the checksums has to be.
    pub fn seal_of_body(&self, mem: &impl Memory) -> Result<u32, Damaged> {
        let head = self.head + self.name_len.div_ceil(WORD);
        let first = self.stamp.word() + head;
        let copy = |from, out: &mut [u64]| mem.load_all(first + from, out);
        Checksum::default().and_copied(self.words - head, copy).map(Checksum::value)
    }

    /// Whether this is the upstream called `name`.
    pub fn is_named(&self, mem: &impl Memory, name: &[u8]) -> Result<bool, Damaged> {
        let mut own = [0; 256];
        unpack(mem, self.stamp.word() + self.head, self.name_len, &mut own)?;
        Ok(&own[..self.name_len] == name)
    }

    /// The peer at `position` of the group's schedule.
    #[inline(always)]
    pub fn scheduled(&self, mem: &impl Memory, schedule: &Schedule, position: u32) -> Result<u32, Damaged> {
        self.entry(mem, schedule.at, position)
    }

    /// The peer at `position` of entries that begin at word `at` of the mapping.
    #[inline(always)]
    pub(super) fn entry(&self, mem: &impl Memory, at: usize, position: u32) -> Result<u32, Damaged> {
        let position = position as usize;
        let index = match self.wide {
            false => (mem.load(at + position / 4)? >> (position % 4 * 16)) as u16 as u32,
            true => (mem.load(at + position / 2)? >> (position % 2 * 32)) as u32,
        };
        if index < self.peers { Ok(index) } else { Err(Damaged) }
    }

    /// What all peers of a group weigh, whether or not they take traffic.
    pub fn weight_of_all(&self, mem: &impl Memory, group: Group) -> Result<u64, Damaged> {
        match (self.alike, group) {
            (true, Group::Primary) if self.peers > 0 => {
                Ok(u64::from(self.bits(mem, 0)?.weight()) * u64::from(self.peers))
            }
            (true, _) => Ok(0),
            (false, _) => mem.load(self.share_at(group, (self.peers as usize).div_ceil(SHARE))),
        }
    }

    /// The peer that unit `unit` of all weights of a group belongs to.
    pub fn peer_of_unit(&self, mem: &impl Memory, group: Group, unit: u64) -> Result<Option<u32>, Damaged> {
        if self.alike {
            let weight = u64::from(self.bits(mem, 0)?.weight());
            return Ok(unit.checked_div(weight).filter(|&index| index < self.peers.into()).map(|index| index as u32));
        }
        let (mut low, mut high) = (0, (self.peers as usize).div_ceil(SHARE));
        // The last share that is not beyond the unit.
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if mem.load(self.share_at(group, middle))? <= unit { low = middle } else { high = middle }
        }
        let mut left = unit.saturating_sub(mem.load(self.share_at(group, low))?);
        for index in (low * SHARE) as u32..self.peers.min(((low + 1) * SHARE) as u32) {
            let bits = self.bits(mem, index)?;
            let weight = if bits.group() == group { u64::from(bits.weight()) } else { 0 };
            match left.checked_sub(weight) {
                Some(rest) => left = rest,
                None => return Ok(Some(index)),
            }
        }
        Ok(None)
    }

    fn share_at(&self, group: Group, share: usize) -> usize {
        self.shares_at + group as usize * ((self.peers as usize).div_ceil(SHARE) + 1) + share
    }

    #[inline(always)]
    fn peer_word(&self, index: u32) -> usize {
        self.stamp.word() + self.peers_at + index as usize * self.peer
    }

    /// The identity of a peer's address.
    #[inline(always)]
    pub fn ident(&self, mem: &impl Memory, index: u32) -> Result<u64, Damaged> {
        mem.load(self.peer_word(index))
    }

    /// The cell of a peer, 0 for none.
    #[inline(always)]
    pub fn cell(&self, mem: &impl Memory, index: u32) -> Result<u32, Damaged> {
        mem.load(self.peer_word(index) + 4).map(|word| halves(word).1)
    }

    /// The place of the peer with a cell, which mostly is where it was `before`; `None`: it is no more.
    pub fn index_of(&self, mem: &impl Memory, cell: u32, before: u32) -> Result<Option<u32>, Damaged> {
        for index in std::iter::once(before).filter(|&index| index < self.peers).chain(0..self.peers) {
            if self.cell(mem, index)? == cell {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Most connections that may be open to a peer (0: any number), and what takes it out.
    pub fn limits(&self, mem: &impl Memory, index: u32) -> Result<(u32, Limits), Damaged> {
        let at = self.peer_word(index);
        let (max_conns, max_fails) = halves(mem.load(at + 2)?);
        let (fail_timeout, _) = halves(mem.load(at + 3)?);
        Ok((max_conns, Limits { max_fails, fail_timeout }))
    }

    /// Whether failures take a peer out: it is picked, and has a `max_fails`.
    pub fn is_watched(&self, mem: &impl Memory, index: u32) -> Result<bool, Damaged> {
        let mut words = [0; 3];
        mem.load_all(self.peer_word(index), &mut words)?;
        Ok(is_watched(&words))
    }

    /// The identity of a peer's address, and its cell.
    #[inline(always)]
    pub fn ident_and_cell(&self, mem: &impl Memory, index: u32) -> Result<(u64, u32), Damaged> {
        let mut words = [0; 5];
        mem.load_all(self.peer_word(index), &mut words)?;
        Ok((words[0], halves(words[4]).1))
    }

    /// What a pick looks at.
    #[inline(always)]
    pub fn bits(&self, mem: &impl Memory, index: u32) -> Result<PeerBits, Damaged> {
        mem.load(self.peer_word(index) + 1).map(PeerBits)
    }

    /// Copies the text of a peer ("host:port") out; returns its length.
    #[inline(always)]
    pub fn text(&self, mem: &impl Memory, index: u32, out: &mut [u8; MAX_TEXT]) -> Result<usize, Damaged> {
        let at = self.peer_word(index);
        let len = PeerBits(mem.load(at + 1)?).text_len();
        let from = match len <= INLINE {
            // No address is empty: these are words that nobody wrote.
            true if len == 0 => return Err(Damaged),
            true => at + 5,
            // Read from a block that may be recycled by now: never lead outside of it, where no page may be reserved.
            false => match mem.load(at + 4)? as u32 as usize {
                offset if offset + len.div_ceil(WORD) <= self.words => self.stamp.word() + offset,
                _ => return Err(Damaged),
            },
        };
        unpack(mem, from, len, out)?;
        Ok(len)
    }

    /// Reads the address of a peer.
    pub fn address(&self, mem: &impl Memory, index: u32) -> Result<Address, Damaged> {
        let mut text = [0; MAX_TEXT];
        let len = self.text(mem, index, &mut text)?;
        self.bits(mem, index)?.address(&text[..len], self.ident(mem, index)?)
    }

    fn peer(&self, mem: &impl Memory, index: u32) -> Result<Peer, Damaged> {
        let mut words = [0; PEER];
        mem.load_all(self.peer_word(index), &mut words)?;
        let bits = PeerBits(words[1]);
        let (max_conns, max_fails) = halves(words[2]);
        let (fail_timeout, slow_start) = halves(words[3]);
        let mut inline = [0; INLINE];
        inline.as_chunks_mut().0.iter_mut().zip(&words[5..]).for_each(|(bytes, word)| *bytes = word.to_le_bytes());
        Ok(Peer {
            address: match inline.get(..bits.text_len()) {
                Some(text) => bits.address(text, words[0])?,
                None => self.address(mem, index)?,
            },
            weight: bits.weight(),
            status: bits.status()?,
            backup: bits.group() == Group::Backup,
            max_conns,
            max_fails,
            fail_timeout,
            slow_start,
            // With the others', once all peers are there.
            check: None,
        })
    }

    /// Reads the name.
    pub fn name(&self, mem: &impl Memory) -> Result<String, Damaged> {
        let mut name = [0; 256];
        unpack(mem, self.stamp.word() + self.head, self.name_len, &mut name)?;
        Ok(std::str::from_utf8(&name[..self.name_len]).map_err(|_| Damaged)?.to_owned())
    }

    /// Reads the whole upstream.
    pub fn decode(&self, mem: &impl Memory) -> Result<Upstream, Damaged> {
        // With room for one more, which is what most who read it to change it want.
        let mut peers = Vec::with_capacity(self.peers as usize + 1);
        for index in 0..self.peers {
            peers.push(self.peer(mem, index)?);
        }
        let (name, Checks { check, peers: own, kept: options }) = (self.name(mem)?, self.stored_checks(mem)?);
        for (index, check) in own {
            peers.get_mut(index as usize).ok_or(Damaged)?.check = Some(Box::new(check));
        }
        let (method, hash_id) = self.foreign;
        Ok(Upstream {
            name,
            method: self.method,
            hash_id: self.hash_id,
            peers,
            check,
            own_check: self.own_check,
            foreign: Foreign { method, hash_id, options }.boxed(),
        })
    }

    /// How the peers are checked, and what is different for some of them, by index. `None`: they are not, or not by this library.
    pub fn checks(&self, mem: &impl Memory) -> Result<Option<(Check, PeerChecks)>, Damaged> {
        if !self.checked {
            return Ok(None);
        }
        let Checks { check, peers, .. } = self.stored_checks(mem)?;
        Ok(check.map(|check| (check, peers)))
    }

    /// A number that is another one when the options of its checks are, and may be when there are very many.
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
        if len > checks::MOST_BYTES {
            return Err(Damaged);
        }
        let mut words = vec![0; len.div_ceil(WORD)];
        mem.load_all(self.stamp.word() + first, &mut words)?;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).take(len).collect();
        Checks::read(&bytes)
    }
}

/// A ring's words in the mapping.
#[derive(Clone, Copy, Debug)]
pub struct RingWords<'a, M = Mem> {
    mem: &'a M,
    at: usize,
}

impl<'a, M: Memory> RingWords<'a, M> {
    /// The words of the ring at `place`.
    #[inline(always)]
    pub fn new(mem: &'a M, place: &RingPlace) -> Self {
        RingWords { mem, at: place.block as usize * crate::shm::GRANULE_WORDS }
    }
}

impl<M: Memory> chash::Words for RingWords<'_, M> {
    #[inline(always)]
    fn word(&self, index: usize) -> Option<u64> {
        self.mem.load(self.at + index).ok()
    }

    fn copy(&self, index: usize, out: &mut [u64]) -> Option<()> {
        self.mem.load_all(self.at.checked_add(index)?, out).ok()
    }
}

fn check_ring(mem: &impl Memory, ring: &RingPlace) -> Result<(), Damaged> {
    let at = ring.block as usize * crate::shm::GRANULE_WORDS;
    let fits = ring.block == 0 || ring.shape.is_sound() && at + ring.words() <= mem.words();
    if fits { Ok(()) } else { Err(Damaged) }
}

/// Words of the ring that [`build_ring`] makes.
pub fn ring_words(upstream: &Upstream, group: Group) -> crate::error::Result<usize> {
    let members = group.members(upstream).map(|(index, peer)| (index, peer.weight));
    chash::shape_of(members).map(RingShape::words)
}

/// The ring of a group's members, `None` when there is nobody in it.
pub fn build_ring(upstream: &Upstream, group: Group) -> crate::error::Result<Option<Ring>> {
    let members = ring_members(upstream, group);
    if members.is_empty() {
        return Ok(None);
    }
    chash::build(&members, upstream.hash_id).map(Some)
}

/// What [`build_ring`] answers for `new`, made from the ring of `old` at `place`. `None`: it has to be built.
///
/// The stamp that led to `place` must hold afterwards: else the ring may have been recycled while it was read.
pub fn merge_ring(mem: &impl Memory, place: &RingPlace, old: &Upstream, new: &Upstream, group: Group) -> Option<Ring> {
    // By what another version hashes, this one cannot tell which points are whose.
    let is_known = old.hash_number() == old.hash_id as u8 && old.hash_number() == new.hash_number();
    if place.block == 0 || !is_known {
        return None;
    }
    let (from, to) = (ring_members(old, group), ring_members(new, group));
    chash::merge(&RingWords::new(mem, place), place.shape, &from, &to, new.hash_id)
}

fn ring_members(upstream: &Upstream, group: Group) -> Vec<(u32, &Address, u16)> {
    group.members(upstream).map(|(index, peer)| (index, &peer.address, peer.weight)).collect()
}
