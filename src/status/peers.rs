//! How peers fare: the fields that `status` shows of each beside its configuration.

use crate::error::Result;
use crate::shm::history::{Event, Who};
use crate::state::events::{Standing, that_led_to};
use crate::state::failures::{Health, Limits};
use crate::state::verdict::Verdict;
use crate::table::directory::Directory;
use crate::table::snapshot::View;
use crate::table::store::{Stored, Table};
use crate::upstream::{Peer, Status};
use std::collections::HashMap;

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
    /// The peer in the history.
    pub who: Option<Who>,
}

impl Default for PeerState {
    /// A peer with which nothing is wrong.
    fn default() -> Self {
        PeerState { conns: 0, fails: 0, out: false, state: Standing::Up, verdict: None, who: None }
    }
}

/// How the peers of an upstream fare, by index. Of one that has changed since, those that are still there.
///
/// # Errors
///
/// [`crate::error::Code::Changing`], [`crate::error::Code::Damaged`]: the upstream or a cell cannot be read.
pub fn states(table: &Table, stored: &Stored) -> Result<Vec<PeerState>> {
    let mem = table.region().mem();
    let Some(cells) = table.region().cells() else { return Ok(Vec::new()) };
    let found = Directory::new(table.region()).find(stored.upstream.name.as_bytes())?;
    let Some((record, _)) = found else { return Ok(Vec::new()) };
    let read = |view: &View| (0..view.peers).map(|index| view.ident_and_cell(mem, index)).collect();
    let of_ident: HashMap<u64, u32> = Directory::new(table.region()).look(record, read)?.unwrap_or_default();
    let state = |peer: &Peer| {
        let Some(&cell) = of_ident.get(&peer.address.ident()).filter(|&&cell| cell != 0) else {
            return Ok(PeerState { state: peer.status.into(), ..PeerState::default() });
        };
        let health = Health(cells.health(cell)?);
        let limits = Limits { max_fails: peer.max_fails, fail_timeout: peer.fail_timeout };
        let verdict = stored.upstream.check.as_ref().map(|_| cells.verdict(cell).map(Verdict)).transpose()?;
        let (conns, out) = (cells.open(cell)?, health.is_out(limits));
        let state = in_a_word(peer.status, verdict, out);
        let who = Some(cells.who(cell)?);
        Ok(PeerState { conns, fails: health.fails(), out, state, verdict, who })
    };
    stored.upstream.peers.iter().map(state).collect()
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
