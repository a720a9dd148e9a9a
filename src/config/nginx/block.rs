//! The lines inside an `upstream` block.

use super::MAX_WARNINGS;
use super::server;
use super::tokens::{Directive, End, Reader, error_at};
use crate::balance::Method;
use crate::config::show::quote;
use crate::config::upstream::first_repeat;
use crate::error::Result;
use crate::table::Upstream;
use crate::table::upstream::MAX_PEERS;

/// The lines that may stand in a block.
pub(super) const LINES: [&str; 7] =
    ["server", "hash", "keepalive", "keepalive_requests", "keepalive_time", "keepalive_timeout", "zone"];

/// A block that is being read.
pub(super) struct Block<'a> {
    upstream: Upstream,
    /// The line of each peer.
    lines: Vec<usize>,
    source: &'a str,
    warnings: &'a mut Vec<String>,
}

impl<'a> Block<'a> {
    /// An empty block of the upstream `name`.
    pub(super) fn new(name: String, source: &'a str, warnings: &'a mut Vec<String>) -> Block<'a> {
        Block { upstream: Upstream { name, ..Upstream::default() }, lines: Vec::new(), source, warnings }
    }

    /// Reads up to the `}` of the block that was opened on line `opened`; `None` for the inside of a block alone, which
    /// goes to the end of the text.
    pub(super) fn read(mut self, reader: &mut Reader<'_>, opened: Option<usize>) -> Result<Upstream> {
        let name = quote(self.upstream.name.as_bytes());
        loop {
            match (reader.next()?, opened) {
                (None, None) => break,
                (None, Some(line)) => {
                    return Err(error_at(self.source, line, format!("upstream {name} is not closed by \"}}\"")));
                }
                (Some(directive), _) if directive.end != End::Close => self.line(&directive)?,
                (Some(_), Some(_)) => break,
                (Some(directive), None) => return Err(error_at(self.source, directive.line, r#"unexpected "}""#)),
            }
        }
        if self.upstream.peers.is_empty() {
            let message = format!("no servers are inside upstream {name}");
            return Err(error_at(self.source, opened.unwrap_or(1), message));
        }
        self.check_repeats()?;
        Ok(self.upstream)
    }

    fn line(&mut self, directive: &Directive) -> Result<()> {
        let word = &directive.words[0].text;
        if directive.end == End::Open {
            return Err(self.error(directive, format!("{} is not ended by \";\"", quote(word))));
        }
        match word.as_slice() {
            b"server" => self.server(directive),
            b"hash" => self.hash(directive),
            b"least_conn" | b"ip_hash" | b"random" => self.method(directive),
            b"least_time" => {
                let known = "rr (no line), chash (hash KEY consistent), least_conn, ip_hash, random, random two";
                Err(self.error(directive, format!("{}: a method not in this version; known: {known}", quote(word))))
            }
            name if LINES.iter().any(|line| line.as_bytes() == name) => {
                self.warn(directive);
                Ok(())
            }
            name => {
                let (name, known) = (quote(name), LINES.join(", "));
                Err(self.error(directive, format!("{name}: not known inside an upstream; known: {known}")))
            }
        }
    }

    fn server(&mut self, directive: &Directive) -> Result<()> {
        if self.upstream.peers.len() == MAX_PEERS {
            return Err(self.error(directive, format!("server: allowed: at most {MAX_PEERS} of them")));
        }
        self.upstream.peers.push(server::peer(directive, self.source)?);
        self.lines.push(directive.line);
        Ok(())
    }

    /// A method that has no key of its own.
    fn method(&mut self, directive: &Directive) -> Result<()> {
        let words: Vec<_> = directive.words.iter().map(|word| word.text.as_slice()).collect();
        self.upstream.method = Some(match words.as_slice() {
            [b"least_conn"] => Method::LeastConn,
            [b"ip_hash"] => Method::IpHash,
            [b"random"] => Method::Random,
            [b"random", b"two"] | [b"random", b"two", b"least_conn"] => Method::RandomTwo,
            [name, ..] => {
                let name = String::from_utf8_lossy(name);
                let allowed = if name == "random" { "random, random two, random two least_conn" } else { &*name };
                return Err(self.error(directive, format!("{name}: allowed: {allowed}")));
            }
            [] => return Ok(()),
        });
        Ok(())
    }

    /// What the key is, is for the caller of the balancer to say; only the ring is the upstream's.
    fn hash(&mut self, directive: &Directive) -> Result<()> {
        let arguments: Vec<_> = directive.words[1..].iter().map(|word| word.text.as_slice()).collect();
        match arguments.as_slice() {
            [_, b"consistent"] => {
                self.upstream.method = Some(Method::Chash);
                Ok(())
            }
            [_] => {
                let message = "hash without consistent would move keys: allowed: hash KEY consistent";
                Err(self.error(directive, message.into()))
            }
            _ => Err(self.error(directive, "hash: allowed: hash KEY consistent".into())),
        }
    }

    /// What only nginx itself can do, since the connections are its own.
    fn warn(&mut self, directive: &Directive) {
        let (source, line) = (self.source, directive.line);
        let word = String::from_utf8_lossy(&directive.words[0].text);
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(format!("{source}:{line}: {word} belongs into nginx.conf's upstream block: ignored"));
        }
    }

    fn check_repeats(&self) -> Result<()> {
        let Some((first, again)) = first_repeat(&self.upstream.peers) else { return Ok(()) };
        let server = self.upstream.peers[again].address.server();
        let message = format!("server {server}: the same address as on line {}", self.lines[first]);
        Err(error_at(self.source, self.lines[again], message))
    }

    fn error(&self, directive: &Directive, message: String) -> crate::error::Error {
        error_at(self.source, directive.line, message)
    }
}

#[cfg(test)]
mod tests {
    use super::super::block;
    use super::*;

    fn read(body: &str) -> Result<(Upstream, Vec<String>)> {
        block("api", body.as_bytes(), "body")
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
    }

    #[test]
    fn methods_of_nginx_that_are_not_there_are_refused() {
        let known = "rr (no line), chash (hash KEY consistent), least_conn, ip_hash, random, random two";
        assert_eq!(
            why("least_time header;"),
            format!("body:1: \"least_time\": a method not in this version; known: {known}")
        );
        assert_eq!(why("least_conn 5;"), "body:1: least_conn: allowed: least_conn");
        assert_eq!(why("random two least_time;"), "body:1: random: allowed: random, random two, random two least_conn");
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
    }

    #[test]
    fn what_only_nginx_can_do_is_a_warning() {
        let (_, warnings) = read("keepalive 16;\nzone api 64k;\nkeepalive_timeout 60s; server 1.1.1.1;").unwrap();
        assert_eq!(
            warnings,
            ["1: keepalive", "2: zone", "3: keepalive_timeout"]
                .map(|line| format!("body:{line} belongs into nginx.conf's upstream block: ignored"))
        );
        assert_eq!(read(&("zone;".repeat(1000) + "server 1.1.1.1;")).unwrap().1.len(), MAX_WARNINGS);
    }

    #[test]
    fn an_unknown_line_is_named_with_the_known_ones() {
        assert_eq!(
            why("\nsticky cookie;"),
            "body:2: \"sticky\": not known inside an upstream; known: server, hash, keepalive, keepalive_requests, \
             keepalive_time, keepalive_timeout, zone"
        );
        assert_eq!(why("server 1.1.1.1 { }"), r#"body:1: "server" is not ended by ";""#);
    }

    #[test]
    fn an_upstream_without_servers_is_refused() {
        for body in ["", " # nothing\n", "zone a;"] {
            assert_eq!(why(body), r#"body:1: no servers are inside upstream "api""#);
        }
    }

    #[test]
    fn two_servers_with_one_address_are_named_by_their_lines() {
        assert_eq!(
            why("server 1.1.1.2;\nserver 1.1.1.1;\n\nserver 1.1.1.1:80 weight=2;"),
            "body:4: server 1.1.1.1:80: the same address as on line 2"
        );
    }

    #[test]
    fn too_many_servers_are_refused_at_their_line() {
        let servers = (0..=MAX_PEERS).map(|i| format!("server 10.{}.{}.{};\n", i >> 16, i >> 8 & 255, i & 255));
        assert_eq!(why(&servers.collect::<String>()), "body:262145: server: allowed: at most 262144 of them");
    }
}
