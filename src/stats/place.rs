//! Where a peer and an upstream are counted: the section that a cell or a record leads to, which is taken at first traffic.

use super::section::{CREATED, DOWN_SINCE, DOWNTIME, PROBES_FAILED, PROBES_GOOD, UNAVAIL, UNHEALTHY};
use crate::shm::history::Who;
use crate::shm::layout::Geometry;
use crate::shm::sections::{SIDE_BY_SIDE, Section, Sections};
use crate::shm::versioned::TRIES;
use crate::shm::{Cells, Damaged, Mem, Memory, Region, clock};
use crate::state::events::Standing;
use crate::table::Record;
use crate::table::directory::Directory;

/// Marks the owner of a section as an upstream: this bit | second since the boot : 31 | record : 32.
const UPSTREAM: u64 = 1 << 63;
/// Seconds for which a section without a peer or an upstream may be that of a process that is about to give it one.
const ABOUT_TO: u64 = 5;

/// All that leads to sections.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a, M> {
    mem: &'a M,
    geometry: &'a Geometry,
    cells: Cells<'a, M>,
    /// The sections.
    pub sections: Sections<'a, M>,
}

/// A section that numbers are read from, and whose they are.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    section: Section,
    whose: Whose,
}

#[derive(Clone, Copy, Debug)]
enum Whose {
    Peer { cell: u32, generation: u16 },
    Upstream { record: Record, created: u64 },
}

impl<'a> Places<'a, Mem> {
    /// Those of a region; `None`: it has no statistics.
    pub fn of(region: &'a Region) -> Option<Self> {
        Places::with(region, region.sections()?)
    }

    /// Those of a region whose statistics are these.
    pub fn with(region: &'a Region, sections: Sections<'a, Mem>) -> Option<Self> {
        Some(Places::over(region.mem(), region.geometry(), region.cells()?, sections))
    }
}

impl<'a, M: Memory> Places<'a, M> {
    /// Those of the table in `mem`, whose cells and sections are these.
    pub fn over(mem: &'a M, geometry: &'a Geometry, cells: Cells<'a, M>, sections: Sections<'a, M>) -> Self {
        Places { mem, geometry, cells, sections }
    }
}

impl<M: Memory> Places<'_, M> {
    /// The section of the peer with this cell, if it has one.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such cell.
    pub fn find_peer(&self, cell: u32) -> Result<Option<Counted>, Damaged> {
        let generation = self.cells.generation(cell)?;
        let its = self.cells.section(cell)?.filter(|&(_, of)| of == generation);
        Ok(its.map(|(section, _)| Counted { section, whose: Whose::Peer { cell, generation } }))
    }

    /// The section of the peer with this cell, which it gets now if it has none. `None`: there is no room, or another peer has the cell
    /// by now.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such cell.
    pub fn of_peer(&self, cell: u32, generation: u16) -> Result<Option<Section>, Damaged> {
        for _ in 0..TRIES {
            if self.cells.generation(cell)? != generation {
                return Ok(None);
            }
            if let Some((section, _)) = self.cells.section(cell)?.filter(|&(_, of)| of == generation) {
                return Ok(Some(section));
            }
            let owner = owner_of(self.cells.who(cell)?);
            let Some(section) = self.sections.take(1, owner, |at, owner| self.is_over(at, owner))? else {
                return Ok(None);
            };
            if self.cells.set_section(cell, generation, section)? {
                return Ok(Some(section));
            }
            // Another worker was faster, or the cell is another peer's.
            self.sections.give_back(section, 1, owner)?;
        }
        Ok(None)
    }

    /// The section of the upstream in this place that was made by change `created`, if it has one.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such place.
    pub fn find_upstream(&self, record: Record, created: u64) -> Result<Option<Counted>, Damaged> {
        let Some(section) = record.section(self.mem)? else { return Ok(None) };
        let is_its = self.sections.load(section, CREATED)? == created;
        Ok(is_its.then_some(Counted { section, whose: Whose::Upstream { record, created } }))
    }

    /// The result of `read` on a section that was found. `None`: its peer or its upstream is gone, so another one may have got the section
    /// meanwhile, and the numbers that were read may be those of the other one.
    ///
    /// # Errors
    ///
    /// Those of `read`. [`Damaged`]: the cell or the place of the upstream is not there any more.
    pub fn read<T>(
        &self,
        counted: Counted,
        read: impl FnOnce(Section) -> Result<T, Damaged>,
    ) -> Result<Option<T>, Damaged> {
        let value = read(counted.section)?;
        // A worker looks whether the owner is over, then takes the section, and only then begins to store there. A reader that
        // has read such a store finds here, too, that the owner is over.
        self.mem.fence_loads();
        let is_still_its = match counted.whose {
            Whose::Peer { cell, generation } => self.cells.generation(cell)? == generation,
            // A later upstream in this place may have got this very section.
            Whose::Upstream { record, created } => {
                record.section(self.mem)? == Some(counted.section)
                    && self.sections.load(counted.section, CREATED)? == created
            }
        };
        Ok(is_still_its.then_some(value))
    }

    /// The same, which the upstream gets now if it has none. `None`: there is no room, or another upstream has the place by now.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such place.
    pub fn of_upstream(&self, record: Record, created: u64) -> Result<Option<Section>, Damaged> {
        for _ in 0..TRIES {
            if let Some(counted) = self.find_upstream(record, created)? {
                return Ok(Some(counted.section));
            }
            let number = record.number(self.geometry);
            let directory = Directory::over(self.mem, self.geometry);
            let is_there = directory.look(number, |view| Ok(view.created == created));
            if !matches!(is_there, Ok(Some(true))) {
                return Ok(None);
            }
            let old = record.section(self.mem)?;
            let owner = UPSTREAM | (now_s() & 0x7fff_ffff) << 32 | u64::from(number);
            let taken = self.sections.take(SIDE_BY_SIDE, owner, |at, owner| self.is_over(at, owner))?;
            let Some(section) = taken else { return Ok(None) };
            self.sections.store(section, CREATED, created)?;
            self.mem.fence();
            if record.set_section(self.mem, old, section)? {
                return Ok(Some(section));
            }
            self.sections.give_back(section, SIDE_BY_SIDE, owner)?;
        }
        Ok(None)
    }

    /// Counts that a peer was taken out, and for how long it was out once it is back.
    pub fn turned(&self, cell: u32, generation: u16, [from, to]: [Standing; 2]) {
        let Ok(Some(section)) = self.of_peer(cell, generation) else { return };
        let (sections, now) = (&self.sections, clock::epoch_ms());
        let count = || -> Result<(), Damaged> {
            match to {
                Standing::Up => {
                    let since = sections.load(section, DOWN_SINCE)?;
                    if since != 0 && from != to && sections.replace(section, DOWN_SINCE, since, 0)? {
                        sections.add(section, DOWNTIME, now.saturating_sub(since))?;
                    }
                    Ok(())
                }
                _ => {
                    sections.add(section, if to == Standing::Unavail { UNAVAIL } else { UNHEALTHY }, 1)?;
                    sections.replace(section, DOWN_SINCE, 0, now).map(|_| ())
                }
            }
        };
        // A spoiled file of statistics costs statistics.
        let _: Result<(), Damaged> = count();
    }

    /// Counts a probe.
    pub fn probed(&self, cell: u32, generation: u16, good: bool) {
        if let Ok(Some(section)) = self.of_peer(cell, generation) {
            let _: Result<(), Damaged> = self.sections.add(section, if good { PROBES_GOOD } else { PROBES_FAILED }, 1);
        }
    }

    /// Whether the owner of a unit is no more.
    fn is_over(&self, unit: Section, owner: u64) -> bool {
        if owner & UPSTREAM == 0 {
            let cell = owner as u32;
            return self.cells.who(cell).is_ok_and(|who| owner_of(who) != owner);
        }
        let age = now_s().wrapping_sub(owner >> 32) & 0x7fff_ffff;
        let first = Section(unit.0 / SIDE_BY_SIDE as u32 * SIDE_BY_SIDE as u32);
        let its = Record::numbered(self.geometry, owner as u32).section(self.mem);
        age > ABOUT_TO && its.is_ok_and(|its| its != Some(first))
    }
}

/// A peer as the owner of a section.
fn owner_of(who: Who) -> u64 {
    who.number() & !UPSTREAM
}

fn now_s() -> u64 {
    clock::now_ms() / 1000
}
