//! An upgrade by USR2 under requests that are held. Each generation sees the sum of the connections that both have open.

use super::counted::{Curl, NAME};
use super::gated::{Gate, Gated};
use super::generations::{Generations, Master};
use super::place::Place;
use super::server::Conf;
use super::system::{PATIENCE, wait_for, wait_until};

const WORKERS: usize = 2;

/// nginx that is upgraded, and a backend that holds.
struct Upgraded {
    nginx: Generations,
    backend: Gated,
    gate: Gate,
}

impl Upgraded {
    fn start(place: &Place) -> (Upgraded, Master) {
        let gate = Gate::default();
        let backend = Gated::start(&gate);
        let balance = r#"balancer_by_lua_block { require("dyups").balance("api") }"#;
        let conf = Conf {
            http: format!("upstream counted {{ server 127.0.0.1:1; {balance} }}"),
            locations: "location /pass/ { proxy_pass http://counted; }".into(),
            ..Conf::new(place, WORKERS)
        };
        let (nginx, old) = Generations::start(place, &conf);
        nginx.post(old, NAME, &format!("server {};\n", backend.name));
        (Upgraded { nginx, backend, gate }, old)
    }

    /// Requests that are held by whichever workers take connections.
    fn hold(&self, count: u64) -> Vec<Curl> {
        let (url, before) = (format!("http://{}/pass/hold", self.nginx.traffic), self.backend.at_once());
        let held = (0..count).map(|_| Curl::start(&[&url])).collect();
        wait_for("they are held", || self.backend.at_once() == before + count);
        held
    }

    /// The open connections that a worker of `master` sees.
    fn wait_for_open(&self, master: Master, total: u64, what: &str) {
        let mut last = 0;
        let met = wait_until(PATIENCE, || {
            let status = self.nginx.status(master);
            last = status["upstreams"][NAME]["peers"][0]["conns"].as_u64().expect("a number");
            last == total
        });
        assert!(met, "{what}: {last} are counted as open, not {total}");
    }

    /// The connections that each worker of `master` holds itself.
    fn held_by(&self, master: Master) -> u64 {
        let mut workers = std::collections::BTreeMap::new();
        wait_for("each worker says what it holds", || {
            let lua = "return ngx.worker.pid() .. ' ' .. require('dyups.library').C.dyups_balancing()";
            let answer = self.nginx.ask(master, "POST", "/eval", lua).body;
            let (pid, held) = answer.split_once(' ').expect("two numbers");
            workers.insert(pid.to_owned(), held.parse::<u64>().expect("a number"));
            workers.len() == WORKERS
        });
        workers.values().sum()
    }

    fn release(&self, held: Vec<Curl>) {
        self.gate.open();
        held.into_iter().for_each(|curl| assert_eq!(curl.status(), 200, "who holds it finishes it"));
    }
}

#[test]
fn what_both_generations_hold_adds_up_until_the_old_one_has_finished() {
    let place = Place::new("upgrade-held");
    let (upgraded, old) = Upgraded::start(&place);
    let nginx = &upgraded.nginx;
    let mut held = upgraded.hold(4);
    upgraded.wait_for_open(old, 4, "before the upgrade");
    let new = nginx.upgrade(old, WORKERS);
    upgraded.wait_for_open(new, 4, "what the old ones hold, as the new ones see it");
    held.extend(upgraded.hold(4));
    for master in [old, new] {
        upgraded.wait_for_open(master, 8, "both generations");
    }
    assert_eq!(upgraded.held_by(old) + upgraded.held_by(new), 8);

    old.signal(libc::SIGQUIT);
    wait_for("the old workers take no more connections", || old.workers().is_empty());
    let before = upgraded.held_by(new);
    held.extend(upgraded.hold(4));
    assert_eq!(upgraded.held_by(new), before + 4);
    upgraded.wait_for_open(new, 12, "the old ones finish what they have");
    upgraded.release(held);
    upgraded.wait_for_open(new, 0, "all have been answered");
    wait_for("the old generation is gone", || nginx.is(new));
    assert_eq!(upgraded.held_by(new), 0);
}

#[test]
fn what_a_generation_that_dies_has_held_is_taken_back_and_the_rest_stays() {
    let place = Place::new("upgrade-killed");
    let (upgraded, old) = Upgraded::start(&place);
    let nginx = &upgraded.nginx;
    let by_old = upgraded.hold(3);
    let new = nginx.upgrade(old, WORKERS);
    // All that comes now is the new one's.
    old.signal(libc::SIGWINCH);
    wait_for("the old workers take no more connections", || old.workers().is_empty());
    let by_new = upgraded.hold(2);
    upgraded.wait_for_open(new, 5, "both generations");
    old.takes_back(WORKERS);
    upgraded.wait_for_open(old, 5, "as those see it that came back");
    nginx.kill(new);
    upgraded.wait_for_open(old, 3, "the new generation has died");
    drop(by_new);
    upgraded.release(by_old);
    upgraded.wait_for_open(old, 0, "all have been answered");
    assert_eq!(upgraded.held_by(old), 0);
}
