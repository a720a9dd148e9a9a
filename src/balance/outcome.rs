//! How a try ended, by nginx's variables.
//!
//! `$upstream_addr`, `$upstream_status` and `$upstream_header_time` have a value for each try. Between those of one upstream
//! stands ", ". Where nginx went on to another upstream by a redirect inside of it, " : " stands
//! (ngx_http_upstream_addr_variable in src/http/ngx_http_upstream.c).

use crate::upstream::Address;

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The peer answered.
    Success,
    /// It did not.
    Failure,
    /// It was not the peer's doing: the client went, or the worker ends.
    Unknown,
}

impl Outcome {
    /// The outcome of the last try of the peer with this identity. `variable` reads the value of a variable, if it has one.
    ///
    /// A peer that has answered has a time at which its header was there. One that failed has none, but the status that nginx put in
    /// its place: not that of the response, which configuration may change. A try that ended for the client's sake has neither.
    pub fn of(ident: u64, variable: impl Fn(&'static str, &mut dyn FnMut(&[u8]))) -> Outcome {
        let is_there = |name| {
            let mut found = None;
            variable(name, &mut |values| {
                found = match position_of(values, ident, &variable) {
                    Position::Last => values.last().map(|&last| last != b'-'),
                    Position::Nth(place) => tries(values).nth(place).map(|value| value != b"-"),
                    Position::Nowhere => None,
                };
            });
            found
        };
        match is_there("upstream_header_time") {
            Some(true) => Outcome::Success,
            Some(false) if is_there("upstream_status") == Some(true) => Outcome::Failure,
            _ => Outcome::Unknown,
        }
    }
}

/// Which of the values is that of a try.
enum Position {
    Last,
    Nth(usize),
    Nowhere,
}

/// With one upstream it is the last. With several, not all of which need be ours, the address tells.
fn position_of(values: &[u8], ident: u64, variable: impl Fn(&'static str, &mut dyn FnMut(&[u8]))) -> Position {
    if !values.windows(3).any(|three| three == b" : ") {
        return Position::Last;
    }
    let mut place = Position::Nowhere;
    variable("upstream_addr", &mut |addresses| {
        let own = tries(addresses).enumerate().filter(|&(_, address)| is_of(address, ident)).last();
        place = own.map_or(Position::Nowhere, |(place, _)| Position::Nth(place));
    });
    place
}

fn is_of(address: &[u8], ident: u64) -> bool {
    let address = std::str::from_utf8(address).ok().and_then(|text| Address::from_server(text).ok());
    address.is_some_and(|address| address.ident() == ident)
}

/// Of the values of a variable, that of the try that has just ended; the next one has begun, and nothing is known of it.
pub(super) fn of_the_last(values: &[u8]) -> &[u8] {
    tries(values.strip_suffix(b" : ").unwrap_or(values)).last().unwrap_or_default()
}

/// The values, one a try.
fn tries(values: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(values);
    std::iter::from_fn(move || {
        let values = rest?;
        let separators = [&b", "[..], b" : "];
        let end = (0..values.len()).find_map(|at| {
            let separator = separators.into_iter().find(|separator| values[at..].starts_with(separator))?;
            Some((at, at + separator.len()))
        });
        rest = end.map(|(_, next)| &values[next..]);
        Some(end.map_or(values, |(end, _)| &values[..end]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "10.0.0.1:80";

    fn outcome(addresses: &str, statuses: &str, times: &str) -> Outcome {
        let ident = Address::from_server(HERE).expect("one").ident();
        Outcome::of(ident, |name, read| match name {
            "upstream_addr" => read(addresses.as_bytes()),
            "upstream_status" => read(statuses.as_bytes()),
            "upstream_header_time" => read(times.as_bytes()),
            _ => {}
        })
    }

    #[test]
    fn a_try_has_answered_failed_or_ended_for_the_client_s_sake() {
        assert_eq!(outcome(HERE, "200", "0.001"), Outcome::Success);
        assert_eq!(outcome(HERE, "502", "-"), Outcome::Failure);
        assert_eq!(outcome(HERE, "-", "-"), Outcome::Unknown);
        assert_eq!(Outcome::of(0, |_, _| {}), Outcome::Unknown);
    }

    #[test]
    fn of_several_tries_the_last_one_counts() {
        assert_eq!(outcome("10.0.0.2:80, 10.0.0.1:80", "504, 200", "-, 0.001"), Outcome::Success);
        assert_eq!(outcome("10.0.0.2:80, 10.0.0.1:80", "500, 502", "0.001, -"), Outcome::Failure);
    }

    #[test]
    fn a_try_is_not_taken_for_one_of_another_upstream() {
        assert_eq!(outcome("10.0.0.1:80 : 10.0.0.2:80", "502 : 200", "- : 0.001"), Outcome::Failure);
        assert_eq!(outcome("10.0.0.2:80 : 10.0.0.1:80", "502 : 200", "- : 0.001"), Outcome::Success);
        assert_eq!(outcome("10.0.0.1:80 : ", "200 : -", "0.001 : -"), Outcome::Success, "the next one begins");
        let three = "10.0.0.3:80, 10.0.0.1:80 : unix:/a, [::1]:80";
        assert_eq!(outcome(three, "502, 504 : 502, 200", "-, - : -, 0.001"), Outcome::Failure);
        assert_eq!(outcome("10.0.0.1:80 : 10.0.0.1:80", "502 : 200", "- : 0.001"), Outcome::Success, "the later one");
        assert_eq!(outcome("10.0.0.2:80 : 10.0.0.3:80", "502 : 200", "- : 0.001"), Outcome::Unknown);
        assert_eq!(outcome("", " : ", " : "), Outcome::Unknown);
    }
}
