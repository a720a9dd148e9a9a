//! Rare options of an upstream and of its peers: a block of entries, so that the next option needs no layout.
//!
//! An entry is a word, and the bytes of its value behind it, padded to whole words:
//!
//! ```text
//! key : 16 | bytes : 16 | index of the peer, plus 1 : 32; 0: the entry is of the upstream itself        (low part first)
//! ```
//!
//! Entries stand in the order of their peers, those of the upstream first. A library skips keys that it does not know, and writes
//! them again as they are.

use super::entries::{packed, unpack};
use super::head::word;
use super::{View, joined};
use crate::shm::{Damaged, Memory, WORD};
use crate::upstream::Upstream;
use crate::upstream::kept::Extras;

/// Numbers of the keys, which are never used again. This library keeps all of them and acts on none.
pub mod key {
    /// Of a peer: the text of `route=`.
    pub const ROUTE: u16 = 1;
}

/// Appends the extras of an upstream and of its peers to an image.
pub(super) fn append_extras(words: &mut Vec<u64>, upstream: &Upstream) {
    let first = words.len();
    if let Some(foreign) = &upstream.foreign {
        append(words, 0, &foreign.extras);
    }
    for (owner, peer) in (1..).zip(&upstream.peers) {
        if let Some(foreign) = &peer.foreign {
            append(words, owner, &foreign.extras);
        }
    }
    if words.len() > first {
        words[word::EXTRAS] = joined(first, words.len() - first);
    }
}

fn append(words: &mut Vec<u64>, owner: u64, extras: &Extras) {
    for (key, value) in &extras.0 {
        words.push(u64::from(*key) | (value.len() as u64 & 0xffff) << 16 | owner << 32);
        words.extend(packed(value));
    }
}

impl View {
    /// Gives an upstream and its peers the extras that stand in this version.
    pub(super) fn read_extras(&self, mem: &impl Memory, upstream: &mut Upstream) -> Result<(), Damaged> {
        let (first, words) = self.extras;
        let (mut at, end) = (self.stamp.word() + first, self.stamp.word() + first + words);
        while at < end {
            let entry = mem.load(at)?;
            let (key, len, owner) = (entry as u16, (entry >> 16) as u16 as usize, (entry >> 32) as usize);
            let value_words = len.div_ceil(WORD);
            if at + value_words >= end {
                return Err(Damaged);
            }
            let mut value = vec![0; value_words * WORD];
            unpack(mem, at + 1, len, &mut value)?;
            value.truncate(len);
            let extras = match owner.checked_sub(1) {
                None => &mut upstream.foreign.get_or_insert_default().extras,
                Some(index) => {
                    &mut upstream.peers.get_mut(index).ok_or(Damaged)?.foreign.get_or_insert_default().extras
                }
            };
            extras.0.push((key, value.into()));
            at += 1 + value_words;
        }
        Ok(())
    }
}
