//! The steps of one change, for the holder of the writer lock.

use super::arena::{Arena, Marks, Room, granules_of};
use super::cells::{Cells, Untaken};
use super::file;
use super::layout::{Geometry, state};
use super::memory::{Damaged, Memory};
use super::units::WORD;
use crate::error::{Code, Error, Result};
use std::path::Path;

/// The parts of a change. Between [`Writing::begin`] and [`Writing::end`] the region says that one is under way. A writer that
/// dies, panics or returns in between leaves that word. The next one repairs before it does anything else.
#[derive(Debug)]
pub struct Writing<'a, M> {
    mem: &'a M,
    geometry: &'a Geometry,
    path: &'a Path,
    cells: Option<Cells<'a, M>>,
}

impl<'a, M: Memory> Writing<'a, M> {
    /// A change of the region in `mem`, which messages call `path`. The caller holds the writer lock.
    pub fn new(mem: &'a M, geometry: &'a Geometry, path: &'a Path) -> Self {
        Writing { mem, geometry, path, cells: None }
    }

    /// The same, of a table whose peers have cells.
    pub fn with_cells(self, cells: Option<Cells<'a, M>>) -> Self {
        Writing { cells, ..self }
    }

    /// The cells of the peers; none where only tables are read and written, in models.
    pub fn cells(&self) -> Option<Cells<'a, M>> {
        self.cells
    }

    /// Takes cells for so many new peers, whose verdicts begin with these bits; zeros where peers have none.
    ///
    /// # Errors
    ///
    /// [`Code::Full`]: fewer cells are free, or there is no memory for them.
    /// [`Code::Changing`]: workers count in the free cells at each of 16 tries.
    /// [`Code::System`]: the operating system refuses memory for another reason.
    /// [`Code::Damaged`]: a word lies outside of the memory.
    pub fn take_cells(&self, count: usize, verdict: u64) -> Result<Vec<u32>> {
        let Some(cells) = self.cells else { return Ok(vec![0; count]) };
        match cells.take(count, verdict) {
            Ok(Some(taken)) => Ok(taken),
            Ok(None) => Err(no_cell(cells.count(), cells.retired()?)),
            Err(Untaken::NoMemory(error)) => Err(file::full(self.path, &error, file::FEWER)),
            Err(Untaken::Unread(unread)) => Err(unread.into()),
        }
    }

    /// Gives the cells of peers back that are no more.
    ///
    /// # Errors
    ///
    /// As [`Cells::give_back`].
    pub fn free_cells(&self, freed: &[u32]) -> Result<(), Damaged> {
        self.cells.map_or(Ok(()), |cells| cells.give_back(freed))
    }

    /// The memory that it changes.
    pub fn mem(&self) -> &'a M {
        self.mem
    }

    /// The layout.
    pub fn geometry(&self) -> &'a Geometry {
        self.geometry
    }

    /// Whether a writer before this one did not come to its end.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn needs_repair(&self) -> Result<bool, Damaged> {
        Ok(self.mem.load(state::WRITING)? != 0)
    }

    /// Says that a change is under way.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a page of the memory is gone, or a word lies outside of it.
    pub fn begin(&self) -> Result<(), Damaged> {
        self.is_seen_by_all()?;
        self.mem.store(state::WRITING, u64::from(std::process::id()))?;
        // No store of the change may come before this one.
        self.mem.fence();
        Ok(())
    }

    /// Says that the region is whole again. Where it is not, since a page went under the change, the next writer repairs.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a page of the memory is gone, or a word lies outside of it.
    pub fn end(&self) -> Result<(), Damaged> {
        self.mem.fence();
        self.is_seen_by_all()?;
        self.mem.store(state::WRITING, 0)
    }

    /// Sees whether other processes see all stores of this one. A writer asks before it publishes anything: a stamp that leads to a
    /// block that the others lack would be damage to them.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a page of the memory is gone.
    pub fn is_seen_by_all(&self) -> Result<(), Damaged> {
        if self.mem.is_torn() { Err(Damaged) } else { Ok(()) }
    }

    /// The number of this change, larger than that of any before it.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: a word lies outside of the memory.
    pub fn next_version(&self) -> Result<u64, Damaged> {
        let version = self.mem.load(state::SEQUENCE)?.wrapping_add(1);
        self.mem.store(state::SEQUENCE, version)?;
        Ok(version)
    }

    /// Sees to it that a record can be written to.
    ///
    /// # Errors
    ///
    /// [`Code::Full`]: there is no memory for it.
    /// [`Code::System`]: the operating system refuses memory for another reason.
    pub fn reserve_record(&self, record: u32) -> Result<()> {
        let (at, words) = (self.geometry.record(record), self.geometry.shape.record);
        self.mem.reserve(at, words).map_err(|error| file::full(self.path, &error, file::FEWER))
    }

    /// Copies `image` into a new block. No reader sees it yet.
    ///
    /// # Errors
    ///
    /// As [`Writing::allocate_in`].
    pub fn allocate(&self, image: &[u64]) -> Result<u32> {
        self.allocate_in(Room::Home, image)
    }

    /// The same, in this part of the heap.
    ///
    /// # Errors
    ///
    /// [`Code::Full`]: this part of the heap has no room for it, or there is no memory.
    /// [`Code::System`]: the operating system refuses memory for another reason.
    /// [`Code::Damaged`]: a word lies outside of the memory.
    pub fn allocate_in(&self, room: Room, image: &[u64]) -> Result<u32> {
        let arena = Arena::new(self.mem, self.geometry);
        let Some(block) = arena.take(image.len(), room)? else {
            return Err(no_room(self.mem, self.geometry, image.len()));
        };
        let at = block as usize * super::GRANULE_WORDS;
        match self.mem.reserve(at, image.len()) {
            Ok(()) => {
                self.mem.store_all(at, image)?;
                Ok(block)
            }
            Err(error) => {
                arena.give_back(block, image.len())?;
                Err(file::full(self.path, &error, file::FEWER))
            }
        }
    }

    /// Writes `image` over the front of a block of `words` words that nothing leads to any more, and gives back the rest.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: `image` is larger than the block, the block does not lie in the heap, or a word lies outside of the memory.
    pub fn rewrite(&self, block: u32, words: usize, image: &[u64]) -> Result<(), Damaged> {
        let (has, needs) = (granules_of(words), granules_of(image.len()));
        let rest = has.checked_sub(needs).ok_or(Damaged)?;
        self.mem.store_all(block as usize * super::GRANULE_WORDS, image)?;
        match rest {
            0 => Ok(()),
            _ => self.free(block + needs as u32, rest * super::GRANULE_WORDS),
        }
    }

    /// Gives back a block of `words` words that nothing leads to any more.
    ///
    /// # Errors
    ///
    /// As [`Arena::give_back`].
    pub fn free(&self, block: u32, words: usize) -> Result<(), Damaged> {
        Arena::new(self.mem, self.geometry).give_back(block, words)
    }

    /// Sets the bitmap of the heap to `marks`.
    ///
    /// # Errors
    ///
    /// As [`Arena::rebuild`].
    pub fn rebuild(&self, marks: &Marks) -> Result<(), Damaged> {
        Arena::new(self.mem, self.geometry).rebuild(marks)
    }
}

fn no_cell(count: usize, retired: usize) -> Error {
    let most = count - 1;
    let todo = match retired {
        0 => "delete some, or set a larger shm_size and restart nginx".to_owned(),
        _ => format!(
            "for {retired} of them only once all workers of now have ended: reload nginx, delete some, or set a larger shm_size \
             and restart nginx"
        ),
    };
    Error::new(Code::Full, format!("the region is full: it counts for at most {most} peers: {todo}"))
}

/// The error when the heap has no block of `words` words.
pub fn no_room(mem: &impl Memory, geometry: &Geometry, words: usize) -> Error {
    let heap = geometry.heap_bytes();
    let used = mem.load(state::USED).unwrap_or(0).saturating_mul(super::GRANULE as u64);
    Error::new(
        Code::Full,
        format!(
            "the region is full: {} bytes wanted in one piece, {} of {heap} are free: delete upstreams, or set a larger \
             shm_size and restart nginx",
            words * WORD,
            heap.saturating_sub(used)
        ),
    )
}
