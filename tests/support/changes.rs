//! The changes of one upstream, and of the route that leads there, each as the calls of the C ABI that make it. Two suites try all of them:
//!
//! - tests/killpoints makes a change on a table of its own process, and dies at its stores.
//! - tests/kill_release makes it in another process, which it stops after every instruction.

use super::{address, upstream};
use dyups::upstream::{Method, Peer, Upstream};

/// A call of the C ABI about an upstream.
#[derive(Clone, Debug)]
pub struct Call {
    /// The function, without dyups_.
    pub function: &'static str,
    /// The name of the upstream.
    pub name: String,
    /// The value that the function takes besides; empty where it takes none.
    pub json: String,
}

/// A change of one upstream, the *subject*.
pub struct Change {
    pub name: &'static str,
    /// The calls that come before it.
    pub before: fn(&Upstream) -> Vec<Call>,
    /// The call itself.
    pub call: fn(&Upstream) -> Call,
    /// Whether the call is an error for this subject.
    pub refused: fn(&Upstream) -> bool,
    /// The numbers of peers with which tests/kill_release steps through it. tests/killpoints has the same numbers for all.
    pub stepped: &'static [usize],
    /// tests/kill_release steps through it in `make test` too.
    pub short: bool,
    /// tests/killpoints tries it with a thousand peers too.
    pub also_large: bool,
}

/// A peer that no subject has.
pub const NEW: usize = 1900;
/// Another one, whose text is as long as that of peer 2.
const NEW_LONG: usize = 1901;

/// The address of peer number `i`.
pub fn server(i: usize) -> String {
    match i {
        1 => "[::1]:8080".into(),
        // It does not fit into the words of a peer.
        2 | NEW_LONG => format!("unix:/a/long/path/that/stands/behind/the/words/of/peer-{i:04}.sock"),
        _ => format!("127.0.{}.{}:8080", i / 250, i % 250 + 1),
    }
}

/// Peer number `i`.
pub fn peer(i: usize) -> Peer {
    Peer { weight: if i == 1 { 2 } else { 1 }, ..Peer::new(address(&server(i))) }
}

/// A backup that no subject has.
pub fn backup() -> Peer {
    Peer { backup: true, ..peer(NEW) }
}

/// An upstream of `size` peers.
pub fn subject(name: &str, size: usize, method: Method) -> Upstream {
    Upstream { method: Some(method), peers: (0..size).map(peer).collect(), ..upstream(name, &[]) }
}

/// The peer as calls and files have it.
pub fn json(peer: &Peer) -> String {
    format!(r#"{{"server": "{}", "weight": {}, "backup": {}}}"#, peer.address.text(), peer.weight, peer.backup)
}

/// The call that makes an upstream like `it`.
pub fn set(it: &Upstream) -> Call {
    set_with(it, "")
}

fn set_with(it: &Upstream, more: &str) -> Call {
    let peers = it.peers.iter().map(json).collect::<Vec<_>>().join(", ");
    let method = it.method.map_or(String::new(), |method| format!(r#", "method": "{}""#, method.name()));
    call("set_upstream", it, format!(r#"{{"peers": [{peers}]{method}{more}}}"#))
}

fn set_peers(it: &Upstream, peers: Vec<Peer>) -> Call {
    set(&Upstream { peers, ..it.clone() })
}

/// A call about peer number `i`, with these fields.
fn on_peer(function: &'static str, it: &Upstream, i: usize, fields: &str) -> Call {
    call(function, it, format!(r#"{{"server": "{}"{fields}}}"#, server(i)))
}

fn call(function: &'static str, it: &Upstream, json: impl Into<String>) -> Call {
    Call { function, name: it.name.clone(), json: json.into() }
}

fn middle(it: &Upstream) -> usize {
    it.peers.len() / 2
}

fn no_calls(_: &Upstream) -> Vec<Call> {
    vec![]
}

fn made(it: &Upstream) -> Vec<Call> {
    vec![set(it)]
}

fn made_and_checked(it: &Upstream) -> Vec<Call> {
    vec![set(it), call("healthcheck", it, r#"{"default_down": true}"#)]
}

/// Each pick says its method, so the upstream gets no ring at first.
fn made_without_method(it: &Upstream) -> Vec<Call> {
    made(&Upstream { method: None, ..it.clone() })
}

fn routed(it: &Upstream) -> Vec<Call> {
    vec![set(it), set_route(it, 1, "")]
}

/// The call that leads a host of the same name to the upstream.
fn set_route(it: &Upstream, weight: u16, more: &str) -> Call {
    call("set_route", it, format!(r#"{{"targets": [["{}", {weight}]]{more}}}"#, it.name))
}

/// Its peers start slowly, and the middle one drains.
fn made_and_drained(it: &Upstream) -> Vec<Call> {
    let slowly = |i| on_peer("set_peer", it, i, r#", "slow_start": 30"#);
    let drains = on_peer("set_peer", it, middle(it), r#", "status": "drain""#);
    let drained = (!it.peers.is_empty()).then_some(drains);
    made(it).into_iter().chain((0..it.peers.len()).map(slowly)).chain(drained).collect()
}

fn never(_: &Upstream) -> bool {
    false
}

fn has_no_peer(it: &Upstream) -> bool {
    it.peers.is_empty()
}

const PLAIN: Change =
    Change { name: "", before: made, call: set, refused: never, stepped: &[3], short: false, also_large: false };

/// All of them.
pub const CHANGES: &[Change] = &[
    Change { name: "create", before: no_calls, stepped: &[0], also_large: true, ..PLAIN },
    Change {
        name: "create with a backup",
        before: no_calls,
        call: |it| set_peers(it, it.peers.iter().cloned().chain([backup()]).collect()),
        ..PLAIN
    },
    Change {
        name: "replace",
        call: |it| set_peers(it, it.peers.iter().rev().cloned().chain([peer(NEW)]).collect()),
        stepped: &[1],
        also_large: true,
        ..PLAIN
    },
    Change {
        name: "replace all its peers",
        call: |it| set_peers(it, vec![peer(NEW_LONG), backup()]),
        stepped: &[1],
        ..PLAIN
    },
    Change { name: "keep one peer", call: |it| set_peers(it, vec![peer(middle(it))]), ..PLAIN },
    Change { name: "empty", call: |it| set_peers(it, vec![]), ..PLAIN },
    Change {
        name: "add a peer to no upstream",
        before: no_calls,
        call: |it| on_peer("add_peer", it, NEW, ""),
        stepped: &[0],
        short: true,
        ..PLAIN
    },
    Change {
        name: "add a peer",
        call: |it| on_peer("add_peer", it, NEW, ""),
        stepped: &[0],
        also_large: true,
        ..PLAIN
    },
    Change {
        name: "add a peer with a long text",
        call: |it| on_peer("add_peer", it, NEW_LONG, ""),
        stepped: &[1],
        short: true,
        ..PLAIN
    },
    Change {
        name: "add a peer that starts slowly",
        call: |it| on_peer("add_peer", it, NEW, r#", "slow_start": 30"#),
        stepped: &[1],
        short: true,
        ..PLAIN
    },
    Change { name: "add a backup", call: |it| call("add_peer", it, json(&backup())), ..PLAIN },
    Change {
        name: "add a peer that is there",
        call: |it| on_peer("add_peer", it, middle(it), r#", "weight": 5"#),
        ..PLAIN
    },
    Change {
        name: "add a peer to one that is checked",
        before: made_and_checked,
        call: |it| on_peer("add_peer", it, NEW, ""),
        stepped: &[1],
        ..PLAIN
    },
    Change {
        name: "change a peer's weight",
        call: |it| on_peer("set_peer", it, 0, r#", "weight": 3"#),
        refused: has_no_peer,
        also_large: true,
        ..PLAIN
    },
    Change {
        name: "take a peer's weight",
        call: |it| on_peer("set_peer", it, 0, r#", "weight": 0"#),
        refused: has_no_peer,
        stepped: &[1],
        ..PLAIN
    },
    // Its rings stay as they are.
    Change {
        name: "change a peer's max_fails",
        call: |it| on_peer("set_peer", it, 0, r#", "max_fails": 7"#),
        refused: has_no_peer,
        ..PLAIN
    },
    Change {
        name: "take a peer down",
        call: |it| on_peer("set_peer", it, 0, r#", "status": "down""#),
        refused: has_no_peer,
        ..PLAIN
    },
    Change {
        name: "drain a peer",
        call: |it| on_peer("set_peer", it, middle(it), r#", "status": "drain""#),
        refused: has_no_peer,
        also_large: true,
        ..PLAIN
    },
    Change {
        name: "end a drain of a peer that starts slowly",
        before: made_and_drained,
        call: |it| on_peer("set_peer", it, middle(it), r#", "status": "up""#),
        refused: has_no_peer,
        stepped: &[3],
        ..PLAIN
    },
    Change {
        name: "make a peer a backup",
        call: |it| on_peer("set_peer", it, 0, r#", "backup": true"#),
        refused: has_no_peer,
        ..PLAIN
    },
    Change {
        name: "delete a peer",
        call: |it| on_peer("delete_peer", it, middle(it), ""),
        refused: has_no_peer,
        stepped: &[1, 3],
        also_large: true,
        ..PLAIN
    },
    Change {
        name: "drain a peer to delete it",
        call: |it| on_peer("delete_peer", it, 0, r#", "drain": true"#),
        refused: has_no_peer,
        ..PLAIN
    },
    Change {
        name: "begin to check",
        call: |it| {
            set_with(it, r#", "healthcheck": {"default_down": true, "panic_threshold": 50, "fall": 1, "rise": 1}"#)
        },
        stepped: &[1],
        ..PLAIN
    },
    Change {
        name: "set options of a check",
        call: |it| call("healthcheck", it, r#"{"type": "tcp", "default_down": true}"#),
        ..PLAIN
    },
    Change {
        name: "change options of a check",
        before: made_and_checked,
        call: |it| call("healthcheck", it, r#"{"type": "tcp"}"#),
        stepped: &[1],
        short: true,
        ..PLAIN
    },
    Change {
        name: "end the checks",
        before: made_and_checked,
        call: |it| call("healthcheck", it, "false"),
        stepped: &[1],
        short: true,
        ..PLAIN
    },
    Change {
        name: "build a ring",
        before: made_without_method,
        call: |it| call("build_ring", it, ""),
        stepped: &[2],
        also_large: true,
        ..PLAIN
    },
    Change {
        name: "delete",
        call: |it| call("delete_upstream", it, r#"{"force": true}"#),
        short: true,
        also_large: true,
        ..PLAIN
    },
    Change { name: "make a route", call: |it| set_route(it, 1, ""), stepped: &[1], short: true, ..PLAIN },
    Change {
        name: "change a route",
        before: routed,
        call: |it| set_route(it, 9, r#", "key": "$cookie_of_a_user_whose_requests_stay_together""#),
        stepped: &[0],
        ..PLAIN
    },
    Change {
        name: "delete a route",
        before: routed,
        call: |it| call("delete_route", it, "null"),
        stepped: &[1],
        short: true,
        ..PLAIN
    },
    Change {
        name: "delete an upstream that a route names",
        before: routed,
        call: |it| call("delete_upstream", it, r#"{"force": true}"#),
        stepped: &[1],
        ..PLAIN
    },
    Change {
        name: "delete it if no route names it",
        before: routed,
        call: |it| call("delete_upstream", it, "null"),
        refused: |_| true,
        stepped: &[0],
        ..PLAIN
    },
    Change {
        name: "delete it if it is empty",
        call: |it| call("delete_upstream", it, "null"),
        refused: |it| !it.peers.is_empty(),
        stepped: &[0],
        ..PLAIN
    },
];
