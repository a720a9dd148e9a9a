//! Workers that are killed at random, under load, among reloads and changes. DYUPS_STORM_KILLS says how many (200).

use super::backends::Backends;
use super::changers::{Changers, assert_table, insist};
use super::load::{Load, Worker};
use super::place::Place;
use super::server::{Conf, Nginx};
use super::system::wait_for;
use super::wrk::{Wrk, clock};
use crate::support::{Random, storm_kills, tell};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

const WORKERS: usize = 4;
/// Backends; the first one is always a peer of the upstream that is under load.
const PEERS: usize = 24;
/// The threads that change these peers, each of them its own.
const HANDS: usize = 3;
const NAME: &str = "storm";
/// Its check: a backend that fails once is out. None does, since a probe has all the time that a machine in a storm takes.
const CHECK: &str = "{ type = 'http', interval = 100, timeout = 10000, fall = 1 }";

/// The true state of the peers that one hand changes.
struct Hand {
    random: Random,
    peers: Vec<Peer>,
}

struct Peer {
    name: String,
    /// As acknowledged last; `None`: deleted.
    weight: Option<u64>,
    absences: Vec<Absence>,
}

/// From the acknowledgement of a deletion to the announcement of the change that followed it.
#[derive(Clone, Copy, Debug)]
struct Absence {
    from: u64,
    until: u64,
}

impl Absence {
    fn since(from: u64) -> Absence {
        Absence { from, until: u64::MAX }
    }
}

impl Hand {
    fn new(number: usize, backends: &Backends) -> Hand {
        let own = backends.names[1..].iter().skip(number).step_by(HANDS);
        let peer = |name: &String| Peer { name: name.clone(), weight: None, absences: vec![Absence::since(0)] };
        let peers = own.map(peer).collect();
        Hand { random: Random(clock() + number as u64), peers }
    }

    /// Adds, alters or deletes a peer, and asks until that is acknowledged.
    fn change(&mut self, worker: &mut Worker) {
        let any = self.random.below(self.peers.len() as u64) as usize;
        let peer = &mut self.peers[any];
        let weight = match (peer.weight, self.random.below(2)) {
            (Some(_), 0) => None,
            _ => Some(1 + self.random.below(3)),
        };
        let name = &peer.name;
        let call = match weight {
            None => format!("delete_peer('{NAME}', {{ server = '{name}' }})"),
            Some(weight) => format!("add_peer('{NAME}', {{ server = '{name}', weight = {weight} }})"),
        };
        if let (None, Some(absence)) = (peer.weight, peer.absences.last_mut()) {
            absence.until = clock();
        }
        let lua = format!("return require('dyups').{call}");
        let (answer, first) = insist(&mut worker.client, "POST", "/eval", &lua, &[200]);
        // Not found: an attempt without an answer did it.
        let done = answer.body == "true" || weight.is_none() && !first && answer.body == "nil not found";
        assert!(done, "{call}: {}", answer.body);
        if weight.is_none() {
            peer.absences.push(Absence::since(clock()));
        }
        peer.weight = weight;
    }
}

/// Kills workers and reloads, each time after some more changes; how many of both.
fn rage(nginx: &Nginx, kills: u64, changes: impl Fn()) -> (u64, u64) {
    let mut random = Random(std::process::id().into());
    let (mut killed, mut reloads) = (0, 0);
    while killed < kills {
        changes();
        let pids = nginx.worker_pids();
        let anyone = random.below(WORKERS as u64) as usize;
        let victims = match random.below(12) {
            0 => {
                reloads += 1;
                nginx.reload();
                continue;
            }
            1 => &pids[..],
            2 => &pids[anyone / 2..anyone / 2 + 2],
            _ => &pids[anyone..=anyone],
        };
        nginx.kill_workers(victims);
        killed += victims.len() as u64;
    }
    (killed, reloads)
}

/// No request came to a peer whose deletion was acknowledged when the request began, until a hand set out to bring the peer
/// back.
fn assert_arrivals<'a>(backends: &Backends, peers: impl Iterator<Item = &'a Peer>) -> usize {
    let absences: BTreeMap<&str, &[Absence]> = peers.map(|peer| (peer.name.as_str(), &peer.absences[..])).collect();
    let log = std::fs::read_to_string(&backends.log).expect("the log");
    for line in log.lines() {
        let [begun, arrived, name] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let [begun, arrived] = [begun, arrived].map(|time| time.parse::<u64>().expect(line));
        let absences = absences.get(name).copied().unwrap_or_default();
        let last = absences[..absences.partition_point(|absence| absence.from < begun)].last();
        assert!(last.is_none_or(|absence| absence.until <= arrived), "{last:?}: {line}");
    }
    log.lines().count()
}

/// The upstream under load, as a worker shows it, has the stable peer and those that were acknowledged.
fn assert_peers<'a>(status: &serde_json::Value, stable: &str, peers: impl Iterator<Item = &'a Peer>) {
    let mut expected: BTreeMap<&str, u64> =
        peers.filter_map(|peer| peer.weight.map(|weight| (peer.name.as_str(), weight))).collect();
    expected.insert(stable, 1);
    let peers = status["upstreams"][NAME]["peers"].as_array().expect("peers");
    let server = |peer: &serde_json::Value| format!("{}:{}", peer["host"].as_str().expect("a host"), peer["port"]);
    let found: Vec<(String, Option<u64>)> = peers.iter().map(|peer| (server(peer), peer["weight"].as_u64())).collect();
    let found: BTreeMap<&str, u64> =
        found.iter().map(|(server, weight)| (server.as_str(), weight.expect("a weight"))).collect();
    assert_eq!((found, peers.len()), (expected.clone(), expected.len()));
}

/// Each peer goes on being probed, by the workers that are left, and no probe has found it sick.
fn wait_for_probes(nginx: &Nginx) {
    let probes = || -> Vec<u64> {
        let status = nginx.status();
        let peers = status["upstreams"][NAME]["peers"].as_array().expect("peers").iter();
        peers.map(|peer| peer["probes"].as_u64().expect("a number")).collect()
    };
    let before = probes();
    wait_for("each peer is probed", || probes().iter().zip(&before).all(|(now, before)| now > before));
    assert!(!nginx.log().contains(" went from "), "none of them is sick");
}

#[test]
fn in_a_storm_of_kills_and_reloads_no_change_is_lost_and_no_request_goes_to_a_peer_that_is_gone() {
    let place = Place::new("storm");
    let backends = Backends::start(&place, PEERS);
    let stable = &backends.names[0];
    let nginx = Nginx::start(&place, &Conf::new(&place, WORKERS));
    nginx.change(&format!(
        "set_upstream('{NAME}', {{ peers = {{ {{ server = '{stable}' }} }}, healthcheck = {CHECK} }})"
    ));
    let begun = Instant::now();
    let hands: Arc<[Mutex<Hand>]> = (0..HANDS).map(|number| Mutex::new(Hand::new(number, &backends))).collect();
    let at_work = hands.clone();
    let peers = Load::start(nginx.admin, HANDS, move |worker| {
        at_work[worker.number].lock().expect("its own").change(worker);
    });
    let upstreams = Changers::start(nginx.admin, stable, 2);
    let wrk = Wrk::start(nginx.traffic, NAME);

    let (killed, reloads) = rage(&nginx, storm_kills(), || {
        peers.wait_for_more(2);
        upstreams.wait_for_more(1);
    });
    upstreams.wait_for_more(50);
    peers.wait_for_more(50);
    let changes = upstreams.count() + peers.count();
    let table = upstreams.stop();
    peers.stop();
    let served = wrk.stop();

    let hands: Vec<_> = hands.iter().map(|hand| hand.lock().expect("it has ended")).collect();
    let peers = || hands.iter().flat_map(|hand| &hand.peers);
    let arrived = assert_arrivals(&backends, peers());
    let repairs = nginx.status()["region"]["repairs"].as_u64().expect("a number");
    tell(format_args!(
        "storm over nginx: {killed} kills of {WORKERS} workers, {reloads} reloads, {changes} changes acknowledged, {} \
         requests served and {arrived} arrived, {repairs} repairs: {:?}",
        served.requests,
        begun.elapsed()
    ));
    assert!(served.bad == 0 && served.requests > 10 * killed, "{served:?}");
    assert!(arrived as u64 >= served.requests, "{arrived} arrived for {served:?}");
    assert!(peers().all(|peer| peer.absences.len() > 1), "each peer went and came");
    for status in nginx.status_of_each_worker() {
        assert_table(&status, &table, &[NAME]);
        assert_peers(&status, stable, peers());
        assert_eq!(status["workers"].as_array().expect("workers").len(), WORKERS, "the dead have left their slots");
    }
    wait_for_probes(&nginx);
    for name in table.keys().map(String::as_str).chain([NAME]) {
        nginx.admin("DELETE", &format!("/upstream/{name}"), "");
    }
    assert_eq!(nginx.status()["region"]["used"], 0, "bytes that nothing leads to");
    nginx.assert_calm();
}
