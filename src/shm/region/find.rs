//! The region of one layout, as it lies in the file system: found, examined, mapped.

use super::header::{self, Header};
use super::{Region, file_of};
use crate::error::{Error, Result};
use crate::shm::file;
use crate::shm::layout::{Geometry, Shape};
use crate::shm::lock::LockFile;
use crate::shm::mem::Mem;
use crate::shm::memory::Memory;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file that lies where a region may be.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
pub enum Found {
    /// No file.
    Nothing,
    /// A region that can be used.
    Region(Region),
    /// Something else.
    Other(Header),
}

/// Looks for the region of one layout.
///
/// # Errors
///
/// [`Code::System`](crate::error::Code::System): the file cannot be opened or mapped, or is not this user's alone.
/// [`Code::Full`](crate::error::Code::Full): there is no memory for the words that must be there in any case.
pub fn find(base: &Path, shape: Shape, lock: &Arc<LockFile>) -> Result<Found> {
    let path = file_of(base, shape.layout);
    let Some(file) = file::open_existing(&path)? else { return Ok(Found::Nothing) };
    file::check_owned(&file, &path)?;
    let meta = file.metadata().map_err(|error| file::explain(&path, &error))?;
    match header::examine(&file, meta.len(), shape) {
        Header::Sound => {
            let geometry = Geometry::shaped(shape, meta.len()).map_err(Error::invalid)?;
            Ok(Found::Region(map(&file, base, path, geometry, lock)?))
        }
        other => Ok(Found::Other(other)),
    }
}

/// Maps a region and reserves the words that must be there in any case: all before the heap, and the spare. Where the kernel
/// cannot do that by parts (before Linux 5.14), it reserves the whole file.
pub(super) fn map(file: &File, base: &Path, path: PathBuf, geometry: Geometry, lock: &Arc<LockFile>) -> Result<Region> {
    let explain = |error| file::explain(&path, &error);
    let meta = file.metadata().map_err(explain)?;
    let mem = Mem::map(file, geometry.size as usize).map_err(explain)?;
    let reserve = |words: Range<usize>| mem.reserve(words.start, words.len());
    match geometry.in_advance().into_iter().try_for_each(reserve) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            file::allocate(file, geometry.size).map_err(|error| file::full(&path, &error, file::ELSEWHERE))?;
            mem.all_reserved();
        }
        done => done.map_err(|error| file::full(&path, &error, file::ELSEWHERE))?,
    }
    Ok(Region::new(mem, geometry, lock.clone(), base.to_owned(), path, (meta.dev(), meta.ino())))
}
