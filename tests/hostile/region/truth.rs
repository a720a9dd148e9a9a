//! The upstreams that are still known to be right after a damage: all but those in doubt.
//!
//! An upstream is in doubt once a word was spoiled on which its answers rest. These words are its record, the snapshot and the
//! rings, the bits that say that these are taken, and the way to it through its bucket. So is one to which a forgery lays
//! claim: a forger that makes the checksums right can claim any memory.

use super::case::Brief;
use super::names::names;
use crate::support::model::{Model, Op};
use dyups::error::Code;
use dyups::order::chash::ring_points;
use dyups::shm::arena::granules_of;
use dyups::shm::layout::Geometry;
use dyups::shm::{GRANULE_WORDS, Memory, Stamp};
use dyups::table::Table;
use dyups::table::directory::{Directory, hash};
use dyups::table::record::stamp_at;
use dyups::table::snapshot::{Flags, View};
use dyups::upstream::{Peer, Upstream};
use std::collections::BTreeSet;
use std::ops::Range;

#[derive(Clone, Debug, Default)]
pub struct Truth {
    pub model: Model,
    doubt: BTreeSet<String>,
    /// Something was spoiled: an error is an answer.
    pub spoiled: bool,
    /// The header, by which the next process knows the region, was.
    pub header_spoiled: bool,
    /// A block may have been given away twice: a version that is written from now on may be written over.
    loose: bool,
    forged: BTreeSet<u32>,
    restless: bool,
}

impl Truth {
    pub fn of(model: Model) -> Truth {
        Truth { model, ..Truth::default() }
    }

    pub fn is_sure(&self, name: &str) -> bool {
        !self.doubt.contains(name)
    }

    /// A forger made checksums right: nonsense may look as if it made sense.
    pub fn is_forged(&self) -> bool {
        !self.forged.is_empty()
    }

    /// Another thread spoils the region all the time.
    pub fn nothing_is_sure(&mut self) {
        self.doubt(self.sure());
        (self.spoiled, self.header_spoiled, self.restless) = (true, true, true);
    }

    /// A stored value is there, unless it was stored in another place than expected.
    pub fn is_quiet(&self) -> bool {
        !self.restless && !self.is_forged()
    }

    /// The names that are not in doubt, of upstreams or of none.
    pub fn sure(&self) -> Vec<String> {
        let all: BTreeSet<&String> = names().iter().chain(self.model.0.keys()).collect();
        all.into_iter().filter(|name| self.is_sure(name)).cloned().collect()
    }

    pub fn doubt(&mut self, names: impl IntoIterator<Item = String>) {
        self.doubt.extend(names);
    }

    /// A word is about to be spoiled, or was in the middle of a call: then any bit of it may have changed.
    pub fn spoil(&mut self, table: &Table, word: usize, changed: u64, cleared: u64) {
        let geometry = table.region().geometry();
        self.spoiled |= changed != 0;
        self.header_spoiled |= changed != 0 && word < 8;
        self.loose |= cleared != 0 && bits_of_granules(geometry).contains(&word);
        let touched = |name: &String| Ground::of(table, name).rests_on(word, changed);
        self.doubt(self.sure().into_iter().filter(touched).collect::<Vec<_>>());
        if let Some(record) = record_of_stamp(geometry, word) {
            self.forged.insert(record);
        }
    }

    /// A record that leads to a forged block by now may claim the blocks of others.
    pub fn forge(&mut self, table: &Table, record: Option<u32>) {
        self.forged.extend(record);
        let grounds: Vec<(String, Ground)> =
            self.sure().into_iter().map(|name| (name.clone(), Ground::of(table, &name))).collect();
        for &record in &self.forged {
            for claim in claims(table, record) {
                self.loose |= !is_taken(table, &claim);
                let robbed = |ground: &Ground| ground.record != Some(record) && ground.holds(&claim);
                let names = grounds.iter().filter(|(_, ground)| robbed(ground)).map(|(name, _)| name.clone());
                self.doubt.extend(names);
            }
        }
    }

    /// Notes the answer of a change. For names that are sure, it has to fit.
    pub fn note(&mut self, op: &Op, answer: Result<(), Code>) {
        let names = self.names_of(op);
        let sure = names.iter().all(|name| self.is_sure(name));
        let mut after = self.model.clone();
        let expected = after.apply(op);
        match answer {
            Ok(()) => {
                assert!(!sure || expected.is_ok(), "{:?}: done, expected {expected:?}", Brief(op));
                self.model = after;
                if self.loose {
                    self.doubt(names);
                }
            }
            Err(code) if Err(code) == expected => {}
            // A weight of which no ring can be.
            Err(Code::Invalid) if names.iter().any(|name| is_too_heavy(after.0.get(name))) => {}
            // Nothing was changed; of a list, some may have been.
            Err(Code::Full) if !matches!(op, Op::Load(..)) => {}
            Err(code) => {
                let allowed = code == Code::Full || self.spoiled && matches!(code, Code::Damaged | Code::Changing);
                assert!(!sure || allowed, "{:?}: {code:?}, expected {expected:?}", Brief(op));
                self.doubt(names);
            }
        }
    }

    /// The names that a change is about.
    pub fn names_of(&self, op: &Op) -> Vec<String> {
        match op {
            Op::Put(name, ..) | Op::DeletePeer(name, _) | Op::Delete(name, _) | Op::Ring(name) | Op::Check(name, _) => {
                vec![name.clone()]
            }
            Op::Set(upstream) => vec![upstream.name.clone()],
            Op::Load(files, _) => {
                let in_file = self.model.0.iter().filter(|(_, (_, flags))| flags.has(Flags::IN_FILE));
                files.iter().map(|file| &file.name).chain(in_file.map(|(name, _)| name)).cloned().collect()
            }
        }
    }
}

fn is_too_heavy(upstream: Option<&(Upstream, Flags)>) -> bool {
    let weight = |peers: &[Peer]| peers.iter().map(|peer| u64::from(peer.weight)).sum();
    upstream.is_some_and(|(upstream, _)| ring_points(weight(&upstream.peers)).is_err())
}

/// The words on which the answers about one name rest.
struct Ground {
    record: Option<u32>,
    words: Vec<Range<usize>>,
    /// Bits of bitmaps: word and mask.
    bits: Vec<(usize, u64)>,
    granules: Vec<Range<usize>>,
}

impl Ground {
    fn of(table: &Table, name: &str) -> Ground {
        let (mem, geometry) = (table.region().mem(), table.region().geometry());
        let found = Directory::new(table.region()).find(name.as_bytes()).ok().flatten();
        let bucket = geometry.buckets_at + (hash(name.as_bytes()) as usize & (geometry.buckets - 1));
        let record = found.map(|(record, _)| record);
        let mut ground = Ground { record, words: Vec::new(), bits: Vec::new(), granules: Vec::new() };
        ground.words.push(bucket..bucket + 1);
        let mut link = mem.load(bucket).expect("inside");
        for _ in 0..geometry.records {
            let Some(on_the_way) = link.checked_sub(1).filter(|&record| record < geometry.records as u64) else {
                break;
            };
            let at = geometry.record(on_the_way as u32);
            ground.words.push(at..at + 3);
            ground.bits.push((geometry.record_bits_at + on_the_way as usize / 64, 1 << (on_the_way % 64)));
            if record == Some(on_the_way as u32) {
                break;
            }
            link = mem.load(at + 1).expect("inside");
        }
        for granules in found.iter().flat_map(|(_, view)| blocks_of(view)) {
            ground.words.push(granules.start * GRANULE_WORDS..granules.end * GRANULE_WORDS);
            ground.bits.extend(granules.clone().map(|g| (geometry.granule_bits_at + g / 64, 1 << (g % 64))));
            ground.granules.push(granules);
        }
        ground
    }

    fn rests_on(&self, word: usize, changed: u64) -> bool {
        changed != 0 && self.words.iter().any(|words| words.contains(&word))
            || self.bits.iter().any(|&(at, mask)| at == word && mask & changed != 0)
    }

    fn holds(&self, claim: &Range<usize>) -> bool {
        self.granules.iter().any(|own| own.start < claim.end && claim.start < own.end)
    }
}

fn blocks_of(view: &View) -> Vec<Range<usize>> {
    let rings = view.rings.iter().filter(|ring| ring.block != 0).map(|ring| (ring.block, ring.words()));
    let all = std::iter::once((view.stamp.block(), view.words)).chain(rings);
    all.map(|(block, words)| block as usize..block as usize + granules_of(words)).collect()
}

/// The granules that a record says are its own, if it is believed.
fn claims(table: &Table, record: u32) -> Vec<Range<usize>> {
    let (mem, geometry) = (table.region().mem(), table.region().geometry());
    let place = stamp_at(geometry, record);
    let stamp = Stamp(mem.load(place).expect("inside"));
    View::read(mem, geometry, place, stamp).map_or(Vec::new(), |view| blocks_of(&view))
}

fn is_taken(table: &Table, granules: &Range<usize>) -> bool {
    let first = table.region().geometry().granule_bits_at;
    granules.clone().all(|g| table.region().mem().load(first + g / 64).is_ok_and(|bits| bits >> (g % 64) & 1 == 1))
}

fn bits_of_granules(geometry: &Geometry) -> Range<usize> {
    geometry.granule_bits_at..geometry.heap_at * GRANULE_WORDS
}

fn record_of_stamp(geometry: &Geometry, word: usize) -> Option<u32> {
    (0..geometry.records as u32).find(|&record| stamp_at(geometry, record) == word)
}
