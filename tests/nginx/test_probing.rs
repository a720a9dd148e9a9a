//! Probing goes on: beside upstreams that come and go, peers that all hang, timers that have no room, and errors.

use super::backends::Backends;
use super::client::Client;
use super::load::{Connections, Load};
use super::place::Place;
use super::probers::{Made, assert_even, between, conf, lines, made, next, set, shares, states, upstream};
use super::server::{Conf, Nginx};
use super::sick::Sick;
use super::support::{Random, memory};
use super::symptoms::Mode;
use super::system::wait_for;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const UPSTREAMS: usize = 100;
const CHANGERS: usize = 4;

/// From when to when an upstream was there: from the first order sent to the last one acknowledged.
struct Life {
    from: Instant,
    /// When its deletion was sent, and when it was acknowledged.
    to: Option<(Instant, Instant)>,
}

/// Lives of upstreams by number.
type Lives = BTreeMap<usize, Vec<Life>>;

/// One of several that set, replace and delete upstreams of their own, until most of them were probed some times.
fn change_some(nginx: &Nginx, sick: &Sick, peers: &[SocketAddr], number: usize) -> Lives {
    let (mut client, mut random, mut lives) = (Client::new(nginx.admin), Random(number as u64), Lives::new());
    for _ in 0..12 {
        let seen = sick.probed();
        for upstream in (number..UPSTREAMS).step_by(CHANGERS) {
            change_one(&mut client, &mut random, peers, upstream, lives.entry(upstream).or_default());
        }
        wait_for("probing goes on", || sick.probed() >= seen + UPSTREAMS / 2);
    }
    lives
}

fn change_one(client: &mut Client, random: &mut Random, peers: &[SocketAddr], number: usize, lives: &mut Vec<Life>) {
    // One address of its own, and one that twenty of them have.
    let own = [peers[number], peers[UPSTREAMS + number % 5]];
    let setting = format!("set_upstream('u{number}', {})", upstream(&own, "interval = 300, timeout = 200"));
    let lives_now = lives.last().is_some_and(|life| life.to.is_none());
    let deletes = lives_now && random.below(3) == 0;
    let change = if deletes { format!("delete_upstream('u{number}', {{ force = true }})") } else { setting };
    let sent = Instant::now();
    let answer = client.send("POST", "localhost", "/eval", &format!("return require('dyups').{change}"), false);
    assert_eq!(answer.expect("an answer").body, "true", "{change}");
    match deletes {
        true => lives.last_mut().expect("one").to = Some((sent, Instant::now())),
        false if lives_now => {}
        false => lives.push(Life { from: sent, to: None }),
    }
}

/// Probes of an address that no peer had then: begun, or arrived an interval later.
fn stale<'a>(made: &'a [Made], lives: &'a [Life], peer: SocketAddr) -> impl Iterator<Item = (&'a Made, Duration)> {
    let after = |probe: &Made| {
        let life = lives.iter().rev().find(|life| life.from <= probe.begun)?;
        life.to.and_then(|(_, acknowledged)| probe.begun.checked_duration_since(acknowledged))
    };
    made.iter().filter(move |probe| probe.to == peer).filter_map(move |probe| Some((probe, after(probe)?)))
}

#[test]
fn upstreams_added_and_deleted_while_probing_have_no_probe_after_their_deletion_and_none_twice_and_none_missing() {
    let place = Place::new("come-and-go");
    let sick = Sick::everywhere();
    let peers = sick.peers(UPSTREAMS as u16 + 5);
    let nginx = Nginx::start(&place, &conf(&place, 2, ""));
    let interval = Duration::from_millis(300);
    let begun = Instant::now();
    let mut lives = Lives::new();
    std::thread::scope(|scope| {
        let (nginx, sick, peers) = (&nginx, &sick, &peers);
        let changers: Vec<_> =
            (0..CHANGERS).map(|number| scope.spawn(move || change_some(nginx, sick, peers, number))).collect();
        changers.into_iter().for_each(|changer| lives.extend(changer.join().expect("a changer")));
    });
    let changed = Instant::now();
    let stay: Vec<_> = (0..UPSTREAMS).filter(|number| lives[number].last().expect("one").to.is_none()).collect();
    assert!(stay.len() > 20 && stay.len() < 95, "{}", stay.len());
    next(&sick, 6 * (stay.len() + 5));
    let (all, now) = (made(&sick), Instant::now());

    let deletions: usize = lives.values().flatten().filter(|life| life.to.is_some()).count();
    let mut late = 0;
    for (number, lives) in &lives {
        for (probe, after) in stale(&all, lives, peers[*number]) {
            assert!(after < interval, "u{number}: {probe:?} begun {after:?} after its deletion");
            // A worker that has just begun one when the deletion comes may be kept from its CPU before it says when.
            late += usize::from(after > Duration::from_millis(20));
        }
        for life in lives {
            let to = life.to.map_or(now, |(_, to)| to);
            let count = between(&all, life.from, to).iter().filter(|probe| probe.to == peers[*number]).count();
            let most = (to - life.from).div_duration_f64(interval.mul_f64(0.95)) as usize + 2;
            assert!(count <= most, "u{number}: {count} probes in {:?}", to - life.from);
        }
    }
    assert!(late <= deletions / 100, "{late} probes begun after {deletions} deletions");
    // Those that are there, and the peers that many of them have in common.
    let mut rest: Vec<_> = stay.iter().map(|number| peers[*number]).collect();
    rest.extend(&peers[UPSTREAMS..]);
    let longest = assert_even(&all, &rest, interval, (changed, now));
    let later = shares(&between(&all, changed + interval, now));
    assert_eq!(later.len(), rest.len(), "no other is probed");
    // A new leader of theirs chooses its first time anew; twenty that are probed apart would be twenty times as many.
    for peer in &peers[UPSTREAMS..] {
        let (count, took) = (all.iter().filter(|probe| probe.to == *peer).count(), now - begun);
        assert!(count <= took.div_duration_f64(interval / 2) as usize, "{peer}: {count} probes in {took:?}");
    }
    let arrived = all.len();
    println!("{deletions} deletions, {arrived} probes, {late} late, {} stay, longest pause {longest:?}", stay.len());
    assert_eq!(lines(&nginx, "[error]"), 0);
    nginx.assert_calm();
}

/// Lua: the most connections to peers of [`Sick::everywhere`] that each worker has had open at a time, by its pid. The backend
/// itself sees the end of one after the beginning of the next where its machine is busy.
const COUNT: &str = r#"
local tcp, pid, open, most = ngx.socket.tcp, ngx.worker.pid(), 0, 0
ngx.socket.tcp = function(...)
    local socket, counts = tcp(...), false
    local connect, close = socket.connect, socket.close
    socket.connect = function(self, host, ...)
        counts = host:find("^127%.1%.")
        open = open + (counts and 1 or 0)
        most = math.max(most, open)
        ngx.shared.most:set(pid, most)
        return connect(self, host, ...)
    end
    socket.close = function(self)
        open = open - (counts and 1 or 0)
        return close(self)
    end
    return socket
end
"#;

#[test]
fn a_thousand_peers_that_hang_hold_up_no_request_and_one_warning_says_the_real_interval() {
    let place = Place::new("all-hang");
    let (sick, well) = (Sick::everywhere(), Sick::start());
    let peers = sick.peers(1000);
    let conf = conf(&place, 2, COUNT);
    let nginx = Nginx::start(&place, &Conf { http: format!("{} lua_shared_dict most 64k;", conf.http), ..conf });
    sick.set_probes(Mode::Hung);
    set(&nginx, "well", &[&well.name], "interval = 200, timeout = 150");
    set(&nginx, "api", &peers, "interval = 500, timeout = 400, fall = 255, concurrency = 10");
    let load = Load::start(nginx.traffic, 2, |worker| _ = worker.get("well", Connections::Fresh));
    let warning = "upstream api: its 1000 peers are probed every ";
    nginx.wait_for_log(warning);
    // Four intervals more, at the pace of two workers.
    next(&sick, 4 * 20);
    let answered = load.count();
    load.wait_for_more(50);
    let (log, seen) = (nginx.log(), load.stop());
    seen.assert_all_good();
    assert_eq!(seen.broken, 0);
    assert_eq!(seen.workers.len(), 2);
    assert!(answered > 100 && seen.slowest < Duration::from_secs(5), "{answered}, {:?}", seen.slowest);
    let most = "local all = {} for _, pid in ipairs(ngx.shared.most:get_keys()) do all[#all + 1] = ngx.shared.most:get(pid) end
                return table.concat(all, ' ')";
    assert_eq!(nginx.eval(most), "10 10", "of each worker");
    assert!(sick.most_probes_at_once() > 10, "and both at a time");
    assert!(well.probed() > 10, "others are probed beside them");
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("are probed every ")).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    // A thousand of 400 ms each, 20 at a time.
    let said = warnings[0].split_once(warning).and_then(|(_, rest)| rest.split(' ').next()).expect("a number");
    let said: u64 = said.parse().expect("a number");
    assert!((15_000..60_000).contains(&said), "{}", warnings[0]);
    println!("{} requests, the slowest took {:?}; {}", seen.total(), seen.slowest, warnings[0]);
    nginx.assert_calm();
}

/// Lua: timers that run until `let_go`, as many as there may be.
const HOGS: &str = "
    local hogs = { held = true }
    package.loaded.hogs = hogs
    for _ = 1, 2 do
        ngx.timer.at(0, function() while hogs.held do ngx.sleep(0.02) end end)
    end
";

const TOO_SMALL: &str = "is lua_max_running_timers too small?";

fn with_timers(conf: Conf, most: u32) -> Conf {
    Conf { http: format!("{} lua_max_running_timers {most};", conf.http), ..conf }
}

/// The message of dyups itself.
fn names_the_limit(nginx: &Nginx) -> bool {
    nginx.log().lines().any(|line| line.contains("dyups: ") && line.contains(TOO_SMALL))
}

#[test]
fn where_timers_have_no_room_probing_begins_when_they_have_and_the_log_names_the_limit() {
    let place = Place::new("hogs");
    let sick = Sick::start();
    let nginx = Nginx::start(&place, &with_timers(conf(&place, 1, HOGS), 2));
    set(&nginx, "api", &[&sick.name], "interval = 100, timeout = 80");
    // nginx says it for each of dyups's timers, one of them once a second.
    wait_for("nginx refuses timers", || lines(&nginx, "lua_max_running_timers are not enough") > 12);
    assert_eq!(sick.probed(), 0);
    nginx.eval("require('hogs').held = false");
    sick.wait_for_probes(0, 3);
    wait_for("dyups names the limit", || names_the_limit(&nginx));
}

#[test]
fn where_no_more_timers_may_be_pending_those_that_are_start_the_others_later() {
    let place = Place::new("pending");
    let sick = Sick::start();
    let conf = conf(&place, 1, "");
    let init_worker = "for _ = 1, 5 do ngx.timer.at(1.5, function() end) end
        local ok, err = require('dyups').start()
        ngx.log(ngx.WARN, 'start: ', tostring(ok), ' ', tostring(err))";
    let http = format!("{} lua_max_pending_timers 6;", conf.http);
    let nginx = Nginx::start(&place, &Conf { init_worker: init_worker.into(), http, ..conf });
    nginx.wait_for_log("start: nil dyups: cannot start a timer: too many pending timers");
    nginx.change(&format!(
        "set_upstream('api', {})",
        super::probers::upstream(&[&sick.name], "interval = 100, timeout = 80")
    ));
    sick.wait_for_probes(0, 3);
    nginx.assert_calm();
}

#[test]
fn where_one_timer_alone_may_run_it_probes_and_the_log_names_the_limit() {
    let place = Place::new("one-timer");
    let sick = Sick::everywhere();
    let peers = sick.peers(10);
    let nginx = Nginx::start(&place, &with_timers(conf(&place, 1, ""), 1));
    set(&nginx, "api", &peers, "interval = 100, timeout = 80");
    sick.wait_for_probes(0, 3);
    wait_for("dyups names the limit", || names_the_limit(&nginx));
    // Also beyond the probes of one handler, before it hands over to a timer that has no room.
    set(&nginx, "api", &peers, "interval = 10, timeout = 10");
    sick.wait_for_probes(sick.probed(), 600);
}

#[test]
fn an_error_in_a_handler_of_peer_state_goes_to_the_log_and_nothing_else_fails() {
    const HANDLERS: &str = "
        local heard = {}
        package.loaded.heard = heard
        local on = require('dyups').on
        assert(on('peer_state', function() error('one that fails') end))
        assert(on('peer_state', function(event) ngx.sleep(0.01) error({}) end))
        assert(on('peer_state', function(event) heard[#heard + 1] = event.to end))
    ";
    let place = Place::new("handlers");
    let sick = Sick::start();
    let nginx = Nginx::start(&place, &conf(&place, 1, HANDLERS));
    let state = || states(&nginx.status(), "api").remove(&sick.name).expect("it is there");
    set(&nginx, "api", &[&sick.name], "interval = 100, timeout = 80, rise = 1, fall = 1");
    for (mode, expected) in [(Mode::Status(500), "unhealthy"), (Mode::Well, "up"), (Mode::Status(500), "unhealthy")] {
        sick.set_probes(mode);
        wait_for(expected, || state() == expected);
    }
    wait_for("all handlers are called", || nginx.eval("return table.concat(require('heard'), ' ')") == "down up down");
    assert_eq!(lines(&nginx, "dyups: a handler of peer_state failed: "), 6);
    assert_eq!(lines(&nginx, "one that fails"), 3);
    sick.wait_for_probes(sick.probed(), 3);
    nginx.assert_calm();
}

#[test]
fn an_error_in_a_probe_or_in_the_timer_itself_ends_neither_probing_nor_its_concurrency() {
    const THROWS: &str = "
        local throws = { tcp = 0, sleep = 0 }
        package.loaded.throws = throws
        local tcp, sleep = ngx.socket.tcp, ngx.sleep
        ngx.socket.tcp = function(...)
            if throws.tcp > 0 then throws.tcp = throws.tcp - 1 error('no socket today') end
            return tcp(...)
        end
        ngx.sleep = function(...)
            if throws.sleep > 0 then throws.sleep = throws.sleep - 1 error('no sleep today') end
            return sleep(...)
        end
    ";
    let place = Place::new("throws");
    let sick = Sick::start();
    let nginx = Nginx::start(&place, &conf(&place, 1, THROWS));
    let state = || states(&nginx.status(), "api").remove(&sick.name).expect("it is there");
    set(&nginx, "api", &[&sick.name], "interval = 50, timeout = 40, rise = 1, fall = 3, concurrency = 1");
    wait_for("it is up", || sick.probed() > 2 && state() == "up");
    nginx.eval("require('throws').tcp = 20");
    nginx.wait_for_log("went from up to down after 3 failed probes: connect: ");
    nginx.wait_for_log("no socket today");
    nginx.wait_for_log("went from down to up");
    for errors in 1..=2 {
        nginx.eval("require('throws').sleep = 1");
        wait_for("it is thrown", || nginx.eval("return require('throws').sleep") == "0");
        sick.wait_for_probes(sick.probed(), 5);
        // The same is said once.
        assert_eq!(lines(&nginx, "no sleep today"), 1, "after {errors}");
    }
    let running = "local C = require('dyups.library').C return C.dyups_probing()";
    wait_for("none is under way", || nginx.eval(running) == "0");
    nginx.assert_calm();
}

#[test]
fn probes_by_the_ten_thousand_leave_no_memory_behind() {
    const PROBES: u64 = 10_000;
    let place = Place::new("probes-memory");
    let backends = Backends::start(&place, 40);
    let init_worker = "assert(require('dyups').start())".to_owned();
    let nginx = Nginx::start(&place, &Conf { init_worker, ..conf(&place, 1, "") });
    set(&nginx, "api", &backends.names, "interval = 10, timeout = 1000, concurrency = 40");
    let mut probes = 0;
    let mut wait_for_probes = |count: u64| {
        let goal = probes + count;
        wait_for("probes", || {
            probes += backends.take_counts().iter().sum::<u64>();
            probes >= goal
        });
        let lua = nginx.eval("collectgarbage() return collectgarbage('count')").parse::<f64>().expect("KiB");
        (memory::private(nginx.worker_pids()[0]), lua)
    };
    let (before, lua_before) = wait_for_probes(PROBES / 2);
    let (after, lua_after) = wait_for_probes(PROBES);
    println!("{probes} probes: {before} KiB and then {after}, of Lua {lua_before:.0} and then {lua_after:.0}");
    assert!(after < before + 1024 && lua_after < lua_before + 512.0, "{before} {after} {lua_before} {lua_after}");
    nginx.assert_calm();
}
