//! Retries. Where some peers are dead, clients meet no more errors than with nginx's own upstream beside it. A retry that costs a backend
//! something is within the budget.

use super::certificates::Authority;
use super::client::Client;
use super::gated::{Gate, Gated};
use super::https::Https;
use super::load::{Connections, requests};
use super::place::{self, Place};
use super::server::{Conf, Nginx};
use super::sick::Sick;
use super::symptoms::Mode;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

/// One upstream, of dyups and of nginx, and how they are asked.
struct Case {
    name: &'static str,
    /// The lines in a block of nginx's.
    block: String,
    scheme: &'static str,
    /// More of its location.
    location: String,
    /// Connections are kept.
    kept: bool,
    /// Lua: the key that balance() hashes.
    key: &'static str,
}

impl Case {
    fn new(name: &'static str, servers: &[&str]) -> Case {
        let servers: Vec<_> =
            servers.iter().map(|server| format!("server {server} max_fails=0 fail_timeout=0;\n")).collect();
        Case { name, block: servers.concat(), scheme: "http", location: String::new(), kept: false, key: "nil" }
    }

    fn with(mut self, line: &str) -> Case {
        self.block = format!("{line}\n{}", self.block);
        self
    }

    fn tls(mut self, location: &str) -> Case {
        (self.scheme, self.location) = ("https", location.into());
        self
    }

    fn kept(mut self) -> Case {
        self.kept = true;
        self
    }

    /// nginx.conf: each of the two has a server of its name.
    fn text(&self, address: SocketAddr) -> String {
        let Case { name, block, scheme, location, kept, key } = self;
        let keepalive = if *kept { "keepalive 16;" } else { "" };
        let server = |who: &str| {
            format!(
                "upstream {name}_{who} {{ @{who}@ {keepalive} }}
                 server {{ listen {address}; server_name {name}.{who};
                     location / {{ {location} proxy_pass {scheme}://{name}_{who}; }} }}\n"
            )
        };
        let balance = format!(
            "server 127.0.0.1:1;
             balancer_by_lua_block {{ require('dyups').balance('{name}', {key}, nil, options) }}"
        );
        server("ours").replace("@ours@", &balance) + &server("stock").replace("@stock@", block)
    }
}

const HTTP: &str = "
    proxy_http_version 1.1;
    proxy_set_header Connection '';
    proxy_connect_timeout 100ms;
    set_real_ip_from 127.0.0.0/8;
";

/// An nginx with all of them.
struct Both {
    nginx: Nginx,
    address: SocketAddr,
}

impl Both {
    fn start(place: &Place, options: &str, cases: &[Case]) -> Both {
        let (mut conf, address) = (Conf::new(place, 2), place::free_address());
        conf.init_worker += &format!(" options = {{ {options} }}");
        conf.http += HTTP;
        conf.http.extend(cases.iter().map(|case| case.text(address)));
        let nginx = Nginx::start(place, &conf);
        cases.iter().for_each(|case| nginx.post(case.name, &case.block));
        Both { nginx, address }
    }

    /// How many of `total` requests of `threads` clients are answered with 500 or more, by dyups and by nginx.
    fn errors(&self, case: &str, total: usize, threads: usize) -> [u64; 2] {
        ["ours", "stock"].map(|who| {
            let seen = requests(self.address, &format!("{case}.{who}"), total, threads, Connections::Kept);
            assert_eq!(seen.total(), total as u64);
            seen.statuses.iter().filter(|&(&status, _)| status >= 500).map(|(_, count)| count).sum()
        })
    }

    /// The same, where each request is another client's.
    fn errors_of_clients(&self, case: &str, total: u8) -> [u64; 2] {
        ["ours", "stock"].map(|who| {
            let failed = |client: &u8| {
                // nginx takes the client's address from the header.
                let host = format!("{case}.{who}\r\nX-Real-IP: 10.{client}.{client}.1");
                Client::new(self.address).get_fresh(&host, "/").expect("an answer").status >= 500
            };
            (0..total).filter(failed).count() as u64
        })
    }
}

#[test]
fn where_peers_are_dead_clients_meet_no_more_errors_than_with_nginx_s_own_upstream() {
    let place = Place::new("as-nginx");
    let [one, two, three, deaf] = [(); 4].map(|()| Sick::start());
    deaf.set(Mode::Deaf);
    let socket = place.socket("nobody.sock");
    drop(UnixListener::bind(&socket).expect("a socket"));
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).expect("chmod");
    let dead = [(); 3].map(|()| place::free_address().to_string());
    let [a, b, c] = [&one, &two, &three].map(|sick| sick.name.as_str());
    let [x, y, z] = dead.each_ref().map(String::as_str);
    let both = Both::start(
        &place,
        "",
        &[
            Case::new("one_of_three", &[a, b, x]),
            Case::new("one_of_two", &[a, x]),
            Case::new("three_of_four", &[x, y, a, z]),
            Case::new("no_socket", &[a, &format!("unix:{}", socket.display())]),
            Case::new("few", &[a, x]),
            Case::new("deaf", &[a, &deaf.name]),
            Case::new("hashed", &[a, x, b, c]).with("ip_hash;"),
        ],
    );
    for (case, total, threads) in [
        ("one_of_three", 900, 4),
        ("one_of_two", 400, 1),
        ("three_of_four", 300, 4),
        ("no_socket", 300, 4),
        // As many as in ten seconds at three a second.
        ("few", 30, 1),
        ("deaf", 40, 20),
        ("hashed", 200, 0),
    ] {
        let [ours, stock] = match threads {
            0 => both.errors_of_clients(case, total as u8),
            threads => both.errors(case, total, threads),
        };
        assert!(ours <= stock, "{case}: {ours} of {total} got an error, and {stock} with nginx's own upstream");
    }
    both.nginx.assert_calm();
}

#[test]
fn connections_that_die_while_they_are_kept_cost_no_request() {
    let place = Place::new("dying-kept");
    let gate = Gate::default();
    let backends = [(); 3].map(|()| Gated::start(&gate));
    let [a, b, c] = backends.each_ref().map(|backend| backend.name.as_str());
    let cases = [
        Case::new("one", &[a]).kept(),
        Case::new("two", &[b, c]).kept(),
        Case { key: "ngx.var.uri", ..Case::new("hashed", &[b, c]).with("hash $uri consistent;").kept() },
    ];
    let both = Both::start(&place, "retry_percent = 5, retry_floor = 0", &cases);
    for Case { name, .. } in &cases {
        let [ours, stock] = ["ours", "stock"].map(|who| {
            let client = || {
                let mut client = Client::new(both.address);
                let once = |_: &usize| {
                    let answer = client.get(&format!("{name}.{who}"), "/once").expect("an answer");
                    answer.status != 200
                };
                (0..50).filter(once).count()
            };
            std::thread::scope(|scope| {
                let clients = [(); 4].map(|()| scope.spawn(client));
                clients.into_iter().map(|client| client.join().expect("no panic")).sum::<usize>()
            })
        });
        assert!(
            ours == 0 && ours <= stock,
            "{name}: {ours} of 200 got an error, and {stock} with nginx's own upstream"
        );
        let status = both.nginx.status();
        let peers = status["upstreams"][name]["peers"].as_array().expect("peers");
        assert!(peers.iter().all(|peer| peer["fails"] == 0), "no peer failed: {peers:?}");
    }
    both.nginx.assert_calm();
}

#[test]
fn over_tls_a_peer_that_refuses_costs_no_budget_and_a_handshake_that_fails_does() {
    const REQUESTS: u64 = 100;
    // The floor, and the retries that each of two workers may add when both ask at the same time.
    const MORE: u64 = 5 + 2 * 2;
    let place = Place::new("tls-retries");
    let [ours, others] = ["ours", "others"].map(|name| Authority::new(&place, name));
    let verify =
        format!("proxy_ssl_verify on; proxy_ssl_name sick.test; proxy_ssl_trusted_certificate {};", ours.file());
    let mut well = Https::start(&place, &ours.sign("sick.test"));
    let mut strange = Https::start(&place, &others.sign("sick.test"));
    let mut renamed = Https::start(&place, &ours.sign("another.test"));
    let gate = Gate::default();
    let plain = [(); 2].map(|()| Gated::start(&gate));
    let dead = place::free_address().to_string();
    let both = Both::start(
        &place,
        "retry_percent = 20, retry_floor = 5",
        &[
            Case::new("refused", &[&well.name, &dead]).tls(&verify),
            Case::new("no_tls", &[&plain[0].name, &plain[1].name]).tls(&verify),
            Case::new("wrong", &[&strange.name, &renamed.name]).tls(&verify),
        ],
    );
    let [ours, stock] = both.errors("refused", REQUESTS as usize, 2);
    assert_eq!((ours, stock), (0, 0));
    well.accepted();
    let tries = |accepted: &mut dyn FnMut() -> u64, case: &str| {
        let before = accepted();
        let seen = requests(both.address, &format!("{case}.ours"), REQUESTS as usize, 2, Connections::Kept);
        assert_eq!(seen.statuses.into_iter().collect::<Vec<_>>(), [(502, REQUESTS)], "{case}");
        accepted() - before
    };
    let no_tls = tries(&mut || plain.iter().map(Gated::accepted).sum(), "no_tls");
    let wrong = tries(&mut || strange.accepted() + renamed.accepted(), "wrong");
    for (tries, case) in [(no_tls, "no_tls"), (wrong, "wrong")] {
        let allowed = REQUESTS + 5..=REQUESTS * 12 / 10 + MORE;
        assert!(allowed.contains(&tries), "{case}: {tries} handshakes for {REQUESTS} requests, not {allowed:?}");
    }
    both.nginx.assert_calm();
}

#[test]
fn retries_after_answers_end_with_the_budget_and_clients_get_the_answer() {
    const REQUESTS: u64 = 200;
    let place = Place::new("answers");
    let gate = Gate::default();
    let backends = [(); 4].map(|()| Gated::start(&gate));
    let names = backends.each_ref().map(|backend| backend.name.as_str());
    let mut case = Case::new("answers", &names);
    case.location = "proxy_next_upstream error http_500; rewrite ^ /500 break;".into();
    let both = Both::start(&place, "retry_percent = 20, retry_floor = 5", &[case]);
    let seen = requests(both.address, "answers.ours", REQUESTS as usize, 2, Connections::Kept);
    assert_eq!(seen.statuses.into_iter().collect::<Vec<_>>(), [(500, REQUESTS)], "never nginx's own 502");
    let tries: u64 = backends.iter().map(Gated::requests).sum();
    // Beyond the budget: a retry of each client.
    let allowed = REQUESTS + 5..=REQUESTS * 12 / 10 + 5 + 2 + 2;
    assert!(allowed.contains(&tries), "{tries} tries of {REQUESTS} requests");
    let warnings = both.nginx.error_log().matches("[warn]").count();
    assert!((1..=2).contains(&warnings), "a warning a worker: {}", both.nginx.error_log());
    both.nginx.assert_calm();
}

#[test]
fn without_a_budget_all_peers_are_tried() {
    const REQUESTS: u64 = 100;
    let place = Place::new("no-budget");
    let gate = Gate::default();
    let backends = [(); 3].map(|()| Gated::start(&gate));
    let names = backends.each_ref().map(|backend| backend.name.as_str());
    let mut case = Case::new("all", &names);
    case.location = "rewrite ^ /reset break;".into();
    let both = Both::start(&place, "retry_percent = false", &[case]);
    requests(both.address, "all.ours", REQUESTS as usize, 2, Connections::Kept);
    assert_eq!(backends.iter().map(Gated::requests).sum::<u64>(), 3 * REQUESTS);
    both.nginx.assert_calm();
}
