//! A peer's answer to a probe, read as it comes in, however it is split over packets.
//!
//! A response of HTTP/1.x is judged as nginx judges one of an upstream, by the [`Rules`] of the nginx at hand. A peer is
//! healthy when nginx can pass its responses on. tests/nginx/test_answers.rs asks that nginx and compares. Where nginx takes
//! bytes without a good status line for HTTP/0.9, a probe fails. docs/healthcheck.md lists all such differences.
//!
//! The verdict comes as soon as nothing that follows can change it. For a bad status that is the end of the status line. For a
//! good one it is the end of the head, since nginx cannot use a peer that never ends it. For `expect_body` it is the last byte
//! of the text. The caller bounds the time.

mod body;
mod expect;
mod head;
mod rules;
mod search;

pub use body::MAX_BYTES as MAX_BODY_BYTES;
pub use expect::Expect;
pub use head::MAX_BYTES as MAX_HEAD_BYTES;
pub use rules::Rules;

use std::fmt;

use crate::quote::quote;
use crate::upstream::Check;
use body::Body;
use head::{Head, HeadPart};
use search::Search;

/// How far a probe is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It needs more bytes, or the end of them.
    More,
    /// It is over: the status (0 where there is none, for tcp), or the peer's fault.
    Done(Result<u16, Failure>),
}

/// A failure of a peer that answered. `Display` describes it for an operator, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It does not speak HTTP/1.x, or not well.
    Malformed(String),
    /// This status is not among `valid_statuses`.
    Status(u16),
    /// The text of `expect_body` is not in the body.
    Body(Looked),
    /// tcp: this came, and not the text of `expect`.
    Unexpected(Vec<u8>),
    /// It closed the connection before its answer was whole.
    Closed,
}

/// How much of a body was looked at in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// There is none by the method or the status.
    None,
    /// All of it, so many bytes.
    All(usize),
    /// As far as a probe looks.
    Begin,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Malformed(what) => write!(f, "no HTTP/1.x response: {what}"),
            Failure::Status(status) => write!(f, "status {status}, which is not one of valid_statuses"),
            Failure::Body(Looked::None) => f.write_str("there is no body, which the text of expect_body could be in"),
            Failure::Body(Looked::All(bytes)) => {
                let s = if *bytes == 1 { "" } else { "s" };
                write!(f, "the text of expect_body is not in the body, which has {bytes} byte{s}")
            }
            Failure::Body(Looked::Begin) => {
                write!(f, "the text of expect_body is not in the first {MAX_BODY_BYTES} bytes after the head")
            }
            Failure::Unexpected(bytes) => write!(f, "answered {}, and not the text of expect", quote(bytes)),
            Failure::Closed => f.write_str("closed the connection before its answer was whole"),
        }
    }
}

/// The response to one probe of http or https.
///
/// It holds a line of the head at a time, at most [`MAX_HEAD_BYTES`], and of the body nothing.
///
/// ```
/// use dyups::upstream::Check;
/// use dyups::http::response::{Progress, Response, Rules};
/// let mut response = Response::new(&Check::default(), Rules::NEWEST);
/// assert_eq!(response.feed(b"HTTP/1.1 200 OK\r\nContent-Le"), Progress::More);
/// assert_eq!(response.feed(b"ngth: 0\r\n\r\n"), Progress::Done(Ok(200)));
/// ```
#[derive(Clone, Debug)]
pub struct Response {
    valid_statuses: Vec<u16>,
    search: Option<Search>,
    is_head: bool,
    rules: Rules,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Head(Head),
    Body(u16, Body),
    Done(Result<u16, Failure>),
}

impl Response {
    /// For a probe by `check`, judged as an nginx with these rules would.
    pub fn new(check: &Check, rules: Rules) -> Response {
        Response {
            valid_statuses: check.valid_statuses.clone(),
            search: check.expect_body.as_ref().map(|text| Search::new(text.as_bytes())),
            is_head: check.is_head(),
            rules,
            state: State::Head(Head::new(rules)),
        }
    }

    /// Takes the next bytes. Once it is over, they are not looked at.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Progress {
        loop {
            let done = match &mut self.state {
                State::Done(result) => return Progress::Done(result.clone()),
                State::Head(head) => match head.feed(&mut bytes) {
                    Ok(None) => return Progress::More,
                    Ok(Some(event)) => self.heard(event),
                    Err(failure) => Some(Err(failure)),
                },
                State::Body(status, body) => match body.feed(bytes) {
                    None => return Progress::More,
                    Some(result) => Some(result.map(|()| *status)),
                },
            };
            if let Some(result) = done {
                self.state = State::Done(result);
            }
        }
    }

    /// The verdict after an event in the head.
    fn heard(&mut self, event: HeadPart) -> Option<Result<u16, Failure>> {
        match event {
            HeadPart::Status(status) => {
                let bad = self.rules.is_final(status) && !self.valid_statuses.contains(&status);
                bad.then_some(Err(Failure::Status(status)))
            }
            // The next head begins, and counts towards the same bound.
            HeadPart::End(status, _) if !self.rules.is_final(status) => None,
            HeadPart::End(status, framing) => {
                let Some(search) = self.search.take() else { return Some(Ok(status)) };
                if self.is_head || matches!(status, 101 | 204 | 304) {
                    return Some(Err(Failure::Body(Looked::None)));
                }
                self.state = State::Body(status, Body::new(framing, search, self.rules));
                None
            }
        }
    }

    /// The peer has closed the connection.
    ///
    /// # Errors
    ///
    /// The earlier failure, or [`Failure::Closed`] when something is missing; [`Failure::Body`] where the close is the end of
    /// the body.
    pub fn closed(&mut self) -> Result<(), Failure> {
        let failure = match &self.state {
            State::Done(result) => return result.clone().map(|_| ()),
            State::Head(head) => head.closed(),
            State::Body(_, body) => body.closed(),
        };
        self.state = State::Done(Err(failure.clone()));
        Err(failure)
    }
}

#[cfg(test)]
mod tests;
