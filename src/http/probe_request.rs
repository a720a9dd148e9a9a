//! The request that a probe sends, and the name that its TLS asks for.

use super::request::{check_host, check_url, get, of_peer};
use crate::upstream::{Check, PeerCheck};

/// The bytes that a probe of http or https sends.
///
/// `http_req` as it is. For a peer with a `check_url`, that is the target of its request line, and its `check_host` is the
/// value of `Host`.
///
/// Without `http_req`: `GET` in HTTP/1.1 with `Host`, `User-Agent: dyups`, `Connection: close` and `headers`. One of `headers`
/// replaces the one with that name, but not a `check_host`. Without `host`, `Host` is `peer_host`, the peer's address as a
/// client would write it (`10.0.0.1:8080`). For an address that cannot be a host there, such as `unix:/path`, it is
/// `localhost`, as in nginx.
///
/// A `check_url` or `check_host` that no configuration can have set, as from a damaged region, counts as none: it could be
/// a second request.
///
/// ```
/// use dyups::http::probe_request;
/// use dyups::upstream::Check;
/// let check = Check { url: "/health".into(), host: Some("api.local".into()), ..Check::default() };
/// assert!(probe_request::request(&check, "10.0.0.1:8080", None).starts_with(b"GET /health HTTP/1.1\r\nHost: api.local\r\n"));
/// ```
pub fn request(check: &Check, peer_host: &str, own: Option<&PeerCheck>) -> Vec<u8> {
    let own_url = own.and_then(|own| own.url.as_deref()).filter(|url| check_url(url).is_ok());
    let own_host = own.and_then(sound_host);
    match &check.http_req {
        Some(written) => of_peer(written, own_url, own_host),
        None => {
            let peer_host = if check_host(peer_host).is_ok() { peer_host } else { "localhost" };
            let host = check.host.as_deref().unwrap_or(peer_host);
            get(own_url.unwrap_or(&check.url), (host, own_host), &check.headers)
        }
    }
}

/// The name that TLS asks for: the peer's `check_host`, or `host`. It has no port, and no dot at its end, since no name in TLS
/// has one (RFC 6066, section 3). `None` for an address, since TLS has names only.
///
/// ```
/// use dyups::http::probe_request::server_name;
/// use dyups::upstream::Check;
/// let name = |host: &str| server_name(&Check { host: Some(host.into()), ..Check::default() }, None).map(str::to_string);
/// assert_eq!(name("api.local:8443"), Some("api.local".to_string()));
/// assert_eq!(name("api.local.:8443"), Some("api.local".to_string()));
/// assert_eq!((name("10.0.0.1"), name("[::1]:8443")), (None, None));
/// ```
pub fn server_name<'a>(check: &'a Check, own: Option<&'a PeerCheck>) -> Option<&'a str> {
    let host = own.and_then(sound_host).or(check.host.as_deref())?;
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_name = !name.is_empty() && !host.starts_with('[') && name.parse::<std::net::Ipv4Addr>().is_err();
    is_name.then_some(name)
}

/// The peer's own host, unless no configuration can have set it.
fn sound_host(own: &PeerCheck) -> Option<&str> {
    own.host.as_deref().filter(|host| check_host(host).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request;

    fn built(check: &Check, peer_host: &str, check_url: Option<&str>) -> String {
        built_of(check, peer_host, &PeerCheck { url: check_url.map(str::to_string), ..PeerCheck::default() })
    }

    fn built_of(check: &Check, peer_host: &str, own: &PeerCheck) -> String {
        String::from_utf8(super::request(check, peer_host, Some(own))).unwrap()
    }

    #[test]
    fn a_request_is_built() {
        let rest = "User-Agent: dyups\r\nConnection: close\r\n\r\n";
        let check = Check::default();
        assert_eq!(built(&check, "10.0.0.1:81", None), format!("GET / HTTP/1.1\r\nHost: 10.0.0.1:81\r\n{rest}"));
        assert_eq!(built(&check, "[::1]", Some("/x")), format!("GET /x HTTP/1.1\r\nHost: [::1]\r\n{rest}"));
        assert_eq!(built(&check, "unix:/a", None), format!("GET / HTTP/1.1\r\nHost: localhost\r\n{rest}"));
        let check = Check { host: Some("api.local:8443".into()), url: "/status?full".into(), ..check };
        let expected = format!("GET /status?full HTTP/1.1\r\nHost: api.local:8443\r\n{rest}");
        assert_eq!(built(&check, "10.0.0.1", None), expected);
    }

    #[test]
    fn headers_of_the_operator_win() {
        let headers = [("X-A", "1"), ("user-agent", "probe"), ("X-A", "2"), ("HOST", "b.local"), ("X-B", "")];
        let headers = headers.map(|(name, value)| (name.to_string(), value.to_string())).to_vec();
        let check = Check { headers, host: Some("a.local".into()), ..Check::default() };
        let expected = "GET / HTTP/1.1\r\nConnection: close\r\nX-A: 1\r\nuser-agent: probe\r\nX-A: 2\r\nHOST: b.local\r\nX-B: \r\n\r\n";
        assert_eq!(built(&check, "10.0.0.1", None), expected);
    }

    #[test]
    fn a_request_that_is_given_is_sent_as_it_is_but_for_a_peers_url() {
        let written = "GET /status HTTP/1.0\r\nHost: foo.com\r\n\r\n";
        let check = Check { http_req: Some(written.into()), host: Some("x".into()), ..Check::default() };
        assert_eq!(built(&check, "10.0.0.1", None), written);
        assert_eq!(built(&check, "10.0.0.1", Some("/a?b")), "GET /a?b HTTP/1.0\r\nHost: foo.com\r\n\r\n");
    }

    #[test]
    fn a_peers_own_host_is_the_only_one() {
        let own = PeerCheck { host: Some("own.local".into()), ..PeerCheck::default() };
        let headers = vec![("host".to_string(), "theirs".to_string()), ("X-A".to_string(), "1".to_string())];
        let check = Check { host: Some("x".into()), headers, ..Check::default() };
        let expected = "GET / HTTP/1.1\r\nHost: own.local\r\nUser-Agent: dyups\r\nConnection: close\r\nX-A: 1\r\n\r\n";
        assert_eq!(built_of(&check, "10.0.0.1", &own), expected);
        for (written, expected) in [
            (
                "GET / HTTP/1.1\r\nA: b\r\nhost:  foo \r\nC: d\r\n\r\n",
                "GET / HTTP/1.1\r\nA: b\r\nhost: own.local\r\nC: d\r\n\r\n",
            ),
            ("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\nHost: own.local\r\n\r\n"),
            (
                "POST / HTTP/1.0\r\nContent-Length: 11\r\n\r\n\r\nHost: foo",
                "POST / HTTP/1.0\r\nHost: own.local\r\nContent-Length: 11\r\n\r\n\r\nHost: foo",
            ),
        ] {
            let check = Check { http_req: Some(written.into()), ..Check::default() };
            assert_eq!(built_of(&check, "10.0.0.1", &own), expected);
            assert_eq!(request::check_one(expected.as_bytes()), Ok(()));
        }
    }

    #[test]
    fn tls_asks_for_the_peers_own_host_and_never_for_a_dot_at_the_end() {
        let name = |host: &str, own: Option<&str>| {
            let check = Check { host: Some(host.into()), ..Check::default() };
            let own = PeerCheck { host: own.map(str::to_string), ..PeerCheck::default() };
            server_name(&check, Some(&own)).map(str::to_string)
        };
        assert_eq!(name("health.local.", None).as_deref(), Some("health.local"));
        assert_eq!(name("a", Some("own.local.:81")).as_deref(), Some("own.local"));
        assert_eq!(name("a", Some("a\r\nb")).as_deref(), Some("a"), "from a damaged region");
        assert_eq!([name("10.0.0.1.", None), name(".", None), name("a", Some("10.0.0.1"))], [None, None, None]);
    }

    #[test]
    fn bytes_from_a_damaged_region_are_no_second_request() {
        let bad = "/ HTTP/1.1\r\nHost: a\r\n\r\nGET /admin";
        for http_req in [None, Some("GET /own HTTP/1.0\r\n\r\n".to_string())] {
            let check = Check { http_req, ..Check::default() };
            let own = PeerCheck { url: Some(bad.into()), host: Some("a\r\nX: y".into()), ..PeerCheck::default() };
            let request = |peer_host, own| super::request(&check, peer_host, own);
            assert_eq!(request("10.0.0.1", Some(&own)), request("10.0.0.1", None));
            assert_eq!(request("a\r\nX: y", None), request("localhost", None));
        }
    }
}
