//! CRC-32 over words: it shows that a word is no longer the one that was stored.

use crc32fast::Hasher;

/// Words that are turned into bytes at once.
const CHUNK: usize = 128;

/// A checksum that grows with the words it is given.
#[derive(Clone, Debug, Default)]
pub struct Checksum(Hasher);

impl Checksum {
    /// Of `words` alone.
    pub fn of(words: &[u64]) -> u32 {
        Checksum::default().and(words).value()
    }

    /// With `words` behind the words so far.
    #[must_use]
    pub fn and(mut self, words: &[u64]) -> Self {
        let mut bytes = [[0; 8]; CHUNK];
        for words in words.chunks(CHUNK) {
            bytes.iter_mut().zip(words).for_each(|(bytes, word)| *bytes = word.to_le_bytes());
            self.0.update(bytes[..words.len()].as_flattened());
        }
        self
    }

    /// With `count` more words behind the words so far. `copy` gets the number of the first word and a place, and copies words
    /// there.
    ///
    /// # Errors
    ///
    /// The first of `copy`.
    pub fn and_copied<E>(
        mut self,
        count: usize,
        mut copy: impl FnMut(usize, &mut [u64]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut words = [0; CHUNK];
        for from in (0..count).step_by(CHUNK) {
            let words = &mut words[..CHUNK.min(count - from)];
            copy(from, words)?;
            self = self.and(words);
        }
        Ok(self)
    }

    /// The sum.
    pub fn value(self) -> u32 {
        self.0.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_crc_of_the_bytes_however_they_come() {
        let words: Vec<u64> = (0..300u64).map(|word| word.wrapping_mul(0x0123_4567_89ab_cdef)).collect();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let copy = |from: usize, out: &mut [u64]| {
            out.copy_from_slice(&words[100 + from..][..out.len()]);
            Ok::<_, ()>(())
        };
        let copied = Checksum::default().and(&words[..100]).and_copied(200, copy).map(Checksum::value);
        assert_eq!((Checksum::of(&words), copied), (crc32fast::hash(&bytes), Ok(crc32fast::hash(&bytes))));
    }
}
