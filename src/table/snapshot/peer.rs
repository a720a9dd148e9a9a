//! A peer in a snapshot.
//!
//! ```text
//! word 0   identity of its address
//!      1   the word that a pick looks at, see [`PeerBits`]
//!      2   max_conns : 32 | max_fails : 32
//!      3   fail_timeout : 32 | slow_start : 32
//!      4   its id : 32 | its cell : 32
//!      5   24 bytes of text; of a longer one, its first word in the block : 32
//! ```
//!
//! An id is small. No other peer of the upstream gets it while the upstream lives, also after its peer is gone.

use super::entries::{packed, unpack};
use super::{Group, View, halves, joined};
use crate::shm::{Damaged, Memory, WORD};
use crate::state::failures::Limits;
use crate::upstream::kept::{Extras, ForeignPeer};
use crate::upstream::{Address, Peer, Status, address};

/// Words of a peer that all layouts have. Further ones, which some layouts have, mean nothing yet.
pub(super) const PEER: usize = 8;
/// Bytes of text that fit into the peer's own words.
const INLINE: usize = 3 * WORD;
/// Longest text of a peer in bytes, whole words.
pub const MAX_TEXT: usize = address::MAX_TEXT_BYTES;

/// The word of a peer that a pick looks at.
#[derive(Clone, Copy, Debug)]
pub struct PeerBits(pub(super) u64);

/// Its parts: bytes of the text : 8 | bytes of the host in it : 8 | status : 4 | tier : 4 | two flags and 0 : 8 | weight : 32.
mod part {
    pub const HOST: u32 = 8;
    pub const STATUS: u32 = 16;
    pub const TIER: u32 = 20;
    /// The port was written, and is not just the default.
    pub const PORT_WRITTEN: u32 = 24;
    /// There are extras of this peer.
    pub const EXTRAS: u32 = 25;
    pub const WEIGHT: u32 = 32;
}

impl PeerBits {
    pub(super) fn of(peer: &Peer) -> Self {
        let address = &peer.address;
        let has_extras = peer.foreign.as_ref().is_some_and(|foreign| !foreign.extras.0.is_empty());
        PeerBits(
            address.text().len() as u64
                | (address.host_len() as u64) << part::HOST
                | u64::from(peer.status_number() & 15) << part::STATUS
                | u64::from(peer.tier_number() & 15) << part::TIER
                | u64::from(address.port_written()) << part::PORT_WRITTEN
                | u64::from(has_extras) << part::EXTRAS
                | u64::from(peer.weight_number()) << part::WEIGHT,
        )
    }

    /// As a peer of layout 1 has it: bytes of the text : 8 | of the host : 8 | port : 16 | weight : 16 | status : 2 | backup : 1 | port
    /// written : 1.
    fn of_layout_1(word: u64) -> Self {
        PeerBits(
            word & 0xffff
                | (word >> 48 & 3) << part::STATUS
                | (word >> 50 & 1) << part::TIER
                | (word >> 51 & 1) << part::PORT_WRITTEN
                | (word >> 32 & 0xffff) << part::WEIGHT,
        )
    }

    fn text_len(self) -> usize {
        (self.0 as u8 as usize).min(MAX_TEXT)
    }

    /// Weight. One that is too large for this library counts as the greatest that is not.
    pub fn weight(self) -> u16 {
        self.weight_number().min(u16::MAX.into()) as u16
    }

    fn weight_number(self) -> u32 {
        (self.0 >> part::WEIGHT) as u32
    }

    fn tier_number(self) -> u8 {
        (self.0 >> part::TIER & 15) as u8
    }

    /// The group that it belongs to. A tier that this library does not know counts as backup.
    pub fn group(self) -> Group {
        if self.tier_number() == 0 { Group::Primary } else { Group::Backup }
    }

    fn address(self, text: &[u8], ident: u64) -> Result<Address, Damaged> {
        let text = std::str::from_utf8(text).map_err(|_| Damaged)?;
        let host_len = (self.0 >> part::HOST) as u8 as usize;
        // Behind the host of an IP address there is a colon and the port.
        let port = text.get(host_len + 1..).map_or(Ok(0), str::parse).map_err(|_| Damaged)?;
        Address::from_parts(text, host_len, port, self.0 >> part::PORT_WRITTEN & 1 == 1, ident).ok_or(Damaged)
    }

    fn status_number(self) -> u8 {
        (self.0 >> part::STATUS & 15) as u8
    }

    /// As the operator has it. A status that this library does not know counts as down.
    pub fn status(self) -> Status {
        Status::numbered(self.status_number().into()).unwrap_or(Status::Down)
    }

    /// Whether it is deleted once it is idle.
    pub fn is_leaving(self) -> bool {
        self.status_number() == Status::Leaving as u8
    }

    /// Whether configuration lets it be picked.
    pub fn takes_traffic(self) -> bool {
        self.status_number() == Status::Up as u8 && self.weight_number() > 0
    }

    /// Its numbers that this library does not know, without extras.
    fn foreign(self) -> ForeignPeer {
        let (status, tier, weight) = (self.status_number(), self.tier_number(), self.weight_number());
        ForeignPeer {
            status: if Status::numbered(status.into()).is_none() { status } else { 0 },
            tier: if tier > 1 { tier } else { 0 },
            weight: if weight > u16::MAX.into() { weight } else { 0 },
            extras: Extras::default(),
        }
    }
}

/// Fills the words of a peer, which are 0, in their place in the image: a copy of 10,000 peers would take time.
pub(super) fn encode_peer(peer: &Peer, words: &mut [u64], long_at: usize, long: &mut Vec<u64>) {
    let text = peer.address.text().as_bytes();
    words[0] = peer.address.ident();
    words[1] = PeerBits::of(peer).0;
    words[2] = joined(peer.max_conns as usize, peer.max_fails as usize);
    words[3] = joined(peer.fail_timeout as usize, peer.slow_start as usize);
    if text.len() <= INLINE {
        words[5..].iter_mut().zip(packed(text)).for_each(|(word, bytes)| *word = bytes);
    } else {
        words[5] = (long_at + long.len()) as u64;
        long.extend(packed(text));
    }
}

/// Whether failures take the peer with these words out: it takes traffic, and has a `max_fails`.
pub(super) fn is_watched(words: &[u64]) -> bool {
    PeerBits(words[1]).takes_traffic() && halves(words[2]).1 != 0
}

impl View {
    #[inline(always)]
    fn peer_word(&self, index: u32) -> usize {
        self.stamp.word() + self.peers_at + index as usize * self.peer
    }

    /// The identity of a peer's address.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    #[inline(always)]
    pub fn ident(&self, mem: &impl Memory, index: u32) -> Result<u64, Damaged> {
        mem.load(self.peer_word(index))
    }

    /// The cell of a peer, 0 for none.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    #[inline(always)]
    pub fn cell(&self, mem: &impl Memory, index: u32) -> Result<u32, Damaged> {
        mem.load(self.peer_word(index) + 4).map(|word| halves(word).1)
    }

    /// The index of the peer with a cell, which mostly is the one `before`; `None`: there is no such peer any more.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn index_of(&self, mem: &impl Memory, cell: u32, before: u32) -> Result<Option<u32>, Damaged> {
        for index in std::iter::once(before).filter(|&index| index < self.peers).chain(0..self.peers) {
            if self.cell(mem, index)? == cell {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Most connections that may be open to a peer (0: any number), and the limits of its failures.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn limits(&self, mem: &impl Memory, index: u32) -> Result<(u32, Limits), Damaged> {
        let at = self.peer_word(index);
        let (max_conns, max_fails) = halves(mem.load(at + 2)?);
        let (fail_timeout, _) = halves(mem.load(at + 3)?);
        Ok((max_conns, Limits { max_fails, fail_timeout }))
    }

    /// How many seconds the slow start of a peer takes; 0: it has none.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    #[inline(always)]
    pub fn slow_start(&self, mem: &impl Memory, index: u32) -> Result<u32, Damaged> {
        mem.load(self.peer_word(index) + 3).map(|word| halves(word).1)
    }

    /// Whether failures take a peer out: it takes traffic, and has a `max_fails`.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn is_watched(&self, mem: &impl Memory, index: u32) -> Result<bool, Damaged> {
        let mut words = [0; 3];
        mem.load_all(self.peer_word(index), &mut words)?;
        Ok(is_watched(&words))
    }

    /// The id of a peer.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn id(&self, mem: &impl Memory, index: u32) -> Result<u32, Damaged> {
        mem.load(self.peer_word(index) + 4).map(|word| halves(word).0)
    }

    /// The ids of all peers. Layout 1 has none.
    pub(in crate::table) fn ids(&self, mem: &impl Memory) -> Result<Option<Vec<u32>>, Damaged> {
        let ids = || (0..self.peers).map(|index| self.id(mem, index)).collect();
        (!self.is_of_layout_1).then(ids).transpose()
    }

    /// The identity of a peer's address, its bits, its cell and its id.
    pub(in crate::table) fn identity(
        &self,
        mem: &impl Memory,
        index: u32,
    ) -> Result<(u64, PeerBits, u32, u32), Damaged> {
        let mut words = [0; 5];
        mem.load_all(self.peer_word(index), &mut words)?;
        let (id, cell) = halves(words[4]);
        Ok((words[0], PeerBits(words[1]), cell, id))
    }

    /// The identity of a peer's address, and its cell.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    #[inline(always)]
    pub fn ident_and_cell(&self, mem: &impl Memory, index: u32) -> Result<(u64, u32), Damaged> {
        let mut words = [0; 5];
        mem.load_all(self.peer_word(index), &mut words)?;
        Ok((words[0], halves(words[4]).1))
    }

    /// The word that a pick looks at.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    #[inline(always)]
    pub fn bits(&self, mem: &impl Memory, index: u32) -> Result<PeerBits, Damaged> {
        mem.load(self.peer_word(index) + 1).map(PeerBits)
    }

    /// Copies the text of a peer ("host:port") out; returns its length.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the text is empty, lies outside of the version, or a word lies outside of the memory.
    #[inline(always)]
    pub fn text(&self, mem: &impl Memory, index: u32, out: &mut [u8; MAX_TEXT]) -> Result<usize, Damaged> {
        let at = self.peer_word(index);
        let len = PeerBits(mem.load(at + 1)?).text_len();
        let from = match len <= INLINE {
            // No address is empty: no writer wrote these words.
            true if len == 0 => return Err(Damaged),
            true => at + 5,
            false => self.long_text(mem.load(at + 5)?, len)?,
        };
        unpack(mem, from, len, out)?;
        Ok(len)
    }

    /// Reads the address of a peer.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the words are no address, or one lies outside of the memory.
    pub fn address(&self, mem: &impl Memory, index: u32) -> Result<Address, Damaged> {
        let mut text = [0; MAX_TEXT];
        let len = self.text(mem, index, &mut text)?;
        self.bits(mem, index)?.address(&text[..len], self.ident(mem, index)?)
    }

    /// The first word of a long text, by the word of its peer. The block may be recycled by now. So the answer never leads outside
    /// of the block, where no page may be reserved.
    fn long_text(&self, word: u64, len: usize) -> Result<usize, Damaged> {
        match halves(word).0 as usize {
            offset if offset + len.div_ceil(WORD) <= self.words => Ok(self.stamp.word() + offset),
            _ => Err(Damaged),
        }
    }

    /// The words of a peer, from any layout in the form of ours.
    pub(super) fn peer_words(&self, mem: &impl Memory, index: u32) -> Result<[u64; PEER], Damaged> {
        let mut words = [0; PEER];
        mem.load_all(self.peer_word(index), &mut words)?;
        if self.is_of_layout_1 {
            // It has no ids, and another place for where a long text is.
            let bits = PeerBits::of_layout_1(words[1]);
            let (long_at, cell) = halves(words[4]);
            (words[1], words[4]) = (bits.0, joined(0, cell as usize));
            if bits.text_len() > INLINE {
                words[5] = long_at.into();
            }
        }
        Ok(words)
    }

    /// Reads a peer without the options of its checks and its extras, which stand elsewhere.
    pub(in crate::table) fn peer(&self, mem: &impl Memory, index: u32) -> Result<Peer, Damaged> {
        let words = self.peer_words(mem, index)?;
        let bits = PeerBits(words[1]);
        let (max_conns, max_fails) = halves(words[2]);
        let (fail_timeout, slow_start) = halves(words[3]);
        let (len, mut text) = (bits.text_len(), [0; MAX_TEXT]);
        match len <= INLINE {
            true => {
                text.as_chunks_mut().0.iter_mut().zip(&words[5..]).for_each(|(bytes, word)| *bytes = word.to_le_bytes())
            }
            false => unpack(mem, self.long_text(words[5], len)?, len, &mut text)?,
        }
        Ok(Peer {
            address: bits.address(&text[..len], words[0])?,
            weight: bits.weight(),
            status: bits.status(),
            backup: bits.group() == Group::Backup,
            max_conns,
            max_fails,
            fail_timeout,
            slow_start,
            check: None,
            foreign: bits.foreign().boxed(),
        })
    }
}
