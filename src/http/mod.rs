//! HTTP/1 as bytes: requests that are written, responses that are read. Nothing here opens a connection.
//!
//! - [`request`]: what is one request and no more, and how it is built
//! - [`probe_request`]: the one that a probe sends
//! - [`response`]: what a peer answers to it

pub mod probe_request;
pub mod request;
pub mod response;
