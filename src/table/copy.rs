//! A whole version of an upstream, copied in slices: a reader that takes its time has one version, whatever changes meanwhile.

use super::directory::Directory;
use super::options::PeerChecks;
use super::snapshot::{Flags, View};
use super::store::Table;
use crate::error::Result;
use crate::pace::Pace;
use crate::shm::history::Who;
use crate::shm::image::Image;
use crate::shm::versioned::{TRIES, Unread};
use crate::shm::{Damaged, Mem, Region};
use crate::upstream::{Peer, Upstream};

/// Words that one step copies.
const WORDS_A_STEP: usize = 512;
/// Peers whose cells one step looks at.
const PEERS_A_STEP: u32 = 64;
/// After so many changes in the midst of a copy, the next copy is made in one slice.
const PATIENCE: usize = 4;

/// One version of an upstream, in memory of this process.
#[derive(Debug)]
pub struct Copied {
    /// Its head.
    pub view: View,
    image: Image,
    /// The peers that the cells belonged to; `None`: a peer had none.
    owners: Vec<Option<Who>>,
}

impl Copied {
    /// The upstream without its peers, and the options of single peers, by index.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: it does not make sense.
    pub fn upstream(&self) -> Result<(Upstream, PeerChecks), Damaged> {
        self.view.decode_without_peers(&self.image)
    }

    /// The peer with this index, without the options that are its own.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: it does not make sense, or there are fewer peers.
    pub fn peer(&self, index: u32) -> Result<Peer, Damaged> {
        if index < self.view.peers { self.view.peer(&self.image, index) } else { Err(Damaged) }
    }

    /// The cell of the peer with this index, and the peer as cells know it; `None`: it has none, or the cell is another peer's by
    /// now.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such peer or cell.
    pub fn cell(&self, region: &Region, index: u32) -> Result<Option<(u32, Who)>, Damaged> {
        let owner = self.owners.get(index as usize).copied().flatten();
        let (Some(cells), Some(owner)) = (region.cells(), owner) else { return Ok(None) };
        let cell = self.view.cell(&self.image, index)?;
        Ok((cells.who(cell)? == owner).then_some((cell, owner)))
    }
}

/// A copy that is being made.
#[derive(Debug)]
pub struct Copying<'a> {
    region: &'a Region,
    name: String,
    begun: Option<Copied>,
    /// How often it had to begin anew.
    again: usize,
}

/// How far a copy is.
#[derive(Debug)]
pub enum Copy {
    /// There is more to copy.
    Begun,
    /// It is whole.
    Whole(Box<Copied>),
    /// There is no such upstream.
    Gone,
}

impl<'a> Copying<'a> {
    /// A copy of the upstream called `name`.
    pub fn of(table: &'a Table, name: &str) -> Self {
        Copying { region: table.region(), name: name.to_owned(), begun: None, again: 0 }
    }

    /// Copies on.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Changing`]: changes met each of 16 copies. [`crate::error::Code::Damaged`]: it makes no sense.
    pub fn go_on(&mut self, pace: &mut Pace) -> Result<Copy> {
        let directory = Directory::new(self.region);
        let mut unlimited = Pace::unlimited();
        while self.again < TRIES {
            let pace = if self.again < PATIENCE { &mut *pace } else { &mut unlimited };
            if self.begun.is_none() {
                let found = directory.find(self.name.as_bytes())?;
                let Some((_, view)) = found.filter(|(_, view)| !view.flags.has(Flags::DELETED)) else {
                    return Ok(Copy::Gone);
                };
                self.begun = Some(Copied { image: Image::from(view.stamp.word()), owners: Vec::new(), view });
            }
            let Some(mut copied) = self.begun.take() else { continue };
            let done = self.copy_on(&mut copied, pace);
            // A word that makes no sense may be one of a later version.
            if !directory.stamp_holds(copied.view.record, copied.view.stamp)? {
                self.again += 1;
                continue;
            }
            if done? {
                return Ok(Copy::Whole(Box::new(copied)));
            }
            self.begun = Some(copied);
            return Ok(Copy::Begun);
        }
        Err(Unread::Changing.into())
    }

    /// Whether the copy is whole. The caller looks whether the version is still there, before it and after it.
    fn copy_on(&self, copied: &mut Copied, pace: &mut Pace) -> Result<bool, Damaged> {
        let (mem, view): (&Mem, _) = (self.region.mem(), copied.view);
        let directory = Directory::new(self.region);
        while copied.image.len() < view.words {
            if !pace.step() {
                return Ok(false);
            }
            // Not a word more once it is another version's: it may have been given back.
            if !directory.stamp_holds(view.record, view.stamp)? {
                return Ok(false);
            }
            copied.image.copy(mem, WORDS_A_STEP.min(view.words - copied.image.len()))?;
        }
        let Some(cells) = self.region.cells() else { return Ok(true) };
        while (copied.owners.len() as u32) < view.peers {
            if !pace.step() {
                return Ok(false);
            }
            let first = copied.owners.len() as u32;
            for index in first..view.peers.min(first + PEERS_A_STEP) {
                let cell = view.cell(&copied.image, index)?;
                copied.owners.push(if cell == 0 { None } else { Some(cells.who(cell)?) });
            }
        }
        Ok(true)
    }
}
