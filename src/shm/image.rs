//! A copy of some words of the shared memory, of this process alone. It is read by the same indexes as the original.

use super::memory::{Damaged, Memory, Word};
use std::cell::Cell;
use std::io;
use std::sync::atomic::Ordering;

/// A word of a copy. One thread has it.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Own(Cell<u64>);

impl Word for Own {
    #[inline(always)]
    fn get(&self, _: Ordering) -> u64 {
        self.0.get()
    }

    fn put(&self, value: u64, _: Ordering) {
        self.0.set(value);
    }

    fn add(&self, value: u64, _: Ordering) -> u64 {
        self.0.replace(self.0.get().wrapping_add(value))
    }

    fn replace(&self, old: u64, new: u64, _: Ordering) -> bool {
        let same = self.0.get() == old;
        if same {
            self.0.set(new);
        }
        same
    }

    fn fence(_: Ordering) {}
}

/// The copy.
#[derive(Debug)]
pub struct Image {
    first: usize,
    words: Vec<Own>,
}

impl Image {
    /// An empty copy of what begins at word `first`.
    pub fn from(first: usize) -> Self {
        Image { first, words: Vec::new() }
    }

    /// How many words it has.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Copies the next `count` words behind those that it has.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: some of them lie outside of the memory.
    pub fn copy(&mut self, mem: &impl Memory, count: usize) -> Result<(), Damaged> {
        let words = mem.slice(self.first + self.words.len(), count)?;
        self.words.extend(words.iter().map(|word| Own(Cell::new(word.get(Ordering::Relaxed)))));
        Ok(())
    }
}

impl Memory for Image {
    type Word = Own;

    fn slice(&self, index: usize, len: usize) -> Result<&[Own], Damaged> {
        let from = index.checked_sub(self.first).ok_or(Damaged)?;
        let to = from.checked_add(len).ok_or(Damaged)?;
        self.words.get(from..to).ok_or(Damaged)
    }

    fn word(&self, index: usize) -> Result<&Own, Damaged> {
        self.words.get(index.wrapping_sub(self.first)).ok_or(Damaged)
    }

    fn words(&self) -> usize {
        self.first + self.words.len()
    }

    fn reserve(&self, _: usize, _: usize) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_read_by_the_indexes_of_the_original_and_has_nothing_outside() {
        let original = Image { first: 0, words: (0..100).map(|word| Own(Cell::new(word))).collect() };
        let mut copy = Image::from(40);
        copy.copy(&original, 8).expect("inside");
        copy.copy(&original, 2).expect("inside");
        assert_eq!((copy.load(40), copy.load(49), copy.len()), (Ok(40), Ok(49), 10));
        for outside in [0, 39, 50, usize::MAX] {
            assert_eq!(copy.load(outside), Err(Damaged), "{outside}");
        }
        assert!(copy.slice(48, 2).is_ok() && copy.slice(48, 3).is_err() && copy.slice(39, 2).is_err());
        assert!(copy.slice(45, usize::MAX).is_err() && copy.copy(&original, 51).is_err());
    }
}
