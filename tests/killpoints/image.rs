//! All words of a region: what a death is undone with.

use dyups::shm::WORD;
use dyups::shm::layout::{Geometry, state};
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::path::Path;

/// A region's file seen as plain bytes, through a mapping of its own: thousands of deaths are undone by copying.
pub struct Bytes(&'static mut [u8]);

impl Bytes {
    /// Of the region's file at `path`, for the rest of the process.
    pub fn of(path: &Path) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(path).expect("open");
        let len = file.metadata().expect("metadata").len() as usize;
        // SAFETY: a new shared mapping of the whole file. It is never unmapped, and nobody changes it while the slice is used:
        // this process has one thread, and its children are dead or wait.
        let bytes = unsafe {
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            let at = libc::mmap(std::ptr::null_mut(), len, prot, libc::MAP_SHARED, file.as_raw_fd(), 0);
            assert_ne!(at, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
            std::slice::from_raw_parts_mut(at.cast::<u8>(), len)
        };
        Bytes(bytes)
    }

    /// What a repair looks at: all but the heap, of which it reads what the stamps lead to. Two images with one outline
    /// differ in what nobody can reach. Who wrote is no part of it.
    pub fn outline(&self, geometry: &Geometry) -> Box<[u8]> {
        let mut metadata: Box<[u8]> = self.0[..geometry.metadata_words() * WORD].into();
        let writing = &mut metadata[state::WRITING * WORD..(state::WRITING + 1) * WORD];
        let is_writing = writing.iter().any(|&byte| byte != 0);
        writing.fill(u8::from(is_writing));
        metadata
    }

    /// A copy of the region as it is now.
    pub fn image(&self) -> Image {
        Image((*self.0).into())
    }

    /// Makes the region what it was.
    pub fn put_back(&mut self, image: &Image) {
        self.0.copy_from_slice(&image.0);
    }
}

/// A copy of a region.
pub struct Image(Box<[u8]>);
