//! Why nginx asks for another peer, by its variables: how far the try got that has just failed.
//!
//! `$upstream_connect_time` has no time for a try that was never connected, and `$upstream_header_time` has one for a try that
//! was answered. Over TLS, nginx counts a try as connected once the handshake is over. But a handshake that failed was work for
//! the peer, so the caller has to know whether one began.

use super::outcome::of_the_last;
use super::request::Why;

/// The status that nginx gives a try that timed out is another one.
const FAILED: u32 = 502;

/// Facts about a try that nginx's variables do not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// A TLS handshake with the peer began.
    pub tls: bool,
    /// The connection was one that had been kept.
    pub kept: bool,
}

/// The reason why the last try failed. nginx gave it `status`, and `variable` reads the value of a variable.
pub fn why(status: u32, traces: Traces, variable: impl Fn(&'static str, &mut dyn FnMut(&[u8]))) -> Why {
    let is = |name, expected: fn(&[u8]) -> bool| {
        let mut found = false;
        variable(name, &mut |values| found = expected(of_the_last(values)));
        found
    };
    if is("upstream_header_time", |time| !time.is_empty() && time != b"-") {
        Why::Answered
    } else if !traces.tls && is("upstream_connect_time", |time| time == b"-") {
        Why::Unreached
    } else if traces.kept && status == FAILED && is("upstream_bytes_received", |bytes| bytes == b"0") {
        Why::Dead
    } else {
        Why::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u32, traces: Traces, [connect, header, received]: [&str; 3]) -> Why {
        why(status, traces, |name, read| match name {
            "upstream_connect_time" => read(connect.as_bytes()),
            "upstream_header_time" => read(header.as_bytes()),
            "upstream_bytes_received" => read(received.as_bytes()),
            _ => panic!("{name}"),
        })
    }

    const PLAIN: Traces = Traces { tls: false, kept: false };
    const TLS: Traces = Traces { tls: true, kept: false };
    const KEPT: Traces = Traces { tls: false, kept: true };

    #[test]
    fn a_try_without_a_connection_reached_nobody_unless_a_handshake_began() {
        let refused = ["- : ", "- : ", "0 : "];
        assert_eq!([of(502, PLAIN, refused), of(504, PLAIN, refused)], [Why::Unreached; 2]);
        assert_eq!([of(502, TLS, refused), of(504, TLS, refused)], [Why::Failed; 2]);
        assert_eq!(of(502, PLAIN, ["0.000 : ", "- : ", "0 : "]), Why::Failed);
    }

    #[test]
    fn a_kept_connection_is_dead_where_nothing_came_back_over_it() {
        assert_eq!(of(502, KEPT, ["0.000 : ", "- : ", "0 : "]), Why::Dead);
        assert_eq!(of(502, KEPT, ["0.000 : ", "- : ", "17 : "]), Why::Failed, "no HTTP");
        assert_eq!(of(504, KEPT, ["0.000 : ", "- : ", "0 : "]), Why::Failed, "it is late");
    }

    #[test]
    fn what_was_answered_is_so_whatever_the_status() {
        for status in [429, 500, 502, 503, 504] {
            assert_eq!(of(status, KEPT, ["0.000 : ", "0.001 : ", "70 : "]), Why::Answered);
        }
    }

    #[test]
    fn it_is_the_last_try_that_is_asked_about() {
        assert_eq!(of(502, PLAIN, ["0.001, - : ", "0.002, - : ", "70, 0 : "]), Why::Unreached);
        assert_eq!(of(502, PLAIN, ["- : -, 0.001 : ", "- : -, - : ", "0 : 0, 0 : "]), Why::Failed);
        assert_eq!(of(502, PLAIN, ["- : 0.001 : ", "- : 0.002 : ", "0 : 70 : "]), Why::Answered);
        assert_eq!(of(502, PLAIN, ["", "", ""]), Why::Failed, "nothing is known");
    }
}
