//! chash is nginx's own `hash ... consistent`, key by key.

use super::backends::Backends;
use super::client::Client;
use super::place::{self, Place};
use super::server::{Conf, Nginx};
use super::system::is_root;
use std::collections::BTreeMap;
use std::net::TcpListener;

const KEYS: usize = 2500;

/// Keys as they stand in a query: short and long, and with escapes. None is empty: nginx's hash goes round robin then.
fn queries() -> Vec<String> {
    (0..KEYS)
        .map(|n| match n % 4 {
            0 => format!("?key={n}"),
            1 => format!("?key=user-{n:08x}@example.com"),
            2 => format!("?key=%20%C3%A9{n}"),
            _ => format!("?key={}", format!("{n}/").repeat(20)),
        })
        .collect()
}

/// Which backend each key goes to, over one kept connection for each location.
fn assert_equal(nginx: &Nginx, location: &str, upstream: &str, backends: &Backends, without: Option<usize>) {
    let (mut own, mut nginxs) = (Client::new(nginx.traffic), Client::new(nginx.traffic));
    let mut shares: BTreeMap<String, usize> = BTreeMap::new();
    for query in queries() {
        let ours = own.get(upstream, &format!("/{query}")).expect("an answer");
        let theirs = nginxs.get("any", &format!("/{location}{query}")).expect("an answer");
        assert_eq!((ours.status, theirs.status), (200, 200), "{query}");
        assert_eq!(ours.body, theirs.body, "{location}: {query}: dyups against nginx's hash");
        *shares.entry(ours.body).or_default() += 1;
    }
    let expected: Vec<_> = (0..backends.names.len()).filter(|index| Some(*index) != without).collect();
    let served = expected.iter().filter(|index| shares.contains_key(&backends.names[**index])).count();
    assert_eq!((served, shares.len()), (expected.len(), expected.len()), "every peer has keys: {shares:?}");
}

#[test]
fn every_key_goes_where_nginxs_own_hash_consistent_sends_it() {
    let place = Place::new("chash");
    let mut names: Vec<String> = (0..4).map(|_| place::free_address().to_string()).collect();
    names.push(format!("unix:{}", place.socket("backend.sock").display()));
    // A peer without a port means 80 and has another place on the ring than one with ":80".
    for last in [2, 3] {
        match TcpListener::bind((place::host(last), 80)) {
            Ok(_) => names.push(place::host(last).to_string()),
            Err(error) if is_root() => panic!("port 80 of {}: {error}", place::host(last)),
            Err(error) => eprintln!("SKIPPED: peers without a port: port 80 of {}: {error}", place::host(last)),
        }
    }
    if let Some(last) = names.get_mut(6) {
        *last += ":80";
    }
    let backends = Backends::at(&place, names);
    let weights = ["weight=1", "weight=2", "weight=5", "weight=1", "weight=2", "weight=2", "weight=1"];
    let downs = [0, 2, 4, 5].map(|down| {
        let mut parameters = weights.map(str::to_owned);
        parameters[down] += " down";
        (down, parameters)
    });

    let block = |name: &str, parameters: &[&str]| {
        format!("upstream {name} {{\n hash $arg_key consistent;\n {} }}\n", backends.servers(parameters))
    };
    let location = |name: &str| format!("location = /{name} {{ proxy_pass http://{name}; }}\n");
    let file = place.write("upstreams.conf", &block("cached", &weights));
    let mut conf = Conf::new(&place, 2).files(&[&file]);
    conf.http += &block("all", &weights);
    conf.locations += &location("all");
    for (down, parameters) in &downs {
        let name = format!("without{down}");
        conf.http += &block(&name, &parameters.each_ref().map(String::as_str));
        conf.locations += &location(&name);
    }
    let nginx = Nginx::start(&place, &conf);

    assert_equal(&nginx, "all", "cached", &backends, None);
    for (down, _) in downs {
        let Some(server) = backends.names.get(down) else { continue };
        let set = |status| nginx.change(&format!("set_peer('cached', {{ server = '{server}', status = '{status}' }})"));
        set("down");
        assert_equal(&nginx, &format!("without{down}"), "cached", &backends, Some(down));
        set("up");
    }
    assert_equal(&nginx, "all", "cached", &backends, None);
    // A POST in the same syntax makes the same ring.
    nginx.post("posted", &(String::from("hash $arg_key consistent;") + &backends.servers(&weights)));
    assert_equal(&nginx, "all", "posted", &backends, None);
    nginx.assert_calm();
}
