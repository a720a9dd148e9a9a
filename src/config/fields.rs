//! The one table of the fields that dyups reads: beside those of upstreams and peers, those of files and of calls.

use crate::upstream::field::{Field, FieldType, field};

pub use crate::upstream::fields::*;

/// Up to a day.
const MILLISECONDS: FieldType = FieldType::Integer { min: 1, max: 86_400_000 };

/// A peer to be deleted: whether it drains first.
pub const DRAIN: Field = field("drain", FieldType::Bool);
/// A change: the user or program for which it is made.
pub const BY: Field = field("by", FieldType::Text("a text of 1 to 255 bytes"));

/// Balancing: most tries of a request.
pub const TRIES: Field = field("tries", FieldType::Integer { min: 0, max: 64 });
/// Balancing: retries for a hundred requests.
pub const RETRY_PERCENT: Field = field("retry_percent", FieldType::Limit(&FieldType::Integer { min: 0, max: 100 }));
/// Balancing: retries that are always allowed.
pub const RETRY_FLOOR: Field = field("retry_floor", FieldType::Integer { min: 0, max: 1_000_000 });
/// Balancing: milliseconds until a connection is there.
pub const CONNECT_TIMEOUT: Field = field("connect_timeout", MILLISECONDS);
/// Balancing: milliseconds between two writes.
pub const SEND_TIMEOUT: Field = field("send_timeout", MILLISECONDS);
/// Balancing: milliseconds between two reads.
pub const READ_TIMEOUT: Field = field("read_timeout", MILLISECONDS);
/// Balancing: whether connections are kept for the next request.
pub const KEEPALIVE: Field = field("keepalive", FieldType::Bool);
/// Balancing: milliseconds that they are kept unused.
pub const KEEPALIVE_TIMEOUT: Field = field("keepalive_timeout", MILLISECONDS);
/// Balancing: requests of one connection.
pub const KEEPALIVE_REQUESTS: Field = field("keepalive_requests", FieldType::Integer { min: 1, max: 1_000_000_000 });
/// Balancing: the name that TLS asks for.
pub const HOST_NAME: Field = field("host", FieldType::Text("a host name"));

/// The options of `balance`.
pub const BALANCE: [Field; 10] = [
    TRIES,
    RETRY_PERCENT,
    RETRY_FLOOR,
    CONNECT_TIMEOUT,
    SEND_TIMEOUT,
    READ_TIMEOUT,
    KEEPALIVE,
    KEEPALIVE_TIMEOUT,
    KEEPALIVE_REQUESTS,
    HOST_NAME,
];

/// File: its upstreams, by name.
pub const UPSTREAMS: Field = field("upstreams", FieldType::Object);
/// File: its routes, by host.
pub const ROUTES: Field = field("routes", FieldType::Object);

/// The fields of a peer that is to be deleted.
pub const PEER_TO_DELETE: &[Field] = &{
    let mut fields = [DRAIN; PEER.len() + 1];
    let (known, _) = fields.split_at_mut(PEER.len());
    known.copy_from_slice(PEER);
    fields
};

/// Options of a deletion: the peers go with their upstream.
pub const FORCE: Field = field("force", FieldType::Bool);

/// All that dyups knows of the options of a deletion.
pub const DELETE: &[Field] = &[FORCE];

/// All that dyups knows of a file.
pub const FILE: &[Field] = &[
    UPSTREAMS,
    ROUTES,
    field("version", FieldType::ReadOnly),
    field("region", FieldType::ReadOnly),
    field("workers", FieldType::ReadOnly),
    field("deleted", FieldType::ReadOnly),
    field("changed", FieldType::ReadOnly),
];

/// The names of `fields`, for the message that refuses another one, without the read-only ones.
pub fn known(fields: &[Field]) -> String {
    let written = fields.iter().filter(|field| !matches!(field.kind, FieldType::ReadOnly));
    written.map(|field| field.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_says_what_is_allowed() {
        assert_eq!(METHOD.kind.allowed(), r#""rr", "chash", "least_conn", "random", "random two" or "ip_hash""#);
        assert_eq!(HASH_ID.kind.allowed(), r#""nginx" or "host:port""#);
        assert_eq!(FAIL_TIMEOUT.kind.allowed(), "an integer from 0 to 4294967295 (seconds)");
        for field in [PEER, UPSTREAM, FILE].concat() {
            assert!(!field.kind.allowed().is_empty());
        }
    }

    #[test]
    fn the_ends_of_a_range_are_in_it() {
        let u16 = |field: Field, number| field.kind.number::<u16>(number);
        assert_eq!(
            (u16(PORT, 0), u16(PORT, 1), u16(PORT, 65535), u16(PORT, 65536)),
            (None, Some(1), Some(65535), None)
        );
        assert_eq!((u16(WEIGHT, -1), u16(WEIGHT, 0)), (None, Some(0)));
        for field in [MAX_CONNS, MAX_FAILS, FAIL_TIMEOUT, SLOW_START] {
            assert_eq!(field.kind.number(u32::MAX.into()), Some(u32::MAX));
            assert_eq!(field.kind.number::<u32>(1 << 32), None);
        }
        assert_eq!(HOST.kind.number::<u16>(1), None);
    }

    #[test]
    fn the_known_names_are_listed() {
        assert_eq!(known(FILE), "upstreams, routes");
    }
}
