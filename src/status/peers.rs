//! How peers fare: the fields that `status` shows of each beside its configuration.

use super::walk::{Step, Walk};
use crate::config::json::More;
use crate::error::Result;
use crate::pace::Pace;
use crate::shm::clock::now_ms;
use crate::shm::history::{Event, Who};
use crate::shm::{Cells, Damaged, Mem};
use crate::state::events::{Standing, that_led_to};
use crate::state::failures::{Health, Limits, tenths};
use crate::state::slow_start::{self, WHOLE};
use crate::state::verdict::Verdict;
use crate::table::copy::Copied;
use crate::table::store::Table;
use crate::upstream::fields;
use crate::upstream::{Peer, Status};
use serde::ser::SerializeMap;
use serde_json::{Map, Value};

/// How a peer fares, as `status` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Connections that all workers have open to it.
    pub conns: u64,
    /// Failures that count.
    pub fails: u32,
    /// They have taken it out.
    pub out: bool,
    /// The state in a word.
    pub state: Standing,
    /// The result of its probes, where there are probes.
    pub verdict: Option<Verdict>,
    /// The percentage of its weight that it has, while it is in its slow start.
    pub throttle: Option<u8>,
    /// The peer in the history.
    pub who: Option<Who>,
}

impl Default for PeerState {
    /// A peer with which nothing is wrong.
    fn default() -> Self {
        PeerState { conns: 0, fails: 0, out: false, state: Standing::Up, verdict: None, throttle: None, who: None }
    }
}

/// How the peer with this index of a copied version fares. Without the peer's cell, as configuration says.
///
/// # Errors
///
/// [`Damaged`]: there is no such peer or cell.
pub fn state(table: &Table, copied: &Copied, index: u32, peer: &Peer) -> Result<PeerState, Damaged> {
    let found = copied.cell(table.region(), index)?;
    let (Some(cells), Some((cell, who))) = (table.region().cells(), found) else {
        return Ok(PeerState { state: peer.status.into(), ..PeerState::default() });
    };
    let health = Health(cells.health(cell)?);
    let limits = Limits { max_fails: peer.max_fails, fail_timeout: peer.fail_timeout };
    let verdict = copied.view.checked.then(|| cells.verdict(cell).map(Verdict)).transpose()?;
    let (conns, out) = (cells.open(cell)?, health.is_out(limits));
    let state = in_a_word(peer.status, verdict, out);
    let throttle = if state == Standing::Up { throttle(&cells, cell, peer.slow_start)? } else { None };
    Ok(PeerState { conns, fails: health.fails(), out, state, verdict, throttle, who: Some(who) })
}

/// How all peers of an upstream fare, by index.
///
/// # Errors
///
/// [`crate::error::Code::NotFound`]: there is no such upstream. [`crate::error::Code::Changing`],
/// [`crate::error::Code::Damaged`]: it cannot be read.
pub fn states(table: &Table, name: &str) -> Result<Vec<PeerState>> {
    let Step::Next(copied) = Walk::to(table, name)?.upstream(&mut Pace::unlimited())? else { return Ok(Vec::new()) };
    let state = |index| Ok(state(table, &copied, index, &copied.peer(index)?)?);
    (0..copied.view.peers).map(state).collect()
}

/// The percentage of its weight that a peer has, while it is in its slow start.
fn throttle(cells: &Cells<'_, Mem>, cell: u32, slow_start: u32) -> Result<Option<u8>, Damaged> {
    if slow_start == 0 {
        return Ok(None);
    }
    let part = slow_start::of(cells, cell)?.and_then(|start| start.part(slow_start, tenths(now_ms())));
    Ok(part.map(|part| (part * 100 / WHOLE) as u8))
}

impl PeerState {
    /// The event that led to its state.
    pub fn event(&self, table: &Table) -> Option<Event> {
        that_led_to(&table.region().history()?, self.who?, self.state).ok()?
    }
}

/// The operator's word comes first, then that of probes, then that of requests.
fn in_a_word(status: Status, verdict: Option<Verdict>, out: bool) -> Standing {
    match (status, verdict.filter(|verdict| verdict.is_down())) {
        (Status::Up, Some(verdict)) if !verdict.is_judged() => Standing::Checking,
        (Status::Up, Some(_)) => Standing::Unhealthy,
        (Status::Up, None) if out => Standing::Unavail,
        _ => status.into(),
    }
}

/// The fields that `status` adds to a peer.
#[derive(Debug)]
pub struct Extended<'a> {
    /// The table.
    pub table: &'a Table,
    /// How the peer fares.
    pub state: PeerState,
    /// The totals of its tries, where they are asked for.
    pub stats: Option<Map<String, Value>>,
}

impl More for Extended<'_> {
    fn add_to<M: SerializeMap>(&self, map: &mut M) -> std::result::Result<(), M::Error> {
        let Extended { table, state, stats } = self;
        map.serialize_entry(fields::CONNS.name, &state.conns)?;
        map.serialize_entry(fields::FAILS.name, &state.fails)?;
        map.serialize_entry(fields::OUT.name, &state.out)?;
        map.serialize_entry(fields::STATE.name, state.state.name())?;
        if let Some(verdict) = state.verdict {
            map.serialize_entry(fields::PROBES.name, &verdict.results())?;
            map.serialize_entry(fields::STREAK.name, &verdict.streak())?;
        }
        if let Some(percent) = state.throttle {
            map.serialize_entry(fields::THROTTLE.name, &percent)?;
        }
        if let Some(event) = state.event(table) {
            map.serialize_entry(fields::SINCE.name, &(event.time / 1000))?;
            map.serialize_entry(fields::CAUSE.name, &event.text)?;
        }
        if let Some(stats) = stats {
            map.serialize_entry(fields::STATS.name, stats)?;
        }
        Ok(())
    }
}
