//! nginx's times: `10`, `10s`, `1m`, `1h30m`.

/// The units and their milliseconds, in the order in which they may follow each other.
const UNITS: [(&str, i64); 8] = [
    ("y", 365 * 86_400_000),
    ("M", 30 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", SECOND),
    ("ms", 1),
];

const SECOND: i64 = 1000;

/// The seconds of a time, as nginx's `ngx_parse_time` reads it for a directive in seconds. It has numbers with units from large
/// to small, spaces between them, and seconds without a unit. `None` for all else, also for `500ms`.
pub(super) fn seconds(text: &str) -> Option<i64> {
    parse(text, &UNITS[..7], SECOND)
}

/// The milliseconds of a time, as `ngx_parse_time` has them for a directive in milliseconds: that has no years and no months.
pub(super) fn milliseconds(text: &str) -> Option<i64> {
    parse(text, &UNITS[2..], 1)
}

/// The sum in units of `least` milliseconds. `units` are those that may still come.
fn parse(text: &str, mut units: &[(&str, i64)], least: i64) -> Option<i64> {
    let mut rest = text;
    let (mut total, mut value, mut digits) = (0_i64, 0_i64, false);
    while let Some(byte) = rest.bytes().next() {
        if byte.is_ascii_digit() {
            value = value.checked_mul(10)?.checked_add(i64::from(byte - b'0'))?;
            digits = true;
            rest = &rest[1..];
            continue;
        }
        // A space behind a number ends it like an `s`, and nothing with a unit may follow.
        let (name, last) = match byte {
            b' ' => ("s", true),
            _ => (rest.get(..2).filter(|two| *two == "ms").or(rest.get(..1))?, false),
        };
        let at = units.iter().position(|&(unit, _)| unit == name)?;
        total = total.checked_add(value.checked_mul(units[at].1 / least)?)?;
        units = if last { &[] } else { &units[at + 1..] };
        value = 0;
        rest = rest[if last { 1 } else { name.len() }..].trim_start_matches(' ');
    }
    if digits { total.checked_add(value.checked_mul(SECOND / least)?) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_as_in_nginx() {
        for (text, expected) in [
            ("0", 0),
            ("10", 10),
            ("10s", 10),
            ("1m", 60),
            ("1h30m", 5400),
            ("1h 30m", 5400),
            ("1h30", 3630),
            ("1d", 86_400),
            ("1w", 604_800),
            ("1M", 2_592_000),
            ("1y1s", 31_536_001),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_in_seconds_is_refused() {
        for text in [
            "",
            "s",
            "500ms",
            "1m1h",
            "1s1s",
            "-1",
            "1.5",
            "1x",
            "10S",
            "1h\t30m",
            "99999999999999999999",
            "9999999999999999y",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn milliseconds_have_a_unit_of_their_own_and_no_months() {
        for (text, expected) in [
            ("0", 0),
            ("10", 10_000),
            ("10ms", 10),
            ("1m", 60_000),
            ("1s500ms", 1500),
            ("1s 500ms", 1500),
            ("1m 500ms", 60_500),
            ("1ms2", 2001),
            ("1w", 604_800_000),
        ] {
            assert_eq!(milliseconds(text), Some(expected), "{text}");
        }
        for text in ["", "ms", "1y", "1M", "1 500ms", "500ms1s", "1ms1ms", "9223372036854775807"] {
            assert_eq!(milliseconds(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9yMwdhms x]{0,30}", any: String) {
            let _ = (seconds(&text), seconds(&any), milliseconds(&text), milliseconds(&any));
        }
    }
}
