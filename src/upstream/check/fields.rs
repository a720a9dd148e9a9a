//! The one table of the options of a check, with the names and units of lua-resty-upstream-healthcheck where it has them.

use super::super::check;
use super::super::field::{Field, FieldType, field};

/// For tests alone: bounds as a later version may have them.
const WIDER: bool = cfg!(feature = "next-options");
/// Bytes of a text at most: a request, a text to send, an expected answer.
pub const MAX_TEXT_BYTES: usize = if WIDER { 65536 } else { 8192 };
/// Headers at most.
pub const MAX_HEADERS: usize = 32;
/// Valid statuses at most.
pub const MAX_STATUSES: usize = if WIDER { 900 } else { 500 };

/// Up to a day.
const fn milliseconds(min: i64) -> FieldType {
    FieldType::Integer { min, max: if WIDER { 1_000_000_000 } else { 86_400_000 } }
}

const INTERVAL_KIND: FieldType = milliseconds(if WIDER { 1 } else { 10 });
const ROW: FieldType = FieldType::Integer { min: 1, max: u8::MAX as i64 };
const SOME_TEXT: FieldType = FieldType::Text("a text of 1 to 8192 bytes");

const fn optional(name: &'static str, kind: &'static FieldType) -> Field {
    Field { name, kind: FieldType::Optional(kind) }
}

/// The protocol of a probe.
pub const TYPE: Field = field("type", FieldType::Choice(&["http", "https", "tcp"]));
/// The request, byte for byte.
pub const HTTP_REQ: Field = optional(
    "http_req",
    &FieldType::Text(
        "one request of HTTP/1.0 or HTTP/1.1 of at most 8192 bytes, lines ending in CR LF, a body only by its Content-Length",
    ),
);
/// The text that a probe sends.
pub const SEND: Field = optional("send", &SOME_TEXT);
/// The beginning of the answer.
pub const EXPECT: Field = optional("expect", &SOME_TEXT);
/// The port of the probes.
pub const PORT: Field = optional("port", &super::super::fields::PORT.kind);
/// The `Host` header and the name that TLS asks for.
pub const HOST: Field = optional(
    "host",
    &FieldType::Text("a host name, an IPv4 address or an IPv6 address in brackets, with or without :port"),
);
/// Milliseconds from probe to probe.
pub const INTERVAL: Field = field("interval", INTERVAL_KIND);
/// The same while a peer is down or changing.
pub const INTERVAL_DOWN: Field = optional("interval_down", &INTERVAL_KIND);
/// Milliseconds for a probe.
pub const TIMEOUT: Field = field("timeout", milliseconds(1));
/// Successes in a row.
pub const RISE: Field = field("rise", ROW);
/// Failures in a row.
pub const FALL: Field = field("fall", ROW);
/// The statuses of a healthy peer.
pub const VALID_STATUSES: Field =
    field("valid_statuses", FieldType::Text("a list of 1 to 500 statuses, integers from 100 to 599"));
/// One of them.
pub const STATUS: FieldType = FieldType::Integer { min: 100, max: if WIDER { 999 } else { 599 } };
/// Probes at a time.
pub const CONCURRENCY: Field =
    field("concurrency", FieldType::Integer { min: 1, max: if WIDER { 60_000 } else { 10_000 } });
/// Whether certificates are verified.
pub const SSL_VERIFY: Field = field("ssl_verify", FieldType::Bool);
const A_FILE: FieldType = FieldType::Text("the absolute path of a file of PEM");
/// The file of the certificate that probes show.
pub const SSL_CERT: Field = optional("ssl_cert", &A_FILE);
/// The file of its key.
pub const SSL_KEY: Field = optional("ssl_key", &A_FILE);
/// A text somewhere in the body.
pub const EXPECT_BODY: Field = optional("expect_body", &SOME_TEXT);
/// Headers of a request that is built.
pub const HEADERS: Field =
    field("headers", FieldType::Text("at most 32 headers, an object of names and values or a list of \"Name: value\""));
/// The path of a request that is built.
pub const URL: Field =
    field("url", FieldType::Text("a path from / without spaces and control bytes, of at most 8192 bytes"));
/// Whether a peer that was never probed is down.
pub const DEFAULT_DOWN: Field = field("default_down", FieldType::Bool);

/// Percent of the peers that have to be up.
pub const PANIC_THRESHOLD: Field = field("panic_threshold", FieldType::Integer { min: 0, max: 100 });

/// `status` adds it to a check that is the default of `setup`.
pub const DEFAULT: Field = field("default", FieldType::ReadOnly);
/// lua-resty-upstream-healthcheck's: taken, and ignored, as all workers share the results of probes anyway.
pub const SHM: Field = field("shm", FieldType::ReadOnly);
/// lua-resty-upstream-healthcheck's: refused with the advice where to put it. Read-only, so that no message lists it.
pub const UPSTREAM: Field = field("upstream", FieldType::ReadOnly);

/// All that a check knows.
pub const CHECK: &[Field] = &[
    TYPE,
    HTTP_REQ,
    SEND,
    EXPECT,
    PORT,
    HOST,
    INTERVAL,
    INTERVAL_DOWN,
    TIMEOUT,
    RISE,
    FALL,
    VALID_STATUSES,
    CONCURRENCY,
    SSL_VERIFY,
    SSL_CERT,
    SSL_KEY,
    EXPECT_BODY,
    HEADERS,
    URL,
    DEFAULT_DOWN,
    PANIC_THRESHOLD,
    DEFAULT,
    SHM,
    UPSTREAM,
];

/// The types that know an option.
pub fn types(field: &Field) -> &'static [check::CheckType] {
    use check::CheckType::{Http, Https, Tcp};
    match field.name {
        "http_req" | "host" | "valid_statuses" | "expect_body" | "headers" | "url" => &[Http, Https],
        "ssl_verify" | "ssl_cert" | "ssl_key" => &[Https],
        "send" | "expect" => &[Tcp],
        _ => &[Http, Https, Tcp],
    }
}
