//! The text answers of ngx_http_dyups_module, for programs that read them. Every line ends with `\n`.

use std::fmt::Write;

use super::nginx::word;
use crate::upstream::{Peer, Route, Status};

/// `GET /list`: a line for each upstream.
///
/// ```
/// let mut text = String::new();
/// dyups::config::dyups::name(&mut text, "api");
/// assert_eq!(text, "api\n");
/// ```
pub fn name(text: &mut String, name: &str) {
    text.push_str(name);
    text.push('\n');
}

/// `GET /detail`: a line for each peer, between the name of its upstream and an empty line.
///
/// The module knows no draining: only a line of such a peer has ` drain=1` at its end.
pub fn detail(text: &mut String, peer: &Peer) {
    let Peer { address, weight, max_conns, max_fails, fail_timeout, .. } = peer;
    let (backup, down) = (u8::from(peer.backup), u8::from(peer.status == Status::Down));
    let drain = if peer.status.to_stay() == Status::Drain { " drain=1" } else { "" };
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "server {} weight={weight} max_conns={max_conns} max_fails={max_fails} fail_timeout={fail_timeout} \
         backup={backup} down={down}{drain}",
        word(address.text())
    );
}

/// `GET /upstream/NAME`: a line `server ADDR` for each peer, as it can be read back with a `;` behind it.
pub fn server(text: &mut String, peer: &Peer) {
    let _ = writeln!(text, "server {}", word(peer.address.text()));
}

/// `GET /routes`: a line for each route, with its host and its upstreams.
///
/// ```
/// use dyups::config::{dyups as texts, route::route, value::parse};
/// let mut text = String::new();
/// let split = r#"{"targets": [["blue", 90], ["green", 10]], "key": "$cookie_u"}"#;
/// for (host, json) in [("a.example", "\"api\""), ("b.example", split)] {
///     texts::route(&mut text, &route(host, &parse(json.as_bytes()).unwrap(), "").unwrap());
/// }
/// assert_eq!(text, "a.example api\nb.example blue weight=90 green weight=10 key=$cookie_u\n");
/// ```
pub fn route(text: &mut String, route: &Route) {
    text.push_str(&route.host);
    for target in &route.targets {
        let _ = write!(text, " {}", target.upstream);
        if route.targets.len() > 1 {
            let _ = write!(text, " weight={}", target.weight);
        }
    }
    if let Some(key) = &route.key {
        let _ = write!(text, " key=${key}");
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Address, Upstream};

    fn lines(line: fn(&mut String, &Peer), upstream: &Upstream) -> String {
        upstream.peers.iter().fold(String::new(), |mut text, peer| {
            line(&mut text, peer);
            text
        })
    }

    fn api() -> Upstream {
        let peer = |server| Peer::new(Address::from_server(server).unwrap());
        let down = Peer { backup: true, status: Status::Down, ..peer("unix:/p") };
        let drain = Peer { status: Status::Drain, weight: 7, ..peer("[::1]:81") };
        Upstream { name: "api".into(), peers: vec![peer("10.0.0.1"), down, drain], ..Upstream::default() }
    }

    #[test]
    fn detail_is_as_the_module_prints_it() {
        assert_eq!(
            lines(detail, &api()),
            "server 10.0.0.1:80 weight=1 max_conns=0 max_fails=1 fail_timeout=10 backup=0 down=0\n\
             server unix:/p weight=1 max_conns=0 max_fails=1 fail_timeout=10 backup=1 down=1\n\
             server [::1]:81 weight=7 max_conns=0 max_fails=1 fail_timeout=10 backup=0 down=0 drain=1\n"
        );
    }

    #[test]
    fn servers_are_lines_of_addresses_only() {
        assert_eq!(lines(server, &api()), "server 10.0.0.1:80\nserver unix:/p\nserver [::1]:81\n");
    }

    #[test]
    fn an_address_that_nginx_would_not_read_as_one_word_is_in_quotes() {
        let peers = vec![Peer::new(Address::from_server("unix:/run/a;b c").unwrap())];
        let api = Upstream { name: "api".into(), peers, ..Upstream::default() };
        assert_eq!(lines(server, &api), "server \"unix:/run/a;b c\"\n");
        assert!(lines(detail, &api).starts_with("server \"unix:/run/a;b c\" weight=1 "));
        let (read, _) =
            super::super::nginx::block("api", lines(server, &api).replace('\n', ";").as_bytes(), "b", None).unwrap();
        assert_eq!(read.peers, api.peers);
    }
}
