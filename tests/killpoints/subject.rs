//! The upstreams that the operations are about, and their bystanders.

use crate::WAIT;
use crate::support::changes::{self, server};
use dyups::table::Table;
use dyups::upstream::{Address, Method, PeerPatch, Route, Target, Upstream};

/// The name of the upstream that the operations are about.
pub const SUBJECT: &str = "subject";

/// Of 0, 1, 3 and 20 peers, by both methods.
pub fn subjects() -> impl Iterator<Item = Upstream> {
    [0, 1, 3, 20].into_iter().flat_map(|size| [Method::Rr, Method::Chash].map(|method| subject(size, method)))
}

/// One of `size` peers.
pub fn subject(size: usize, method: Method) -> Upstream {
    changes::subject(SUBJECT, size, method)
}

/// Peer number `i`.
pub fn patch(i: usize) -> PeerPatch {
    PeerPatch::new(Address::from_server(&server(i)).expect("an address"))
}

/// Upstreams and a route that were acknowledged before, and that no process may lose. One upstream is by rr, one by chash with a
/// long text, and one deleted that a file would bring back.
pub fn bystanders(table: &Table) {
    let named = |name: &str, size, method| Upstream { name: name.into(), ..subject(size, method) };
    table.set_upstream(&named("hashed", 3, Method::Chash), WAIT).expect("set");
    table.load(&[named("deleted", 2, Method::Rr)], false, WAIT).expect("load");
    table.delete_upstream("deleted", true, WAIT).expect("delete");
    table.set_upstream(&named("plain", 2, Method::Rr), WAIT).expect("set");
    let target = |name: &str, weight| Target { upstream: name.into(), weight };
    let split = Route { host: "www".into(), targets: vec![target("hashed", 9), target("plain", 1)], key: None };
    table.set_route(&split, WAIT).expect("set");
}

/// Makes the subject.
pub fn made(table: &Table, subject: &Upstream) {
    table.set_upstream(subject, WAIT).expect("set");
}
