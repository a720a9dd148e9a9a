//! The table: reading it whole, and changing one upstream at a time. The result of a change is computed outside the lock;
//! [`super::commit`] writes it.

use super::carry;
use super::change_log::{self, Difference};
use super::commit::{self, Build, RingPlan};
use super::directory::Directory;
use super::repair;
use super::snapshot::{Flags, Group, ImagePeers, Origin, View, build_ring, encode, merge_ring, ring_words};
use crate::error::{Code, Error, Result};
use crate::shm::layout::state;
use crate::shm::versioned::Unread;
use crate::shm::writing::no_room;
use crate::shm::{Damaged, Mem, Memory, Region, WORD, Writer};
use crate::upstream::{Check, Method, Peer, Upstream};
use parking_lot::Mutex;
use std::borrow::Borrow;
use std::time::Duration;

/// The table: a region that contains upstreams.
#[derive(Debug)]
pub struct Table<R = Region> {
    region: R,
    /// The check of upstreams without one of their own. It belongs to this process, and to those forked from it.
    default_check: Mutex<Option<Check>>,
    /// The reason why a pick of this process could not build a ring, until it is reported.
    lacks_ring: Mutex<Option<Error>>,
}

/// An upstream as it stands in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its configuration.
    pub upstream: Upstream,
    /// Its flags.
    pub flags: Flags,
    /// How often its place has changed.
    pub generation: u64,
    /// Number of the change that made it, by which upstreams are put in order; 0 where an older layout does not tell.
    pub created: u64,
    /// Number of its last change. No two versions of a table have the same.
    pub version: u64,
    /// Whether it has a ring.
    pub has_ring: bool,
}

/// The result of a change for an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Nothing.
    Keep,
    /// The new version.
    Put(Upstream, Flags),
    /// The same, and it is an error if the upstream cannot have the ring that the caller wants.
    Ring(Upstream, Flags),
    /// It is no more.
    Remove,
}

/// The message when too many changes met one read.
pub const CHANGING: &str = "the table is changing: try again";

impl From<Unread> for Error {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Changing => Error::new(Code::Changing, CHANGING),
            Unread::Damaged => Damaged.into(),
        }
    }
}

/// Where a change starts from: the record of the name, if it has one, and its version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Base(pub(super) Option<(u32, View)>);

impl Base {
    pub(super) fn same(&self, other: &Base) -> bool {
        let version = |base: &Base| base.0.map(|(record, view)| (record, view.stamp));
        version(self) == version(other)
    }
}

/// A change that is computed and not yet written.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) base: Base,
    pub(super) step: Step,
    /// The change for the operator's log, where that is recorded.
    pub(super) change: Option<Difference>,
}

#[derive(Debug)]
pub(super) enum Step {
    Keep,
    Put(Build),
    Remove,
}

impl Table {
    pub(super) fn region_mut(&mut self) -> &mut Region {
        &mut self.region
    }
}

impl<R: Borrow<Region>> Table<R> {
    /// The table in `region`.
    pub fn new(region: R) -> Self {
        Table { region, default_check: Mutex::new(None), lacks_ring: Mutex::new(None) }
    }

    /// The check of a new upstream, unless the caller gives another one.
    pub fn default_check(&self) -> Option<Check> {
        self.default_check.lock().clone()
    }

    /// Sets it, for upstreams that are made from now on. For those that are there: [`Table::spread_default_check`].
    pub fn set_default_check(&self, check: Option<Check>) {
        *self.default_check.lock() = check;
    }

    /// A pick has tried to build the ring of this upstream. It reports nothing where another process is writing, or a newer nginx takes
    /// all changes.
    pub(crate) fn lacks_ring(&self, name: &str, why: Option<Error>) {
        let passes = |error: &Error| matches!(error.code, Code::Busy | Code::NotFound | Code::Superseded);
        if let Some(error) = why.filter(|error| !passes(error)) {
            *self.lacks_ring.lock() = Some(error.within(format!("upstream {name}: no ring for chash")));
        }
    }

    /// Why a ring could not be built since this was asked last.
    pub(crate) fn take_lacking_ring(&self) -> Result<()> {
        self.lacks_ring.lock().take().map_or(Ok(()), Err)
    }

    /// The region.
    #[inline(always)]
    pub fn region(&self) -> &Region {
        self.region.borrow()
    }

    /// A consistent copy of the upstream called `name`, tombstones included.
    ///
    /// # Errors
    ///
    /// [`Code::Changing`]: changes met each of 16 reads. [`Code::Damaged`]: it makes no sense.
    pub fn get(&self, name: &str) -> Result<Option<Stored>> {
        Ok(self.read(name)?.map(|(_, stored)| stored))
    }

    /// A consistent copy of every upstream, tombstones included, ordered by name. Each is whole; the set is not one instant.
    ///
    /// # Errors
    ///
    /// As [`Table::get`].
    pub fn all(&self) -> Result<Vec<Stored>> {
        let mut all = Vec::new();
        let mem = self.region().mem();
        Directory::new(self.region()).each(|view| stored(view, mem), |stored| all.push(stored))?;
        all.sort_by(|a, b| a.upstream.name.cmp(&b.upstream.name));
        // One that was deleted and made again while we read may have been met twice; either is an answer.
        all.dedup_by(|a, b| a.upstream.name == b.upstream.name);
        Ok(all)
    }

    /// The names of all upstreams, in the order in which they were made.
    ///
    /// # Errors
    ///
    /// As [`Table::get`].
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names: Vec<(String, u64)> = Vec::new();
        let mem = self.region().mem();
        let name = |view: &View| Ok((!view.flags.has(Flags::DELETED)).then_some((view.name(mem)?, view.created)));
        Directory::new(self.region()).each(name, |name| names.extend(name))?;
        // One that was deleted and made again while we read may have been met twice; it counts where it was made last.
        names.sort_by(|(a, made_a), (b, made_b)| a.cmp(b).then(made_b.cmp(made_a)));
        names.dedup_by(|(a, _), (b, _)| a == b);
        names.sort_by_key(|&(_, created)| created);
        Ok(names.into_iter().map(|(name, _)| name).collect())
    }

    /// Changes the upstream called `name` as `change` answers, trying for at most `wait` to become the writer.
    /// `change` may be called twice: its first answer, outside the lock, is used only if nothing has changed meanwhile.
    ///
    /// # Errors
    ///
    /// Those of `change`, and those of [`Table::writer`].
    /// [`Code::Invalid`]: the options of its checks are too long, or its weights make the ring too large.
    /// [`Code::Full`]: there is no room.
    /// [`Code::System`]: the operating system refuses memory for another reason.
    /// [`Code::Changing`], [`Code::Damaged`]: the upstream cannot be read.
    pub fn edit(&self, name: &str, wait: Duration, change: impl Fn(Option<Stored>) -> Result<Edit>) -> Result<()> {
        self.edit_if(name, wait, || Ok(()), change)
    }

    /// The same, unless `allowed` has an error under the lock, where no other process changes anything.
    pub(super) fn edit_if(
        &self,
        name: &str,
        wait: Duration,
        allowed: impl Fn() -> Result<()>,
        change: impl Fn(Option<Stored>) -> Result<Edit>,
    ) -> Result<()> {
        if wait.is_zero() {
            // Nothing is computed for a caller that will be refused.
            self.region().writer(wait)?;
        }
        let early = self.plan(name, &change)?;
        let writer = self.writer(wait)?;
        let plan = match early.base.same(&self.base(name)?) {
            true => early,
            false => self.plan(name, &change)?,
        };
        allowed()?;
        self.write(&writer, name, plan)
    }

    /// Writes a change whose base is that of now.
    pub(super) fn write(&self, writer: &Writer<'_>, name: &str, plan: Planned) -> Result<()> {
        let change = plan.change.clone();
        let old_version = plan.base.0.map_or(0, |(_, view)| view.version);
        Self::commit(writer, name, plan)?;
        if let Some(change) = change {
            change_log::add(Difference { old_version, version: self.region().mem().load(state::SEQUENCE)?, ..change });
        }
        Ok(())
    }

    /// Becomes the writer, and repairs the region if the last writer did not come to its end.
    ///
    /// # Errors
    ///
    /// [`Code::Busy`]: another process is writing.
    /// [`Code::Superseded`]: a newer nginx takes the changes.
    /// [`Code::System`]: the operating system refuses the lock.
    /// [`Code::Damaged`]: the region cannot be repaired.
    pub fn writer(&self, wait: Duration) -> Result<Writer<'_>> {
        let writer = self.region().writer(wait)?;
        if writer.needs_repair()? {
            self.repair(&writer)?;
            let mem = self.region().mem();
            mem.store(state::REPAIRS, mem.load(state::REPAIRS)?.wrapping_add(1))?;
        }
        Ok(writer)
    }

    pub(super) fn base(&self, name: &str) -> Result<Base> {
        Ok(Base(Directory::new(self.region()).find(name.as_bytes())?))
    }

    fn read(&self, name: &str) -> Result<Option<(Base, Stored)>> {
        for _ in 0..crate::shm::versioned::TRIES {
            let base = self.base(name)?;
            let Base(Some((record, view))) = base else { return Ok(None) };
            let stored = stored(&view, self.region().mem());
            if Directory::new(self.region()).stamp_holds(record, view.stamp)? {
                return Ok(Some((base, stored?)));
            }
        }
        Err(Unread::Changing.into())
    }

    fn plan(&self, name: &str, change: &impl Fn(Option<Stored>) -> Result<Edit>) -> Result<Planned> {
        let (base, stored) = self.read(name)?.map_or((Base(None), None), |(base, stored)| (base, Some(stored)));
        // Only a ring is made from an old one.
        let with_ring = stored.as_ref().filter(|stored| stored.has_ring).cloned();
        let with_ring = with_ring.as_ref();
        let before = change_log::records().then(|| Before::of(base, stored.as_ref()));
        let told = |image: &mut [u64], after| before.as_ref()?.until(self.region().mem(), name, image, after);
        let (step, change) = match change(stored)? {
            Edit::Keep => (Step::Keep, None),
            Edit::Remove => (Step::Remove, told(&mut [], None)),
            Edit::Put(upstream, flags) => {
                let declared = upstream.method == Some(Method::Chash);
                let mut build = build(self.region(), &upstream, flags, declared, base, with_ring)?;
                let change = told(&mut build.image, Some(&upstream).filter(|_| !flags.has(Flags::DELETED)));
                (Step::Put(build), change)
            }
            Edit::Ring(upstream, flags) => {
                (Step::Put(build(self.region(), &upstream, flags, true, base, with_ring)?), None)
            }
        };
        Ok(Planned { base, step, change })
    }

    fn commit(writer: &Writer<'_>, name: &str, plan: Planned) -> Result<()> {
        match (plan.step, plan.base) {
            (Step::Put(build), Base(old)) => commit::put(writer, name, build, old),
            (Step::Remove, Base(Some((record, view)))) => commit::remove(writer, record, &view),
            (Step::Remove, Base(None)) | (Step::Keep, _) => Ok(()),
        }
    }

    /// Checks a found region before it is used, if no other process uses it. Answers a message for the operator.
    ///
    /// # Errors
    ///
    /// [`Code::Busy`]: another process is writing.
    /// [`Code::System`]: the lock cannot be taken.
    /// [`Code::Damaged`]: the region cannot be repaired.
    pub fn check(&self, wait: Duration) -> Result<Option<String>> {
        if self.region().in_use()?.is_some() {
            return Ok(None);
        }
        let writer = match self.region().writer(wait) {
            Err(error) if error.code == Code::Superseded => return Ok(Some(error.to_string())),
            writer => writer?,
        };
        let lost = self.repair(&writer)?;
        let left = self.region().mem().load(state::RECORDS)?;
        let at = self.region().path().display();
        Ok((lost > 0).then(|| format!("{at} was damaged: {lost} of {} upstreams are lost", lost + left)))
    }

    /// Marks the blocks that can be reached and frees the rest. Drops upstreams that do not make sense, and answers their
    /// number.
    ///
    /// # Errors
    ///
    /// [`Code::Damaged`]: a page of the region is gone, or a word lies outside of it.
    pub fn repair(&self, writer: &Writer<'_>) -> Result<u64> {
        repair::repair(writer)
    }
}

pub(super) fn stored(view: &View, mem: &Mem) -> Result<Stored, Damaged> {
    Ok(stored_as(view, view.decode(mem)?))
}

/// The upstream of a version, with the rest that the version has.
pub(super) fn stored_as(view: &View, upstream: Upstream) -> Stored {
    Stored {
        upstream,
        flags: view.flags,
        generation: view.stamp.generation(),
        created: view.created,
        version: view.version,
        has_ring: view.rings.iter().any(|ring| ring.block != 0),
    }
}

/// Whether a peer has data that stand elsewhere than in its own words.
fn has_more(peer: &Peer) -> bool {
    peer.check.is_some() || peer.foreign.is_some()
}

/// An upstream before a change, as operators see it: none where the table remembers a deleted one.
struct Before {
    /// Without its peers, where `view` has them.
    upstream: Option<Upstream>,
    view: Option<View>,
}

impl Before {
    fn of(base: Base, stored: Option<&Stored>) -> Before {
        let stored = stored.filter(|stored| !stored.flags.has(Flags::DELETED));
        let Some(Stored { upstream, .. }) = stored else { return Before { upstream: None, view: None } };
        // A copy of many peers costs more than the rest of the comparison. The words of peers do not tell of their probes and
        // extras.
        let has_more = upstream.peers.iter().any(has_more);
        match base {
            Base(Some((_, view))) if !has_more => Before { upstream: Some(upstream.without_peers()), view: Some(view) },
            _ => Before { upstream: Some(upstream.clone()), view: None },
        }
    }

    /// The change that leads to `after`, whose peers `image` has.
    ///
    /// Another writer may have recycled the old version by now, so that its words make no sense. Then there is another version, and
    /// the caller plans anew, under the lock, where the old version stays.
    fn until(&self, mem: &Mem, name: &str, image: &mut [u64], after: Option<&Upstream>) -> Option<Difference> {
        let (Some(old), Some(view)) = (&self.upstream, &self.view) else {
            return Difference::between(name, 0, self.upstream.as_ref(), after);
        };
        let alike = match after {
            Some(new) if !new.peers.iter().any(has_more) => ImagePeers::of(image).alike(mem, view).ok()?,
            _ => 0,
        };
        let peers = (alike as u32..view.peers).map(|index| view.peer(mem, index)).collect::<Result<_, _>>().ok()?;
        Difference::between(name, alike, Some(&Upstream { peers, ..old.without_peers() }), after)
    }
}

/// `must`: it is an error if there can be no ring. Otherwise a pick has used chash once, and a ring is only a help, on which no
/// change of an operator may depend.
fn build(
    region: &Region,
    upstream: &Upstream,
    flags: Flags,
    must: bool,
    base: Base,
    old: Option<&Stored>,
) -> Result<Build> {
    let rings = rings(region, upstream, flags, must, base, old)?;
    let mut image = encode(upstream, flags)?;
    let cells = carry::over(region, base.0.as_ref().map(|(_, view)| view), &mut image)?;
    Ok(Build { image, rings, must, cells })
}

/// The first version in its region, as it stood in another region. Its peers have these ids, and the rest is in `origin`.
pub(super) fn build_again(region: &Region, stored: &Stored, ids: Option<&[u32]>, origin: Origin) -> Result<Build> {
    let (upstream, flags) = (&stored.upstream, stored.flags);
    let must = upstream.method == Some(Method::Chash);
    let rings = rings(region, upstream, flags, must, Base(None), None)?;
    let mut image = encode(upstream, flags)?;
    let cells = carry::again(&mut image, ids, origin);
    Ok(Build { image, rings, must, cells })
}

pub(super) fn rings(
    region: &Region,
    upstream: &Upstream,
    flags: Flags,
    must: bool,
    base: Base,
    old: Option<&Stored>,
) -> Result<[RingPlan; 2]> {
    let mut rings = [RingPlan::None, RingPlan::None];
    if must || flags.has(Flags::RING) {
        for group in Group::ALL {
            match plan_ring(region, upstream, group, base, old) {
                Ok(plan) => rings[group as usize] = plan,
                Err(error) if must => return Err(error),
                Err(_) => {}
            }
        }
    }
    Ok(rings)
}

/// Keeps the ring that is there when it would come out the same, else makes the new one from it where that is faster.
fn plan_ring(region: &Region, new: &Upstream, group: Group, base: Base, old: Option<&Stored>) -> Result<RingPlan> {
    // The weights may be damaged: a ring that has no room in the whole heap is not built first.
    let words = ring_words(new, group)?;
    if (words * WORD) as u64 > region.geometry().heap_bytes() {
        return Err(no_room(region.mem(), region.geometry(), words));
    }
    if let (Base(Some((record, view))), Some(old)) = (base, old) {
        let place = view.rings[group as usize];
        if place.block != 0 && same_ring(&old.upstream, new, group) {
            return Ok(RingPlan::Keep(place));
        }
        let merged = merge_ring(region.mem(), &place, &old.upstream, new, group);
        if !Directory::new(region).stamp_holds(record, view.stamp)? {
            // The words may have been recycled meanwhile. Another version is there by now. So this plan is made again under the
            // lock, and needs no ring.
            return Ok(RingPlan::None);
        }
        if let Some(ring) = merged {
            return Ok(RingPlan::Build(ring));
        }
    }
    Ok(build_ring(new, group)?.map_or(RingPlan::None, RingPlan::Build))
}

fn same_ring(old: &Upstream, new: &Upstream, group: Group) -> bool {
    let key = |upstream| group.members(upstream).map(|(index, peer)| (index, peer.weight, &peer.address));
    old.hash_number() == new.hash_number() && key(old).eq(key(new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_nginx_does_not_log_each_second_that_it_may_build_no_ring() {
        let dir = tempfile::tempdir().expect("room");
        let (table, _) = Table::open(&dir.path().join("region"), 1 << 20).expect("usable");
        for code in [Code::Busy, Code::NotFound, Code::Superseded] {
            table.lacks_ring("api", Some(Error::new(code, "why")));
            assert_eq!(table.take_lacking_ring(), Ok(()), "{code:?}");
        }
        table.lacks_ring("api", Some(Error::new(Code::Full, "why")));
        assert!(table.take_lacking_ring().is_err() && table.take_lacking_ring().is_ok(), "once");
    }
}
