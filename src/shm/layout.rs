//! Where everything lies in a region. All of it follows from the size alone, so nothing about it is read from the file.

use super::mem::{PAGE, WORD};
use super::versioned::GRANULE;

/// Version of this layout: of this file, of the slots, of the records and of the blocks that the table writes.
/// It is part of the name of the file, and a file of another one is refused.
pub const LAYOUT: u32 = 1;

/// First word of every region.
pub const MAGIC: u64 = u64::from_le_bytes(*b"dyups\0sm");

/// Smallest region that is worth having, in bytes.
pub const MIN_SIZE: u64 = 256 * 1024;
/// Largest region, in bytes: what a stamp can address.
pub const MAX_SIZE: u64 = 4 << 30;

/// Words of the header that never change after creation; the last one is a checksum over the others.
pub mod fixed {
    /// [`super::MAGIC`].
    pub const MAGIC: usize = 0;
    /// [`super::LAYOUT`].
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
}

/// Words of the header that writers change, under the writer lock.
pub mod state {
    /// Not 0 while a change is under way: the pid of its writer. Found not 0 by the next one: repair.
    pub const WRITING: usize = 16;
    /// Granules of the heap that are in use.
    pub const USED: usize = 17;
    /// No granule before this one is free.
    pub const LOWEST_FREE: usize = 18;
    /// Records in use.
    pub const RECORDS: usize = 19;
    /// No record before this one is free.
    pub const LOWEST_RECORD: usize = 20;
    /// How often a half built change was cleared away.
    pub const REPAIRS: usize = 21;
}

/// Worker slots, more than the workers of a few generations that overlap.
pub const SLOTS: usize = 512;
/// Words of a slot: a cache line.
pub const SLOT: usize = 8;
/// Words of a record: two cache lines, the second for what readers write.
pub const RECORD: usize = 16;

const HEADER: usize = PAGE / WORD;
const GRANULE_WORDS: usize = GRANULE / WORD;

/// First words of the areas, and how many things are in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Size of the whole region in bytes, a multiple of the page.
    pub size: u64,
    /// Number of records, and of buckets: a power of two.
    pub records: usize,
    /// Number of worker slots.
    pub slots: u32,
    /// First slot.
    pub slots_at: usize,
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
    /// The layout of a region of `size` bytes, or what sizes are allowed.
    pub fn of(size: u64) -> Result<Self, &'static str> {
        if !(MIN_SIZE..=MAX_SIZE).contains(&size) || !size.is_multiple_of(PAGE as u64) {
            return Err("from 256 KiB to 4 GiB, in whole pages of 4 KiB");
        }
        let records = ((size / 4096) as usize + 1).next_power_of_two() / 2;
        let slots_at = HEADER;
        let buckets_at = slots_at + SLOTS * SLOT;
        let record_bits_at = buckets_at + records;
        let records_at = (record_bits_at + records.div_ceil(64)).next_multiple_of(GRANULE_WORDS);
        let granule_bits_at = records_at + records * RECORD;
        let granules = size as usize / GRANULE;
        let heap_word = granule_bits_at + granules.div_ceil(64);
        Ok(Geometry {
            size,
            records,
            slots: SLOTS as u32,
            slots_at,
            buckets_at,
            record_bits_at,
            records_at,
            granule_bits_at,
            heap_at: heap_word.div_ceil(GRANULE_WORDS),
            granules,
        })
    }

    /// Words before the heap: reserved when the region is made.
    pub fn metadata_words(&self) -> usize {
        self.heap_at * GRANULE_WORDS
    }

    /// First word of record `index`.
    #[inline(always)]
    pub fn record(&self, index: u32) -> usize {
        self.records_at + index as usize * RECORD
    }

    /// Bytes of the heap.
    pub fn heap_bytes(&self) -> u64 {
        ((self.granules - self.heap_at) * GRANULE) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_default_region_has_room_for_what_is_promised() {
        let geometry = Geometry::of(128 << 20).expect("allowed");
        assert!(geometry.records >= 10_000);
        assert!(geometry.heap_bytes() > 120 << 20, "{geometry:?}");
    }

    #[test]
    fn sizes_outside_the_limits_are_refused() {
        for size in [0, 4096, MIN_SIZE - 4096, MIN_SIZE + 1, MAX_SIZE + 4096, u64::MAX] {
            assert!(Geometry::of(size).is_err(), "{size}");
        }
    }

    proptest! {
        #[test]
        fn areas_follow_one_another_and_end_inside(pages in MIN_SIZE / 4096..=MAX_SIZE / 4096) {
            let g = Geometry::of(pages * 4096).expect("allowed");
            prop_assert!(g.slots_at < g.buckets_at && g.buckets_at < g.record_bits_at);
            prop_assert!(g.record_bits_at < g.records_at && g.records_at.is_multiple_of(8));
            prop_assert!(g.records_at < g.granule_bits_at && g.granule_bits_at < g.metadata_words());
            prop_assert!(g.heap_at < g.granules && g.records.is_power_of_two());
        }
    }
}
