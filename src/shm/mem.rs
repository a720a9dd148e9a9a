//! The mapping as words: every access is an atomic of one word inside the bounds, or an error.
//!
//! This file holds the only loads and stores of shared memory. An access outside of the mapping is [`Damaged`], and a store is
//! a whole word. The rest of the crate has to trust nothing else.

use super::memory::{Damaged, Memory, Word};
use super::reserve::{self, Reserved};
use super::sigbus::Watch;
use super::units::{PAGE, WORD};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

/// A word of the mapping.
#[derive(Debug)]
#[repr(transparent)]
pub struct Shared(AtomicU64);

impl Word for Shared {
    #[inline(always)]
    fn get(&self, order: Ordering) -> u64 {
        #[cfg(feature = "killpoints")]
        super::kill::loading();
        self.0.load(order)
    }

    #[inline(always)]
    #[cfg_attr(feature = "killpoints", track_caller)]
    fn put(&self, value: u64, order: Ordering) {
        #[cfg(feature = "killpoints")]
        super::kill::storing();
        self.0.store(value, order);
    }

    #[inline(always)]
    #[cfg_attr(feature = "killpoints", track_caller)]
    fn add(&self, value: u64, order: Ordering) -> u64 {
        #[cfg(feature = "killpoints")]
        super::kill::storing();
        self.0.fetch_add(value, order)
    }

    #[inline(always)]
    #[cfg_attr(feature = "killpoints", track_caller)]
    fn replace(&self, old: u64, new: u64, order: Ordering) -> bool {
        #[cfg(feature = "killpoints")]
        super::kill::storing();
        self.0.compare_exchange(old, new, order, Ordering::Relaxed).is_ok()
    }

    #[inline(always)]
    fn fence(order: Ordering) {
        fence(order);
    }
}

/// A mapping shared between processes, never unmapped while this value lives.
#[derive(Debug)]
pub struct Mem {
    base: NonNull<Shared>,
    words: usize,
    reserved: Reserved,
    /// The last word for which there was no memory, plus 1. 0: there always was memory, or there is by now.
    wanting: AtomicUsize,
    watch: Watch,
}

// SAFETY: all access goes through atomics; `base` and `words` never change after `map`, and the rest is Sync by itself.
unsafe impl Send for Mem {}
// SAFETY: as above.
unsafe impl Sync for Mem {}

impl Mem {
    /// Maps the first `bytes` (a multiple of [`PAGE`]) of `file`, shared and writable. The file may be closed afterwards.
    ///
    /// # Errors
    ///
    /// That of mmap(2), or that the file was mapped at address 0.
    pub fn map(file: &std::fs::File, bytes: usize) -> io::Result<Self> {
        Mem::map_by_chunks(file, bytes, reserve::CHUNK)
    }

    /// The same; `chunk` words of it are reserved at a time.
    ///
    /// # Errors
    ///
    /// As [`Mem::map`].
    pub fn map_by_chunks(file: &std::fs::File, bytes: usize, chunk: usize) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        assert!(bytes > 0 && bytes.is_multiple_of(PAGE));
        // SAFETY: a fresh mapping at an address of the kernel's choice; it aliases no Rust object.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        let words = bytes / WORD;
        let watch = Watch::over(base.as_ptr() as usize, bytes);
        Ok(Mem { base, words, reserved: Reserved::none(words, chunk), wanting: AtomicUsize::new(0), watch })
    }

    /// Says that all pages are backed with memory already: the file was allocated as a whole.
    pub fn all_reserved(&self) {
        self.reserved.all();
    }

    /// Has the kernel back the pages of `words` words from `index` on with memory. Then no touch of them can be answered by SIGBUS.
    ///
    /// # Errors
    ///
    /// `ENOSPC`: there is no memory left.
    /// `Unsupported`: before Linux 5.14.
    /// `InvalidInput`: no words, or some that lie outside of the mapping.
    /// Else that of madvise(2).
    pub fn populate(&self, index: usize, words: usize) -> io::Result<()> {
        if words == 0 || index.checked_add(words).is_none_or(|end| end > self.words) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let first = index * WORD / PAGE * PAGE;
        let last = ((index + words) * WORD).next_multiple_of(PAGE).min(self.words * WORD);
        // SAFETY: the range lies inside the mapping (checked above); populating changes no content.
        let rc = unsafe {
            libc::madvise(self.base.as_ptr().byte_add(first).cast(), last - first, libc::MADV_POPULATE_WRITE)
        };
        if rc == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        Err(match error.raw_os_error() {
            // A touch of the page would be answered with SIGBUS.
            Some(libc::EFAULT | libc::ENOMEM) => io::Error::from_raw_os_error(libc::ENOSPC),
            Some(libc::EINVAL) => io::Error::from(io::ErrorKind::Unsupported),
            _ => error,
        })
    }

    /// The last word for which there was no memory, unless there is by now.
    pub fn wanting(&self) -> Option<usize> {
        let at = self.wanting.load(Ordering::Relaxed).checked_sub(1)?;
        if self.reserve(at, 1).is_ok() {
            self.wanting.store(0, Ordering::Relaxed);
        }
        self.wanting.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Whether the file under the mapping has lost its name. Read from `/proc/self/maps`, since no process holds a descriptor.
    pub fn deleted(&self) -> bool {
        let start = format!("{:x}-", self.base.as_ptr() as usize);
        std::fs::read_to_string("/proc/self/maps")
            .is_ok_and(|maps| maps.lines().any(|line| line.starts_with(&start) && line.ends_with(" (deleted)")))
    }
}

impl Memory for Mem {
    type Word = Shared;

    fn words(&self) -> usize {
        self.words
    }

    #[inline(always)]
    fn word(&self, index: usize) -> Result<&Shared, Damaged> {
        if index >= self.words {
            return Err(Damaged);
        }
        // SAFETY: inside the mapping, which lives as long as self; mmap aligns to a page, so each word is aligned. Other
        // processes write to it by atomic stores only. One that does not can spoil values, which are never trusted.
        Ok(unsafe { self.base.add(index).as_ref() })
    }

    fn slice(&self, index: usize, len: usize) -> Result<&[Shared], Damaged> {
        if index.checked_add(len).is_none_or(|end| end > self.words) {
            return Err(Damaged);
        }
        // SAFETY: as in `word`, for each of them; index + len <= words, so the slice is inside the mapping.
        Ok(unsafe { std::slice::from_raw_parts(self.base.add(index).as_ptr(), len) })
    }

    fn is_torn(&self) -> bool {
        self.watch.is_torn()
    }

    fn reserve(&self, index: usize, words: usize) -> io::Result<()> {
        self.reserved
            .reserve(index, words, |first, words| self.populate(first, words.min(self.words.saturating_sub(first))))
            .inspect_err(|_| self.wanting.store(index.wrapping_add(1), Ordering::Relaxed))
    }
}

impl Drop for Mem {
    fn drop(&mut self) {
        // Before another mapping can lie here.
        self.watch.end();
        // SAFETY: mapped by `map` with this length; no reference outlives self.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.words * WORD) };
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A mapping of an unlinked temporary file.
    pub(crate) fn scratch(bytes: usize) -> Mem {
        Mem::map(&file(bytes), bytes).expect("map")
    }

    fn file(bytes: usize) -> std::fs::File {
        let path =
            std::env::temp_dir().join(format!("dyups-mem-{}-{:?}", std::process::id(), std::thread::current().id()));
        let file =
            std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).expect("open");
        std::fs::remove_file(&path).expect("remove");
        file.set_len(bytes as u64).expect("size");
        file
    }

    #[test]
    fn a_page_that_is_gone_is_zeros_to_this_process_and_no_signal() {
        let file = file(3 * PAGE);
        let (mem, other) = (Mem::map(&file, 3 * PAGE).expect("map"), Mem::map(&file, 3 * PAGE).expect("map"));
        (0..3).for_each(|page| mem.store(512 * page, 7).expect("inside"));
        file.set_len(PAGE as u64).expect("cut");
        assert!(!mem.is_torn());
        assert_eq!((mem.load(512), mem.is_torn()), (Ok(0), true));
        assert_eq!((mem.store(1024, 8), mem.load(1024)), (Ok(()), Ok(8)));
        assert_eq!((mem.load(0), other.load(0), other.is_torn()), (Ok(7), Ok(7), false), "what is there is there");
        assert_eq!((other.add(1024, 1), other.is_torn()), (Ok(0), true));
        drop((mem, other));
        assert!(!scratch(PAGE).is_torn());
    }

    #[test]
    fn an_access_outside_the_mapping_is_an_error() {
        let mem = scratch(PAGE);
        assert_eq!(mem.store(511, 7), Ok(()));
        assert_eq!(mem.load(511), Ok(7));
        assert_eq!(mem.load(512), Err(Damaged));
        assert_eq!(mem.load(usize::MAX), Err(Damaged));
        assert_eq!(mem.store(512, 1), Err(Damaged));
        assert_eq!(mem.store_all(510, &[1, 2, 3]), Err(Damaged));
        assert_eq!(mem.load(510), Ok(0), "a store that does not fit stores nothing");
        assert_eq!(mem.store_all(usize::MAX, &[1, 2]), Err(Damaged));
        let mut copy = [9; 3];
        assert_eq!((mem.load_all(510, &mut copy), copy), (Err(Damaged), [9; 3]));
        assert_eq!(mem.load_all(usize::MAX, &mut copy), Err(Damaged));
        assert_eq!((mem.load_all(509, &mut copy), copy), (Ok(()), [0, 0, 7]));
        assert_eq!(mem.load_all(512, &mut []), Ok(()));
        assert!(mem.populate(0, 513).is_err());
    }

    #[test]
    fn a_mapping_knows_when_its_file_is_gone() {
        assert!(scratch(PAGE).deleted());
    }
}
