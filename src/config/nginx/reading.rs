//! The state of one reading: the version of nginx, warnings, and files that include others.

use std::path::{Path, PathBuf};

use super::tokens::{Directive, End, Place, Reader};
use crate::config::files::{Files, Id};
use crate::error::{Error, Result};
use crate::quote::{file, quote};
use crate::shm::glob;
use crate::version::NginxVersion;

/// How deep files may include each other.
const MAX_DEPTH: usize = 16;

/// Most warnings of files, which go to a log.
const MAX_WARNINGS: usize = 100;

/// Most warnings of a text that is no file: they go into a header.
const MAX_WARNINGS_OF_A_TEXT: usize = 10;

/// A reading, from its first text to the last file that is included.
pub(super) struct Reading<'a> {
    nginx: Option<NginxVersion>,
    warnings: Vec<String>,
    /// How many more there were.
    left_out: usize,
    /// `None`: a text that is no file includes none.
    includes: Option<Includes<'a>>,
}

/// The files that are open.
struct Includes<'a> {
    files: &'a mut Files,
    /// From the first to the one that is being read.
    open: Vec<(Id, PathBuf)>,
}

impl<'a> Reading<'a> {
    /// Of a text for this version of nginx; `None`: any.
    pub(super) fn new(nginx: Option<NginxVersion>) -> Reading<'a> {
        Reading { nginx, warnings: Vec::new(), left_out: 0, includes: None }
    }

    /// Of a file at `path`, which is `id`, and of those that it includes.
    pub(super) fn of_file(nginx: Option<NginxVersion>, path: &Path, id: Id, files: &'a mut Files) -> Reading<'a> {
        let includes = Some(Includes { files, open: vec![(id, path.to_owned())] });
        Reading { includes, ..Reading::new(nginx) }
    }

    /// The version of nginx, where it is before `version`. One that is not known is no such.
    pub(super) fn nginx_before(&self, version: NginxVersion) -> Option<NginxVersion> {
        self.nginx.filter(|nginx| *nginx < version)
    }

    /// Something that an operator should know; so many are kept, and of the others their number.
    pub(super) fn warn(&mut self, place: &Place, message: impl std::fmt::Display) {
        let most = if self.includes.is_some() { MAX_WARNINGS } else { MAX_WARNINGS_OF_A_TEXT };
        if self.warnings.len() < most {
            self.warnings.push(format!("{place}: {message}"));
        } else {
            self.left_out += 1;
        }
    }

    /// The warnings, at the end.
    pub(super) fn into_warnings(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.warnings.push(format!("and {} more warnings", self.left_out));
        }
        self.warnings
    }

    /// `include FILES;`: has `read` read each of them, whole.
    pub(super) fn include(
        &mut self,
        directive: &Directive,
        read: &mut dyn FnMut(&mut Reading<'a>, &mut Reader<'_>) -> Result<()>,
    ) -> Result<()> {
        let [pattern] = directive.arguments()[..] else {
            let message = "invalid number of arguments in \"include\" directive; allowed: include FILE";
            return Err(directive.error(message));
        };
        if directive.end == End::Open {
            return Err(directive.error("\"include\" is not ended by \";\""));
        }
        let within = |error: Error| directive.error(format_args!("include {}: {error}", quote(pattern)));
        let paths = self.paths(pattern).map_err(within)?;
        if paths.is_empty() {
            self.warn(&directive.place, format_args!("include {}: no file matches", quote(pattern)));
        }
        for path in paths {
            let bytes = self.open(&path).map_err(within)?;
            read(self, &mut Reader::new(&bytes, &file(&path)))?;
            self.close();
        }
        Ok(())
    }

    /// The files that `pattern` stands for, relative to the file that includes them.
    fn paths(&self, pattern: &[u8]) -> Result<Vec<PathBuf>> {
        let Some(Includes { open, .. }) = &self.includes else {
            return Err(Error::invalid("allowed in files only; write the lines themselves"));
        };
        let name = std::str::from_utf8(pattern).map_err(|_| Error::invalid("not UTF-8"))?;
        if name.is_empty() || name.contains('\0') {
            return Err(Error::invalid("allowed: the name of a file, or a pattern"));
        }
        let directory = open.last().and_then(|(_, path)| path.parent()).unwrap_or(Path::new("/"));
        if glob::is_pattern(pattern) { glob::glob(directory, pattern) } else { Ok(vec![directory.join(name)]) }
    }

    fn open(&mut self, path: &Path) -> Result<Vec<u8>> {
        let Some(Includes { files, open }) = &mut self.includes else { return Ok(Vec::new()) };
        if open.len() > MAX_DEPTH {
            return Err(Error::invalid(format!("{}: allowed: at most {MAX_DEPTH} files deep", file(path))));
        }
        let (bytes, id) = files.read(path)?;
        if let Some(first) = open.iter().position(|(other, _)| *other == id) {
            let circle: Vec<_> = open[first..].iter().map(|(_, path)| file(path)).collect();
            return Err(Error::invalid(format!("a circle: {} includes {}", circle.join(" includes "), file(path))));
        }
        if bytes.trim_ascii_start().first() == Some(&b'{') {
            let message = "JSON is not included: allowed: nginx's syntax; name a JSON file in \"files\" of setup";
            return Err(Error::invalid(message).within(file(path)));
        }
        open.push((id, path.to_owned()));
        Ok(bytes)
    }

    fn close(&mut self) {
        if let Some(Includes { open, .. }) = &mut self.includes {
            open.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;
    use crate::config::files::MAX_FILES;
    use crate::config::files::tests::Scratch;
    use crate::upstream::Upstream;

    fn load(scratch: &Scratch, name: &str) -> Result<(Vec<Upstream>, Vec<String>)> {
        let mut files = Files::default();
        let path = scratch.0.join(name);
        let (bytes, id) = files.read(&path)?;
        read(&path, (&bytes, id), None, &mut files)
    }

    /// The message, without the directory.
    fn why(scratch: &Scratch, name: &str) -> String {
        load(scratch, name).expect_err(name).message.replace(&format!("{}/", scratch.0.display()), "")
    }

    fn servers(upstreams: &[Upstream]) -> Vec<String> {
        let shown = |upstream: &Upstream| {
            let servers: Vec<_> = upstream.peers.iter().map(|peer| peer.address.server()).collect();
            format!("{}: {}", upstream.name, servers.join(" "))
        };
        upstreams.iter().map(shown).collect()
    }

    #[test]
    fn files_are_included_relative_to_the_file_that_says_so() {
        let scratch = Scratch::new("include");
        scratch.file("all.conf", b"include sub/*.conf;\nupstream z { include sub/peers; server 1.1.1.9; }");
        scratch.file("sub/b.conf", b"\xef\xbb\xbfupstream b { include peers; }");
        scratch.file("sub/a.conf", b"upstream a { server 1.1.1.3; include [p]eers; }");
        scratch.file("sub/peers", b"server 1.1.1.1; server 1.1.1.2;");
        let (upstreams, warnings) = load(&scratch, "all.conf").unwrap();
        let expected = ["a: 1.1.1.3 1.1.1.1 1.1.1.2", "b: 1.1.1.1 1.1.1.2", "z: 1.1.1.1 1.1.1.2 1.1.1.9"];
        assert_eq!((servers(&upstreams), warnings.len()), (expected.map(String::from).to_vec(), 0));
        scratch.file("absolute.conf", format!("include {}/sub/a.conf;", scratch.0.display()).as_bytes());
        assert_eq!(servers(&load(&scratch, "absolute.conf").unwrap().0), expected[..1]);
    }

    #[test]
    fn a_pattern_may_match_nothing_and_a_name_may_not() {
        let scratch = Scratch::new("match");
        scratch.file("none.conf", b"\ninclude none/*.conf;");
        let (upstreams, warnings) = load(&scratch, "none.conf").unwrap();
        assert_eq!((upstreams.len(), warnings.len()), (0, 1));
        assert!(warnings[0].ends_with("none.conf:2: include \"none/*.conf\": no file matches"), "{warnings:?}");
        scratch.file("one.conf", b"\ninclude one;");
        assert_eq!(
            why(&scratch, "one.conf"),
            "one.conf:2: include \"one\": one: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn what_is_wrong_is_said_where_it_is() {
        let scratch = Scratch::new("wrong");
        scratch.file("a.conf", b"include b.conf;");
        for (content, message) in [
            ("\nupstream a { server x; }", "b.conf:2: server: \"x\": a name that needs DNS; allowed: "),
            ("\n}", "b.conf:2: unexpected \"}\""),
            ("upstream a {\nserver 1.1.1.1;", "b.conf:1: upstream \"a\" is not closed by \"}\""),
            (
                " {\"upstreams\": {}}",
                "a.conf:1: include \"b.conf\": b.conf: JSON is not included: allowed: nginx's syntax",
            ),
            ("include;", "b.conf:1: invalid number of arguments in \"include\" directive; allowed: include FILE"),
            ("include a b;", "b.conf:1: invalid number of arguments"),
            ("include a { }", "b.conf:1: \"include\" is not ended by \";\""),
            ("include '';", "b.conf:1: include \"\": allowed: the name of a file, or a pattern"),
            ("include .;", "b.conf:1: include \".\": .: not a regular file"),
            ("upstream a { server 1.1.1.1; } include c.conf;", "c.conf:2: upstream \"a\": is on b.conf:1 already"),
        ] {
            scratch.file("b.conf", content.as_bytes());
            scratch.file("c.conf", b"\nupstream a { server 1.1.1.1; }");
            let error = why(&scratch, "a.conf");
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn a_block_is_closed_in_the_file_that_has_opened_it() {
        let scratch = Scratch::new("closed");
        scratch.file("a.conf", b"upstream a { server 1.1.1.1; include end;");
        scratch.file("end", b"}");
        assert_eq!(why(&scratch, "a.conf"), "end:1: unexpected \"}\"");
    }

    #[test]
    fn a_circle_is_named_file_by_file() {
        let scratch = Scratch::new("circle");
        scratch.file("start.conf", b"include a.conf;");
        scratch.file("a.conf", b"upstream a { include b; }");
        scratch.file("b", b"server 1.1.1.1;\ninclude c;");
        std::os::unix::fs::symlink(scratch.0.join("a.conf"), scratch.0.join("c")).unwrap();
        let circle = "b:2: include \"c\": a circle: a.conf includes b includes c";
        assert_eq!(why(&scratch, "start.conf"), circle);
        scratch.file("self.conf", b"include *f.conf;");
        assert_eq!(
            why(&scratch, "self.conf"),
            "self.conf:1: include \"*f.conf\": a circle: self.conf includes self.conf"
        );
    }

    #[test]
    fn includes_are_so_deep_and_so_many_and_no_more() {
        let scratch = Scratch::new("deep");
        for i in 0..=MAX_DEPTH + 1 {
            scratch.file(&i.to_string(), format!("include {};", i + 1).as_bytes());
        }
        scratch.file(&(MAX_DEPTH + 1).to_string(), b"");
        let deep = format!("{MAX_DEPTH}:1: include \"{0}\": {0}: allowed: at most 16 files deep", MAX_DEPTH + 1);
        assert_eq!(why(&scratch, "0"), deep);
        assert!(load(&scratch, "1").is_ok());
        // Each doubles what the next one reads.
        for i in 0..MAX_DEPTH {
            scratch.file(&i.to_string(), format!("include {0}; include {0};", i + 1).as_bytes());
        }
        scratch.file(&MAX_DEPTH.to_string(), b"");
        let many = format!("one file more than the {MAX_FILES} that are allowed");
        assert!(why(&scratch, "0").ends_with(&many));
    }

    #[test]
    fn a_name_of_a_file_cannot_begin_a_line_of_the_log() {
        let scratch = Scratch::new("forged");
        scratch.file("a.conf", b"include *.inc;");
        scratch.file("x\nforged.inc", b"}");
        assert_eq!(why(&scratch, "a.conf"), "x\\x0aforged.inc:1: unexpected \"}\"");
        std::fs::remove_file(scratch.0.join("x\nforged.inc")).unwrap();
        std::fs::create_dir(scratch.0.join("x\nforged.inc")).unwrap();
        assert!(!why(&scratch, "a.conf").contains('\n'));
    }

    #[test]
    fn a_warning_names_the_line_in_the_other_file() {
        let scratch = Scratch::new("warning");
        scratch.file("a.conf", b"upstream a {\nserver 1.1.1.1;\ninclude b; }");
        scratch.file("b", b"\nserver 1.1.1.1;");
        let (upstreams, warnings) = load(&scratch, "a.conf").unwrap();
        assert_eq!(upstreams[0].peers[0].weight, 2);
        let (a, b) = (scratch.0.join("a.conf"), scratch.0.join("b"));
        let (a, b) = (a.display(), b.display());
        let expected = format!("{b}:2: server 1.1.1.1: the same address as on {a}:2: one peer, of weight 2");
        assert_eq!(warnings, [expected]);
    }
}
