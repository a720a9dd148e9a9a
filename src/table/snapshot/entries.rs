//! How texts and schedules are packed into words.

use crate::shm::{Damaged, Memory, WORD};

pub(super) fn append_schedule(words: &mut Vec<u64>, schedule: &[u32], peers: usize) {
    match entries_a_word(peers) {
        NARROW => append_entries::<NARROW>(words, schedule),
        _ => append_entries::<WIDE>(words, schedule),
    }
}

/// `N` entries to a word, the first one lowest.
fn append_entries<const N: usize>(words: &mut Vec<u64>, entries: &[u32]) {
    let word = |entries: &[u32]| entries.iter().rev().fold(0, |word, &entry| word << (64 / N) | u64::from(entry));
    let (whole, rest) = entries.as_chunks::<N>();
    words.extend(whole.iter().map(|entries| word(entries)));
    words.extend((!rest.is_empty()).then(|| word(rest)));
}

/// Entries of a schedule in a word, by how many bits an index has.
const NARROW: usize = 4;
const WIDE: usize = 2;

/// Entries of a schedule in a word.
pub(in crate::table) fn entries_a_word(peers: usize) -> usize {
    if is_wide(peers) { WIDE } else { NARROW }
}

/// The entry at `position` of entries that begin at word `at` of an image.
pub(super) fn entry_of(image: &[u64], at: usize, position: usize, peers: usize) -> usize {
    let entries = entries_a_word(peers);
    let bits = 64 / entries;
    (image[at + position / entries] >> (position % entries * bits)) as usize & ((1 << bits) - 1)
}

pub(super) fn is_wide(peers: usize) -> bool {
    peers > 1 << 16
}

/// Bytes as little-endian words, the last one filled up with zeros.
pub(super) fn packed(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let (whole, rest) = bytes.as_chunks::<WORD>();
    // By shifts: bytes that are stored one by one and then loaded as a word keep the processor waiting.
    let last = rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
    whole.iter().map(|bytes| u64::from_le_bytes(*bytes)).chain((!rest.is_empty()).then_some(last))
}

/// Reads `len` bytes that [`packed`] gave from word `at` on into the front of `out`.
#[inline(always)]
pub(super) fn unpack(mem: &impl Memory, at: usize, len: usize, out: &mut [u8]) -> Result<(), Damaged> {
    let out = out.get_mut(..len.next_multiple_of(WORD)).ok_or(Damaged)?;
    for (i, bytes) in out.as_chunks_mut::<WORD>().0.iter_mut().enumerate() {
        *bytes = mem.load(at + i)?.to_le_bytes();
    }
    Ok(())
}
