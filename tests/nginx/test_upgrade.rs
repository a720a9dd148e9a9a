//! nginx upgraded by USR2, with the same layout of the region and with another one, and back. And a reload after the library
//! was replaced.

use super::backends::Backends;
use super::generations::{Generations, Master};
use super::load::{Connections, Load, Seen, requests};
use super::place::{self, LIBRARY, Place};
use super::server::{Conf, Nginx};
use super::system::{signal, wait_for};
use crate::next;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

const WORKERS: usize = 2;

/// Requests for the upstream `stable`, on fresh and on kept connections.
fn load(traffic: SocketAddr) -> Load {
    Load::start(traffic, 4, |worker| {
        let connections = if worker.number % 2 == 0 { Connections::Fresh } else { Connections::Kept };
        worker.get("stable", connections);
    })
}

fn assert_none_failed(seen: &Seen) {
    seen.assert_all_good();
    assert_eq!(seen.broken, 0, "of {} requests", seen.total());
    assert!(seen.total() > 200, "{} requests", seen.total());
}

/// A directory in `place` with `library` under its installed name: the value for lua_package_cpath.
fn installed(place: &Place, name: &str, library: &Path) -> String {
    let dir = place.path(name);
    fs::create_dir_all(&dir).expect("mkdir");
    fs::copy(library, dir.join(LIBRARY)).expect("copy");
    format!("{}/?.so;;", dir.display())
}

/// The configuration that the new library comes with.
fn next_conf(place: &Place) -> Conf {
    Conf { cpath: installed(place, "next", next::library()), ..Conf::new(place, WORKERS) }
}

fn assert_superseded(nginx: &Generations, old: Master) {
    for (method, body) in [("POST", "server 127.0.0.1:1;"), ("DELETE", "")] {
        let answer = nginx.ask(old, method, "/upstream/probe", body);
        assert_eq!((answer.status, answer.body.as_str()), (503, "superseded"), "{method}");
        let why = answer.header("x-dyups-error").expect("X-Dyups-Error");
        assert!(why.starts_with(&format!("superseded by layout {} (held by ", next::LAYOUT)), "{why}");
    }
}

/// The old generation takes changes again as soon as the last process of the new one is gone.
fn writes_again(nginx: &Generations, old: Master, upstream: &str, servers: &str) {
    wait_for("the old generation writes again", || {
        nginx.ask(old, "POST", &format!("/upstream/{upstream}"), servers).status == 200
    });
}

#[test]
fn with_the_same_layout_both_generations_share_the_table_and_no_request_fails() {
    let place = Place::new("same-layout");
    let backends = Backends::start(&place, 2);
    let servers = backends.servers(&["", ""]);
    let (nginx, old) = Generations::start(&place, &Conf::new(&place, WORKERS));
    nginx.post(old, "stable", &servers);
    let load = load(nginx.traffic);
    load.wait_for_more(100);
    let new = nginx.upgrade(old, WORKERS);
    let mut names = vec!["stable".to_owned()];
    for round in 0..10 {
        for (writer, reader) in [(old, new), (new, old)] {
            names.push(format!("u{round}-{}", u8::from(writer == new)));
            nginx.post(writer, names.last().expect("one"), &servers);
            names.sort();
            assert_eq!(nginx.names(reader), names, "what one generation is told, the other one knows");
        }
    }
    assert_eq!(nginx.status(new)["workers"].as_array().expect("workers").len(), 2 * WORKERS);
    nginx.quit(old);
    load.wait_for_more(100);
    assert_none_failed(&load.stop());
    assert_eq!(nginx.names(new), names);
    nginx.post(new, "last", &servers);
}

#[test]
fn another_layout_takes_over_and_gives_back_and_no_request_fails() {
    let place = Place::new("next-layout");
    let backends = Backends::start(&place, 2);
    let servers = backends.servers(&["", ""]);
    let (nginx, old) = Generations::start(&place, &Conf::new(&place, WORKERS));
    nginx.post(old, "stable", &servers);
    nginx.post(old, "before", &servers);
    nginx.configure(&next_conf(&place));
    let (old_layout, new_layout) = (u64::from(next::LAYOUT) - 1, u64::from(next::LAYOUT));

    // The upgrade.
    let traffic = load(nginx.traffic);
    traffic.wait_for_more(100);
    let new = nginx.upgrade(old, WORKERS);
    assert_eq!((nginx.layout(old), nginx.layout(new)), (old_layout, new_layout));
    assert_eq!(nginx.names(new), ["before", "stable"], "what was acknowledged before is there");
    assert_superseded(&nginx, old);
    nginx.post(new, "only-new", &servers);
    assert_eq!(nginx.names(old), ["before", "stable"]);
    traffic.wait_for_more(100);
    assert_none_failed(&traffic.stop());

    // The new one dies as a whole.
    nginx.kill(new);
    writes_again(&nginx, old, "again", &servers);

    // The next one has the changes that the old one took meanwhile.
    let traffic = load(nginx.traffic);
    traffic.wait_for_more(100);
    let new = nginx.upgrade(old, WORKERS);
    let names = nginx.names(new);
    assert!(names.contains(&"again".to_owned()) && !names.contains(&"only-new".to_owned()), "{names:?}");
    assert!(nginx.log().contains("again, which was changed since"), "{}", nginx.log());
    assert_superseded(&nginx, old);

    // It is rolled back as nginx's manual says, once it has been serving alone.
    old.lets_its_workers_go();
    traffic.wait_for_more(100);
    nginx.post(new, "alone", &servers);
    old.takes_back(WORKERS);
    assert_superseded(&nginx, old);
    nginx.quit(new);
    writes_again(&nginx, old, "rolled-back", &servers);
    traffic.wait_for_more(100);

    // And the upgrade that stays.
    let new = nginx.upgrade(old, WORKERS);
    nginx.quit(old);
    let names = nginx.names(new);
    assert!(names.contains(&"rolled-back".to_owned()) && !names.contains(&"alone".to_owned()), "{names:?}");
    nginx.post(new, "stays", &servers);
    traffic.wait_for_more(100);
    assert_none_failed(&traffic.stop());
}

#[test]
fn a_reload_says_that_the_library_was_replaced_and_goes_on_with_the_old_one_until_a_restart() {
    let place = Place::new("replaced");
    let backends = Backends::start(&place, 1);
    let conf = Conf { cpath: installed(&place, "lib", &place::library()), ..Conf::new(&place, WORKERS) };
    let mut nginx = Nginx::start(&place, &conf);
    nginx.post("api", &backends.servers(&[""]));
    nginx.reload();
    assert!(!nginx.log().contains("was replaced"), "{}", nginx.log());
    let (lib, new) = (place.path("lib").join(LIBRARY), place.path("lib/new.so"));
    fs::copy(next::library(), &new).expect("copy");
    fs::rename(&new, &lib).expect("rename");
    nginx.reload();
    nginx.wait_for_log(&format!("{} was replaced: a reload goes on with the library that is loaded", lib.display()));
    let layout = |nginx: &Nginx| nginx.status()["region"]["layout"].as_u64().expect("a number");
    assert_eq!(layout(&nginx), u64::from(next::LAYOUT) - 1);
    nginx.post("late", &backends.servers(&[""]));
    requests(nginx.traffic, "late", 20, 2, Connections::Fresh).assert_all_good();
    nginx.kill_all();
    nginx.start_again();
    assert_eq!(layout(&nginx), u64::from(next::LAYOUT));
    requests(nginx.traffic, "late", 20, 2, Connections::Fresh).assert_all_good();
    nginx.post("later", &backends.servers(&[""]));
}

#[test]
fn a_reload_into_another_copy_of_the_library_shares_the_table_and_keeps_every_lock() {
    let place = Place::new("copy");
    let backends = Backends::start(&place, 1);
    let nginx = Nginx::start(&place, &Conf::new(&place, WORKERS));
    nginx.post("api", &backends.servers(&[""]));
    let copy = Conf { cpath: installed(&place, "copy", &place::library()), ..Conf::new(&place, WORKERS) };
    for conf in [copy, Conf::new(&place, WORKERS)] {
        nginx.configure(&conf);
        nginx.reload();
        requests(nginx.traffic, "api", 20, 2, Connections::Fresh).assert_all_good();
        nginx.post("api", &backends.servers(&["weight=2"]));
        let mut workers: Vec<u64> = Vec::new();
        wait_for("each worker has a slot, and nobody else", || {
            let status = nginx.status();
            workers = status["workers"].as_array().expect("workers").iter().filter_map(|w| w["pid"].as_u64()).collect();
            let mut pids: Vec<u64> = nginx.worker_pids().into_iter().map(u64::from).collect();
            workers.sort_unstable();
            pids.sort_unstable();
            workers == pids
        });
    }
    nginx.assert_calm();
}

#[test]
fn a_reload_into_another_layout_is_refused_and_the_old_workers_go_on() {
    let place = Place::new("reload-layout");
    let backends = Backends::start(&place, 1);
    let nginx = Nginx::start(&place, &Conf::new(&place, WORKERS));
    nginx.post("api", &backends.servers(&[""]));
    let workers = nginx.worker_pids();
    nginx.configure(&next_conf(&place));
    assert!(signal(nginx.master() as i32, libc::SIGHUP), "no master");
    nginx.wait_for_log("a reload cannot change it: restart nginx, or upgrade it by USR2");
    requests(nginx.traffic, "api", 20, 2, Connections::Fresh).assert_all_good();
    nginx.post("api", &backends.servers(&["weight=2"]));
    assert!(nginx.worker_pids().iter().all(|pid| workers.contains(pid)), "the old workers go on");
    // And one that can be done is done.
    nginx.configure(&Conf::new(&place, WORKERS));
    nginx.reload();
    nginx.post("api", &backends.servers(&["weight=3"]));
}

#[test]
fn a_reload_into_lua_files_of_another_abi_is_refused_with_the_advice_to_upgrade() {
    let place = Place::new("reload-abi");
    let backends = Backends::start(&place, 1);
    let nginx = Nginx::start(&place, &Conf::new(&place, WORKERS));
    nginx.post("api", &backends.servers(&[""]));
    place::copy(place::root(), &place.path("other"), &["lua"]);
    let library_lua = place.path("other/lua/dyups/library.lua");
    let text = fs::read_to_string(&library_lua).expect("library.lua");
    let line = text.lines().find(|line| line.starts_with("local ABI = ")).expect("the ABI").to_owned();
    fs::write(&library_lua, text.replace(&line, "local ABI = 999")).expect("write");
    nginx.configure(&Conf { lua: place.path("other/lua"), ..Conf::new(&place, WORKERS) });
    assert!(signal(nginx.master() as i32, libc::SIGHUP), "no master");
    nginx.wait_for_log("lua/dyups needs 999: restart nginx, or upgrade it by USR2");
    requests(nginx.traffic, "api", 20, 2, Connections::Fresh).assert_all_good();
    nginx.post("api", &backends.servers(&["weight=2"]));
}
