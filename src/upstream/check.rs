//! What an operator wants of an upstream's active check, and the bytes that a probe sends.

use super::kept::Kept;
use crate::health::active::Active;
use crate::health::request;

/// What a probe speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A request, and the status of its response.
    #[default]
    Http,
    /// The same through TLS.
    Https,
    /// A connection, and what is sent and expected on it.
    Tcp,
}

impl Kind {
    /// Their names, as `type` has them.
    pub const NAMES: [(&'static str, Kind); 3] = [("http", Kind::Http), ("https", Kind::Https), ("tcp", Kind::Tcp)];

    /// As `type` has it.
    pub fn name(self) -> &'static str {
        Kind::NAMES[self as usize].0
    }
}

/// The options of an upstream's check.
///
/// What its kind does not know, and what `http_req` makes needless, is as in [`Check::default`]; see
/// [`Check::forget_what_is_not_used`], which [`crate::config::check::merge`] calls.
///
/// ```
/// use dyups::upstream::Check;
/// let check = Check { url: "/health".into(), host: Some("api.local".into()), ..Check::default() };
/// assert!(check.request("10.0.0.1:8080", None).starts_with(b"GET /health HTTP/1.1\r\nHost: api.local\r\n"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What a probe speaks.
    pub kind: Kind,
    /// http: the request, byte for byte. `None`: one is built from `url`, `host` and `headers`.
    pub http_req: Option<String>,
    /// tcp: what is sent.
    pub send: Option<String>,
    /// tcp: what the answer begins with. `None`: a connection is enough.
    pub expect: Option<String>,
    /// The port of all probes, for peers without one of their own. `None`: where the peer takes requests.
    pub port: Option<u16>,
    /// http: the Host header of a request that is built. https: also the name that TLS asks for and verifies.
    pub host: Option<String>,
    /// Milliseconds from probe to probe of a peer, 10 to a day.
    pub interval: u32,
    /// The same for a peer that is down or about to change. `None`: as `interval`, also when that changes.
    pub interval_down: Option<u32>,
    /// Milliseconds for all of a probe, from connecting to the last byte that matters; 1 to a day.
    pub timeout: u32,
    /// Successes in a row that bring a peer up.
    pub rise: u8,
    /// Failures in a row that take a peer down.
    pub fall: u8,
    /// http: the statuses of a healthy peer, in ascending order, each once.
    pub valid_statuses: Vec<u16>,
    /// Probes of this upstream that are under way at a time.
    pub concurrency: u16,
    /// https: whether the certificate has to be trusted and to have the name.
    pub ssl_verify: bool,
    /// https: the file of the certificate that a probe shows, with those of who signed it. `None`: none is shown.
    pub ssl_cert: Option<String>,
    /// https: the file of its key. There if and only if the certificate is.
    pub ssl_key: Option<String>,
    /// http: a text that is somewhere in the body.
    pub expect_body: Option<String>,
    /// http: headers of a request that is built, names and values. They come before those of dyups, see [`Check::request`].
    pub headers: Vec<(String, String)>,
    /// http: the path of a request that is built.
    pub url: String,
    /// Whether a peer that was never probed counts as down.
    pub default_down: bool,
    /// Percent: when fewer of the primaries that take traffic are up, but one at least, all primaries are picked from; 0 to 100.
    pub panic_threshold: u8,
    /// Stored options of another version: kept, and not looked at.
    pub kept: Kept,
}

/// What is different in the probes of one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PeerCheck {
    /// Its port, before that of the check.
    pub port: Option<u16>,
    /// http: the target of the request, before that of the check.
    pub url: Option<String>,
    /// http: the Host header, before that of the check. https: also the name that TLS asks for.
    pub host: Option<String>,
    /// As those of the check.
    pub kept: Kept,
}

impl PeerCheck {
    /// Its host, unless no configuration can have set it.
    fn sound_host(&self) -> Option<&str> {
        self.host.as_deref().filter(|host| request::check_host(host).is_ok())
    }
}

impl Default for Check {
    fn default() -> Self {
        Check {
            kind: Kind::Http,
            http_req: None,
            send: None,
            expect: None,
            port: None,
            host: None,
            interval: 3000,
            interval_down: None,
            timeout: 2000,
            rise: 2,
            fall: 3,
            valid_statuses: vec![200, 302],
            concurrency: 10,
            ssl_verify: true,
            ssl_cert: None,
            ssl_key: None,
            expect_body: None,
            headers: Vec::new(),
            url: "/".to_string(),
            default_down: false,
            panic_threshold: 0,
            kept: Kept::default(),
        }
    }
}

impl Check {
    /// What a probe of http or https sends.
    ///
    /// `http_req` as it is; of a peer with a `check_url`, that is the target of its request line, and its `check_host` is the
    /// value of `Host`. Without `http_req`: `GET` in HTTP/1.1 with `Host`, `User-Agent: dyups`, `Connection: close` and
    /// `headers`; one of `headers` takes the place of the one with that name, but not of a `check_host`. Without `host`, `Host`
    /// is `peer_host`, the peer's address as a client would write it (`10.0.0.1:8080`); `localhost` for what cannot be a host
    /// there, such as `unix:/path`, as in nginx.
    ///
    /// A `check_url` or `check_host` that no configuration can have set, as from a damaged region, counts as none: it could be
    /// a second request.
    pub fn request(&self, peer_host: &str, own: Option<&PeerCheck>) -> Vec<u8> {
        let own_url = own.and_then(|own| own.url.as_deref()).filter(|url| request::check_url(url).is_ok());
        let own_host = own.and_then(PeerCheck::sound_host);
        match &self.http_req {
            Some(written) => request::of_peer(written, own_url, own_host),
            None => {
                let peer_host = if request::check_host(peer_host).is_ok() { peer_host } else { "localhost" };
                let host = self.host.as_deref().unwrap_or(peer_host);
                request::get(own_url.unwrap_or(&self.url), (host, own_host), &self.headers)
            }
        }
    }

    /// The name that TLS asks for: the peer's `check_host`, or `host`, without its port and without the dot at its end, which no
    /// name in TLS has (RFC 6066, section 3). `None` for an address, as TLS has names only.
    ///
    /// ```
    /// use dyups::upstream::Check;
    /// let name = |host: &str| Check { host: Some(host.into()), ..Check::default() }.server_name(None).map(str::to_string);
    /// assert_eq!(name("api.local:8443"), Some("api.local".to_string()));
    /// assert_eq!(name("api.local.:8443"), Some("api.local".to_string()));
    /// assert_eq!((name("10.0.0.1"), name("[::1]:8443")), (None, None));
    /// ```
    pub fn server_name<'a>(&'a self, own: Option<&'a PeerCheck>) -> Option<&'a str> {
        let host = own.and_then(PeerCheck::sound_host).or(self.host.as_deref())?;
        let name = host.split_once(':').map_or(host, |(name, _)| name);
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_name = !name.is_empty() && !host.starts_with('[') && name.parse::<std::net::Ipv4Addr>().is_err();
        is_name.then_some(name)
    }

    /// Milliseconds until the next probe of a peer that fares like this.
    pub fn interval_of(&self, active: Active) -> u32 {
        if active.is_steady() { self.interval } else { self.interval_down.unwrap_or(self.interval) }
    }

    /// Whether the response to its request has no body by the method, which is HEAD.
    pub fn is_head(&self) -> bool {
        self.http_req.as_ref().is_some_and(|request| request.starts_with("HEAD "))
    }

    /// Puts back to its default what a check of this kind has no use for, and `url` and `headers` where `http_req` is the request.
    pub fn forget_what_is_not_used(&mut self) {
        let default = Check::default();
        if self.kind == Kind::Tcp {
            (self.http_req, self.host, self.expect_body) = (None, None, None);
            self.valid_statuses = default.valid_statuses;
        } else {
            (self.send, self.expect) = (None, None);
        }
        if self.kind != Kind::Https {
            self.ssl_verify = default.ssl_verify;
            (self.ssl_cert, self.ssl_key) = (None, None);
        }
        if self.kind == Kind::Tcp || self.http_req.is_some() {
            (self.url, self.headers) = (default.url, default.headers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(check: &Check, peer_host: &str, check_url: Option<&str>) -> String {
        request_of(check, peer_host, &PeerCheck { url: check_url.map(str::to_string), ..PeerCheck::default() })
    }

    fn request_of(check: &Check, peer_host: &str, own: &PeerCheck) -> String {
        String::from_utf8(check.request(peer_host, Some(own))).unwrap()
    }

    #[test]
    fn a_request_is_built() {
        let rest = "User-Agent: dyups\r\nConnection: close\r\n\r\n";
        let check = Check::default();
        assert_eq!(request(&check, "10.0.0.1:81", None), format!("GET / HTTP/1.1\r\nHost: 10.0.0.1:81\r\n{rest}"));
        assert_eq!(request(&check, "[::1]", Some("/x")), format!("GET /x HTTP/1.1\r\nHost: [::1]\r\n{rest}"));
        assert_eq!(request(&check, "unix:/a", None), format!("GET / HTTP/1.1\r\nHost: localhost\r\n{rest}"));
        let check = Check { host: Some("api.local:8443".into()), url: "/status?full".into(), ..check };
        let expected = format!("GET /status?full HTTP/1.1\r\nHost: api.local:8443\r\n{rest}");
        assert_eq!(request(&check, "10.0.0.1", None), expected);
    }

    #[test]
    fn headers_of_the_operator_win() {
        let headers = [("X-A", "1"), ("user-agent", "probe"), ("X-A", "2"), ("HOST", "b.local"), ("X-B", "")];
        let headers = headers.map(|(name, value)| (name.to_string(), value.to_string())).to_vec();
        let check = Check { headers, host: Some("a.local".into()), ..Check::default() };
        let expected = "GET / HTTP/1.1\r\nConnection: close\r\nX-A: 1\r\nuser-agent: probe\r\nX-A: 2\r\nHOST: b.local\r\nX-B: \r\n\r\n";
        assert_eq!(request(&check, "10.0.0.1", None), expected);
    }

    #[test]
    fn a_request_that_is_given_is_sent_as_it_is_but_for_a_peers_url() {
        let written = "GET /status HTTP/1.0\r\nHost: foo.com\r\n\r\n";
        let check = Check { http_req: Some(written.into()), host: Some("x".into()), ..Check::default() };
        assert_eq!(request(&check, "10.0.0.1", None), written);
        assert_eq!(request(&check, "10.0.0.1", Some("/a?b")), "GET /a?b HTTP/1.0\r\nHost: foo.com\r\n\r\n");
    }

    #[test]
    fn a_peers_own_host_is_the_only_one() {
        let own = PeerCheck { host: Some("own.local".into()), ..PeerCheck::default() };
        let headers = vec![("host".to_string(), "theirs".to_string()), ("X-A".to_string(), "1".to_string())];
        let check = Check { host: Some("x".into()), headers, ..Check::default() };
        let expected = "GET / HTTP/1.1\r\nHost: own.local\r\nUser-Agent: dyups\r\nConnection: close\r\nX-A: 1\r\n\r\n";
        assert_eq!(request_of(&check, "10.0.0.1", &own), expected);
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
            assert_eq!(request_of(&check, "10.0.0.1", &own), expected);
            assert_eq!(crate::health::request::check_one(expected.as_bytes()), Ok(()));
        }
    }

    #[test]
    fn tls_asks_for_the_peers_own_host_and_never_for_a_dot_at_the_end() {
        let name = |host: &str, own: Option<&str>| {
            let check = Check { host: Some(host.into()), ..Check::default() };
            let own = PeerCheck { host: own.map(str::to_string), ..PeerCheck::default() };
            check.server_name(Some(&own)).map(str::to_string)
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
            assert_eq!(check.request("10.0.0.1", Some(&own)), check.request("10.0.0.1", None));
            assert_eq!(check.request("a\r\nX: y", None), check.request("localhost", None));
        }
    }

    #[test]
    fn a_peer_that_is_down_or_changing_has_an_interval_of_its_own() {
        let check = Check { interval_down: Some(500), ..Check::default() };
        let up = Active::begin(1, false);
        let changing = up.after(false, 2, 3).0;
        assert_eq!([up, changing, Active::begin(1, true)].map(|active| check.interval_of(active)), [3000, 500, 500]);
        assert_eq!(Check::default().interval_of(changing), 3000);
    }
}
