//! What the protocol asks of memory. The library runs on the mapping ([`super::Mem`]); a model of it runs on words that
//! loom watches. So what the models check is what ships.

use std::io;

/// Something read from the region cannot be true: an offset outside of it, a length that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

/// Words that processes share. Whatever an index claims, an access outside is [`Damaged`].
pub trait Memory {
    /// The size in words.
    fn words(&self) -> usize;

    /// A relaxed load. Order comes from [`super::versioned`] or from the lock.
    fn load(&self, index: usize) -> Result<u64, Damaged>;

    /// A load that sees all that was stored before the matching [`Memory::publish`].
    fn load_acquire(&self, index: usize) -> Result<u64, Damaged>;

    /// A relaxed store.
    #[cfg_attr(feature = "killpoints", track_caller)]
    fn store(&self, index: usize, value: u64) -> Result<(), Damaged>;

    /// A store that makes all stores before it visible to whoever sees it, and that none after it overtakes: a block
    /// which the old value led to may be written again right away (see the protocol in [`super`]).
    #[cfg_attr(feature = "killpoints", track_caller)]
    fn publish(&self, index: usize, value: u64) -> Result<(), Damaged>;

    /// Adds to a counter that many processes share and returns what it was.
    #[cfg_attr(feature = "killpoints", track_caller)]
    fn add(&self, index: usize, value: u64) -> Result<u64, Damaged>;

    /// Reads words from `index` on into `values`, each by a relaxed load: as a whole they may be a mixture of versions.
    fn load_all(&self, index: usize, values: &mut [u64]) -> Result<(), Damaged>;

    /// Writes `values` from `index` on, relaxed; nothing when they do not all fit.
    #[cfg_attr(feature = "killpoints", track_caller)]
    fn store_all(&self, index: usize, values: &[u64]) -> Result<(), Damaged>;

    /// No load before it is done after a load behind it.
    fn fence_loads(&self);

    /// Nothing before it happens after anything behind it.
    fn fence(&self);

    /// Sees to it that `words` words from `index` on can be written to: `ENOSPC` when there is no memory for them.
    fn reserve(&self, index: usize, words: usize) -> io::Result<()>;

    /// A relaxed store of what is not there yet: a repair that finds all in order writes nothing.
    #[cfg_attr(feature = "killpoints", track_caller)]
    fn amend(&self, index: usize, value: u64) -> Result<(), Damaged> {
        if self.load(index)? == value { Ok(()) } else { self.store(index, value) }
    }
}
