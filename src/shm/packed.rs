//! Bytes in words: the first byte is the lowest of the first word, and the rest of the last word is 0.

use super::units::WORD;

/// Puts the front of `bytes` into the front of `words`, as far as there is room. Answers how many bytes that are, at most 255.
pub fn pack(bytes: &[u8], words: &mut [u64]) -> u64 {
    let bytes = &bytes[..bytes.len().min(words.len() * WORD).min(u8::MAX.into())];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks(WORD)) {
        *word = bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
    }
    bytes.len() as u64
}

/// The first `len` bytes of these words; all of them, where there are fewer.
pub fn unpack(words: &[u64], len: usize) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).take(len).collect()
}
