//! Where everything lies in a region. All of it follows from the size and the layout alone, so nothing about it is read from
//! the file.

use super::units::{PAGE, WORD};
use super::versioned::GRANULE;
use std::ops::Range;

/// The differences between layouts, in words. A writer uses [`OURS`], and a reader the shape of the region: a table is carried
/// over from any older layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Version of all this: of this file, of the slots, of the records and of the blocks that the table writes. The number is
    /// never used again, and is part of the name of the region's file.
    pub layout: u32,
    /// Words of the header.
    pub header: usize,
    /// The first of its words that writers change.
    pub state: usize,
    /// Words of a slot: at least a cache line.
    pub slot: usize,
    /// Words of a record: at least two cache lines, of which the second is for the words that readers write.
    pub record: usize,
    /// Words of a snapshot before its name.
    pub head: usize,
    /// Words of a peer in a snapshot: at least a cache line.
    pub peer: usize,
    /// There is a record for so many bytes of the region.
    pub bytes_of_a_record: u64,
    /// Entries of the table of sources.
    pub sources: usize,
    /// Entries of the ring of deletions at most, with one for [`RECORDS_OF_A_DELETION`] records.
    pub deletions: usize,
}

impl Shape {
    /// The first one.
    pub const V1: Shape = Shape {
        layout: 1,
        header: PAGE / WORD,
        state: 16,
        slot: 8,
        record: 16,
        head: 9,
        peer: 8,
        bytes_of_a_record: BYTES_OF_A_BUCKET,
        sources: 0,
        deletions: 0,
    };

    /// Versions have a kind, a source and numbers of changes, peers have ids, tiers and extras, and stand by weight too. There are four
    /// times as many records, whose memory is reserved as they are used; a table of sources; and a ring of deletions.
    pub const V2: Shape =
        Shape { layout: 2, head: 20, bytes_of_a_record: 1024, sources: 64, deletions: 1024, ..Shape::V1 };

    /// One in which all differs, for tests alone: it makes a second library out of this source (feature `next-layout`).
    #[cfg(feature = "next-layout")]
    pub const NEXT: Shape = Shape {
        layout: 3,
        header: 2 * PAGE / WORD,
        state: 40,
        slot: 16,
        record: 24,
        head: 24,
        peer: 12,
        bytes_of_a_record: 2048,
        sources: 80,
        deletions: 512,
    };

    /// All that this library can read, in the order of their numbers: none is missing between the first and its own.
    pub const KNOWN: &[Shape] = &[
        Shape::V1,
        Shape::V2,
        #[cfg(feature = "next-layout")]
        Shape::NEXT,
    ];
}

/// The layout that this library writes: the last that it knows.
pub const OURS: Shape = Shape::KNOWN[Shape::KNOWN.len() - 1];
/// Its number.
pub const LAYOUT: u32 = OURS.layout;

/// There is a bucket for so many bytes of a region of any layout.
const BYTES_OF_A_BUCKET: u64 = 4096;
/// There is an entry of the ring of deletions for so many records.
pub const RECORDS_OF_A_DELETION: usize = 128;
/// Entries of that ring in a small region.
const LEAST_DELETIONS: usize = 8;

/// Words of an entry of each table.
pub mod entry {
    use super::WORD;

    /// Bytes of the longest name of a deletion.
    pub const MAX_NAME: usize = 255;
    /// Of the ring of deletions: two words, and a name.
    pub const DELETION: usize = 2 + MAX_NAME.div_ceil(WORD);
    /// Of the table of sources.
    pub const SOURCE: usize = 16;
}

/// First word of every region.
pub const MAGIC: u64 = u64::from_le_bytes(*b"dyups\0sm");

/// Smallest region that is worth having, in bytes.
pub const MIN_SIZE: u64 = 256 * 1024;
/// Largest region, in bytes: a stamp can address no more.
pub const MAX_SIZE: u64 = 4 << 30;

/// Words of the header that never change after creation. They are the same in all layouts, for ever: by them one library knows
/// the file of another.
pub mod fixed {
    /// [`super::MAGIC`].
    pub const MAGIC: usize = 0;
    /// Number of the layout.
    pub const LAYOUT: usize = 1;
    /// Size of the file in bytes.
    pub const SIZE: usize = 2;
    /// Two words: the boot in which it was made.
    pub const BOOT: usize = 3;
    /// Inode of the pid namespace of the process that made it.
    pub const PID_NAMESPACE: usize = 5;
    /// Inode of the lock file that its users share.
    pub const LOCK: usize = 6;
    /// CRC-32 of the words before it.
    pub const CHECKSUM: usize = 7;
    /// Two words: the layout that the table was taken over from, and the digest of that table.
    pub const ORIGIN: usize = 8;
    /// Two words: a random number, by which a region is known from any other; zeros in layout 1.
    pub const IDENTITY: usize = 10;
    /// Number of these words.
    pub const WORDS: usize = 12;
}

/// Words of the header that writers change, under the writer lock. Only a region of our own layout is written to.
pub mod state {
    use super::{OURS, Shape};

    /// Not 0 while a change is under way: the pid of its writer. Found not 0 by the next one: repair.
    pub const WRITING: usize = OURS.state;
    /// Granules of the heap that are in use.
    pub const USED: usize = OURS.state + 1;
    /// No granule between the spare and this one is free.
    pub const LOWEST_FREE: usize = OURS.state + 2;
    /// Records in use.
    pub const RECORDS: usize = OURS.state + 3;
    /// No record before this one is free.
    pub const LOWEST_RECORD: usize = OURS.state + 4;
    /// How often a half built change was cleared away.
    pub const REPAIRS: usize = OURS.state + 5;
    /// Number of the last change: each change of an upstream takes the next one before it is published, and some are never used. A
    /// futex may wait on its low half.
    pub const SEQUENCE: usize = sequence_in(OURS);
    /// No record from this one on was ever linked, so that there may be no memory for it.
    pub const RECORDS_END: usize = OURS.state + 7;
    /// How many entries there ever were in the ring of deletions.
    pub const DELETIONS: usize = OURS.state + 8;
    /// Kept for a journal: number of the last change that is on disk. Nothing stores it yet.
    pub const SYNCED: usize = OURS.state + 9;
    /// Kept for a journal: how often it began anew. Nothing stores it yet.
    pub const EPOCH: usize = OURS.state + 10;
    /// The word behind the last of these.
    pub const END: usize = OURS.state + 11;

    /// [`SEQUENCE`] in a region of any layout. The first one has 0 there.
    pub const fn sequence_in(shape: Shape) -> usize {
        shape.state + 6
    }

    /// [`RECORDS_END`] in a region of any layout. The first one has none: all its records have memory.
    pub fn records_end_in(shape: Shape) -> Option<usize> {
        (shape.layout > 1).then_some(shape.state + 7)
    }
}

/// Worker slots, more than the workers of a few generations that overlap.
pub const SLOTS: usize = 512;

/// Granules of the spare at most.
const MOST_SPARE: usize = (2 << 20) / GRANULE;

const GRANULE_WORDS: usize = GRANULE / WORD;

/// First words of the areas, and how many things are in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The sizes that it is made of.
    pub shape: Shape,
    /// Size of the whole region in bytes, a multiple of the page.
    pub size: u64,
    /// Number of records.
    pub records: usize,
    /// Number of buckets: a power of two.
    pub buckets: usize,
    /// Number of worker slots.
    pub slots: u32,
    /// First slot.
    pub slots_at: usize,
    /// First entry of the table of sources, and how many there are.
    pub sources_at: usize,
    /// Number of these entries.
    pub sources: usize,
    /// First entry of the ring of deletions.
    pub deletions_at: usize,
    /// Number of these entries.
    pub deletions: usize,
    /// First bucket, a word each.
    pub buckets_at: usize,
    /// First word of the bitmap of records in use.
    pub record_bits_at: usize,
    /// First record.
    pub records_at: usize,
    /// First word of the bitmap of granules in use, one bit for each granule of the region.
    pub granule_bits_at: usize,
    /// First granule of the heap.
    pub heap_at: usize,
    /// One past the last granule of the region.
    pub granules: usize,
}

impl Geometry {
    /// The layout of a region of `size` bytes that this library makes.
    ///
    /// # Errors
    ///
    /// A text with the allowed sizes, where `size` is none of them.
    pub fn of(size: u64) -> Result<Self, &'static str> {
        Geometry::shaped(OURS, size)
    }

    /// The same for a region of any known layout.
    ///
    /// # Errors
    ///
    /// As [`Geometry::of`].
    pub fn shaped(shape: Shape, size: u64) -> Result<Self, &'static str> {
        if !(MIN_SIZE..=MAX_SIZE).contains(&size) || !size.is_multiple_of(PAGE as u64) {
            return Err("from 256 KiB to 4 GiB, in whole pages of 4 KiB");
        }
        let for_each = |bytes: u64| ((size / bytes) as usize + 1).next_power_of_two() / 2;
        let (records, buckets) = (for_each(shape.bytes_of_a_record), for_each(BYTES_OF_A_BUCKET));
        let slots_at = shape.header;
        let sources_at = slots_at + SLOTS * shape.slot;
        let deletions_at = sources_at + shape.sources * entry::SOURCE;
        let deletions = (records / RECORDS_OF_A_DELETION).max(LEAST_DELETIONS).min(shape.deletions);
        let buckets_at = deletions_at + deletions * entry::DELETION;
        let record_bits_at = buckets_at + buckets;
        let records_at = (record_bits_at + records.div_ceil(64)).next_multiple_of(GRANULE_WORDS);
        let granule_bits_at = records_at + records * shape.record;
        let granules = size as usize / GRANULE;
        let heap_word = granule_bits_at + granules.div_ceil(64);
        Ok(Geometry {
            shape,
            size,
            records,
            buckets,
            slots: SLOTS as u32,
            slots_at,
            sources_at,
            sources: shape.sources,
            deletions_at,
            deletions,
            buckets_at,
            record_bits_at,
            records_at,
            granule_bits_at,
            heap_at: heap_word.div_ceil(GRANULE_WORDS),
            granules,
        })
    }

    /// One past the last granule of the spare, with which the heap begins: 1/64 of it, 2 MiB at most.
    pub fn spare_end(&self) -> usize {
        self.heap_at + ((self.granules - self.heap_at) / 64).min(MOST_SPARE)
    }

    /// Words before the heap.
    pub fn metadata_words(&self) -> usize {
        self.heap_at * GRANULE_WORDS
    }

    /// Words that must be there in any case, reserved when the region is made: all words up to the end of the spare. A layout that
    /// tells which records were ever used has none of its records among them.
    pub fn in_advance(&self) -> [Range<usize>; 2] {
        let end = self.spare_end() * GRANULE_WORDS;
        match state::records_end_in(self.shape) {
            Some(_) => [0..self.records_at, self.granule_bits_at..end],
            None => [0..self.records_at, self.records_at..end],
        }
    }

    /// First word of record `index`.
    #[inline(always)]
    pub fn record(&self, index: u32) -> usize {
        self.records_at + index as usize * self.shape.record
    }

    /// The record whose first word is this one.
    pub fn record_at(&self, word: usize) -> u32 {
        (word.saturating_sub(self.records_at) / self.shape.record) as u32
    }

    /// Bytes of the heap without the spare.
    pub fn heap_bytes(&self) -> u64 {
        ((self.granules - self.spare_end()) * GRANULE) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_default_region_has_room_for_what_is_promised() {
        let geometry = Geometry::of(128 << 20).expect("allowed");
        assert_eq!(geometry.records, 131_072);
        assert!(geometry.heap_bytes() > 108 << 20, "{geometry:?}");
    }

    #[test]
    fn sizes_outside_the_limits_are_refused() {
        for size in [0, 4096, MIN_SIZE - 4096, MIN_SIZE + 1, MAX_SIZE + 4096, u64::MAX] {
            assert!(Geometry::of(size).is_err(), "{size}");
        }
    }

    #[test]
    fn a_library_knows_its_own_layout_and_all_older_ones() {
        let numbers: Vec<u32> = Shape::KNOWN.iter().map(|shape| shape.layout).collect();
        assert_eq!(numbers, (1..=LAYOUT).collect::<Vec<_>>());
        for shape in Shape::KNOWN {
            assert!(shape.slot >= 8 && shape.record >= 16 && shape.head >= 9 && shape.peer >= 8, "{shape:?}");
            assert!(shape.state >= fixed::WORDS && shape.state + 11 <= shape.header, "{shape:?}");
        }
    }

    proptest! {
        #[test]
        fn areas_follow_one_another_and_end_inside(pages in MIN_SIZE / 4096..=MAX_SIZE / 4096, known in 0..Shape::KNOWN.len()) {
            let g = Geometry::shaped(Shape::KNOWN[known], pages * 4096).expect("allowed");
            prop_assert!(g.slots_at < g.sources_at && g.sources_at <= g.deletions_at && g.deletions_at <= g.buckets_at);
            prop_assert!(g.buckets_at < g.record_bits_at && g.buckets.is_power_of_two());
            prop_assert!(g.record_bits_at < g.records_at && g.records_at.is_multiple_of(8));
            prop_assert!(g.records_at < g.granule_bits_at && g.granule_bits_at < g.metadata_words());
            prop_assert!(g.heap_at < g.spare_end() && g.spare_end() < g.granules && g.records >= g.buckets);
        }
    }
}
