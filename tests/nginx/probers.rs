//! nginx whose probes name the worker that has made them, and the probes as a backend saw them.

use super::place::Place;
use super::server::{Conf, Nginx};
use super::sick::{Probe, Sick};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

/// Lua of init_worker: each probe carries its worker and its begin.
pub const SIGNED: &str = r#"
local tcp, pid = ngx.socket.tcp, ngx.worker.pid()
ngx.socket.tcp = function(...)
    ngx.update_time()
    local signature = ("\r\nX-Worker: %d\r\nX-Begun: %.3f\r\n"):format(pid, ngx.now())
    local socket = tcp(...)
    local send = socket.send
    socket.send = function(self, data) return send(self, (data:gsub("\r\n", signature, 1))) end
    return socket
end
"#;

/// The time that may come on top of two intervals, since machines that run tests sleep.
pub const SLACK: Duration = Duration::from_secs(1);

/// A proxy with signed probes, and more Lua of init_worker before dyups starts.
pub fn conf(place: &Place, workers: usize, init_worker: &str) -> Conf {
    let init_worker = format!("{SIGNED}\n{init_worker}\nassert(require('dyups').start())");
    Conf { init_worker, http: "lua_socket_log_errors off;".into(), ..Conf::new(place, workers) }
}

/// Lua: an upstream of these peers, with these options of its check.
pub fn upstream<S: std::fmt::Display>(servers: &[S], options: &str) -> String {
    let servers: String = servers.iter().map(|server| format!("{{ server = '{server}' }}, ")).collect();
    format!("{{ peers = {{ {servers} }}, healthcheck = {{ url = '/health', {options} }} }}")
}

/// Sets one, or replaces it.
pub fn set<S: std::fmt::Display>(nginx: &Nginx, name: &str, servers: &[S], options: &str) {
    nginx.change(&format!("set_upstream('{name}', {})", upstream(servers, options)));
}

/// The state of each peer of an upstream.
pub fn states(status: &serde_json::Value, name: &str) -> BTreeMap<String, String> {
    let text = |peer: &serde_json::Value, field: &str| {
        peer[field].as_str().unwrap_or_else(|| panic!("{field}: {peer}")).to_owned()
    };
    let peers = status["upstreams"][name]["peers"].as_array().expect("peers");
    peers.iter().map(|peer| (format!("{}:{}", text(peer, "host"), peer["port"]), text(peer, "state"))).collect()
}

/// A probe that has arrived.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    pub to: SocketAddr,
    /// The pid of its worker.
    pub by: u32,
    pub begun: Instant,
    pub at: Instant,
}

/// All probes of a backend, in the order of their arrival.
pub fn made(sick: &Sick) -> Vec<Made> {
    read(sick.probes())
}

/// The next ones, at least so many.
pub fn next(sick: &Sick, count: usize) -> Vec<Made> {
    read(sick.wait_for_probes(sick.probed(), count))
}

fn read(probes: Vec<Probe>) -> Vec<Made> {
    let (now, today) = (Instant::now(), SystemTime::now());
    let since = |begun: f64| today.duration_since(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(begun));
    let read = |probe: Probe| {
        let text = String::from_utf8_lossy(&probe.raw).into_owned();
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).map(str::to_owned);
        let by = field("X-Worker:").and_then(|pid| pid.parse().ok()).unwrap_or_else(|| panic!("signed: {text:?}"));
        let begun = field("X-Begun:").and_then(|time| time.parse().ok()).expect("a time");
        Made { to: probe.to, by, begun: now - since(begun).unwrap_or_default(), at: probe.at }
    };
    probes.into_iter().map(read).collect()
}

/// The workers that have made them.
pub fn workers(made: &[Made]) -> BTreeSet<u32> {
    made.iter().map(|probe| probe.by).collect()
}

/// Of each peer, how many probes each worker has made.
pub fn shares(made: &[Made]) -> BTreeMap<SocketAddr, BTreeMap<u32, usize>> {
    let mut shares: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    made.iter().for_each(|probe| *shares.entry(probe.to).or_default().entry(probe.by).or_default() += 1);
    shares
}

/// How many were made by another worker than the one that makes most of its peer's.
pub fn strays(made: &[Made]) -> usize {
    shares(made).values().map(|by| by.values().sum::<usize>() - by.values().max().expect("one")).sum()
}

/// The probes that arrived between two instants.
pub fn between(made: &[Made], from: Instant, to: Instant) -> Vec<Made> {
    made.iter().filter(|probe| (from..=to).contains(&probe.at)).copied().collect()
}

/// Each of these was probed from one instant to another. None was left alone for more than two intervals, and none was probed
/// more often than once an interval. One that was taken over may have been probed by both, once. Answers the longest pause.
pub fn assert_even(
    made: &[Made],
    peers: &[SocketAddr],
    interval: Duration,
    (from, to): (Instant, Instant),
) -> Duration {
    let most = (to - from).div_duration_f64(interval.mul_f64(0.95)) as usize + 2;
    let mut longest = Duration::ZERO;
    for peer in peers {
        let times: Vec<Instant> = between(made, from, to).iter().filter(|m| m.to == *peer).map(|m| m.at).collect();
        assert!(times.len() <= most, "{peer}: {} probes in {:?}", times.len(), to - from);
        let mut ends = vec![from];
        ends.extend(times);
        ends.push(to);
        let pause = ends.windows(2).map(|ends| ends[1] - ends[0]).max().expect("one");
        assert!(pause <= 2 * interval + SLACK, "{peer}: no probe for {pause:?}");
        longest = longest.max(pause);
    }
    longest
}

/// How many lines of the log have this.
pub fn lines(nginx: &Nginx, text: &str) -> usize {
    nginx.log().lines().filter(|line| line.contains(text)).count()
}
