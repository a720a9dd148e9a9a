//! The checksums of a snapshot as a forger makes them: from any words, as far as these make sense.

use dyups::checksum::Checksum;
use dyups::order::chash::{self, RingShape};
use dyups::shm::{GRANULE_WORDS, Memory, Stamp};
use dyups::table::Table;
use dyups::table::snapshot::{HEADER, RingPlace, RingWords, seal_of_head};

/// The words of the snapshot that `record` leads to, as many as it says it has; none if they are not there.
fn snapshot(table: &Table, record: u32) -> Option<(Stamp, Vec<u64>)> {
    let mem = table.region().mem();
    let stamp = Stamp(mem.load(table.region().geometry().record(record)).ok()?);
    let count = (mem.load(stamp.word()).ok()? as u32 as usize).max(HEADER);
    if stamp.block() == 0 || stamp.word() + count > mem.words() {
        return None;
    }
    let mut words = vec![0; count];
    mem.load_all(stamp.word(), &mut words).ok()?;
    Some((stamp, words))
}

/// Where the words behind the head begin.
fn head(words: &[u64]) -> usize {
    let name = (words[1] >> 32) as u8 as usize;
    (HEADER + name.div_ceil(8)).min(words.len())
}

/// Word and value of the seal of the head.
pub fn head_seal(table: &Table, record: u32) -> Option<(usize, u64)> {
    let (stamp, words) = snapshot(table, record)?;
    let seal = seal_of_head(&words[..HEADER], &words[HEADER..head(&words)], stamp.generation());
    Some((stamp.word() + 7, words[7] & !0xffff_ffff | u64::from(seal)))
}

/// Of the part behind the head.
pub fn body_seal(table: &Table, record: u32) -> Option<(usize, u64)> {
    let (stamp, words) = snapshot(table, record)?;
    let seal = Checksum::of(&words[head(&words)..]);
    Some((stamp.word() + 7, words[7] & 0xffff_ffff | u64::from(seal) << 32))
}

/// Of the ring of the primaries.
pub fn ring_seal(table: &Table, record: u32) -> Option<(usize, u64)> {
    let (_, words) = snapshot(table, record)?;
    let shape = RingShape { points: (words[4] >> 32) as u32, bits: words[6] as u8 };
    let place = RingPlace { block: words[4] as u32, shape };
    if place.block == 0 || !shape.is_sound() {
        return None;
    }
    let mem = table.region().mem();
    let seal = chash::seal(&RingWords::new(mem, &place), shape)?;
    // The upper half of the last word before the points.
    let word = place.block as usize * GRANULE_WORDS + (1 << (shape.bits - 1));
    Some((word, mem.load(word).ok()? & 0xffff_ffff | u64::from(seal) << 32))
}
