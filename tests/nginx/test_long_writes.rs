//! A long write leaves its worker to requests: it works in parts of some milliseconds.
//!
//! A light thread of the worker wakes up every millisecond. Between two of its turns the worker uses as much CPU as its longest
//! part takes. It is CPU, since a busy machine takes a worker away for as long as it likes.

use super::client::Client;
use super::place::Place;
use super::server::{Conf, Nginx};
use crate::support::tell;
use std::fmt::Write;

const PEERS: usize = 100_000;
const SERVERS: usize = 200_000;

/// `watch()` begins to watch the worker. `seen()` ends that, and answers the longest time between two turns, and all of it, in
/// milliseconds of CPU and of the wall. `in_one_piece(f)` runs f below a C function, which no yield can cross.
const WATCH: &str = r#"
local ffi = require "ffi"
ffi.cdef "struct timespec { long sec; long nsec; }; int clock_gettime(int, struct timespec *);"
local time = ffi.new("struct timespec")
local function clock(number)
    ffi.C.clock_gettime(number, time)
    return tonumber(time.sec) * 1e3 + tonumber(time.nsec) / 1e6
end
local CLOCKS = { 2, 1 }
local first, last, longest
local function look()
    for i, number in ipairs(CLOCKS) do
        local now = clock(number)
        longest[i], last[i] = math.max(longest[i], now - last[i]), now
    end
end
function watch()
    first, longest = { clock(2), clock(1) }, { 0, 0 }
    last = { first[1], first[2] }
    local this = first
    assert(ngx.timer.at(0, function()
        while first == this do
            look()
            ngx.sleep(0.001)
        end
    end))
    ngx.sleep(0.01)
    return true
end
function seen()
    look()
    local all = { last[1] - first[1], last[2] - first[2] }
    first = nil
    return table.concat({ longest[1], all[1], longest[2], all[2] }, " ")
end
function in_one_piece(f)
    local ok, err
    ("x"):gsub(".", function() ok, err = f() end)
    return ok, err
end
kept = {}
function peers(count, port)
    local list = {}
    for i = 1, count do
        local host = ("10.%d.%d.%d"):format(i / 65536 % 256, i / 256 % 256, i % 256)
        list[i] = { host = host, port = port, weight = 1 }
    end
    return list
end
"#;

fn start(place: &Place) -> Nginx {
    let mut conf = Conf::new(place, 1);
    conf.init_worker = format!("{WATCH}\n{}", conf.init_worker);
    conf.setup = "shm_size = \"256m\", ".into();
    Nginx::start(place, &conf)
}

/// The longest part of a write, in milliseconds of CPU.
fn watched(nginx: &Nginx, what: &str, write: impl FnOnce()) -> f64 {
    assert_eq!(nginx.eval("return watch()"), "true");
    write();
    let said = nginx.eval("return seen()");
    let numbers: Vec<f64> = said.split(' ').map(|number| number.parse().unwrap_or_else(|_| panic!("{said}"))).collect();
    let [longest, all, longest_wall, all_wall] = numbers[..] else { panic!("{said}") };
    tell(format_args!(
        "{what}: {longest:.1} of {all:.1} ms of CPU at a time, {longest_wall:.1} of {all_wall:.1} ms of the wall"
    ));
    longest
}

/// nginx's syntax for so many servers.
fn servers(count: usize, port: u16) -> String {
    (1..=count).fold(String::new(), |mut text, i| {
        let _ = writeln!(text, "server 10.{}.{}.{}:{port};", i >> 16 & 255, i >> 8 & 255, i & 255);
        text
    })
}

/// How many peers of an upstream have each port.
fn ports(nginx: &Nginx, upstream: &str) -> Vec<(String, usize)> {
    let mut ports = std::collections::BTreeMap::new();
    for line in nginx.admin("GET", &format!("/upstream/{upstream}"), "").body.lines() {
        *ports.entry(line.rsplit(':').next().expect("a port").to_owned()).or_default() += 1;
    }
    ports.into_iter().collect()
}

/// Calls `call` with a list of peers of this port at hand, `kept.list`; the longest part. Lua collects its garbage when it is over.
fn set(nginx: &Nginx, what: &str, port: u16, call: &str) -> f64 {
    nginx.eval(&format!("kept.list = peers({PEERS}, {port}) collectgarbage() collectgarbage('stop')"));
    let longest = watched(nginx, what, || assert_eq!(nginx.eval(call), "true"));
    nginx.eval("kept.list = nil collectgarbage('restart') collectgarbage()");
    longest
}

const SET: &str = "function() return require('dyups').set_upstream('lua', { peers = kept.list }) end";

#[test]
fn long_writes_leave_their_worker_to_requests() {
    let place = Place::new("long-writes");
    let nginx = start(&place);
    let whole = set(&nginx, "set_upstream in one piece", 1, &format!("return in_one_piece({SET})"));
    let parts = set(&nginx, "set_upstream in parts", 2, &format!("return ({SET})()"));
    assert!(parts < whole / 3.0, "{parts}, in one piece {whole}");

    // The body of eval has to be short.
    nginx.eval(&format!(
        "local lines = {{}} for i, peer in ipairs(peers({SERVERS}, 3)) do lines[i] = 'server ' .. peer.host .. ':3;\\n' end
         kept.body = table.concat(lines) lines = nil collectgarbage()"
    ));
    let whole = watched(&nginx, "POST in one piece", || {
        let post = "function() return require('dyups.admin').change('POST', 'http', kept.body) end";
        assert_eq!(nginx.eval(&format!("return in_one_piece({post})")), "200 success");
    });
    let body = servers(SERVERS, 3);
    let parts = watched(&nginx, "POST in parts", || nginx.post("http", &body));
    assert_eq!(ports(&nginx, "http"), [("3".to_owned(), SERVERS)]);
    assert!(parts < whole / 3.0, "{parts}, in one piece {whole}");
    let body = servers(SERVERS, 4);
    watched(&nginx, "POST of other peers in parts", || nginx.post("http", &body));
    assert_eq!(ports(&nginx, "http"), [("4".to_owned(), SERVERS)]);
    nginx.assert_calm();
}

#[test]
#[ignore = "needs a quiet machine"]
fn where_most_peers_stay_a_long_write_takes_at_most_ten_milliseconds_at_a_time() {
    let place = Place::new("long-quiet");
    let nginx = start(&place);
    let call = format!("return ({SET})()");
    set(&nginx, "set_upstream, all new", 1, &call);
    let parts = set(&nginx, "set_upstream, as before", 1, &call);
    assert!(parts < 10.0, "{parts} ms");
    let body = servers(PEERS, 1);
    watched(&nginx, "POST, all new", || nginx.post("http", &body));
    let parts = watched(&nginx, "POST, as before", || nginx.post("http", &body));
    assert!(parts < 10.0, "{parts} ms");
}

#[test]
fn a_long_body_with_a_bad_line_changes_nothing_and_the_answer_names_the_line() {
    let place = Place::new("long-bad");
    let nginx = start(&place);
    nginx.post("api", "server 127.0.0.1:1;");
    let body = servers(20_000, 2).replace("10.0.78.31:2;", "10.0.78.31:2 wait=1;");
    let answer = nginx.admin("POST", "/upstream/api", &body);
    assert_eq!((answer.status, answer.body.as_str()), (500, "add server failed"));
    let why = answer.header("x-dyups-error").expect("X-Dyups-Error").to_owned();
    assert!(why.starts_with("body:19999: \"wait=1\" is not known of a server"), "{why}");
    // Short requests have their checks as well: a foreign page, a path, a name.
    for (path, host, status) in
        [("/upstream/api", "evil.example", 403), ("/nothing", "localhost", 404), ("/upstream/a%20b", "localhost", 500)]
    {
        let answer = Client::new(nginx.admin).send("POST", host, path, &servers(20_000, 2), true).expect("an answer");
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    assert_eq!(ports(&nginx, "api"), [("1".to_owned(), 1)]);
    nginx.assert_calm();
}

#[test]
fn of_long_writes_at_once_one_is_the_table_and_the_last_one_stays() {
    let place = Place::new("long-at-once");
    let nginx = start(&place);
    // More than there may be drafts.
    std::thread::scope(|scope| {
        for port in 1..=12 {
            let nginx = &nginx;
            scope.spawn(move || nginx.post("api", &servers(20_000 + usize::from(port), port)));
        }
        for _ in 0..50 {
            assert!(ports(&nginx, "api").len() <= 1, "a mixture");
        }
    });
    let ports = ports(&nginx, "api");
    let [(port, count)] = &ports[..] else { panic!("{ports:?}") };
    assert_eq!(*count, 20_000 + port.parse::<usize>().expect("a port"));
    nginx.assert_calm();
}

#[test]
fn a_client_that_goes_away_leaves_the_old_table_or_the_new_one() {
    let place = Place::new("long-away");
    let mut conf = Conf::new(&place, 1);
    conf.http = "lua_check_client_abort on;".into();
    let nginx = Nginx::start(&place, &conf);
    nginx.post("api", "server 127.0.0.1:1;");
    let body = servers(30_000, 2);
    for round in 0..40 {
        let mut stream = std::net::TcpStream::connect(nginx.admin).expect("connect");
        let head = format!("POST /upstream/api HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        // Some go before they have sent all of it, some while it is worked off.
        let sent = if round % 4 == 0 { body.len() / 2 } else { body.len() };
        std::io::Write::write_all(&mut stream, format!("{head}{}", &body[..sent]).as_bytes()).expect("send");
        std::thread::sleep(std::time::Duration::from_micros(round * 500));
        drop(stream);
        let ports = ports(&nginx, "api");
        assert!(ports == [("1".to_owned(), 1)] || ports == [("2".to_owned(), 30_000)], "{ports:?}");
        nginx.post("api", "server 127.0.0.1:1;");
    }
    // Their drafts are gone: another one is there to be had.
    nginx.eval("collectgarbage() collectgarbage() local C = require('dyups.library').C local id = C.dyups_draft() assert(id > 0) C.dyups_draft_end(id)");
    nginx.assert_calm();
}
