//! Where a peer listens: the text that nginx connects to, how it was written, and which address it is.

use std::net::{Ipv4Addr, Ipv6Addr};

use compact_str::{CompactString, format_compact};

use crate::error::{Error, Result};
use crate::quote::quote;

/// The port of an IP address that is written without one, as in nginx.
pub const DEFAULT_PORT: u16 = 80;

/// Most bytes of an address's text: `unix:` and a path of 107 bytes fit, and so does every IP address.
pub const MAX_TEXT_BYTES: usize = 120;

/// Most bytes of a unix path: `sockaddr_un` has room for so many, without the NUL.
pub const MAX_PATH_BYTES: usize = 107;

/// The words of messages for the allowed hosts of a peer.
pub const ALLOWED: &str = "an IPv4 address, an IPv6 address in brackets, unix:/path";

/// A peer's address.
///
/// `==` compares addresses as written; [`Address::same_as`] tells whether two spellings are one address.
///
/// ```
/// use dyups::upstream::Address;
/// let address = Address::from_server("10.0.0.1").unwrap();
/// assert_eq!((address.text(), address.server(), address.port()), ("10.0.0.1:80", "10.0.0.1", Some(80)));
/// assert!(address.same_as(&Address::from_server("10.0.0.1:80").unwrap()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    text: CompactString,
    ident: u64,
    /// 0 for a unix path.
    port: u16,
    host_len: u8,
    port_written: bool,
}

impl Address {
    /// Takes an address as nginx's `server` lines have it: `10.0.0.1`, `10.0.0.1:80`, `[::1]`, `[::1]:80` or
    /// `unix:/path`. A port is 1 to 65535 in plain digits; none is [`DEFAULT_PORT`].
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Invalid`] for all else; a name that would need DNS is told so.
    pub fn from_server(server: &str) -> Result<Address> {
        let (host, port) = split_port(server);
        let host = Host::parse(host).map_err(|why| refused(server, why))?;
        match port.map(parse_port) {
            None => Ok(Address::new(host, None)),
            Some(Some(port)) => Ok(Address::new(host, Some(port))),
            Some(None) => Err(refused_port(server)),
        }
    }

    /// Takes a host (`10.0.0.1`, `[::1]` or `unix:/path`) and a port, 1 to 65535; `None` is [`DEFAULT_PORT`].
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Invalid`]: as [`Address::from_server`], and for a unix path with a port.
    pub fn from_host_port(host: &str, port: Option<u16>) -> Result<Address> {
        let parsed = Host::parse(host).map_err(|why| refused(host, why))?;
        if port == Some(0) {
            return Err(refused_port(&format!("{host}:0")));
        }
        if port.is_some() && matches!(parsed, Host::Unix(_)) {
            return Err(refused(host, "a unix path has no port"));
        }
        Ok(Address::new(parsed, port))
    }

    /// Puts an address together again from the values of its accessors. The parts may be damaged.
    ///
    /// This is on the path of reads from shared memory, so it parses nothing. It checks the bounds, so that no accessor can
    /// panic. Damaged parts give a wrong address. `port` is 0 for a unix path.
    ///
    /// `None`: the text is not 1 to [`MAX_TEXT_BYTES`] bytes, or host and port do not fit it.
    pub fn from_parts(text: &str, host_len: usize, port: u16, port_written: bool, ident: u64) -> Option<Address> {
        if text.is_empty() || text.len() > MAX_TEXT_BYTES || !text.is_char_boundary(host_len) {
            return None;
        }
        // A unix path is all host; behind the host of an IP address there is a port.
        if (host_len == text.len()) != (port == 0) {
            return None;
        }
        let host_len = u8::try_from(host_len).ok()?;
        Some(Address { text: CompactString::new(text), ident, port, host_len, port_written })
    }

    fn new(host: Host<'_>, written_port: Option<u16>) -> Address {
        let port = written_port.unwrap_or(DEFAULT_PORT);
        let (text, host_len, port) = match &host {
            Host::V4(written, _) | Host::V6(written, _) => (format_compact!("{written}:{port}"), written.len(), port),
            Host::Unix(written) => (CompactString::new(written), written.len(), 0),
        };
        // A host that parsed has at most 112 bytes.
        let host_len = host_len as u8;
        Address { ident: host.ident(port), text, port, host_len, port_written: written_port.is_some() }
    }

    /// The address that nginx connects to: `10.0.0.1:80`, `[::1]:8080` (the port is always there) or `unix:/path`. 1 to
    /// [`MAX_TEXT_BYTES`] bytes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// As written: [`Address::text`] without the port if it was not written. nginx's ring hashes this.
    pub fn server(&self) -> &str {
        if self.port_written { self.text() } else { self.host() }
    }

    /// The host as written: `10.0.0.1`, `[::1]` or `unix:/path`.
    pub fn host(&self) -> &str {
        &self.text[..self.host_len()]
    }

    /// The port, 1 to 65535, written or not; `None` for a unix path.
    pub fn port(&self) -> Option<u16> {
        (self.port != 0).then_some(self.port)
    }

    /// Whether the port was written, and is not just the default. False for a unix path.
    pub fn port_written(&self) -> bool {
        self.port_written
    }

    /// A number that all spellings of one address and port share, never 0.
    ///
    /// Exact for IPv4; for IPv6 and unix paths a hash, so that two addresses may (hardly ever) share one:
    /// [`Address::same_as`] is exact.
    pub fn ident(&self) -> u64 {
        self.ident
    }

    /// Bytes of [`Address::host`] at the start of [`Address::text`].
    pub fn host_len(&self) -> usize {
        usize::from(self.host_len)
    }

    /// Whether both are the same address and port, however they are written.
    ///
    /// ```
    /// use dyups::upstream::Address;
    /// let a = Address::from_server("[::1]:80").unwrap();
    /// assert!(a.same_as(&Address::from_server("[0:0::1]").unwrap()));
    /// ```
    pub fn same_as(&self, other: &Address) -> bool {
        if self.ident != other.ident {
            return false;
        }
        self.ident >> 56 == TAG_V4 || self.text == other.text || self.parsed_equal(other)
    }

    /// The slow half of [`Address::same_as`]: other text with the same hash.
    fn parsed_equal(&self, other: &Address) -> bool {
        match (Host::parse(self.host()), Host::parse(other.host())) {
            (Ok(a), Ok(b)) => a.same_as(&b) && self.port == other.port,
            // Only damaged parts do not parse.
            _ => false,
        }
    }
}

/// The top byte of [`Address::ident`]: a kind of address is never taken for another.
const TAG_UNIX: u64 = 1;
const TAG_V4: u64 = 4;
const TAG_V6: u64 = 6;

/// A host that parsed, with its text as written.
enum Host<'a> {
    V4(&'a str, Ipv4Addr),
    V6(&'a str, Ipv6Addr),
    /// With `unix:` in front.
    Unix(&'a str),
}

impl<'a> Host<'a> {
    /// The error says why not.
    fn parse(host: &'a str) -> std::result::Result<Host<'a>, &'static str> {
        if let Some(path) = host.strip_prefix("unix:") {
            return check_path(path).map(|()| Host::Unix(host));
        }
        if let Some(inside) = host.strip_prefix('[') {
            let inside = inside.strip_suffix(']').ok_or("not an address")?;
            return inside.parse().map(|ip| Host::V6(host, ip)).map_err(|_| why_not_v6(inside));
        }
        host.parse().map(|ip| Host::V4(host, ip)).map_err(|_| why_not_v4(host))
    }

    fn same_as(&self, other: &Host<'_>) -> bool {
        match (self, other) {
            (Host::V4(_, a), Host::V4(_, b)) => a == b,
            (Host::V6(_, a), Host::V6(_, b)) => a == b,
            (Host::Unix(a), Host::Unix(b)) => a == b,
            _ => false,
        }
    }

    fn ident(&self, port: u16) -> u64 {
        let (tag, low) = match self {
            Host::V4(_, ip) => (TAG_V4, u64::from(ip.to_bits()) << 16 | u64::from(port)),
            Host::V6(_, ip) => (TAG_V6, hash(ip.octets().into_iter().chain(port.to_be_bytes()))),
            Host::Unix(path) => (TAG_UNIX, hash(path.bytes())),
        };
        tag << 56 | low
    }
}

/// FNV-1a, folded to the 56 bits below the tag.
fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash ^ hash >> 56) & (u64::MAX >> 8)
}

/// Splits a `server` text into host and port, at the colon where a port can only be.
fn split_port(server: &str) -> (&str, Option<&str>) {
    if server.starts_with("unix:") {
        return (server, None);
    }
    match server.rsplit_once(':') {
        Some((host, port)) if host.ends_with(']') || !host.contains([':', '[']) => (host, Some(port)),
        _ => (server, None),
    }
}

/// 1 to 65535 in digits, without sign or leading zeros.
fn parse_port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if plain { text.parse().ok() } else { None }
}

fn check_path(path: &str) -> std::result::Result<(), &'static str> {
    if !path.starts_with('/') {
        return Err("a unix path begins with /");
    }
    if path.len() > MAX_PATH_BYTES {
        return Err("a unix path has at most 107 bytes");
    }
    if path.bytes().any(|byte| byte.is_ascii_control()) {
        return Err("a unix path has no control bytes");
    }
    // The reader of JSON turns bytes that are not UTF-8 into this character.
    if path.contains(char::REPLACEMENT_CHARACTER) {
        return Err("a unix path is UTF-8");
    }
    Ok(())
}

fn why_not_v6(inside: &str) -> &'static str {
    if inside.contains('%') { "a zone id is not supported" } else { "not an IPv6 address" }
}

fn why_not_v4(host: &str) -> &'static str {
    if host.parse::<Ipv6Addr>().is_ok() {
        return "an IPv6 address is written in brackets";
    }
    if host.split_once(':').is_some_and(|(ip, _)| ip.parse::<Ipv4Addr>().is_ok()) {
        return "a host has no port in it";
    }
    let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if host.is_empty() || !host.bytes().all(name) {
        "not an address"
    } else if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        "not an IPv4 address"
    } else {
        "a name that needs DNS"
    }
}

fn refused(written: &str, why: &str) -> Error {
    Error::invalid(format!("{}: {why}; allowed: {ALLOWED}", quote(written.as_bytes())))
}

fn refused_port(written: &str) -> Error {
    Error::invalid(format!("{}: no such port; allowed: an integer from 1 to 65535", quote(written.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn server(text: &str) -> Address {
        Address::from_server(text).unwrap()
    }

    fn why(text: &str) -> String {
        Address::from_server(text).unwrap_err().message.into_owned()
    }

    #[test]
    fn a_server_keeps_its_text_as_written() {
        for (written, text, host, port) in [
            ("10.0.0.1", "10.0.0.1:80", "10.0.0.1", Some(80)),
            ("10.0.0.1:80", "10.0.0.1:80", "10.0.0.1", Some(80)),
            ("255.255.255.255:65535", "255.255.255.255:65535", "255.255.255.255", Some(65535)),
            ("[::1]", "[::1]:80", "[::1]", Some(80)),
            ("[0:0::1]:8080", "[0:0::1]:8080", "[0:0::1]", Some(8080)),
            ("unix:/run/a:b.sock", "unix:/run/a:b.sock", "unix:/run/a:b.sock", None),
        ] {
            let address = server(written);
            assert_eq!((address.server(), address.text(), address.host()), (written, text, host));
            assert_eq!((address.port(), address.host_len()), (port, host.len()));
            assert_eq!(address.port_written(), port.is_some() && written == text);
        }
    }

    #[test]
    fn spellings_of_one_address_have_one_identity() {
        for (a, b) in [
            ("10.0.0.1", "10.0.0.1:80"),
            ("[::1]:80", "[0:0::1]:80"),
            ("[::1]", "[0000:0:0:0:0:0:0:1]:80"),
            ("[::ffff:1.2.3.4]", "[::FFFF:102:304]"),
            ("unix:/a", "unix:/a"),
        ] {
            assert_eq!(server(a).ident(), server(b).ident());
            assert!(server(a).same_as(&server(b)));
        }
    }

    #[test]
    fn other_addresses_have_other_identities() {
        let all =
            ["1.2.3.4", "1.2.3.4:81", "1.2.3.5", "[::1.2.3.4]", "[::ffff:1.2.3.4]", "[::1]:81", "unix:/a", "unix:/b"];
        for (i, a) in all.iter().enumerate() {
            for b in &all[i + 1..] {
                assert_ne!(server(a).ident(), server(b).ident());
                assert!(!server(a).same_as(&server(b)));
            }
        }
    }

    #[test]
    fn an_equal_hash_alone_is_not_the_same_address() {
        let a = server("unix:/a");
        let b = Address::from_parts("unix:/b", 7, 0, false, a.ident()).unwrap();
        assert!(!a.same_as(&b));
        let a = server("[::1]");
        let b = Address::from_parts("[::2]:80", 5, 80, false, a.ident()).unwrap();
        assert!(!a.same_as(&b));
    }

    #[test]
    fn what_is_no_address_is_told_why() {
        for (text, reason) in [
            ("api.local", "a name that needs DNS; allowed: an IPv4 address, an IPv6 address in brackets, unix:/path"),
            ("localhost:80", "a name that needs DNS"),
            ("1.2.3.999", "not an IPv4 address"),
            ("1.2.3", "not an IPv4 address"),
            ("01.2.3.4", "not an IPv4 address"),
            ("a b", "not an address"),
            ("", "not an address"),
            (":80", "not an address"),
            ("::1", "an IPv6 address is written in brackets"),
            ("fe80::1:80", "an IPv6 address is written in brackets"),
            ("[::1", "not an address"),
            ("[::1]x", "not an address"),
            ("[::1]]:80", "not an IPv6 address"),
            ("[1.2.3.4]", "not an IPv6 address"),
            ("[fe80::1%eth0]:80", "a zone id is not supported"),
            ("unix:", "a unix path begins with /"),
            ("unix:run", "a unix path begins with /"),
            ("unix:/a\nb", "a unix path has no control bytes"),
            ("unix:/a\u{fffd}", "a unix path is UTF-8"),
        ] {
            assert!(why(text).contains(&format!(": {reason}")), "{}", why(text));
        }
    }

    #[test]
    fn a_port_is_plain_digits_in_range() {
        for text in ["1.2.3.4:", "1.2.3.4:0", "1.2.3.4:080", "1.2.3.4:+80", "1.2.3.4:65536", "[::1]:-1", "[::1]: 80"] {
            assert!(why(text).ends_with("no such port; allowed: an integer from 1 to 65535"), "{}", why(text));
        }
    }

    #[test]
    fn a_unix_path_has_at_most_107_bytes() {
        let path = format!("/{}", "x".repeat(106));
        assert_eq!(server(&format!("unix:{path}")).text().len(), 112);
        assert!(why(&format!("unix:{path}x")).contains("at most 107 bytes"));
    }

    #[test]
    fn host_and_port_are_taken_apart_too() {
        let from = |host, port| Address::from_host_port(host, port);
        assert_eq!(from("10.0.0.1", Some(81)), Address::from_server("10.0.0.1:81"));
        assert_eq!(from("[::1]", None), Address::from_server("[::1]"));
        assert_eq!(from("unix:/p", None), Address::from_server("unix:/p"));
        assert!(from("unix:/p", Some(80)).unwrap_err().message.contains("a unix path has no port"));
        assert!(from("10.0.0.1", Some(0)).unwrap_err().message.contains("from 1 to 65535"));
        assert!(from("10.0.0.1:80", None).unwrap_err().message.contains("a host has no port in it"));
        assert!(from("[::1]:80", None).unwrap_err().message.contains("not an address"));
    }

    #[test]
    fn parts_out_of_bounds_are_refused() {
        let none = |text: &str, host_len, port| assert_eq!(Address::from_parts(text, host_len, port, true, 1), None);
        none("", 0, 0);
        none(&"x".repeat(121), 1, 80);
        none("10.0.0.1:80", 12, 80);
        none("10.0.0.1:80", usize::MAX, 80);
        none("10.0.0.1:80", 11, 80);
        none("10.0.0.1:80", 8, 0);
        none("ö:80", 1, 80);
    }

    fn any_server() -> impl Strategy<Value = String> {
        let port = prop_oneof![Just(String::new()), (1u16..).prop_map(|port| format!(":{port}"))];
        let host = prop_oneof![
            any::<Ipv4Addr>().prop_map(|ip| ip.to_string()),
            any::<Ipv6Addr>().prop_map(|ip| format!("[{ip}]")),
        ];
        prop_oneof![(host, port).prop_map(|(host, port)| host + &port), "unix:/[ -~ö]{0,50}"]
    }

    proptest! {
        #[test]
        fn every_address_comes_back_from_its_server_text(text in any_server()) {
            let address = Address::from_server(&text).unwrap();
            prop_assert_eq!(address.server(), &text);
            let host_port = Address::from_host_port(address.host(), address.port().filter(|_| address.port_written()));
            prop_assert_eq!(host_port.unwrap(), address);
        }

        #[test]
        fn every_address_comes_back_from_its_parts(text in any_server()) {
            let a = Address::from_server(&text).unwrap();
            let b = Address::from_parts(a.text(), a.host_len(), a.port().unwrap_or(0), a.port_written(), a.ident());
            prop_assert_eq!(b, Some(a));
        }

        #[test]
        fn all_spellings_of_an_ipv6_address_are_the_same(ip: Ipv6Addr, port in 1u16..) {
            let full = ip.segments().map(|segment| format!("{segment:04X}")).join(":");
            let a = server(&format!("[{ip}]:{port}"));
            let b = server(&format!("[{full}]:{port}"));
            prop_assert_eq!(a.ident(), b.ident());
            prop_assert!(a.same_as(&b));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*", address in r"[\[\]0-9a-f.:%unix/]{0,40}") {
            for text in [text, address] {
                if let Ok(address) = Address::from_server(&text) {
                    prop_assert_eq!(address.server(), &text);
                }
                let _ = Address::from_host_port(&text, Some(80));
            }
        }

        #[test]
        fn no_parts_make_an_accessor_panic(text in ".{0,40}", host_len in 0usize..200, port: u16, written: bool, ident: u64) {
            if let Some(address) = Address::from_parts(&text, host_len, port, written, ident) {
                let _ = (address.server(), address.host(), address.port(), address.same_as(&server("[::1]")));
                prop_assert!(address.same_as(&address.clone()));
            }
        }
    }
}
