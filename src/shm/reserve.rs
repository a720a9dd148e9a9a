//! Which pages this process has had the kernel back with memory, so that writing to them cannot be answered by SIGBUS.
//!
//! Each process keeps this for itself, though a page that one has reserved is there for all. The region's own claims are not
//! trusted, and asking the kernel again is cheap. A forked worker inherits its master's knowledge.

use super::units::WORD;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Words that are reserved at once when one of them is first written (256 KiB), unless the caller gives another number.
pub const CHUNK: usize = 256 * 1024 / WORD;

/// One bit for each chunk of a mapping: it is reserved.
#[derive(Debug)]
pub struct Reserved {
    bits: Box<[AtomicU64]>,
    /// Words of a chunk.
    chunk: usize,
}

impl Reserved {
    /// Nothing of a mapping of `words` words is reserved yet; it will be by chunks of `chunk` words.
    pub fn none(words: usize, chunk: usize) -> Self {
        let bits = (0..words.div_ceil(chunk).div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Reserved { bits, chunk }
    }

    /// Marks all as reserved: the file was allocated as a whole, as this kernel cannot do it by parts.
    pub fn all(&self) {
        self.bits.iter().for_each(|bits| bits.store(u64::MAX, Ordering::Relaxed));
    }

    /// Has `populate` (first word, words) back the chunks that `words` words from `at` on touch, unless they are.
    ///
    /// # Errors
    ///
    /// Those of `populate`.
    /// `InvalidInput`: the words lie behind the last chunk that has a bit.
    pub fn reserve(
        &self,
        at: usize,
        words: usize,
        populate: impl Fn(usize, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        for chunk in at / self.chunk..(at + words).div_ceil(self.chunk) {
            let Some(bits) = self.bits.get(chunk / 64) else {
                return Err(io::Error::from(io::ErrorKind::InvalidInput));
            };
            let bit = 1 << (chunk % 64);
            if bits.load(Ordering::Relaxed) & bit == 0 {
                populate(chunk * self.chunk, self.chunk)?;
                bits.fetch_or(bit, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn each_chunk_is_populated_once() {
        let reserved = Reserved::none(8 * CHUNK, CHUNK);
        let populated = RefCell::new(Vec::new());
        let reserve = |at, words| {
            reserved.reserve(at, words, |first, words| {
                populated.borrow_mut().push((first, words));
                Ok(())
            })
        };
        assert!(reserve(CHUNK - 1, 2).is_ok());
        assert!(reserve(CHUNK, CHUNK + 1).is_ok());
        assert_eq!(*populated.borrow(), [0, CHUNK, 2 * CHUNK].map(|first| (first, CHUNK)));
        assert!(reserve(64 * CHUNK, 1).is_err(), "outside");
    }

    #[test]
    fn what_could_not_be_populated_is_asked_for_again() {
        let reserved = Reserved::none(CHUNK, CHUNK);
        assert!(reserved.reserve(0, 1, |_, _| Err(io::Error::from(io::ErrorKind::StorageFull))).is_err());
        assert!(reserved.reserve(0, 1, |_, _| Ok(())).is_ok());
    }
}
