//! Hosts that lead to upstreams by routes: which of them, when a route changes, and what outlives what.

use super::backends::Backends;
use super::client::Client;
use super::load::{Connections, Load, requests};
use super::place::{self, Place};
use super::server::{Conf, Nginx};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A block that `balance` serves, beside that of `find`. The answer says which peers were tried.
const BALANCED: &str = "
    upstream balanced {
        server 127.0.0.1:1;
        balancer_by_lua_block { require('dyups').balance(ngx.var.host) }
        keepalive 64;
    }
";
const LOCATION: &str = "
    location /balanced {
        proxy_pass http://balanced;
        proxy_set_header Host $host;
        add_header X-Tried $upstream_addr always;
    }
";

/// A nginx whose picks look for a route first, and where each of these upstreams has the backend of its number.
fn start(place: &Place, workers: usize, backends: &Backends, names: &[&str]) -> Nginx {
    let mut conf = Conf::new(place, workers);
    conf.setup += "routes = true, ";
    (conf.http, conf.locations) = (BALANCED.into(), LOCATION.into());
    let nginx = Nginx::start(place, &conf);
    for (name, backend) in names.iter().zip(&backends.names) {
        nginx.post(name, &format!("server {backend};"));
    }
    nginx
}

fn answers(nginx: &Nginx, host: &str, path: &str) -> (u16, String) {
    let answer = nginx.get(host, path);
    (answer.status, answer.body)
}

#[test]
fn hosts_lead_to_their_upstreams_in_find_and_in_balance() {
    let place = Place::new("routes");
    let backends = Backends::start(&place, 3);
    let nginx = start(&place, 2, &backends, &["blue", "green", "www.example.com"]);
    let [blue, green, own] = [0, 1, 2].map(|index| (200, backends.names[index].clone()));
    for path in ["/", "/balanced"] {
        assert_eq!(answers(&nginx, "www.example.com", path), own, "without a route, the upstream of this name");
        assert_eq!(answers(&nginx, "nowhere.example", path).0, 502);
        nginx.change("set_route('WWW.example.com.', 'blue')");
        nginx.change("set_route('*.example.com', 'green')");
        assert_eq!(answers(&nginx, "www.Example.com", path), blue);
        assert_eq!(answers(&nginx, "a.b.example.com", path), green);
        assert_eq!(answers(&nginx, "nowhere.example", path).0, 502);
        nginx.change("set_route('default', 'blue')");
        assert_eq!(answers(&nginx, "nowhere.example", path), blue);
        assert_eq!(answers(&nginx, "green", path), blue, "the route of all others goes before an upstream's name");
        assert_eq!(nginx.eval("return require('dyups').route('x.example.com')"), "green");
        for host in ["default", "www.example.com", "*.example.com"] {
            nginx.change(&format!("delete_route('{host}')"));
        }
        assert_eq!(nginx.eval("return require('dyups').route('x.example.com')"), "nil not found");
    }
    nginx.assert_calm();
}

#[test]
fn in_a_timer_the_key_of_find_stands_for_the_variable_of_a_route() {
    let place = Place::new("routes-timer");
    let backends = Backends::start(&place, 2);
    let nginx = start(&place, 1, &backends, &["blue", "green"]);
    nginx.change("set_route('split', { { 'blue', 1 }, { 'green', 1 } }, { key = '$cookie_u' })");
    let found = nginx.eval(
        "local dyups, done, found, of = require('dyups'), false, {}, {}
         assert(ngx.timer.at(0, function()
             for i = 1, 20 do
                 local peer = dyups.find('split', 'user ' .. i)
                 of[peer] = peer == dyups.find('split', 'user ' .. i) and dyups.route('split', 'user ' .. i) or 'another one'
                 local turn = dyups.find('split')
                 found[turn] = (found[turn] or 0) + 1
             end
             done = true
         end))
         while not done do ngx.sleep(0.01) end
         local all = {}
         for peer, upstream in pairs(of) do all[#all + 1] = peer .. ' ' .. upstream .. ' ' .. found[peer] end
         table.sort(all)
         return table.concat(all, ', ')",
    );
    let mut expected = [0, 1].map(|index| format!("{} {} 10", backends.names[index], ["blue", "green"][index]));
    expected.sort();
    assert_eq!(found, expected.join(", "));
    nginx.assert_calm();
}

#[test]
fn routes_are_stored_and_followed_by_route_alone_where_setup_does_not_say_routes() {
    let place = Place::new("routes-off");
    let backends = Backends::start(&place, 2);
    let nginx = Nginx::start(&place, &Conf::new(&place, 2));
    nginx.post("www", &format!("server {};", backends.names[0]));
    nginx.post("green", &format!("server {};", backends.names[1]));
    nginx.change("set_route('www', 'green')");
    assert_eq!(answers(&nginx, "www", "/"), (200, backends.names[0].clone()));
    assert_eq!(nginx.eval("return require('dyups').route('www')"), "green");
}

#[test]
fn a_split_is_exact_over_all_workers_and_by_a_key_each_value_stays() {
    let place = Place::new("split");
    let backends = Backends::start(&place, 2);
    let nginx = start(&place, 2, &backends, &["blue", "green"]);
    nginx.change("set_route('www', { { 'blue', 90 }, { 'green', 10 } })");
    backends.take_counts();
    requests(nginx.traffic, "www", 1000, 4, Connections::Fresh).assert_all_good();
    assert_eq!(backends.take_counts(), [900, 100]);
    nginx.change("set_route('www', { { 'blue', 50 }, { 'green', 50 } }, { key = '$arg_user' })");
    let mut of_key: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    let mut workers = BTreeSet::new();
    for round in 0..4 {
        let path = ["/?user=", "/balanced?user="][round % 2];
        for user in 0..40 {
            let answer = nginx.get("www", &format!("{path}{user}"));
            assert_eq!(answer.status, 200);
            workers.extend(answer.header("x-worker").map(str::to_owned));
            of_key.entry(user).or_default().insert(answer.body);
        }
    }
    assert_eq!(workers.len(), 2, "both workers served");
    assert!(of_key.values().all(|backends| backends.len() == 1), "{of_key:?}");
    let both: BTreeSet<&String> = of_key.values().flatten().collect();
    assert_eq!(both.len(), 2);
    // Without a value requests take turns.
    backends.take_counts();
    requests(nginx.traffic, "www", 100, 4, Connections::Fresh).assert_all_good();
    assert_eq!(backends.take_counts(), [50, 50]);
    nginx.assert_calm();
}

#[test]
fn a_route_by_a_key_in_a_timer_takes_turns_and_harms_no_worker() {
    let place = Place::new("split-timer");
    let backends = Backends::start(&place, 2);
    let nginx = start(&place, 1, &backends, &["blue", "green"]);
    nginx.change("set_route('www', { { 'blue', 1 }, { 'green', 1 } }, { key = '$binary_remote_addr' })");
    let pids = nginx.worker_pids();
    let lua = "local found = {}
        assert(ngx.timer.at(0, function()
            for i = 1, 4 do found[i] = require('dyups').find('www') or 'nil' end
            found.done = true
        end))
        while not found.done do ngx.sleep(0.01) end
        table.sort(found)
        return table.concat(found, ' ')";
    let mut names = [0, 0, 1, 1].map(|index| backends.names[index].clone());
    names.sort();
    assert_eq!(nginx.eval(lua), names.join(" "));
    assert_eq!(nginx.worker_pids(), pids);
    nginx.assert_calm();
}

#[test]
fn the_retry_of_a_request_stays_with_the_upstream_that_its_turn_has_led_to() {
    let place = Place::new("split-retry");
    let backends = Backends::start(&place, 2);
    let nginx = start(&place, 2, &backends, &[]);
    let dead = [place::free_address().to_string(), place::free_address().to_string()];
    for (index, name) in ["blue", "green"].iter().enumerate() {
        let (dead, alive) = (&dead[index], &backends.names[index]);
        nginx.post(name, &format!("server {dead} max_fails=0; server {alive} max_fails=0;"));
    }
    nginx.change("set_route('www', { { 'blue', 1 }, { 'green', 1 } })");
    let mut retried = BTreeSet::new();
    for _ in 0..200 {
        let answer = nginx.get("www", "/balanced");
        assert_eq!(answer.status, 200);
        let tried = answer.header("x-tried").expect("the header").to_owned();
        if let Some((first, second)) = tried.split_once(", ") {
            let of = |peer: &str| [&dead[0], &backends.names[0]].iter().any(|name| *name == peer);
            assert_eq!(of(first), of(second), "{tried}");
            retried.insert(of(first));
        }
    }
    assert_eq!(retried.len(), 2, "both had retries");
    nginx.assert_calm();
}

const CHANGES: u64 = 10_000;

#[test]
fn ten_thousand_changes_of_a_route_under_load_lead_no_request_astray() {
    let place = Place::new("route-storm");
    let backends = Arc::new(Backends::start(&place, 2));
    let nginx = start(&place, 2, &backends, &["blue", "green"]);
    nginx.change("set_route('www', 'blue')");
    // Twice the number of changes that are acknowledged, and one more while the next one is on its way.
    let word = Arc::new(AtomicU64::new(0));
    let load = {
        let (word, backends) = (word.clone(), backends.clone());
        Load::start(nginx.traffic, 4, move |worker| {
            let connections = if worker.number == 0 { Connections::Fresh } else { Connections::Kept };
            let before = word.load(Ordering::SeqCst);
            let Some(answer) = worker.get("www", connections) else { return };
            let after = word.load(Ordering::SeqCst);
            let target = backends.names.iter().position(|name| *name == answer.body);
            let is_settled = before == after && before % 2 == 0;
            if target.is_none() || is_settled && target != Some((before / 2 % 2) as usize) {
                worker.seen.wrong.push(format!("after {before}, up to {after}: {target:?}: {}", answer.body));
            }
        })
    };
    let mut client = Client::new(nginx.admin);
    for change in 1..=CHANGES {
        let target = ["blue", "green"][(change % 2) as usize];
        let lua = format!("return require('dyups').set_route('www', '{target}')");
        word.fetch_add(1, Ordering::SeqCst);
        let answer = client.send("POST", "localhost", "/eval", &lua, false);
        assert_eq!(answer.expect("an answer").body, "true");
        word.fetch_add(1, Ordering::SeqCst);
    }
    let seen = load.stop();
    seen.assert_all_good();
    assert!(seen.broken == 0 && seen.total() > 2000, "{} broken of {}", seen.broken, seen.total());
    assert!(backends.names.iter().all(|name| seen.from(name) > 0), "both had their time");
    nginx.assert_calm();
    println!("{} requests during {CHANGES} changes of their route, the slowest {:?}", seen.total(), seen.slowest);
}

#[test]
fn routes_outlive_reloads_deaths_and_a_restart_and_follow_their_files() {
    let place = Place::new("routes-survive");
    let backends = Backends::start(&place, 2);
    let file = |routes: &str| {
        let peers = [0, 1].map(|index| format!(r#"{{"peers": [{{"server": "{}"}}]}}"#, backends.names[index]));
        let [blue, green] = peers;
        let text = format!(r#"{{"upstreams": {{"blue": {blue}, "green": {green}}}, "routes": {{{routes}}}}}"#);
        place.write("upstreams.json", &text)
    };
    let path = file(r#""filed.example": "blue", "moved.example": "blue""#);
    let mut conf = Conf::new(&place, 2).files(&[&path]);
    conf.setup += "routes = true, ";
    let mut nginx = Nginx::start(&place, &conf);
    let [blue, green] = [0, 1].map(|index| (200, backends.names[index].clone()));
    assert_eq!(answers(&nginx, "filed.example", "/"), blue);
    nginx.change("set_route('moved.example', 'green')");
    nginx.change("set_route('made.example', { { 'green', 1 } })");
    let all_lead = |nginx: &Nginx| {
        assert_eq!(answers(nginx, "moved.example", "/"), green);
        assert_eq!(answers(nginx, "made.example", "/"), green);
    };
    all_lead(&nginx);
    assert_eq!(nginx.admin("GET", "/routes", "").body, "filed.example blue\nmade.example green\nmoved.example green\n");
    assert_eq!(nginx.status()["routes"]["moved.example"]["origin"], "runtime");
    assert_eq!(nginx.eval("return require('dyups').routes()['filed.example'].targets[1][1]"), "blue");
    file(r#""filed.example": [["green", 1]]"#);
    nginx.reload();
    assert_eq!(answers(&nginx, "filed.example", "/"), green);
    all_lead(&nginx);
    nginx.kill_workers(&nginx.worker_pids());
    all_lead(&nginx);
    nginx.kill_all();
    nginx.start_again();
    assert_eq!(answers(&nginx, "filed.example", "/"), green);
    all_lead(&nginx);
    nginx.assert_calm();
}

#[test]
fn where_all_upstreams_of_a_route_are_gone_the_answer_is_502_and_the_log_says_why() {
    let place = Place::new("routes-lost");
    let backends = Backends::start(&place, 2);
    let nginx = start(&place, 1, &backends, &["blue", "green"]);
    nginx.change("set_route('www', { { 'blue', 1 }, { 'green', 1 } })");
    let refused = nginx.eval("return require('dyups').delete_upstream('blue')");
    assert_eq!(refused, "nil upstream blue: not empty: it has 1 peer: delete first, or force");
    nginx.change("delete_upstream('blue', { force = true })");
    for path in ["/", "/balanced", "/", "/balanced"] {
        assert_eq!(answers(&nginx, "www", path), (200, backends.names[1].clone()));
    }
    nginx.change("delete_upstream('green', { force = true })");
    for path in ["/", "/balanced"] {
        assert_eq!(answers(&nginx, "www", path).0, 502);
    }
    nginx.wait_for_log("route www: no such upstream");
    nginx.assert_calm();
}
