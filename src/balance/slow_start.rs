//! Slow start: a pick among the members of a group while some of them start slowly.
//!
//! So many picks are the starters' as the parts of their weights allow, in each worker by itself. One of them, drawn by its part,
//! has such a pick, unless the method finds a steady peer with less load. All other picks pass over the starters. They take the
//! turns of the round robin, so that it stays exact among the steady peers. A pick that finds no steady peer goes by all members
//! as they are.

use super::candidates::Candidates;
use super::group::{InGroup, Look};
use super::load::Load;
use super::miss::Miss;
use super::once::Walker;
use super::{least_conn, random};
use crate::shm::Memory;
use crate::upstream::Method;

impl<M: Memory, C: Memory> InGroup<'_, M, C> {
    /// A peer that fits, while some members start slowly. `None`: none of them does, or no steady peer fits.
    pub(super) fn slowly_started(&self, walker: &mut Walker<'_>) -> Result<Option<u32>, Miss> {
        let Some(method) = walker.starts_slowly() else { return Ok(None) };
        if !self.one.view.slow_starts || self.takes_all() || self.one.cells.is_none() || !self.has_starters(walker)? {
            return Ok(None);
        }
        let starters = &mut self.one.starters.borrow_mut()[self.group as usize];
        let weight = {
            let steady = InGroup { without: Some(starters), ..*self };
            let set = &mut *steady.set();
            steady.refresh(set)?;
            set.total
        };
        let is_theirs = starters.take_turn(weight);
        let steady = InGroup { without: Some(starters), ..*self };
        if is_theirs && let Some((index, part)) = starters.draw(walker.random) {
            let rival = match method {
                Method::LeastConn => least_conn::load(&steady, walker.random)?,
                Method::RandomTwo => random::load(&steady, walker.random)?,
                _ => None,
            };
            let is_best = match rival {
                Some(rival) => !rival.is_less(Load::of_part(self, index, part)?),
                None => true,
            };
            if is_best && self.meet(index)? == Look::Fits && self.claim(index)? {
                return Ok(Some(index));
            }
        }
        walker.pick(&steady)
    }

    /// Whether some members start slowly now, and others are steady.
    fn has_starters(&self, walker: &mut Walker<'_>) -> Result<bool, Miss> {
        let starters = &mut self.one.starters.borrow_mut()[self.group as usize];
        let had_some = starters.some;
        let are_others = {
            let usable = &mut *self.set();
            self.refresh(usable)?;
            starters.refresh(&self.bits(), usable, self.changes()?, self.now_ms)?
        };
        if are_others {
            InGroup { without: Some(starters), ..*self }.set().forget();
        }
        if starters.some && !had_some {
            starters.begin_anywhere(walker.random);
        }
        Ok(starters.some)
    }
}
