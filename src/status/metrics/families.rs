//! The families of samples of upstreams and of peers, in the order of the page.

use super::Parts;
use super::gathered::{Gathered, Histogram, LIMITS, Numbers};
use super::page::{Page, Type};
use crate::state::budget::Remembered;
use crate::state::events::Standing;
use crate::stats::section::*;

/// The states that an upstream's peers are counted by.
const STATES: [Standing; 6] =
    [Standing::Up, Standing::Down, Standing::Drain, Standing::Unhealthy, Standing::Checking, Standing::Unavail];

/// Counters of an upstream and of a peer: the rest of the name, the help, and the word.
const COUNTERS: [(&str, &str, usize); 6] = [
    ("requests_total", "Tries that have ended.", REQUESTS),
    ("retries_total", "Tries after another one of the same request.", RETRIES),
    ("sent_bytes_total", "Bytes sent to peers.", SENT),
    ("received_bytes_total", "Bytes received from peers.", RECEIVED),
    ("connections_total", "New connections.", CONNECTS),
    ("kept_connections_total", "Tries over connections that nginx had kept.", KEPT),
];

/// Counters that only an upstream has.
const OF_AN_UPSTREAM: [(&str, &str, usize); 1] =
    [("refused_retries_total", "Retries that the budget of retries refused.", REFUSED_RETRIES)];

/// Counters that only a peer has.
const OF_A_PEER: [(&str, &str, usize); 4] = [
    ("unavail_total", "How often failed requests took the peer out.", UNAVAIL),
    ("unhealthy_total", "How often probes took the peer out.", UNHEALTHY),
    ("good_probes_total", "Probes that succeeded.", PROBES_GOOD),
    ("failed_probes_total", "Probes that failed.", PROBES_FAILED),
];

/// A family of samples.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    of: Of,
    name: &'static str,
    help: &'static str,
    value: Samples,
}

/// The samples are of upstreams, or of peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Upstream,
    Peer,
}

/// The samples of one upstream or peer.
#[derive(Clone, Copy, Debug)]
enum Samples {
    /// Peers by state.
    Peers,
    /// 1 for the state of the peer.
    State,
    Connections,
    Weight,
    /// The part of the weight of a peer in its slow start.
    SlowStart,
    /// What the budget of retries remembers.
    Budget(fn(Remembered) -> u64),
    /// A word of the totals.
    Word(usize),
    /// Answers by status.
    Responses,
    /// Tries without an answer, by reason.
    Failures,
    /// One of the two histograms.
    Times(usize),
}

const BUDGET_REQUESTS: &str = "Requests of the last 10 to 12 seconds, which the budget of retries is a share of.";
const RESPONSES: &str = "Answers by status, or by class where a status has no number of its own.";
const FAILURES: &str = "Tries without an answer, by reason.";
const TIMES: [(&str, &str); 2] = [
    ("header_seconds", "Time until the header of the answer."),
    ("response_seconds", "Time until the end of the answer."),
];

/// All families of a page.
pub fn families(parts: Parts) -> impl Iterator<Item = Family> {
    let gauge = |of, name, help, value| Family { of, name, help, value };
    let budget = |name, help, read| gauge(Of::Upstream, name, help, Samples::Budget(read));
    let upstreams = [
        gauge(Of::Upstream, "peers", "Peers by state.", Samples::Peers),
        budget("retry_budget_requests", BUDGET_REQUESTS, |budget| budget.requests),
        budget("retry_budget_retries", "Retries of that time that cost the budget.", |budget| budget.retries),
        budget("retry_budget_overdrawn", "1 where one of these went beyond the budget.", |budget| budget.beyond.into()),
    ];
    let peers = [
        gauge(Of::Peer, "state", "1 for the state that the peer is in.", Samples::State),
        gauge(Of::Peer, "connections", "Connections that all workers have open.", Samples::Connections),
        gauge(Of::Peer, "weight", "The weight.", Samples::Weight),
        gauge(
            Of::Peer,
            "slow_start_ratio",
            "The part of its weight that a peer has in its slow start.",
            Samples::SlowStart,
        ),
    ];
    let of_upstreams = upstreams.into_iter().chain(counted(Of::Upstream)).chain(times(Of::Upstream));
    let of_peers = peers.into_iter().chain(counted(Of::Peer)).filter(move |_| parts.peers);
    of_upstreams.chain(of_peers).chain(times(Of::Peer).filter(move |_| parts.peers && parts.histograms))
}

fn counted(of: Of) -> impl Iterator<Item = Family> {
    let own = if of == Of::Peer { &OF_A_PEER[..] } else { &OF_AN_UPSTREAM };
    let word = move |&(name, help, word): &_| Family { of, name, help, value: Samples::Word(word) };
    let responses = Family { of, name: "responses_total", help: RESPONSES, value: Samples::Responses };
    let failures = Family { of, name: "failures_total", help: FAILURES, value: Samples::Failures };
    COUNTERS.iter().chain(own).map(word).chain([responses, failures])
}

fn times(of: Of) -> impl Iterator<Item = Family> {
    (0..).zip(TIMES).map(move |(nth, (name, help))| Family { of, name, help, value: Samples::Times(nth) })
}

impl Family {
    /// Whether it has samples of each peer.
    pub fn is_of_peers(&self) -> bool {
        self.of == Of::Peer
    }

    /// The name of its samples.
    pub fn full_name(&self) -> String {
        format!("{}{}", if self.is_of_peers() { "dyups_peer_" } else { "dyups_upstream_" }, self.name)
    }

    /// Writes the lines before its samples.
    pub fn begin(&self, page: &mut Page) {
        let kind = match self.value {
            Samples::Peers
            | Samples::State
            | Samples::Connections
            | Samples::Weight
            | Samples::SlowStart
            | Samples::Budget(_) => Type::Gauge,
            Samples::Word(_) | Samples::Responses | Samples::Failures => Type::Counter,
            Samples::Times(_) => Type::Histogram,
        };
        page.family(&self.full_name(), kind, self.help);
    }

    /// Writes the samples of an upstream, or of its peer with this index. `name`: [`Family::full_name`].
    pub fn write(&self, page: &mut Page, name: &str, upstream: &Gathered, peer: usize) {
        let own = [("upstream", &*upstream.name)];
        if !self.is_of_peers() {
            return self.numbers(page, name, &own, upstream, Some(&upstream.numbers));
        }
        let labels = [own[0], ("server", upstream.server(peer))];
        let peer = &upstream.peers[peer];
        match self.value {
            Samples::State => page.sample(name, &[own[0], labels[1], ("state", peer.state.name())], 1),
            Samples::Connections => page.sample(name, &labels, peer.conns),
            Samples::Weight => page.sample(name, &labels, peer.weight),
            Samples::SlowStart => {
                if let Some(percent) = peer.throttle {
                    page.sample(name, &labels, f64::from(percent) / 100.0);
                }
            }
            _ => self.numbers(page, name, &labels, upstream, peer.numbers.as_deref()),
        }
    }

    /// Writes the samples that come from totals. A peer without totals has none of them.
    fn numbers(
        &self,
        page: &mut Page,
        name: &str,
        labels: &[(&str, &str)],
        upstream: &Gathered,
        numbers: Option<&Numbers>,
    ) {
        let Some(numbers) = numbers else { return };
        match self.value {
            Samples::Word(word) => page.sample(name, labels, numbers.word(word)),
            Samples::Responses => {
                for (code, count) in &numbers.codes {
                    page.sample(name, &[labels, &[("code", code)]].concat(), count);
                }
            }
            Samples::Failures => failures(page, name, labels, numbers),
            Samples::Times(nth) => {
                if let Some(both) = &numbers.histograms {
                    histogram(page, name, labels, &both[nth]);
                }
            }
            Samples::Budget(read) => page.sample(name, labels, read(upstream.budget)),
            Samples::Peers => {
                for state in STATES {
                    let count = upstream.peers.iter().filter(|peer| peer.state == state).count();
                    page.sample(name, &[labels, &[("state", state.name())]].concat(), count);
                }
            }
            Samples::State | Samples::Connections | Samples::Weight | Samples::SlowStart => {}
        }
    }
}

fn failures(page: &mut Page, name: &str, labels: &[(&str, &str)], numbers: &Numbers) {
    let (timeouts, refused) = (numbers.word(TIMEOUTS), numbers.word(REFUSED));
    let others = numbers.word(FAILED).saturating_sub(timeouts + refused);
    for (reason, count) in [("timeout", timeouts), ("refused", refused), ("other", others)] {
        page.sample(name, &[labels, &[("reason", reason)]].concat(), count);
    }
}

fn histogram(page: &mut Page, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
    for (limit, below) in LIMITS.iter().zip(histogram.below) {
        let le = (f64::from(*limit) / 1000.0).to_string();
        page.sample(&format!("{name}_bucket"), &[labels, &[("le", &le)]].concat(), below);
    }
    let times = histogram.times;
    page.sample(&format!("{name}_bucket"), &[labels, &[("le", "+Inf")]].concat(), times.count);
    page.sample(&format!("{name}_sum"), labels, times.sum as f64 / 1000.0);
    page.sample(&format!("{name}_count"), labels, times.count);
}
