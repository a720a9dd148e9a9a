//! HTTP/1 as bytes: requests that are written, responses that are read. Nothing here opens a connection.
//!
//! - [`request`]: checks that bytes are one request and no more, and builds one
//! - [`probe_request`]: the one that a probe sends
//! - [`response`]: the peer's answer to it

pub mod probe_request;
pub mod request;
pub mod response;
