//! Which pages this process has had the kernel back with memory, so that writing to them cannot be answered by SIGBUS.
//!
//! Private to each process, though a page that one has reserved is there for all: what the region says about itself is not
//! trusted, and asking the kernel again is cheap. A forked worker inherits what its master knew.

use super::mem::{Mem, WORD};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Words that are reserved at once when one of them is first written (256 KiB).
const CHUNK: usize = 256 * 1024 / WORD;

/// One bit for each chunk of a mapping: it is reserved.
#[derive(Debug)]
pub struct Reserved(Box<[AtomicU64]>);

impl Reserved {
    /// Nothing is reserved yet.
    pub fn none(mem: &Mem) -> Self {
        Reserved((0..mem.words().div_ceil(CHUNK).div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// All is: the file was allocated as a whole, as this kernel cannot do it by parts.
    pub fn all(mem: &Mem) -> Self {
        let all = Self::none(mem);
        all.0.iter().for_each(|bits| bits.store(u64::MAX, Ordering::Relaxed));
        all
    }

    /// Has the kernel back `words` words from `at` on. `ENOSPC` when the file system is full.
    pub fn reserve(&self, mem: &Mem, at: usize, words: usize) -> io::Result<()> {
        for chunk in at / CHUNK..(at + words).div_ceil(CHUNK) {
            let Some(bits) = self.0.get(chunk / 64) else { return Err(io::Error::from(io::ErrorKind::InvalidInput)) };
            let bit = 1 << (chunk % 64);
            if bits.load(Ordering::Relaxed) & bit == 0 {
                let first = chunk * CHUNK;
                mem.reserve(first, CHUNK.min(mem.words() - first))?;
                bits.fetch_or(bit, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::mem::tests::scratch;

    #[test]
    fn what_lies_outside_is_not_reserved() {
        let mem = scratch(1 << 20);
        let reserved = Reserved::none(&mem);
        assert!(reserved.reserve(&mem, 0, mem.words()).is_ok());
        assert!(reserved.reserve(&mem, 64 * CHUNK, 1).is_err());
    }
}
