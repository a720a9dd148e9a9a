//! A peer that is drained. No request begins there, and those under way end there. Then it is idle, or gone if it was to be
//! deleted.

use super::client::Client;
use super::counted::{Counted, Curl, NAME, Protocol};
use super::gated::Gated;
use super::place::Place;
use super::system::wait_for;
use serde_json::Value;
use std::collections::BTreeSet;

/// Over 2 workers and two peers, the first of which holds a request.
fn with_one_held(place: &Place) -> (Counted, Curl) {
    let counted = Counted::start(place, 2, "", "");
    let line = |backend: &Gated| format!("server {};", backend.name);
    counted.nginx.post(NAME, &line(&counted.backends[0]));
    let held = counted.curl(Protocol::Http1, "/pass/hold", &[]);
    counted.wait_for_held(1, "the request to be drained");
    counted.nginx.post(NAME, &counted.backends.iter().map(line).collect::<String>());
    (counted, held)
}

/// Lua: the first peer.
fn first(counted: &Counted) -> String {
    format!("{{ server = \"{}\" }}", counted.backends[0].name)
}

fn delete(counted: &Counted, options: &str) {
    counted.nginx.change(&format!("delete_peer(\"{NAME}\", {}, {options})", first(counted)));
}

/// The first peer as each worker shows it; null where it is gone.
fn shown(counted: &Counted) -> Vec<Value> {
    let (host, port) = counted.backends[0].name.rsplit_once(':').expect("an address and a port");
    let port: u16 = port.parse().expect("a number");
    let is_first = |peer: &&Value| peer["host"] == host && peer["port"] == port;
    let find = |status: &Value| {
        let peers = status["upstreams"][NAME]["peers"].as_array().expect("peers");
        peers.iter().find(is_first).cloned().unwrap_or_default()
    };
    counted.nginx.status_of_each_worker().iter().map(find).collect()
}

fn assert_shown(counted: &Counted, leaving: Option<bool>, conns: u64, what: &str) {
    for peer in shown(counted) {
        let seen = (peer["status"].as_str(), peer["leaving"].as_bool(), peer["conns"].as_u64());
        assert_eq!(seen, (Some("drain"), leaving, Some(conns)), "{what}: {peer}");
    }
}

fn wait_until_gone(counted: &Counted, what: &str) {
    wait_for(&format!("{what}: each worker shows it no more"), || shown(counted).iter().all(Value::is_null));
}

/// No worker sends a new request to the first peer, over a new connection or one that is kept.
fn assert_not_picked(counted: &Counted, what: &str) {
    let before = counted.backends[0].requests();
    let mut workers = BTreeSet::new();
    let mut asked = 0;
    wait_for("each worker is asked often", || {
        for path in ["/pass/ok", "/kept/ok"] {
            let answer = Client::new(counted.http1).get_fresh(NAME, path).expect("an answer");
            assert_eq!((answer.status, answer.body.as_str()), (200, counted.backends[1].name.as_str()), "{what}");
            workers.insert(answer.header("x-worker").map(str::to_owned));
        }
        asked += 1;
        asked >= 10 && workers.len() == 2
    });
    assert_eq!(counted.backends[0].requests(), before, "{what}");
}

#[test]
fn a_peer_that_is_drained_and_deleted_is_gone_when_its_last_connection_is() {
    let place = Place::new("drained");
    let (counted, held) = with_one_held(&place);
    delete(&counted, "{ drain = true }");
    assert_shown(&counted, Some(true), 1, "at once");
    assert_not_picked(&counted, "a peer that leaves");
    assert_shown(&counted, Some(true), 1, "while its request is under way");
    counted.gate.open();
    assert_eq!(held.status(), 200, "what was under way has ended well");
    wait_until_gone(&counted, "its last connection is gone");
    assert_not_picked(&counted, "a peer that has left");
    counted.assert_none_open("a drained peer");
    counted.nginx.assert_calm();
}

#[test]
fn a_peer_with_no_connection_is_gone_at_the_next_tick() {
    let place = Place::new("drained-idle");
    let (counted, held) = with_one_held(&place);
    counted.gate.open();
    assert_eq!(held.status(), 200);
    counted.wait_for_open(0, "before it is drained");
    delete(&counted, "{ drain = true }");
    wait_until_gone(&counted, "it was idle");
    counted.nginx.assert_calm();
}

#[test]
fn a_peer_that_only_drains_stays_and_shows_that_it_is_idle() {
    let place = Place::new("drained-only");
    let (counted, held) = with_one_held(&place);
    let fields = first(&counted).replace(" }", ", status = \"drain\" }");
    counted.nginx.change(&format!("set_peer(\"{NAME}\", {fields})"));
    assert_shown(&counted, None, 1, "not idle yet");
    assert_not_picked(&counted, "a peer that drains");
    counted.gate.open();
    assert_eq!(held.status(), 200);
    wait_for("it is idle in every worker's eyes", || shown(&counted).iter().all(|peer| peer["conns"] == 0));
    assert_shown(&counted, None, 0, "idle");
    counted.nginx.assert_calm();
}

#[test]
fn a_drained_peer_outlives_a_reload_as_long_as_an_old_worker_serves_there() {
    let place = Place::new("drained-reload");
    let (counted, held) = with_one_held(&place);
    delete(&counted, "{ drain = true }");
    counted.nginx.reload();
    assert_shown(&counted, Some(true), 1, "after a reload");
    assert_not_picked(&counted, "after a reload");
    counted.nginx.reload();
    assert_shown(&counted, Some(true), 1, "after another reload");
    counted.gate.open();
    assert_eq!(held.status(), 200, "the old worker ends what it has begun");
    wait_until_gone(&counted, "the old worker is done");
    counted.nginx.assert_calm();
}

#[test]
fn a_killed_worker_holds_no_drained_peer() {
    let place = Place::new("drained-killed");
    let (counted, held) = with_one_held(&place);
    delete(&counted, "{ drain = true }");
    assert_shown(&counted, Some(true), 1, "at once");
    counted.nginx.kill_workers(&counted.nginx.worker_pids());
    wait_until_gone(&counted, "whoever was connected is dead");
    drop(held);
    counted.nginx.assert_calm();
}

#[test]
fn an_idle_connection_to_a_deleted_peer_carries_no_new_request() {
    let place = Place::new("deleted-kept");
    let counted = Counted::start(&place, 2, "", "");
    for options in ["nil", "{ drain = true }"] {
        counted.post("", false);
        let mut workers = BTreeSet::new();
        wait_for("each worker keeps a connection to the first peer", || {
            let answer = Client::new(counted.http1).get_fresh(NAME, "/kept/ok").expect("an answer");
            if answer.body == counted.backends[0].name {
                workers.insert(answer.header("x-worker").map(str::to_owned));
            }
            workers.len() == 2
        });
        assert!(counted.backends[0].connections() >= 2, "they are kept");
        counted.wait_for_open(0, "an idle connection is none that is open");
        delete(&counted, options);
        assert_not_picked(&counted, options);
        wait_until_gone(&counted, options);
        assert_not_picked(&counted, options);
        assert!(counted.backends[0].connections() >= 2, "and are kept on, for nothing");
    }
    counted.nginx.assert_calm();
}

#[test]
fn a_peer_that_is_added_again_while_it_leaves_is_picked_and_stays() {
    let place = Place::new("drained-added");
    let (counted, held) = with_one_held(&place);
    delete(&counted, "{ drain = true }");
    assert_not_picked(&counted, "a peer that leaves");
    counted.nginx.change(&format!("add_peer(\"{NAME}\", {})", first(&counted)));
    let is_picked = || {
        let before = counted.backends[0].requests();
        for _ in 0..4 {
            assert_eq!(Client::new(counted.http1).get_fresh(NAME, "/pass/ok").expect("an answer").status, 200);
        }
        counted.backends[0].requests() == before + 2
    };
    assert!(is_picked(), "at once, in its turn");
    counted.gate.open();
    assert_eq!(held.status(), 200);
    counted.wait_for_open(0, "its connections are over");
    // One that leaves beside it is deleted: so the second has passed after which this one would have been.
    let fields = "{ server = \"127.0.0.1:1\", leaving = true }";
    counted.nginx.change(&format!("add_peer(\"{NAME}\", {fields})"));
    wait_for("another one is deleted", || counted.open().len() == 2);
    assert!(shown(&counted).iter().all(|peer| peer["status"] == "up" && peer["leaving"].is_null()));
    assert!(is_picked(), "and later");
    counted.nginx.assert_calm();
}

/// The peers that are no more and have connections open, as each worker shows them: upstream, server and connections.
fn deleted(counted: &Counted) -> Vec<Vec<(String, String, u64)>> {
    let one = |peer: &Value| {
        let text = |field: &str| peer[field].as_str().expect("a text").to_owned();
        (text("upstream"), text("server"), peer["conns"].as_u64().expect("a number"))
    };
    let list = |status: &Value| status["deleted"].as_array().expect("a list").iter().map(one).collect();
    counted.nginx.status_of_each_worker().iter().map(list).collect()
}

fn assert_deleted(counted: &Counted, conns: u64, what: &str) {
    let first = (NAME.to_owned(), counted.backends[0].name.clone(), conns);
    assert_eq!(deleted(counted), [vec![first.clone()], vec![first]], "{what}");
}

fn wait_until_none_is_shown(counted: &Counted, what: &str) {
    wait_for(&format!("{what}: no worker shows it"), || deleted(counted).iter().all(Vec::is_empty));
}

#[test]
fn a_peer_that_is_deleted_at_once_is_shown_beside_the_table_until_its_last_connection_is_over() {
    let place = Place::new("deleted");
    for how in ["delete_peer", "post", "delete_upstream"] {
        let (counted, held) = with_one_held(&place);
        assert_eq!(deleted(&counted), [[], []], "{how}");
        match how {
            "delete_peer" => delete(&counted, "nil"),
            "post" => counted.nginx.post(NAME, &format!("server {};", counted.backends[1].name)),
            _ => counted.nginx.change(&format!("delete_upstream(\"{NAME}\", {{ force = true }})")),
        }
        assert_deleted(&counted, 1, how);
        counted.nginx.reload();
        assert_deleted(&counted, 1, "after a reload");
        counted.gate.open();
        assert_eq!(held.status(), 200, "{how}");
        wait_until_none_is_shown(&counted, how);
        counted.nginx.assert_calm();
    }
}

#[test]
fn a_killed_worker_has_no_connection_to_a_deleted_peer() {
    let place = Place::new("deleted-killed");
    let (counted, held) = with_one_held(&place);
    delete(&counted, "nil");
    assert_deleted(&counted, 1, "at once");
    counted.nginx.kill_workers(&counted.nginx.worker_pids());
    wait_until_none_is_shown(&counted, "whoever was connected is dead");
    drop(held);
    counted.nginx.assert_calm();
}

#[test]
fn one_that_is_made_again_has_connections_of_its_own_and_a_status_is_loaded_without_those_that_are_gone() {
    let place = Place::new("deleted-again");
    let (counted, held) = with_one_held(&place);
    delete(&counted, "nil");
    counted.nginx.change(&format!("add_peer(\"{NAME}\", {})", first(&counted)));
    assert!(shown(&counted).iter().all(|peer| peer["status"] == "up" && peer["conns"] == 0));
    assert_deleted(&counted, 1, "the one before it");
    counted.nginx.change("set_upstream(\"other\", { peers = {} })");
    let lua = |more: &str| format!("local dyups = require \"dyups\"; return {more}");
    let shown_of = |name: &str| counted.nginx.eval(&lua(&format!("#dyups.status(\"{name}\").deleted")));
    assert_eq!((shown_of(NAME).as_str(), shown_of("other").as_str()), ("1", "0"));
    // An answer of status is a file.
    let status = counted.nginx.admin("GET", "/status", "").body;
    let read = dyups::config::json::file(status.as_bytes()).expect("a file").upstreams;
    assert_eq!(
        read.iter().map(|upstream| (upstream.name.as_str(), upstream.peers.len())).collect::<Vec<_>>(),
        [(NAME, 2), ("other", 0)]
    );
    counted.gate.open();
    assert_eq!(held.status(), 200);
    wait_until_none_is_shown(&counted, "it is over");
    counted.nginx.assert_calm();
}
