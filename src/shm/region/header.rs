//! The first words of a region's file: its layout, and the origin of its table. The same in all layouts.

use crate::checksum::Checksum;
use crate::shm::layout::{Geometry, MAGIC, Shape, fixed};
use crate::shm::memory::{Damaged, Memory};
use crate::shm::units::{TITLE_WORDS, WORD};
use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::fs::{FileExt, MetadataExt};

/// Words that [`examine`] reads: the checksum and those that it is over.
const CHECKED: usize = fixed::CHECKSUM + 1;

/// The kind of file by its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// A region of the expected layout, made in this boot.
    Sound,
    /// One of an earlier boot.
    OtherBoot,
    /// One of another layout than its name says.
    OtherLayout(u64),
    /// No region.
    Foreign,
    /// It was a region once.
    Damaged(&'static str),
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Header::Sound => f.write_str("is sound"),
            Header::OtherBoot => f.write_str("is of an earlier boot"),
            Header::OtherLayout(layout) => write!(f, "has layout {layout}"),
            Header::Foreign => f.write_str("is not a dyups region"),
            Header::Damaged(what) => write!(f, "is damaged ({what})"),
        }
    }
}

/// From which older region a region has its table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// Layout of that one; 0: there was none.
    pub layout: u32,
    /// The digest of its table then, see [`super::Content::digest`].
    pub digest: u64,
}

/// Looks at a file of `size` bytes, by read and not through a mapping: it may be anything.
pub fn examine(file: &File, size: u64, shape: Shape) -> Header {
    let mut bytes = [0; CHECKED * WORD];
    if file.read_exact_at(&mut bytes, 0).is_err() {
        return Header::Foreign;
    }
    let mut header = [0; CHECKED];
    for (word, bytes) in header.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    if header[fixed::MAGIC] != MAGIC {
        return Header::Foreign;
    }
    if header[fixed::LAYOUT] != u64::from(shape.layout) {
        return Header::OtherLayout(header[fixed::LAYOUT]);
    }
    if header[fixed::CHECKSUM] != checksum(&header) {
        return Header::Damaged("its header has a wrong checksum");
    }
    if header[fixed::SIZE] != size || Geometry::shaped(shape, size).is_err() {
        return Header::Damaged("its size is not what its header says");
    }
    if header[fixed::BOOT..fixed::BOOT + 2] != boot_id() {
        return Header::OtherBoot;
    }
    Header::Sound
}

/// Whether a file of `size` bytes begins with `title`, and has this size.
pub fn has_title(file: &File, size: u64, title: &[u64; TITLE_WORDS]) -> bool {
    let mut bytes = [0; TITLE_WORDS * WORD];
    let read = file.read_exact_at(&mut bytes, 0).is_ok();
    let words = bytes.as_chunks::<WORD>().0;
    read && file.metadata().is_ok_and(|meta| meta.len() == size)
        && words.iter().zip(title).all(|(bytes, &word)| u64::from_ne_bytes(*bytes) == word)
}

/// Writes the header of a region that is being made. `lock`: inode of its lock file.
///
/// # Errors
///
/// [`Damaged`]: the header does not fit into the memory.
pub fn write(mem: &impl Memory, geometry: &Geometry, lock: u64, origin: Inherited) -> Result<(), Damaged> {
    let [boot_high, boot_low] = boot_id();
    let mut header = [0; fixed::WORDS];
    header[fixed::MAGIC] = MAGIC;
    header[fixed::LAYOUT] = u64::from(geometry.shape.layout);
    header[fixed::SIZE] = geometry.size;
    header[fixed::BOOT] = boot_high;
    header[fixed::BOOT + 1] = boot_low;
    header[fixed::PID_NAMESPACE] = pid_namespace();
    header[fixed::LOCK] = lock;
    header[fixed::CHECKSUM] = checksum(&header);
    header[fixed::ORIGIN] = u64::from(origin.layout);
    header[fixed::ORIGIN + 1] = origin.digest;
    header[fixed::IDENTITY..][..2].copy_from_slice(&random());
    mem.store_all(0, &header)
}

/// Two words that no other region has: the keys of the standard library's hash tables come from the kernel's random numbers.
fn random() -> [u64; 2] {
    std::array::from_fn(|_| RandomState::new().build_hasher().finish())
}

/// The origin of the table in `mem`. An impossible layout counts as none: a spoiled header keeps no process from starting.
///
/// # Errors
///
/// [`Damaged`]: a word lies outside of the memory.
pub fn origin(mem: &impl Memory) -> Result<Inherited, Damaged> {
    let layout = u32::try_from(mem.load(fixed::ORIGIN)?).unwrap_or(0);
    Ok(Inherited { layout, digest: mem.load(fixed::ORIGIN + 1)? })
}

fn checksum(header: &[u64]) -> u64 {
    Checksum::of(&header[..fixed::CHECKSUM]).into()
}

/// The kernel's name for this boot, as two words; zeros where it has none.
pub fn boot_id() -> [u64; 2] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&digits, 16).unwrap_or(0);
    [(number >> 64) as u64, number as u64]
}

/// Inode of this process's pid namespace; 0 where /proc does not tell.
pub fn pid_namespace() -> u64 {
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |meta| meta.ino())
}
