//! nginx's own syntax: `upstream NAME { ... }`, whole files that may include others, and the inside of one such block, which is written
//! too.
//!
//! A line means the same as to nginx. One that the nginx at hand refuses, or that dyups cannot act upon, is refused with the
//! reason. One that only nginx itself can act upon (`keepalive`, `zone`) is a warning. A message begins with `FILE:LINE: `.
//! docs/files.md has a list of all that dyups takes otherwise than nginx does.

mod block;
mod check_lines;
mod key;
mod known;
mod lines;
mod long;
mod own;
mod reading;
mod repeats;
mod server;
mod time;
mod tokens;
mod write;

pub use long::LongBlock;
pub use reading::{FileId, Files, MAX_DEPTH};
pub use tokens::word;
pub use write::{server, settings};

use std::collections::HashMap;
use std::path::Path;

use self::block::Block;
use self::reading::Reading;
use self::tokens::{Directive, End, Place, Reader};
use crate::error::Result;
use crate::quote::quote;
use crate::upstream::{Upstream, name};
use crate::version::NginxVersion;

/// Reads a text of `upstream NAME { ... }` blocks: the upstreams in its order, and warnings for a log.
///
/// Messages call the text `file_name`. `nginx` is the version that the text is for: a line that this version refuses is an
/// error. With `None`, a line that all versions refuse is one. The text includes no files, see [`read`].
///
/// # Errors
///
/// [`crate::error::Code::Invalid`]: the text has more than [`crate::bounds::MAX_INPUT_BYTES`], or bad syntax. A name is bad, or
/// there twice. dyups does not know a line, or cannot do it. An upstream has no servers.
///
/// ```
/// use dyups::config::nginx;
/// let (upstreams, warnings) = nginx::file(b"upstream api { server 10.0.0.1:8080 weight=3; }", "api.conf", None).unwrap();
/// assert_eq!((upstreams[0].name.as_str(), upstreams[0].peers[0].weight, warnings.len()), ("api", 3, 0));
/// ```
pub fn file(text: &[u8], file_name: &str, nginx: Option<NginxVersion>) -> Result<(Vec<Upstream>, Vec<String>)> {
    crate::bounds::check_size(text, file_name)?;
    upstreams(text, file_name, Reading::new(nginx))
}

/// Reads a file at `path`, whose content is `text`, as [`file()`] does, with all files that it includes.
///
/// `files` has the files that it includes; `id` is the identity of the file itself.
///
/// # Errors
///
/// As [`file()`], and [`crate::error::Code::System`] where an included file cannot be read.
pub fn read(
    path: &Path,
    (text, id): (&[u8], FileId),
    nginx: Option<NginxVersion>,
    files: &mut dyn Files,
) -> Result<(Vec<Upstream>, Vec<String>)> {
    upstreams(text, &crate::quote::file(path), Reading::of_file(nginx, path, id, files))
}

/// Reads the inside of one block, such as `server 10.0.0.1:8088 weight=2; server 10.0.0.1:8089;`, as the upstream
/// `name`; and warnings for a log.
///
/// Messages call the input `source`, such as `body`. `nginx` is as for [`file()`]. The input includes no files.
///
/// # Errors
///
/// As [`file()`].
///
/// ```
/// use dyups::config::nginx;
/// let error = nginx::block("api", b"server 10.0.0.1\n weight=x;", "body", None).unwrap_err();
/// assert_eq!(error.message, r#"body:2: weight: "x": allowed: an integer from 0 to 65535"#);
/// ```
pub fn block(name: &str, body: &[u8], source: &str, nginx: Option<NginxVersion>) -> Result<(Upstream, Vec<String>)> {
    crate::bounds::check_size(body, source)?;
    let name = name::check(name.as_bytes())?.to_string();
    let mut reading = Reading::new(nginx);
    let upstream = Block::new(name).read(&mut Reader::of_body(body, source), None, &mut reading)?;
    Ok((upstream, reading.into_warnings()))
}

fn upstreams(text: &[u8], source: &str, mut reading: Reading<'_>) -> Result<(Vec<Upstream>, Vec<String>)> {
    let mut top = Top::default();
    top.read(&mut Reader::new(text, source), &mut reading)?;
    Ok((top.upstreams, reading.into_warnings()))
}

/// The upstreams outside of blocks, in all files of one reading.
#[derive(Default)]
struct Top {
    upstreams: Vec<Upstream>,
    /// Where each begins.
    places: HashMap<String, Place>,
}

impl Top {
    fn read<'a>(&mut self, reader: &mut Reader<'_>, reading: &mut Reading<'a>) -> Result<()> {
        while let Some(directive) = reader.next()? {
            if directive.name() == b"include" {
                reading.include(&directive, &mut |reading, reader| self.read(reader, reading))?;
                continue;
            }
            let name = upstream_name(&directive)?;
            if let Some(first) = self.places.insert(name.clone(), directive.place.clone()) {
                let (name, first) = (quote(name.as_bytes()), first.seen_from(&directive.place));
                return Err(directive.error(format_args!("upstream {name}: is on {first} already")));
            }
            self.upstreams.push(Block::new(name).read(reader, Some(&directive.place), reading)?);
        }
        Ok(())
    }
}

/// The name in `upstream NAME {`, which beside `include` alone may stand outside of blocks.
fn upstream_name(directive: &Directive) -> Result<String> {
    const ALLOWED: &str = "allowed: upstream NAME { ... }";
    let [word, arguments @ ..] = directive.words.as_slice() else {
        return Err(directive.error(r#"unexpected "}""#));
    };
    match arguments {
        _ if word.text != b"upstream" => {
            Err(directive.error(format_args!("{}: {ALLOWED}, include FILE", quote(&word.text))))
        }
        [name] if directive.end == End::Open => match name::check(&name.text) {
            Ok(name) => Ok(name.to_string()),
            Err(bad) => Err(directive.error(bad)),
        },
        [_] => Err(directive.error(r#"upstream has no opening "{""#)),
        _ => Err(directive.error(format_args!("upstream has one name: {ALLOWED}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Method;
    use proptest::prelude::*;

    fn why(text: &str) -> String {
        file(text.as_bytes(), "f", None).unwrap_err().message.into_owned()
    }

    #[test]
    fn a_file_of_upstreams_is_read_in_its_order() {
        let text =
            "# two\nupstream b {\n  server 10.0.0.1;\n}\n\nupstream \"a\" { hash $uri consistent; server unix:/p; }";
        let (upstreams, warnings) = file(text.as_bytes(), "f", None).unwrap();
        let names: Vec<_> = upstreams.iter().map(|upstream| (upstream.name.as_str(), upstream.method)).collect();
        assert_eq!(names, [("b", None), ("a", Some(Method::Chash))]);
        assert_eq!(upstreams[0].peers[0].address.server(), "10.0.0.1");
        assert!(warnings.is_empty());
        assert_eq!(file(b"", "f", None), Ok((vec![], vec![])));
    }

    #[test]
    fn only_upstream_blocks_stand_in_a_file() {
        assert_eq!(why("\nhttp { }"), r#"f:2: "http": allowed: upstream NAME { ... }, include FILE"#);
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
        let (api, warnings) =
            block("api", b"server 127.0.0.1:8088 weight=2;server 127.0.0.1:8089;", "body", None).unwrap();
        let peers: Vec<_> = api.peers.iter().map(|peer| (peer.address.text(), peer.weight)).collect();
        assert_eq!((api.name.as_str(), peers), ("api", vec![("127.0.0.1:8088", 2), ("127.0.0.1:8089", 1)]));
        assert!(warnings.is_empty());
        assert!(block("a/b", b"server 1.1.1.1;", "body", None).is_err());
    }

    #[test]
    fn the_inside_of_a_block_does_not_close_it() {
        let error = block("a", b"server 1.1.1.1;\n} upstream b { server 1.1.1.1; ", "body", None).unwrap_err();
        assert_eq!(error.message, r#"body:2: unexpected "}""#);
    }

    proptest! {
        #[test]
        fn any_bytes_are_upstreams_or_an_error(bytes: Vec<u8>, text in r#"[a-z0-9 \n;{}"'\\$#.:=]{0,60}"#) {
            for bytes in [&bytes[..], text.as_bytes(), format!("upstream a {{ server {text}").as_bytes()] {
                for message in [file(bytes, "f", None).err(), block("a", bytes, "b", None).err()].into_iter().flatten() {
                    prop_assert!(!message.message.chars().any(char::is_control));
                }
            }
        }
    }
}
