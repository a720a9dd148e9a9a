//! A route: the upstreams that a host leads to.

use crate::error::{Error, Result};
use crate::quote::quote;

/// Most upstreams that one route may lead to.
pub const MAX_TARGETS: usize = 64;

/// Most bytes of the name of a variable.
pub const MAX_KEY_BYTES: usize = 128;

/// An upstream that a route leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub upstream: String,
    /// Its share of the requests, beside those of the others.
    pub weight: u16,
}

/// A route. With several targets it is a split.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// As [`super::host::check`] has it.
    pub host: String,
    /// In the order in which they were given; no two with one upstream.
    pub targets: Vec<Target>,
    /// The variable of nginx by whose value a split is made, without its `$`. `None`: requests take turns.
    pub key: Option<String>,
}

impl Route {
    /// Checks that there are targets, that requests can go to one, and that no upstream is there twice.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Invalid`], without the place of the targets.
    pub fn check(&self) -> Result<()> {
        let count = self.targets.len();
        if !(1..=MAX_TARGETS).contains(&count) {
            return Err(Error::invalid(format!("{count} upstreams: allowed: 1 to {MAX_TARGETS}")));
        }
        if self.targets.iter().all(|target| target.weight == 0) {
            return Err(Error::invalid("all weights are 0: allowed: one above 0 at least"));
        }
        let is_twice =
            |(at, target): (usize, &Target)| self.targets[..at].iter().any(|other| other.upstream == target.upstream);
        match (0..).zip(&self.targets).find(|&target| is_twice(target)) {
            Some((_, target)) => Err(Error::invalid(format!("upstream {}: it is there twice", target.upstream))),
            None => Ok(()),
        }
    }

    /// Its targets in words, for a line of a log: `blue 90, green 10 by $cookie_u`.
    pub fn in_words(&self) -> String {
        let word = |target: &Target| format!("{} {}", target.upstream, target.weight);
        let targets = match self.targets.as_slice() {
            [one] => one.upstream.clone(),
            all => all.iter().map(word).collect::<Vec<_>>().join(", "),
        };
        match &self.key {
            Some(key) => format!("{targets} by ${key}"),
            None => targets,
        }
    }
}

/// The variable that `key` names, without its `$` and in lower case, as nginx looks for it.
///
/// # Errors
///
/// [`crate::error::Code::Invalid`]: it names none, or more than one.
///
/// ```
/// use dyups::upstream::route::variable;
/// assert_eq!(variable("$cookie_User").unwrap(), "cookie_user");
/// assert!(variable("$a$b").is_err());
/// ```
pub fn variable(key: &str) -> Result<String> {
    let is_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match key.strip_prefix('$') {
        Some(name) if (1..=MAX_KEY_BYTES).contains(&name.len()) && name.bytes().all(is_byte) => {
            Ok(name.to_ascii_lowercase())
        }
        _ => Err(Error::invalid(format!(
            "{}: allowed: one variable of nginx, such as \"$cookie_user\"",
            quote(key.as_bytes())
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(targets: &[(&str, u16)]) -> Route {
        let target = |&(upstream, weight): &(&str, u16)| Target { upstream: upstream.into(), weight };
        Route { host: "a".into(), targets: targets.iter().map(target).collect(), key: None }
    }

    #[test]
    fn a_route_leads_somewhere_and_to_no_upstream_twice() {
        let why = |targets: &[(&str, u16)]| route(targets).check().map_err(|error| error.message.into_owned());
        assert_eq!(why(&[("a", 0), ("b", 1)]), Ok(()));
        assert_eq!(why(&[]), Err("0 upstreams: allowed: 1 to 64".into()));
        assert_eq!(why(&[("a", 0)]), Err("all weights are 0: allowed: one above 0 at least".into()));
        assert_eq!(why(&[("a", 1), ("b", 2), ("a", 3)]), Err("upstream a: it is there twice".into()));
        let many: Vec<String> = (0..=MAX_TARGETS).map(|i| i.to_string()).collect();
        let many: Vec<(&str, u16)> = many.iter().map(|name| (name.as_str(), 1)).collect();
        assert_eq!((why(&many), why(&many[1..])), (Err("65 upstreams: allowed: 1 to 64".into()), Ok(())));
    }

    #[test]
    fn a_key_is_one_variable() {
        for key in ["", "$", "cookie_u", "${cookie_u}", "$a.b", "$a b", "$ä", &format!("${}", "x".repeat(129))] {
            let error = variable(key).expect_err(key).message;
            assert!(error.ends_with(r#": allowed: one variable of nginx, such as "$cookie_user""#), "{error}");
        }
        assert_eq!(variable(&format!("${}", "X".repeat(128))), Ok("x".repeat(128)));
    }

    #[test]
    fn a_route_is_a_few_words() {
        assert_eq!(route(&[("api", 1)]).in_words(), "api");
        let split = Route { key: Some("cookie_u".into()), ..route(&[("blue", 90), ("green", 10)]) };
        assert_eq!(split.in_words(), "blue 90, green 10 by $cookie_u");
    }
}
