//! Long answers come in slices: no one holds its worker, and all of them are whole.

use super::place::Place;
use super::server::{Conf, Nginx};
use super::system::wait_for;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;

/// The longest CPU time between two turns of the worker's event loop. CPU time: other processes of a busy machine have no part
/// in it.
const TURNS: &str = r#"
    local ffi = require "ffi"
    ffi.cdef "typedef struct { long sec, nsec; } moment; int clock_gettime(int, moment *);"
    local moment = ffi.new "moment"
    local function cpu_ms()
        ffi.C.clock_gettime(2, moment)
        return tonumber(moment.sec) * 1e3 + tonumber(moment.nsec) / 1e6
    end
    longest_turn = 0
    local last = cpu_ms()
    -- A light thread has the longest turn known to it after each millisecond.
    ngx.timer.at(0, function()
        while not ngx.worker.exiting() do
            ngx.sleep(0.001)
            local now = cpu_ms()
            longest_turn, last = math.max(longest_turn, now - last), now
        end
    end)
"#;

/// Upstreams of 10 peers, and one of many; a route for each.
fn start(place: &Place, upstreams: u32, peers: u32) -> Nginx {
    let mut conf = Conf::new(place, 1);
    conf.setup += "shm_size = '128m', statistics = true, ";
    conf.init_worker += TURNS;
    let nginx = Nginx::start(place, &conf);
    let made = nginx.eval(&format!(
        "local dyups = require 'dyups'
         local function fill(name, count)
             local peers = {{}}
             for i = 1, count do
                 peers[i] = {{ host = '127.' .. math.floor(i / 62500) + 1 .. '.' .. math.floor(i / 250) % 250 .. '.' .. i % 250 + 1, port = 1 }}
             end
             assert(dyups.set_upstream(name, {{ peers = peers }}))
         end
         for i = 1, {upstreams} do
             fill('u' .. i, 10)
             assert(dyups.set_route('h' .. i .. '.example', 'u' .. i))
         end
         fill('many', {peers})
         return true"
    ));
    assert_eq!(made, "true");
    nginx
}

/// The longest turn, in milliseconds, of all since the last call.
fn longest_turn(nginx: &Nginx) -> f64 {
    let turn = nginx.eval("ngx.sleep(0.01) local longest = longest_turn longest_turn = 0 return longest");
    turn.parse().expect("a number")
}

/// The longest turn for which a call of `work` holds the worker. A machine may be slow for a moment, so a long one is measured again.
fn turn_of<T>(nginx: &Nginx, most: f64, mut work: impl FnMut() -> T) -> (f64, T) {
    let mut tries = 0;
    loop {
        longest_turn(nginx);
        let answer = work();
        let turn = longest_turn(nginx);
        tries += 1;
        if turn < most || tries == 3 {
            return (turn, answer);
        }
    }
}

/// The most of 5 ms that a turn takes: the library's 2 ms, sending, and the collection of garbage. A build beside the tests doubles it.
const MOST_MS: f64 = 5.0;

#[test]
fn a_long_answer_holds_its_worker_for_no_more_than_a_few_milliseconds_and_is_whole() {
    let place = Place::new("slices");
    let nginx = start(&place, 1000, 8000);
    let mut sizes = Vec::new();
    for (path, lines, holds) in [
        ("/list", 1001, "u1000\n"),
        ("/detail", 1001 * 2 + 18_000, "server 127.1.32.1:1 weight=1"),
        ("/upstream/many", 8000, "server 127.1.32.1:1\n"),
        ("/routes", 1000, "h1000.example u1000\n"),
        ("/metrics", 18_000 * 3, "dyups_peer_weight{upstream=\"many\",server=\"127.1.32.1:1\"} 1\n"),
        ("/metrics?peers=false", 1001 * 30, "dyups_upstream_requests_total{upstream=\"u1000\"} 0\n"),
        ("/status", 0, "\"changed\":false}"),
        ("/status?stats=true", 0, "\"changed\":false}"),
    ] {
        let (turn, answer) = turn_of(&nginx, MOST_MS, || nginx.admin("GET", path, ""));
        println!("{path}: {} bytes, longest turn {turn:.1} ms of CPU", answer.body.len());
        assert!(turn < MOST_MS, "{path}: {turn} ms");
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body.contains(holds), "{path}");
        assert!(answer.body.lines().count() >= lines, "{path}: {}", answer.body.lines().count());
        sizes.push((path, answer.body.len()));
        if path.starts_with("/status") {
            let status: Value = serde_json::from_str(&answer.body).expect("JSON");
            assert_eq!(status["upstreams"].as_object().map(serde_json::Map::len), Some(1001));
            assert_eq!(status["upstreams"]["many"]["peers"].as_array().map(Vec::len), Some(8000));
            assert_eq!(status["routes"].as_object().map(serde_json::Map::len), Some(1000));
        }
    }
    assert!(sizes.iter().filter(|(_, bytes)| *bytes > 500 << 10).count() >= 4, "they are long: {sizes:?}");
    // As long as that of many peers with traffic.
    let mark = "MARK = 'f;0=0:1' for i = 1, 40000 do MARK = i % 4000 == 0 and MARK .. PART or MARK PART = i % 4000 == 0 and '' or (PART or '') .. (';%x=0:1,7:%x'):format(i, i) end return #MARK";
    assert!(nginx.eval(mark).parse::<usize>().expect("a length") > 500_000);
    for (call, more) in [
        ("status()", "return #value.upstreams.many.peers, tostring(value.changed)"),
        ("status('many', { stats = true })", "return #value.upstreams.many.peers, tostring(value.changed)"),
        ("report('many')", "return #value.peers, tostring(value.changed)"),
        ("report('many', { since = MARK })", "return #value.peers, tostring(value.changed)"),
    ] {
        let lua = format!("local value = assert(require('dyups').{call}) {more}");
        let (turn, answer) = turn_of(&nginx, 2.0 * MOST_MS, || nginx.eval(&lua));
        println!("{call}: longest turn {turn:.1} ms of CPU");
        assert_eq!(answer, "8000 false", "{call}");
        assert!(turn < 2.0 * MOST_MS, "{call}: {turn} ms");
    }
    nginx.assert_calm();
}

/// The bytes that the server sends until it closes, after a first line and headers of the test's own.
fn raw(nginx: &Nginx, head: &str) -> String {
    let mut stream = TcpStream::connect(nginx.admin).expect("it listens");
    stream.write_all(head.as_bytes()).expect("it reads");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("it closes");
    String::from_utf8(bytes).expect("text")
}

#[test]
fn clients_of_old_http_of_head_and_those_that_go_away_harm_nothing() {
    let place = Place::new("slices-clients");
    let nginx = start(&place, 200, 20_000);
    let whole = nginx.admin("GET", "/detail", "").body;
    let old = raw(&nginx, "GET /detail HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let (head, body) = old.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200") && !head.contains("chunked"), "{head}");
    assert!(body == whole, "{} bytes for {}", body.len(), whole.len());
    for path in ["/detail", "/status", "/metrics", "/list"] {
        let head = raw(&nginx, &format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{path}: {head}");
        assert!(head.contains("Content-Type: "), "{path}: {head}");
    }
    // More than the answers that a worker keeps at once, all of them left in the midst.
    for number in 0..100 {
        let path = ["/status", "/metrics", "/detail"][number % 3];
        let mut stream = TcpStream::connect(nginx.admin).expect("it listens");
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).expect("it reads");
        let mut begun = [0; 100];
        stream.read_exact(&mut begun).expect("a begin");
        assert!(begun.starts_with(b"HTTP/1.1 200"));
    }
    assert!(nginx.admin("GET", "/detail", "").body == whole);
    nginx.assert_calm();
}

#[test]
fn a_change_in_the_midst_of_an_answer_is_told_and_each_upstream_in_it_is_of_one_moment() {
    let place = Place::new("slices-changes");
    let nginx = start(&place, 200, 20_000);
    // A client that has not read leaves the answer where it is.
    let mut stream = TcpStream::connect(nginx.admin).expect("it listens");
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut begun = vec![0; 65_536];
    stream.read_exact(&mut begun).expect("a begin");
    nginx.change("set_upstream('many', { peers = { { host = '127.0.0.9', weight = 7 } } })");
    nginx.change("delete_upstream('u99', { force = true })");
    stream.read_to_end(&mut begun).expect("it closes");
    let text = String::from_utf8(begun).expect("text");
    let chunks = text.split_once("\r\n\r\n").expect("a head").1;
    let body = unchunked(chunks);
    let status: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(status["changed"], true);
    let many = status["upstreams"]["many"]["peers"].as_array().expect("it is there");
    let changed = many.iter().filter(|peer| peer["weight"] == 7).count();
    assert!((many.len(), changed) == (20_000, 0) || (many.len(), changed) == (1, 1), "{} {changed}", many.len());
    wait_for("the end", || nginx.status()["changed"] == false);
    nginx.assert_calm();
}

fn unchunked(mut text: &str) -> String {
    let mut body = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a size");
        body += &rest[..size];
        text = &rest[size + 2..];
    }
    body
}
