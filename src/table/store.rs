//! How a new version of an upstream is published, and how a change that died half way is cleared away.

use super::directory::{self, Directory, stamp_at};
use super::name;
use super::snapshot::{Flags, Group, RingPlace, View, build_ring, encode, merge_ring, place};
use super::upstream::Upstream;
use crate::balance::Method;
use crate::balance::chash::Ring;
use crate::error::{Code, Error, Result};
use crate::shm::arena::Marks;
use crate::shm::layout::state;
use crate::shm::versioned::Unread;
use crate::shm::{Damaged, Mem, Region, Writer};
use std::borrow::Borrow;
use std::time::Duration;

/// The table: a region whose content are upstreams.
#[derive(Debug)]
pub struct Table<R = Region> {
    region: R,
}

/// An upstream as it stands in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its configuration.
    pub upstream: Upstream,
    /// What is remembered of it.
    pub flags: Flags,
    /// How often its place has changed.
    pub generation: u64,
    /// Whether it has a ring.
    pub has_ring: bool,
}

/// What a change makes of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Nothing.
    Keep,
    /// The new version.
    Put(Upstream, Flags),
    /// The same, and it is an error if it cannot have the ring that somebody asked for.
    Ring(Upstream, Flags),
    /// It is no more.
    Remove,
}

/// What a caller reads when too many changes met one read.
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
struct Base(Option<(u32, View)>);

impl Base {
    fn same(&self, other: &Base) -> bool {
        let version = |base: &Base| base.0.map(|(record, view)| (record, view.stamp));
        version(self) == version(other)
    }
}

/// A change that is computed and not yet written.
struct Plan {
    base: Base,
    step: Step,
}

enum Step {
    Keep,
    Put(Build),
    Remove,
}

/// A version that lacks nothing but its places in the region.
struct Build {
    image: Vec<u64>,
    rings: [RingPlan; 2],
    /// It is an error if there is no room for the rings.
    must: bool,
}

enum RingPlan {
    None,
    Keep(RingPlace),
    Build(Ring),
}

impl<R: Borrow<Region>> Table<R> {
    /// The table in `region`.
    pub fn new(region: R) -> Self {
        Table { region }
    }

    /// The region.
    #[inline(always)]
    pub fn region(&self) -> &Region {
        self.region.borrow()
    }

    /// A consistent copy of the upstream called `name`, tombstones included.
    pub fn get(&self, name: &str) -> Result<Option<Stored>> {
        Ok(self.read(name)?.map(|(_, stored)| stored))
    }

    /// A consistent copy of every upstream, tombstones included, ordered by name. Each is whole; the set is not one instant.
    pub fn all(&self) -> Result<Vec<Stored>> {
        let mut all = Vec::new();
        let mem = self.region().mem();
        Directory::new(self.region()).each(|view| stored(view, mem), |stored| all.push(stored))?;
        all.sort_by(|a, b| a.upstream.name.cmp(&b.upstream.name));
        // One that was deleted and made again while we read may have been met twice; either is an answer.
        all.dedup_by(|a, b| a.upstream.name == b.upstream.name);
        Ok(all)
    }

    /// The names of all upstreams, in order.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let mem = self.region().mem();
        let name = |view: &View| Ok((!view.flags.has(Flags::DELETED)).then_some(view.name(mem)?));
        Directory::new(self.region()).each(name, |name| names.extend(name))?;
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Changes the upstream called `name` to what `change` makes of it, trying for at most `wait` to become the writer.
    /// `change` may be called twice: what it computes outside the lock is used only if nothing changed meanwhile.
    pub fn edit(&self, name: &str, wait: Duration, change: impl Fn(Option<&Stored>) -> Result<Edit>) -> Result<()> {
        if wait.is_zero() {
            // Nothing is computed for a caller who will be sent away.
            self.region().writer(wait)?;
        }
        let early = self.plan(name, &change)?;
        let writer = self.writer(wait)?;
        let plan = match early.base.same(&self.base(name)?) {
            true => early,
            false => self.plan(name, &change)?,
        };
        self.commit(&writer, name, plan)
    }

    /// Becomes the writer, and repairs what the last one left if it did not come to its end.
    pub fn writer(&self, wait: Duration) -> Result<Writer<'_>> {
        let writer = self.region().writer(wait)?;
        if writer.needs_repair()? {
            self.repair(&writer)?;
            let mem = self.region().mem();
            mem.store(state::REPAIRS, mem.load(state::REPAIRS)?.wrapping_add(1))?;
        }
        Ok(writer)
    }

    fn base(&self, name: &str) -> Result<Base> {
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

    fn plan(&self, name: &str, change: &impl Fn(Option<&Stored>) -> Result<Edit>) -> Result<Plan> {
        let (base, old) = self.read(name)?.map_or((Base(None), None), |(base, stored)| (base, Some(stored)));
        let step = match change(old.as_ref())? {
            Edit::Keep => Step::Keep,
            Edit::Remove => Step::Remove,
            Edit::Put(upstream, flags) => {
                let declared = upstream.method == Some(Method::Chash);
                Step::Put(build(self.region(), &upstream, flags, declared, base, old.as_ref())?)
            }
            Edit::Ring(upstream, flags) => Step::Put(build(self.region(), &upstream, flags, true, base, old.as_ref())?),
        };
        Ok(Plan { base, step })
    }

    fn commit(&self, writer: &Writer<'_>, name: &str, plan: Plan) -> Result<()> {
        match (plan.step, plan.base) {
            (Step::Put(build), base) => self.put(writer, name, build, base),
            (Step::Remove, Base(Some((record, view)))) => self.remove(writer, record, &view),
            (Step::Remove, Base(None)) | (Step::Keep, _) => Ok(()),
        }
    }

    fn put(&self, writer: &Writer<'_>, name: &str, build: Build, base: Base) -> Result<()> {
        let directory = Directory::new(self.region());
        let record = match base.0 {
            Some((record, _)) => record,
            None => directory.free_record()?.ok_or_else(|| self.too_many())?,
        };
        let stamp = directory.stamp(record)?;
        let kept = build.kept();
        writer.begin()?;
        let mut blocks = Blocks { writer, taken: Vec::new() };
        let written = blocks.write(build, record).and_then(|block| stamp.next(block).ok_or_else(used_up));
        let next = match written {
            Ok(next) => next,
            Err(error) => {
                blocks.give_back()?;
                writer.end()?;
                return Err(error);
            }
        };
        if base.0.is_none() {
            directory.link(record, name.as_bytes())?;
        }
        directory.publish(record, next)?;
        if let Some((_, old)) = base.0 {
            free_blocks(writer, &old, |ring| !kept.contains(&Some(*ring)))?;
        }
        Ok(writer.end()?)
    }

    fn remove(&self, writer: &Writer<'_>, record: u32, old: &View) -> Result<()> {
        let directory = Directory::new(self.region());
        let next = old.stamp.next(0).unwrap_or_default();
        writer.begin()?;
        directory.publish(record, next)?;
        directory.unlink(record)?;
        free_blocks(writer, old, |_| true)?;
        Ok(writer.end()?)
    }

    fn too_many(&self) -> Error {
        let most = self.region().geometry().records;
        Error::new(
            Code::Full,
            format!("the region is full: it has room for {most} upstreams: set a larger shm_size and restart nginx"),
        )
    }

    /// Looks a found region over before it is used, if nobody else uses it. Answers what an operator should read.
    pub fn check(&self, wait: Duration) -> Result<Option<String>> {
        if self.region().in_use()?.is_some() {
            return Ok(None);
        }
        let lost = self.repair(&self.region().writer(wait)?)?;
        let left = self.region().mem().load(state::RECORDS)?;
        let at = self.region().path().display();
        Ok((lost > 0).then(|| format!("{at} was damaged: {lost} of {} upstreams are lost", lost + left)))
    }

    /// Marks what can be reached and frees the rest. Whatever does not make sense is dropped; answers how many upstreams
    /// that were.
    pub fn repair(&self, writer: &Writer<'_>) -> Result<u64> {
        let mem = self.region().mem();
        writer.begin()?;
        let mut marks = Marks::new(self.region().geometry());
        let lost = Directory::new(self.region()).rebuild(|record, hash, stamp| {
            let place = stamp_at(self.region().geometry(), record);
            View::read(mem, place, stamp)
                .is_ok_and(|view| view.record == record && mark_whole(&mut marks, &view, mem, hash))
        })?;
        writer.rebuild(&marks)?;
        writer.end()?;
        Ok(lost)
    }
}

/// Marks a snapshot that makes sense. First the marking: what overlaps another is not worth reading, however long it claims
/// to be.
fn mark_whole(marks: &mut Marks, view: &View, mem: &Mem, hash: u32) -> bool {
    let whole = mark(marks, view);
    if whole && !is_whole(view, mem, hash) {
        blocks_of(view).for_each(|(block, words)| marks.unmark(block, words));
        return false;
    }
    whole
}

/// Whether all of it can be read and it is found by its name: else nobody could so much as delete it.
fn is_whole(view: &View, mem: &Mem, hash: u32) -> bool {
    view.decode(mem).is_ok_and(|upstream| {
        directory::hash(upstream.name.as_bytes()) == hash && name::check(upstream.name.as_bytes()).is_ok()
    })
}

fn stored(view: &View, mem: &Mem) -> Result<Stored, Damaged> {
    Ok(Stored {
        upstream: view.decode(mem)?,
        flags: view.flags,
        generation: view.stamp.generation(),
        has_ring: view.rings.iter().any(|ring| ring.block != 0),
    })
}

fn used_up() -> Error {
    Error::new(Code::Full, "the generations of this place in the region are used up: restart nginx with a new shm_path")
}

/// `must`: it is an error if there can be no ring. Otherwise somebody picked by chash once, and a ring is only a help: what
/// an operator may do must not depend on that.
fn build(
    region: &Region,
    upstream: &Upstream,
    flags: Flags,
    must: bool,
    base: Base,
    old: Option<&Stored>,
) -> Result<Build> {
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
    Ok(Build { image: encode(upstream, flags), rings, must })
}

impl Build {
    /// The rings that go over from the old version.
    fn kept(&self) -> [Option<RingPlace>; 2] {
        self.rings.each_ref().map(|ring| if let RingPlan::Keep(place) = ring { Some(*place) } else { None })
    }
}

/// Keeps the ring that is there when it would come out the same, else makes the new one from it where that is faster.
fn plan_ring(region: &Region, new: &Upstream, group: Group, base: Base, old: Option<&Stored>) -> Result<RingPlan> {
    if let (Base(Some((record, view))), Some(old)) = (base, old) {
        let place = view.rings[group as usize];
        if place.block != 0 && same_ring(&old.upstream, new, group) {
            return Ok(RingPlan::Keep(place));
        }
        let merged = merge_ring(region.mem(), &place, &old.upstream, new, group);
        if !Directory::new(region).stamp_holds(record, view.stamp)? {
            // What was read may have been recycled meanwhile. Another version is there by now, so this plan will be made
            // again under the lock, and needs no ring.
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
    old.hash_id == new.hash_id && key(old).eq(key(new))
}

/// Marks all blocks of a snapshot, or none.
fn mark(marks: &mut Marks, view: &View) -> bool {
    let mut done = Vec::new();
    for (block, words) in blocks_of(view) {
        if !marks.mark(block, words) {
            done.into_iter().for_each(|(block, words)| marks.unmark(block, words));
            return false;
        }
        done.push((block, words));
    }
    true
}

fn blocks_of(view: &View) -> impl Iterator<Item = (u32, usize)> {
    let rings = view.rings.into_iter().filter(|ring| ring.block != 0).map(|ring| (ring.block, ring.words()));
    std::iter::once((view.stamp.block(), view.words)).chain(rings)
}

fn free_blocks(writer: &Writer<'_>, view: &View, ring_too: impl Fn(&RingPlace) -> bool) -> Result<(), Damaged> {
    writer.free(view.stamp.block(), view.words)?;
    view.rings
        .iter()
        .filter(|ring| ring.block != 0 && ring_too(ring))
        .try_for_each(|ring| writer.free(ring.block, ring.words()))
}

/// The blocks of a version that is being written: all of them are given back if one cannot be had.
struct Blocks<'a> {
    writer: &'a Writer<'a>,
    taken: Vec<(u32, usize)>,
}

impl Blocks<'_> {
    fn take(&mut self, image: &[u64]) -> Result<u32> {
        let block = self.writer.allocate(image)?;
        self.taken.push((block, image.len()));
        Ok(block)
    }

    fn write(&mut self, mut build: Build, record: u32) -> Result<u32> {
        let mut places = [RingPlace::default(); 2];
        for (place, plan) in places.iter_mut().zip(&build.rings) {
            *place = match plan {
                RingPlan::None => RingPlace::default(),
                RingPlan::Keep(kept) => *kept,
                RingPlan::Build(ring) => match self.take(&ring.words) {
                    Ok(block) => RingPlace { block, shape: ring.shape },
                    Err(error) if error.code == Code::Full && !build.must => RingPlace::default(),
                    Err(error) => return Err(error),
                },
            };
        }
        place(&mut build.image, record, places);
        self.take(&build.image)
    }

    fn give_back(self) -> Result<(), Damaged> {
        self.taken.into_iter().try_for_each(|(block, words)| self.writer.free(block, words))
    }
}
