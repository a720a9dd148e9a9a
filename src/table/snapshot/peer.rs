//! A peer in a snapshot.
//!
//! ```text
//! word 0   identity of its address
//!      1   what a pick looks at, see [`PeerBits`]
//!      2   max_conns : 32 | max_fails : 32
//!      3   fail_timeout : 32 | slow_start : 32
//!      4   first word of a long text : 32 | its cell : 32
//!      5   24 bytes of text
//! ```

use super::entries::{packed, unpack};
use super::{Group, View, halves, joined};
use crate::shm::{Damaged, Memory, WORD};
use crate::state::failures::Limits;
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

impl PeerBits {
    pub(super) fn of(peer: &Peer) -> Self {
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
        words[4] = (long_at + long.len()) as u64;
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
    #[inline(always)]
    pub fn ident(&self, mem: &impl Memory, index: u32) -> Result<u64, Damaged> {
        mem.load(self.peer_word(index))
    }

    /// The cell of a peer, 0 for none.
    #[inline(always)]
    pub fn cell(&self, mem: &impl Memory, index: u32) -> Result<u32, Damaged> {
        mem.load(self.peer_word(index) + 4).map(|word| halves(word).1)
    }

    /// The index of the peer with a cell, which mostly is the one `before`; `None`: there is no such peer any more.
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

    /// Whether failures take a peer out: it takes traffic, and has a `max_fails`.
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
            // No address is empty: no writer wrote these words.
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

    pub(super) fn peer_words(&self, mem: &impl Memory, index: u32) -> Result<[u64; PEER], Damaged> {
        let mut words = [0; PEER];
        mem.load_all(self.peer_word(index), &mut words)?;
        Ok(words)
    }

    /// A peer, without what is different in its probes.
    pub fn peer(&self, mem: &impl Memory, index: u32) -> Result<Peer, Damaged> {
        let words = self.peer_words(mem, index)?;
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
}
