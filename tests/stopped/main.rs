//! Stopped, not dead: a process that stands in the middle of a read or of a change. It holds up no other for longer than is
//! promised. When it goes on, it finds its way, although others have reused the memory that it read.

#![allow(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

mod roles;
mod version;
mod work;

use dyups::balance::pick::Handle;
use dyups::error::Code;
use dyups::shm::Memory;
use dyups::shm::layout::state;
use dyups::table::directory;
use dyups::table::ops::Absent;
use dyups::table::store::Table;
use dyups::upstream::{Method, PeerPatch};
use roles::{ADDED, PATIENCE, neighbour, pick, start};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use support::*;
use version::{NAME, version, version_of};
use work::Work;

/// Nothing when it runs as a test.
#[test]
fn helper_process() {
    roles::play();
}

/// How long one stands at each step of its work.
const SHORT: Duration = Duration::from_millis(20);
/// How long one stands at a few of them, in milliseconds.
const LONG: u64 = 10_000;
/// The time that a call may take beyond its wait: machines sleep too. A call that is held up takes twice as long.
const SLACK: Duration = Duration::from_secs(2);

/// A region with one upstream, and a process that can be stopped in it.
struct Scene {
    table: Table,
    path: PathBuf,
    sleeper: Helper,
    _scratch: Scratch,
}

/// The work of the sleeper: how often it touched the region, and the result.
type Done = (u64, String);

impl Scene {
    fn new() -> Scene {
        let (table, scratch) = table(SMALL);
        let path = scratch.file("region");
        table.set_upstream(&version(0), SOON).expect("room");
        let sleeper = start("sleeper", &path, SMALL);
        Scene { table, path, sleeper, _scratch: scratch }
    }

    /// Has the sleeper do something until it stands before its access number `nth`. Answers its work if it does not get that
    /// far.
    fn stops(&mut self, order: &str, nth: u64) -> Option<Done> {
        self.sleeper.send(&format!("{order} {nth}"));
        wait_for("the sleeper stands or is done", || self.sleeper.is_stopped() || self.sleeper.has_answered());
        (!self.sleeper.is_stopped()).then(|| self.done())
    }

    fn wakes(&mut self) -> Done {
        self.sleeper.signal(libc::SIGCONT);
        self.done()
    }

    /// Has the sleeper do something without a stop.
    fn does(&mut self, order: &str) -> Done {
        self.stops(order, 0).expect("it does not stop")
    }

    fn done(&mut self) -> Done {
        let answer = self.sleeper.answer().expect("it lives");
        let (count, result) = answer.split_once(' ').expect("a count");
        (count.parse().expect("a number"), result.to_owned())
    }

    /// The version that a reader finds now.
    fn version(&self) -> u64 {
        let stored = self.table.upstream(NAME).expect("there");
        version_of(stored.upstream.peers[0].address.text()).expect("a version")
    }

    /// Nothing leaked, and nothing had to be repaired.
    fn assert_sound(&self) {
        assert_no_leak(&self.table);
        assert_eq!(self.table.region().mem().load(state::REPAIRS), Ok(0));
    }
}

// ---- at every step ----------------------------------------------------------------------------------------------------

/// Stops a read before each of its accesses, changes the table for a while, and lets it go on.
fn stop_at_each_step_of_a_find(by: &str, prepare: fn(&Table), change: fn(&Table, u64)) {
    let mut scene = Scene::new();
    let mut changes = 0;
    for nth in 1.. {
        prepare(&scene.table);
        if let Some((count, text)) = scene.stops(&format!("find {by}"), nth) {
            assert_eq!((count, version_of(&text)), (nth - 1, Some(0)), "undisturbed, {text}");
            println!("find by {by}: stopped before each of {count} accesses, {changes} changes meanwhile");
            break;
        }
        let (begun, mut last) = (Instant::now(), 0);
        while begun.elapsed() < SHORT || last < 20 {
            last += 1;
            change(&scene.table, last);
        }
        changes += last;
        let (_, text) = scene.wakes();
        assert_eq!(version_of(&text), Some(last), "stopped before access {nth}, it woke and found {text}");
    }
    scene.assert_sound();
}

fn replace(table: &Table, number: u64) {
    table.set_upstream(&version(number), SOON).expect("room");
}

/// One that shares the bucket, or does not.
fn set_other(table: &Table, name: &str) {
    table.set_upstream(&upstream(name, &["11.0.0.1", "11.0.0.2"]), SOON).expect("room");
}

#[test]
fn a_reader_stopped_anywhere_picks_from_the_table_that_it_wakes_to() {
    for by in ["rr", "chash"] {
        stop_at_each_step_of_a_find(by, |table| replace(table, 0), replace);
    }
}

/// Meanwhile its record, its blocks and its place in the chain have belonged to others.
#[test]
fn a_reader_stopped_anywhere_takes_no_other_upstream_for_its_own() {
    let make_again = |table: &Table, number| {
        table.delete_upstream(NAME, true, SOON).expect("there");
        set_other(table, neighbour());
        replace(table, number);
        table.delete_upstream(neighbour(), true, SOON).expect("there");
    };
    for by in ["rr", "chash"] {
        stop_at_each_step_of_a_find(by, |table| replace(table, 0), make_again);
    }
}

/// The record before its own leads elsewhere when it wakes.
#[test]
fn a_reader_stopped_anywhere_does_not_leave_its_chain() {
    const STRANGER: &str = "stranger";
    assert_ne!(directory::hash(STRANGER.as_bytes()) % 64, directory::hash(NAME.as_bytes()) % 64);
    let prepare = |table: &Table| {
        let _ = table.delete_upstream(STRANGER, true, SOON);
        replace(table, 0);
        set_other(table, neighbour());
    };
    let lend_record = |table: &Table, number| {
        replace(table, number);
        if table.delete_upstream(neighbour(), true, SOON).is_ok() {
            set_other(table, STRANGER);
        }
    };
    for by in ["rr", "chash"] {
        stop_at_each_step_of_a_find(by, prepare, lend_record);
    }
}

/// The peer that another process changes meanwhile.
const OTHER: &str = "13.0.0.1:80";

#[test]
fn a_writer_stopped_anywhere_is_named_as_busy_or_overtaken_and_loses_nothing() {
    let mut scene = Scene::new();
    let plain = dyups::upstream::Upstream { method: None, ..version(0) };
    scene.table.set_upstream(&plain, SOON).expect("room");
    scene.table.put_peer(NAME, &patch(OTHER, 1), Absent::Make, SOON).expect("room");
    let before = used(&scene.table);
    let (mut overtaken, mut busy) = (0, 0);
    for nth in 1.. {
        let stopped = scene.stops("add any", nth);
        if let Some((count, _)) = &stopped {
            println!("add_peer: stopped at each of {count} accesses, {overtaken} times overtaken, {busy} times busy");
        } else {
            let (mut done, begun) = (0, Instant::now());
            while begun.elapsed() < SHORT {
                match change_beside(&scene, done + 1) {
                    true => done += 1,
                    false => busy += 1,
                }
            }
            overtaken += u64::from(done > 0);
            assert_eq!(scene.wakes().1, "done");
            assert_eq!(max_fails(&scene.table), if done > 0 { done } else { 1 }, "what was acknowledged is there");
        }
        assert!(scene.table.delete_peer(NAME, &address(ADDED), SOON).is_ok(), "what it added is there");
        scene.table.put_peer(NAME, &other(1), Absent::Refuse, SOON).expect("there");
        assert_eq!(used(&scene.table), before);
        if stopped.is_some() {
            break;
        }
    }
    assert!(overtaken > 0 && busy > 0);
    scene.assert_sound();
}

fn other(max_fails: u32) -> PeerPatch {
    PeerPatch { max_fails: Some(max_fails), ..PeerPatch::new(address(OTHER)) }
}

fn max_fails(table: &Table) -> u32 {
    let peers = table.upstream(NAME).expect("there").upstream.peers;
    peers.iter().find(|peer| peer.address == address(OTHER)).expect("there").max_fails
}

/// A pick, and a change of the same upstream: whether it was done, or the stopped one was named.
fn change_beside(scene: &Scene, number: u32) -> bool {
    let text = pick(&scene.table, &mut Handle::new(NAME.as_bytes()), Method::Rr).expect("a peer");
    assert!([ADDED, OTHER].contains(&text.as_str()) || version_of(&text) == Some(0), "{text}");
    let (wait, begun) = (Duration::from_millis(5), Instant::now());
    let done = scene.table.put_peer(NAME, &other(number), Absent::Refuse, wait);
    assert!(begun.elapsed() < wait + SLACK, "{:?}", begun.elapsed());
    if let Err(error) = &done {
        let expected = format!("busy, held by pid {}", scene.sleeper.pid());
        assert_eq!((error.code, error.to_string()), (Code::Busy, expected));
    }
    done.is_ok()
}

// ---- for ten seconds --------------------------------------------------------------------------------------------------

/// Those that go on.
struct Others([Helper; 3]);

impl Others {
    fn start(scene: &Scene) -> Others {
        Others(["updater", "patient", "reader"].map(|role| start(role, &scene.path, SMALL)))
    }

    /// Has them go on for so many milliseconds.
    fn begin(&mut self, millis: u64) {
        self.0.iter_mut().for_each(|helper| helper.send(&millis.to_string()));
    }

    /// The work of the updater, the patient one and the reader meanwhile.
    fn end(&mut self) -> [Work; 3] {
        self.0.each_mut().map(|helper| helper.answer().expect("content").parse().expect("work"))
    }
}

/// Before, while and after a process stands still.
struct LongStop {
    scene: Scene,
    others: Others,
    /// The times of the others before.
    before: [Work; 3],
    private: u64,
}

impl LongStop {
    fn new() -> LongStop {
        let mut scene = Scene::new();
        let mut others = Others::start(&scene);
        scene.does("find-again rr");
        others.begin(1000);
        let before = others.end();
        let private = support::memory::private(scene.sleeper.pid());
        LongStop { scene, others, before, private }
    }

    /// Ten seconds of changes while the sleeper stands, and one more while `woken` wakes it.
    fn others_go_on(mut self, what: &str, woken: impl Fn(&mut Scene) -> String) {
        self.others.begin(LONG + 1000);
        std::thread::sleep(Duration::from_millis(LONG));
        let current = self.scene.version();
        let text = woken(&mut self.scene);
        let found = version_of(&text).unwrap_or_else(|| panic!("{what}: woke and found {text}"));
        assert!(found >= current, "{what}: woke at version {current} and found {found}");
        let during = self.others.end();
        for work in &during {
            // A thousand times a second, at any step where the sleeper stands. Two writers are in each other's way now and
            // then.
            let rounds = work.done + work.busy;
            assert!(
                rounds > (LONG + 1000) * 9 / 10 && work.done > LONG / 2 && work.slowest < SLACK,
                "{what}: {work:?}"
            );
        }
        self.assert_bounded(&during);
        println!("{what}: {} changes, {} picks beside it", during[0].done, during[2].done);
    }

    /// Neither the table nor the memory of a process has grown with the number of changes. A process that looks at the table in
    /// the middle of a change finds two versions.
    fn assert_bounded(&self, during: &[Work; 3]) {
        for (before, during) in self.before.iter().zip(during) {
            assert!(
                during.most_used <= 2 * before.most_used,
                "{} granules after {}",
                during.most_used,
                before.most_used
            );
            assert!(during.private <= before.private + 512, "{} KiB after {}", during.private, before.private);
        }
        let private = support::memory::private(self.scene.sleeper.pid());
        assert!(private <= self.private + 512, "{private} KiB after {}", self.private);
        self.scene.assert_sound();
    }
}

/// `part` of three: at its beginning, in its middle, before its end.
fn stop_in_a_read(part: u64) {
    let mut stop = LongStop::new();
    let order = ["find chash", "find rr", "find chash"][part as usize];
    let (count, _) = stop.scene.does(order);
    let nth = [2, count / 2, count - 1][part as usize];
    assert_eq!(stop.scene.stops(order, nth), None, "it stands");
    stop.others_go_on(&format!("{order}, stopped before access {nth} of {count}"), |scene| scene.wakes().1);
}

fn stop_between(part: u64) {
    let stop = LongStop::new();
    let order = ["find-again rr", "find-again chash", "find chash"][part as usize];
    stop.scene.sleeper.stop();
    stop.others_go_on(&format!("stopped before {order}"), |scene| {
        scene.sleeper.signal(libc::SIGCONT);
        scene.does(order).1
    });
}

fn stop_with_the_lock(part: u64) {
    let mut stop = LongStop::new();
    let number = stop.scene.version();
    let again = |scene: &Scene| scene.table.set_upstream(&version(number), SOON).expect("room");
    again(&stop.scene);
    let (count, _) = stop.scene.does("add store");
    again(&stop.scene);
    // How many stores a ring takes is not the same each time.
    let nth = [1, count / 2, count - 3][part as usize];
    assert_eq!(stop.scene.stops("add store", nth), None, "it stands");

    stop.others.begin(LONG);
    let [updater, patient, reader] = stop.others.end();
    let message = format!("busy, held by pid {}", stop.scene.sleeper.pid());
    for (work, wait) in [(&updater, Duration::ZERO), (&patient, PATIENCE)] {
        assert_eq!((work.done, work.message.as_str()), (0, message.as_str()));
        assert!(work.busy > 0 && work.slowest >= wait && work.slowest < wait + SLACK, "{work:?}");
    }
    assert!(updater.busy > LONG * 9 / 10, "{updater:?}");
    assert!(reader.done > LONG * 9 / 10 && reader.slowest < SLACK, "{reader:?}");
    println!(
        "add_peer, stopped before store {nth} of {count}: {} and {} times busy, after at most {:?} and {:?}, {} picks beside it",
        updater.busy, patient.busy, updater.slowest, patient.slowest, reader.done
    );

    assert_eq!(stop.scene.wakes().1, "done");
    let peers = stop.scene.table.upstream(NAME).expect("there").upstream.peers;
    assert_eq!((peers.len(), peers[3].address.text()), (4, ADDED));
    assert_eq!(stop.scene.version(), number);
    stop.others.begin(1000);
    let after = stop.others.end();
    after.iter().for_each(|work| assert!(work.done > 0, "{work:?}"));
    stop.assert_bounded(&after);
}

#[test]
fn for_ten_seconds_a_stopped_process_holds_up_nobody_and_wakes_to_the_table_as_it_is() {
    std::thread::scope(|scope| {
        for part in 0..3 {
            for stop in [stop_in_a_read, stop_between, stop_with_the_lock] {
                scope.spawn(move || stop(part));
            }
        }
    });
}
