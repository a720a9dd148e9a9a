//! How an operator wants the peers of an upstream checked, and the options for one of them alone.

pub mod fields;
pub mod serialize;

use super::kept::Kept;

/// The protocol of a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CheckType {
    /// A request, and the status of its response.
    #[default]
    Http,
    /// The same through TLS.
    Https,
    /// A connection, and the texts that are sent and expected on it.
    Tcp,
}

impl CheckType {
    /// Their names, as `type` has them.
    pub const NAMES: [(&'static str, CheckType); 3] =
        [("http", CheckType::Http), ("https", CheckType::Https), ("tcp", CheckType::Tcp)];

    /// As `type` has it.
    pub fn name(self) -> &'static str {
        CheckType::NAMES[self as usize].0
    }
}

/// The options of an upstream's check.
///
/// Options that its kind does not know, and those that `http_req` makes needless, are as in [`Check::default`]; see
/// [`Check::forget_what_is_not_used`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Check {
    /// The protocol of its probes.
    pub kind: CheckType,
    /// http: the request, byte for byte. `None`: one is built from `url`, `host` and `headers`.
    pub http_req: Option<String>,
    /// tcp: the text that a probe sends.
    pub send: Option<String>,
    /// tcp: the begin of the answer. `None`: a connection is enough.
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
    /// https: the file of the certificate that a probe shows, followed by those of its signers. `None`: a probe shows none.
    pub ssl_cert: Option<String>,
    /// https: the file of its key. There if and only if the certificate is.
    pub ssl_key: Option<String>,
    /// http: a text that is somewhere in the body.
    pub expect_body: Option<String>,
    /// http: headers of a request that is built, names and values. They come before those of dyups.
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

/// The options for the probes of one peer alone.
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

impl Default for Check {
    fn default() -> Self {
        Check {
            kind: CheckType::Http,
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
    /// Whether the response to its request has no body by the method, which is HEAD.
    pub fn is_head(&self) -> bool {
        self.http_req.as_ref().is_some_and(|request| request.starts_with("HEAD "))
    }

    /// Puts options back to their defaults: those for which a check of this kind has no use, and `url` and `headers` beside `http_req`.
    pub fn forget_what_is_not_used(&mut self) {
        let default = Check::default();
        if self.kind == CheckType::Tcp {
            (self.http_req, self.host, self.expect_body) = (None, None, None);
            self.valid_statuses = default.valid_statuses;
        } else {
            (self.send, self.expect) = (None, None);
        }
        if self.kind != CheckType::Https {
            self.ssl_verify = default.ssl_verify;
            (self.ssl_cert, self.ssl_key) = (None, None);
        }
        if self.kind == CheckType::Tcp || self.http_req.is_some() {
            (self.url, self.headers) = (default.url, default.headers);
        }
    }
}
