//! All words of a region, which undo a death.

use dyups::shm::layout::{Geometry, state};
use dyups::shm::{Region, WORD};
use std::fs::OpenOptions;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// The slots in which the operations and the steps after them count.
const SLOTS: [u32; 4] = [3, 7, 8, 9];

/// A region's files seen as plain bytes, through mappings of their own: thousands of deaths are undone by copying.
pub struct Bytes {
    region: &'static mut [u8],
    /// The file of the cells, to the end of the last row that is used.
    cells: &'static mut [u8],
    /// The parts that the operations change: the bits and as many cells as they take, and those cells' numbers in each row.
    parts: Vec<Range<usize>>,
    /// Bytes before the cells.
    bits: usize,
}

impl Bytes {
    /// Of the files of `region`, for the rest of the process. No operation has more than `peers` peers at once.
    pub fn of(region: &Region, peers: usize) -> Self {
        let cells = cells_of(region.path());
        let plan = region.cells().expect("they are there").plan();
        let bytes = |words: usize| words * WORD;
        let row = |slot| bytes(plan.words_of_rows(slot as usize));
        // A word of a row has two numbers.
        let rows = SLOTS.map(|slot| row(slot)..row(slot) + bytes(peers.div_ceil(2)));
        let parts: Vec<_> = std::iter::once(0..bytes(plan.words_until(peers))).chain(rows).collect();
        let end = parts.last().map(|part| part.end);
        Bytes { region: map(region.path(), None), cells: map(&cells, end), parts, bits: bytes(plan.words_until(0)) }
    }

    /// The part that a repair looks at: all but the heap and the cells. Of the heap it reads the blocks of stamps, of the cells
    /// it has the bits. Two images with one outline differ only in words that no process can reach. The writer's identity is no
    /// part of it.
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
        let cells = self.parts.iter().map(|part| self.cells[part.clone()].into()).collect();
        Image { region: (*self.region).into(), cells }
    }

    /// Makes the region as it was.
    pub fn put_back(&mut self, image: &Image) {
        self.region.copy_from_slice(&image.region);
        for (part, bytes) in self.parts.iter().zip(&image.cells) {
            self.cells[part.clone()].copy_from_slice(bytes);
        }
    }
}

/// Maps the first `len` bytes of a file, or all.
fn map(path: &Path, len: Option<usize>) -> &'static mut [u8] {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("open");
    let len = len.unwrap_or_else(|| file.metadata().expect("metadata").len() as usize);
    // SAFETY: a new shared mapping of bytes that the file has. It is never unmapped. No process changes it while the slice is
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
    cells: Vec<Box<[u8]>>,
}
