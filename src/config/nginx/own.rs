//! Lines of a block that only nginx itself can act upon, since the connections and the memory are its own. A line
//! that nginx refuses is an error, another one is ignored with a warning.

use std::collections::HashMap;

use super::reading::Reading;
use super::time;
use super::tokens::{Directive, Place};
use crate::error::Result;
use crate::quote::quote;
use crate::version::NginxVersion;

/// The lines, and how each is written.
pub(super) const LINES: [(&str, &str); 5] = [
    ("keepalive", "keepalive CONNECTIONS"),
    ("keepalive_requests", "keepalive_requests NUMBER"),
    ("keepalive_time", "keepalive_time TIME"),
    ("keepalive_timeout", "keepalive_timeout TIME"),
    ("zone", "zone NAME [SIZE]"),
];

/// The first nginx that takes `keepalive 0;` and `keepalive N local;`, since it keeps connections without being asked.
const KEEPS_BY_DEFAULT: NginxVersion = NginxVersion::new(1, 29, 7);

/// The least size of a zone: eight pages.
const LEAST_ZONE: u64 = 8 * 4096;

/// The lines of one block so far.
#[derive(Default)]
pub(super) struct Own {
    seen: Vec<&'static str>,
    zones: HashMap<Vec<u8>, (u64, Place)>,
}

impl Own {
    /// Takes one of [`LINES`], and warns that it is ignored.
    pub(super) fn line(&mut self, name: &'static str, directive: &Directive, reading: &mut Reading<'_>) -> Result<()> {
        let arguments = directive.arguments();
        let has_local = name == "keepalive" && reading.nginx_before(KEEPS_BY_DEFAULT).is_none();
        let most = if name == "zone" || has_local { 2 } else { 1 };
        if !(1..=most).contains(&arguments.len()) {
            return Err(wrong_number(name, directive));
        }
        // In nginx's order: a second line of this name is one too many, with any value.
        if name != "zone" && self.seen.contains(&name) {
            return Err(directive.error(format_args!("\"{name}\" directive is duplicate")));
        }
        self.seen.push(name);
        match (name, &arguments[..]) {
            ("zone", [zone, rest @ ..]) => self.zone(directive, zone, rest.first().copied())?,
            ("keepalive", [connections, rest @ ..]) => {
                keepalive(directive, connections, reading)?;
                if let Some(parameter) = rest.iter().find(|parameter| **parameter != b"local") {
                    let parameter = quote(parameter);
                    return Err(directive.error(format_args!("invalid parameter {parameter}; allowed: local")));
                }
            }
            ("keepalive_requests", [number]) => check(directive, digits(number).is_some(), "number", number)?,
            (_, [time, ..]) => {
                let milliseconds = std::str::from_utf8(time).ok().and_then(time::milliseconds);
                check(directive, milliseconds.is_some(), "value", time)?;
            }
            (_, []) => {}
        }
        reading.warn(&directive.place, format_args!("{name} belongs into nginx.conf's upstream block: ignored"));
        Ok(())
    }

    /// A zone without a size is one that another block describes.
    fn zone(&mut self, directive: &Directive, name: &[u8], size: Option<&[u8]>) -> Result<()> {
        if name.is_empty() {
            return Err(directive.error("invalid zone name \"\"; allowed: zone NAME [SIZE]"));
        }
        let Some(text) = size else { return Ok(()) };
        let Some(size) = bytes(text) else {
            let allowed = "allowed: a number of bytes, or of k or m, such as 64k";
            return Err(directive.error(format_args!("invalid zone size {}; {allowed}", quote(text))));
        };
        let zone = quote(name);
        if size < LEAST_ZONE {
            return Err(directive.error(format_args!("zone {zone} is too small; allowed: at least 32k")));
        }
        match self.zones.get(name) {
            Some((other, first)) if *other != size => {
                let first = first.seen_from(&directive.place);
                Err(directive.error(format_args!("the size {size} of zone {zone} conflicts with {other} on {first}")))
            }
            _ => {
                self.zones.insert(name.to_vec(), (size, directive.place.clone()));
                Ok(())
            }
        }
    }
}

/// An error for a number of arguments that nginx refuses.
pub(super) fn wrong_number(name: &str, directive: &Directive) -> crate::error::Error {
    let allowed = LINES.iter().find(|(line, _)| *line == name).map_or(name, |(_, allowed)| allowed);
    directive.error(format_args!("invalid number of arguments in \"{name}\" directive; allowed: {allowed}"))
}

fn keepalive(directive: &Directive, connections: &[u8], reading: &Reading<'_>) -> Result<()> {
    let shown = quote(connections);
    match (digits(connections), reading.nginx_before(KEEPS_BY_DEFAULT)) {
        (None, _) => {
            Err(directive.error(format_args!("invalid value {shown} in \"keepalive\" directive; allowed: a number")))
        }
        (Some(0), Some(nginx)) => {
            let why = format!("nginx {nginx} keeps none without this line, and takes 0 from {KEEPS_BY_DEFAULT} on");
            Err(directive.error(format_args!("invalid value {shown} in \"keepalive\" directive: {why}; leave it out")))
        }
        _ => Ok(()),
    }
}

fn check(directive: &Directive, good: bool, what: &str, value: &[u8]) -> Result<()> {
    if good {
        return Ok(());
    }
    let (name, value) = (String::from_utf8_lossy(directive.name()).into_owned(), quote(value));
    let allowed = if what == "number" { "a number" } else { "a time such as 60s or 500ms" };
    Err(directive.error(format_args!("\"{name}\" directive invalid {what} {value}; allowed: {allowed}")))
}

/// A number as nginx reads one.
fn digits(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse::<i64>().ok().map(|number| number as u64)
}

/// A size as nginx reads one: a number, of k or m.
fn bytes(text: &[u8]) -> Option<u64> {
    let (number, unit) = match text {
        [number @ .., b'k' | b'K'] => (number, 1 << 10),
        [number @ .., b'm' | b'M'] => (number, 1 << 20),
        number => (number, 1),
    };
    let size = digits(number)?.checked_mul(unit)?;
    (size <= i64::MAX as u64).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::super::block;
    use super::*;

    const OLD: Option<NginxVersion> = Some(NginxVersion::new(1, 29, 6));
    const NEW: Option<NginxVersion> = Some(KEEPS_BY_DEFAULT);

    fn read(body: &str, nginx: Option<NginxVersion>) -> Result<Vec<String>> {
        block("api", format!("{body}\nserver 1.1.1.1;").as_bytes(), "b", nginx).map(|(_, warnings)| warnings)
    }

    fn why(body: &str, nginx: Option<NginxVersion>) -> String {
        read(body, nginx).expect_err(body).message.into_owned()
    }

    #[test]
    fn what_only_nginx_can_do_is_a_warning() {
        let body = "keepalive 16;\nzone api 64k; zone api; zone b 32768;\nkeepalive_timeout 60s;\nkeepalive_time 1h;\n\
                    keepalive_requests 0;";
        let lines = ["1: keepalive", "2: zone", "2: zone", "2: zone", "3: keepalive_timeout", "4: keepalive_time"];
        let expected: Vec<_> = [&lines[..], &["5: keepalive_requests"]]
            .concat()
            .iter()
            .map(|line| format!("b:{line} belongs into nginx.conf's upstream block: ignored"))
            .collect();
        assert_eq!(read(body, OLD), Ok(expected));
    }

    #[test]
    fn what_nginx_refuses_is_refused_with_its_reason() {
        for (line, why_not) in [
            ("zone;", r#"invalid number of arguments in "zone" directive; allowed: zone NAME [SIZE]"#),
            ("zone a 64k b;", r#"invalid number of arguments in "zone" directive; allowed: zone NAME [SIZE]"#),
            (r#"zone "" 64k;"#, r#"invalid zone name ""; allowed: zone NAME [SIZE]"#),
            ("zone a 64g;", r#"invalid zone size "64g"; allowed: a number of bytes, or of k or m, such as 64k"#),
            ("zone a 31k;", r#"zone "a" is too small; allowed: at least 32k"#),
            ("zone a 64k; zone a 65k;", r#"the size 66560 of zone "a" conflicts with 65536 on line 1"#),
            ("keepalive;", r#"invalid number of arguments in "keepalive" directive; allowed: keepalive CONNECTIONS"#),
            ("keepalive -1;", r#"invalid value "-1" in "keepalive" directive; allowed: a number"#),
            ("keepalive 1; keepalive 1;", r#""keepalive" directive is duplicate"#),
            ("keepalive_requests x;", r#""keepalive_requests" directive invalid number "x"; allowed: a number"#),
            (
                "keepalive_time 1M;",
                r#""keepalive_time" directive invalid value "1M"; allowed: a time such as 60s or 500ms"#,
            ),
            ("keepalive_timeout 1; keepalive_timeout x;", r#""keepalive_timeout" directive is duplicate"#),
        ] {
            for nginx in [None, OLD, NEW] {
                assert_eq!(why(line, nginx), format!("b:1: {why_not}"), "{nginx:?}");
            }
        }
    }

    #[test]
    fn what_newer_versions_of_nginx_take_is_refused_for_older_ones() {
        let zero = "b:1: invalid value \"0\" in \"keepalive\" directive: nginx 1.29.6 keeps none without this line, and takes 0 \
                    from 1.29.7 on; leave it out";
        assert_eq!(why("keepalive 0;", OLD), zero);
        let number = "b:1: invalid number of arguments in \"keepalive\" directive; allowed: keepalive CONNECTIONS";
        assert_eq!(why("keepalive 32 local;", OLD), number);
        assert_eq!(why("keepalive 32 single;", OLD), number);
        for nginx in [None, NEW] {
            assert_eq!(read("keepalive 0;", nginx).map(|warnings| warnings.len()), Ok(1));
            assert_eq!(read("keepalive 32 local;", nginx).map(|warnings| warnings.len()), Ok(1));
            assert_eq!(why("keepalive 32 single;", nginx), "b:1: invalid parameter \"single\"; allowed: local");
        }
    }
}
