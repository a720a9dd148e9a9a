//! The text answers of ngx_http_dyups_module, for programs that read them. Every line ends with `\n`.

use std::fmt::Write;

use super::nginx::word;
use crate::upstream::{Peer, Route, Status, Upstream};

/// `GET /list`: the names, one a line.
///
/// ```
/// assert_eq!(dyups::config::dyups::list(["api", "web"]), "api\nweb\n");
/// ```
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().fold(String::new(), |text, name| text + name + "\n")
}

/// One upstream of `GET /detail`: its name, a line for each peer, an empty line.
///
/// The module knows no draining: only a line of such a peer has ` drain=1` at its end.
pub fn detail(upstream: &Upstream) -> String {
    let mut text = format!("{}\n", upstream.name);
    for peer in &upstream.peers {
        detail_line(&mut text, peer);
    }
    text + "\n"
}

/// `GET /upstream/NAME`: a line `server ADDR` for each peer, as it can be read back with a `;` behind it.
pub fn servers(upstream: &Upstream) -> String {
    upstream.peers.iter().fold(String::new(), |text, peer| text + "server " + &word(peer.address.text()) + "\n")
}

/// `GET /routes`: a line for each route, with its host and its upstreams.
///
/// ```
/// use dyups::config::{dyups as texts, route::route, value::parse};
/// let read = |host, json: &str| route(host, &parse(json.as_bytes()).unwrap(), "").unwrap();
/// let split = r#"{"targets": [["blue", 90], ["green", 10]], "key": "$cookie_u"}"#;
/// let text = texts::routes(&[read("a.example", "\"api\""), read("b.example", split)]);
/// assert_eq!(text, "a.example api\nb.example blue weight=90 green weight=10 key=$cookie_u\n");
/// ```
pub fn routes<'a>(routes: impl IntoIterator<Item = &'a Route>) -> String {
    routes.into_iter().fold(String::new(), |mut text, route| {
        text += &route.host;
        for target in &route.targets {
            text = text + " " + &target.upstream;
            if route.targets.len() > 1 {
                text += &format!(" weight={}", target.weight);
            }
        }
        let key = route.key.as_ref().map(|key| format!(" key=${key}")).unwrap_or_default();
        text + &key + "\n"
    })
}

fn detail_line(text: &mut String, peer: &Peer) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Address;

    fn api() -> Upstream {
        let peer = |server| Peer::new(Address::from_server(server).unwrap());
        let down = Peer { backup: true, status: Status::Down, ..peer("unix:/p") };
        let drain = Peer { status: Status::Drain, weight: 7, ..peer("[::1]:81") };
        Upstream { name: "api".into(), peers: vec![peer("10.0.0.1"), down, drain], ..Upstream::default() }
    }

    #[test]
    fn detail_is_as_the_module_prints_it() {
        assert_eq!(
            detail(&api()),
            "api\n\
             server 10.0.0.1:80 weight=1 max_conns=0 max_fails=1 fail_timeout=10 backup=0 down=0\n\
             server unix:/p weight=1 max_conns=0 max_fails=1 fail_timeout=10 backup=1 down=1\n\
             server [::1]:81 weight=7 max_conns=0 max_fails=1 fail_timeout=10 backup=0 down=0 drain=1\n\
             \n"
        );
    }

    #[test]
    fn an_address_that_would_be_more_words_is_in_quotes() {
        let peer = Peer::new(Address::from_server("unix:/run/a;b c").unwrap());
        let upstream = Upstream { peers: vec![peer], ..Upstream::default() };
        assert_eq!(servers(&upstream), "server \"unix:/run/a;b c\"\n");
        assert!(detail(&upstream).contains("server \"unix:/run/a;b c\" weight=1 "));
    }

    #[test]
    fn servers_are_lines_of_addresses_only() {
        assert_eq!(servers(&api()), "server 10.0.0.1:80\nserver unix:/p\nserver [::1]:81\n");
        assert_eq!(servers(&Upstream::default()), "");
    }

    #[test]
    fn an_address_that_nginx_would_not_read_as_one_word_is_in_quotes() {
        let peers = vec![Peer::new(Address::from_server("unix:/run/a;b c").unwrap())];
        let api = Upstream { name: "api".into(), peers, ..Upstream::default() };
        assert_eq!(servers(&api), "server \"unix:/run/a;b c\"\n");
        assert!(detail(&api).starts_with("api\nserver \"unix:/run/a;b c\" weight=1 "));
        let (read, _) =
            super::super::nginx::block("api", servers(&api).replace('\n', ";").as_bytes(), "b", None).unwrap();
        assert_eq!(read.peers, api.peers);
    }

    #[test]
    fn no_names_are_no_lines() {
        assert_eq!(list([]), "");
    }
}
