//! One HTTP request: the check that bytes are one and no more, and the building of one.
//!
//! A probe is one request. It goes out byte for byte as the operator wrote it. So a request is refused unless every server
//! between here and the peer reads the same single request in it. Otherwise a user that may set a check could send other
//! requests.

/// Bytes of a host at most.
const MAX_HOST_BYTES: usize = 255;

/// Checks that `request` is one whole HTTP/1.0 or HTTP/1.1 request; the error says why not.
///
/// Lines end in CR LF, the head in an empty line. The body is as long as the one `Content-Length` says, and there is none
/// without it. HTTP/1.1 has a `Host`. Stricter than servers are: no `Transfer-Encoding`, no line that continues another, no
/// control byte but a tab in a value, no NUL anywhere.
///
/// # Errors
///
/// The first rule that the request breaks, in a few words.
///
/// ```
/// use dyups::http::request::check_one;
/// assert_eq!(check_one(b"GET /status HTTP/1.0\r\nHost: foo.com\r\n\r\n"), Ok(()));
/// assert_eq!(check_one(b"GET / HTTP/1.0\r\n\r\nGET /admin HTTP/1.0\r\n\r\n"), Err("a body without a Content-Length"));
/// ```
pub fn check_one(request: &[u8]) -> Result<(), &'static str> {
    if request.contains(&0) {
        return Err("a NUL byte");
    }
    let (head, body) = split(request, b"\r\n\r\n").ok_or("its head does not end in CR LF CR LF")?;
    if has_lone_cr_or_lf(head) {
        return Err("a CR or LF alone in its head");
    }
    let (line, mut rest) = split(head, b"\r\n").unwrap_or((head, b""));
    let one_one = check_request_line(line)?;
    let mut fields = Fields::default();
    while !rest.is_empty() {
        let (line, after) = split(rest, b"\r\n").unwrap_or((rest, b""));
        fields.add(line)?;
        rest = after;
    }
    if one_one && !fields.host {
        return Err("HTTP/1.1 without a Host header");
    }
    match fields.length {
        None if !body.is_empty() => Err("a body without a Content-Length"),
        Some(length) if length != body.len() => Err("a body that is not as long as its Content-Length"),
        _ => Ok(()),
    }
}

/// The bytes before and after the first `at`.
fn split<'a>(bytes: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let start = bytes.windows(at.len()).position(|window| window == at)?;
    Some((&bytes[..start], &bytes[start + at.len()..]))
}

/// Whether there is one that some server could take for a line's end, and another not.
fn has_lone_cr_or_lf(head: &[u8]) -> bool {
    let pairs = head.windows(2).filter(|pair| pair == b"\r\n").count();
    head.iter().filter(|byte| matches!(byte, b'\r' | b'\n')).count() != 2 * pairs
}

/// Whether it is of HTTP/1.1.
fn check_request_line(line: &[u8]) -> Result<bool, &'static str> {
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("its first line is not METHOD TARGET HTTP/1.x");
    };
    if !is_token(method) {
        return Err("its method is none");
    }
    if !is_target(target) {
        return Err("its target is empty or has control bytes");
    }
    match version {
        b"HTTP/1.0" => Ok(false),
        b"HTTP/1.1" => Ok(true),
        _ => Err("its version is not HTTP/1.0 or HTTP/1.1"),
    }
}

/// The headers of a request that matter here.
#[derive(Default)]
struct Fields {
    host: bool,
    length: Option<usize>,
}

impl Fields {
    fn add(&mut self, line: &[u8]) -> Result<(), &'static str> {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return Err("a header line that continues the one before");
        }
        let (name, value) = split(line, b":").ok_or("a header line without a colon")?;
        if !is_token(name) {
            return Err("a header whose name is none");
        }
        if !is_value(value) {
            return Err("a header whose value has control bytes");
        }
        if name.eq_ignore_ascii_case(b"host") {
            return if std::mem::replace(&mut self.host, true) { Err("a second Host header") } else { Ok(()) };
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Err("a Transfer-Encoding header");
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = number(value.trim_ascii()).ok_or("a Content-Length that is no number")?;
            return if self.length.replace(length).is_some() { Err("a second Content-Length header") } else { Ok(()) };
        }
        Ok(())
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    // Not parse alone: it takes a sign.
    let plain = digits.iter().all(u8::is_ascii_digit);
    if plain { std::str::from_utf8(digits).ok()?.parse().ok() } else { None }
}

/// Whether it is a name of a method or header.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    let in_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(in_token)
}

/// Whether it may be a header's value.
fn is_value(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == b'\t' || !byte.is_ascii_control())
}

fn is_target(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| byte != b' ' && !byte.is_ascii_control())
}

/// Checks the path of a request, as `url` and a peer's `check_url` have it; the error says why not.
///
/// # Errors
///
/// Why not: no `/` at its beginning, or a space or a control byte in it.
pub fn check_url(url: &str) -> Result<(), &'static str> {
    if !url.starts_with('/') {
        return Err("it does not begin with /");
    }
    if !is_target(url.as_bytes()) {
        return Err("it has a space or a control byte");
    }
    Ok(())
}

/// Checks a host as the `Host` header has it: a name, an IPv4 address or an IPv6 address in brackets, with or without
/// `:port`. The error says why not.
///
/// # Errors
///
/// Why not: too long, no host, an IPv6 address without brackets, or a port that is none.
pub fn check_host(host: &str) -> Result<(), &'static str> {
    if host.len() > MAX_HOST_BYTES {
        return Err("more than 255 bytes");
    }
    if host.parse::<std::net::Ipv6Addr>().is_ok() {
        return Err("an IPv6 address is written in brackets");
    }
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let good = match name.strip_prefix('[').and_then(|inside| inside.strip_suffix(']')) {
        Some(inside) => inside.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !name.is_empty() && name.bytes().all(in_name),
    };
    let good_port = |port: &str| number(port.as_bytes()).is_some_and(|port| (1..=0xffff).contains(&port));
    if !good {
        Err("not a host")
    } else if !port.is_none_or(good_port) {
        Err("no such port")
    } else {
        Ok(())
    }
}

/// Checks a header of a request that is built; the error says why not.
///
/// # Errors
///
/// Why not: no name, a control byte in the value, or a header that says that there is a body.
pub fn check_header(name: &str, value: &str) -> Result<(), &'static str> {
    if !is_token(name.as_bytes()) {
        return Err("its name is none");
    }
    if !value.bytes().all(|byte| !byte.is_ascii_control()) {
        return Err("its value has a control byte");
    }
    if ["content-length", "transfer-encoding"].iter().any(|of_body| name.eq_ignore_ascii_case(of_body)) {
        return Err("a request that is built has no body");
    }
    Ok(())
}

/// A request that passed [`check_one`], with the peer's own target and host.
pub(crate) fn of_peer(request: &str, target: Option<&str>, host: Option<&str>) -> Vec<u8> {
    let mut request = with_target(request, target);
    if let Some(host) = host {
        set_host(&mut request, host);
    }
    request
}

/// Puts this value into the Host header, or that header behind the request line.
fn set_host(request: &mut Vec<u8>, host: &str) {
    let end = |from: usize| from + request[from..].windows(2).position(|two| two == b"\r\n").unwrap_or(0);
    let first = end(0) + 2;
    let mut line = first;
    while end(line) > line {
        let name = &request[line..].split(|&byte| byte == b':').next().unwrap_or_default();
        if name.eq_ignore_ascii_case(b"host") {
            let value = line + name.len()..end(line);
            request.splice(value, format!(": {host}").into_bytes());
            return;
        }
        line = end(line) + 2;
    }
    request.splice(first..first, format!("Host: {host}\r\n").into_bytes());
}

fn with_target(request: &str, target: Option<&str>) -> Vec<u8> {
    let mut parts = request.splitn(3, ' ');
    match (target, parts.next(), parts.next(), parts.next()) {
        (Some(target), Some(method), Some(_), Some(rest)) => format!("{method} {target} {rest}").into_bytes(),
        _ => request.as_bytes().to_vec(),
    }
}

/// A request for `url` of `host`, or of the peer's own one. A header with the name of one that dyups sets takes its place, but not
/// that of a peer's own host.
pub(crate) fn get(url: &str, (host, of_peer): (&str, Option<&str>), headers: &[(String, String)]) -> Vec<u8> {
    let own = [("Host", of_peer.unwrap_or(host)), ("User-Agent", "dyups"), ("Connection", "close")];
    let passed_over = |name: &str| of_peer.is_some() && name.eq_ignore_ascii_case("host");
    let theirs = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let theirs = theirs.filter(|(name, _)| !passed_over(name));
    let replaced = |own: &str| theirs.clone().any(|(name, _)| name.eq_ignore_ascii_case(own));
    let own = own.into_iter().filter(|(name, _)| !replaced(name));
    let mut request = format!("GET {url} HTTP/1.1\r\n");
    for (name, value) in own.chain(theirs.clone()) {
        request.extend([name, ": ", value, "\r\n"]);
    }
    request.push_str("\r\n");
    request.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_request_is_taken() {
        for request in [
            "GET /status HTTP/1.0\r\nHost: foo.com\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.1\r\nhost:foo.com\r\nX-Tab: a\tb \r\nX-Empty:\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
            "HEAD /größe HTTP/1.0\r\nX: ö\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{\n\r\n}",
            "POST / HTTP/1.0\r\nContent-Length: 0\r\n\r\n",
            // A body may look like a request: the length says that it is none.
            "POST / HTTP/1.0\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        ] {
            assert_eq!(check_one(request.as_bytes()), Ok(()), "{request:?}");
        }
    }

    #[test]
    fn what_could_be_two_requests_or_half_a_one_is_refused() {
        let second = "GET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
        for (request, why) in [
            ("", "CR LF CR LF"),
            ("GET / HTTP/1.0", "CR LF CR LF"),
            ("GET / HTTP/1.0\r\n", "CR LF CR LF"),
            ("GET / HTTP/1.0\n\n", "CR LF CR LF"),
            ("GET / HTTP/1.0\\r\\n\\r\\n", "CR LF CR LF"),
            ("\r\n\r\n", "first line"),
            ("\r\nGET / HTTP/1.0\r\n\r\n", "first line"),
            ("GET / HTTP/1.0\r\nX\r\n\r\n", "without a colon"),
            ("GET /\r\n\r\n", "first line"),
            ("GET  / HTTP/1.0\r\n\r\n", "first line"),
            ("GET / a HTTP/1.0\r\n\r\n", "first line"),
            ("GET / HTTP/1.0 \r\n\r\n", "first line"),
            ("GET\t/ HTTP/1.0\r\n\r\n", "first line"),
            ("G(T / HTTP/1.0\r\n\r\n", "method"),
            (" / HTTP/1.0\r\n\r\n", "method"),
            ("GET /\t HTTP/1.0\r\n\r\n", "target"),
            ("GET /\rX HTTP/1.0\r\n\r\n", "alone"),
            ("GET /\n HTTP/1.0\r\n\r\n", "alone"),
            ("GET / HTTP/2.0\r\n\r\n", "version"),
            ("GET / http/1.0\r\n\r\n", "version"),
            ("GET / HTTP/1.0\n\r\n\r\n", "alone"),
            ("GET / HTTP/1.1\r\n\r\n", "without a Host"),
            ("GET / HTTP/1.1\r\nHost: a\r\nHOST: b\r\n\r\n", "second Host"),
            ("GET / HTTP/1.0\r\nX : a\r\n\r\n", "name"),
            ("GET / HTTP/1.0\r\n: a\r\n\r\n", "name"),
            ("GET / HTTP/1.0\r\nX: a\r\n b\r\n\r\n", "continues"),
            ("GET / HTTP/1.0\r\n\tX: a\r\n\r\n", "continues"),
            ("GET / HTTP/1.0\r\nX: a\nY: b\r\n\r\n", "alone"),
            ("GET / HTTP/1.0\r\nX: a\rY: b\r\n\r\n", "alone"),
            ("GET / HTTP/1.0\r\nX: a\r\r\n\r\n", "alone"),
            ("GET / HTTP/1.0\r\n\n\r\n\r\n", "alone"),
            ("GET / HTTP/1.0\r\nX: \x7f\r\n\r\n", "control bytes"),
            ("GET / HTTP/1.0\r\nX: a\0\r\n\r\n", "NUL"),
            ("POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\n\0", "NUL"),
            ("POST / HTTP/1.0\r\n\r\nbody", "without a Content-Length"),
            ("POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nbody", "not as long"),
            ("POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nbody", "not as long"),
            ("POST / HTTP/1.0\r\nContent-Length: +4\r\n\r\nbody", "no number"),
            ("POST / HTTP/1.0\r\nContent-Length: 4, 4\r\n\r\nbody", "no number"),
            ("POST / HTTP/1.0\r\nContent-Length:\r\n\r\nbody", "no number"),
            ("POST / HTTP/1.0\r\nContent-Length: 99999999999999999999\r\n\r\nbody", "no number"),
            ("POST / HTTP/1.0\r\nContent-Length: 4\r\ncontent-length: 4\r\n\r\nbody", "second Content-Length"),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding"),
            (&format!("{second}{second}"), "without a Content-Length"),
            (&format!("{second}\r\n"), "without a Content-Length"),
            (&format!("GET / HTTP/1.0\n\n{second}"), "alone"),
        ] {
            let error = check_one(request.as_bytes()).expect_err(request);
            assert!(error.contains(why), "{request:?}: {error}, not {why}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for host in ["a", "api_1.local", "a.b:8080", "10.0.0.1", "10.0.0.1:65535", "[::1]", "[::1]:80"] {
            assert_eq!(check_host(host), Ok(()), "{host}");
        }
        let long = "a".repeat(256);
        for host in
            ["", " ", "a b", "a/b", "a\n", "a\0", "größe", "a@b", "[::1", "[a]", "a:b:1", ":80", "unix:/a", &long]
        {
            assert!(check_host(host).is_err(), "{host}");
        }
        assert_eq!(check_host("::1"), Err("an IPv6 address is written in brackets"));
        for host in ["a:", "a:0", "a:+1", "a:65536", "[::1]:x"] {
            assert_eq!(check_host(host), Err("no such port"), "{host}");
        }
    }

    #[test]
    fn a_url_is_a_path() {
        assert_eq!((check_url("/"), check_url("/a?b=ö#c")), (Ok(()), Ok(())));
        for url in ["", "a", "http://a/", "*", "/a b", "/\r\n", "/\0", "/\x7f"] {
            assert!(check_url(url).is_err(), "{url}");
        }
    }

    proptest! {
        #[test]
        fn with_another_target_it_is_still_one(
            method in "[A-Z]{1,8}", target in "[!-~ö]{1,20}", body in "[ -~\r\n]{0,40}", url in "/[ -~\r\n]{0,20}",
        ) {
            let length = body.len();
            let request = format!("{method} {target} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
            prop_assert_eq!(check_one(request.as_bytes()), Ok(()));
            if check_url(&url).is_ok() {
                let expected = format!("{method} {url} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
                let other = with_target(&request, Some(&url));
                prop_assert_eq!(check_one(&other), Ok(()));
                prop_assert_eq!(other, expected.into_bytes());
            }
        }

        /// However it is put together, a text that passes has one request line, and its body a length.
        #[test]
        fn what_passes_is_one(pieces in prop::collection::vec(prop::sample::select(vec![
            "GET / HTTP/1.0", "GET / HTTP/1.1", "\r\n", "\r\n", "\r\n\r\n", "\n", "\r", "Host: a", "Content-Length: 4", " ", "body",
        ]), 0..12)) {
            let request = pieces.concat();
            if check_one(request.as_bytes()).is_ok() {
                let (head, body) = request.split_once("\r\n\r\n").unwrap();
                prop_assert_eq!(body.len(), if head.contains("\r\nContent-Length: 4") { 4 } else { 0 });
                prop_assert!(!head.replace("\r\n", "").contains(['\r', '\n']));
                prop_assert_eq!(head.split("\r\n").filter(|line| !line.contains(':')).count(), 1);
            }
        }
    }
}
