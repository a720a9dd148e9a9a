//! The metrics of `GET /metrics`: of each upstream and each peer, of the region, and of the workers.

mod page;

pub use page::Format;

use super::peers;
use super::report::Reading;
use crate::error::Result;
use crate::shm::GRANULE;
use crate::shm::Memory;
use crate::shm::layout::{LAYOUT, state};
use crate::state::events::Standing;
use crate::stats::histogram::{BUCKETS, last_of};
use crate::stats::place::Places;
use crate::stats::section::*;
use crate::stats::totals::{Times, Totals};
use crate::table::store::Table;
use page::{Page, Type};

/// The parts that a client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Metrics of each peer. Upstreams have the sums in any case.
    pub peers: bool,
    /// Histograms of each peer.
    pub histograms: bool,
}

/// The limits of histograms, in milliseconds: edges of the buckets in which times are counted, so each count is exact.
const LIMITS: [u32; 12] = [7, 15, 31, 63, 127, 255, 511, 1023, 2047, 4095, 16_383, 65_535];

/// The states that an upstream's peers are counted by.
const STATES: [Standing; 6] =
    [Standing::Up, Standing::Down, Standing::Drain, Standing::Unhealthy, Standing::Checking, Standing::Unavail];

/// One upstream, as it is at one moment.
struct Gathered {
    name: String,
    totals: Totals,
    peers: Vec<Peer>,
}

struct Peer {
    server: String,
    state: Standing,
    conns: u64,
    weight: u64,
    /// None where it has had no traffic.
    totals: Option<Totals>,
}

/// All metrics, as a text.
///
/// # Errors
///
/// - [`crate::error::Code::Changing`], [`crate::error::Code::Damaged`]: the table or its cells cannot be read.
/// - [`crate::error::Code::System`]: the operating system does not say which workers live.
pub fn text(table: &Table, slot: Option<u32>, format: Format, parts: Parts) -> Result<String> {
    let mut page = Page::new(format);
    of_the_region(&mut page, table, slot)?;
    let all = gathered(table, parts)?;
    of_upstreams(&mut page, &all);
    histograms(&mut page, "dyups_upstream", &all, |upstream| vec![(Vec::new(), &upstream.totals)]);
    if parts.peers {
        of_peers(&mut page, &all);
        if parts.histograms {
            histograms(&mut page, "dyups_peer", &all, |upstream| {
                let of = |peer: &'_ Peer| vec![("server", peer.server.clone())];
                let with = |peer| Some((of(peer), peer.totals.as_ref()?));
                upstream.peers.iter().filter_map(with).collect()
            });
        }
    }
    Ok(page.end())
}

fn gathered(table: &Table, parts: Parts) -> Result<Vec<Gathered>> {
    let mut all = Vec::new();
    for stored in table.upstreams()? {
        let name = stored.upstream.name.clone();
        let reading = Places::of(table.region()).map(|places| Reading::of(table, &name, places)).transpose();
        // An upstream that was deleted meanwhile has no numbers.
        let reading = reading.ok().flatten();
        let totals = reading.as_ref().map(Reading::whole).transpose()?.unwrap_or_default();
        let of_peers = reading.as_ref().filter(|_| parts.peers).map(Reading::of_servers).transpose()?;
        let mut numbers = of_peers.unwrap_or_default();
        let states = peers::states(table, &stored)?;
        let peers = stored.upstream.peers.iter().enumerate().map(|(nth, peer)| {
            let state = states.get(nth).copied().unwrap_or_default();
            let server = peer.address.server().to_owned();
            let totals = numbers.remove(&server);
            Peer { server, state: state.state, conns: state.conns, weight: peer.weight.into(), totals }
        });
        all.push(Gathered { peers: peers.collect(), name, totals });
    }
    Ok(all)
}

fn of_the_region(page: &mut Page, table: &Table, slot: Option<u32>) -> Result<()> {
    let region = table.region();
    let (mem, geometry) = (region.mem(), region.geometry());
    let used = mem.load(state::USED)?.saturating_mul(GRANULE as u64);
    let layout = LAYOUT.to_string();
    page.family("dyups_build_info", Type::Gauge, "The version of dyups, and the layout of its region.");
    page.sample("dyups_build_info", &[("version", env!("CARGO_PKG_VERSION")), ("layout", &layout)], 1);
    for (name, help, value) in [
        ("dyups_region_size_bytes", "Size of the region.", geometry.size),
        ("dyups_region_used_bytes", "Bytes of the region's heap that are in use.", used),
        ("dyups_region_free_bytes", "Bytes of the heap that are free.", geometry.heap_bytes().saturating_sub(used)),
        ("dyups_region_records", "Upstreams, and deletions that are remembered.", mem.load(state::RECORDS)?),
        ("dyups_region_max_records", "The most of them.", geometry.records as u64),
        ("dyups_workers", "Workers that have a slot in the region.", region.workers(slot)?.len() as u64),
    ] {
        page.family(name, Type::Gauge, help);
        page.sample(name, &[], value);
    }
    let uncounted = region.sections().map(|sections| sections.uncounted()).transpose()?;
    for (name, help, value) in [
        (
            "dyups_repairs_total",
            "Changes that a dead writer had begun, and that were cleared away.",
            mem.load(state::REPAIRS)?,
        ),
        ("dyups_changes_total", "Numbers of changes that were given out.", mem.load(state::SEQUENCE)?),
        ("dyups_uncounted_tries_total", "Tries without room in the statistics.", uncounted.unwrap_or_default()),
    ] {
        page.family(name, Type::Counter, help);
        page.sample(name, &[], value);
    }
    Ok(())
}

/// Counters of an upstream and of a peer: the rest of the name, the help, and the word.
const COUNTERS: [(&str, &str, usize); 5] = [
    ("requests_total", "Tries that have ended.", REQUESTS),
    ("sent_bytes_total", "Bytes sent to peers.", SENT),
    ("received_bytes_total", "Bytes received from peers.", RECEIVED),
    ("connections_total", "New connections.", CONNECTS),
    ("kept_connections_total", "Tries over connections that nginx had kept.", KEPT),
];

/// Counters that only a peer has.
const OF_A_PEER: [(&str, &str, usize); 4] = [
    ("unavail_total", "How often failed requests took the peer out.", UNAVAIL),
    ("unhealthy_total", "How often probes took the peer out.", UNHEALTHY),
    ("good_probes_total", "Probes that succeeded.", PROBES_GOOD),
    ("failed_probes_total", "Probes that failed.", PROBES_FAILED),
];

/// Writes one sample: its labels, and the totals that it is of.
type Sample<'a> = dyn FnMut(&[(&str, &str)], &Totals) + 'a;

/// Calls back for all upstreams, or for all peers.
type Each<'a> = dyn Fn(&mut Sample<'_>) + 'a;

/// Writes the counters of all that `each` calls back for.
fn counters(page: &mut Page, prefix: &str, which: &[(&str, &str, usize)], each: &Each<'_>) {
    for &(name, help, word) in which {
        let name = format!("{prefix}_{name}");
        page.family(&name, Type::Counter, help);
        each(&mut |labels, totals| page.sample(&name, labels, totals.word(word)));
    }
}

/// Writes answers by status and failures by reason, in the same way.
fn outcomes(page: &mut Page, prefix: &str, each: &Each<'_>) {
    let name = format!("{prefix}_responses_total");
    page.family(&name, Type::Counter, "Answers by status, or by class where a status has no number of its own.");
    each(&mut |labels, totals| {
        for (code, count) in totals.codes() {
            page.sample(&name, &[labels, &[("code", &code)]].concat(), count);
        }
    });
    let name = format!("{prefix}_failures_total");
    page.family(&name, Type::Counter, "Tries without an answer, by reason.");
    each(&mut |labels, totals| {
        let (timeouts, refused) = (totals.word(TIMEOUTS), totals.word(REFUSED));
        let others = totals.word(FAILED).saturating_sub(timeouts + refused);
        for (reason, count) in [("timeout", timeouts), ("refused", refused), ("other", others)] {
            page.sample(&name, &[labels, &[("reason", reason)]].concat(), count);
        }
    });
}

fn of_upstreams(page: &mut Page, all: &[Gathered]) {
    page.family("dyups_upstream_peers", Type::Gauge, "Peers by state.");
    for upstream in all {
        for state in STATES {
            let count = upstream.peers.iter().filter(|peer| peer.state == state).count();
            page.sample("dyups_upstream_peers", &[("upstream", &upstream.name), ("state", state.name())], count);
        }
    }
    let each = |sample: &mut Sample<'_>| {
        all.iter().for_each(|upstream| sample(&[("upstream", &upstream.name)], &upstream.totals));
    };
    counters(page, "dyups_upstream", &COUNTERS, &each);
    outcomes(page, "dyups_upstream", &each);
}

fn of_peers(page: &mut Page, all: &[Gathered]) {
    let each = || all.iter().flat_map(|upstream| upstream.peers.iter().map(move |peer| (upstream, peer)));
    page.family("dyups_peer_state", Type::Gauge, "1 for the state that the peer is in.");
    for (upstream, peer) in each() {
        let labels = [("upstream", &*upstream.name), ("server", &peer.server), ("state", peer.state.name())];
        page.sample("dyups_peer_state", &labels, 1);
    }
    for (name, help, value) in [
        (
            "dyups_peer_connections",
            "Connections that all workers have open.",
            (|peer: &Peer| peer.conns) as fn(&Peer) -> u64,
        ),
        ("dyups_peer_weight", "The weight.", |peer| peer.weight),
    ] {
        page.family(name, Type::Gauge, help);
        each().for_each(|(upstream, peer)| {
            page.sample(name, &[("upstream", &upstream.name), ("server", &peer.server)], value(peer));
        });
    }
    let counted = |sample: &mut Sample<'_>| {
        for (upstream, peer) in each() {
            if let Some(totals) = &peer.totals {
                sample(&[("upstream", &upstream.name), ("server", &peer.server)], totals);
            }
        }
    };
    counters(page, "dyups_peer", &COUNTERS, &counted);
    counters(page, "dyups_peer", &OF_A_PEER, &counted);
    outcomes(page, "dyups_peer", &counted);
}

/// Writes the two histograms of all that `each` answers of an upstream.
fn histograms<'a>(
    page: &mut Page,
    prefix: &str,
    all: &'a [Gathered],
    each: impl Fn(&'a Gathered) -> Vec<(Vec<(&'static str, String)>, &'a Totals)>,
) {
    type Read = fn(&Totals) -> (Times, [u64; BUCKETS]);
    for (name, help, read) in [
        ("header_seconds", "Time until the header of the answer.", Totals::header_times as Read),
        ("response_seconds", "Time until the end of the answer.", Totals::response_times),
    ] {
        let name = format!("{prefix}_{name}");
        page.family(&name, Type::Histogram, help);
        for upstream in all {
            for (more, totals) in each(upstream) {
                let labels: Vec<(&str, &str)> = std::iter::once(("upstream", &*upstream.name))
                    .chain(more.iter().map(|(label, text)| (*label, &**text)))
                    .collect();
                histogram(page, &name, &labels, read(totals));
            }
        }
    }
}

fn histogram(page: &mut Page, name: &str, labels: &[(&str, &str)], (times, counts): (Times, [u64; BUCKETS])) {
    for limit in LIMITS {
        let within = counts.iter().enumerate().filter(|(at, _)| last_of(*at).is_some_and(|last| last <= limit));
        let below: u64 = within.map(|(_, count)| count).sum();
        let le = (f64::from(limit) / 1000.0).to_string();
        page.sample(&format!("{name}_bucket"), &[labels, &[("le", &le)]].concat(), below);
    }
    page.sample(&format!("{name}_bucket"), &[labels, &[("le", "+Inf")]].concat(), times.count);
    page.sample(&format!("{name}_sum"), labels, times.sum as f64 / 1000.0);
    page.sample(&format!("{name}_count"), labels, times.count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_an_edge_of_the_buckets() {
        assert!(LIMITS.iter().all(|&limit| (0..BUCKETS).any(|at| last_of(at) == Some(limit))));
    }
}
