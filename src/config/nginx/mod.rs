//! nginx's own syntax: `upstream NAME { ... }`, and the inside of one such block.
//!
//! What is read means what it means to nginx; what dyups cannot do is refused with the reason, and what only nginx
//! itself can do (`keepalive`, `zone`) is a warning. A message begins with `FILE:LINE: `.

mod block;
mod server;
mod time;
mod tokens;

use std::collections::HashMap;

use self::block::Block;
use self::tokens::{Directive, End, Reader, error_at};
use super::show::quote;
use crate::error::{Error, Result};
use crate::table::{Upstream, name};

/// Most warnings of one input; the rest are left out.
const MAX_WARNINGS: usize = 100;

/// Reads a file of `upstream NAME { ... }` blocks: the upstreams in its order, and warnings for a log.
///
/// `file_name` is what messages call the file.
///
/// # Errors
///
/// [`crate::error::Code::Invalid`]: more than [`super::MAX_INPUT_BYTES`]; bad syntax, a bad name, one that is there
/// twice, a line that dyups does not know or cannot do, an upstream without servers or with one address twice.
///
/// ```
/// use dyups::config::nginx;
/// let (upstreams, warnings) = nginx::file(b"upstream api { server 10.0.0.1:8080 weight=3; }", "api.conf").unwrap();
/// assert_eq!((upstreams[0].name.as_str(), upstreams[0].peers[0].weight, warnings.len()), ("api", 3, 0));
/// ```
pub fn file(text: &[u8], file_name: &str) -> Result<(Vec<Upstream>, Vec<String>)> {
    super::check_size(text, file_name)?;
    let mut reader = Reader::new(text, file_name);
    let (mut upstreams, mut warnings, mut lines) = (Vec::new(), Vec::new(), HashMap::new());
    while let Some(directive) = reader.next()? {
        let name = upstream_name(&directive, file_name)?;
        if let Some(first) = lines.insert(name.clone(), directive.line) {
            let name = quote(name.as_bytes());
            return Err(error_at(file_name, directive.line, format!("upstream {name}: is on line {first} already")));
        }
        upstreams.push(Block::new(name, file_name, &mut warnings).read(&mut reader, Some(directive.line))?);
    }
    Ok((upstreams, warnings))
}

/// Reads the inside of one block, such as `server 10.0.0.1:8088 weight=2; server 10.0.0.1:8089;`, as the upstream
/// `name`; and warnings for a log.
///
/// `source` is what messages call the input, such as `body`.
///
/// # Errors
///
/// As [`file()`].
///
/// ```
/// use dyups::config::nginx;
/// let error = nginx::block("api", b"server 10.0.0.1\n weight=x;", "body").unwrap_err();
/// assert_eq!(error.message, r#"body:2: weight: "x": allowed: an integer from 0 to 65535"#);
/// ```
pub fn block(name: &str, body: &[u8], source: &str) -> Result<(Upstream, Vec<String>)> {
    super::check_size(body, source)?;
    let name = name::check(name.as_bytes())?.to_string();
    let mut warnings = Vec::new();
    let upstream = Block::new(name, source, &mut warnings).read(&mut Reader::new(body, source), None)?;
    Ok((upstream, warnings))
}

/// The name in `upstream NAME {`, the only thing that may stand outside of blocks.
fn upstream_name(directive: &Directive, source: &str) -> Result<String> {
    let error = |message: String| Error::invalid(format!("{source}:{}: {message}", directive.line));
    let [word, arguments @ ..] = directive.words.as_slice() else {
        return Err(error(r#"unexpected "}""#.into()));
    };
    match arguments {
        _ if word.text != b"upstream" => Err(error(format!("{}: allowed: upstream NAME {{ ... }}", quote(&word.text)))),
        [name] if directive.end == End::Open => match name::check(&name.text) {
            Ok(name) => Ok(name.to_string()),
            Err(bad) => Err(error(bad.to_string())),
        },
        [_] => Err(error(r#"upstream has no opening "{""#.into())),
        _ => Err(error("upstream has one name: allowed: upstream NAME { ... }".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::Method;
    use proptest::prelude::*;

    fn why(text: &str) -> String {
        file(text.as_bytes(), "f").unwrap_err().message.into_owned()
    }

    #[test]
    fn a_file_of_upstreams_is_read_in_its_order() {
        let text =
            "# two\nupstream b {\n  server 10.0.0.1;\n}\n\nupstream \"a\" { hash $uri consistent; server unix:/p; }";
        let (upstreams, warnings) = file(text.as_bytes(), "f").unwrap();
        let names: Vec<_> = upstreams.iter().map(|upstream| (upstream.name.as_str(), upstream.method)).collect();
        assert_eq!(names, [("b", None), ("a", Some(Method::Chash))]);
        assert_eq!(upstreams[0].peers[0].address.server(), "10.0.0.1");
        assert!(warnings.is_empty());
        assert_eq!(file(b"", "f"), Ok((vec![], vec![])));
    }

    #[test]
    fn only_upstream_blocks_stand_in_a_file() {
        assert_eq!(why("\nhttp { }"), r#"f:2: "http": allowed: upstream NAME { ... }"#);
        assert_eq!(why("upstream a;"), r#"f:1: upstream has no opening "{""#);
        assert_eq!(why("upstream { }"), "f:1: upstream has one name: allowed: upstream NAME { ... }");
        assert_eq!(why("upstream a b { }"), "f:1: upstream has one name: allowed: upstream NAME { ... }");
        assert_eq!(why("upstream a { server 1.1.1.1; }}"), r#"f:1: unexpected "}""#);
        assert!(why("upstream a/b { }").starts_with(r#"f:1: upstream "a/b": allowed: a name"#));
    }

    #[test]
    fn an_upstream_stands_in_a_file_once() {
        let a = "upstream a { server 1.1.1.1; }\n";
        assert_eq!(why(&a.repeat(2)), r#"f:2: upstream "a": is on line 1 already"#);
    }

    #[test]
    fn a_block_that_is_not_closed_is_named_by_its_first_line() {
        assert_eq!(why("\nupstream a {\nserver 1.1.1.1;\n\n"), r#"f:2: upstream "a" is not closed by "}""#);
    }

    #[test]
    fn the_inside_of_a_block_is_read() {
        let (api, warnings) = block("api", b"server 127.0.0.1:8088 weight=2;server 127.0.0.1:8089;", "body").unwrap();
        let peers: Vec<_> = api.peers.iter().map(|peer| (peer.address.text(), peer.weight)).collect();
        assert_eq!((api.name.as_str(), peers), ("api", vec![("127.0.0.1:8088", 2), ("127.0.0.1:8089", 1)]));
        assert!(warnings.is_empty());
        assert!(block("a/b", b"server 1.1.1.1;", "body").is_err());
    }

    #[test]
    fn the_inside_of_a_block_does_not_close_it() {
        let error = block("a", b"server 1.1.1.1;\n} upstream b { server 1.1.1.1; ", "body").unwrap_err();
        assert_eq!(error.message, r#"body:2: unexpected "}""#);
    }

    proptest! {
        #[test]
        fn any_bytes_are_upstreams_or_an_error(bytes: Vec<u8>, text in r#"[a-z0-9 \n;{}"'\\$#.:=]{0,60}"#) {
            for bytes in [&bytes[..], text.as_bytes(), format!("upstream a {{ server {text}").as_bytes()] {
                for message in [file(bytes, "f").err(), block("a", bytes, "b").err()].into_iter().flatten() {
                    prop_assert!(!message.message.chars().any(char::is_control));
                }
            }
        }
    }
}
