//! The place and the value of a damage. Both follow the meaning of the words, so that links, offsets and lengths are hit more
//! often than by chance.

use dyups::shm::layout::{Geometry, state};
use dyups::shm::{GRANULE_WORDS, Mem, Memory, Stamp};

/// A word and its new value.
#[derive(Clone, Copy, Debug)]
pub struct Spoil {
    pub place: Place,
    pub value: Value,
}

/// A word of the region. Numbers that are too large count from the start again.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// A word of the header that never changes.
    Fixed(u8),
    /// A word of the header that writers change.
    State(u8),
    Slot(u16),
    Bucket(u8),
    RecordBits(u8),
    /// A word of a record: stamp, link, hash, ...
    Record(u8, u8),
    GranuleBits(u8),
    /// A word of the snapshot that a record leads to.
    Block(u8, u16),
    /// A word of one of its rings.
    Ring(u8, u16),
    Any(u16),
}

#[derive(Clone, Copy, Debug)]
pub enum Value {
    Is(u64),
    Flip(u8),
    /// One byte of the word.
    Byte(u8, u8),
    Small(u8),
    Add(i8),
    CopyOf(Place),
    /// A link to a record.
    Link(u8),
    /// The block of another record, with the generation that is there.
    BlockOf(u8),
    LastGeneration,
    /// The low half becomes something near a limit.
    Low(u8),
    /// The high half does.
    High(u8),
    /// The value at the beginning of the case.
    AsInTheBeginning,
}

/// The region in which places and values are resolved.
pub struct Lay<'a> {
    pub mem: &'a Mem,
    pub geometry: &'a Geometry,
    pub beginning: &'a [u64],
}

impl Lay<'_> {
    fn load(&self, word: usize) -> u64 {
        self.mem.load(word).expect("inside")
    }

    fn stamp(&self, record: u8) -> Stamp {
        Stamp(self.load(self.geometry.record(u32::from(record) % self.geometry.records as u32)))
    }

    /// Word `offset` of a block of `words` words, or another one of the region if that leads out of it.
    fn in_block(&self, block: u32, words: u64, offset: u16) -> usize {
        let offset = u64::from(offset) % words.clamp(GRANULE_WORDS as u64, 1 << 16);
        (block as usize * GRANULE_WORDS + offset as usize) % self.mem.words()
    }

    pub fn word(&self, place: Place) -> usize {
        let g = self.geometry;
        match place {
            Place::Fixed(i) => usize::from(i) % state::WRITING,
            Place::State(i) => state::WRITING + usize::from(i) % (state::END - state::WRITING),
            Place::Slot(i) => g.slots_at + usize::from(i) % (g.buckets_at - g.slots_at),
            Place::Bucket(i) => g.buckets_at + usize::from(i) % g.buckets,
            Place::RecordBits(i) => g.record_bits_at + usize::from(i) % g.records.div_ceil(64),
            Place::Record(record, i) => g.record(u32::from(record) % g.records as u32) + usize::from(i) % 16,
            Place::GranuleBits(i) => {
                let (from, to) = (g.heap_at / 64, g.granules.div_ceil(64));
                g.granule_bits_at + from + usize::from(i) % (to - from)
            }
            Place::Block(record, offset) => {
                let stamp = self.stamp(record);
                let words = self.load(stamp.word() % self.mem.words()) & 0xffff_ffff;
                self.in_block(stamp.block(), words, offset)
            }
            Place::Ring(record, offset) => {
                let ring = self.load((self.stamp(record).word() + 4 + usize::from(record / 128)) % self.mem.words());
                // Points: half a word each, and the starts before them.
                self.in_block(ring as u32, ring >> 32, offset)
            }
            Place::Any(i) => usize::from(i) % self.mem.words(),
        }
    }

    /// The place and the value that `spoil` stores.
    pub fn resolve(&self, spoil: Spoil) -> (usize, u64) {
        let word = self.word(spoil.place);
        let old = self.load(word);
        let new = match spoil.value {
            Value::Is(value) => value,
            Value::Flip(bit) => old ^ 1 << (bit % 64),
            Value::Byte(at, byte) => {
                let mut bytes = old.to_le_bytes();
                bytes[usize::from(at % 8)] = byte;
                u64::from_le_bytes(bytes)
            }
            Value::Small(value) => value.into(),
            Value::Add(by) => old.wrapping_add_signed(by.into()),
            Value::CopyOf(place) => self.load(self.word(place)),
            Value::Link(record) => u64::from(record) % (self.geometry.records as u64 + 2) + 1,
            Value::BlockOf(record) => old & !low_bits(26) | u64::from(self.stamp(record).block()),
            Value::LastGeneration => old | !low_bits(26),
            Value::Low(which) => old & !low_bits(32) | u64::from(self.limit(which)),
            Value::High(which) => old & low_bits(32) | u64::from(self.limit(which)) << 32,
            Value::AsInTheBeginning => self.beginning[word],
        };
        (word, new)
    }

    fn limit(&self, which: u8) -> u32 {
        let (words, granules, heap) =
            (self.mem.words() as u32, self.geometry.granules as u32, self.geometry.heap_at as u32);
        let limits = [
            0,
            1,
            words - 1,
            words,
            words + 1,
            granules - 1,
            granules,
            heap - 1,
            heap,
            1 << 18,
            (1 << 18) + 1,
            1 << 31,
            u32::MAX - 1,
            u32::MAX,
        ];
        limits.get(usize::from(which)).copied().unwrap_or(which.into())
    }
}

fn low_bits(count: u32) -> u64 {
    (1 << count) - 1
}
