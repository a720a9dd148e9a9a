//! The head of a version: its first words, and the name.
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
//!      9   number of the change that made the upstream; layout 1 has no word from here on
//!     10   number of the change that made this version, which no other version of the table has
//!     11   where the round robin starts, in parts of a cycle : 32 | id of the next peer that is new : 32
//!     12   ranks of the primaries: first word : 32 | members : 32
//!     13   ranks of the backups
//!     14   how many classes they have : 16, 16 | in order : 1, 1 | all peers are primaries of one weight : 1
//!     15   shares: first word : 32 | 0 : 32; where all peers are alike there are none
//!     16   number of its source : 32 | kind : 8 | 0 : 24
//!     17   extras: first word : 32 | words : 32; 0: there are none
//!     18   0; kept free for numbers of the last changes of peers
//!     19   0
//!     20   name, padded to whole words; in layout 1 it begins at 9
//!          peers, 8 words (a cache line) each; more in some layouts (shm/layout.rs)
//!          texts of peers that are longer than 24 bytes
//!          schedules, 2 bytes an entry, 4 above 65,536 peers
//!          options of checks, as JSON (table/options.rs)
//!          ranks (table/ranks.rs)
//!          shares: for the primaries, and for the backups, the weight of all peers before each 64th, and of all
//!          extras (extras.rs)
//! ```

use crate::checksum::Checksum;
use crate::shm::WORD;
use crate::shm::layout::OURS;
use crate::upstream::name::MAX_NAME_BYTES;

/// Words before the name.
pub const HEADER: usize = OURS.head;
/// The most of them in any layout.
pub(super) const MOST_HEADER: usize = 24;
/// Most words of a name.
pub(super) const NAME: usize = MAX_NAME_BYTES.div_ceil(WORD);

/// Words of the head.
pub(super) mod word {
    /// Words of the block, and number of peers.
    pub const SIZES: usize = 0;
    /// Record, length of the name, method, hash id and flags.
    pub const IDENTITY: usize = 1;
    /// Two words: the schedules, by group.
    pub const SCHEDULES: usize = 2;
    /// Two words: the rings, by group.
    pub const RINGS: usize = 4;
    /// Facts about its peers, and where they are, see [`bit`](super::bit).
    pub const PLACES: usize = 6;
    /// The checksums.
    pub const SEALS: usize = 7;
    /// Options of checks.
    pub const CHECKS: usize = 8;
    /// Number of the change that made the upstream. Layout 1 has no word from here on.
    pub const CREATED: usize = 9;
    /// Number of the change that made this version.
    pub const VERSION: usize = 10;
    /// Where the round robin starts, and the id of the next peer.
    pub const START: usize = 11;
    /// Two words: the ranks, by group.
    pub const RANKS: usize = 12;
    /// How many classes of weights the groups have, see [`class`](super::class).
    pub const CLASSES: usize = 14;
    /// Where the shares are.
    pub const SHARES: usize = 15;
    /// Source and kind.
    pub const ORIGIN: usize = 16;
    /// Where the extras are.
    pub const EXTRAS: usize = 17;
}

/// Bits of [`word::PLACES`].
pub(super) mod bit {
    /// Some peer has a `max_conns`.
    pub const LIMITED: u32 = 16;
    /// Some peer is deleted once it is idle.
    pub const LEAVING: u32 = 17;
    /// A number of 8 bits: peers that take traffic, [`MOST_SERVING`] at most.
    pub const SERVING: u32 = 18;
    /// The most that [`SERVING`] says.
    pub const MOST_SERVING: u64 = 255;
    /// Some peer can be picked with any number of failures, or cannot be picked at all.
    pub const UNWATCHED: u32 = 26;
    /// There is a check.
    pub const CHECKED: u32 = 27;
    /// The check is the upstream's own, and not the default.
    pub const OWN_CHECK: u32 = 28;
    /// Peers count as down until they are probed.
    pub const DEFAULT_DOWN: u32 = 29;
    /// Some peer has a `slow_start`.
    pub const SLOW_STARTS: u32 = 30;
    /// A number of 16 bits: the first word of the peers; of a route: of its targets.
    pub const PEERS_AT: u32 = 32;
    /// A number of 8 bits: the panic threshold of the check.
    pub const PANIC_THRESHOLD: u32 = 48;
}

/// Bits of [`word::CLASSES`].
pub(super) mod class {
    /// Two bits: the order of the ranks of a group is written down.
    pub const ORDERED: u32 = 32;
    /// All peers are primaries of one weight, so that there are no shares.
    pub const ALIKE: u32 = 34;
}

/// The first word of the peers, as [`word::PLACES`] has it.
pub(super) fn peers_at(places: u64) -> usize {
    usize::from((places >> bit::PEERS_AT) as u16)
}

/// The bytes of the name, as [`word::IDENTITY`] has them.
pub(super) fn name_len(identity: u64) -> usize {
    (identity >> 32) as u8 as usize
}

/// The low half of the word with the checksums: over the head, the name and the generation of the stamp that leads here.
pub fn seal_of_head(header: &[u64], name: &[u64], generation: u64) -> u32 {
    let mut head = [0; 1 + MOST_HEADER + NAME];
    let name_at = 1 + header.len();
    head[0] = generation;
    head[1..name_at].copy_from_slice(header);
    head[1 + word::SEALS] >>= 32;
    head[name_at..][..name.len()].copy_from_slice(name);
    Checksum::of(&head[..name_at + name.len()])
}
