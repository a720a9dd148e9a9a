//! Reads an upstream in slices, since a large one takes longer than a worker may be away from its requests. Read peers keep
//! their places: a known peer costs a look, and only a new one is copied.
//!
//! A pass goes through all peers, and then drops those that it has not met. When the table changes in between, the pass goes on in
//! the new version, and another pass follows. So a worker meets every peer, however often the table changes. A pass that met two
//! versions may have missed a peer. It drops no peer, unless several passes in a row met two versions.

use super::groups::{Groups, Member};
use super::shared::Shared;
use super::watch::{Target, Watched, hash_of};
use crate::error::Result;
use crate::shm::cells::GENERATION_SHIFT;
use crate::shm::{Damaged, Stamp};
use crate::table::options::PeerChecks;
use crate::table::snapshot::{MAX_TEXT, View};
use crate::upstream::{Address, Check, PeerCheck, Status};
use std::rc::Rc;

/// The number of passes in a row after which a pass drops the peers that it has not met, even if it met two versions.
const MOST_MIXED: u32 = 3;
/// So many peers are dropped, or seen to stay, at the cost of one that is read.
const SWEPT_AT_ONCE: usize = 16;

/// How far an upstream is read.
#[derive(Debug, Default)]
pub struct Reading {
    /// The version that was read last.
    stamp: Stamp,
    /// The peer to read next.
    next: u32,
    /// The place of the next target to look over, once all peers are read.
    swept: usize,
    /// It has met two versions.
    is_mixed: bool,
    /// How many passes in a row before it have.
    mixed: u32,
}

/// The result of a turn.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is more to read.
    More,
    /// All of this version is read.
    Read(Stamp),
    /// It is another upstream by now, none, or one without a check.
    Gone,
}

/// The peers that are read at once of one version.
struct Slice {
    stamp: Stamp,
    /// Of another version than the one before.
    plan: Option<Common>,
    peers: u32,
    seen: Vec<Seen>,
}

/// The data that a version has for all peers: its name, its check, the options of single peers, and the digest of these.
struct Common {
    name: String,
    checks: Option<(Check, PeerChecks)>,
    options: u64,
}

/// A peer that is probed.
struct Seen {
    index: u32,
    cell: u32,
    generation: u16,
    /// The address of a peer that is not known yet.
    address: Option<Address>,
}

impl Watched {
    /// Reads on, in a version that is not read yet or not wholly. Takes its cost off `left`; a peer costs one.
    ///
    /// # Errors
    ///
    /// - [`crate::error::Code::Changing`]: changes met each of 16 reads.
    /// - [`crate::error::Code::Damaged`]: the upstream or a cell makes no sense.
    pub fn read_on(
        &mut self,
        place: &Shared<'_>,
        record: u32,
        groups: &mut Groups,
        left: &mut usize,
    ) -> Result<Outcome> {
        let mut reading = self.reading.take().unwrap_or_default();
        let slice = place.directory.look(record, |view| self.slice(view, place, &reading, *left))?;
        let Some(Slice { stamp, plan, peers, seen }) = slice else { return Ok(Outcome::Gone) };
        if let Some(Common { name, checks, options }) = plan {
            let Some((check, own)) = checks.filter(|_| *name == *self.name) else { return Ok(Outcome::Gone) };
            self.follow(check, own);
            self.options = options;
            reading.is_mixed |= reading.next > 0;
            reading.stamp = stamp;
        }
        let end = peers.min(reading.next.saturating_add(*left as u32));
        *left -= end.saturating_sub(reading.next) as usize;
        reading.next = end;
        seen.into_iter().for_each(|seen| self.meet(seen, record, groups));
        let outcome = self.finish(&mut reading, end == peers, record, groups, left);
        if outcome == Outcome::More {
            self.reading = Some(reading);
        }
        Ok(outcome)
    }

    fn slice(&self, view: &View, place: &Shared<'_>, reading: &Reading, most: usize) -> Result<Slice, Damaged> {
        let plan = match view.stamp == reading.stamp {
            true => None,
            false => Some(Common {
                name: view.name(place.mem)?,
                checks: view.checks(place.mem)?,
                options: view.options_digest(place.mem)?,
            }),
        };
        let mut seen = Vec::new();
        for index in reading.next..view.peers.min(reading.next.saturating_add(most as u32)) {
            let cell = view.cell(place.mem, index)?;
            if cell == 0 || matches!(view.bits(place.mem, index)?.status(), Status::Down | Status::Leaving) {
                continue;
            }
            let generation = (place.cells.verdict(cell)? >> GENERATION_SHIFT) as u16;
            let mut text = [0; MAX_TEXT];
            let length = view.text(place.mem, index, &mut text)?;
            let is_it = |target: &&Target| {
                target.generation == generation && target.address.text().as_bytes() == &text[..length]
            };
            let known = self.places.get(&cell).map(|&place| &self.targets[place as usize]).filter(is_it);
            let address = if known.is_some() { None } else { Some(view.address(place.mem, index)?) };
            seen.push(Seen { index, cell, generation, address });
        }
        Ok(Slice { stamp: view.stamp, plan, peers: view.peers, seen })
    }

    /// Takes over a check, and the options of its peers.
    fn follow(&mut self, check: Check, own: PeerChecks) {
        if check != *self.check {
            (self.late_since, self.ended, self.warned, self.unprobed) = (None, 0, false, None);
            self.check = Rc::new(check);
        }
        self.plan = hash_of(&*self.check);
        self.own = own;
    }

    /// Takes a peer in, or sees that it is there.
    fn meet(&mut self, seen: Seen, record: u32, groups: &mut Groups) {
        let Seen { index, cell, generation, address } = seen;
        let own: Option<Box<PeerCheck>> = self.own.get(&index).cloned().map(Box::new);
        let at = self.places.get(&cell).copied();
        let address = match (address, at) {
            (Some(address), _) => address,
            (None, Some(at)) => {
                let target = &mut self.targets[at as usize];
                (target.index, target.pass) = (index, self.pass);
                if (target.plan, &target.own) == (self.plan, &own) {
                    return;
                }
                target.address.clone()
            }
            (None, None) => return,
        };
        if let Some(at) = at {
            self.drop_target(at, record, groups);
        }
        let key = hash_of(&(self.plan, address.ident(), &own));
        let (plan, pass) = (self.plan, self.pass);
        let target = Target { cell, generation, index, pass, plan, key, address, own };
        let at = self.free.pop().unwrap_or(self.targets.len() as u32);
        match self.targets.get_mut(at as usize) {
            Some(free) => *free = target,
            None => self.targets.push(target),
        }
        self.places.insert(cell, at);
        groups.add(key, Member { record, target: at, cell });
    }

    fn drop_target(&mut self, at: u32, record: u32, groups: &mut Groups) {
        let target = &mut self.targets[at as usize];
        groups.remove(target.key, record, target.cell);
        self.places.remove(&target.cell);
        target.cell = 0;
        self.free.push(at);
    }

    /// Does the rest when all peers are met, as far as that costs no more than is left.
    fn finish(
        &mut self,
        reading: &mut Reading,
        is_end: bool,
        record: u32,
        groups: &mut Groups,
        left: &mut usize,
    ) -> Outcome {
        if !is_end {
            return Outcome::More;
        }
        self.is_read = true;
        let is_mixed = reading.is_mixed && reading.mixed < MOST_MIXED;
        while !is_mixed && reading.swept < self.targets.len() {
            if *left == 0 {
                return Outcome::More;
            }
            *left -= 1;
            let end = self.targets.len().min(reading.swept + SWEPT_AT_ONCE);
            for at in reading.swept..end {
                if self.targets[at].cell != 0 && self.targets[at].pass != self.pass {
                    self.drop_target(at as u32, record, groups);
                }
            }
            reading.swept = end;
        }
        self.pass = self.pass.wrapping_add(1);
        if !reading.is_mixed {
            return Outcome::Read(reading.stamp);
        }
        let mixed = if is_mixed { reading.mixed + 1 } else { 0 };
        *reading = Reading { stamp: reading.stamp, mixed, ..Reading::default() };
        Outcome::More
    }

    /// Takes its peers out of the groups, as far as that costs no more than is left; whether all are out.
    pub fn leave(&mut self, record: u32, groups: &mut Groups, left: &mut usize) -> bool {
        while *left > 0 {
            let Some(target) = self.targets.pop() else { return true };
            *left -= 1;
            if target.cell != 0 {
                groups.remove(target.key, record, target.cell);
            }
        }
        self.targets.is_empty()
    }
}
