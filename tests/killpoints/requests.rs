//! Picks, and whole requests with their retries.

use dyups::balance::pick::{Ask, Handle, Picked};
use dyups::balance::request::{Requests, Tries, Wanted, Why};
use dyups::state::budget::Allowance;
use dyups::stats::ended::Ended;
use dyups::table::Table;
use dyups::upstream::{Method, Upstream};

/// One pick.
pub fn pick(table: &Table, subject: &Upstream) {
    let ask = Ask { key: None, method: Some(Method::Rr), tried: None, ..Ask::default() };
    let picked = Handle::new(subject.name.as_bytes()).pick(table, ask, false, &mut Picked::default());
    assert_eq!(picked.is_ok(), !subject.peers.is_empty());
}

/// Three requests: a try that fails and one that does not. The last one goes on after an answer, beyond its budget.
pub fn balance(table: &Table, subject: &Upstream) {
    let (mut requests, mut handle) = (Requests::default(), Handle::new(subject.name.as_bytes()));
    for request in [1, 2, 3] {
        for why in [Why::First, if request == 3 { Why::Answered } else { Why::Failed }] {
            let allowance =
                if request == 3 { Allowance { percent: 0, floor: 0 } } else { Allowance { percent: 20, floor: 10 } };
            let tries = Tries { most: 0, allowance };
            let method = if request == 1 { Method::Rr } else { Method::LeastConn };
            let (method, adds_tries) = (Some(method), true);
            let wanted = Wanted { request, key: None, method, why, tries, adds_tries, number: None, watch: request };
            let _ = requests.next(table, Some(3), &mut handle, &wanted, |_| Ended::default(), &mut Picked::default());
        }
        requests.end(table, request, |_| Ended { header_ms: Some(1), ..Ended::default() });
    }
}

/// Requests that meet peers that are out, and bring one back.
pub fn balance_among_the_out(table: &Table, subject: &Upstream) {
    balance_until(table, subject, |_| false);
}

/// The same until the first peer is back.
pub fn bring_the_first_back(table: &Table, subject: &Upstream) {
    balance_until(table, subject, |index| index == 0);
}

fn balance_until(table: &Table, subject: &Upstream, is_enough: impl Fn(u32) -> bool) {
    let (mut requests, mut handle) = (Requests::default(), Handle::new(subject.name.as_bytes()));
    for request in 1..=subject.peers.len() + 2 {
        let tries = Tries { most: 0, allowance: Allowance { percent: 20, floor: 10 } };
        let (method, why) = (Some(Method::Rr), Why::First);
        let wanted = Wanted { request, key: None, method, why, tries, adds_tries: true, number: None, watch: request };
        let given = requests.next(table, Some(3), &mut handle, &wanted, |_| Ended::default(), &mut Picked::default());
        requests.end(table, request, |_| Ended { header_ms: Some(1), ..Ended::default() });
        if given.is_ok_and(|given| is_enough(given.index)) {
            break;
        }
    }
}
