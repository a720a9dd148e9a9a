//! Reports and metrics of the statistics of tries; test_tries sees that these are right.

use super::client::Client;
use super::place::{self, Place};
use super::server::{Conf, Nginx};
use super::system::wait_for;
use super::tries;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

const PROXY: &str = r#"
    upstream api {
        server 127.0.0.1:1;
        balancer_by_lua_block { require("dyups").balance("api", nil, nil, { retry_percent = false }) }
        keepalive 8;
    }
    server {
        listen @proxy@ reuseport;
        @tries@
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_next_upstream error timeout http_503;
        location / { proxy_pass http://api; }
        location /timeout { proxy_read_timeout 30ms; proxy_next_upstream_tries 2; proxy_pass http://api/slow; }
    }
"#;

const BACKEND: &str = r#"
    server {
        listen @backend@;
        location = /ok { return 200 "well"; }
        location = /404 { return 404; }
        location = /500 { return 500; }
        location = /503 { return 503; }
        location = /slow { content_by_lua_block { ngx.sleep(0.05) ngx.say("late") } }
        location = /close { return 444; }
    }
"#;

const PATHS: [&str; 7] = ["/ok", "/404", "/500", "/503", "/slow", "/close", "/timeout"];

fn report(nginx: &Nginx, options: &str) -> Value {
    let json =
        nginx.eval(&format!("return require('cjson').encode(assert(require('dyups').report('api', {options})))"));
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

struct World {
    nginx: Nginx,
    proxy: SocketAddr,
    servers: Vec<String>,
}

/// Three backends that answer, and perhaps one that refuses.
fn started(place: &Place, setup: &str, refuses: bool) -> World {
    let [proxy, nowhere] = [place::free_address(), place::free_address()];
    let backends: Vec<SocketAddr> = (0..3).map(|_| place::free_address()).collect();
    let mut conf = Conf::new(place, 2);
    conf.setup += setup;
    conf.http += tries::FORMAT;
    conf.http += &PROXY
        .replace("@proxy@", &proxy.to_string())
        .replace("@tries@", &tries::LOG.replace("@log@", &place.path("tries.log").display().to_string()));
    conf.http += &backends.iter().map(|at| BACKEND.replace("@backend@", &at.to_string())).collect::<String>();
    let nginx = Nginx::start(place, &conf);
    let mut servers: Vec<String> = backends.iter().map(SocketAddr::to_string).collect();
    servers.extend(refuses.then(|| nowhere.to_string()));
    nginx.post("api", &servers.iter().map(|server| format!("server {server} max_fails=0;")).collect::<String>());
    World { nginx, proxy, servers }
}

/// Requests of each kind.
fn ask(proxy: SocketAddr, count: usize) {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || {
                let mut client = Client::new(proxy);
                (0..count / 4).for_each(|nth| drop(client.get("api", PATHS[nth % PATHS.len()])));
            });
        }
    });
}

#[test]
fn a_report_is_of_a_window_and_of_the_time_since_another_report_and_outlives_reloads() {
    let place = Place::new("reports");
    let World { nginx, proxy, servers } = started(&place, "", true);
    let get = |count: usize, path: &str| (0..count).for_each(|_| drop(Client::new(proxy).get_fresh("api", path)));
    get(40, "/ok");
    let requests = |options: &str| report(&nginx, options)["requests"].as_u64().expect("a number");
    wait_for("40 are counted", || report(&nginx, "nil")["codes"]["200"] == 40);
    assert_eq!(
        requests(&format!("'{}'", servers[0])),
        report(&nginx, "nil")["peers"][0]["requests"].as_u64().expect("one")
    );
    // An old worker counts what it still has to do.
    std::thread::scope(|scope| {
        scope.spawn(|| get(1, "/slow"));
        nginx.reload();
    });
    wait_for("it is counted", || report(&nginx, "nil")["codes"]["200"] == 41);
    get(8, "/404");
    wait_for("8 more are counted", || report(&nginx, "nil")["codes"]["404"] == 8);
    let mark = nginx.eval("return require('dyups').report('api').mark");
    get(4, "/500");
    wait_for("4 more are counted", || report(&nginx, "nil")["codes"]["500"] == 4);
    let since = report(&nginx, &format!("{{ since = '{mark}' }}"));
    assert_eq!((&since["codes"]["500"], &since["codes"]["404"]), (&Value::from(4), &Value::Null), "{since}");
    assert!(since["seconds"].as_f64().expect("seconds") > 0.0);
    // A replaced list keeps the numbers of the peers that stay.
    let before = report(&nginx, "nil")["peers"][1]["requests"].clone();
    nginx.post("api", &servers[1..3].iter().map(|server| format!("server {server};")).collect::<String>());
    let after = report(&nginx, "nil");
    assert_eq!((&after["peers"][0]["requests"], &after["codes"]["200"]), (&before, &Value::from(41)));
    wait_for("the last minute has all", || report(&nginx, "{ seconds = 60 }")["codes"]["5xx"] == 4);
    let minute = report(&nginx, "{ seconds = 60 }");
    assert_eq!((&minute["codes"]["2xx"], &minute["codes"]["4xx"]), (&Value::from(41), &Value::from(8)), "{minute}");
    for (options, message) in [
        ("{ seconds = 0 }", "options.seconds: 0: allowed: an integer from 1 to 3600"),
        ("{ since = 'x' }", "options.since: \"x\": allowed: a report, or the mark of one"),
        ("'10.9.9.9:1'", "peer \"10.9.9.9:1\": not found"),
    ] {
        let said = nginx.eval(&format!("return select(2, require('dyups').report('api', {options}))"));
        assert!(said.contains(message), "{said}");
    }
}

/// GET /metrics with this query and `Accept`: the headers and the body.
fn metrics(nginx: &Nginx, query: &str, accept: &str) -> (String, String) {
    let mut stream = TcpStream::connect(nginx.admin).expect("it listens");
    let request = format!("GET /metrics{query} HTTP/1.0\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

/// What promtool has to say of a page.
fn promtool(page: &str) -> String {
    let mut tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tools/deps installs it");
    tool.stdin.take().expect("piped").write_all(page.as_bytes()).expect("it reads");
    let output = tool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    format!("{said}{}", if output.status.success() { "" } else { "it failed" })
}

/// The value of the one sample that begins so.
fn sample(page: &str, labels: &str) -> f64 {
    let mut found = page.lines().filter_map(|line| line.strip_prefix(labels)?.strip_prefix(' '));
    let value = found.next().unwrap_or_else(|| panic!("no {labels} in {page}"));
    assert_eq!(found.next(), None, "{labels}");
    value.parse().expect("a number")
}

#[test]
fn metrics_agree_with_the_report_and_promtool_finds_no_fault() {
    let place = Place::new("metrics");
    let World { nginx, proxy, servers } = started(&place, "", true);
    nginx.post("none", "server 10.0.0.1 down;");
    ask(proxy, 400);
    let mut whole = Value::Null;
    wait_for("all tries are counted", || {
        let all = tries::logged(&std::fs::read_to_string(place.path("tries.log")).expect("a log")).len();
        whole = report(&nginx, "nil");
        whole["requests"] == all && all > 400
    });
    let (head, page) = metrics(&nginx, "", "*/*");
    assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
    assert_eq!(promtool(&page), "");
    let number = |value: &Value| value.as_f64().expect("a number");
    assert_eq!(sample(&page, "dyups_upstream_requests_total{upstream=\"api\"}"), number(&whole["requests"]));
    assert_eq!(
        sample(&page, "dyups_upstream_responses_total{upstream=\"api\",code=\"200\"}"),
        number(&whole["codes"]["200"])
    );
    assert_eq!(
        sample(&page, "dyups_upstream_failures_total{upstream=\"api\",reason=\"refused\"}"),
        number(&whole["refused"])
    );
    let retries = sample(&page, "dyups_upstream_retries_total{upstream=\"api\"}");
    assert!(retries == number(&whole["retries"]) && retries > 50.0, "{retries}");
    assert_eq!(sample(&page, "dyups_upstream_refused_retries_total{upstream=\"api\"}"), 0.0);
    assert!(sample(&page, "dyups_upstream_retry_budget_requests{upstream=\"api\"}") >= 100.0);
    assert_eq!(sample(&page, "dyups_upstream_peers{upstream=\"none\",state=\"down\"}"), 1.0);
    let count = number(&whole["response_time"]["count"]);
    assert_eq!(sample(&page, "dyups_upstream_response_seconds_count{upstream=\"api\"}"), count);
    assert_eq!(sample(&page, "dyups_upstream_response_seconds_bucket{upstream=\"api\",le=\"+Inf\"}"), count);
    let first = format!("dyups_peer_requests_total{{upstream=\"api\",server=\"{}\"}}", servers[0]);
    assert_eq!(sample(&page, &first), number(&whole["peers"][0]["requests"]));
    assert!(!page.contains("dyups_peer_response_seconds"));
    let (_, page) = metrics(&nginx, "?histograms=peers", "*/*");
    assert_eq!(promtool(&page), "");
    assert!(page.contains("dyups_peer_response_seconds_bucket"));
    let (head, page) = metrics(&nginx, "?peers=false", "application/openmetrics-text; version=1.0.0");
    assert!(head.contains("Content-Type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(
        page.ends_with("# EOF\n")
            && !page.contains("dyups_peer_")
            && page.contains("# TYPE dyups_upstream_requests counter")
    );
}

#[test]
fn without_room_and_without_statistics_all_else_goes_on() {
    let place = Place::new("no-statistics");
    let World { nginx, proxy, .. } = started(&place, "statistics = false, ", false);
    (0..20).for_each(|_| assert_eq!(Client::new(proxy).get_fresh("api", "/ok").expect("an answer").status, 200));
    let said = nginx.eval("return select(2, require('dyups').report('api'))");
    assert!(said.contains("statistics are off"), "{said}");
    nginx.assert_calm();
    drop(nginx);
    let place = Place::new("little-room");
    let World { nginx, proxy, servers } = started(&place, "stats_size = '64k', ", false);
    // Each upstream takes four units of 22 or so.
    for name in 0..10 {
        let lines: String = servers.iter().map(|server| format!("server {server} max_fails=0;")).collect();
        nginx.post(&format!("u{name}"), &lines);
    }
    (0..20).for_each(|_| assert_eq!(Client::new(proxy).get_fresh("api", "/ok").expect("an answer").status, 200));
    wait_for("they are counted", || report(&nginx, "nil")["codes"]["200"] == 20);
    nginx.assert_calm();
}
