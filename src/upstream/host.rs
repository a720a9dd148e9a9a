//! The hosts of routes: how they are written, and which of them a request may mean.

use super::name::{self, MAX_NAME_BYTES};
use crate::error::{Error, Result};
use crate::quote::quote;

/// The route of all hosts that no other route is for.
pub const DEFAULT: &str = "default";

/// The end of the message of a refused host.
const ALLOWED: &str =
    r#"allowed: a host such as "www.example.com" or "[::1]", with a port or without; "*.example.com"; "default""#;

/// The host of a route as it is stored: in lower case, and without the last dot.
///
/// # Errors
///
/// [`crate::error::Code::Invalid`]: it is none. The rule of [`name::check`] holds for it too.
///
/// ```
/// use dyups::upstream::host;
/// assert_eq!(host::check(b"WWW.Example.com.:8080").unwrap(), "www.example.com:8080");
/// assert_eq!(host::check(b"*.example.com").unwrap(), "*.example.com");
/// assert!(host::check(b"www.*.com").is_err());
/// ```
pub fn check(host: &[u8]) -> Result<String> {
    name::check_as("route", host)?;
    let refused = || Error::invalid(format!("route {}: {ALLOWED}", quote(host)));
    let asked = Asked::new(host).filter(|asked| asked.name_is_sound() && asked.port_is_sound()).ok_or_else(refused)?;
    Ok(String::from_utf8_lossy(&asked.bytes[..asked.len]).into_owned())
}

/// The host that a request asks for, in the form in which the hosts of routes are stored.
#[derive(Debug)]
pub struct Asked {
    bytes: [u8; MAX_NAME_BYTES],
    len: usize,
    /// Bytes before the colon of the port.
    name_len: usize,
}

impl Asked {
    /// Takes a host, with a port or without. `None`: it is empty, or longer than the host of any route.
    pub fn new(host: &[u8]) -> Option<Asked> {
        let (name, port) = split(host);
        let name = name.strip_suffix(b".").unwrap_or(name);
        let mut asked = Asked { bytes: [0; MAX_NAME_BYTES], len: 0, name_len: name.len() };
        asked.push(name)?;
        if let Some(port) = port {
            asked.push(b":")?;
            asked.push(port)?;
        }
        (!name.is_empty()).then_some(asked)
    }

    fn push(&mut self, bytes: &[u8]) -> Option<()> {
        let room = self.bytes.get_mut(self.len..self.len + bytes.len())?;
        room.iter_mut().zip(bytes).for_each(|(room, byte)| *room = byte.to_ascii_lowercase());
        self.len += bytes.len();
        Some(())
    }

    fn name(&self) -> &[u8] {
        &self.bytes[..self.name_len]
    }

    fn has_port(&self) -> bool {
        self.len != self.name_len
    }

    /// Whether a route may have this name.
    fn name_is_sound(&self) -> bool {
        let below = self.name().strip_prefix(b"*.").unwrap_or(self.name());
        let is_in_brackets = below.starts_with(b"[") && below.ends_with(b"]");
        let has_gap = below.split(|&byte| byte == b'.').any(<[u8]>::is_empty);
        !has_gap && !below.contains(&b'*') && (is_in_brackets || !below.contains(&b':'))
    }

    /// Whether a route may have this port. That of all other hosts has none.
    fn port_is_sound(&self) -> bool {
        let port =
            std::str::from_utf8(&self.bytes[self.name_len..self.len]).unwrap_or_default().trim_start_matches(':');
        let is_number = port.parse::<u16>().is_ok() && !port.starts_with('0');
        !self.has_port() || is_number && self.name() != DEFAULT.as_bytes()
    }

    /// The first answer of `find` for a route that may be meant, in their order: the host itself, then `*` and the rest from each of its
    /// dots on, then [`DEFAULT`]. Of each, the one with the port comes first.
    ///
    /// # Errors
    ///
    /// The first of `find`.
    pub fn first<T, E>(mut self, mut find: impl FnMut(&[u8]) -> Result<Option<T>, E>) -> Result<Option<T>, E> {
        if let Some(found) = self.from(0, &mut find)? {
            return Ok(Some(found));
        }
        for dot in 1..self.name_len {
            if self.bytes[dot] == b'.' {
                // The bytes before it are of no more use.
                self.bytes[dot - 1] = b'*';
                if let Some(found) = self.from(dot - 1, &mut find)? {
                    return Ok(Some(found));
                }
            }
        }
        find(DEFAULT.as_bytes())
    }

    fn from<T, E>(&self, start: usize, find: &mut impl FnMut(&[u8]) -> Result<Option<T>, E>) -> Result<Option<T>, E> {
        if self.has_port()
            && let Some(found) = find(&self.bytes[start..self.len])?
        {
            return Ok(Some(found));
        }
        find(&self.bytes[start..self.name_len])
    }
}

/// The name of a host, and its port if it has one. The colons of an IPv6 address without brackets begin no port.
fn split(host: &[u8]) -> (&[u8], Option<&[u8]>) {
    let Some(colon) = host.iter().rposition(|&byte| byte == b':') else { return (host, None) };
    let (name, port) = (&host[..colon], &host[colon + 1..]);
    let is_address = name.contains(&b':') && !name.ends_with(b"]");
    match port {
        _ if is_address => (host, None),
        [] => (name, None),
        _ if port.len() <= 5 && port.iter().all(u8::is_ascii_digit) => (name, Some(port)),
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    /// All hosts of routes that this one may mean.
    fn meant(host: &str) -> Vec<String> {
        let mut all = Vec::new();
        let nothing = Asked::new(host.as_bytes()).expect("a host").first(|name| {
            all.push(String::from_utf8_lossy(name).into_owned());
            Ok::<Option<()>, Infallible>(None)
        });
        assert_eq!(nothing, Ok(None));
        all
    }

    #[test]
    fn a_host_is_looked_for_from_the_narrowest_route_to_the_widest() {
        assert_eq!(
            meant("a.b.Example.COM"),
            ["a.b.example.com", "*.b.example.com", "*.example.com", "*.com", "default"]
        );
        assert_eq!(
            meant("www.example.:8080"),
            ["www.example:8080", "www.example", "*.example:8080", "*.example", "default"]
        );
        assert_eq!(meant("localhost:"), ["localhost", "default"]);
        assert_eq!(meant("[::1]:80"), ["[::1]:80", "[::1]", "default"]);
        assert_eq!(meant("::1"), ["::1", "default"]);
        assert_eq!(meant(".a..b"), [".a..b", "*..b", "*.b", "default"]);
    }

    #[test]
    fn the_first_route_that_is_there_is_taken() {
        let there = |host: &str, routes: &[&str]| {
            let find = |name: &[u8]| Ok::<_, Infallible>(routes.iter().position(|route| route.as_bytes() == name));
            Asked::new(host.as_bytes()).expect("a host").first(find).map(|found| found.map(|at| routes[at].to_owned()))
        };
        let routes = ["default", "*.example.com", "www.example.com", "www.example.com:8080", "*.example.com:8080"];
        for (host, route) in [
            ("www.example.com", "www.example.com"),
            ("WWW.EXAMPLE.COM.:8080", "www.example.com:8080"),
            ("www.example.com:81", "www.example.com"),
            ("a.b.example.com:81", "*.example.com"),
            ("a.example.com:8080", "*.example.com:8080"),
            ("example.com", "default"),
            ("", "default"),
        ] {
            if !host.is_empty() {
                assert_eq!(there(host, &routes), Ok(Some(route.to_owned())), "{host}");
            }
        }
        assert_eq!(there("example.com", &routes[1..]), Ok(None));
    }

    #[test]
    fn hosts_that_no_request_has_are_refused() {
        for host in [
            "*",
            "*.",
            "a.*.b",
            "*a.b",
            "a..b",
            ".a",
            "a:b",
            "a:0",
            "a:070",
            "a:65536",
            "::1",
            "default:80",
            "*.*.a",
            ":80",
            ".",
        ] {
            let error = check(host.as_bytes()).expect_err(host).message;
            assert_eq!(error, format!("route {}: {ALLOWED}", quote(host.as_bytes())));
        }
        assert!(
            check(b"a b")
                .expect_err("a space")
                .message
                .starts_with(r#"route "a b": allowed: a name of 1 to 255 bytes"#)
        );
        assert!(check(&[b'x'; 256]).is_err());
    }

    #[test]
    fn hosts_are_stored_in_one_spelling() {
        for (host, stored) in [
            ("WWW.example.com", "www.example.com"),
            ("www.example.com.", "www.example.com"),
            ("*.Example.com:8080", "*.example.com:8080"),
            ("[::1]:80", "[::1]:80"),
            ("DEFAULT", "default"),
            ("größe.example", "größe.example"),
            ("a_b", "a_b"),
        ] {
            assert_eq!(check(host.as_bytes()), Ok(stored.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn what_is_stored_is_found_first_and_is_its_own_spelling(host in r"(\*\.)?[a-zA-Z0-9_-]{1,9}(\.[a-z]{1,3}){0,3}\.?(:[1-9][0-9]{0,3})?") {
            if let Ok(stored) = check(host.as_bytes()) {
                prop_assert_eq!(&meant(&host)[0], &stored);
                prop_assert_eq!(check(stored.as_bytes()), Ok(stored));
            }
        }

        #[test]
        fn any_bytes_are_looked_for_in_a_bounded_number_of_steps(host: Vec<u8>) {
            let mut steps = 0;
            if let Some(asked) = Asked::new(&host) {
                let _ = asked.first(|_| { steps += 1; Ok::<Option<()>, Infallible>(None) });
            }
            prop_assert!(steps <= 2 * (MAX_NAME_BYTES + 1));
        }
    }
}
