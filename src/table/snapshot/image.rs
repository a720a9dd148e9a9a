//! The image of a version: how a writer lays an upstream out in words.

use super::entries::{append_schedule, entries_a_word, entry_of, packed};
use super::extras::append_extras;
use super::head::{bit, class, name_len, peers_at, word};
use super::peer::{PEER, PeerBits, encode_peer, is_watched};
use super::shares::append_shares;
use super::{Flags, Group, HEADER, RingPlace, View, halves, joined, seal_of_head};
use crate::checksum::Checksum;
use crate::order::rr;
use crate::shm::layout::OURS;
use crate::shm::{Damaged, Memory, WORD};
use crate::state::verdict::Verdict;
use crate::table::{options, ranks};
use crate::upstream::{Status, Upstream};

/// Lays out `upstream`. [`place`] completes the image when its record and its rings have their places.
///
/// # Errors
///
/// As [`options::write()`].
pub fn encode(upstream: &Upstream, flags: Flags) -> crate::error::Result<Vec<u64>> {
    let mut encoding = Encoding::new(upstream);
    encoding.add(upstream, upstream.peers.len());
    encoding.finish(upstream, flags)
}

/// An image that is laid out a part of its peers at a time. The result is that of [`encode`].
#[derive(Debug)]
pub struct Encoding {
    members: [Vec<(u32, u16)>; 2],
    schedules: [Vec<u32>; 2],
    words: Vec<u64>,
    /// The next peer.
    next: usize,
    peers_at: usize,
    /// Where long texts begin, and their words.
    long_at: usize,
    long: Vec<u64>,
    limited: bool,
    leaving: bool,
    unwatched: bool,
    slow_starts: bool,
    serving: u64,
    checks: bool,
}

impl Encoding {
    /// An image of `upstream`, so far without its peers.
    pub fn new(upstream: &Upstream) -> Encoding {
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
        words.resize(peers_at, 0);
        Encoding {
            members,
            schedules,
            words,
            next: 0,
            peers_at,
            long_at,
            long: Vec::new(),
            limited: false,
            leaving: false,
            unwatched: false,
            slow_starts: false,
            serving: 0,
            checks: upstream.check.is_some() || upstream.foreign.is_some(),
        }
    }

    /// Lays out the next `most` peers. True: those were the last.
    pub fn add(&mut self, upstream: &Upstream, most: usize) -> bool {
        let end = upstream.peers.len().min(self.next.saturating_add(most));
        let at = self.words.len();
        self.words.resize(self.peers_at + end * OURS.peer, 0);
        // In one pass over the peers: there are many of them.
        let words = self.words[at..].chunks_exact_mut(OURS.peer);
        for (peer, words) in upstream.peers[self.next..end].iter().zip(words) {
            encode_peer(peer, words, self.long_at, &mut self.long);
            self.limited |= peer.max_conns != 0;
            self.leaving |= peer.status == Status::Leaving;
            self.serving += u64::from(peer.takes_traffic());
            self.slow_starts |= peer.slow_start != 0;
            self.unwatched |= !peer.takes_traffic() || peer.max_fails == 0;
            self.checks |= peer.check.is_some();
        }
        self.next = end;
        end == upstream.peers.len()
    }

    /// The image, once all peers are laid out.
    ///
    /// # Errors
    ///
    /// As [`encode`].
    pub fn finish(self, upstream: &Upstream, flags: Flags) -> crate::error::Result<Vec<u64>> {
        let Encoding { members, schedules, mut words, peers_at, mut long, .. } = self;
        let count = upstream.peers.len();
        words.append(&mut long);
        for (schedule, place) in schedules.iter().zip(word::SCHEDULES..) {
            words[place] = joined(words.len(), schedule.len());
            append_schedule(&mut words, schedule, count);
        }
        if self.checks {
            let options = options::write(upstream)?;
            words[word::CHECKS] = joined(words.len(), options.len());
            words.extend(packed(&options));
        }
        append_ranks(&mut words, &members, count);
        append_shares(&mut words, upstream);
        append_extras(&mut words, upstream);
        words[word::SIZES] = joined(words.len(), count);
        words[word::IDENTITY] = (upstream.name.len() as u64) << 32
            | u64::from(upstream.method_number()) << 40
            | u64::from(upstream.hash_number()) << 48
            | u64::from(flags.0) << 56;
        let (default_down, panic_threshold) =
            upstream.check.as_ref().map_or((false, 0), |check| (check.default_down, check.panic_threshold));
        words[word::PLACES] = (peers_at as u64) << bit::PEERS_AT
            | u64::from(panic_threshold) << bit::PANIC_THRESHOLD
            | u64::from(self.limited) << bit::LIMITED
            | u64::from(self.leaving) << bit::LEAVING
            | u64::from(self.unwatched) << bit::UNWATCHED
            | u64::from(self.slow_starts) << bit::SLOW_STARTS
            | u64::from(upstream.check.is_some()) << bit::CHECKED
            | u64::from(upstream.own_check) << bit::OWN_CHECK
            | u64::from(default_down) << bit::DEFAULT_DOWN
            | self.serving.min(bit::MOST_SERVING) << bit::SERVING;
        Ok(words)
    }
}

/// Appends the peers of each group by weight.
fn append_ranks(words: &mut Vec<u64>, members: &[Vec<(u32, u16)>; 2], peers: usize) {
    for (group, members) in members.iter().enumerate() {
        let ranking = ranks::rank(members);
        words[word::RANKS + group] = joined(words.len(), ranking.members);
        words[word::CLASSES] |= (ranking.classes.len() as u64) << (16 * group);
        words[word::CLASSES] |= u64::from(ranking.order.is_some()) << (class::ORDERED + group as u32);
        ranks::append(words, &ranking, peers, |words, order| append_schedule(words, order, peers));
    }
}

/// The peers of an image.
#[derive(Debug)]
pub struct ImagePeers<'a>(&'a mut [u64]);

impl<'a> ImagePeers<'a> {
    /// Those of an image that [`encode`] has laid out.
    pub fn of(image: &'a mut [u64]) -> Self {
        ImagePeers(image)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        halves(self.0[word::SIZES]).1 as usize
    }

    fn at(&self, index: usize) -> usize {
        peers_at(self.0[word::PLACES]) + index * OURS.peer
    }

    /// The identity of a peer's address.
    pub fn ident(&self, index: usize) -> u64 {
        self.0[self.at(index)]
    }

    /// The cells of all peers.
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
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
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

    /// How many peers at the beginning are in `old` as they are here, with their cells. Peers with long texts may be taken for
    /// others, as their texts have other places. The options of a peer's probes are not compared.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn alike(&self, mem: &impl Memory, old: &View) -> Result<usize, Damaged> {
        let most = self.count().min(old.peers as usize);
        for (index, words) in self.words().take(most).enumerate() {
            if old.peer_words(mem, index as u32)? != words {
                return Ok(index);
            }
        }
        Ok(most)
    }

    /// Whether a peer has a `slow_start`.
    pub fn some_start_slowly(&self) -> bool {
        self.0[word::PLACES] >> bit::SLOW_STARTS & 1 == 1
    }

    /// Whether a peer takes traffic, and has a `slow_start`.
    pub fn starts_slowly(&self, index: usize) -> bool {
        let words = &self.0[self.at(index)..][..PEER];
        PeerBits(words[1]).takes_traffic() && halves(words[3]).1 != 0
    }

    /// The cells of the peers for which [`ImagePeers::starts_slowly`].
    pub fn slow_cells(&self) -> impl Iterator<Item = u32> {
        (0..self.count()).filter(|&index| self.starts_slowly(index)).map(|index| self.cell(index))
    }

    /// The cell of a peer.
    pub fn cell(&self, index: usize) -> u32 {
        halves(self.0[self.at(index) + 4]).1
    }

    /// Whether there is a check.
    pub fn is_checked(&self) -> bool {
        self.0[word::PLACES] >> bit::CHECKED & 1 == 1
    }

    /// Whether a peer that was never probed counts as down.
    pub fn default_down(&self) -> bool {
        self.0[word::PLACES] >> bit::DEFAULT_DOWN & 1 == 1
    }

    /// The verdict of a peer that was never probed.
    pub fn first_verdict(&self) -> u64 {
        Verdict::begin(0, self.default_down()).0
    }

    /// Gives a peer its cell.
    pub fn set_cell(&mut self, index: usize, cell: u32) {
        let at = self.at(index) + 4;
        self.0[at] = joined(halves(self.0[at]).0 as usize, cell as usize);
    }

    /// The id of a peer.
    pub fn id(&self, index: usize) -> u32 {
        halves(self.0[self.at(index) + 4]).0
    }

    /// Gives a peer its id.
    pub fn set_id(&mut self, index: usize, id: u32) {
        let at = self.at(index) + 4;
        self.0[at] = joined(id as usize, halves(self.0[at]).1 as usize);
    }
}

/// The numbers that a version takes over from the one before it, beside the cells and ids of its peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Number of the change that made the upstream; 0: this one does.
    pub created: u64,
    /// Number of its source.
    pub source: u32,
    /// Where the round robin starts.
    pub start: u32,
    /// The id of the next peer that is new.
    pub next_id: u32,
}

impl Origin {
    /// Writes it into an image.
    pub fn set(self, image: &mut [u64]) {
        image[word::CREATED] = self.created;
        image[word::START] = joined(self.start as usize, self.next_id as usize);
        image[word::ORIGIN] = self.source.into();
    }
}

/// Writes other flags into an image.
pub fn set_flags(image: &mut [u64], flags: Flags) {
    image[word::IDENTITY] = image[word::IDENTITY] & !(0xff << 56) | u64::from(flags.0) << 56;
}

/// Writes into an image the number of the change that makes it, and the same for its upstream if that is new.
pub fn set_version(image: &mut [u64], version: u64) {
    image[word::VERSION] = version;
    if image[word::CREATED] == 0 {
        image[word::CREATED] = version;
    }
}

/// Writes into an image its record, and where its rings are. Then the image is whole and gets its checksums, which are over the
/// generation of the stamp that will lead to it too.
pub fn place(image: &mut [u64], record: u32, generation: u64, rings: [RingPlace; 2]) {
    place_hosts(image);
    image[word::IDENTITY] = joined(record as usize, halves(image[word::IDENTITY]).1 as usize);
    let [primary, backup] = rings.map(|ring| u64::from(ring.shape.bits));
    image[word::PLACES] = image[word::PLACES] & !0xffff | primary | backup << 8;
    for (group, ring) in rings.iter().enumerate() {
        image[word::RINGS + group] = joined(ring.block as usize, ring.shape.points as usize);
    }
    let (header, rest) = image.split_at_mut(HEADER);
    let (name, body) = rest.split_at(name_len(header[word::IDENTITY]).div_ceil(WORD));
    header[word::SEALS] = u64::from(Checksum::of(body)) << 32;
    header[word::SEALS] |= u64::from(seal_of_head(header, name, generation));
}

/// Writes into an image where the bits of usable peers lie, now that peers have their cells.
fn place_hosts(image: &mut [u64]) {
    let peers = halves(image[word::SIZES]).1 as usize;
    for group in 0..2 {
        let (first, members) = halves(image[word::RANKS + group]);
        let classes = (image[word::CLASSES] >> (16 * group)) as u16 as usize;
        let ordered = image[word::CLASSES] >> (class::ORDERED + group as u32) & 1 == 1;
        let (first, members) = (first as usize, members as usize);
        let order_at = first + ranks::order_at(members, classes);
        let peers_at = peers_at(image[word::PLACES]);
        let cell = |image: &[u64], rank: usize| {
            let index = if ordered { entry_of(image, order_at, rank, peers) } else { rank };
            halves(image[peers_at + index * OURS.peer + 4]).1
        };
        ranks::set_hosts(image, first, classes, members, cell);
    }
}
