//! The file of statistics beside a region: sections of one size, which are handed out to peers and upstreams at their first traffic.
//! No lock is taken. Nothing depends on the file, and a lost one costs no table.
//!
//! Each *unit* of the file has a word with its owner. A process that takes a unit stores the owner where 0 was, or an owner that is
//! no more. A process that dies before it has told the peer's cell of that leaves a unit that has an owner and is used by none, until
//! the owner is no more.
//!
//! Units are handed out from the beginning on to peers, each one. Upstreams get several side by side, from the end on. So a file is
//! full only when both have met, and its pages take memory only once they are in use.

use super::memory::{Damaged, Memory};
use super::units::{PAGE, TITLE_WORDS, WORD};

/// First word of the file.
const MAGIC: u64 = u64::from_le_bytes(*b"dyups\0st");
/// Layout number of this file alone. A file with another number is made anew.
const LAYOUT: u64 = 1;

/// Words of a unit: the section of a peer.
pub const UNIT: usize = 352;
/// Units side by side: the section of an upstream.
pub const SIDE_BY_SIDE: usize = 4;
/// Units that a process looks at for one that is free, where all were handed out once.
const MOST_LOOKS: u32 = 64;

/// Words of the header.
mod header {
    /// [`super::title`].
    pub const TITLE: usize = 0;
    /// How many units were handed out from the beginning on.
    pub const LOW: usize = 8;
    /// How many groups of units were handed out from the end on.
    pub const HIGH: usize = 16;
    /// Where the search for a unit that is free again goes on.
    pub const NEXT: usize = 24;
    /// Tries that were counted nowhere, since there was no room.
    pub const UNCOUNTED: usize = 32;
    /// Words of the header. The owners follow.
    pub const WORDS: usize = super::PAGE / super::WORD;
}

/// The words that tell whose statistics these are: of the region with this inode, in this boot; in a file of so many bytes.
pub fn title(bytes: usize, region: u64, boot: [u64; 2]) -> [u64; TITLE_WORDS] {
    [MAGIC, LAYOUT, bytes as u64, region, boot[0], boot[1]]
}

/// How many units a file of so many bytes has.
pub fn units(bytes: usize) -> u32 {
    let words = (bytes / WORD).saturating_sub(header::WORDS + PAGE / WORD);
    (words / (UNIT + 1)) as u32
}

/// The sections in a memory.
#[derive(Debug)]
pub struct Sections<'a, M> {
    mem: &'a M,
    units: u32,
}

impl<M> Clone for Sections<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Sections<'_, M> {}

/// A section, by its first unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section(pub u32);

impl<'a, M: Memory> Sections<'a, M> {
    /// The sections in `mem`.
    pub fn over(mem: &'a M) -> Self {
        Sections { mem, units: units(mem.words() * WORD) }
    }

    /// Writes the header of a new file, in which all else is 0.
    pub fn write_header(&self, title: &[u64]) -> Result<(), Damaged> {
        self.mem.store_all(header::TITLE, title)
    }

    fn owner_at(&self, unit: u32) -> usize {
        header::WORDS + unit as usize
    }

    /// Where a section begins: with a page of its own for each few, behind the owners.
    fn at(&self, section: Section) -> usize {
        let owners = (self.units as usize).next_multiple_of(PAGE / WORD);
        header::WORDS + owners + section.0 as usize * UNIT
    }

    /// The owner of a section; 0: none.
    pub fn owner(&self, section: Section) -> Result<u64, Damaged> {
        if section.0 >= self.units {
            return Err(Damaged);
        }
        self.mem.reserve(self.owner_at(section.0), 1).map_err(|_| Damaged)?;
        self.mem.load(self.owner_at(section.0))
    }

    /// Takes a section of `len` units, all words of it 0, for `owner`, which is not 0. `is_over` says of an owner that it is no more.
    /// `None`: there is no room.
    pub fn take(
        &self,
        len: usize,
        owner: u64,
        is_over: impl Fn(Section, u64) -> bool,
    ) -> Result<Option<Section>, Damaged> {
        match self.take_fresh(len, owner)? {
            None => self.take_again(len, owner, is_over),
            fresh => Ok(fresh),
        }
    }

    /// One that was never handed out. No process has stored anything there, so its words are 0.
    fn take_fresh(&self, len: usize, owner: u64) -> Result<Option<Section>, Damaged> {
        let (low, high) = (self.mem.load(header::LOW)?, self.mem.load(header::HIGH)?);
        let left = u64::from(self.units).saturating_sub(low).saturating_sub(high.saturating_mul(SIDE_BY_SIDE as u64));
        if left < len as u64 {
            return Ok(None);
        }
        let first = match len {
            1 => self.mem.add(header::LOW, 1)?,
            _ => {
                let nth = self.mem.add(header::HIGH, 1)?;
                let groups = u64::from(self.units) / SIDE_BY_SIDE as u64;
                match groups.checked_sub(nth + 1) {
                    Some(group) => group * SIDE_BY_SIDE as u64,
                    None => return Ok(None),
                }
            }
        };
        match u32::try_from(first) {
            Ok(first) if u64::from(first) + len as u64 <= self.units.into() => {
                self.claim(first, len, owner, |_, owner| owner == 0)
            }
            _ => Ok(None),
        }
    }

    /// One whose owner is no more. Each call looks at a few, where the last one ended.
    fn take_again(
        &self,
        len: usize,
        owner: u64,
        is_over: impl Fn(Section, u64) -> bool,
    ) -> Result<Option<Section>, Damaged> {
        let places = self.units / len as u32;
        for _ in 0..MOST_LOOKS.min(places) {
            let nth = self.mem.add(header::NEXT, 1)? % u64::from(places);
            let first = nth as u32 * len as u32;
            let claimed = self.claim(first, len, owner, |at, owner| owner == 0 || is_over(at, owner))?;
            if let Some(section) = claimed {
                // A reader that sees one of the stores below sees that the section has changed hands.
                self.mem.fence();
                (0..len * UNIT).try_for_each(|word| self.mem.store(self.at(section) + word, 0))?;
                // The words, before any process learns of the section.
                self.mem.fence();
                return Ok(claimed);
            }
        }
        Ok(None)
    }

    /// Takes these units, if all of them may be taken.
    fn claim(
        &self,
        first: u32,
        len: usize,
        owner: u64,
        may: impl Fn(Section, u64) -> bool,
    ) -> Result<Option<Section>, Damaged> {
        let section = Section(first);
        for nth in 0..len as u32 {
            let unit = Section(first + nth);
            let old = self.owner(unit)?;
            if !may(unit, old) || !self.mem.replace(self.owner_at(unit.0), old, owner)? {
                (0..nth).try_for_each(|nth| self.give_back_unit(first + nth, owner))?;
                return Ok(None);
            }
        }
        if self.mem.reserve(self.at(section), len * UNIT).is_err() {
            self.give_back(section, len, owner)?;
            return Ok(None);
        }
        Ok(Some(section))
    }

    /// Gives a section back that no process but this one knows of.
    pub fn give_back(&self, section: Section, len: usize, owner: u64) -> Result<(), Damaged> {
        (0..len as u32).try_for_each(|nth| self.give_back_unit(section.0 + nth, owner))
    }

    fn give_back_unit(&self, unit: u32, owner: u64) -> Result<(), Damaged> {
        self.mem.replace(self.owner_at(unit), owner, 0).map(|_| ())
    }

    /// A word of a section. It may be one word of any section of the file, but never another word.
    pub fn load(&self, section: Section, word: usize) -> Result<u64, Damaged> {
        self.mem.load(self.word_at(section, word)?)
    }

    /// Adds to a word.
    pub fn add(&self, section: Section, word: usize, value: u64) -> Result<(), Damaged> {
        self.mem.add(self.word_at(section, word)?, value).map(|_| ())
    }

    /// Stores `new` where `old` is; whether it was.
    pub fn replace(&self, section: Section, word: usize, old: u64, new: u64) -> Result<bool, Damaged> {
        self.mem.replace(self.word_at(section, word)?, old, new)
    }

    /// Stores a value in a word that is its caller's alone.
    pub fn store(&self, section: Section, word: usize, value: u64) -> Result<(), Damaged> {
        self.mem.store(self.word_at(section, word)?, value)
    }

    fn word_at(&self, section: Section, word: usize) -> Result<usize, Damaged> {
        let end = section.0 as usize * UNIT + word;
        if word >= SIDE_BY_SIDE * UNIT || end >= self.units as usize * UNIT {
            return Err(Damaged);
        }
        let at = self.at(section) + word;
        // Its owner has touched it; another file may lie here by now.
        self.mem.reserve(at, 1).map_err(|_| Damaged)?;
        Ok(at)
    }

    /// Counts tries that are counted nowhere else.
    pub fn add_uncounted(&self, count: u64) -> Result<(), Damaged> {
        self.mem.add(header::UNCOUNTED, count).map(|_| ())
    }

    /// How many those are.
    pub fn uncounted(&self) -> Result<u64, Damaged> {
        self.mem.load(header::UNCOUNTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::mem::tests::scratch;

    /// A file with room for so many units.
    fn file(count: usize) -> crate::shm::Mem {
        let bytes = (2 * PAGE + count * (UNIT + 1) * WORD).next_multiple_of(PAGE);
        scratch(bytes)
    }

    #[test]
    fn sections_lie_apart_and_none_lies_outside() {
        for count in [1usize, 7, 100] {
            let mem = file(count);
            let sections = Sections::over(&mem);
            assert!(sections.units as usize >= count);
            let last = Section(sections.units - 1);
            sections.store(last, UNIT - 1, 7).expect("inside");
            assert_eq!(sections.load(Section(sections.units), 0), Err(Damaged));
            assert_eq!(sections.load(last, UNIT), Err(Damaged));
        }
    }

    #[test]
    fn a_section_is_handed_out_once_until_its_owner_is_over_and_begins_at_0() {
        let mem = file(12);
        let sections = Sections::over(&mem);
        let none_is = |_, _| false;
        let mut taken = Vec::new();
        while let Some(section) = sections.take(1, 1 + taken.len() as u64, none_is).expect("inside") {
            sections.store(section, 5, 99).expect("inside");
            taken.push(section);
        }
        assert_eq!(taken.len(), sections.units as usize);
        assert!((0..).zip(&taken).all(|(nth, section)| *section == Section(nth)));
        // One owner is over.
        let again = sections.take(1, 77, |_, owner| owner == 3).expect("inside").expect("that one");
        assert_eq!((again, sections.owner(again), sections.load(again, 5)), (taken[2], Ok(77), Ok(0)));
        sections.give_back(again, 1, 77).expect("inside");
        assert_eq!(sections.take(1, 78, none_is), Ok(Some(again)));
    }

    #[test]
    fn upstreams_and_peers_share_the_file_until_they_meet() {
        let mem = file(20);
        let sections = Sections::over(&mem);
        let none_is = |_, _| false;
        let groups = (0..).map_while(|nth| sections.take(SIDE_BY_SIDE, 100 + nth, none_is).expect("inside")).take(3);
        let groups: Vec<Section> = groups.collect();
        assert_eq!(groups.len(), 3);
        let mut all = vec![false; sections.units as usize];
        let mut mark = |section: Section, len: usize| {
            for unit in section.0..section.0 + len as u32 {
                assert!(!std::mem::replace(&mut all[unit as usize], true), "{unit} twice");
            }
        };
        groups.iter().for_each(|&section| mark(section, SIDE_BY_SIDE));
        while let Some(section) = sections.take(1, 7, none_is).expect("inside") {
            mark(section, 1);
        }
        assert!(all.iter().all(|&taken| taken));
        assert_eq!(sections.take(SIDE_BY_SIDE, 8, none_is), Ok(None));
        // A group comes back where all of its units may be taken.
        assert!(sections.take(SIDE_BY_SIDE, 8, |_, owner| owner == 101).expect("inside").is_some());
    }

    #[test]
    fn processes_that_take_at_once_never_get_the_same() {
        let mem: &crate::shm::Mem = &file(400);
        let taken = std::sync::Mutex::new(std::collections::BTreeSet::new());
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let taken = &taken;
                scope.spawn(move || {
                    let sections = Sections::over(mem);
                    for nth in 0..200 {
                        let len = if nth % 5 == 0 { SIDE_BY_SIDE } else { 1 };
                        let Some(section) = sections.take(len, 1 + thread, |_, _| false).expect("inside") else {
                            continue;
                        };
                        for unit in section.0..section.0 + len as u32 {
                            assert!(taken.lock().expect("no panic").insert(unit), "{unit}");
                        }
                    }
                });
            }
        });
    }
}
