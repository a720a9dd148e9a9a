//! The metrics of `GET /metrics`: of each upstream and each peer, of the region, and of the workers.
//!
//! The format wants all samples of a family side by side. So a page first gathers the numbers of all upstreams, and then writes
//! one family after the other.

mod families;
mod gathered;
mod page;

pub use page::Format;

use super::numbers::Numbered;
use super::peers;
use super::slices::{self, Sliced};
use super::walk::{Order, Step, Walk};
use crate::error::Result;
use crate::pace::Pace;
use crate::shm::GRANULE;
use crate::shm::Memory;
use crate::shm::clock::now_ms;
use crate::shm::layout::{LAYOUT, state};
use crate::state::budget::Remembered;
use crate::table::Record;
use crate::table::copy::Copied;
use crate::table::snapshot::Kind;
use crate::table::store::Table;
use families::families;
use gathered::{Gathered, Numbers, Peer};
use page::{Page, Type};

/// The parts that a client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Metrics of each peer. Upstreams have the sums in any case.
    pub peers: bool,
    /// Histograms of each peer.
    pub histograms: bool,
}

/// All metrics, in one piece.
///
/// # Errors
///
/// - [`crate::error::Code::Changing`], [`crate::error::Code::Damaged`]: the table or its cells cannot be read.
/// - [`crate::error::Code::System`]: the operating system does not say which workers live.
pub fn text(table: &Table, slot: Option<u32>, format: Format, parts: Parts) -> Result<Vec<u8>> {
    slices::whole(MetricsAnswer::of(table, slot, format, parts)?)
}

/// All metrics.
#[derive(Debug)]
pub struct MetricsAnswer<'a> {
    table: &'a Table,
    slot: Option<u32>,
    numbers: Option<Numbered<'a>>,
    parts: Parts,
    page: Page,
    walk: Walk<'a>,
    all: Vec<Gathered>,
    part: Part,
}

/// How many gathered peers one step gives back.
const FREED_A_STEP: usize = 16;

/// The part that comes next.
#[derive(Debug)]
enum Part {
    Gather,
    /// The peers of this upstream from this one on.
    GatherPeers(Box<Copied>, u32),
    /// The lines before the samples of this family.
    Begin(usize),
    /// The samples of this family, from this upstream and this peer on.
    Write(usize, usize, usize),
    /// The gathered numbers are given back: those of many peers take as long as they are many.
    Free,
    End,
}

impl<'a> MetricsAnswer<'a> {
    /// The metrics of a table. `slot`: that of this process.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Damaged`]: the table cannot be read.
    pub fn of(table: &'a Table, slot: Option<u32>, format: Format, parts: Parts) -> Result<Self> {
        Ok(MetricsAnswer {
            table,
            slot,
            numbers: Numbered::find(table),
            parts,
            page: Page::new(format),
            walk: Walk::over(table, Kind::UPSTREAM, Order::Name)?,
            all: Vec::new(),
            part: Part::Gather,
        })
    }

    /// Does the next part; `false`: the slice is over.
    fn go_on(&mut self, pace: &mut Pace) -> Result<bool> {
        match std::mem::replace(&mut self.part, Part::End) {
            Part::Gather => match self.walk.upstream(pace)? {
                Step::Next(copied) => {
                    let totals = self.numbers.as_ref().map(|numbers| numbers.totals(&copied)).transpose()?;
                    let numbers = Numbers::of(&totals.unwrap_or_default(), true);
                    let name = copied.upstream()?.0.name;
                    let peers = Vec::with_capacity(copied.view.peers as usize);
                    let budget = budget(self.table, &copied)?;
                    self.all.push(Gathered { name, numbers, budget, peers, servers: String::new() });
                    self.part = Part::GatherPeers(Box::new(copied), 0);
                }
                Step::Pause => {
                    self.part = Part::Gather;
                    return Ok(false);
                }
                Step::End => {
                    of_the_region(&mut self.page, self.table, self.slot, self.walk.is_outdated()?)?;
                    self.part = Part::Begin(0);
                }
            },
            Part::Begin(nth) => {
                if let Some(family) = families(self.parts).nth(nth) {
                    family.begin(&mut self.page);
                    self.part = Part::Write(nth, 0, 0);
                } else {
                    self.part = Part::Free;
                }
            }
            Part::GatherPeers(copied, index) if index == copied.view.peers => self.part = Part::Gather,
            Part::GatherPeers(copied, index) => {
                let goes_on = pace.step();
                if goes_on {
                    self.gather(&copied, index)?;
                }
                self.part = Part::GatherPeers(copied, index + u32::from(goes_on));
                return Ok(goes_on);
            }
            Part::Write(family, upstream, peer) => return Ok(self.write_on(pace, family, upstream, peer)),
            Part::Free => {
                let goes_on = pace.step();
                if let Some(upstream) = self.all.last_mut() {
                    let left = upstream.peers.len().saturating_sub(FREED_A_STEP);
                    upstream.peers.truncate(left);
                    if left == 0 {
                        self.all.pop();
                    }
                    self.part = Part::Free;
                    return Ok(goes_on);
                }
            }
            Part::End => {}
        }
        Ok(true)
    }

    fn gather(&mut self, copied: &Copied, index: u32) -> Result<()> {
        let peer = copied.peer(index)?;
        let state = peers::state(self.table, copied, index, &peer)?;
        let numbers = match &self.numbers {
            Some(numbers) if self.parts.peers => numbers.totals_of_peer(copied, index)?,
            _ => None,
        };
        let numbers = numbers.map(|(_, totals)| Box::new(Numbers::of(&totals, self.parts.histograms)));
        let upstream = self.all.last_mut().expect("one was begun");
        upstream.servers.push_str(if self.parts.peers { peer.address.server() } else { "" });
        let server_end = upstream.servers.len();
        let (throttle, state, conns) = (state.throttle, state.state, state.conns);
        upstream.peers.push(Peer { server_end, state, conns, weight: peer.weight, throttle, numbers });
        Ok(())
    }

    /// Writes samples of a family, from this upstream and this peer on; `false`: the slice is over.
    fn write_on(&mut self, pace: &mut Pace, nth: usize, mut upstream: usize, mut peer: usize) -> bool {
        let Some(family) = families(self.parts).nth(nth) else { return true };
        let name = family.full_name();
        while let Some(gathered) = self.all.get(upstream) {
            let samples = if family.is_of_peers() { gathered.peers.len() } else { 1 };
            while peer < samples {
                if !pace.step() {
                    self.part = Part::Write(nth, upstream, peer);
                    return false;
                }
                family.write(&mut self.page, &name, gathered, peer);
                peer += 1;
            }
            (upstream, peer) = (upstream + 1, 0);
        }
        self.part = Part::Begin(nth + 1);
        true
    }
}

impl Sliced for MetricsAnswer<'_> {
    fn write(&mut self, pace: &mut Pace, out: &mut Vec<u8>) -> Result<bool> {
        while !matches!(self.part, Part::End) {
            let goes_on = self.go_on(pace)?;
            self.page.take(out);
            if !goes_on {
                return Ok(true);
            }
        }
        self.page.end(out);
        Ok(false)
    }
}

/// The counts that the budget of an upstream's retries remembers now.
fn budget(table: &Table, copied: &Copied) -> Result<Remembered> {
    let region = table.region();
    let record = Record::numbered(region.geometry(), copied.view.record);
    Ok(record.budget(region.mem(), now_ms()).remembered()?)
}

fn of_the_region(page: &mut Page, table: &Table, slot: Option<u32>, is_outdated: bool) -> Result<()> {
    let region = table.region();
    let (mem, geometry) = (region.mem(), region.geometry());
    let used = mem.load(state::USED)?.saturating_mul(GRANULE as u64);
    let layout = LAYOUT.to_string();
    page.family("dyups_build_info", Type::Gauge, "The version of dyups, and the layout of its region.");
    page.sample("dyups_build_info", &[("version", env!("CARGO_PKG_VERSION")), ("layout", &layout)], 1);
    for (name, help, value) in [
        ("dyups_region_size_bytes", "Size of the region.", geometry.size),
        ("dyups_region_used_bytes", "Bytes of the region's heap that are in use.", used),
        ("dyups_region_free_bytes", "Bytes of the heap that are free.", geometry.heap_bytes().saturating_sub(used)),
        ("dyups_region_records", "Upstreams, and deletions that are remembered.", mem.load(state::RECORDS)?),
        ("dyups_region_max_records", "The most of them.", geometry.records as u64),
        ("dyups_workers", "Workers that have a slot in the region.", region.workers(slot)?.len() as u64),
        ("dyups_max_workers", "The most of them.", geometry.slots.into()),
        ("dyups_scrape_changed", "1: the table has changed while this page was made.", is_outdated.into()),
    ] {
        page.family(name, Type::Gauge, help);
        page.sample(name, &[], value);
    }
    let uncounted = region.sections().map(|sections| sections.uncounted()).transpose()?;
    for (name, help, value) in [
        (
            "dyups_repairs_total",
            "Changes that a dead writer had begun, and that were cleared away.",
            mem.load(state::REPAIRS)?,
        ),
        ("dyups_changes_total", "Numbers of changes that were given out.", mem.load(state::SEQUENCE)?),
        ("dyups_uncounted_tries_total", "Tries without room in the statistics.", uncounted.unwrap_or_default()),
    ] {
        page.family(name, Type::Counter, help);
        page.sample(name, &[], value);
    }
    Ok(())
}
