//! The demands of the protocol on memory. The library runs on the mapping ([`super::Mem`]); a model of it runs on words that
//! loom watches. The orders in which words are read and written stand here, once. So the models check the code that ships.

use std::io;
use std::sync::atomic::Ordering;

/// A word that was read from the region cannot be true: an offset outside of it, a length that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

/// A word that processes share.
pub trait Word {
    /// An atomic load.
    fn get(&self, order: Ordering) -> u64;

    /// An atomic store.
    #[cfg_attr(feature = "killpoints", track_caller)]
    fn put(&self, value: u64, order: Ordering);

    /// Adds in one step and returns the old value.
    #[cfg_attr(feature = "killpoints", track_caller)]
    fn add(&self, value: u64, order: Ordering) -> u64;

    /// Stores `new` where `old` is; whether it was.
    #[cfg_attr(feature = "killpoints", track_caller)]
    fn replace(&self, old: u64, new: u64, order: Ordering) -> bool;

    /// A fence between accesses to words of this kind.
    fn fence(order: Ordering);
}

/// Words that processes share. An access outside is [`Damaged`], with any index.
pub trait Memory {
    /// The type of its words.
    type Word: Word;

    /// `len` words from `index` on: one check for all of them.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: some of them lie outside of the memory.
    fn slice(&self, index: usize, len: usize) -> Result<&[Self::Word], Damaged>;

    /// One word.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the word lies outside of the memory.
    fn word(&self, index: usize) -> Result<&Self::Word, Damaged>;

    /// The size in words.
    fn words(&self) -> usize;

    /// Sees to it that `words` words from `index` on can be written to.
    ///
    /// # Errors
    ///
    /// `ENOSPC`: there is no memory for them.
    /// Any other error: the index is out of bounds, or the operating system refuses.
    fn reserve(&self, index: usize, words: usize) -> io::Result<()>;

    /// Whether some of it is gone, so that other processes may not see the stores of this one.
    fn is_torn(&self) -> bool {
        false
    }

    /// A relaxed load. Order comes from [`super::versioned`] or from the lock.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the word lies outside of the memory.
    #[inline(always)]
    fn load(&self, index: usize) -> Result<u64, Damaged> {
        Ok(self.word(index)?.get(Ordering::Relaxed))
    }

    /// A load that sees all that was stored before the matching [`Memory::publish`].
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the word lies outside of the memory.
    #[inline(always)]
    fn load_acquire(&self, index: usize) -> Result<u64, Damaged> {
        Ok(self.word(index)?.get(Ordering::Acquire))
    }

    /// A relaxed store.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the word lies outside of the memory.
    #[inline(always)]
    #[cfg_attr(feature = "killpoints", track_caller)]
    fn store(&self, index: usize, value: u64) -> Result<(), Damaged> {
        self.word(index)?.put(value, Ordering::Relaxed);
        Ok(())
    }

    /// A store that makes all stores before it visible to a reader that sees it, and that no store after it overtakes. So a
    /// block to which the old value led may be written again right away (see the protocol in [`super`]).
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the word lies outside of the memory.
    #[inline]
    #[cfg_attr(feature = "killpoints", track_caller)]
    fn publish(&self, index: usize, value: u64) -> Result<(), Damaged> {
        self.word(index)?.put(value, Ordering::Release);
        self.fence();
        Ok(())
    }

    /// Adds to a counter that many processes share and returns the old value.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the word lies outside of the memory.
    #[inline(always)]
    #[cfg_attr(feature = "killpoints", track_caller)]
    fn add(&self, index: usize, value: u64) -> Result<u64, Damaged> {
        Ok(self.word(index)?.add(value, Ordering::Relaxed))
    }

    /// Stores `new` where `old` is, in one step; whether it was. For words that many processes change.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the word lies outside of the memory.
    #[inline(always)]
    #[cfg_attr(feature = "killpoints", track_caller)]
    fn replace(&self, index: usize, old: u64, new: u64) -> Result<bool, Damaged> {
        Ok(self.word(index)?.replace(old, new, Ordering::AcqRel))
    }

    /// Reads words from `index` on into `values`, each by a relaxed load: as a whole they may be a mixture of versions.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: some of them lie outside of the memory.
    fn load_all(&self, index: usize, values: &mut [u64]) -> Result<(), Damaged> {
        let words = self.slice(index, values.len())?;
        values.iter_mut().zip(words).for_each(|(value, word)| *value = word.get(Ordering::Relaxed));
        Ok(())
    }

    /// Writes `values` from `index` on, relaxed; nothing when they do not all fit.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: some of them lie outside of the memory.
    #[cfg_attr(feature = "killpoints", track_caller)]
    fn store_all(&self, index: usize, values: &[u64]) -> Result<(), Damaged> {
        // A loop, since a closure would hide the caller.
        for (word, &value) in self.slice(index, values.len())?.iter().zip(values) {
            word.put(value, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A relaxed store, unless the value is there already: a repair that finds all in order writes nothing.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the word lies outside of the memory.
    #[cfg_attr(feature = "killpoints", track_caller)]
    fn amend(&self, index: usize, value: u64) -> Result<(), Damaged> {
        if self.load(index)? == value { Ok(()) } else { self.store(index, value) }
    }

    /// No load before it is done after a load behind it.
    #[inline(always)]
    fn fence_loads(&self) {
        Self::Word::fence(Ordering::Acquire);
    }

    /// Nothing before it happens after anything behind it.
    #[inline(always)]
    fn fence(&self) {
        Self::Word::fence(Ordering::SeqCst);
    }
}
