//! The upstreams and routes in the files that `setup` names, in either syntax.

use super::Bounded;
use crate::config::json::File;
use crate::config::nginx::Files;
use crate::config::{json, nginx};
use crate::error::{Error, Result};
use crate::upstream::{Route, Upstream};
use crate::version::NginxVersion;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The content of all files.
#[derive(Debug, Default)]
pub struct FromFiles<'a> {
    /// All upstreams.
    pub upstreams: Vec<Upstream>,
    /// All routes.
    pub routes: Vec<Route>,
    /// The file of each upstream, by its name.
    pub file_of: HashMap<String, &'a Path>,
    /// The file of each route, by its host.
    pub file_of_route: HashMap<String, &'a Path>,
}

/// Reads all of `paths`, and the files that they include, for this version of nginx. Warnings for the operator go to `notes`.
///
/// # Errors
///
/// [`crate::error::Code::System`]: a file cannot be read. [`crate::error::Code::Invalid`]: a file is empty or has bad
/// syntax, an upstream or a route is in two files, or the files exceed [`Bounded`].
pub fn read_all<'a>(
    paths: &'a [PathBuf],
    nginx: Option<NginxVersion>,
    notes: &mut Vec<String>,
) -> Result<FromFiles<'a>> {
    let mut all = FromFiles::default();
    let mut files = Bounded::default();
    for path in paths {
        let file = read(path, nginx, &mut files, notes)?;
        let mut names = file.upstreams.iter().map(|upstream| upstream.name.as_str());
        names.try_for_each(|name| note(&mut all.file_of, "upstream", name, path))?;
        let mut hosts = file.routes.iter().map(|route| route.host.as_str());
        hosts.try_for_each(|host| note(&mut all.file_of_route, "route", host, path))?;
        all.upstreams.extend(file.upstreams);
        all.routes.extend(file.routes);
    }
    Ok(all)
}

/// Notes the file of a name, which may be in one alone.
fn note<'a>(file_of: &mut HashMap<String, &'a Path>, what: &str, name: &str, path: &'a Path) -> Result<()> {
    match file_of.insert(name.to_owned(), path) {
        None => Ok(()),
        Some(first) => {
            let (first, path) = (first.display(), path.display());
            Err(Error::invalid(format!("{path}: {what} {name} is in {first} already")))
        }
    }
}

/// A file in either syntax: JSON begins with a brace, nginx's with a word.
fn read(path: &Path, nginx: Option<NginxVersion>, files: &mut Bounded, notes: &mut Vec<String>) -> Result<File> {
    let (bytes, id) = files.read(path)?;
    let shown = path.display();
    if bytes.trim_ascii().is_empty() {
        // Cut short, most likely. Taken as "no upstreams", it would delete all that came from it.
        return Err(Error::invalid(format!(
            "{shown}: empty: allowed: JSON, {{\"upstreams\": {{}}}} for none, or upstream blocks"
        )));
    }
    if bytes.trim_ascii_start().first() == Some(&b'{') {
        return json::file(&bytes).map_err(|error| error.within(shown));
    }
    let (upstreams, mut warnings) = nginx::read(path, (&bytes, id), nginx, files)?;
    notes.append(&mut warnings);
    Ok(File { upstreams, routes: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::nginx::MAX_DEPTH;
    use crate::source::MAX_FILES;
    use crate::source::bounded::tests::Scratch;

    fn load(scratch: &Scratch, name: &str) -> Result<(Vec<Upstream>, Vec<String>)> {
        let mut warnings = Vec::new();
        let file = read(&scratch.0.join(name), None, &mut Bounded::default(), &mut warnings)?;
        Ok((file.upstreams, warnings))
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
        scratch.file(&(MAX_DEPTH + 1).to_string(), b"#");
        let deep = format!("{MAX_DEPTH}:1: include \"{0}\": {0}: allowed: at most 16 files deep", MAX_DEPTH + 1);
        assert_eq!(why(&scratch, "0"), deep);
        assert!(load(&scratch, "1").is_ok());
        // Each has the next one read twice.
        for i in 0..MAX_DEPTH {
            scratch.file(&i.to_string(), format!("include {0}; include {0};", i + 1).as_bytes());
        }
        scratch.file(&MAX_DEPTH.to_string(), b"#");
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
