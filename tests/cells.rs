//! The cells of peers through changes of the table, death, and the loss of files.

#![allow(unsafe_code)]

mod support;

use dyups::error::Code;
use dyups::shm::Memory;
use dyups::shm::cells::GENERATION_SHIFT;
use dyups::shm::layout::LAYOUT;
use dyups::shm::region::cells_of as cells_file;
use dyups::state::failures::Health;
use dyups::table::directory::Directory;
use dyups::table::store::Table;
use dyups::upstream::{Address, Method, PeerPatch, Status, Upstream};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use support::*;

const MIB: u64 = 1 << 20;
const THREE: [&str; 3] = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];

/// Plays its part for a test in another process; nothing when it runs as a test.
#[test]
fn helper_process() {
    let Some((role, args)) = role() else { return };
    let (table, notes) = open(Path::new(&args[0]), args[1].parse().expect("a number")).expect("the test made it");
    assert_eq!(notes, Vec::<String>::new());
    match role.as_str() {
        "half" => {
            // A writer that has taken cells for peers, and given one back, when it dies.
            let writer = table.writer(SOON).expect("free");
            writer.begin().expect("inside");
            let taken = writer.take_cells(5, 0).expect("free");
            writer.allocate(&[7; 100]).expect("room");
            writer.free_cells(&[args[2].parse().expect("a number")]).expect("inside");
            say(format_args!("{taken:?}"));
            orders().for_each(drop);
        }
        "worker" => {
            let cells = table.region().cells().expect("it has some");
            let slot = table.region().claim_slot().expect("free");
            table.region().count_for(slot).expect("room");
            say(slot);
            for order in orders() {
                let (cell, more) = (order[1].parse().expect("a number"), order[0] == "open");
                cells.count_in(slot, cell, more).expect("inside");
                say("ok");
            }
        }
        other => panic!("no role {other:?}"),
    }
}

fn start(role: &str, scratch: &Scratch, more: &str) -> (Helper, String) {
    let path = scratch.file("region").display().to_string();
    let mut helper = Helper::start(role, &[&path, &SMALL.to_string(), more]);
    let answer = helper.answer().expect("it starts");
    (helper, answer)
}

fn set(table: &Table, name: &str, servers: &[&str]) {
    table.set_upstream(&upstream(name, servers), SOON).expect("room");
}

fn health(table: &Table, cell: u32) -> Health {
    Health(table.region().cells().expect("some").health(cell).expect("a cell"))
}

/// Lets a peer with this cell fail.
fn fail(table: &Table, cell: u32) {
    let word = health(table, cell);
    let cells = table.region().cells().expect("some");
    assert_eq!(cells.set_health(cell, word.0, word.failed(7).0), Ok(true));
}

#[test]
fn a_peer_keeps_its_cell_through_all_that_is_not_its_end() {
    let (table, _scratch) = table(SMALL);
    set(&table, "other", &["10.0.9.9:80"]);
    set(&table, "api", &THREE);
    let first = cells_of(&table, "api");
    let second = first[THREE[1]];
    fail(&table, second);
    let stays = |what: &str| {
        assert_eq!(cells_of(&table, "api").get(THREE[1]), Some(&second), "{what}");
        assert_eq!(health(&table, second).fails(), 1, "{what}");
        assert_no_leak(&table);
    };
    table.put_peer("api", &patch(THREE[1], 7), dyups::table::ops::Absent::Refuse, SOON).expect("there");
    stays("another weight");
    for status in [Status::Down, Status::Drain, Status::Up] {
        let patch = PeerPatch { status: Some(status), ..PeerPatch::new(address(THREE[1])) };
        table.put_peer("api", &patch, dyups::table::ops::Absent::Refuse, SOON).expect("there");
        stays("another status");
    }
    let backup = PeerPatch { backup: Some(true), ..PeerPatch::new(address(THREE[1])) };
    table.put_peer("api", &backup, dyups::table::ops::Absent::Refuse, SOON).expect("there");
    stays("a backup");
    let (mut turned, mut more) = (THREE, THREE.to_vec());
    turned.reverse();
    set(&table, "api", &turned);
    assert_eq!(cells_of(&table, "api"), first, "another order");
    stays("another order");
    more.insert(0, "10.0.0.9:80");
    set(&table, "api", &more);
    stays("one before it");
    let chash = Upstream { method: Some(Method::Chash), ..upstream("api", &turned) };
    table.set_upstream(&chash, SOON).expect("room");
    stays("another method, and a ring");
    table.delete_peer("api", &address(THREE[0]), SOON).expect("there");
    stays("one before it is gone");
    table.delete_peer("api", &address(THREE[2]), SOON).expect("there");
    stays("one after it is gone");
    table.delete_upstream("other", true, SOON).expect("there");
    stays("another upstream is gone");
    table.build_ring("api", SOON).expect("room");
    stays("a ring");
    table.load(&[upstream("api", &THREE), upstream("web", &THREE)], true, SOON).expect("room");
    stays("a file");
    // Another spelling of the port is no other peer.
    set(&table, "api", &["10.0.0.2"]);
    assert_eq!(cells_of(&table, "api").into_values().collect::<Vec<_>>(), [second]);
    assert_no_leak(&table);
}

#[test]
fn a_peer_that_comes_again_begins_anew() {
    let (table, _scratch) = table(SMALL);
    set(&table, "api", &THREE);
    let old = cells_of(&table, "api")[THREE[1]];
    fail(&table, old);
    let before = health(&table, old);
    table.delete_peer("api", &address(THREE[1]), SOON).expect("there");
    assert_eq!(used_cells(&table), 2);
    set(&table, "api", &THREE);
    let new = cells_of(&table, "api")[THREE[1]];
    assert_eq!(health(&table, new).fails(), 0);
    assert!(new != old || health(&table, new).generation() != before.generation());
    assert_no_leak(&table);
}

#[test]
fn one_address_in_two_upstreams_has_two_cells() {
    let (table, _scratch) = table(SMALL);
    set(&table, "api", &THREE);
    set(&table, "web", &THREE);
    let (api, web) = (cells_of(&table, "api"), cells_of(&table, "web"));
    assert!(THREE.iter().all(|server| api[*server] != web[*server]));
    table.delete_upstream("api", true, SOON).expect("there");
    assert_eq!((cells_of(&table, "web"), used_cells(&table)), (web, 3));
    assert_no_leak(&table);
}

#[test]
fn the_cells_of_an_upstream_go_with_it() {
    let (table, _scratch) = table(SMALL);
    table.load(&[upstream("file", &THREE)], false, SOON).expect("room");
    set(&table, "api", &THREE);
    table.delete_upstream("api", true, SOON).expect("there");
    table.delete_upstream("file", true, SOON).expect("there");
    assert_eq!(used_cells(&table), 0, "one of them is remembered, as it is in a file");
    assert_no_leak(&table);
}

#[test]
fn what_is_refused_takes_no_cell() {
    let (table, _scratch) = table(SMALL);
    set(&table, "api", &THREE);
    let many: Vec<String> = (0..20_000).map(|i| format!("10.{}.{}.{}:80", i >> 16, i >> 8 & 255, i & 255)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for name in ["api", "big"] {
        let error = table.set_upstream(&upstream(name, &many), SOON).expect_err("too big");
        assert_eq!(error.code, Code::Full, "{error}");
        assert_eq!(used_cells(&table), 3);
        assert_no_leak(&table);
    }
}

#[test]
fn a_writer_that_dies_leaves_no_cell_taken_and_none_free_that_is_not() {
    let (table, scratch) = table(SMALL);
    set(&table, "api", &THREE);
    let before = cells_of(&table, "api");
    let (mut helper, taken) = start("half", &scratch, &before[THREE[0]].to_string());
    assert_eq!(used_cells(&table), 3 + 5 - 1, "{taken}");
    helper.kill();
    assert_eq!(cells_of(&table, "api"), before);
    set(&table, "web", &THREE);
    assert_eq!((cells_of(&table, "api"), used_cells(&table)), (before, 6));
    assert_no_leak(&table);
}

#[test]
fn a_cell_whose_requests_are_not_over_is_given_to_nobody_until_they_or_their_worker_are() {
    let (table, scratch) = table(SMALL);
    set(&table, "api", &THREE);
    let old = cells_of(&table, "api");
    let [first, second] = [THREE[0], THREE[1]].map(|server| old[server]);
    let (mut worker, _) = start("worker", &scratch, "");
    worker.ok(&format!("open {first}"));
    worker.ok(&format!("open {second}"));
    table.delete_upstream("api", true, SOON).expect("there");
    set(&table, "web", &THREE);
    let cells: Vec<u32> = cells_of(&table, "web").into_values().collect();
    assert!(!cells.contains(&first) && !cells.contains(&second), "{cells:?} {first} {second}");
    worker.ok(&format!("close {first}"));
    set(&table, "one", &THREE[..1]);
    assert_eq!(cells_of(&table, "one")[THREE[0]], first);
    worker.kill();
    table.region().reap(None).expect("sound");
    set(&table, "two", &THREE[..1]);
    assert_eq!(cells_of(&table, "two")[THREE[0]], second);
    assert_eq!(table.region().cells().expect("some").open(second), Ok(0));
    assert_no_leak(&table);
}

#[test]
fn what_a_dead_worker_had_open_goes_with_it_and_its_heir_begins_at_0() {
    let (table, scratch) = table(SMALL);
    set(&table, "api", &THREE);
    let cell = cells_of(&table, "api")[THREE[0]];
    let open = || table.region().cells().expect("some").open(cell);
    let ((mut one, slot), (mut two, _)) = (start("worker", &scratch, ""), start("worker", &scratch, ""));
    (0..7).for_each(|_| drop(one.ok(&format!("open {cell}"))));
    two.ok(&format!("open {cell}"));
    assert_eq!(open(), Ok(8));
    table.region().reap(None).expect("sound");
    assert_eq!(open(), Ok(8), "both live");
    one.kill();
    table.region().reap(None).expect("sound");
    assert_eq!(open(), Ok(1));
    let (mut heir, its) = start("worker", &scratch, "");
    assert_eq!((its, open()), (slot, Ok(1)));
    heir.ok(&format!("open {cell}"));
    assert_eq!(open(), Ok(2));
}

#[test]
fn a_table_of_another_size_and_one_whose_cells_were_lost_have_right_ones() {
    let scratch = Scratch::new();
    let path = scratch.file("region");
    let made = || {
        let (table, _) = open(&path, SMALL).expect("usable");
        set(&table, "api", &THREE);
        set(&table, "web", &THREE[..2]);
        fail(&table, cells_of(&table, "api")[THREE[0]]);
        assert_no_leak(&table);
    };
    made();
    let is_right = |size: u64, what: &str| {
        let (table, _) = open(&path, size).expect("usable");
        assert_eq!(names(&table), ["api", "web"], "{what}");
        assert_eq!((used_cells(&table), cells_of(&table, "api").len()), (5, 3), "{what}");
        assert_no_leak(&table);
        set(&table, "more", &THREE);
        table.delete_upstream("more", true, SOON).expect("there");
        assert_no_leak(&table);
    };
    is_right(SMALL, "as it was");
    is_right(4 * MIB, "larger");
    is_right(SMALL, "smaller");
    let file = cells_file(&path, LAYOUT);
    std::fs::remove_file(&file).expect("there");
    is_right(SMALL, "lost");
    std::fs::write(&file, b"short").expect("there");
    is_right(SMALL, "cut");
    let bytes = std::fs::metadata(&file).expect("there").len();
    std::fs::write(&file, vec![0xff; bytes as usize]).expect("there");
    is_right(SMALL, "spoiled");
}

#[test]
fn an_upstream_with_a_number_that_is_no_cell_is_deleted_and_so_is_one_from_a_file() {
    let (table, _scratch) = table(SMALL);
    let spoil = |name: &str| {
        let (_, view) = Directory::new(table.region()).find(name.as_bytes()).expect("sound").expect("there");
        let mem = table.region().mem();
        let is_it = |at: &usize| {
            let word = mem.load(*at).expect("inside");
            mem.store(*at, u64::from(u32::MAX) << 32).expect("inside");
            let is_it = view.cell(mem, 1) == Ok(u32::MAX);
            mem.store(*at, word).expect("inside");
            is_it
        };
        let at = (0..view.words).map(|word| view.stamp.word() + word).find(is_it).expect("it is there");
        mem.store(at, u64::from(u32::MAX) << 32).expect("inside");
    };
    table.load(&[upstream("file", &THREE)], false, SOON).expect("room");
    set(&table, "api", &THREE);
    ["file", "api"].iter().for_each(|name| {
        spoil(name);
        table.delete_upstream(name, true, SOON).expect("there");
    });
    assert_eq!((names(&table).len(), used_cells(&table)), (0, 2), "what nobody leads to is found by a repair");
    let writer = table.writer(SOON).expect("free");
    table.repair(&writer).expect("sound");
    drop(writer);
    assert_no_leak(&table);
}

#[derive(Clone, Debug)]
enum Op {
    Set(usize, Vec<usize>),
    Delete(usize),
    Put(usize, usize),
    DeletePeer(usize, usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let servers = prop::sample::subsequence((0..12).collect::<Vec<usize>>(), 0..12).prop_shuffle();
    let op = prop_oneof![
        (0usize..3, servers).prop_map(|(name, servers)| Op::Set(name, servers)),
        (0usize..3).prop_map(Op::Delete),
        (0usize..3, 0usize..12).prop_map(|(name, server)| Op::Put(name, server)),
        (0usize..3, 0usize..12).prop_map(|(name, server)| Op::DeletePeer(name, server)),
    ];
    prop::collection::vec(op, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn whoever_stays_keeps_the_cell_and_whoever_comes_has_a_new_one(ops in ops()) {
        let (table, _scratch) = table(SMALL);
        let names = ["api", "web", "cdn"];
        let server = |at: usize| format!("10.0.0.{at}:80");
        let mut known: Vec<BTreeMap<String, u32>> = vec![BTreeMap::new(); 3];
        for op in ops {
            let name = match &op {
                Op::Set(name, servers) => {
                    let servers: Vec<String> = servers.iter().map(|&at| server(at)).collect();
                    let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
                    set(&table, names[*name], &servers);
                    *name
                }
                Op::Delete(name) => {
                    let _ = table.delete_upstream(names[*name], true, SOON);
                    *name
                }
                Op::Put(name, at) => {
                    table.put_peer(names[*name], &patch(&server(*at), 3), dyups::table::ops::Absent::Make, SOON).expect("room");
                    *name
                }
                Op::DeletePeer(name, at) => {
                    let _ = table.delete_peer(names[*name], &Address::from_server(&server(*at)).expect("one"), SOON);
                    *name
                }
            };
            let is_there = table.upstream(names[name]).is_ok();
            let now = if is_there { cells_of(&table, names[name]) } else { BTreeMap::new() };
            for (server, cell) in &now {
                match known[name].get(server) {
                    Some(old) => prop_assert_eq!(old, cell),
                    None => prop_assert_eq!(health(&table, *cell).fails(), 0),
                }
                // So that a peer that has another's cell is seen.
                fail(&table, *cell);
            }
            prop_assert!(now.values().all(|&cell| cell != 0));
            known[name] = now;
            for (at, cells) in known.iter().enumerate().filter(|(_, cells)| !cells.is_empty()) {
                prop_assert_eq!(&cells_of(&table, names[at]), cells);
            }
            assert_no_leak(&table);
        }
    }
}

#[test]
fn where_all_free_cells_are_retired_a_new_peer_is_refused_with_what_helps_and_changes_nothing() {
    let (table, scratch) = table(SMALL);
    set(&table, "api", &THREE);
    let cells = table.region().cells().expect("some");
    cells.activate(0).expect("free");
    let writer = table.writer(SOON).expect("free");
    writer.begin().expect("inside");
    let rest = writer.take_cells(cells.count() - 1 - THREE.len(), 0).expect("free");
    for &cell in &rest {
        let word = cells.health(cell).expect("a cell");
        assert_eq!(cells.set_health(cell, word, u64::MAX << GENERATION_SHIFT), Ok(true));
    }
    writer.free_cells(&rest).expect("inside");
    writer.end().expect("inside");
    drop(writer);
    let add = |server: &str| table.put_peer("api", &patch(server, 1), dyups::table::ops::Absent::Make, SOON);
    let before = table.get("api");
    let error = add("10.0.0.4:80").expect_err("none is free");
    assert_eq!(error.code, Code::Full);
    let why = format!("for {} of them only once all workers of now have ended: reload nginx, ", rest.len());
    assert!(error.message.contains(&why), "{error}");
    assert_eq!(table.get("api"), before);
    assert_no_leak(&table);
    // A cell that is given back can be had, and retired ones are as before after a repair.
    table.delete_peer("api", &address(THREE[0]), SOON).expect("there");
    add("10.0.0.4:80").expect("one is free");
    assert_eq!(table.repair(&table.writer(SOON).expect("free")), Ok(0));
    assert_eq!(add("10.0.0.5:80").expect_err("none is free").code, Code::Full);
    // The worker ends.
    cells.deactivate(0).expect("inside");
    add("10.0.0.5:80").expect("all have come back");
    // One that never had a slot picks, and the next process comes when all are gone.
    cells.goes_unnumbered().expect("inside");
    drop(table);
    let (table, notes) = open(&scratch.file("region"), SMALL).expect("sound");
    assert_eq!(notes, Vec::<String>::new());
    let more: Vec<String> = (0..9).map(|i| format!("10.1.0.{i}:80")).collect();
    set(&table, "more", &more.iter().map(String::as_str).collect::<Vec<_>>());
}
