//! Regions without room.

use crate::WAIT;
use crate::subject::{SUBJECT, made, patch};
use dyups::shm::layout::state;
use dyups::shm::{GRANULE, Memory};
use dyups::table::Table;
use dyups::table::snapshot::{Flags, encode};
use dyups::upstream::{Method, PeerPatch, Upstream};

/// Leaves room for the subject's ring, and one granule: too little for its peers.
pub fn nearly_full(table: &Table, subject: &Upstream) {
    let room = ring_granules(table, subject) + 1;
    fill_but(table, room);
}

/// The subject, and no room for another version of it.
pub fn made_and_full(table: &Table, subject: &Upstream) {
    made(table, subject);
    fill_but(table, 0);
}

/// Leaves `room` granules, or one more: by a ring, which is quickly read, and by peers, which fit exactly.
pub fn fill_but(table: &Table, room: u64) {
    let free = || table.region().geometry().heap_bytes() / GRANULE as u64 - used(table) - room;
    let ring = |weight| Upstream {
        name: "filler-ring".into(),
        method: Some(Method::Chash),
        peers: vec![PeerPatch { weight: Some(weight), ..patch(0) }.into_peer()],
        ..Upstream::default()
    };
    // A unit of weight takes less than 13 granules.
    table.set_upstream(&ring((free() - 13) as u16 / 13), WAIT).expect("set");
    let peers = |peers: usize| Upstream {
        name: "filler".into(),
        peers: (0..peers).map(|i| patch(i).into_peer()).collect(),
        ..Upstream::default()
    };
    let most = (0..400).rev().map(peers).find(|filler| granules(filler) <= free()).expect("one fits");
    table.set_upstream(&most, WAIT).expect("set");
}

/// Makes room.
pub fn delete_filler(table: &Table) {
    table.delete_upstream("filler-ring", true, WAIT).expect("delete");
}

/// The granules of the subject's rings.
fn ring_granules(table: &Table, subject: &Upstream) -> u64 {
    let before = used(table);
    table.set_upstream(subject, WAIT).expect("set");
    let both = used(table) - before;
    table.delete_upstream(SUBJECT, true, WAIT).expect("delete");
    both - granules(subject)
}

fn granules(upstream: &Upstream) -> u64 {
    encode(upstream, Flags::default()).expect("readable").len().div_ceil(8) as u64
}

fn used(table: &Table) -> u64 {
    table.region().mem().load(state::USED).expect("inside")
}
