//! Peers that come back in a slow start: no death lets one have its whole weight at once.

use crate::subject::SUBJECT;
use dyups::balance::pick::{Ask, Handle, Picked};
use dyups::state::events::Standing;
use dyups::status::peers::states;
use dyups::table::Table;
use dyups::upstream::{Method, Peer, Upstream};

const PICKS: usize = 100;

/// Seconds so many that no part of a weight grows while a process lives.
const LONG: u32 = 100_000;

/// The same upstream, whose peers start slowly.
pub fn slow(subject: &Upstream) -> Upstream {
    let peers = subject.peers.iter().map(|peer| Peer { slow_start: LONG, ..peer.clone() }).collect();
    Upstream { peers, ..subject.clone() }
}

/// The first peer of the subject is still out, or at the beginning of its slow start for those that pick.
pub fn the_first_is_back_slowly_or_out(table: &Table, what: &str) {
    let states = states(table, SUBJECT).expect("sound");
    let up = states.iter().filter(|state| state.state == Standing::Up).count();
    // One that is alone has its whole weight.
    if up < 2 || states[0].state != Standing::Up {
        return;
    }
    assert!(states[0].throttle.is_some_and(|percent| percent == 10), "{what}: {states:?}");
    let (mut handle, mut picked) = (Handle::new(SUBJECT.as_bytes()), Picked::default());
    let ask = || Ask { method: Some(Method::Rr), ..Ask::default() };
    let mut pick = || handle.pick(table, ask(), false, &mut picked).expect("one is up");
    let mine = (0..PICKS).filter(|_| pick() == 0).count();
    assert!(mine * 2 < PICKS / up, "{what}: {mine} of {PICKS} picks, among {up} peers");
}
