//! The files beside a region, its cells and its history: found or made. The title of each names its region.

use super::header;
use super::{Beside, Region, cells_of, history_of, statistics_of};
use crate::error::Result;
use crate::shm::cells::{self, Cells, Plan};
use crate::shm::file::{self, with_suffix};
use crate::shm::history::{self, History};
use crate::shm::mem::Mem;
use crate::shm::memory::Memory;
use crate::shm::sections::{self, Sections};
use crate::shm::units::{PAGE, TITLE_WORDS, WORD};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The cells of this region, if they are there and its own.
pub(super) fn find_cells(base: &Path, region: &Region) -> Result<Option<Beside>> {
    let plan = Plan::of(region.geometry().size);
    let path = cells_of(base, region.layout());
    match own_file(&path, plan.bytes(), &cells::title(&plan, region.inode(), header::boot_id()))? {
        Some(file) => map_cells(&file, path, plan).map(Some),
        None => Ok(None),
    }
}

/// New cells for this region, in the place of those that are there.
pub(super) fn make_cells(base: &Path, region: &Region) -> Result<Beside> {
    let plan = Plan::of(region.geometry().size);
    let path = cells_of(base, region.layout());
    make_file(&path, plan.bytes() as u64, |file| {
        let made = map_cells(file, path.clone(), plan)?;
        Cells::new(&made.mem, &plan).write_header(&cells::title(&plan, region.inode(), header::boot_id()))?;
        Ok(made)
    })
}

/// The history of this region, if it is there and its own.
pub(super) fn find_history(base: &Path, region: &Region) -> Result<Option<Mem>> {
    let path = history_of(base, region.layout());
    match own_file(&path, history::BYTES, &history::title(region.inode(), header::boot_id()))? {
        Some(file) => map_history(&file, &path).map(Some),
        None => Ok(None),
    }
}

/// A new history for this region, in the place of the one that is there, once `fill` has filled it.
pub(super) fn make_history(base: &Path, region: &Region, fill: impl FnOnce(&History<'_, Mem>)) -> Result<Mem> {
    let path = history_of(base, region.layout());
    make_file(&path, history::BYTES as u64, |file| {
        let made = map_history(file, &path)?;
        let history = History::over(&made);
        history.write_header(&history::title(region.inode(), header::boot_id()))?;
        fill(&history);
        Ok(made)
    })
}

/// The statistics of this region in a file of so many bytes, if they are there and its own.
pub(super) fn find_statistics(base: &Path, region: &Region, bytes: usize) -> Result<Option<Mem>> {
    let path = statistics_of(base, region.layout());
    match own_file(&path, bytes, &sections::title(bytes, region.inode(), header::boot_id()))? {
        Some(file) => map_statistics(&file, &path, bytes).map(Some),
        None => Ok(None),
    }
}

/// New statistics for this region, in the place of those that are there.
pub(super) fn make_statistics(base: &Path, region: &Region, bytes: usize) -> Result<Mem> {
    let path = statistics_of(base, region.layout());
    make_file(&path, bytes as u64, |file| {
        let made = map_statistics(file, &path, bytes)?;
        Sections::over(&made).write_header(&sections::title(bytes, region.inode(), header::boot_id()))?;
        Ok(made)
    })
}

/// Makes a sparse file under a name of its own, has it filled, and only then gives it the name that others look for.
pub(super) fn make_file<T>(path: &Path, bytes: u64, fill: impl FnOnce(&File) -> Result<T>) -> Result<T> {
    let unborn = with_suffix(path, ".new");
    // Left by a process that died here. The creation lock says that no other process is at it.
    let _ = std::fs::remove_file(&unborn);
    let make = || {
        let file = file::create_new(&unborn)?;
        file.set_len(bytes).map_err(|error| file::full(path, &error, file::ELSEWHERE))?;
        let made = fill(&file)?;
        std::fs::rename(&unborn, path).map_err(|error| file::explain(path, &error))?;
        Ok(made)
    };
    let made = make();
    if made.is_err() {
        let _ = std::fs::remove_file(&unborn);
    }
    made
}

/// The file at this path, if it has this title.
fn own_file(path: &Path, bytes: usize, title: &[u64; TITLE_WORDS]) -> Result<Option<File>> {
    let Some(file) = file::open_existing(path)? else { return Ok(None) };
    file::check_owned(&file, path)?;
    Ok(Some(file).filter(|file| header::has_title(file, bytes as u64, title)))
}

/// Maps cells, and reserves the words that must be there in any case.
fn map_cells(file: &File, path: PathBuf, plan: Plan) -> Result<Beside> {
    let meta = file.metadata().map_err(|error| file::explain(&path, &error))?;
    let mem = map_sparse(file, &path, plan.bytes(), cells::CHUNK, plan.words_in_advance())?;
    Ok(Beside { mem, plan, path, identity: (meta.dev(), meta.ino()) })
}

fn map_statistics(file: &File, path: &Path, bytes: usize) -> Result<Mem> {
    map_sparse(file, path, bytes, PAGE / WORD, PAGE / WORD)
}

fn map_history(file: &File, path: &Path) -> Result<Mem> {
    map_sparse(file, path, history::BYTES, PAGE / WORD, PAGE / WORD)
}

/// Maps a file beside the region whose memory is reserved as it is used, by chunks of so many words; the first words now.
fn map_sparse(file: &File, path: &Path, bytes: usize, chunk: usize, first: usize) -> Result<Mem> {
    let mem = Mem::map_by_chunks(file, bytes, chunk).map_err(|error| file::explain(path, &error))?;
    match mem.reserve(0, first) {
        // Before Linux 5.14 only all of it could be reserved, and most of it is never used. So a touch takes the memory.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => mem.all_reserved(),
        done => done.map_err(|error| file::full(path, &error, file::ELSEWHERE))?,
    }
    Ok(mem)
}
