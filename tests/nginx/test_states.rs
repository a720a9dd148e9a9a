//! drain, down, backup and weight 0 as traffic meets them, and the answer when no peer can serve.

use super::backends::Backends;
use super::load::{Connections, requests};
use super::place::{self, Place};
use super::server::{Conf, Nginx};

/// 210 requests: how many each backend got. 210 can be shared by 2, 3, 5 and 7.
fn counts(nginx: &Nginx, backends: &Backends) -> Vec<u64> {
    requests(nginx.traffic, "api", 210, 4, Connections::Fresh).assert_all_good();
    backends.take_counts()
}

fn started(name: &str) -> (Place, Backends, Nginx) {
    let place = Place::new(name);
    let backends = Backends::start(&place, 3);
    let nginx = Nginx::start(&place, &Conf::new(&place, 2));
    nginx.post("api", &backends.servers(&["", "", ""]));
    (place, backends, nginx)
}

fn set(nginx: &Nginx, backends: &Backends, index: usize, fields: &str) {
    nginx.change(&format!("set_peer('api', {})", backends.peer(index, fields)));
}

#[test]
fn a_peer_that_is_down_drained_or_of_weight_0_gets_nothing_until_it_is_back() {
    let (_place, backends, nginx) = started("states");
    assert_eq!(counts(&nginx, &backends), [70, 70, 70]);
    for (out, back) in
        [("status = 'drain'", "status = 'up'"), ("status = 'down'", "status = 'up'"), ("weight = 0", "weight = 1")]
    {
        set(&nginx, &backends, 1, out);
        assert_eq!(counts(&nginx, &backends), [105, 0, 105], "{out}");
        set(&nginx, &backends, 1, back);
        assert_eq!(counts(&nginx, &backends), [70, 70, 70], "{back}");
    }
    set(&nginx, &backends, 1, "weight = 5");
    assert_eq!(counts(&nginx, &backends), [30, 150, 30]);
    for parameters in [["", "down", ""], ["", "drain", ""], ["", "weight=0", ""]] {
        nginx.post("api", &backends.servers(&parameters));
        assert_eq!(counts(&nginx, &backends), [105, 0, 105], "{parameters:?}");
    }
    nginx.assert_calm();
}

#[test]
fn backups_serve_when_no_primary_can_and_only_then() {
    let (_place, backends, nginx) = started("backup");
    nginx.post("api", &backends.servers(&["", "backup", "backup weight=2"]));
    assert_eq!(counts(&nginx, &backends), [210, 0, 0]);
    for out in ["status = 'down'", "status = 'drain'", "status = 'up', weight = 0"] {
        set(&nginx, &backends, 0, out);
        assert_eq!(counts(&nginx, &backends), [0, 70, 140], "{out}");
    }
    set(&nginx, &backends, 0, "weight = 1");
    assert_eq!(counts(&nginx, &backends), [210, 0, 0]);
    nginx.change(&format!("delete_peer('api', {})", backends.peer(0, "")));
    assert_eq!(counts(&nginx, &backends), [0, 70, 140]);
    nginx.assert_calm();
}

#[test]
fn without_a_peer_that_can_serve_the_answer_is_502_and_the_log_says_why() {
    let (_place, backends, nginx) = started("nobody");
    nginx.post("api", &backends.servers(&["down", "drain", "backup down"]));
    assert_eq!(nginx.get("api", "/").status, 502);
    nginx.wait_for_log("dyups: upstream api: no live upstreams");
    assert_eq!(nginx.get("no-such", "/").status, 502);
    nginx.wait_for_log("dyups: upstream no-such: not found");
    assert_eq!(backends.take_counts(), [0, 0, 0]);

    // Nor do they stay so: the next change is met by the next request.
    set(&nginx, &backends, 0, "status = 'up'");
    assert_eq!(counts(&nginx, &backends), [210, 0, 0]);
    nginx.change(&format!("set_upstream('no-such', {{ peers = {{ {} }} }})", backends.peer(1, "")));
    assert_eq!(nginx.get("no-such", "/").status, 200);
    nginx.change("set_upstream('no-such', { peers = {} })");
    assert_eq!(nginx.get("no-such", "/").status, 502);
    nginx.assert_calm();
}

#[test]
fn peers_by_unix_socket_and_ipv6_serve() {
    let place = Place::new("families");
    let mut names = vec![place::free_address().to_string(), format!("unix:{}", place.socket("b.sock").display())];
    match std::net::TcpListener::bind("[::1]:0") {
        Ok(free) => names.push(free.local_addr().expect("an address").to_string()),
        Err(error) => eprintln!("SKIPPED: IPv6: {error}"),
    }
    let backends = Backends::at(&place, names);
    let nginx = Nginx::start(&place, &Conf::new(&place, 2));
    nginx.post("api", &backends.servers(&["", "", ""]));
    let count = backends.names.len();
    assert_eq!(counts(&nginx, &backends), vec![210 / count as u64; count]);
    nginx.assert_calm();
}
