//! nginx's times: `10`, `10s`, `1m`, `1h30m`.

/// The units and their seconds, in the order in which they may follow each other.
const UNITS: [(u8, i64); 7] = [
    (b'y', 365 * 86_400),
    (b'M', 30 * 86_400),
    (b'w', 7 * 86_400),
    (b'd', 86_400),
    (b'h', 3600),
    (b'm', 60),
    (b's', 1),
];

/// The seconds of a time, as nginx's `ngx_parse_time` has them for a directive in seconds: numbers with units from
/// large to small, spaces between them, seconds where a unit is not written. `None` for all else, `500ms` too.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let (mut total, mut value, mut digits) = (0_i64, 0_i64, false);
    // The units that may still come.
    let mut units = &UNITS[..];
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte.is_ascii_digit() {
            value = value.checked_mul(10)?.checked_add(i64::from(byte - b'0'))?;
            digits = true;
            continue;
        }
        if byte == b'm' && rest.first() == Some(&b's') {
            return None;
        }
        // A space behind a number ends it like an `s`.
        let unit = if byte == b' ' { b's' } else { byte };
        let at = units.iter().position(|&(name, _)| name == unit)?;
        total = total.checked_add(value.checked_mul(units[at].1)?)?;
        units = &units[at + 1..];
        value = 0;
        while let Some(tail) = rest.strip_prefix(b" ") {
            rest = tail;
        }
    }
    if digits { total.checked_add(value) } else { None }
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

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9yMwdhms x]{0,30}", any: String) {
            let _ = (seconds(&text), seconds(&any));
        }
    }
}
