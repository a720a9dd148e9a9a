//! The states that a backend can be in, and its answers then.

use super::request::Request;
use std::net::SocketAddr;
use std::time::Duration;

/// The request of clients that speak no HTTP to a backend, and its answer.
pub const PING: &str = "PING\r\n";
pub const PONG: &str = "+PONG\r\n";

const GARBAGE: &[u8] = b"\x16\x03\0\xff 2OO KO\n\r\n\0\x80 certainly no answer\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 200, with its address as the body; +PONG to a PING.
    Well,
    /// This status instead; -ERR to a PING.
    Status(u16),
    /// Reads, and never answers, until the client closes or the mode changes.
    Hung,
    /// Hung, and has no room for new connections: they neither come nor are refused.
    Deaf,
    /// The right answer, a byte at a time, with this pause after each.
    Drip(Duration),
    /// Resets the connection when it has read a request.
    Reset,
    /// Resets every new connection before it reads.
    ResetsAtOnce,
    /// The first half of the right answer, and the end.
    ClosesEarly,
    /// Bytes that are no answer in any protocol, and the end.
    Garbage,
    /// This and nothing else, and the end.
    Says(&'static str),
    /// Refuses connections; those that it had are closed.
    Stopped,
}

impl Mode {
    /// It meets clients that connect, before they can send a request.
    pub fn is_of_connections(self) -> bool {
        matches!(self, Mode::Deaf | Mode::ResetsAtOnce | Mode::Stopped)
    }

    /// It keeps a request from its answer until the mode changes.
    pub fn holds(self) -> bool {
        matches!(self, Mode::Hung | Mode::Deaf | Mode::Drip(_))
    }

    /// All that it says to a request in the end, and whether the connection may go on then.
    pub fn says(self, request: &Request, here: SocketAddr) -> (Vec<u8>, bool) {
        let well = |status| answer(status, request, here);
        match self {
            Mode::Well | Mode::Drip(_) => (well(200), !request.last),
            Mode::Status(status) => (well(status), !request.last),
            Mode::ClosesEarly => {
                let mut half = well(200);
                half.truncate(half.len() / 2);
                (half, false)
            }
            Mode::Garbage => (GARBAGE.to_owned(), false),
            Mode::Says(text) => (text.into(), false),
            Mode::Hung | Mode::Deaf | Mode::Reset | Mode::ResetsAtOnce | Mode::Stopped => (Vec::new(), false),
        }
    }
}

/// The right one.
fn answer(status: u16, request: &Request, here: SocketAddr) -> Vec<u8> {
    if request.path.is_none() {
        return if status == 200 { PONG.into() } else { format!("-ERR {status}\r\n").into() };
    }
    let body = here.to_string();
    let length = match status {
        204 | 304 => String::new(),
        _ => format!("Content-Length: {}\r\n", body.len()),
    };
    let body = if length.is_empty() || request.head_only { "" } else { &body };
    let reason = if status == 200 { "OK" } else { "Sick" };
    let connection = if request.last { "Connection: close\r\n" } else { "" };
    format!("HTTP/1.1 {status} {reason}\r\n{length}{connection}\r\n{body}").into()
}
