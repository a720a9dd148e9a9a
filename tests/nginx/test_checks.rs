//! Active checks as traffic meets them: a sick peer is out after `fall` probes in every worker's next pick, and back after
//! `rise`.

use super::certificates::Authority;
use super::checked::{Change, Checked, upstream};
use super::https::Https;
use super::place::Place;
use super::relay::Relay;
use super::sick::{DRIP, HEALTH, Probe, Sick};
use super::support::tell;
use super::symptoms::Mode;
use super::system::wait_for;
use super::timed::{Timed, begun};
use super::wrk::clock;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};

const FALL: usize = 3;
const RISE: usize = 2;

/// Of a backend that is to have all the time that a busy machine may need.
const LONG: u64 = 5000;
/// Of one that never answers in time.
const SHORT: u64 = 500;

/// A way to be sick, the timeout of its probes, and words of which one is in the reason.
const WAYS: &[(&str, Mode, u64, &[&str])] = &[
    ("stopped", Mode::Stopped, LONG, &["connect: connection refused"]),
    ("hung", Mode::Hung, SHORT, &["answer: not within 500 ms"]),
    ("deaf", Mode::Deaf, SHORT, &["connect: not within 500 ms"]),
    ("500", Mode::Status(500), LONG, &["status 500, which is not one of valid_statuses"]),
    ("drip", Mode::Drip(DRIP), SHORT, &["answer: not within 500 ms"]),
    ("reset", Mode::Reset, LONG, &["answer: connection reset by peer"]),
    ("reset-at-once", Mode::ResetsAtOnce, LONG, &["connection reset by peer", "broken pipe"]),
    ("closes-early", Mode::ClosesEarly, LONG, &["closed the connection before its answer was whole"]),
    ("garbage", Mode::Garbage, LONG, &["no HTTP/1.x response"]),
];

/// Requests to each upstream while one of its peers is out, and after that is back.
const WHILE_OUT: usize = 300;
const WHEN_BACK: usize = 40;

/// When a probe arrived, by the clock of events.
fn arrived(probe: &Probe) -> u64 {
    clock() - probe.at.elapsed().as_micros() as u64
}

/// Whether such a backend can count its clients. It cannot count those that its kernel turned away.
fn counts(mode: Mode) -> bool {
    !mode.is_of_connections()
}

/// Two peers, of which one is to fall sick.
struct Pair {
    name: String,
    sick: Sick,
    well: Sick,
    check: Value,
}

impl Pair {
    fn new(name: &str, timeout: u64) -> Pair {
        let check = json!({
            "url": HEALTH, "interval": 400, "interval_down": 100, "timeout": timeout, "rise": RISE, "fall": FALL,
        });
        Pair { name: name.into(), sick: Sick::start(), well: Sick::start(), check }
    }

    fn upstream(&self) -> Value {
        upstream(&[&self.sick.name, &self.well.name], &self.check)
    }

    /// Has its sick one `to` be up or down by now? Then when, and after how many of its probes since `from`.
    fn change(&self, checked: &Checked, to: &str) -> Option<Change> {
        let mut changes = checked.changes_of(&self.name);
        let last = changes.pop().filter(|change| change.to == to)?;
        assert_eq!(last.server, self.sick.name, "{}: {last:?}", self.name);
        Some(last)
    }

    fn wait_for(&self, checked: &Checked, to: &str) -> Change {
        let mut found = None;
        wait_for(&format!("{} is {to}", self.name), || {
            found = self.change(checked, to);
            found.is_some()
        });
        found.expect("waited for")
    }

    /// Probes of the sick one that arrived in this time.
    fn probes(&self, from: u64, until: u64) -> usize {
        self.sick.probes().iter().filter(|probe| (from..until).contains(&arrived(probe))).count()
    }

    /// Requests that the sick one got and that began in this time.
    fn traffic(&self, from: u64, until: u64) -> usize {
        self.sick.asked().iter().filter(|path| (from..until).contains(&begun(path))).count()
    }

    /// No request that began in this time went to the sick one, by its own count and by the clients' answers. All workers had
    /// some requests. Answers their number.
    fn assert_without_traffic(&self, number: usize, load: &Timed, workers: usize, (from, until): (u64, u64)) -> usize {
        let name = &self.name;
        assert_eq!(self.traffic(from, until), 0, "{name}: requests to a peer that was out");
        let answered = load.between(number, from, until);
        let wrong: Vec<_> = answered.iter().filter(|answered| answered.body != self.well.name).collect();
        assert!(wrong.is_empty(), "{name}: {} not from the other peer: {:?}", wrong.len(), wrong.first());
        assert!(answered.iter().all(|answered| answered.status == Some(200)), "{name}");
        let served: BTreeSet<&str> = answered.iter().map(|answered| answered.worker.as_str()).collect();
        assert_eq!(served.len(), workers, "{name}: workers that served");
        answered.len()
    }
}

fn who_is_sick_is_out_in_every_worker(workers: usize) {
    let place = Place::new(&format!("sick-{workers}"));
    let pairs: Vec<Pair> = WAYS.iter().map(|&(name, _, timeout, _)| Pair::new(name, timeout)).collect();
    let upstreams: HashMap<&str, Value> = pairs.iter().map(|pair| (pair.name.as_str(), pair.upstream())).collect();
    let checked = Checked::start(&place, workers, "", &json!(upstreams));
    let load = Timed::start(checked.nginx.traffic, 8, pairs.iter().map(|pair| pair.name.clone()).collect());
    for (number, pair) in pairs.iter().enumerate() {
        wait_for("they are probed", || pair.sick.probed() > 0 && pair.well.probed() > 0);
        load.wait_for(number, 0, 20);
        assert!(pair.traffic(0, u64::MAX) > 0, "{}: it gets traffic while it is up", pair.name);
    }

    let fell_sick: Vec<u64> = pairs.iter().zip(WAYS).map(|(pair, way)| set(pair, way.1)).collect();
    let out: Vec<Change> = pairs.iter().map(|pair| pair.wait_for(&checked, "down")).collect();
    for (number, change) in out.iter().enumerate() {
        load.wait_for(number, change.at, WHILE_OUT);
    }
    let recovered: Vec<u64> = pairs.iter().map(|pair| set(pair, Mode::Well)).collect();
    let back: Vec<Change> = pairs.iter().map(|pair| pair.wait_for(&checked, "up")).collect();
    for (number, change) in back.iter().enumerate() {
        load.wait_for(number, change.at, WHEN_BACK);
    }

    let mut requests = 0;
    for (number, (pair, &(name, mode, _, reasons))) in pairs.iter().zip(WAYS).enumerate() {
        let (out, back) = (&out[number], &back[number]);
        assert_eq!((out.from.as_str(), out.after), ("up", FALL), "{name}");
        assert!(reasons.iter().any(|reason| out.why.contains(reason)), "{name}: {}", out.why);
        assert_eq!(
            (back.from.as_str(), back.after, back.why.as_str()),
            ("down", RISE, "answers as it should"),
            "{name}"
        );
        if counts(mode) {
            assert_just_enough(pair.probes(fell_sick[number], out.at), FALL, &format!("{name}: until it was out"));
        }
        if mode != Mode::Deaf {
            assert_just_enough(pair.probes(recovered[number], back.at), RISE, &format!("{name}: until it was back"));
        }
        requests += pair.assert_without_traffic(number, &load, workers, (out.at, recovered[number]));
        assert!(pair.traffic(back.at, u64::MAX) > 0, "{name}: it gets traffic again");
        let when_back = load.between(number, back.at, u64::MAX);
        assert!(when_back.iter().all(|answered| answered.status == Some(200)), "{name}: {when_back:?}");
    }
    let all = load.count();
    load.stop();
    assert_eq!(checked.lines().len(), 2 * pairs.len(), "{:?}", checked.lines());
    checked.assert_each_change_is_one_line_and_one_event();
    checked.nginx.assert_calm();
    let ways = pairs.len();
    tell(format_args!(
        "checks: {workers} workers, {ways} ways to be sick: of {requests} requests while a peer was out it got 0 ({all} in all)"
    ));
}

/// Handlers run in a timer of their own, after the verdict. On a busy machine the worker begins one probe more until then.
fn assert_just_enough(probes: usize, needed: usize, what: &str) {
    assert!((needed..=needed + 1).contains(&probes), "{what}: {probes} probes, {needed} are needed");
}

/// Answers since when it is so.
fn set(pair: &Pair, mode: Mode) -> u64 {
    let now = clock();
    pair.sick.set(mode);
    now
}

#[test]
fn who_is_sick_is_out_of_both_workers_after_fall_probes_and_back_after_rise() {
    who_is_sick_is_out_in_every_worker(2);
}

#[test]
fn who_is_sick_is_out_of_four_workers_after_fall_probes_and_back_after_rise() {
    who_is_sick_is_out_in_every_worker(4);
}

/// The faults of a certificate, by openssl.
const BAD_CERTIFICATES: [(&str, &str); 3] = [
    ("expired", "certificate has expired"),
    ("other-name", "host mismatch"),
    ("self-signed", "self-signed certificate"),
];

const HOST: &str = "sick.test";

#[test]
fn a_peer_that_shows_a_bad_certificate_is_out_and_the_message_says_what_is_wrong_with_it() {
    const WORKERS: usize = 2;
    let place = Place::new("checks-tls");
    let authority = Authority::new(&place, "trusted");
    let good = Https::start(&place, &authority.sign(HOST));
    let certificates = [authority.sign_expired(HOST), authority.sign("other.test"), Authority::new(&place, HOST).own()];
    let bad = certificates.map(|certificate| Https::start(&place, &certificate));
    let check = json!({
        "type": "https", "host": HOST, "url": HEALTH, "interval": 100, "timeout": LONG, "rise": RISE, "fall": FALL,
    });
    // Traffic goes elsewhere than probes, and finds all backends well.
    let pairs = BAD_CERTIFICATES.map(|(name, _)| Pair::new(name, LONG));
    let relays = [(); 3].map(|()| Relay::to(good.address));
    let mut upstreams = HashMap::new();
    for (pair, relay) in pairs.iter().zip(&relays) {
        let peer = |server: &str, port: u16| json!({ "server": server, "check_port": port });
        let peers = [peer(&pair.sick.name, relay.address.port()), peer(&pair.well.name, good.address.port())];
        upstreams.insert(pair.name.as_str(), json!({ "peers": peers, "healthcheck": check }));
    }
    let (careless, mut unverified) = (Sick::start(), check.clone());
    (unverified["ssl_verify"], unverified["default_down"]) = (json!(false), json!(true));
    unverified["port"] = json!(bad[0].address.port());
    upstreams.insert("careless", upstream(&[&careless.name], &unverified));
    let trust = format!("lua_ssl_trusted_certificate {};", authority.file());
    let checked = Checked::start(&place, WORKERS, &trust, &json!(upstreams));
    let load = Timed::start(checked.nginx.traffic, 4, pairs.iter().map(|pair| pair.name.clone()).collect());
    checked.wait_for_change("careless", "up");
    wait_for("they are probed", || relays.iter().all(|relay| relay.came(0, clock()) >= 2));
    assert_eq!(checked.changes().len(), 1, "{:?}", checked.lines());

    let fell_sick: Vec<u64> = relays.iter().zip(&bad).map(|(relay, bad)| relay.turn(bad.address)).collect();
    let out = pairs.each_ref().map(|pair| pair.wait_for(&checked, "down"));
    (0..).zip(&out).for_each(|(number, change)| load.wait_for(number, change.at, WHILE_OUT));
    let recovered: Vec<u64> = relays.iter().map(|relay| relay.turn(good.address)).collect();
    let back = pairs.each_ref().map(|pair| pair.wait_for(&checked, "up"));
    (0..).zip(&back).for_each(|(number, change)| load.wait_for(number, change.at, WHEN_BACK));

    let mut requests = 0;
    for (number, pair) in pairs.iter().enumerate() {
        let ((name, reason), out, back) = (BAD_CERTIFICATES[number], &out[number], &back[number]);
        assert!(out.why.starts_with("TLS: ") && out.why.contains(reason), "{name}: {}", out.why);
        let relay = &relays[number];
        assert_just_enough(relay.came(fell_sick[number], out.at), FALL, &format!("{name}: until it was out"));
        assert_just_enough(relay.came(recovered[number], back.at), RISE, &format!("{name}: until it was back"));
        assert_eq!([out.after, back.after], [FALL, RISE], "{name}");
        requests += pair.assert_without_traffic(number, &load, WORKERS, (out.at, recovered[number]));
        assert!(pair.traffic(back.at, u64::MAX) > 0, "{name}: it gets traffic again");
    }
    load.stop();
    // A peer with another name, or without a trusted certificate, gets no request.
    let asked = format!("{HOST} GET {HEALTH}");
    assert!(good.asked().iter().chain(&bad[0].asked()).all(|line| *line == asked));
    assert!(bad[0].asked().len() >= RISE && bad[1..].iter().all(|https| https.asked().is_empty()));
    assert_eq!(checked.lines().len(), 1 + 2 * pairs.len(), "{:?}", checked.lines());
    checked.assert_each_change_is_one_line_and_one_event();
    checked.nginx.assert_calm();
    tell(format_args!("checks: 3 bad certificates: of {requests} requests while a peer was out it got 0"));
}

const KEYS: usize = 2000;

/// Where each key goes by chash, about which all workers agree.
fn picks(checked: &Checked, upstream: &str, workers: usize) -> Vec<String> {
    let lua = format!(
        "local dyups, picks = require 'dyups', {{ ngx.worker.pid() }}
         for key = 1, {KEYS} do
             picks[key + 1] = assert(dyups.find('{upstream}', 'key-' .. key, 'chash'))
         end
         return table.concat(picks, ' ')"
    );
    let mut of_worker = HashMap::new();
    wait_for("each worker picks", || {
        let picks: Vec<String> = checked.nginx.eval(&lua).split(' ').map(str::to_owned).collect();
        of_worker.insert(picks[0].clone(), picks[1..].to_vec());
        of_worker.len() == workers
    });
    let mut all = of_worker.into_values();
    let first = all.next().expect("a worker");
    assert!(all.all(|other| other == first), "workers disagree");
    first
}

/// Only keys of peers that are out by now have moved, and those are shared out.
fn assert_moved(before: &[String], after: &[String], out: &str) -> usize {
    let moved: Vec<_> = before.iter().zip(after).filter(|(before, after)| before != after).collect();
    assert!(moved.iter().all(|(before, _)| *before == out), "keys of others have moved");
    assert_eq!(moved.len(), before.iter().filter(|peer| *peer == out).count(), "all of its keys have");
    let heirs: BTreeSet<_> = moved.iter().map(|(_, after)| after).collect();
    assert!(heirs.len() > 2, "its keys all went to {heirs:?}");
    moved.len()
}

#[test]
fn keys_of_chash_move_only_from_who_is_out_and_all_are_back_when_it_is() {
    for workers in [2, 4] {
        let place = Place::new(&format!("checks-ring-{workers}"));
        let sicks: Vec<Sick> = (0..8).map(|_| Sick::start()).collect();
        let names: Vec<&str> = sicks.iter().map(|sick| sick.name.as_str()).collect();
        let check = json!({ "url": HEALTH, "interval": 100, "timeout": LONG, "rise": RISE, "fall": FALL });
        let mut ring = upstream(&names, &check);
        ring["method"] = json!("chash");
        let checked = Checked::start(&place, workers, "", &json!({ "ring": ring }));
        let states = |out: &[usize]| {
            let states: Vec<_> = (0..8).map(|peer| if out.contains(&peer) { "unhealthy" } else { "up" }).collect();
            checked.wait_for_states("ring", &states);
            picks(&checked, "ring", workers)
        };
        let all = states(&[]);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 8, "every peer has keys");
        sicks[5].set_probes(Mode::Status(500));
        let without_one = states(&[5]);
        sicks[2].set_probes(Mode::Status(500));
        let without_two = states(&[2, 5]);
        let moved = assert_moved(&all, &without_one, names[5]) + assert_moved(&without_one, &without_two, names[2]);
        sicks[2].set_probes(Mode::Well);
        assert_eq!(states(&[5]), without_one);
        sicks[5].set_probes(Mode::Well);
        assert_eq!(states(&[]), all);
        checked.assert_each_change_is_one_line_and_one_event();
        checked.nginx.assert_calm();
        tell(format_args!(
            "checks: {workers} workers: {moved} of {KEYS} keys moved when two of 8 peers went, and came back"
        ));
    }
}
