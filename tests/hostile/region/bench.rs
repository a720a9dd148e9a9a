//! Runs cases: one region, put back to one of its beginnings before each.

use super::case::{Act, Brief, Case, Forgery, How, Look, Step, shaped};
use super::judge::Judge;
use super::places::{Lay, Spoil};
use super::routes::{RouteChange, Routes, lead, meant};
use super::spoiler::Spoiler;
use super::starts::{STARTS, STARTS_WITH_ROUTES};
use super::truth::Truth;
use super::{accesses, guard, memory, seals};
use crate::support::model::{Model, Op, apply, content};
use crate::support::{Random, SMALL, SOON, Scratch, assert_no_leak_of_heap, open, patch, region_file, used};
use dyups::balance::miss::Miss;
use dyups::balance::pick::{Ask, Handle, Picked, Tried};
use dyups::error::Code;
use dyups::health::prober::{Prober, Stage};
use dyups::http::response::Rules;
use dyups::pace::Pace;
use dyups::shm::layout::{fixed, state};
use dyups::shm::{Mem, Memory};
use dyups::table::Table;
use dyups::table::ops::Absent;
use dyups::table::record::stamp_at;
use dyups::table::snapshot::Flags;
use dyups::table::store::Edit;
use dyups::upstream::Method;
use dyups::{admin, status};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Touches of the region that a call may take: so many times its size in words.
const TOUCHES: u64 = 32;
/// Bytes that a call may take: so many times its size.
const BYTES: usize = 32;
/// Seconds of its own time that a call may take, under any sanitizer.
const SECONDS: f64 = 2.0;

pub struct Bench {
    table: Table,
    scratch: Scratch,
    spoiler: Spoiler,
    starts: Vec<(Vec<u64>, Model, Routes)>,
}

impl Bench {
    pub fn new() -> Bench {
        let scratch = Scratch::new();
        let path = scratch.file("region");
        let file = region_file(&path);
        let (table, notes) = guard::between(&file, SMALL as usize, || open(&path, SMALL).expect("a new region"));
        assert_eq!(notes, Vec::<String>::new());
        let empty = words(&table);
        let start = |fill: &fn(&Table)| {
            table.region().mem().store_all(0, &empty).expect("inside");
            fill(&table);
            (words(&table), content(&table), Routes::of(&table))
        };
        let starts = STARTS.iter().chain(&STARTS_WITH_ROUTES).map(start).collect();
        let spoiler = Spoiler::start(table.region().mem());
        Bench { table, scratch, spoiler, starts }
    }

    /// Panics or aborts if something is wrong.
    pub fn run(&self, case: &Case) {
        let mut run = self.begin(case.start);
        for step in &case.steps {
            run.step(step);
            run.what_is_sure_is_there();
        }
        run.finish();
    }

    /// The region, for another thread to spoil.
    pub fn mem(&self) -> &Mem {
        self.table.region().mem()
    }

    /// Makes calls for so long, from one beginning after the other, while another thread spoils the region. Answers the number
    /// of calls.
    pub fn act_for(&self, time: Duration) -> usize {
        let begun = Instant::now();
        let mut random = Random(1);
        let mut calls = 0;
        while begun.elapsed() < time {
            let mut run = self.begin(calls);
            run.truth.nothing_is_sure();
            let mut bytes: Vec<u8> = (0..200).map(|_| random.below(256) as u8).collect();
            // Every other time, acts on routes are among them.
            bytes[0] = [bytes[0], 136][calls % 2];
            for step in Case::read(&bytes).steps {
                if let Step::Do(act) | Step::Amid { act, .. } = step {
                    run.act(&act);
                    calls += 1;
                }
            }
        }
        calls
    }

    /// Makes a table again, from any state.
    pub fn finish(&self) {
        let mut run = Run { bench: self, beginning: &[], truth: Truth::default(), handles: BTreeMap::new() };
        run.truth.nothing_is_sure();
        run.finish();
    }

    /// Puts the region back to one of its beginnings.
    fn begin(&self, start: usize) -> Run<'_> {
        let (beginning, model, routes) = &self.starts[start % self.starts.len()];
        self.mem().store_all(0, beginning).expect("inside");
        let truth = Truth::of(model.clone(), routes.clone());
        Run { bench: self, beginning, truth, handles: BTreeMap::new() }
    }
}

fn words(table: &Table) -> Vec<u64> {
    let mut words = vec![0; table.region().mem().words()];
    table.region().mem().load_all(0, &mut words).expect("inside");
    words
}

/// Calls the library, within the bounds.
fn call<T>(what: &dyn Debug, body: impl FnOnce() -> T) -> T {
    let begun = seconds();
    let (bytes, value) = memory::most(|| accesses::at_most(TOUCHES * SMALL / 8, body));
    let took = seconds() - begun;
    assert!(bytes <= BYTES * SMALL as usize, "{what:?} took {bytes} bytes");
    assert!(took < SECONDS, "{what:?} took {took} s");
    value
}

/// Finds the peers that are due, now and a while later, and finds them all sick.
fn probe(table: &Table) {
    let mut prober = Prober::new(0, 1, Rules::NEWEST);
    for now in [1_000_000, 1_004_000, 1_008_000] {
        let tick = call(&"a tick", || prober.tick(table, now, || 0));
        assert!(tick.is_err() || tick.is_ok_and(|wait| wait <= 1000), "{now}");
        let next = |prober: &mut Prober| call(&"a probe", || prober.next(table, now));
        while let Ok(Some((id, orders))) = next(&mut prober) {
            assert!(
                orders.request.windows(4).filter(|bytes| bytes == b"\r\n\r\n").count() <= 1,
                "one request: {orders:?}"
            );
            let _ = call(&"its end", || prober.end(table, id, Stage::Connect, b"connection refused", now));
            while prober.notice().is_some() {}
        }
    }
    let _ = call(&"the end", || prober.stop(table, 1_008_000));
}

/// Of this thread.
fn seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to a live value.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) }, 0);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

struct Run<'a> {
    bench: &'a Bench,
    beginning: &'a [u64],
    truth: Truth,
    /// Kept from step to step, so that their memory gets old.
    handles: BTreeMap<String, Handle>,
}

impl<'a> Run<'a> {
    fn table(&self) -> &'a Table {
        &self.bench.table
    }

    fn load(&self, word: usize) -> u64 {
        self.table().region().mem().load(word).expect("inside")
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Spoil(spoil) => {
                let (word, new) = self.resolve(*spoil);
                self.spoil(word, new);
            }
            Step::Forge(Forgery::Region) => {
                let header: Vec<u8> = (0..fixed::CHECKSUM).flat_map(|word| self.load(word).to_ne_bytes()).collect();
                self.spoil(fixed::CHECKSUM, crc32fast::hash(&header).into());
            }
            Step::Forge(Forgery::Snapshot(record)) => self.forge(u32::from(*record) % 64),
            Step::Do(act) => self.act(act),
            Step::Amid { access, spoil, act } => self.amid(*access, *spoil, act),
        }
    }

    fn resolve(&self, spoil: Spoil) -> (usize, u64) {
        let region = self.table().region();
        Lay { mem: region.mem(), geometry: region.geometry(), beginning: self.beginning }.resolve(spoil)
    }

    fn spoil(&mut self, word: usize, new: u64) {
        let old = self.load(word);
        self.in_doubt(word, old ^ new, old & !new);
        self.bench.spoiler.store(word, new);
        self.truth.forge(self.table(), None);
    }

    fn in_doubt(&mut self, word: usize, changed: u64, cleared: u64) {
        let table = self.table();
        self.truth.spoil(table, word, changed, cleared);
        let geometry = table.region().geometry();
        if (0..geometry.records as u32).any(|record| stamp_at(geometry, record) == word) {
            // A handle takes a generation that comes again for the one that it knew.
            self.handles.retain(|name, _| !self.truth.is_sure(name));
        }
    }

    /// Makes the checksums right of the version to which `record` leads, and of its rings.
    fn forge(&mut self, record: u32) {
        for seal in [seals::ring_seal, seals::body_seal, seals::head_seal] {
            if let Some((word, value)) = seal(self.table(), record) {
                self.spoil(word, value);
            }
        }
        self.truth.forge(self.table(), Some(record));
    }

    fn amid(&mut self, access: u64, spoil: Spoil, act: &Act) {
        let (word, new) = self.resolve(spoil);
        // Any bit, since the content of the word is unknown by then; and again, since the call moves things.
        self.in_doubt(word, u64::MAX, u64::MAX);
        accesses::meanwhile(access, &self.bench.spoiler, (word, new), || self.act(act));
        self.in_doubt(word, u64::MAX, u64::MAX);
        self.truth.forge(self.table(), None);
    }

    fn act(&mut self, act: &Act) {
        let table = self.table();
        match act {
            Act::Change(op) => self.change(op),
            Act::Find(name, how) => self.find(name, *how),
            Act::Read(name) => self.read(name),
            Act::Route(change) => self.change_route(change),
            Act::Lead(host, key) => self.lead(host, *key),
            Act::LookAtRoutes => self.look_at_routes(),
            Act::Look(look) => self.look(*look),
            Act::Repair => {
                let lost = call(act, || table.writer(SOON).and_then(|writer| table.repair(&writer)));
                assert!(lost.is_ok(), "{lost:?}");
            }
            Act::Attach => self.attach(),
        }
    }

    fn change(&mut self, op: &Op) {
        let answer = call(&Brief(op), || apply(self.table(), op));
        self.truth.note(op, answer);
        if let (Op::Set(upstream), Ok(()), true) = (op, answer, self.truth.is_quiet()) {
            // Acknowledged, so it is there, with any earlier damage.
            let there = call(&Brief(op), || self.table().upstream(&upstream.name)).map(|stored| stored.upstream);
            assert_eq!(there.as_ref(), Ok(upstream));
        }
    }

    fn change_route(&mut self, change: &RouteChange) {
        let table = self.table();
        let answer = call(change, || change.apply(table));
        self.truth.note_route(change, answer);
        if let (RouteChange::Set(route), Ok(()), true) = (change, answer, self.truth.is_quiet()) {
            assert_eq!(call(change, || table.route(&route.host)).as_ref(), Ok(route), "it was acknowledged");
        }
    }

    fn lead(&self, host: &str, key: Option<u8>) {
        let led = call(&host, || lead(self.table(), host, key));
        let mut meant = meant(host).into_iter();
        let route = loop {
            match meant.next() {
                Some(host) if !self.truth.is_sure_route(&host) => return,
                Some(host) if self.truth.routes.visible(&host).is_none() => {}
                Some(host) => break self.truth.routes.visible(&host),
                None => break None,
            }
        };
        let Some(route) = route else { return assert_eq!(led, Ok(None), "{host}") };
        if !route.targets.iter().all(|target| self.truth.is_sure(&target.upstream)) {
            return;
        }
        let is_there = |upstream: &str| self.truth.model.visible(upstream).is_some();
        let may = |weight: u16| weight > 0 || route.targets.len() == 1;
        let open = || route.targets.iter().filter(|target| is_there(&target.upstream) && may(target.weight));
        match led {
            Ok(Some(name)) => assert!(open().any(|target| target.upstream.as_bytes() == name), "{route:?}: {name:?}"),
            led => assert!(led == Err(Miss::NotFound) && open().next().is_none(), "{route:?}: {led:?}"),
        }
    }

    fn look_at_routes(&self) {
        let table = self.table();
        let routes = call(&"routes", || table.all_routes());
        assert!(self.truth.spoiled || routes.is_ok(), "{routes:?}");
        for name in ["api", "no such upstream"] {
            let to = call(&"route_to", || table.route_to(name));
            assert!(self.truth.spoiled || to.is_ok(), "{to:?}");
        }
        let lost = call(&"lost_targets", || table.lost_targets());
        assert!(self.truth.spoiled || lost.is_ok(), "{lost:?}");
        call(&"GET /routes", || get(table, b"/routes"));
        if let (Ok(routes), true) = (routes, self.truth.lists_all()) {
            for host in self.truth.sure_routes() {
                let found = routes.iter().find(|stored| stored.route.host == host);
                let found = found.map(|stored| (&stored.route, stored.flags));
                assert_eq!(found, self.truth.routes.0.get(&host).map(|(route, flags)| (route, *flags)));
            }
        }
    }

    fn judge(&self, name: &str) -> Judge<'_> {
        match self.truth.is_sure(name) {
            true => Judge::Sure(self.truth.model.visible(name).map(|(upstream, _)| upstream)),
            false => Judge::InDoubt,
        }
    }

    fn find(&mut self, name: &str, how: How) {
        let table = self.table();
        let mut handle = self.handles.remove(name).unwrap_or_else(|| Handle::new(name.as_bytes()));
        let (key, cached) = match how {
            How::Rr | How::Tried(None) => (String::new(), false),
            How::Cached => (String::new(), true),
            How::Chash(key) | How::Tried(Some(key)) => (format!("key {key}"), false),
        };
        let mut tried = Tried::default();
        loop {
            let mut picked = Picked::default();
            let before = tried.clone();
            let ask = Ask {
                key: Some(key.as_bytes()),
                method: matches!(how, How::Rr).then_some(Method::Rr),
                tried: matches!(how, How::Tried(_)).then_some(&mut tried),
                counts: false,
            };
            let answer = call(&how, || handle.pick(table, ask, cached, &mut picked));
            self.judge(name).pick(&key, &before, answer, &picked);
            if answer.is_err() || !matches!(how, How::Tried(_)) {
                break;
            }
        }
        self.handles.insert(name.to_owned(), handle);
        self.note_ring(name);
    }

    /// A pick by chash may have built the ring that it lacked: a change, which says so.
    fn note_ring(&mut self, name: &str) {
        let stored = call(&name, || self.table().get(name));
        let is_new = |flags: &Flags| !flags.has(Flags::RING);
        if stored.is_ok_and(|stored| stored.is_some_and(|stored| stored.flags.has(Flags::RING)))
            && self.truth.model.0.get(name).is_some_and(|(_, flags)| is_new(flags))
        {
            self.truth.note(&Op::Ring(name.to_owned()), Ok(()));
        }
    }

    fn read(&mut self, name: &str) {
        let table = self.table();
        let stored = call(&name, || table.get(name));
        self.judge(name).exists(&call(&name, || table.upstream_exists(name)));
        let path = format!("/upstream/{name}");
        call(&path, || get(table, path.as_bytes()));
        let shown = call(&name, || status::json(table, Some(name), None));
        if self.truth.is_sure(name) {
            assert_eq!(shown.is_ok(), self.truth.model.visible(name).is_some(), "{shown:?}");
            let found = stored.map(|stored| stored.map(|stored| (stored.upstream, stored.flags)));
            assert_eq!(found.as_ref().map(Option::as_ref), Ok(self.truth.model.0.get(name)));
        }
    }

    fn look(&mut self, look: Look) {
        let table = self.table();
        match look {
            Look::All => {
                let all = call(&look, || table.all());
                assert!(self.truth.spoiled || all.is_ok(), "{all:?}");
                if let (Ok(all), true) = (all, self.truth.lists_all()) {
                    for name in self.truth.sure() {
                        let found = all.iter().find(|stored| stored.upstream.name == name);
                        let found = found.map(|stored| (&stored.upstream, stored.flags));
                        assert_eq!(found, self.truth.model.0.get(&name).map(|(up, flags)| (up, *flags)));
                    }
                }
            }
            Look::Names => {
                let names = call(&look, || table.names());
                assert!(self.truth.spoiled || names.is_ok(), "{names:?}");
                if let (Ok(names), true) = (names, self.truth.lists_all()) {
                    for name in self.truth.sure() {
                        assert_eq!(names.contains(&name), self.truth.model.visible(&name).is_some(), "{name}");
                    }
                }
            }
            Look::Status => {
                let status = call(&look, || status::json(table, None, None));
                assert!(self.truth.spoiled || status.is_ok(), "{status:?}");
            }
            Look::Detail => drop(call(&look, || get(table, b"/detail"))),
            Look::Probes => probe(table),
            Look::Workers => assert_eq!(call(&look, || table.region().workers(None)), Ok(Vec::new())),
        }
    }

    /// As the next start of nginx does: from the file.
    fn attach(&mut self) {
        let path = self.bench.scratch.file("region");
        for entry in std::fs::read_dir(self.bench.scratch.path()).expect("ours").flatten() {
            if entry.path().extension().is_none_or(|end| end != "lock") {
                std::fs::remove_file(entry.path()).expect("ours");
            }
        }
        let file = region_file(&path);
        std::fs::write(&file, bytes(&words(self.table()))).expect("room");
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("ours");
        let opened = memory::most(|| open(&path, SMALL));
        assert!(opened.0 <= 2 * BYTES * SMALL as usize, "attaching took {} bytes", opened.0);
        let (table, notes) = match opened.1 {
            Ok(opened) => opened,
            Err(error) => return assert!(self.truth.header_spoiled, "{error}"),
        };
        let anew = notes.iter().any(|note| note.contains("made anew"));
        assert!(!anew || self.truth.header_spoiled, "{notes:?}");
        let found = content(&table);
        if !anew {
            for name in self.truth.sure() {
                assert_eq!(found.0.get(&name), self.truth.model.0.get(&name), "{name}, attached: {notes:?}");
            }
            let found = Routes::of(&table);
            for host in self.truth.sure_routes() {
                assert_eq!(found.0.get(&host), self.truth.routes.0.get(&host), "{host}, attached: {notes:?}");
            }
        }
        assert_no_leak_of_heap(&table);
        assert_eq!(table.region().workers(Some(0)).map(|workers| workers.len()), Ok(1), "itself");
        let new = patch("10.1.1.1:1", 1);
        let made = table.put_peer("attached", &new, Absent::Make, SOON).map_err(|error| error.code);
        assert!(matches!(made, Ok(()) | Err(Code::Full)), "{made:?}");
    }

    fn what_is_sure_is_there(&self) {
        for name in self.truth.sure() {
            let found = call(&name, || self.table().get(&name));
            let found = found.map(|stored| stored.map(|stored| (stored.upstream, stored.flags)));
            assert_eq!(found.as_ref().map(Option::as_ref), Ok(self.truth.model.0.get(&name)), "{name}");
        }
        for host in self.truth.sure_routes() {
            let found = call(&host, || self.table().route(&host));
            match self.truth.routes.visible(&host) {
                Some(route) => assert_eq!(found.as_ref(), Ok(route)),
                None => assert_eq!(found.map_err(|error| error.code), Err(Code::NotFound), "{host}"),
            }
        }
    }

    /// A repair makes a table of it again. Every upstream and every route in it is read, used, changed and deleted, and then
    /// nothing is left.
    fn finish(mut self) {
        self.act(&Act::Repair);
        self.what_is_sure_is_there();
        let forged = self.truth.is_forged();
        let doubtful = |name: &String, truth: &Truth| forged && !truth.is_sure(name);
        let after = Truth::of(content(self.table()), Routes::of(self.table()));
        let before = std::mem::replace(&mut self.truth, after);
        self.handles.clear();
        let names: Vec<String> = self.truth.model.0.keys().cloned().collect();
        // A perfect forgery may still be nonsense to pick from, but it can be replaced.
        self.truth.spoiled = forged;
        self.truth.doubt(names.iter().filter(|name| doubtful(name, &before)).cloned());
        let hosts: Vec<String> = self.truth.routes.0.keys().cloned().collect();
        self.truth.doubt_routes(hosts.iter().filter(|host| forged && !before.is_sure_route(host)).cloned());
        assert_no_leak_of_heap(self.table());
        self.finish_routes(&hosts);
        for name in &names {
            for how in [How::Rr, How::Cached, How::Chash(1), How::Tried(None)] {
                self.find(name, how);
            }
            self.change(&Op::Put(name.clone(), patch("10.1.1.1:1", 1), Absent::Make));
        }
        for name in &names {
            self.table().edit(name, SOON, |_| Ok(Edit::Remove)).expect("sound");
        }
        // Those of a file are remembered until there is no file any more.
        self.table().load(&[], true, SOON).expect("sound");
        assert_eq!((used(self.table()), self.load(state::RECORDS)), (0, 0));
        self.truth = Truth::default();
        assert_eq!(self.table().set_upstream(&shaped("new", 2, 3), SOON), Ok(()));
        self.truth.model = content(self.table());
        self.find("new", How::Chash(1));
    }

    /// The same of the routes alone.
    fn finish_routes(&mut self, hosts: &[String]) {
        self.look_at_routes();
        for host in hosts {
            self.lead(host, None);
            self.lead(host, Some(1));
            let old = self.truth.routes.visible(host).cloned();
            if let Some(route) = old {
                self.change_route(&RouteChange::Set(route));
                self.change_route(&RouteChange::Delete(host.clone()));
            }
        }
    }
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn get(table: &Table, path: &[u8]) -> admin::reply::Reply {
    let site = admin::Site { table, slot: None, nginx: None, hosts: &[] };
    let request = admin::Request { method: b"GET", path, ..admin::Request::default() };
    admin::answer(site, &request, SOON, Pace::unlimited()).0
}
