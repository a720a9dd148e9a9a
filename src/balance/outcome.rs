//! How a try ended, by nginx's variables.
//!
//! `$upstream_addr`, `$upstream_status`, `$upstream_header_time` and others have a value for each try. Between those of one upstream
//! stands ", ". Where nginx went on to another upstream by a redirect inside of it, " : " stands
//! (ngx_http_upstream_addr_variable in src/http/ngx_http_upstream.c). nginx has an entry of its own for that redirect.

use crate::stats::ended::Ended;
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

impl From<&Ended> for Outcome {
    /// A peer that has answered has a time at which its header was there. One that failed has none, but the status that nginx put in
    /// its place: not that of the response, which configuration may change. A try that ended for the client's sake has neither.
    fn from(ended: &Ended) -> Self {
        match (ended.was_answered(), ended.has_failed()) {
            (true, _) => Outcome::Success,
            (_, true) => Outcome::Failure,
            _ => Outcome::Unknown,
        }
    }
}

/// A try of a request, among all that its variables tell of.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    /// The last one of the peer with this identity.
    LastOf(u64),
    /// nginx's entry with this index.
    Nth(u32),
}

/// The end of a try, by the variables of its request. `variable` reads the value of a variable, if it has one.
pub fn by_variables(which: Which, variable: impl Fn(&'static str, &mut dyn FnMut(&[u8]))) -> Ended {
    let value = |name, mut read: &mut dyn FnMut(&[u8])| {
        variable(name, &mut |values| {
            let value = match which {
                Which::Nth(nth) => entry(values, nth),
                Which::LastOf(ident) => match position_of(values, ident, &variable) {
                    Position::Last => tries(values).last(),
                    Position::Nth(place) => tries(values).nth(place),
                    Position::Nowhere => None,
                },
            };
            value.into_iter().for_each(&mut read);
        });
    };
    let number = |name| {
        let mut found = None;
        value(name, &mut |text| found = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()));
        found
    };
    let ms = |name| {
        let mut found = None;
        value(name, &mut |text| found = milliseconds(text));
        found
    };
    Ended {
        status: number("upstream_status").map_or(0, |status| status as u16),
        connect_ms: ms("upstream_connect_time"),
        header_ms: ms("upstream_header_time"),
        response_ms: ms("upstream_response_time"),
        kept: false,
        retry: false,
        sent: number("upstream_bytes_sent").unwrap_or_default(),
        received: number("upstream_bytes_received").unwrap_or_default(),
    }
}

/// `0.017` is 17.
fn milliseconds(text: &[u8]) -> Option<u32> {
    let (seconds, rest) = std::str::from_utf8(text).ok()?.split_once('.')?;
    let (seconds, rest): (u64, u64) = (seconds.parse().ok()?, rest.parse().ok()?);
    Some(u32::try_from(seconds.checked_mul(1000)?.checked_add(rest)?).unwrap_or(u32::MAX))
}

/// The value of nginx's entry number `nth`. A redirect has one too, and no value.
fn entry(values: &[u8], nth: u32) -> Option<&[u8]> {
    let mut at = 0;
    separated(values).find_map(|(value, after)| {
        let is_it = at == nth;
        at += if after == b" : " { 2 } else { 1 };
        is_it.then_some(value)
    })
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
    separated(values).map(|(value, _)| value)
}

/// The values, each with the separator behind it.
fn separated(values: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = Some(values);
    std::iter::from_fn(move || {
        let values = rest?;
        let separators = [&b", "[..], b" : "];
        let end = (0..values.len()).find_map(|at| {
            let separator = separators.into_iter().find(|separator| values[at..].starts_with(separator))?;
            Some((at, at + separator.len()))
        });
        rest = end.map(|(_, next)| &values[next..]);
        Some(end.map_or((values, &[][..]), |(end, next)| (&values[..end], &values[end..next])))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "10.0.0.1:80";

    fn outcome(addresses: &str, statuses: &str, times: &str) -> Outcome {
        let ident = Address::from_server(HERE).expect("one").ident();
        Outcome::from(&by_variables(Which::LastOf(ident), |name, read| match name {
            "upstream_addr" => read(addresses.as_bytes()),
            "upstream_status" => read(statuses.as_bytes()),
            "upstream_header_time" => read(times.as_bytes()),
            _ => {}
        }))
    }

    #[test]
    fn each_entry_has_its_numbers_and_a_redirect_is_an_entry_without_any() {
        let of = |nth| {
            by_variables(Which::Nth(nth), |name, read| match name {
                "upstream_status" => read(b"502, 200 : 504"),
                "upstream_connect_time" => read(b"-, 0.001 : -"),
                "upstream_header_time" => read(b"-, 0.017 : -"),
                "upstream_response_time" => read(b"0.000, 12.345 : 60.000"),
                "upstream_bytes_sent" => read(b"0, 99 : 0"),
                "upstream_bytes_received" => read(b"0, 5000000000 : 0"),
                _ => panic!("{name}"),
            })
        };
        assert_eq!(of(0), Ended { status: 502, response_ms: Some(0), ..Ended::default() });
        let whole = Ended {
            status: 200,
            connect_ms: Some(1),
            header_ms: Some(17),
            response_ms: Some(12_345),
            kept: false,
            retry: false,
            sent: 99,
            received: 5_000_000_000,
        };
        assert_eq!(of(1), whole);
        assert_eq!((of(2), of(4)), (Ended::default(), Ended::default()), "the redirect, and nothing");
        assert_eq!(of(3), Ended { status: 504, response_ms: Some(60_000), ..Ended::default() });
    }

    #[test]
    fn a_try_has_answered_failed_or_ended_for_the_client_s_sake() {
        assert_eq!(outcome(HERE, "200", "0.001"), Outcome::Success);
        assert_eq!(outcome(HERE, "502", "-"), Outcome::Failure);
        assert_eq!(outcome(HERE, "-", "-"), Outcome::Unknown);
        assert_eq!(Outcome::from(&by_variables(Which::LastOf(0), |_, _| {})), Outcome::Unknown);
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
