//! All words of a region: what a death is undone with.

use dyups::shm::layout::{Geometry, state};
use dyups::shm::{Region, WORD};
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// A region's files seen as plain bytes, through mappings of their own: thousands of deaths are undone by copying.
pub struct Bytes {
    region: &'static mut [u8],
    /// Those before the cells, and so many of these as the operations take.
    cells: &'static mut [u8],
    /// Bytes of those before the cells.
    bits: usize,
}

impl Bytes {
    /// Of the files of `region`, for the rest of the process. No operation has more than `peers` peers at once.
    pub fn of(region: &Region, peers: usize) -> Self {
        let cells = cells_of(region.path());
        let plan = region.cells().expect("they are there").plan();
        let (bits, end) = (plan.words_until(0) * WORD, plan.words_until(peers) * WORD);
        Bytes { region: map(region.path(), None), cells: map(&cells, Some(end)), bits }
    }

    /// What a repair looks at: all but the heap, of which it reads what the stamps lead to, and but the cells, of which it has the bits. Two images with one outline
    /// differ in what nobody can reach. Who wrote is no part of it.
    pub fn outline(&self, geometry: &Geometry) -> Box<[u8]> {
        let mut metadata: Vec<u8> = self.region[..geometry.metadata_words() * WORD].into();
        let writing = &mut metadata[state::WRITING * WORD..(state::WRITING + 1) * WORD];
        let is_writing = writing.iter().any(|&byte| byte != 0);
        writing.fill(u8::from(is_writing));
        metadata.extend_from_slice(&self.cells[..self.bits]);
        metadata.into()
    }

    /// A copy of the region as it is now.
    pub fn image(&self) -> Image {
        Image { region: (*self.region).into(), cells: (*self.cells).into() }
    }

    /// Makes the region what it was.
    pub fn put_back(&mut self, image: &Image) {
        self.region.copy_from_slice(&image.region);
        self.cells.copy_from_slice(&image.cells);
    }
}

/// Maps the first `len` bytes of a file, or all.
fn map(path: &Path, len: Option<usize>) -> &'static mut [u8] {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("open");
    let len = len.unwrap_or_else(|| file.metadata().expect("metadata").len() as usize);
    // SAFETY: a new shared mapping of bytes that the file has. It is never unmapped, and nobody changes it while the slice is
    // used: this process has one thread, and its children are dead or wait.
    unsafe {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let at = libc::mmap(std::ptr::null_mut(), len, prot, libc::MAP_SHARED, file.as_raw_fd(), 0);
        assert_ne!(at, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        std::slice::from_raw_parts_mut(at.cast::<u8>(), len)
    }
}

/// The file of the cells beside a region's.
pub fn cells_of(region: &Path) -> PathBuf {
    let mut path = region.as_os_str().to_owned();
    path.push(".cells");
    path.into()
}

/// A copy of a region.
pub struct Image {
    region: Box<[u8]>,
    cells: Box<[u8]>,
}
