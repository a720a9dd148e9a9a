//! Which requests of browsers are answered: none that a page of another site has sent, or has had sent.
//!
//! A page whose name resolves to this nginx (DNS rebinding) has nginx's origin for the browser. Only the `Host` shows the name.
//! So each request has to name an address, `localhost` or a name that the operator has listed. A page of another site may send
//! a change without seeing the answer. Its `Origin` or `Sec-Fetch-Site` shows that.

use crate::quote::quote;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The headers that tell the sender of a request. A header that is not there is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sender<'a> {
    /// `Host`.
    pub host: Option<&'a [u8]>,
    /// `Origin`: browsers set it on each request that may change something.
    pub origin: Option<&'a [u8]>,
    /// `Sec-Fetch-Site`: newer browsers set it on each request.
    pub site: Option<&'a [u8]>,
    /// It came in through a unix socket, which no browser opens: any `Host` will do.
    pub unix: bool,
}

/// The end of each message.
const OPTION: &str = "setup{ admin = { hosts = { ... } } } lists more";

/// Why a request is refused; `None`: it is not. `hosts`: the names that the operator has listed, in lower case.
///
/// ```
/// use dyups::admin::access::{Sender, refusal};
/// let host = |host: &'static str| Sender { host: Some(host.as_bytes()), ..Sender::default() };
/// assert_eq!(refusal(&host("127.0.0.1:8081"), true, &[]), None);
/// assert!(refusal(&host("rebound.example"), false, &[]).is_some());
/// assert_eq!(refusal(&host("Admin.Example"), true, &["admin.example".to_string()]), None);
/// ```
pub fn refusal(sender: &Sender<'_>, writes: bool, hosts: &[String]) -> Option<String> {
    let foreign_host = sender.host.filter(|host| !sender.unix && !is_own(host, hosts));
    if let Some(host) = foreign_host {
        let allowed = "allowed: an address, localhost";
        return Some(format!("Host {}: {allowed}; {OPTION}", quote(host)));
    }
    if !writes || sender.origin.is_some_and(|origin| is_listed_origin(origin, hosts)) {
        return None;
    }
    let allowed = "allowed for a change: a page of this same address";
    if let Some(site) = sender.site.filter(|site| !matches!(*site, b"same-origin" | b"none")) {
        return Some(format!("Sec-Fetch-Site {}: {allowed}; {OPTION}", quote(site)));
    }
    match sender.origin {
        Some(origin) if !is_same_origin(origin, sender.host) => {
            Some(format!("Origin {}: {allowed}; {OPTION}", quote(origin)))
        }
        _ => None,
    }
}

/// A host, and its port where that is written.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Authority<'a> {
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// `None`: no browser sends this.
    fn parse(bytes: &'a [u8]) -> Option<Authority<'a>> {
        let text = std::str::from_utf8(bytes).ok()?;
        let end = if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
        let (host, rest) = text.split_at(end);
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            _ => return None,
        };
        (!host.is_empty()).then_some(Authority { host, port })
    }

    fn is_address(&self) -> bool {
        let v6 = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        v6.map_or_else(|| self.host.parse::<Ipv4Addr>().is_ok(), |host| host.parse::<Ipv6Addr>().is_ok())
    }

    /// Whether it has this name, in lower case. A dot at the end says that the name is whole, as it is here anyway.
    fn has_name(&self, name: &str) -> bool {
        let without_dot = |name: &str| name.strip_suffix('.').map(str::to_string).unwrap_or(name.to_string());
        without_dot(self.host).eq_ignore_ascii_case(&without_dot(name))
    }

    fn is_listed(&self, hosts: &[String]) -> bool {
        hosts.iter().any(|name| self.has_name(name))
    }
}

fn is_own(host: &[u8], hosts: &[String]) -> bool {
    Authority::parse(host).is_some_and(|host| host.is_address() || host.has_name("localhost") || host.is_listed(hosts))
}

/// The rest behind `http://` or `https://`, and the port of this scheme.
fn origin_of(origin: &[u8]) -> Option<(Authority<'_>, u16)> {
    let (rest, port) = match (origin.strip_prefix(b"http://"), origin.strip_prefix(b"https://")) {
        (Some(rest), _) => (rest, 80),
        (_, Some(rest)) => (rest, 443),
        _ => return None,
    };
    Some((Authority::parse(rest)?, port))
}

fn is_listed_origin(origin: &[u8], hosts: &[String]) -> bool {
    origin_of(origin).is_some_and(|(authority, _)| authority.is_listed(hosts))
}

/// Whether a page of this origin is one of the address that the request was sent to. Its scheme may be another one, where TLS ends
/// before nginx.
fn is_same_origin(origin: &[u8], host: Option<&[u8]>) -> bool {
    let (Some((origin, usual)), Some(host)) = (origin_of(origin), host.and_then(Authority::parse)) else {
        return false;
    };
    let port = |authority: Authority<'_>| authority.port.unwrap_or(usual);
    origin.host.eq_ignore_ascii_case(host.host) && port(origin) == port(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Vec<String> {
        vec!["admin.example".into()]
    }

    fn with_host(host: &str) -> Option<String> {
        refusal(&Sender { host: Some(host.as_bytes()), ..Sender::default() }, false, &hosts())
    }

    /// A change from a page of `origin`.
    fn change(host: &str, origin: Option<&str>, site: Option<&str>) -> Option<String> {
        let [origin, site] = [origin, site].map(|text| text.map(str::as_bytes));
        refusal(&Sender { host: Some(host.as_bytes()), origin, site, unix: false }, true, &hosts())
    }

    #[test]
    fn addresses_localhost_and_listed_names_are_this_nginx() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:8081",
            "10.0.0.1:",
            "[::1]",
            "[::1]:8081",
            "[fe80::1]",
            "localhost",
            "LocalHost:1",
            "localhost.",
            "admin.example",
            "ADMIN.example:8081",
            "admin.example.",
        ] {
            assert_eq!(with_host(host), None, "{host}");
        }
        assert_eq!(refusal(&Sender::default(), true, &[]), None, "HTTP/1.0 has none, and a browser always sends it");
    }

    #[test]
    fn any_other_host_may_be_a_name_that_was_made_to_resolve_here() {
        for host in [
            "evil.example",
            "localhost.evil.example",
            "evil.localhost",
            "admin.example.evil.example",
            "127.0.0.1.evil.example",
            "127.1",
            "0x7f.0.0.1",
            "2130706433",
            "127.0.0.1:80:80",
            "127.0.0.1:99999",
            "127.0.0.1:8a",
            "::1",
            "[::1",
            "[::1]a",
            "[127.0.0.1]",
            "[]",
            "",
            ":8081",
            "user@127.0.0.1",
            "localhost..",
            "127.0.0.1.",
            "localhost, evil.example",
            " localhost",
            "admin.example/",
            "\u{430}dmin.example",
        ] {
            let refused = with_host(host).unwrap_or_else(|| panic!("{host} is allowed"));
            assert!(refused.starts_with("Host \"") && refused.ends_with(OPTION), "{refused}");
        }
        let not_utf_8 = refusal(&Sender { host: Some(b"\xff"), ..Sender::default() }, false, &[]).unwrap();
        assert_eq!(not_utf_8, format!("Host \"\\xff\": allowed: an address, localhost; {OPTION}"));
    }

    #[test]
    fn through_a_unix_socket_any_host_will_do_and_no_foreign_page() {
        let sender = Sender { host: Some(b"any"), unix: true, ..Sender::default() };
        assert_eq!(refusal(&sender, true, &[]), None);
        assert!(refusal(&Sender { site: Some(b"cross-site"), ..sender }, true, &[]).is_some());
    }

    #[test]
    fn a_page_of_this_address_may_change() {
        for (host, origin) in [
            ("127.0.0.1:8081", "http://127.0.0.1:8081"),
            ("127.0.0.1", "http://127.0.0.1"),
            ("127.0.0.1:80", "http://127.0.0.1"),
            ("localhost", "https://LOCALHOST:443"),
            ("[::1]:8081", "https://[::1]:8081"),
            ("127.0.0.1:8081", "https://admin.example"),
        ] {
            assert_eq!(change(host, Some(origin), None), None, "{host} {origin}");
        }
        assert_eq!(change("localhost", None, Some("same-origin")), None);
        assert_eq!(change("localhost", None, Some("none")), None);
        assert_eq!(change("localhost", Some("https://admin.example:9"), Some("cross-site")), None);
    }

    #[test]
    fn a_page_of_another_site_may_not() {
        for (host, origin) in [
            ("127.0.0.1:8081", "http://evil.example"),
            ("127.0.0.1:8081", "http://127.0.0.1:3000"),
            ("127.0.0.1:8081", "http://127.0.0.1"),
            ("localhost:8081", "http://127.0.0.1:8081"),
            ("localhost", "https://localhost:80"),
            ("localhost", "null"),
            ("localhost", ""),
            ("localhost", "localhost"),
            ("localhost", "ftp://localhost"),
            ("localhost", "http://localhost, http://evil.example"),
        ] {
            let refused = change(host, Some(origin), None).unwrap_or_else(|| panic!("{origin} may change {host}"));
            assert!(refused.starts_with("Origin \"") && refused.ends_with(OPTION), "{refused}");
        }
        for site in ["cross-site", "same-site", "", "Same-Origin"] {
            let refused = change("localhost", Some("http://localhost"), Some(site)).unwrap();
            assert!(refused.starts_with("Sec-Fetch-Site \"") && refused.ends_with(OPTION), "{refused}");
        }
    }

    #[test]
    fn a_page_of_another_site_may_have_something_read_whose_answer_it_does_not_see() {
        let sender = Sender {
            host: Some(b"localhost"),
            origin: Some(b"http://evil.example"),
            site: Some(b"cross-site"),
            unix: false,
        };
        assert_eq!(refusal(&sender, false, &[]), None);
    }
}
