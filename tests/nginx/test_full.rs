//! No room: in a container's /dev/shm, in a small region at a reload, among the worker slots. Requests are served all the
//! same, and when there is room again changes are made again.

use super::backends::Backends;
use super::counted::{Counted, Protocol};
use super::holder::Holder;
use super::load::{Connections, Load};
use super::place::Place;
use super::server::{Conf, Nginx};
use super::system::{signal, wait_for};
use dyups::shm::layout::{LAYOUT, SLOTS};
use dyups::shm::lock::{FIRST_LISTED, FIRST_SLOT};
use std::io::Write;
use std::net::TcpListener;

const LARGE: usize = 10;
const PEERS: usize = 10_000;

/// A backend that has 100,000 addresses and more: all of 127.0.0.0/8, on one port.
fn everywhere(place: &Place) -> (Backends, u16) {
    let port = TcpListener::bind("0.0.0.0:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
    (Backends::at(place, vec![format!("0.0.0.0:{port}")]), port)
}

/// A peer of a large upstream. No two of them are the same.
fn address(upstream: usize, peer: usize) -> String {
    let number = upstream * PEERS + peer;
    format!("127.{}.{}.{}", 100 + (number >> 16), number >> 8 & 255, number & 255)
}

fn servers(upstream: usize, count: usize, port: u16) -> String {
    (0..count).map(|peer| format!("server {}:{port};", address(upstream, peer))).collect()
}

/// Sets an upstream with a ring: 800 bytes for each unit of the weight of 100 peers. Answers the text of the answer.
fn add_ring(nginx: &Nginx, number: usize, weight: u32, port: u16) -> String {
    nginx.eval(&format!(
        r#"local peers = {{}}
           for i = 1, 100 do peers[i] = {{ host = "127.3.0." .. i, port = {port}, weight = {weight} }} end
           return require("dyups").set_upstream("ring{number}", {{ method = "chash", peers = peers }})"#
    ))
}

/// Adds ever smaller things until not even the smallest fits; how many rings there are, and the answer to the last one.
fn fill(nginx: &Nginx, port: u16) -> (usize, String) {
    let mut rings = 0;
    for weight in [100, 30, 10, 3, 1] {
        while add_ring(nginx, rings, weight, port) == "true" {
            rings += 1;
        }
    }
    for small in 0.. {
        let answer = nginx.admin("POST", &format!("/upstream/small{small}"), "server 127.0.0.1:1;");
        if answer.status != 200 {
            assert_eq!((answer.status, answer.body.as_str()), (500, "add server failed"));
            return (rings, answer.header("x-dyups-error").expect("why").to_owned());
        }
    }
    unreachable!("it ends")
}

fn can_mount() -> bool {
    let mounted = std::process::Command::new("unshare").args(["--mount", "true"]).status();
    mounted.is_ok_and(|status| status.success())
}

#[test]
fn with_64_mb_of_shared_memory_100_000_peers_are_served_when_there_is_no_room_for_more() {
    if !can_mount() {
        eprintln!("SKIPPED: only root can mount a tmpfs");
        return;
    }
    let place = Place::new("full");
    let (backends, port) = everywhere(&place);
    // The file of the region is in the /dev/shm of this nginx, and of no one else.
    let mut conf = Conf { dev_shm: Some("64m"), shm_path: "/dev/shm/region".into(), ..Conf::new(&place, 2) };
    conf.setup += "shm_size = \"128m\", ";
    let nginx = Nginx::start(&place, &conf);
    for upstream in 0..LARGE {
        nginx.post(&format!("large{upstream}"), &servers(upstream, PEERS, port));
    }
    let load = Load::start(nginx.traffic, 2, |worker| {
        let upstream = worker.seen.total() as usize % LARGE;
        worker.get(&format!("large{upstream}"), [Connections::Fresh, Connections::Kept][worker.number]);
    });
    let (rings, why) = fill(&nginx, port);
    let file = dyups::shm::region::file_of(&conf.shm_path, LAYOUT);
    let message = format!("the file system of {} is full: make room there, or delete upstreams", file.display());
    assert!(rings > 5 && why == message, "{rings} rings, then: {why}");
    load.wait_for_more(200);

    // A change that grows the table is refused, and changes nothing.
    let before = nginx.admin("GET", "/upstream/large0", "").body;
    let add = format!("return require('dyups').add_peer('large0', {{ host = '127.9.9.9', port = {port} }})");
    assert_eq!(nginx.eval(&add), format!("nil {message}"));
    assert_eq!(nginx.admin("GET", "/upstream/large0", "").body, before);

    // A change that does not is made, and each worker sees it, also a new one.
    let peer = |upstream, peer, more: &str| {
        format!("'large{upstream}', {{ host = '{}', port = {port}, {more} }}", address(upstream, peer))
    };
    nginx.change(&format!("delete_peer({})", peer(1, 7, "")));
    nginx.change(&format!("set_peer({})", peer(2, 7, "status = 'down'")));
    nginx.post("large3", &servers(3, PEERS - 1, port));
    nginx.reload();
    nginx.kill_workers(&nginx.worker_pids()[..1]);
    load.wait_for_more(200);
    for status in nginx.status_of_each_worker() {
        let peers =
            |upstream: usize| status["upstreams"][format!("large{upstream}")]["peers"].as_array().expect("peers");
        assert_eq!([0, 1, 2, 3].map(|upstream| peers(upstream).len()), [PEERS, PEERS - 1, PEERS, PEERS - 1]);
        assert_eq!(peers(2)[7]["status"], "down");
    }

    // With room again, all is done.
    assert_eq!(nginx.admin("DELETE", "/upstream/ring0", "").status, 200);
    assert_eq!(nginx.eval(&add), "true");
    // As many peers as there were: the files of a full file system have given their memory back.
    nginx.post("new", &servers(0, 1, port));
    assert_eq!(nginx.get("new", "/").body, backends.names[0]);
    assert_eq!(add_ring(&nginx, 0, 50, port), "true");
    load.wait_for_more(200);
    load.stop().assert_all_good();
    nginx.assert_calm();
}

#[test]
fn a_worker_that_has_no_memory_to_count_in_serves_says_so_once_and_counts_when_there_is_some() {
    if !can_mount() {
        eprintln!("SKIPPED: only root can mount a tmpfs");
        return;
    }
    let place = Place::new("full-counts");
    let mut conf = Conf::new(&place, 2);
    (conf.dev_shm, conf.shm_path) = (Some("4m"), "/dev/shm/region".into());
    let counted = Counted::with(&place, 1, "", conf);
    let nginx = &counted.nginx;
    counted.post("max_conns=100", false);
    let ballast = format!("/proc/{}/root/dev/shm/ballast", nginx.master());
    let mut file = std::fs::File::create(&ballast).expect("root may");
    while file.write_all(&[7; 4096]).is_ok() {}
    nginx.reload();
    let hold = |count: usize| -> Vec<_> {
        (0..count).map(|_| counted.curl(Protocol::Http1, "/pass/hold", &["--no-keepalive"])).collect()
    };
    let held = |count| wait_for("requests are held", || counted.backends[0].at_once() == count);
    let mut requests = hold(4);
    held(4);
    assert_eq!(counted.open(), [0]);
    let message = "not all connections are counted, as max_conns and least_conn want: the file system of ";
    nginx.wait_for_log(message);

    drop(file);
    std::fs::remove_file(&ballast).expect("there");
    requests.extend(hold(3));
    held(7);
    counted.wait_for_open(3, "those that came when there was room");
    counted.gate.open();
    assert!(requests.into_iter().all(|request| request.status() == 200));
    counted.assert_none_open("when all is over");
    assert!(nginx.error_log().matches(message).count() <= 2, "once a worker: {}", nginx.error_log());
    assert!(!nginx.error_log().contains("the region is damaged"));
}

#[test]
fn a_reload_that_finds_no_room_leaves_the_old_configuration_at_work() {
    let place = Place::new("full-reload");
    let (_backends, port) = everywhere(&place);
    let json = |peers: usize| {
        let peers: Vec<String> =
            (0..peers).map(|peer| format!(r#"{{"host": "{}", "port": {port}}}"#, address(0, peer))).collect();
        format!(r#"{{"upstreams": {{"filed": {{"peers": [{}]}}}}}}"#, peers.join(","))
    };
    let file = place.write("upstreams.json", &json(10));
    let mut conf = Conf::new(&place, 2).files(&[&file]);
    conf.setup += "shm_size = \"1m\", ";
    let nginx = Nginx::start(&place, &conf);
    let (_, why) = fill(&nginx, port);
    assert!(
        why.starts_with("the region is full: ") && why.contains("delete upstreams, or set a larger shm_size"),
        "{why}"
    );
    let load = Load::start(nginx.traffic, 2, |worker| drop(worker.get("filed", Connections::Fresh)));
    nginx.reload();

    place.write("upstreams.json", &json(1000));
    let pids = nginx.worker_pids();
    assert!(signal(nginx.master() as i32, libc::SIGHUP));
    nginx.wait_for_log("upstream filed: the region is full: ");
    load.wait_for_more(100);
    assert!(nginx.worker_pids().iter().all(|pid| pids.contains(pid)), "the old workers go on");
    let peers = || nginx.status()["upstreams"]["filed"]["peers"].as_array().expect("peers").len();
    assert_eq!(peers(), 10);

    for name in nginx.admin("GET", "/list", "").body.lines().filter(|name| name.starts_with("ring")) {
        assert_eq!(nginx.admin("DELETE", &format!("/upstream/{name}"), "").status, 200);
    }
    nginx.reload();
    assert_eq!(peers(), 1000);
    load.stop().assert_all_good();
}

#[test]
fn a_worker_that_finds_all_slots_taken_serves_and_takes_the_next_that_is_free() {
    let place = Place::new("full-slots");
    let backends = Backends::start(&place, 2);
    let nginx = Nginx::start(&place, &Conf::new(&place, 2));
    nginx.post("api", &backends.servers(&["", ""]));
    let load = Load::start(nginx.traffic, 2, |worker| {
        worker.get("api", [Connections::Fresh, Connections::Kept][worker.number]);
    });
    let hold = |byte| Holder::start(&place.path("region.lock"), byte + 2, SLOTS as u32 - 2);
    let (claims, others) = (hold(FIRST_SLOT), hold(FIRST_LISTED));
    let holders = |nginx: &Nginx| -> Vec<u32> {
        let status = nginx.status();
        let pids = status["workers"].as_array().expect("workers").iter().map(|worker| worker["pid"].as_u64());
        pids.map(|pid| pid.expect("one that is seen") as u32).collect()
    };
    assert_eq!(holders(&nginx).len(), SLOTS);

    // The new workers come before the old ones go, and have no room for one-shot timers at first.
    let hogs = "for _ = 1, 2 do ngx.timer.at(0, function() ngx.sleep(2.5) end) end ".to_owned();
    let conf = Conf::new(&place, 2);
    nginx.configure(&Conf { init_worker: hogs + &conf.init_worker, http: "lua_max_running_timers 2;".into(), ..conf });
    nginx.reload();
    nginx.wait_for_log("all 512 worker slots are taken: old workers that still shut down hold theirs");
    nginx.post("api", &backends.servers(&["weight=3", ""]));
    load.wait_for_more(200);
    wait_for("the new workers take the slots of the old ones", || {
        let holders = holders(&nginx);
        nginx.worker_pids().iter().all(|pid| holders.contains(pid))
    });
    assert_eq!(holders(&nginx).iter().filter(|&&pid| pid == others.pid()).count(), SLOTS - 2);
    drop((claims, others));
    nginx.configure(&Conf::new(&place, 2));
    nginx.reload();
    wait_for("nobody else has a slot", || holders(&nginx).len() == 2);
    load.stop().assert_all_good();
}
