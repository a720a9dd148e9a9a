//! The immutable block that readers pick from: how a version of an upstream is laid out in words, and how it is read back.
//!
//! - `head`: its first words
//! - `image`: how a writer lays it out
//! - `view`: how a reader reads it
//! - `peer`: a peer in it, and [`extras`]: rare options
//! - `entries`: how texts and schedules are packed
//! - `shares`: how a unit of all weights leads to its peer
//! - `ring`: the rings of chash, in blocks of their own
//! - [`route`]: the version of a route, which is of another kind
//!
//! Readers check the head, which is all that leads anywhere. So one spoiled word neither frees nor shows words of another upstream. A
//! repair checks the rest and the rings.

mod entries;
pub mod extras;
mod flags;
mod group;
mod head;
mod image;
mod kind;
mod peer;
mod ring;
pub mod route;
mod shares;
mod view;

pub(super) use entries::entries_a_word;
pub use flags::Flags;
pub use group::Group;
pub use head::{HEADER, seal_of_head};
pub use image::{Encoding, ImagePeers, Origin, encode, place, set_flags, set_version};
pub use kind::Kind;
pub use peer::{MAX_TEXT, PeerBits};
pub use ring::{RingPlace, RingWords, build_ring, merge_ring, ring_words};
pub use view::{Schedule, View};

/// The low half of a word, and the high one.
fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

/// A word of two halves.
fn joined(low: usize, high: usize) -> u64 {
    low as u64 | (high as u64) << 32
}
