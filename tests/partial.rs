//! Picks in a partial outage: the peers that are left share the traffic of those that are out, by weight. That holds for any
//! cause of the outage, and for any changes of the table meanwhile.

#![allow(unsafe_code)]

mod support;

use dyups::balance::miss::Miss;
use dyups::balance::pick::{Ask, Handle, Picked, Tried};
use dyups::shm::clock::now_ms;
use dyups::state::failures::{Health, tenths};
use dyups::state::verdict::Verdict;
use dyups::table::Table;
use dyups::table::directory::Directory;
use dyups::upstream::{Check, Method, Peer, Status, Upstream};
use proptest::prelude::*;
use std::time::Instant;
use support::*;

/// How a peer is taken out.
#[derive(Clone, Copy, Debug)]
enum Cause {
    Failures,
    Probes,
    Operator,
}

/// Which peers are out.
#[derive(Clone, Copy, Debug)]
enum Pattern {
    Run,
    EveryOther,
    Random,
}

impl Pattern {
    /// Whether the peer at `index` of `peers` is out, when so many in all are.
    fn is_out(self, index: usize, peers: usize, out: usize) -> bool {
        match self {
            Pattern::Run => (index + peers - peers / 3) % peers < out,
            Pattern::EveryOther => index * 2 % peers + index * 2 / peers < out,
            // A permutation, as 7919 is prime and no divisor of any number of peers here.
            Pattern::Random => index * 7919 % peers < out,
        }
    }
}

/// An upstream that is called "api".
fn made(table: &Table, weights: &[u16], method: Option<Method>, check: bool) {
    let peers = weights.iter().enumerate().map(|(i, &weight)| peer(&server(i), weight)).collect();
    let check = check.then(Check::default);
    let upstream =
        Upstream { name: "api".into(), method, peers, own_check: check.is_some(), check, ..Upstream::default() };
    table.set_upstream(&upstream, SOON).expect("room");
}

fn server(index: usize) -> String {
    format!("10.{}.{}.{}:80", index >> 16, index >> 8 & 255, index & 255)
}

/// Takes peers out, or brings them back.
fn turn(table: &Table, is_out: impl Fn(usize) -> bool, cause: Cause) {
    let (directory, cells) = (Directory::new(table.region()), table.region().cells().expect("some"));
    let (record, view) = directory.find(b"api").expect("sound").expect("there");
    if matches!(cause, Cause::Operator) {
        let mut upstream = table.get("api").expect("sound").expect("there").upstream;
        for (index, peer) in upstream.peers.iter_mut().enumerate() {
            peer.status = if is_out(index) { Status::Down } else { Status::Up };
        }
        return table.set_upstream(&upstream, SOON).expect("room");
    }
    for index in 0..view.peers {
        let cell = view.cell(table.region().mem(), index).expect("inside");
        let out = is_out(index as usize);
        match cause {
            Cause::Failures => {
                let word = Health(cells.health(cell).expect("inside"));
                let new = if out { word.failed(tenths(now_ms())) } else { word.cured() };
                assert_eq!(cells.set_health(cell, word.0, new.0), Ok(true));
            }
            _ => {
                let word = Verdict(cells.verdict(cell).expect("inside"));
                let new = word.after(!out, 1, 1).0;
                assert_eq!(cells.set_verdict(cell, word.0, new.0), Ok(true));
            }
        }
    }
    directory.mark_failure(record).expect("inside");
}

fn pick(table: &Table, handle: &mut Handle, method: Method, key: Option<&[u8]>) -> usize {
    let mut picked = Picked::default();
    let ask = Ask { method: Some(method), key, ..Ask::default() };
    handle.pick(table, ask, false, &mut picked).expect("one is left") as usize
}

/// How often each peer is picked by two workers in turn.
fn picks(
    table: &Table,
    peers: usize,
    count: usize,
    method: Method,
    key: impl Fn(usize) -> Option<[u8; 4]>,
) -> Vec<usize> {
    // Two that begin in the same millisecond draw the same numbers: by chance one is as good.
    let workers = if method == Method::Rr { 2 } else { 1 };
    let mut handles = [Handle::new(b"api"), Handle::new(b"api")];
    let mut seen = vec![0; peers];
    for pick_number in 0..count {
        let key = key(pick_number);
        let key = key.as_ref().map(<[u8; 4]>::as_slice);
        seen[pick(table, &mut handles[pick_number % workers], method, key)] += 1;
    }
    seen
}

fn no_key(_: usize) -> Option<[u8; 4]> {
    None
}

/// Has picks meet the peers that are out.
fn settle(table: &Table, method: Method) {
    let mut handle = Handle::new(b"api");
    let upstream = table.get("api").expect("sound").expect("there").upstream;
    let cycle: usize = upstream.peers.iter().map(|peer| usize::from(peer.weight)).sum();
    (0..cycle).for_each(|_| {
        pick(table, &mut handle, method, None);
    });
}

fn weights() -> impl Strategy<Value = Vec<u16>> {
    prop_oneof![
        (2usize..700).prop_map(|peers| vec![1; peers]),
        prop::collection::vec(1u16..4, 2..300),
        prop::collection::vec(prop_oneof![9 => Just(1u16), 1 => Just(1000)], 2..40),
        Just(vec![1000, 1, 1, 1]),
    ]
}

fn cause() -> impl Strategy<Value = Cause> {
    prop_oneof![Just(Cause::Failures), Just(Cause::Probes), Just(Cause::Operator)]
}

fn pattern() -> impl Strategy<Value = Pattern> {
    prop_oneof![Just(Pattern::Run), Just(Pattern::EveryOther), Just(Pattern::Random)]
}

/// How far `seen` is from shares by `weights`: Pearson's chi-squared, by its degrees of freedom.
fn chi_squared(seen: &[usize], weights: &[u16]) -> (f64, f64) {
    let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
    let picks: f64 = seen.iter().map(|&count| count as f64).sum();
    let mut sum = 0.0;
    for (&seen, &weight) in seen.iter().zip(weights).filter(|&(_, &weight)| weight > 0) {
        let expected = picks * f64::from(weight) / total;
        sum += (seen as f64 - expected).powi(2) / expected;
    }
    (sum, weights.iter().filter(|&&weight| weight > 0).count() as f64 - 1.0)
}

/// Whether that is more than chance gives once in 100,000 times: Wilson and Hilferty's approximation.
fn is_beyond_chance((sum, freedom): (f64, f64)) -> bool {
    let a = 2.0 / (9.0 * freedom.max(1.0));
    freedom >= 1.0 && ((sum / freedom).cbrt() - (1.0 - a)) / a.sqrt() > 4.27
}

/// The weights of those that are left.
fn left(weights: &[u16], is_out: impl Fn(usize) -> bool) -> Vec<u16> {
    weights.iter().enumerate().map(|(index, &weight)| if is_out(index) { 0 } else { weight }).collect()
}

/// A table in which this share of the peers is out; the weights of those that are left, and how many are out. `None`: all are.
fn outage(
    weights: &[u16],
    share: f64,
    pattern: Pattern,
    cause: Cause,
    method: Method,
) -> Option<(Table, Scratch, Vec<u16>, usize)> {
    let peers = weights.len();
    let out = ((peers as f64 * share) as usize).min(peers - 1);
    let is_out = |index: usize| pattern.is_out(index, peers, out);
    let left = left(weights, is_out);
    if left.iter().all(|&weight| weight == 0) {
        return None;
    }
    // A ring of heavy peers is large.
    let (table, scratch) = table(if method == Method::Chash { 64 << 20 } else { 1 << 20 });
    made(&table, weights, None, true);
    turn(&table, is_out, cause);
    settle(&table, method);
    Some((table, scratch, left, out))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn rr_is_exact_over_the_peers_that_are_left(
        weights in weights(), share in 0.0f64..1.0, pattern in pattern(), cause in cause(),
    ) {
        let peers = weights.len();
        let Some((table, _scratch, left, out)) = outage(&weights, share, pattern, cause, Method::Rr) else {
            return Err(TestCaseError::reject("all are out"));
        };
        let cycle: usize = left.iter().map(|&weight| usize::from(weight)).sum();
        let seen = picks(&table, peers, cycle, Method::Rr, no_key);
        for (index, (&seen, &weight)) in seen.iter().zip(&left).enumerate() {
            prop_assert!(seen.abs_diff(usize::from(weight)) <= 1, "{index}: {seen} for {weight}: {out} of {peers} out");
            prop_assert!(weight > 0 || seen == 0);
        }
    }

    #[test]
    fn random_and_ip_hash_are_within_chance(
        weights in weights(), share in 0.0f64..1.0, pattern in pattern(), cause in cause(), by_address: bool,
    ) {
        let peers = weights.len();
        let Some((table, _scratch, left, out)) = outage(&weights, share, pattern, cause, Method::Random) else {
            return Err(TestCaseError::reject("all are out"));
        };
        let total: usize = left.iter().map(|&weight| usize::from(weight)).sum();
        let count = (20 * total).clamp(2000, 30_000);
        if by_address {
            // A few addresses lead to one peer each; where they lead to peers that are out, others share them out.
            let key = |number: usize| Some([10, (number >> 8) as u8, number as u8, 1]);
            let seen = picks(&table, peers, count, Method::IpHash, key);
            prop_assert!(seen.iter().zip(&left).all(|(&seen, &weight)| weight > 0 || seen == 0));
            return Ok(());
        }
        let seen = picks(&table, peers, count, Method::Random, no_key);
        prop_assert!(!is_beyond_chance(chi_squared(&seen, &left)), "{out} of {peers} out: {seen:?} for {left:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn least_conn_random_two_and_chash_starve_no_peer_that_is_left_and_pick_no_other(
        weights in weights(), share in 0.0f64..1.0, pattern in pattern(), cause in cause(),
        method in prop_oneof![Just(Method::LeastConn), Just(Method::RandomTwo), Just(Method::Chash)],
    ) {
        let peers = weights.len();
        let Some((table, _scratch, left, out)) = outage(&weights, share, pattern, cause, method) else {
            return Err(TestCaseError::reject("all are out"));
        };
        let total: usize = left.iter().map(|&weight| usize::from(weight)).sum();
        let count = (40 * total).clamp(2000, 8000);
        if method == Method::Chash {
            table.build_ring("api", SOON).expect("room");
        }
        let key = |number: usize| (method == Method::Chash).then(|| (number as u32).to_be_bytes());
        let seen = picks(&table, peers, count, method, key);
        for (index, (&seen, &weight)) in seen.iter().zip(&left).enumerate() {
            prop_assert!(weight > 0 || seen == 0, "{index} is out: {out} of {peers}");
            let is_due = count * usize::from(weight) >= 30 * total;
            prop_assert!(seen > 0 || !is_due, "{index}: none of {count} for {weight} of {total}: {out} of {peers} out");
        }
    }
}

#[test]
fn where_more_than_64_weights_differ_shares_are_within_2_percent() {
    let weights: Vec<u16> = (0..400).map(|index| 100 + 9 * index).collect();
    let is_out = |index: usize| (100..300).contains(&index);
    let (table, _scratch) = table(1 << 20);
    made(&table, &weights, None, true);
    turn(&table, is_out, Cause::Probes);
    settle(&table, Method::Rr);
    let left = left(&weights, is_out);
    let total: f64 = left.iter().map(|&weight| f64::from(weight)).sum();
    let count = 1_000_000;
    let seen = picks(&table, weights.len(), count, Method::Rr, no_key);
    for (&seen, &weight) in seen.iter().zip(&left) {
        let fair = count as f64 * f64::from(weight) / total;
        assert!((seen as f64 - fair).abs() <= 0.02 * fair + 1.0, "{seen} for {fair:.1}");
    }
}

#[test]
fn the_fallback_of_ip_hash_is_shared_by_weight() {
    let (table, _scratch) = table(1 << 20);
    made(&table, &[1; 1000], None, true);
    turn(&table, |index| index >= 50, Cause::Failures);
    settle(&table, Method::Rr);
    // Each of 6,271 hashes leads through 21 of 1,000 peers: a third of the addresses find none of the 50.
    let key = |number: usize| Some([(number >> 16) as u8, (number >> 8) as u8, number as u8, 1]);
    let seen = picks(&table, 1000, 50_000, Method::IpHash, key);
    let most = seen.iter().max().expect("some");
    assert!(*most < 2000, "{most} of 50,000 by one of 50 peers");
    assert!(seen[..50].iter().all(|&seen| seen > 400), "{:?}", &seen[..50]);
}

#[test]
fn a_peer_that_comes_back_is_picked_within_a_tenth_of_a_second() {
    let (table, _scratch) = table(1 << 20);
    made(&table, &[1; 200], None, true);
    turn(&table, |index| index < 100, Cause::Probes);
    settle(&table, Method::Rr);
    assert_eq!(picks(&table, 200, 1000, Method::Rr, no_key)[..100].iter().sum::<usize>(), 0);
    turn(&table, |_| false, Cause::Probes);
    let began = Instant::now();
    let mut handle = Handle::new(b"api");
    while pick(&table, &mut handle, Method::Rr, None) >= 100 {
        assert!(began.elapsed().as_millis() < 250, "it is not picked");
    }
    let seen = picks(&table, 200, 200, Method::Rr, no_key);
    assert!(seen.iter().all(|&seen| seen <= 2), "{seen:?}");
}

/// A worker remembers which peers are usable, until another worker says that this has changed.
#[test]
fn a_worker_that_picked_before_a_peer_came_back_picks_it_as_soon_as_another_worker_does() {
    let (table, _scratch) = table(1 << 20);
    made(&table, &[1; 200], None, true);
    turn(&table, |index| index < 100, Cause::Probes);
    let (mut remembers, mut other) = (Handle::new(b"api"), Handle::new(b"api"));
    (0..400).for_each(|_| assert!(pick(&table, &mut remembers, Method::Rr, None) >= 100));
    turn(&table, |_| false, Cause::Probes);
    wait_for("a peer that is back is picked", || pick(&table, &mut other, Method::Rr, None) < 100);
    let mut seen = [0; 200];
    (0..200).for_each(|_| seen[pick(&table, &mut remembers, Method::Rr, None)] += 1);
    assert!(seen.iter().all(|&seen| seen == 1), "{seen:?}");
}

#[test]
fn where_all_are_out_all_are_picked_in_turn() {
    let (table, _scratch) = table(1 << 20);
    for cause in [Cause::Failures, Cause::Probes] {
        made(&table, &[1; 500], None, true);
        turn(&table, |_| true, cause);
        let seen = picks(&table, 500, 1000, Method::Rr, no_key);
        assert!(seen.iter().all(|&seen| seen == 2), "{cause:?}: {seen:?}");
        table.delete_upstream("api", true, SOON).expect("there");
    }
}

#[test]
fn one_that_comes_back_when_all_are_out_gets_the_next_pick() {
    let (table, _scratch) = table(1 << 20);
    made(&table, &[1; 8], None, true);
    turn(&table, |_| true, Cause::Probes);
    settle(&table, Method::Rr);
    for back in [3, 5, 0] {
        turn(&table, |index| index != back, Cause::Probes);
        assert_eq!(picks(&table, 8, 20, Method::Rr, no_key)[back], 20);
    }
}

#[test]
fn what_a_refusing_peer_is_asked_for_goes_to_the_others_by_weight() {
    for (weights, method) in [([1, 1, 1], Method::Rr), ([1, 1, 1], Method::Random), ([4, 1, 2], Method::Rr)] {
        let (table, _scratch) = table(1 << 20);
        made(&table, &weights, None, false);
        let (mut handle, mut picked) = (Handle::new(b"api"), Picked::default());
        let (mut retries, mut all) = ([0usize; 3], 0);
        while all < 6000 {
            let mut tried = Tried::default();
            let mut next = || {
                let ask = Ask { method: Some(method), tried: Some(&mut tried), ..Ask::default() };
                handle.pick(&table, ask, false, &mut picked).expect("one")
            };
            if next() == 0 {
                let second = next();
                retries[second as usize] += 1;
                all += 1;
            }
        }
        let fair = 6000 * usize::from(weights[1]) / usize::from(weights[1] + weights[2]);
        assert!(retries[0] == 0 && retries[1].abs_diff(fair) < 6000 / 20, "{weights:?} {method:?}: {retries:?}");
    }
}

#[test]
fn requests_that_full_peers_refuse_are_shared_by_weight() {
    let (table, _scratch) = table(1 << 20);
    let mut upstream = Upstream { name: "api".into(), ..Upstream::default() };
    upstream.peers = (0..300).map(|index| Peer { max_conns: 1, ..peer(&server(index), 1) }).collect();
    table.set_upstream(&upstream, SOON).expect("room");
    let cells = table.region().cells().expect("some");
    cells.activate(0).expect("free");
    let (_, view) = Directory::new(table.region()).find(b"api").expect("sound").expect("there");
    for index in 50..300 {
        let cell = view.cell(table.region().mem(), index).expect("inside");
        assert_eq!(cells.count_in(0, cell, true), Ok(true));
    }
    for method in [Method::Rr, Method::Random] {
        let seen = picks(&table, 300, 10_000, method, no_key);
        let mut weights = vec![1; 50];
        weights.resize(300, 0);
        assert!(!is_beyond_chance(chi_squared(&seen, &weights)), "{method:?}: {:?}", &seen[..50]);
    }
    for index in 0..50 {
        let cell = view.cell(table.region().mem(), index).expect("inside");
        assert_eq!(cells.count_in(0, cell, true), Ok(true));
    }
    let (mut handle, mut picked) = (Handle::new(b"api"), Picked::default());
    assert_eq!(handle.pick(&table, Ask::default(), false, &mut picked), Err(Miss::AllFull));
}

#[test]
fn rr_is_fair_while_the_table_changes() {
    type List = fn(usize) -> Vec<usize>;
    let lists: [(&str, List); 8] = [
        ("one more and one less", |number| (0..7 + number % 2).collect()),
        ("one less and one more", |number| (0..7).filter(|&index| index != 6 || number % 2 == 0).collect()),
        ("rotated by one", |number| (0..7).map(|index| (index + number) % 7).collect()),
        ("rotated by two", |number| (0..7).map(|index| (index + 2 * number) % 7).collect()),
        ("rotated by three", |number| (0..7).map(|index| (index + 3 * number) % 7).collect()),
        ("rotated the other way", |number| (0..7).map(|index| (index + 6 * number) % 7).collect()),
        ("reversed and back", |number| (0..7).map(|index| if number % 2 == 0 { index } else { 6 - index }).collect()),
        ("the last replaced", |number| (0..6).chain([6 + number % 3]).collect()),
    ];
    for (pattern, list) in lists {
        let (table, _scratch) = table(1 << 20);
        let (mut handle, mut picked) = (Handle::new(b"api"), Picked::default());
        let (mut seen, mut fair) = ([0.0f64; 9], [0.0; 9]);
        for number in 0..7000 {
            let list = list(number);
            let peers = list.iter().map(|&index| peer(&server(index), 1)).collect();
            table.set_upstream(&Upstream { name: "api".into(), peers, ..Upstream::default() }, SOON).expect("room");
            seen[list[handle.pick(&table, Ask::default(), false, &mut picked).expect("one") as usize]] += 1.0;
            list.iter().for_each(|&index| fair[index] += 1.0 / list.len() as f64);
        }
        for index in 0..6 {
            let (seen, fair) = (seen[index], fair[index]);
            assert!((seen - fair).abs() <= 0.15 * fair, "{pattern}: {index} has {seen}, fair is {fair:.0}");
        }
    }
}

#[test]
fn the_same_list_posted_again_moves_no_turn() {
    let (table, _scratch) = table(1 << 20);
    made(&table, &[5, 1, 1], None, false);
    let (mut handle, mut picked) = (Handle::new(b"api"), Picked::default());
    let order: Vec<u32> = (0..14)
        .map(|_| {
            made(&table, &[5, 1, 1], None, false);
            handle.pick(&table, Ask::default(), false, &mut picked).expect("one")
        })
        .collect();
    assert_eq!(order, [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn what_takes_no_peer_of_the_round_robin_keeps_its_place() {
    let (table, _scratch) = table(1 << 20);
    made(&table, &[5, 1, 1], None, false);
    let (mut handle, mut picked) = (Handle::new(b"api"), Picked::default());
    let mut order = Vec::new();
    for max_fails in 1..8 {
        order.push(handle.pick(&table, Ask::default(), false, &mut picked).expect("one"));
        let patch = dyups::upstream::PeerPatch { max_fails: Some(max_fails), ..patch(&server(1), 1) };
        table.put_peer("api", &patch, dyups::table::ops::Absent::Make, SOON).expect("room");
    }
    assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
}

/// The most that a pick may cost on average while all but one of so many peers are out, or all, in nanoseconds.
fn most(method: Method, peers: usize) -> u128 {
    match (method, peers) {
        (Method::Chash, _) => 20_000,
        (Method::IpHash, 1000) => 2000,
        (Method::IpHash, _) => 10_000,
        (_, 1000) => 1000,
        _ => 5000,
    }
}

#[test]
#[ignore = "needs a quiet machine: make bench"]
fn the_cost_of_a_pick_does_not_grow_with_the_peers_that_are_out() {
    for peers in [1000usize, 100_000] {
        let (table, _scratch) = table(256 << 20);
        for (what, out) in
            [("none out", 0), ("half out", peers / 2), ("all but one out", peers - 1), ("all out", peers)]
        {
            // Declared, so that there is a ring.
            made(&table, &vec![1; peers], Some(Method::Chash), true);
            turn(&table, |index| index < out, Cause::Probes);
            for method in
                [Method::Rr, Method::Random, Method::LeastConn, Method::RandomTwo, Method::IpHash, Method::Chash]
            {
                let (mut handle, mut picked) = (Handle::new(b"api"), Picked::default());
                let mut longest = 0;
                let count = if method == Method::Chash { 10_000 } else { 100_000u32 };
                let began = Instant::now();
                for number in 0..count {
                    let key = number.to_be_bytes();
                    let ask = Ask { method: Some(method), key: Some(&key), ..Ask::default() };
                    let one = Instant::now();
                    handle.pick(&table, ask, true, &mut picked).expect("one");
                    longest = longest.max(one.elapsed().as_nanos());
                }
                let mean = began.elapsed().as_nanos() / u128::from(count);
                println!("{peers} peers, {what}, {}: {mean} ns, longest {} us", method.name(), longest / 1000);
                assert!(out + 1 < peers || mean <= most(method, peers), "at most {} ns", most(method, peers));
            }
            table.delete_upstream("api", true, SOON).expect("there");
        }
    }
}
