//! Methods beside nginx's own, while connections are open.

use super::client::Client;
use super::counted::{Counted, Curl, NAME, Protocol};
use super::gated::Gated;
use super::place::Place;
use super::server::Conf;
use super::system::wait_for;

const OWN: &str = "upstream own { zone own 64k; least_conn; @servers@ }\n";

/// Each path goes to the same backends: one by nginx, one by balance.
const BOTH: [&str; 2] = ["/own/", "/pass/"];

/// With one worker: of two, one may have the next request before the other one is quite done with the last.
fn start(place: &Place) -> Counted {
    let locations = "location /own/ { proxy_pass http://own; }\n".to_owned();
    let counted = Counted::with(place, 4, "", Conf { http: OWN.into(), locations, ..Conf::new(place, 1) });
    let servers: String = counted.backends.iter().map(|backend| format!("server {};\n", backend.name)).collect();
    counted.nginx.post(NAME, &format!("least_conn;\n{servers}"));
    counted
}

/// Which backends answer `count` requests that come one after the other.
fn answers(counted: &Counted, path: &str, count: usize) -> Vec<usize> {
    let once = |_| {
        let answer = Client::new(counted.http1).get_fresh(NAME, &format!("{path}ok")).expect("an answer");
        counted.backends.iter().position(|backend| backend.name == answer.body).expect("one of them")
    };
    (0..count).map(once).collect()
}

#[test]
fn least_conn_goes_where_nginx_s_own_does_while_more_and_more_of_its_peers_are_busy() {
    let place = Place::new("least-conn");
    let counted = start(&place);
    let mut held: Vec<Curl> = Vec::new();
    for busy in 0..counted.backends.len() as u64 {
        let [own, mine] = BOTH.map(|path| answers(&counted, path, 12));
        assert_eq!(own, mine, "with {busy} of them busy");
        for path in BOTH {
            held.push(counted.curl(Protocol::Http1, &format!("{path}hold"), &[]));
        }
        let held_of_both = || counted.backends.iter().map(Gated::at_once).sum::<u64>();
        wait_for("one more of each is held", || held_of_both() == 2 * (busy + 1));
    }
    assert!(counted.open().iter().all(|&open| open == 1), "each of them has one");
    counted.gate.open();
    held.into_iter().for_each(|curl| assert_eq!(curl.status(), 200));
    counted.assert_none_open("least_conn");
    counted.nginx.assert_calm();
}
