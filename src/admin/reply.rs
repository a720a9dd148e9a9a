//! Answers to clients of the HTTP interface.

use crate::error::{Code, Error};

/// Status of an answer to a change that did not get its turn.
pub const BUSY: u16 = 409;

/// Status of an answer to a change that is to be made in the nginx that has superseded this one. On a new connection, the next
/// try may well reach that one.
pub const SUPERSEDED: u16 = 503;

/// The answer to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Body, as the module has it: without a newline at its end.
    pub body: Vec<u8>,
    /// Content-Type of the body.
    pub content_type: &'static str,
    /// The whole story, for the log and the header X-Dyups-Error; empty when all went well.
    pub error: String,
}

impl Reply {
    /// A text.
    pub(super) fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Reply { status, body: body.into(), content_type: "text/plain", error: String::new() }
    }

    /// The answer to a request that failed, with this status and body unless another writer is the reason.
    pub(super) fn of(error: &Error, status: u16, body: &str) -> Self {
        match error.code {
            Code::Busy => Reply { error: error.to_string(), ..Reply::text(BUSY, "wait and try again\n") },
            Code::Superseded => Reply { error: error.to_string(), ..Reply::text(SUPERSEDED, "superseded") },
            _ => Reply { error: error.to_string(), ..Reply::text(status, body) },
        }
    }
}
