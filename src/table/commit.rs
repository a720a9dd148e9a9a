//! How a writer writes and publishes a new version of an upstream, and ends an old one. The order of the steps here is that of the
//! protocol in [`crate::shm`]. The caller holds the writer lock.

use super::directory::Directory;
use super::snapshot::{ImagePeers, RingPlace, View, place, set_version};
use super::{deleted, in_place};
use crate::error::{Code, Error, Result};
use crate::order::chash::Ring;
use crate::shm::arena::Room;
use crate::shm::clock::now_ms;
use crate::shm::deletions::{Deletion, Deletions};
use crate::shm::{Damaged, Memory, Stamp, Writing};
use crate::state::failures::{Health, tenths};
use crate::state::slow_start;
use crate::state::verdict::Verdict;

/// A version that lacks nothing but its places in the region.
#[derive(Debug)]
pub struct Build {
    /// As [`super::snapshot::encode`] lays it out.
    pub image: Vec<u64>,
    /// By group.
    pub rings: [RingPlan; 2],
    /// It is an error if there is no room for the rings.
    pub must: bool,
    /// The plan for the cells.
    pub cells: CellPlan,
}

/// The changes of cells. The image says which peers keep theirs.
#[derive(Debug, Default)]
pub struct CellPlan {
    /// Indexes of peers that get one.
    pub new: Vec<u32>,
    /// Cells of peers that are no more.
    pub freed: Vec<u32>,
    /// Indexes of peers whose slow start begins.
    pub starting: Vec<u32>,
}

/// Where a ring comes from.
#[derive(Debug)]
pub enum RingPlan {
    /// There is none.
    None,
    /// It goes over from the old version.
    Keep(RingPlace),
    /// It is new.
    Build(Ring),
}

impl Build {
    /// Leaves out the rings that have to be built, if it may; whether there were any.
    fn leave_out_new_rings(&mut self) -> bool {
        let new = |ring: &&mut RingPlan| matches!(ring, RingPlan::Build(_));
        !self.must && self.rings.iter_mut().filter(new).map(|ring| *ring = RingPlan::None).count() > 0
    }

    /// The rings that go over from the old version.
    pub(super) fn kept(&self) -> [Option<RingPlace>; 2] {
        self.rings.each_ref().map(|ring| if let RingPlan::Keep(place) = ring { Some(*place) } else { None })
    }
}

/// Puts a new version in the place of `old`, or makes the upstream called `name`.
///
/// # Errors
///
/// After [`Code::Full`], [`Code::System`] and [`Code::Changing`] the table is as it was.
/// [`Code::Full`]: there is no free record, no cell for a new peer, no block or no memory; or the generations of the record are used up.
/// [`Code::System`]: the operating system refuses memory for another reason.
/// [`Code::Changing`]: workers count in the free cells at each of 16 tries.
/// [`Code::Damaged`]: a page of the region is gone, or a word does not make sense.
pub fn put<M: Memory>(change: &Writing<'_, M>, name: &str, mut build: Build, old: Option<(u32, View)>) -> Result<()> {
    let directory = Directory::over(change.mem(), change.geometry());
    let record = match old {
        Some((record, _)) => record,
        None => {
            let record = directory.free_record()?.ok_or_else(|| too_many(change))?;
            change.reserve_record(record)?;
            record
        }
    };
    change.begin()?;
    let taken = match take_cells(change, &mut build) {
        Ok(taken) => taken,
        Err(error) => {
            change.end()?;
            return Err(error);
        }
    };
    forget_old_verdicts(change, &mut build, old.as_ref().map(|(_, view)| view))?;
    let has_failures = brings_back_the_ill(change, &mut build, old.as_ref().map(|(_, view)| view))?;
    let starts = begin_slow_starts(change, &mut build, old.as_ref().map(|(_, view)| view))?;
    set_version(&mut build.image, change.next_version()?);
    let tell = || if has_failures || starts { directory.mark_failure(record) } else { Ok(()) };
    // Before, so that no pick overlooks it. And after, since a worker may have found the old version well in between.
    tell()?;
    loop {
        let error = match write(change, Room::Home, &mut build, record)? {
            Ok(next) => {
                if old.is_none() {
                    directory.link(record, name.as_bytes())?;
                }
                publish(change, record, next, &build, old.as_ref().map(|(_, view)| view))?;
                tell()?;
                return Ok(change.end()?);
            }
            Err(error) => error,
        };
        let full = error.code == Code::Full;
        let done = match &old {
            Some((_, old)) if full => in_place::replace(change, record, &mut build, old)?,
            _ => false,
        };
        // Once more without the rings that are only a help.
        if done || !full || !build.leave_out_new_rings() {
            match done {
                true => tell()?,
                false => change.free_cells(&taken)?,
            }
            change.end()?;
            return if done { Ok(()) } else { Err(error) };
        }
    }
}

/// Begins the slow starts of peers that come back by this change, or come to others that serve; whether there are any. Where the
/// change fails, they say nothing: no pick takes these peers by the old version.
fn begin_slow_starts<M: Memory>(
    change: &Writing<'_, M>,
    build: &mut Build,
    old: Option<&View>,
) -> Result<bool, Damaged> {
    let Some(cells) = change.cells() else { return Ok(false) };
    let (peers, now) = (ImagePeers::of(&mut build.image), tenths(now_ms()));
    let mut starting: Vec<u32> = build.cells.starting.iter().map(|&index| peers.cell(index as usize)).collect();
    if peers.some_start_slowly() && !peers.is_checked() && old.is_some_and(|old| old.checked) {
        // No probe keeps a peer out any more.
        for cell in peers.slow_cells().filter(|&cell| cell != 0) {
            let verdict = Verdict(cells.verdict(cell)?);
            if verdict.is_down() && slow_start::comes_back(&cells, cell, verdict)? {
                starting.push(cell);
            }
        }
    }
    starting.retain(|&cell| cell != 0);
    for &cell in &starting {
        slow_start::begin(&cells, cell, cells.generation(cell)?, now)?;
    }
    Ok(!starting.is_empty())
}

/// Whether this version may have a peer that is out and that the old one did not watch. Then no worker may have marked the
/// upstream.
fn brings_back_the_ill<M: Memory>(
    change: &Writing<'_, M>,
    build: &mut Build,
    old: Option<&View>,
) -> Result<bool, Damaged> {
    let Some(cells) = change.cells() else { return Ok(false) };
    let (peers, has_new) = (ImagePeers::of(&mut build.image), !build.cells.new.is_empty());
    if peers.default_down() && (has_new || begins_a_check(&peers, old)) {
        return Ok(true);
    }
    if !old.is_some_and(|old| old.unwatched) {
        return Ok(false);
    }
    for (cell, is_watched) in peers.serving_cells().filter(|&(cell, _)| cell != 0) {
        let fails = is_watched && !Health(cells.health(cell)?).is_well();
        if fails || peers.is_checked() && Verdict(cells.verdict(cell)?).is_down() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn begins_a_check(peers: &ImagePeers<'_>, old: Option<&View>) -> bool {
    peers.is_checked() && !old.is_some_and(|old| old.checked)
}

/// Where a check begins, the results of the one before it are forgotten. No pick reads them: the old version has no check.
fn forget_old_verdicts<M: Memory>(
    change: &Writing<'_, M>,
    build: &mut Build,
    old: Option<&View>,
) -> Result<(), Damaged> {
    let peers = ImagePeers::of(&mut build.image);
    match change.cells() {
        Some(cells) if begins_a_check(&peers, old) => peers
            .cells()
            .filter(|&cell| cell != 0)
            .try_for_each(|cell| cells.forget_probes(cell, peers.first_verdict())),
        _ => Ok(()),
    }
}

/// Takes a cell for each peer that is new, or none.
fn take_cells<M: Memory>(change: &Writing<'_, M>, build: &mut Build) -> Result<Vec<u32>> {
    let mut peers = ImagePeers::of(&mut build.image);
    let taken = change.take_cells(build.cells.new.len(), peers.first_verdict())?;
    for (&index, &cell) in build.cells.new.iter().zip(&taken) {
        peers.set_cell(index as usize, cell);
    }
    Ok(taken)
}

/// Writes a version where no reader looks. An error inside says that there is no room for it, and that nothing is changed.
pub(super) fn write<M: Memory>(
    change: &Writing<'_, M>,
    room: Room,
    build: &mut Build,
    record: u32,
) -> Result<Result<Stamp>, Damaged> {
    let stamp = match Directory::over(change.mem(), change.geometry()).stamp(record)? {
        // An empty place leads no reader anywhere, so its generations may begin again, as after a deletion.
        empty if empty.block() == 0 && empty.next(0).is_none() => Stamp::default(),
        stamp => stamp,
    };
    let Some(next) = stamp.next(0) else { return Ok(Err(used_up())) };
    let mut blocks = Blocks { change, room, taken: Vec::new() };
    let written =
        blocks.write(build, record, next.generation()).and_then(|block| stamp.next(block).ok_or_else(used_up));
    if written.is_err() {
        blocks.give_back()?;
    }
    Ok(written)
}

/// Publishes a version that was written. Frees the cells and blocks that the old version has and the new one does not.
pub(super) fn publish<M: Memory>(
    change: &Writing<'_, M>,
    record: u32,
    next: Stamp,
    build: &Build,
    old: Option<&View>,
) -> Result<(), Damaged> {
    change.is_seen_by_all()?;
    Directory::over(change.mem(), change.geometry()).publish(record, next)?;
    let kept = build.kept();
    if let Some(old) = old {
        deleted::remember(change, old, &build.cells.freed)?;
    }
    change.free_cells(&build.cells.freed)?;
    old.map_or(Ok(()), |old| free_blocks(change, old, |ring| !kept.contains(&Some(*ring))))
}

/// Ends the upstream in `record`, whose version is `old`.
///
/// # Errors
///
/// [`Code::Damaged`]: a page of the region is gone, or a word does not make sense.
pub fn remove<M: Memory>(change: &Writing<'_, M>, record: u32, old: &View) -> Result<()> {
    let directory = Directory::over(change.mem(), change.geometry());
    let next = old.stamp.next(0).unwrap_or_default();
    let mut cells = (0..old.peers).map(|index| old.cell(change.mem(), index)).collect::<Result<Vec<_>, _>>()?;
    // A number that is no cell is passed over: it ends with its version.
    let most = change.cells().map_or(0, |cells| cells.count());
    cells.retain(|&cell| cell != 0 && (cell as usize) < most);
    cells.sort_unstable();
    change.begin()?;
    say_deleted(change, old, change.next_version()?)?;
    directory.publish(record, next)?;
    directory.unlink(record)?;
    deleted::remember(change, old, &cells)?;
    change.free_cells(&cells)?;
    free_blocks(change, old, |_| true)?;
    Ok(change.end()?)
}

/// Enters a deletion into the ring before it is published. A name that cannot be read is not entered: a deletion does not fail for it.
fn say_deleted<M: Memory>(change: &Writing<'_, M>, old: &View, sequence: u64) -> Result<(), Damaged> {
    let Ok(name) = old.name(change.mem()) else { return Ok(()) };
    let deletion = Deletion { sequence, kind: old.kind.0, name: name.into_bytes() };
    Deletions::over(change.mem(), change.geometry()).add(&deletion)
}

fn free_blocks<M: Memory>(
    change: &Writing<'_, M>,
    view: &View,
    ring_too: impl Fn(&RingPlace) -> bool,
) -> Result<(), Damaged> {
    change.free(view.stamp.block(), view.words)?;
    view.rings
        .iter()
        .filter(|ring| ring.block != 0 && ring_too(ring))
        .try_for_each(|ring| change.free(ring.block, ring.words()))
}

/// The blocks of a version that is being written: all of them are given back if one cannot be had.
struct Blocks<'a, M> {
    change: &'a Writing<'a, M>,
    room: Room,
    taken: Vec<(u32, usize)>,
}

impl<M: Memory> Blocks<'_, M> {
    fn take(&mut self, image: &[u64]) -> Result<u32> {
        let block = self.change.allocate_in(self.room, image)?;
        self.taken.push((block, image.len()));
        Ok(block)
    }

    fn write(&mut self, build: &mut Build, record: u32, generation: u64) -> Result<u32> {
        let mut places = [RingPlace::default(); 2];
        for (place, plan) in places.iter_mut().zip(&build.rings) {
            *place = match plan {
                RingPlan::None => RingPlace::default(),
                RingPlan::Keep(kept) => *kept,
                RingPlan::Build(ring) => RingPlace { block: self.take(&ring.words)?, shape: ring.shape },
            };
        }
        place(&mut build.image, record, generation, places);
        self.take(&build.image)
    }

    fn give_back(self) -> Result<(), Damaged> {
        self.taken.into_iter().try_for_each(|(block, words)| self.change.free(block, words))
    }
}

fn too_many<M: Memory>(change: &Writing<'_, M>) -> Error {
    let most = change.geometry().records;
    Error::new(
        Code::Full,
        format!(
            "the region is full: it has room for {most} upstreams and routes: delete some, or set a larger shm_size and restart nginx"
        ),
    )
}

fn used_up() -> Error {
    Error::new(Code::Full, "the generations of this place in the region are used up: restart nginx with a new shm_path")
}
