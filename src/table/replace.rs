//! The replacement of an upstream by one with very many peers. The new version is computed a part at a time, before its writer has the
//! lock, so that the caller can do other work in between. The result is that of [`Table::set_upstream`].

use super::carry::{self, Carrying};
use super::change_log::{self, Comparison, Difference};
use super::commit::{Build, CellPlan, RingPlan};
use super::directory::Directory;
use super::ops::{flags, touched};
use super::snapshot::{Encoding, Flags, View};
use super::store::{Base, Planned, Step, Stored, Table, rings, stored_as};
use crate::error::Result;
use crate::shm::Region;
use crate::upstream::{Check, Method, Peer, Upstream};
use std::borrow::Borrow;
use std::time::Duration;

/// Peers between two questions whether to go on: they take a few microseconds.
const PEERS: usize = 32;

/// How often the new version is computed anew because another writer was faster. Then one call does the rest.
const MOST_TRIES: u32 = 4;

/// A replacement that is under way. Nothing is changed before [`Replacement::put`].
#[derive(Debug)]
pub struct Replacement {
    upstream: Upstream,
    /// Its check, where it has one of its own, or has none on purpose. Otherwise it has that of the old version.
    own_check: Option<Option<Check>>,
    base: Base,
    stage: Stage,
    tries: u32,
}

#[derive(Debug)]
enum Stage {
    Begin,
    /// The old version is read.
    Read(View, Vec<Peer>),
    /// The new one is laid out.
    Encode(Old, [RingPlan; 2], Box<Encoding>),
    /// It takes parts over from the old one.
    Carry(Old, [RingPlan; 2], Vec<u64>, Box<Carrying>),
    /// Both are compared, for the operator's log.
    Compare(Old, Build, Box<Comparison>),
    /// It lacks nothing but the lock.
    Planned(Box<Planned>),
}

/// The old version, if there is one.
type Old = Option<Box<Stored>>;

/// The same, if users of the table see it.
fn visible(old: &Old) -> Option<&Upstream> {
    old.as_deref().filter(|old| !old.flags.has(Flags::DELETED)).map(|old| &old.upstream)
}

impl Replacement {
    /// One that puts `upstream` in the place of its namesake, or makes it.
    pub fn new(upstream: Upstream) -> Replacement {
        let own_check = upstream.own_check.then(|| upstream.check.clone());
        Replacement { upstream, own_check, base: Base(None), stage: Stage::Begin, tries: 0 }
    }

    /// Computes the new version, until `goes_on` says no or it [is prepared](Replacement::is_prepared).
    ///
    /// # Errors
    ///
    /// Those of [`Table::set_upstream`], but for [`crate::error::Code::Busy`].
    pub fn prepare<R: Borrow<Region>>(&mut self, table: &Table<R>, goes_on: &mut dyn FnMut() -> bool) -> Result<()> {
        while !self.is_prepared() {
            let stage = std::mem::replace(&mut self.stage, Stage::Begin);
            let next = self.step(table, stage);
            // The words of an old version that is no more may have been of any other one. Then neither a result nor an error counts.
            match self.base_holds(table)? {
                true => self.stage = next?,
                false => self.tries += 1,
            }
            if !goes_on() {
                break;
            }
        }
        Ok(())
    }

    /// Whether [`Replacement::put`] can write it.
    pub fn is_prepared(&self) -> bool {
        self.tries >= MOST_TRIES || matches!(self.stage, Stage::Planned(_))
    }

    fn base_holds<R: Borrow<Region>>(&self, table: &Table<R>) -> Result<bool> {
        match self.base {
            Base(Some((record, view))) => Ok(Directory::new(table.region()).stamp_holds(record, view.stamp)?),
            Base(None) => Ok(true),
        }
    }

    /// One part of the work.
    fn step<R: Borrow<Region>>(&mut self, table: &Table<R>, stage: Stage) -> Result<Stage> {
        let (region, mem) = (table.region(), table.region().mem());
        Ok(match stage {
            Stage::Begin => {
                self.base = table.base(&self.upstream.name)?;
                match self.base {
                    Base(Some((_, view))) => Stage::Read(view, Vec::with_capacity(view.peers as usize)),
                    Base(None) => self.encode(table, None)?,
                }
            }
            Stage::Read(view, mut peers) => match view.decode_peers(mem, &mut peers, PEERS)? {
                false => Stage::Read(view, peers),
                true => {
                    let old = stored_as(&view, view.decode_with(mem, peers)?);
                    self.encode(table, Some(Box::new(old)))?
                }
            },
            Stage::Encode(old, rings, mut encoding) => match encoding.add(&self.upstream, PEERS) {
                false => Stage::Encode(old, rings, encoding),
                true => {
                    let mut image = encoding.finish(&self.upstream, self.flags(old.as_deref()))?;
                    match self.base {
                        Base(Some((_, view))) => {
                            let carrying = Box::new(Carrying::new(region, &view, &mut image));
                            Stage::Carry(old, rings, image, carrying)
                        }
                        Base(None) => {
                            let cells = carry::over(region, None, &mut image)?;
                            self.compare(old, rings, image, cells)
                        }
                    }
                }
            },
            Stage::Carry(old, rings, mut image, mut carrying) => match carrying.step(region, &mut image, PEERS)? {
                false => Stage::Carry(old, rings, image, carrying),
                true => {
                    let cells = carrying.finish(region, &mut image)?;
                    self.compare(old, rings, image, cells)
                }
            },
            Stage::Compare(old, build, mut comparison) => {
                let before = visible(&old);
                match comparison.step(before, Some(&self.upstream), PEERS) {
                    false => Stage::Compare(old, build, comparison),
                    true => {
                        let change = comparison.finish(&self.upstream.name, before, Some(&self.upstream));
                        self.planned(build, change)
                    }
                }
            }
            Stage::Planned(planned) => Stage::Planned(planned),
        })
    }

    fn flags(&self, old: Option<&Stored>) -> Flags {
        touched(flags(old)).without(Flags::RING)
    }

    /// Begins to lay out the new version.
    fn encode<R: Borrow<Region>>(&mut self, table: &Table<R>, old: Old) -> Result<Stage> {
        (self.upstream.check, self.upstream.own_check) = match (&self.own_check, visible(&old)) {
            (Some(own), _) => (own.clone(), true),
            (None, Some(old)) => (old.check.clone(), old.own_check),
            (None, None) => (table.default_check(), false),
        };
        self.upstream.check_port()?;
        let must = self.upstream.method == Some(Method::Chash);
        let with_ring = old.as_deref().filter(|old| old.has_ring);
        let rings = rings(table.region(), &self.upstream, self.flags(old.as_deref()), must, self.base, with_ring)?;
        Ok(Stage::Encode(old, rings, Box::new(Encoding::new(&self.upstream))))
    }

    /// Begins to compare both, if any caller wants to know.
    fn compare(&self, old: Old, rings: [RingPlan; 2], image: Vec<u64>, cells: CellPlan) -> Stage {
        let must = self.upstream.method == Some(Method::Chash);
        let build = Build { image, rings, must, cells };
        match change_log::records() {
            true => Stage::Compare(old, build, Box::new(Comparison::new(0))),
            false => self.planned(build, None),
        }
    }

    fn planned(&self, build: Build, change: Option<Difference>) -> Stage {
        Stage::Planned(Box::new(Planned { base: self.base, step: Step::Put(build), change }))
    }

    /// Writes the new version. False: another writer was faster, and the new version has to be prepared again.
    ///
    /// # Errors
    ///
    /// Those of [`Table::set_upstream`]. After [`crate::error::Code::Busy`] the call may be made again.
    pub fn put<R: Borrow<Region>>(&mut self, table: &Table<R>, wait: Duration) -> Result<bool> {
        let writer = table.writer(wait)?;
        match std::mem::replace(&mut self.stage, Stage::Begin) {
            Stage::Planned(planned) if planned.base.same(&table.base(&self.upstream.name)?) => {
                table.write(&writer, &self.upstream.name, *planned)?;
                return Ok(true);
            }
            _ => drop(writer),
        }
        self.tries += 1;
        if self.tries < MOST_TRIES {
            return Ok(false);
        }
        let own_check = self.own_check.clone();
        let upstream = Upstream { own_check: own_check.is_some(), check: own_check.flatten(), ..self.upstream.clone() };
        table.set_upstream(&upstream, wait).map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::ops::Absent;
    use crate::upstream::{Address, HashId, PeerPatch, Status};
    use proptest::prelude::*;

    const SOON: Duration = Duration::from_secs(5);

    struct Place {
        table: Table,
        _dir: tempfile::TempDir,
    }

    fn place() -> Place {
        let dir = tempfile::tempdir().expect("room");
        let (table, _) = Table::open(&dir.path().join("region"), 16 << 20).expect("usable");
        Place { table, _dir: dir }
    }

    fn peer(number: u16) -> Peer {
        let text = match number % 7 {
            0 => format!("unix:/run/a/path/of/a/socket/that/is/long/{number}"),
            _ => format!("10.0.{}.{}", number >> 8, number & 255),
        };
        let (weight, slow_start) = (number % 3, u32::from(number % 5));
        Peer { weight, slow_start, ..Peer::new(Address::from_server(&text).expect("an address")) }
    }

    fn upstream(numbers: &[u16]) -> Upstream {
        let peers = numbers.iter().map(|&number| peer(number)).collect();
        Upstream { name: "api".into(), peers, ..Upstream::default() }
    }

    /// Replaces in parts, with `meanwhile` before each of them; how often it tried to write.
    fn replace(table: &Table, upstream: &Upstream, parts: usize, mut meanwhile: impl FnMut(usize)) -> usize {
        let (mut new, mut calls, mut puts) = (Replacement::new(upstream.clone()), 0, 0);
        loop {
            let mut left = parts;
            let mut goes_on = || {
                left = left.saturating_sub(1);
                left > 0
            };
            meanwhile(calls);
            calls += 1;
            if !new.is_prepared() {
                new.prepare(table, &mut goes_on).expect("prepared");
                continue;
            }
            puts += 1;
            if new.put(table, SOON).expect("put") {
                return puts;
            }
        }
    }

    /// All that readers and operators see of it: the upstream, ids and the start of the round robin, and how its change is told.
    fn seen(table: &Table, change: impl FnOnce(&Table)) -> (Stored, Vec<u32>, u32, Vec<String>) {
        let ((), changes) = change_log::record(|| change(table));
        let (_, view) = table.base("api").expect("readable").0.expect("there");
        let ids = view.ids(table.region().mem()).expect("readable").expect("ids");
        let told = changes.iter().map(|change| format!("{} {:?}", change.line("me"), change.turned)).collect();
        (table.upstream("api").expect("there"), ids, view.start, told)
    }

    fn peers(table: &Table) -> Vec<Peer> {
        table.upstream("api").expect("there").upstream.peers
    }

    #[test]
    fn where_the_old_version_changes_meanwhile_it_is_prepared_anew_and_in_the_end_done_under_the_lock() {
        let Place { table, _dir } = place();
        table.set_upstream(&upstream(&[1, 2]), SOON).expect("set");
        let new = upstream(&(0..1000).collect::<Vec<_>>());
        let add = |number: usize| {
            let patch = PeerPatch::new(peer(5000 + number as u16).address);
            table.put_peer("api", &patch, Absent::Make, SOON).expect("added");
        };
        assert_eq!(replace(&table, &new, 1, |_| ()), 1);
        assert_eq!(peers(&table), new.peers);
        let once = |call| {
            if call == 5 {
                add(0);
            }
        };
        assert_eq!(replace(&table, &new, 1, once), 1);
        replace(&table, &new, 1, add);
        assert_eq!(peers(&table), new.peers, "a change before each part");
        let puts = replace(&table, &new, usize::MAX, add);
        assert!((2..=4).contains(&puts), "{puts}: a change between the last part and the writing");
        assert_eq!(peers(&table), new.peers);
    }

    #[test]
    fn a_name_that_comes_or_goes_meanwhile_is_met_as_it_is_at_the_end() {
        let Place { table, _dir } = place();
        let new = upstream(&(0..1000).collect::<Vec<_>>());
        let made = |call| {
            if call == 3 {
                table.set_upstream(&upstream(&[1]), SOON).expect("set");
            }
        };
        replace(&table, &new, 1, made);
        assert_eq!(peers(&table), new.peers);
        let gone = |call| {
            if call == 3 {
                table.delete_upstream("api", true, SOON).expect("deleted");
            }
        };
        replace(&table, &new, 1, gone);
        assert_eq!(peers(&table), new.peers);
    }

    #[test]
    fn what_no_upstream_may_be_is_refused_as_in_one_piece() {
        let Place { table, _dir } = place();
        let check = Some(Check { port: Some(81), ..Check::default() });
        let heavy = |number| Peer { weight: u16::MAX, ..peer(number) };
        for new in [
            Upstream { check, own_check: true, ..upstream(&[7]) },
            Upstream { method: Some(Method::Chash), peers: (1..=6).map(heavy).collect(), ..upstream(&[]) },
        ] {
            let error = Replacement::new(new.clone()).prepare(&table, &mut || true).expect_err("refused");
            assert_eq!(error, table.set_upstream(&new, SOON).expect_err("refused"));
        }
        assert!(table.upstream("api").is_err());
    }

    prop_compose! {
        fn any_upstream()(
            mut numbers in prop_oneof![
                prop::collection::vec(0u16..40, 0..30),
                (0u16..400, 0u16..600).prop_map(|(from, count)| (from..from + count).collect()),
            ],
            method in prop::sample::select(vec![None, Some(Method::Rr), Some(Method::Chash), Some(Method::LeastConn)]),
            hash_id in prop::sample::select(vec![HashId::Nginx, HashId::HostPort]),
            own_check: bool,
            check in prop::option::of(1u8..5),
            status in prop::sample::select(vec![Status::Up, Status::Down, Status::Drain]),
            turned in 0usize..20,
        ) -> Upstream {
            let mut seen = std::collections::HashSet::new();
            numbers.retain(|number| seen.insert(*number));
            let check = check.filter(|_| own_check).map(|fall| Check { fall, ..Check::default() });
            let mut upstream = Upstream { method, hash_id, check, own_check, ..upstream(&numbers) };
            upstream.peers.iter_mut().step_by(turned + 1).for_each(|peer| peer.status = status);
            upstream
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_replacement_in_parts_is_what_it_is_in_one_piece(
            versions in prop::collection::vec((any_upstream(), 0u8..8), 1..5),
            parts in 1usize..4,
        ) {
            let (in_parts, whole) = (place(), place());
            for table in [&in_parts.table, &whole.table] {
                table.set_default_check(Some(Check { fall: 9, ..Check::default() }));
            }
            for (upstream, gone) in versions {
                if gone == 0 {
                    for table in [&in_parts.table, &whole.table] {
                        let _ = table.delete_upstream("api", true, SOON);
                    }
                }
                let a = seen(&in_parts.table, |table| _ = replace(table, &upstream, parts, |_| ()));
                let b = seen(&whole.table, |table| table.set_upstream(&upstream, SOON).expect("set"));
                prop_assert_eq!(a, b);
            }
        }
    }
}
