//! The inside of an `upstream` block with all that dyups knows of an upstream: read back, it is the equal upstream.

use super::check_lines;
use super::lines::{line, options, parameter};
use crate::upstream::check::serialize::PeerCheckObject;
use crate::upstream::{HashId, Method, Peer, Status, Upstream};

/// The lines of an upstream before its servers: method, check. Default values are left out. An upstream that follows the default
/// check of `setup` has no `check` line.
pub fn settings(text: &mut String, upstream: &Upstream) {
    text.extend(upstream.method.map(method));
    if upstream.hash_id != HashId::default() {
        line(text, ["hash_id".into(), upstream.hash_id.name().into()]);
    }
    if upstream.own_check {
        check_lines::write(text, upstream.check.as_ref());
    }
}

/// The line of a server. Default values are left out.
///
/// ```
/// use dyups::config::nginx;
/// let text = "least_conn;\nserver 10.0.0.1:8080 weight=3 drain;\nserver \"unix:/a b\" backup;\n";
/// let (upstream, _) = nginx::block("api", text.as_bytes(), "body", None).unwrap();
/// let mut written = String::new();
/// nginx::settings(&mut written, &upstream);
/// upstream.peers.iter().for_each(|peer| nginx::server(&mut written, peer));
/// assert_eq!(written, text);
/// ```
pub fn server(text: &mut String, peer: &Peer) {
    let mut words = vec!["server".to_string(), peer.address.server().to_string()];
    let usual = Peer::new(peer.address.clone());
    for (name, value, usual, unit) in [
        ("weight", u32::from(peer.weight), u32::from(usual.weight), ""),
        ("max_conns", peer.max_conns, usual.max_conns, ""),
        ("max_fails", peer.max_fails, usual.max_fails, ""),
        ("fail_timeout", peer.fail_timeout, usual.fail_timeout, "s"),
        ("slow_start", peer.slow_start, usual.slow_start, "s"),
    ] {
        if value != usual {
            words.push(format!("{name}={value}{unit}"));
        }
    }
    if let Some(check) = &peer.check {
        words.extend(options(&PeerCheckObject(check)).iter().map(|(name, value)| parameter(name, value)));
    }
    words.extend(peer.backup.then(|| "backup".to_string()));
    words.extend(match peer.status {
        Status::Up => None,
        Status::Down => Some("down".to_string()),
        Status::Drain => Some("drain".to_string()),
        Status::Leaving => Some("leaving".to_string()),
    });
    line(text, words);
}

/// nginx's own line where it means the same. The variable of nginx's `hash` line is not known here.
fn method(method: Method) -> String {
    match method {
        Method::Rr | Method::Chash => format!("method {};\n", method.name()),
        _ => format!("{};\n", method.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::block;
    use super::*;
    use crate::config::json::tests::any_upstream;
    use crate::upstream::{Address, Check};
    use proptest::prelude::*;

    fn write(upstream: &Upstream) -> String {
        let mut text = String::new();
        settings(&mut text, upstream);
        upstream.peers.iter().for_each(|peer| server(&mut text, peer));
        text
    }

    #[test]
    fn all_settings_are_written() {
        let check = Check { valid_statuses: (200..400).chain([404]).collect(), fall: 9, ..Check::default() };
        let peer = |server: &str| Peer::new(Address::from_server(server).unwrap());
        let first = Peer { weight: 0, max_conns: 1, max_fails: 2, fail_timeout: 0, slow_start: 5, ..peer("10.0.0.1") };
        let second = Peer { backup: true, status: Status::Leaving, ..peer("[::1]:81") };
        let upstream = Upstream {
            name: "api".into(),
            method: Some(Method::Chash),
            hash_id: HashId::HostPort,
            peers: vec![first, second],
            check: Some(check),
            own_check: true,
            foreign: None,
        };
        assert_eq!(
            write(&upstream),
            "method chash;\n\
             hash_id host:port;\n\
             check type=http interval=3000 timeout=2000 rise=2 fall=9 concurrency=10 url=/ default_down=false panic_threshold=0;\n\
             check_http_expect_alive http_2xx http_3xx 404;\n\
             server 10.0.0.1 weight=0 max_conns=1 max_fails=2 fail_timeout=0s slow_start=5s;\n\
             server [::1]:81 backup leaving;\n"
        );
    }

    #[test]
    fn all_statuses_are_read_back() {
        let statuses: Vec<u16> = (100..600).filter(|status| status % 100 != 50).collect();
        let check = Check { valid_statuses: statuses, ..Check::default() };
        let peers = vec![Peer::new(Address::from_server("10.0.0.1").unwrap())];
        let upstream = Upstream { name: "a".into(), peers, check: Some(check), own_check: true, ..Upstream::default() };
        assert_eq!(block("a", write(&upstream).as_bytes(), "body", None), Ok((upstream, vec![])));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_the_same(upstream in any_upstream()) {
            prop_assume!(crate::upstream::name::check(upstream.name.as_bytes()).is_ok());
            prop_assume!(!crate::config::addresses::tests::has_repeat(&upstream.peers));
            prop_assume!(!upstream.peers.is_empty());
            let text = write(&upstream);
            prop_assert_eq!(block(&upstream.name, text.as_bytes(), "body", None), Ok((upstream, vec![])), "{}", text);
        }
    }

    #[test]
    fn a_text_of_any_length_is_read_back() {
        let send = "\r\n".repeat(4096);
        let check = Check { kind: crate::upstream::check::CheckType::Tcp, send: Some(send), ..Check::default() };
        let peers = vec![Peer::new(Address::from_server("10.0.0.1").unwrap())];
        let upstream = Upstream { name: "a".into(), peers, check: Some(check), own_check: true, ..Upstream::default() };
        assert_eq!(block("a", write(&upstream).as_bytes(), "body", None), Ok((upstream, vec![])));
    }
}
