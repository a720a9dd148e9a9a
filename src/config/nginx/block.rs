//! The lines inside an `upstream` block.

use super::check_lines::{self, CheckLines};
use super::known::{begins_a_line, known};
use super::own::{self, Own};
use super::reading::Reading;
use super::repeats::{self, Servers};
use super::tokens::{Directive, End, Place, Reader};
use super::{key, server};
use crate::config::fields::{HASH_ID, METHOD};
use crate::error::{Error, Result};
use crate::quote::quote;
use crate::upstream::field::Field;
use crate::upstream::{HashId, MAX_PEERS, Method, Upstream};

/// Lines that some nginx has and dyups has not yet, and a way to do without them.
const NOT_YET: [(&str, &str); 7] = [
    ("least_time", "least_conn; or, where there are many peers, random two"),
    ("sticky", "hash KEY consistent, with a key that a client keeps, such as $cookie_NAME or $remote_addr"),
    ("resolver", server::UNTIL_NAMES_RESOLVE),
    ("resolver_timeout", server::UNTIL_NAMES_RESOLVE),
    ("queue", "leave it out: a request that finds no peer is answered with 502"),
    ("state", "leave it out: what was changed at run time stays in shared memory"),
    ("ntlm", "leave it out"),
];

/// A block that is being read.
pub(super) struct Block {
    upstream: Upstream,
    servers: Servers,
    own: Own,
    check: CheckLines,
}

impl Block {
    /// An empty block of the upstream `name`.
    pub(super) fn new(name: String) -> Block {
        Block::with_capacity(name, 0)
    }

    /// The same with room for so many servers.
    pub(super) fn with_capacity(name: String, servers: usize) -> Block {
        let (upstream, servers) = (Upstream { name, ..Upstream::default() }, Servers::with_capacity(servers));
        Block { upstream, servers, own: Own::default(), check: CheckLines::default() }
    }

    /// Reads up to the `}` of the block that begins at `opened`. `None`: the text is the inside of a block, and goes to its
    /// end.
    pub(super) fn read<'a>(
        mut self,
        reader: &mut Reader<'_>,
        opened: Option<&Place>,
        reading: &mut Reading<'a>,
    ) -> Result<Upstream> {
        let start = opened.cloned().unwrap_or_else(|| reader.start());
        self.lines(reader, opened, reading)?;
        self.finish(&start, reading)
    }

    /// The upstream, once all lines were read of the block that begins at `start`.
    pub(super) fn finish(mut self, start: &Place, reading: &mut Reading<'_>) -> Result<Upstream> {
        if self.servers.count() == 0 {
            let name = quote(self.upstream.name.as_bytes());
            return Err(start.error(format_args!("no servers are inside upstream {name}")));
        }
        self.upstream.peers = repeats::merge(self.servers, self.upstream.method, reading)?;
        if let Some(check) = self.check.finish(reading)? {
            (self.upstream.check, self.upstream.own_check) = (check, true);
        }
        self.upstream.check_port().map_err(|error| start.error(error))?;
        Ok(self.upstream)
    }

    fn lines<'a>(&mut self, reader: &mut Reader<'_>, opened: Option<&Place>, reading: &mut Reading<'a>) -> Result<()> {
        while self.next(reader, opened, reading)? {}
        Ok(())
    }

    /// Reads the next line. False: there is none.
    pub(super) fn next<'a>(
        &mut self,
        reader: &mut Reader<'_>,
        opened: Option<&Place>,
        reading: &mut Reading<'a>,
    ) -> Result<bool> {
        match (reader.next()?, opened) {
            (None, None) => return Ok(false),
            (None, Some(place)) => {
                let name = quote(self.upstream.name.as_bytes());
                return Err(place.error(format_args!("upstream {name} is not closed by \"}}\"")));
            }
            (Some(directive), _) if directive.name() == b"include" => {
                reading.include(&directive, &mut |reading, reader| self.lines(reader, None, reading))?;
            }
            (Some(directive), _) if directive.end != End::Close => self.line(&directive, reading)?,
            (Some(_), Some(_)) => return Ok(false),
            (Some(directive), None) => return Err(directive.error(r#"unexpected "}""#)),
        }
        Ok(true)
    }

    fn line(&mut self, directive: &Directive, reading: &mut Reading<'_>) -> Result<()> {
        let word = directive.name();
        if !begins_a_line(word) {
            return Err(unknown(directive));
        }
        if directive.end == End::Open {
            return Err(directive.error(format_args!("{} is not ended by \";\"", quote(word))));
        }
        match word {
            b"server" => self.server(directive),
            b"hash" => self.method(directive, hash(directive)?, reading),
            b"least_conn" | b"ip_hash" | b"random" => self.method(directive, without_key(directive)?, reading),
            b"method" => self.method(directive, named(directive, &METHOD, &Method::NAMES)?, reading),
            b"hash_id" => {
                self.upstream.hash_id = named(directive, &HASH_ID, &HashId::NAMES)?;
                Ok(())
            }
            _ if check_lines::LINES.iter().any(|name| name.as_bytes() == word) => self.check.add(directive, reading),
            _ => match own::LINES.iter().find(|(name, _)| name.as_bytes() == word) {
                Some((name, _)) => self.own.line(name, directive, reading),
                None => Err(unknown(directive)),
            },
        }
    }

    fn server(&mut self, directive: &Directive) -> Result<()> {
        if self.servers.count() == MAX_PEERS {
            return Err(directive.error(format_args!("server: allowed: at most {MAX_PEERS} of them")));
        }
        self.servers.add(server::peer(directive)?, directive.place.clone());
        Ok(())
    }

    /// As in nginx, the last method counts.
    fn method(&mut self, directive: &Directive, method: Method, reading: &mut Reading<'_>) -> Result<()> {
        if let Some(first) = self.upstream.method.replace(method) {
            let (first, last) = (first.name(), method.name());
            let message = format_args!("load balancing method redefined: {last} in place of {first}");
            reading.warn(&directive.place, message);
        }
        Ok(())
    }
}

/// A setting by the name that dyups has for it.
fn named<T: Copy>(directive: &Directive, field: &Field, names: &[(&str, T)]) -> Result<T> {
    let given = directive.arguments().join(&b' ');
    names.iter().find(|(name, _)| name.as_bytes() == given).map(|&(_, named)| named).ok_or_else(|| {
        directive.error(format_args!("{}: {}: allowed: {}", field.name, quote(&given), field.kind.allowed()))
    })
}

/// A method that has no key of its own.
fn without_key(directive: &Directive) -> Result<Method> {
    match (directive.name(), &directive.arguments()[..]) {
        (b"least_conn", []) => Ok(Method::LeastConn),
        (b"ip_hash", []) => Ok(Method::IpHash),
        (b"random", []) => Ok(Method::Random),
        (b"random", [b"two"] | [b"two", b"least_conn"]) => Ok(Method::RandomTwo),
        (b"random", _) => Err(directive.error("random: allowed: random, random two, random two least_conn")),
        (name, _) => {
            let name = String::from_utf8_lossy(name);
            Err(directive.error(format_args!("{name}: allowed: {name}")))
        }
    }
}

/// The caller of the balancer chooses the key. The upstream has only the ring.
fn hash(directive: &Directive) -> Result<Method> {
    let (key, consistent) = match directive.arguments()[..] {
        [key] => (key, false),
        [key, b"consistent"] => (key, true),
        _ => return Err(directive.error("hash: allowed: hash KEY consistent")),
    };
    if let Some(why) = key::why_not(key) {
        return Err(directive.error(format_args!("hash: {}: {why}", quote(key))));
    }
    match consistent {
        true => Ok(Method::Chash),
        false => Err(directive.error("hash without consistent would move keys: allowed: hash KEY consistent")),
    }
}

/// An error for a line that dyups does not know, with advice.
fn unknown(directive: &Directive) -> Error {
    let word = directive.name();
    let name = quote(word);
    if let Some((_, instead)) = NOT_YET.iter().find(|(name, _)| name.as_bytes() == word) {
        return directive.error(format_args!("{name}: not in this version; until it is: {instead}"));
    }
    if word.starts_with(b"balancer_by_lua") {
        let message = "belongs into the upstream block of nginx.conf that requests go to: take it out here";
        return directive.error(format_args!("{name}: {message}"));
    }
    directive.error(format_args!("{name}: not known inside an upstream; known: {}", known()))
}

#[cfg(test)]
mod tests {
    use super::super::block;
    use super::*;

    fn read(body: &str) -> Result<(Upstream, Vec<String>)> {
        block("api", body.as_bytes(), "body", None)
    }

    fn why(body: &str) -> String {
        read(body).unwrap_err().message.into_owned()
    }

    #[test]
    fn a_consistent_hash_is_chash() {
        assert_eq!(read("hash $uri consistent; server 1.1.1.1;").unwrap().0.method, Some(Method::Chash));
        assert_eq!(read("server 1.1.1.1;").unwrap().0.method, None);
    }

    #[test]
    fn another_hash_would_move_keys() {
        assert_eq!(
            why("server 1.1.1.1;\nhash $uri;"),
            "body:2: hash without consistent would move keys: allowed: hash KEY consistent"
        );
        assert_eq!(why("hash k bla;"), "body:1: hash: allowed: hash KEY consistent");
        assert_eq!(why("hash;"), "body:1: hash: allowed: hash KEY consistent");
        assert_eq!(
            why("hash ${a consistent;"),
            r#"body:1: hash: "${a": the closing bracket in "a" variable is missing"#
        );
    }

    #[test]
    fn methods_without_a_key_are_read() {
        for (line, method) in [
            ("least_conn", Method::LeastConn),
            ("ip_hash", Method::IpHash),
            ("random", Method::Random),
            ("random two", Method::RandomTwo),
            ("random two least_conn", Method::RandomTwo),
        ] {
            assert_eq!(read(&format!("{line}; server 1.1.1.1;")).unwrap().0.method, Some(method), "{line}");
        }
        assert_eq!(why("least_conn 5;"), "body:1: least_conn: allowed: least_conn");
        assert_eq!(why("random two least_time;"), "body:1: random: allowed: random, random two, random two least_conn");
    }

    #[test]
    fn the_last_method_counts_as_in_nginx_with_its_warning() {
        let (upstream, warnings) = read("least_conn; server 1.1.1.1;\nrandom two;").unwrap();
        assert_eq!(upstream.method, Some(Method::RandomTwo));
        assert_eq!(warnings, ["body:2: load balancing method redefined: random two in place of least_conn"]);
    }

    #[test]
    fn what_this_version_has_not_says_what_to_do_until_it_has() {
        for (line, instead) in [
            ("sticky cookie a", "hash KEY consistent"),
            ("least_time header", "least_conn"),
            ("resolver 1.1.1.1", "addresses"),
            ("queue 10", "502"),
        ] {
            let error = why(&format!("server 1.1.1.1;\n{line};"));
            let name = line.split(' ').next().unwrap();
            let expected = format!("body:2: \"{name}\": not in this version; until it is: ");
            assert!(error.starts_with(&expected) && error.contains(instead), "{error}");
        }
        assert!(why("balancer_by_lua_block { }").contains("belongs into the upstream block of nginx.conf"));
    }

    #[test]
    fn an_unknown_line_is_named_with_all_that_are_known() {
        assert_eq!(
            why("\nfair;"),
            "body:2: \"fair\": not known inside an upstream; known: server, include, hash, least_conn, ip_hash, random, \
             method, hash_id, check, check_http_send, check_http_expect_alive, check_keepalive_requests, keepalive, keepalive_requests, keepalive_time, keepalive_timeout, zone"
        );
        assert_eq!(why("server 1.1.1.1 { }"), r#"body:1: "server" is not ended by ";""#);
        assert_eq!(why("\n}"), r#"body:2: unexpected "}""#);
    }

    #[test]
    fn an_upstream_without_servers_is_refused() {
        for body in ["", " # nothing\n", "zone a 64k;"] {
            assert_eq!(why(body), r#"body:1: no servers are inside upstream "api""#);
        }
    }

    #[test]
    fn what_is_no_file_includes_none() {
        assert_eq!(
            why("server 1.1.1.1;\ninclude /etc/passwd;"),
            r#"body:2: include "/etc/passwd": allowed in files only; write the lines themselves"#
        );
    }

    #[test]
    fn warnings_are_so_many_and_no_more() {
        let zones = "zone a 64k;".repeat(1000);
        let warnings = read(&(zones + "server 1.1.1.1;")).unwrap().1;
        assert_eq!((warnings.len(), warnings[10].as_str()), (11, "and 990 more warnings"));
    }

    #[test]
    fn too_many_servers_are_refused_at_their_line() {
        let servers = (0..=MAX_PEERS).map(|i| format!("server 10.{}.{}.{};\n", i >> 16, i >> 8 & 255, i & 255));
        assert_eq!(why(&servers.collect::<String>()), "body:262145: server: allowed: at most 262144 of them");
    }
}
