//! The conditions that must hold after a death, for the next process that uses the region.

use crate::WAIT;
use crate::operations::Operation;
use crate::subject::{SUBJECT, patch};
use dyups::balance::miss::Miss;
use dyups::balance::pick::{Ask, Handle, Picked};
use dyups::balance::route::{Routed, Router};
use dyups::health::prober::Prober;
use dyups::http::response::Rules;
use dyups::shm::Memory;
use dyups::shm::cells::deleted::Ledger;
use dyups::shm::deletions::{Deletion, Deletions};
use dyups::shm::layout::state;
use dyups::status::peers::PeerState;
use dyups::table::Table;
use dyups::table::ops::Absent;
use dyups::table::routes::StoredRoute;
use dyups::table::snapshot::{Flags, Kind};
use dyups::table::store::Stored;
use dyups::upstream::{Method, Upstream};

/// The slot of a worker that lives.
const OTHER: u32 = 8;

/// Changes after each death.
const CHANGES: usize = 100;

/// A table as its users see it, with any stamps. Beside it the heap that it takes, its records and its cells, each as it is
/// counted and as the bits say.
#[derive(PartialEq)]
pub struct State {
    table: Vec<(Upstream, Flags)>,
    routes: Vec<StoredRoute>,
    used: [u64; 5],
}

/// The state of `table` now.
pub fn state(table: &Table) -> State {
    State { table: visible(table), routes: routes(table), used: used(table) }
}

fn visible(table: &Table) -> Vec<(Upstream, Flags)> {
    let all = table.all().expect("a table that can be read");
    all.into_iter().map(|Stored { upstream, flags, .. }| (upstream, flags)).collect()
}

fn routes(table: &Table) -> Vec<StoredRoute> {
    table.all_routes().expect("routes that can be read")
}

fn used(table: &Table) -> [u64; 5] {
    let (geometry, cells) = (table.region().geometry(), table.region().cells().expect("they are there"));
    let word = |index| table.region().mem().load(index).expect("inside");
    let bits =
        |from: usize, count: usize| (from..from + count.div_ceil(64)).map(|at| u64::from(word(at).count_ones())).sum();
    [
        word(state::USED),
        bits(geometry.granule_bits_at, geometry.granules),
        word(state::RECORDS),
        bits(geometry.record_bits_at, geometry.records),
        cells.used().expect("inside"),
    ]
}

/// The state that a finished operation leaves: nothing that a repair would change.
pub fn state_to_stay(table: &Table, what: &str) -> State {
    let left = state(table);
    let writer = table.writer(WAIT).expect("the lock");
    table.repair(&writer).expect("sound");
    let repaired = state(table);
    assert!(left == repaired, "{what} leaves {:?} in use, not {:?}", left.used, repaired.used);
    left
}

/// The two tables that a death in an operation may leave.
pub struct Allowed<'a> {
    pub old: State,
    pub new: State,
    pub operation: &'a dyn Operation,
}

impl Allowed<'_> {
    /// The next one to use the region finds it whole, has the lock at once, and can work.
    pub fn check(&self, table: &Table, what: &str) {
        let (found, led) = (visible(table), routes(table));
        let is_found = |state: &&State| state.table == found && state.routes == led;
        let Some(expected) = [&self.old, &self.new].into_iter().find(is_found) else {
            panic!("{what}: neither the old nor the new table: {found:?}, {led:?}")
        };
        assert_eq!(table.region().in_use(), Ok(None), "{what}: a dead process has a slot");
        self.every_deleted_name_is_in_the_ring(table, &found, what);
        every_deleted_peer_was_one(table, what);
        drop(table.writer(WAIT).unwrap_or_else(|error| panic!("{what}: {error}")));
        assert!(state(table) == *expected, "{what}: after the repair: {:?}, {:?}", used(table), visible(table));
        every_pick_is_a_peer(table, &found, what);
        every_route_leads_to_one_of_its_upstreams(table, &led, &found, what);
        self.operation.check(table, what);
        self.operation.make_room(table);
        the_next_changes_work(table).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

impl Allowed<'_> {
    /// A reader that follows the numbers of changes misses no deletion, however its writer ended.
    fn every_deleted_name_is_in_the_ring(&self, table: &Table, found: &[(Upstream, Flags)], what: &str) {
        let entries = Deletions::over(table.region().mem(), table.region().geometry()).all().expect("sound");
        for (old, _) in &self.old.table {
            let is_there = found.iter().any(|(upstream, _)| upstream.name == old.name);
            let is_it = |deletion: &Deletion| deletion.kind == Kind::UPSTREAM.0 && deletion.name == old.name.as_bytes();
            let is_in_ring = entries.iter().any(is_it);
            assert!(is_there || is_in_ring, "{what}: {} is gone and not in the ring: {entries:?}", old.name);
        }
        let left = routes(table);
        for StoredRoute { route: old, .. } in &self.old.routes {
            let is_there = left.iter().any(|stored| stored.route.host == old.host);
            let is_it = |deletion: &Deletion| deletion.kind == Kind::ROUTE.0 && deletion.name == old.host.as_bytes();
            let is_in_ring = entries.iter().any(is_it);
            assert!(is_there || is_in_ring, "{what}: route {} is gone and not in the ring: {entries:?}", old.host);
        }
    }
}

/// Changes of other upstreams that come to nothing in the end, then some of the one that the dead process was at.
fn the_next_changes_work(table: &Table) -> dyups::error::Result<()> {
    let before = state(table);
    for round in 0..CHANGES / 4 - 1 {
        let name = ["next", "after", "and-so-on"][round % 3];
        let mut peer = patch(round);
        table.put_peer(name, &peer, Absent::Make, WAIT)?;
        peer.weight = Some(2);
        table.put_peer(name, &peer, Absent::Refuse, WAIT)?;
        table.delete_peer(name, &peer.address, WAIT)?;
        table.delete_upstream(name, false, WAIT)?;
    }
    assert!(state(table) == before, "the next changes left something: {:?}", visible(table));
    let one_more = patch(800);
    table.put_peer(SUBJECT, &one_more, Absent::Make, WAIT)?;
    table.put_peer(SUBJECT, &patch(801), Absent::Make, WAIT)?;
    table.delete_peer(SUBJECT, &one_more.address, WAIT)?;
    let servers = |stored: Stored| stored.upstream.peers.iter().map(|peer| peer.address.clone()).collect::<Vec<_>>();
    let now = servers(table.upstream(SUBJECT)?);
    assert!(now.contains(&patch(801).address) && !now.contains(&one_more.address), "{now:?}");
    table.delete_upstream(SUBJECT, true, WAIT)?;
    assert!(table.upstream(SUBJECT).is_err());
    Ok(())
}

/// An entry that its writer did not come to the end of is none, and none is of a peer that is there.
fn every_deleted_peer_was_one(table: &Table, what: &str) {
    let peers = table.upstream(SUBJECT).map_or(Vec::new(), |stored| stored.upstream.peers);
    for gone in Ledger::of(table.region().cells().expect("they are there")).all().expect("sound") {
        let patch = (0..3).map(patch).find(|patch| patch.address.text() == gone.server);
        let patch = patch.unwrap_or_else(|| panic!("{what}: {gone:?}"));
        assert_eq!((gone.upstream.as_str(), gone.conns), (SUBJECT, 1), "{what}");
        assert!(!peers.iter().any(|peer| peer.address.same_as(&patch.address)), "{what}: {gone:?} is there");
    }
}

/// It is up as far as probes go, or so few are that it does not matter.
fn may_be_picked(table: &Table, upstream: &Upstream, index: usize) -> bool {
    let Some(check) = &upstream.check else { return true };
    let states = dyups::status::peers::states(table, &upstream.name).expect("sound");
    let is_up = |state: &PeerState| state.verdict.is_none_or(|verdict| !verdict.is_down());
    let up = states.iter().filter(|&state| is_up(state)).count();
    is_up(&states[index]) || up == 0 || up * 100 < states.len() * usize::from(check.panic_threshold)
}

/// And where none of them is there, it says so.
fn every_route_leads_to_one_of_its_upstreams(
    table: &Table,
    routes: &[StoredRoute],
    found: &[(Upstream, Flags)],
    what: &str,
) {
    let is_there = |name: &str| found.iter().any(|(it, flags)| it.name == name && !flags.has(Flags::DELETED));
    let router = Router::over(table.region().mem(), table.region().geometry());
    for StoredRoute { route, flags } in routes {
        let mut routed = Routed::default();
        let led = router.lead(route.host.as_bytes(), |_| None, None, &mut routed);
        let text = || String::from_utf8_lossy(&routed.text[..routed.len as usize]).into_owned();
        let leads_on = route.targets.iter().any(|target| is_there(&target.upstream));
        match led {
            Ok(led) => {
                assert_eq!(led, !flags.has(Flags::DELETED), "{what}");
                assert!(!led || is_there(&text()), "{what}: {route:?} leads to {}", text());
            }
            Err(miss) => assert!(miss == Miss::NotFound && !leads_on, "{what}: {route:?}: {miss:?}"),
        }
    }
}

/// By the upstream's own method, which has all that it needs. Another worker has looked after the checks by then.
fn every_pick_is_a_peer(table: &Table, found: &[(Upstream, Flags)], what: &str) {
    Prober::new(OTHER, 1, Rules::NEWEST).tick(table, 2_000_000, || 0).unwrap_or_else(|error| panic!("{what}: {error}"));
    for (upstream, _) in found.iter().filter(|(_, flags)| !flags.has(Flags::DELETED)) {
        let mut handle = Handle::new(upstream.name.as_bytes());
        let mut picked = Picked::default();
        for key in ["a key", "another", "a third", "one more"] {
            let method = Some(upstream.method.unwrap_or(Method::Rr));
            let ask = Ask { key: Some(key.as_bytes()), method, tried: None, ..Ask::default() };
            match handle.pick(table, ask, false, &mut picked) {
                Ok(index) => {
                    assert!(may_be_picked(table, upstream, index as usize), "{what}: {index} is down");
                    let text = std::str::from_utf8(&picked.text[..picked.len as usize]).expect("UTF-8");
                    assert_eq!(upstream.peers[index as usize].address.text(), text, "{what}");
                }
                Err(miss) => assert!(!upstream.peers.iter().any(|peer| peer.takes_traffic()), "{what}: {miss:?}"),
            }
        }
    }
}
