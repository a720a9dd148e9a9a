//! Acknowledged changes survive reloads and the death of any process.

use super::backends::Backends;
use super::changers::{Changers, assert_table};
use super::load::{Connections, Load};
use super::place::Place;
use super::server::{Conf, Nginx};
use super::support::locks;
use super::system::{signal, stop, wait_for};
use dyups::shm::lock::WRITER;
use std::net::SocketAddr;
use std::path::Path;

fn load(traffic: SocketAddr) -> Load {
    Load::start(traffic, 4, |worker| {
        let connections = if worker.number % 2 == 0 { Connections::Fresh } else { Connections::Kept };
        worker.get("stable", connections);
    })
}

#[test]
fn reloads_under_load_and_changes_lose_no_change_and_cost_no_request() {
    let place = Place::new("reload");
    let backends = Backends::start(&place, 2);
    let nginx = Nginx::start(&place, &Conf::new(&place, 2));
    nginx.post("stable", &backends.servers(&["", ""]));
    let load = load(nginx.traffic);
    let changers = Changers::start(nginx.admin, &backends.names[0], 2);
    for _ in 0..20 {
        load.wait_for_more(200);
        changers.wait_for_more(50);
        nginx.reload();
    }
    changers.wait_for_more(50);
    let table = changers.stop();
    let seen = load.stop();
    seen.assert_all_good();
    assert_eq!(seen.broken, 0, "of {} requests", seen.total());
    assert_table(&nginx.status(), &table, &["stable"]);
    nginx.assert_calm();
}

#[test]
fn killed_workers_under_load_changes_and_reloads_lose_no_change_and_cause_no_5xx() {
    let place = Place::new("kill");
    let backends = Backends::start(&place, 2);
    let nginx = Nginx::start(&place, &Conf::new(&place, 2));
    nginx.post("stable", &backends.servers(&["", ""]));
    let load = load(nginx.traffic);
    let changers = Changers::start(nginx.admin, &backends.names[0], 3);
    for round in 0..60 {
        load.wait_for_more(50);
        changers.wait_for_more(20);
        let pids = nginx.worker_pids();
        match round % 4 {
            0 => nginx.reload(),
            1 => nginx.kill_workers(&pids),
            _ => nginx.kill_workers(&pids[round % 2..=round % 2]),
        }
    }
    changers.wait_for_more(50);
    let table = changers.stop();
    let seen = load.stop();
    seen.assert_all_good();
    assert_table(&nginx.status(), &table, &["stable"]);
    // Workers of the last reload may still be at their requests.
    let workers = || nginx.status()["workers"].as_array().expect("workers").len();
    wait_for("the dead have left their slots", || workers() == 2);
    nginx.assert_calm();
    println!("{} requests, {} connections cut by kills", seen.total(), seen.broken);
}

/// Kills one of the workers at a moment when it holds the writer lock: it is stopped again and again until it does.
fn kill_a_writer(nginx: &Nginx, lock_file: &Path) {
    for attempt in 0..20_000 {
        let pids = nginx.worker_pids();
        let Some(&pid) = pids.get(attempt % pids.len().max(1)) else { continue };
        if !stop(pid) {
            continue;
        }
        if locks::holder(lock_file, WRITER) == Some(pid) {
            return nginx.kill_workers(&[pid]);
        }
        signal(pid as i32, libc::SIGCONT);
    }
    panic!("no worker was caught writing");
}

#[test]
fn a_worker_killed_while_it_writes_leaves_a_whole_table_and_the_next_change_repairs_the_rest() {
    let place = Place::new("kill-writer");
    let backends = Backends::start(&place, 2);
    let nginx = Nginx::start(&place, &Conf::new(&place, 2));
    nginx.post("stable", &backends.servers(&["", ""]));
    let load = load(nginx.traffic);
    let changers = Changers::start(nginx.admin, &backends.names[0], 4);
    for _ in 0..15 {
        kill_a_writer(&nginx, &place.path("region.lock"));
        changers.wait_for_more(5);
    }
    let table = changers.stop();
    load.stop().assert_all_good();
    assert_table(&nginx.status(), &table, &["stable"]);
    let repairs = nginx.status()["region"]["repairs"].as_u64().expect("a number");
    assert!(repairs > 0, "none of the killed was in the middle of a change");

    // Nothing leaks: without the upstreams all memory is free again.
    for name in table.keys().chain([&String::from("stable")]) {
        nginx.admin("DELETE", &format!("/upstream/{name}"), "");
    }
    assert_eq!(nginx.status()["region"]["used"], 0, "bytes that nothing leads to");
    nginx.assert_calm();
    println!("{repairs} repairs after 15 kills");
}

#[test]
fn after_sigkill_of_everything_every_acknowledged_change_is_there() {
    let place = Place::new("kill-all");
    let backends = Backends::start(&place, 2);
    let mut nginx = Nginx::start(&place, &Conf::new(&place, 2));
    nginx.post("stable", &backends.servers(&["", ""]));
    for _ in 0..12 {
        let load = load(nginx.traffic);
        let changers = Changers::start(nginx.admin, &backends.names[0], 3);
        changers.wait_for_more(150);
        load.wait_for_more(50);
        nginx.kill_all();
        nginx.start_again();
        changers.wait_for_more(20);
        let table = changers.stop();
        load.stop().assert_all_good();
        assert_table(&nginx.status(), &table, &["stable"]);
        nginx.kill_all();
        nginx.start_again();
        assert_table(&nginx.status(), &table, &["stable"]);
    }
    nginx.assert_calm();
}

fn json(upstreams: &[(&str, &str)]) -> String {
    let of = |(name, server): &(&str, &str)| format!(r#""{name}": {{"peers": [{{"server": "{server}"}}]}}"#);
    format!(r#"{{"upstreams": {{{}}}}}"#, upstreams.iter().map(of).collect::<Vec<_>>().join(","))
}

#[test]
fn a_reload_follows_the_file_but_not_for_what_was_changed_or_deleted_at_run_time() {
    let place = Place::new("files");
    let backends = Backends::start(&place, 3);
    let [a, b, c] = [0, 1, 2].map(|index| backends.names[index].as_str());
    let names = ["untouched", "changed", "deleted", "leaves"];
    let file = place.write("upstreams.json", &json(&names.map(|name| (name, a))));
    let conf = Conf::new(&place, 2).files(&[&file]);
    let mut nginx = Nginx::start(&place, &conf);
    for name in names {
        assert_eq!(nginx.get(name, "/").body, a, "{name} as in the file");
    }
    nginx.post("changed", &format!("server {c};"));
    nginx.post("made", &format!("server {c};"));
    assert_eq!(nginx.admin("DELETE", "/upstream/deleted", "").status, 200);

    let check = |nginx: &Nginx, when: &str| {
        for (name, answer) in [("untouched", b), ("changed", c), ("made", c), ("arrives", b)] {
            for _ in 0..8 {
                let got = nginx.get(name, "/");
                assert_eq!((got.status, got.body.as_str()), (200, answer), "{when}: {name}");
            }
        }
        for name in ["deleted", "leaves"] {
            assert_eq!(nginx.get(name, "/").status, 502, "{when}: {name}");
        }
    };
    place.write("upstreams.json", &json(&["untouched", "changed", "deleted", "arrives"].map(|name| (name, b))));
    nginx.reload();
    check(&nginx, "after a reload");
    nginx.reload();
    check(&nginx, "after another reload");
    nginx.kill_all();
    nginx.start_again();
    check(&nginx, "after a restart");

    // A file that cannot be read leaves the old configuration at work, and all that it serves.
    let pids = nginx.worker_pids();
    place.write("upstreams.json", "{\"upstreams\": {\"untouched\": {\"peers\": [{\"host\": 7}]}}}");
    signal(nginx.master() as i32, libc::SIGHUP);
    nginx.wait_for_log("upstreams.untouched.peers[0].host: 7: allowed:");
    check(&nginx, "after a reload with a bad file");
    assert!(nginx.worker_pids().iter().all(|pid| pids.contains(pid)), "the old workers go on");

    // overwrite: the file wins over everything.
    place.write("upstreams.json", &json(&["untouched", "changed", "deleted", "arrives"].map(|name| (name, a))));
    let mut overwriting = Conf::new(&place, 2).files(&[&file]);
    overwriting.setup += "overwrite = true, ";
    nginx.configure(&overwriting);
    nginx.reload();
    for name in ["untouched", "changed", "deleted", "arrives"] {
        assert_eq!(nginx.get(name, "/").body, a, "{name} with overwrite");
    }
}
