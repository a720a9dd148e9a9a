//! The two users of a region after a death: a process that starts now, and one that has been there all along. Both use the
//! shipped library. Each must find a whole table and go on with it.

use super::content::Whole;
use super::driver::Driver;
use super::image::{BASE, Image};
use super::operations::setup;
use super::support::model::content;
use super::support::{SMALL, Scratch, assert_no_leak, attach_as_it_is, names, used};
use dyups::shm::Memory;
use dyups::shm::layout::state;
use dyups::table::routes::StoredRoute;
use dyups::table::snapshot::Flags;
use dyups::table::store::Table;
use dyups::upstream::Upstream;
use std::path::{Path, PathBuf};

pub struct Heirs {
    newcomer: PathBuf,
    worker: Worker,
}

impl Heirs {
    /// They live below `scratch`.
    pub fn new(scratch: &Scratch) -> Heirs {
        Heirs { newcomer: scratch.file("newcomer"), worker: Worker::start(scratch.file("worker")) }
    }

    /// Has them take over from a process that died and left `image`. Answers which table of `way` it was, at or after `from`, and
    /// how many they were.
    pub fn take_over(&mut self, image: &Image, way: &[Whole], from: usize) -> (usize, u64) {
        let found = newcomer(&self.newcomer, image);
        let at = way[from..].iter().position(|whole| whole.is_as(&found));
        let at = from + at.unwrap_or_else(|| panic!("neither {:?}\nnor what follows it: {found:?}", way[from]));
        if way[at].used.is_some() {
            assert_eq!(found.used, way[at].used, "granules, and what a table takes that was written undisturbed");
        }
        if !image.has_sound_region(SMALL) {
            return (at, 1);
        }
        assert!(self.worker.goes_on(image).is_as(&way[at]), "who starts and who goes on see the same");
        (at, 2)
    }
}

/// Starts where no process is left: it repairs before all else.
fn newcomer(dir: &Path, image: &Image) -> Whole {
    image.place(dir);
    let mut driver = Driver::start();
    let notes = driver.ok(&setup(dir, SMALL, ""));
    assert!(!notes.contains("lost"), "{notes}");
    assert!(!Image::of(dir).has_unborn(), "what was being made is cleared away");
    let table = attach_as_it_is(&dir.join(BASE), SMALL);
    let found = Whole::in_table(&table);
    work(&mut driver, &found);
    assert_emptied(&table);
    found
}

/// A worker that has the region mapped when another one dies.
struct Worker {
    dir: PathBuf,
    driver: Driver,
    table: Table,
}

impl Worker {
    fn start(dir: PathBuf) -> Worker {
        Image::default().place(&dir);
        let mut driver = Driver::start();
        driver.ok(&setup(&dir, SMALL, ""));
        driver.ok("start");
        let table = attach_as_it_is(&dir.join(BASE), SMALL);
        Worker { dir, driver, table }
    }

    /// Reads the table as the dead one left it; then its first change repairs, if need be.
    fn goes_on(&mut self, image: &Image) -> Whole {
        image.place(&self.dir);
        let repairs = || self.table.region().mem().load(state::REPAIRS).expect("inside");
        let (found, before) = (Whole::in_table(&self.table), repairs());
        work(&mut self.driver, &found);
        assert_eq!(repairs() - before, u64::from(image.is_writing()), "repaired if and only if need be");
        assert_emptied(&self.table);
        found
    }
}

/// The work that goes on afterwards: picks and changes of each upstream, until all are gone, and a new one.
fn work(driver: &mut Driver, Whole { content: table, routes, .. }: &Whole) {
    for StoredRoute { route, .. } in routes.iter().filter(|stored| !stored.flags.has(Flags::DELETED)) {
        let leads_on = |name: &str| table.visible(name).is_some() && route.targets.iter().any(|to| to.upstream == name);
        let answer = driver.call(&format!("route\t{}", route.host));
        let is_lost = !route.targets.iter().any(|target| leads_on(&target.upstream));
        assert!(if is_lost { answer.code < 0 } else { leads_on(&answer.text) }, "{answer:?} for {route:?}");
        driver.ok(&format!("delete_route\t{}\tnull", route.host));
    }
    for (upstream, _) in table.0.keys().filter_map(|name| table.visible(name)) {
        let name = &upstream.name;
        let key = if has_ring_here(upstream) { "key" } else { "" };
        ["", key].into_iter().for_each(|key| assert_picks(driver, upstream, key));
        driver.ok(&format!("add_peer\t{name}\t{{\"server\": \"10.9.9.9\", \"backup\": true}}"));
        if !key.is_empty() {
            driver.ok(&format!("build_ring\t{name}"));
        }
        driver.ok(&format!("set_peer\t{name}\t{{\"server\": \"10.9.9.9\", \"status\": \"down\"}}"));
        driver.ok(&format!("delete_peer\t{name}\t{{\"server\": \"10.9.9.9\"}}"));
        assert_picks(driver, upstream, key);
        driver.ok(&format!("delete_upstream\t{name}\t{{\"force\": true}}"));
    }
    driver.ok("set_upstream\tnew\t{\"peers\": [{\"server\": \"10.9.9.9\"}]}");
    assert_eq!(driver.ok("find\tnew\t"), "10.9.9.9:80");
    driver.ok("delete_upstream\tnew\t{\"force\": true}");
}

/// Whether a small region has room for a ring of its weights.
fn has_ring_here(upstream: &Upstream) -> bool {
    upstream.peers.iter().map(|peer| u32::from(peer.weight)).sum::<u32>() < 100
}

/// Picks a peer that takes traffic, if there is one.
fn assert_picks(driver: &mut Driver, upstream: &Upstream, key: &str) {
    let takers = |backup| {
        let peers = upstream.peers.iter().filter(move |peer| peer.takes_traffic() && peer.backup == backup);
        peers.map(|peer| peer.address.text().to_string()).collect::<Vec<_>>()
    };
    let takers = if takers(false).is_empty() { takers(true) } else { takers(false) };
    let answer = driver.call(&format!("find\t{}\t{key}", upstream.name));
    assert_eq!(answer.code >= 0, !takers.is_empty(), "{answer:?} from {upstream:?}");
    assert!(answer.code < 0 || takers.contains(&answer.text), "{answer:?} from {upstream:?}");
}

/// Nothing is left but tombstones, and no byte that nothing leads to.
fn assert_emptied(table: &Table) {
    assert_eq!(names(table), Vec::<String>::new());
    assert_no_leak(table);
    assert!(used(table) == 0 || !content(table).0.is_empty(), "{} granules of an empty table", used(table));
    assert_eq!(table.region().mem().load(state::WRITING), Ok(0));
}
