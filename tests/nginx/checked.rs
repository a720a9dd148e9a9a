//! An nginx whose upstreams are probed, and the news that it gives of their peers.

use super::place::Place;
use super::server::{Conf, Nginx};
use super::system::wait_for;
use serde_json::{Value, json};

/// Lua: two handlers of peer_state. One fails, and one keeps the events that it gets, with the time.
const HANDLERS: &str = r#"
    local clock = dofile("@clock@")
    local dyups = require "dyups"
    assert(dyups.on("peer_state", function() error("this handler fails") end))
    assert(dyups.on("peer_state", function(event)
        local said = { clock(), event.upstream, event.server, event.from, event.to, event.after, event.why }
        local events = ngx.shared.events
        assert(events:set(events:incr("count", 1, 0), table.concat(said, "\t")))
    end))
"#;

/// In the http block: peers that are gone are no news, and clients do not wait long for them.
const HTTP: &str = "
    lua_shared_dict events 1m;
    lua_socket_log_errors off;
    proxy_connect_timeout 300ms;
    proxy_read_timeout 300ms;
";

pub struct Checked {
    pub nginx: Nginx,
}

/// A peer has come up or gone down.
#[derive(Clone, Debug)]
pub struct Change {
    /// When its handler ran, in microseconds of [`super::wrk::clock`]: the verdict was in force by then.
    pub at: u64,
    pub upstream: String,
    pub server: String,
    pub from: String,
    pub to: String,
    pub after: usize,
    pub why: String,
}

impl Change {
    fn read(line: &str) -> Change {
        let fields: Vec<&str> = line.split('\t').collect();
        let [at, upstream, server, from, to, after, why] = fields[..] else { panic!("{line:?}") };
        let [upstream, server, from, to, why] = [upstream, server, from, to, why].map(str::to_owned);
        let (at, after) = (at.parse().expect("a time"), after.parse().expect("a number"));
        Change { at, upstream, server, from, to, after, why }
    }

    /// Its line in the log.
    pub fn line(&self) -> String {
        let Change { upstream, server, from, to, after, why, .. } = self;
        let results = if to == "up" { "good" } else { "failed" };
        let s = if *after == 1 { "" } else { "s" };
        format!("upstream {upstream}: peer {server} went from {from} to {to} after {after} {results} probe{s}: {why}")
    }
}

/// Peers at these addresses, probed like this.
pub fn upstream(servers: &[impl AsRef<str>], check: &Value) -> Value {
    let peers: Vec<Value> = servers.iter().map(|server| json!({ "server": server.as_ref() })).collect();
    json!({ "peers": peers, "healthcheck": check })
}

impl Checked {
    /// With this more in the http block, and an upstreams file.
    pub fn start(place: &Place, workers: usize, http: &str, upstreams: &Value) -> Checked {
        Checked { nginx: Nginx::start(place, &Checked::conf(place, workers, http, upstreams)) }
    }

    pub fn conf(place: &Place, workers: usize, http: &str, upstreams: &Value) -> Conf {
        let file = place.write("upstreams.json", &json!({ "upstreams": upstreams }).to_string());
        let mut conf = Conf::new(place, workers).files(&[&file]);
        conf.http += HTTP;
        conf.http += http;
        let clock = place.clock();
        conf.init_worker += &HANDLERS.replace("@clock@", &clock.display().to_string());
        conf
    }

    /// Replaces an upstream, or makes it.
    pub fn set(&self, name: &str, upstream: &Value) {
        self.nginx.change(&format!("set_upstream('{name}', require('cjson').decode([==[{upstream}]==]))"));
    }

    /// The peers of an upstream in status.
    pub fn peers(&self, name: &str) -> Vec<Value> {
        let status = self.nginx.status();
        status["upstreams"][name]["peers"].as_array().unwrap_or_else(|| panic!("no {name}")).clone()
    }

    pub fn states(&self, name: &str) -> Vec<String> {
        self.peers(name).iter().map(|peer| peer["state"].as_str().expect("a state").to_owned()).collect()
    }

    pub fn wait_for_states(&self, name: &str, states: &[&str]) {
        wait_for(&format!("{name} is {states:?}"), || self.states(name) == states);
    }

    /// The events of the handlers of all workers, in its order.
    pub fn changes(&self) -> Vec<Change> {
        let all = self.nginx.eval(
            "local all, events = {}, ngx.shared.events
             for i = 1, events:get('count') or 0 do
                 all[#all + 1] = events:get(i)
             end
             return table.concat(all, '\\n')",
        );
        all.lines().map(Change::read).collect()
    }

    /// The same of one upstream.
    pub fn changes_of(&self, upstream: &str) -> Vec<Change> {
        self.changes().into_iter().filter(|change| change.upstream == upstream).collect()
    }

    /// Lines of the log that say that a peer has changed, from its upstream's name on.
    pub fn lines(&self) -> Vec<String> {
        let log = self.nginx.error_log();
        let change = |line: &str| {
            let (_, said) = line.split_once("dyups: ")?;
            said.contains(" went from ").then(|| said.split(", context:").next().unwrap_or(said).to_owned())
        };
        log.lines().filter_map(change).collect()
    }

    /// The last change of an upstream, once it is one to this state. `status` shows a state before its event comes.
    pub fn wait_for_change(&self, upstream: &str, to: &str) -> Change {
        let mut found = None;
        wait_for(&format!("{upstream} is told to be {to}"), || {
            found = self.changes_of(upstream).pop().filter(|change| change.to == to);
            found.is_some()
        });
        found.expect("waited for")
    }

    /// Each change is one line and one event, over all workers.
    pub fn assert_each_change_is_one_line_and_one_event(&self) {
        // A handler is called after the line is written.
        wait_for("all changes are told", || self.changes().len() >= self.lines().len());
        let mut events: Vec<String> = self.changes().iter().map(Change::line).collect();
        let mut lines = self.lines();
        events.sort_unstable();
        lines.sort_unstable();
        assert_eq!(events, lines, "what handlers heard, and what the log says");
        let failed = self.nginx.error_log().matches("a handler of peer_state failed: ").count();
        assert_eq!(failed, lines.len(), "times that the handler which fails was called");
    }
}
