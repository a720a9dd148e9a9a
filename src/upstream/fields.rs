//! The one table of the fields of an upstream and a peer: their names and values. Readers and writers of every syntax use it.
//! [`super::check::fields`] has those of a check.

use super::field::{Field, FieldType, field, names};
use super::{HashId, Method, Status, check};

const U32: FieldType = FieldType::Integer { min: 0, max: u32::MAX as i64 };
/// Peer: its host, and with [`PORT`] its address.
pub const HOST: Field = field("host", FieldType::Host);
/// Peer: its port. Not given: 80, and not written.
pub const PORT: Field = field("port", FieldType::Integer { min: 1, max: u16::MAX as i64 });
/// Peer: its address as written, in place of [`HOST`] and [`PORT`], or beside them and the same as they.
pub const SERVER: Field = field("server", FieldType::Server);
/// Peer: its share of the traffic.
pub const WEIGHT: Field = field("weight", FieldType::Integer { min: 0, max: u16::MAX as i64 });
/// Peer: whether it takes part.
pub const STATUS: Field = field("status", FieldType::Choice(&names(&Status::NAMES)));
/// Peer: whether it waits until no primary can be picked.
pub const BACKUP: Field = field("backup", FieldType::Bool);
/// Peer: most open connections, 0 for no limit.
pub const MAX_CONNS: Field = field("max_conns", U32);
/// Peer: failures that take it out, 0 for never.
pub const MAX_FAILS: Field = field("max_fails", U32);
/// Peer: the window of [`MAX_FAILS`], and how long the peer is out.
pub const FAIL_TIMEOUT: Field = field("fail_timeout", FieldType::Seconds);
/// Peer: whether it drains, and is deleted once it is idle.
pub const LEAVING: Field = field("leaving", FieldType::Bool);
/// Peer: the connections that are open to it, of all workers.
pub const CONNS: Field = field("conns", FieldType::ReadOnly);
/// Peer: its failures that count.
pub const FAILS: Field = field("fails", FieldType::ReadOnly);
/// Peer: whether they have taken it out.
pub const OUT: Field = field("out", FieldType::ReadOnly);
/// Peer: whether it may be picked, in a word.
pub const STATE: Field = field("state", FieldType::ReadOnly);
/// Peer: results of probes since it is there.
pub const PROBES: Field = field("probes", FieldType::ReadOnly);
/// Peer: how many of them in a row say that it is no longer up, or down.
pub const STREAK: Field = field("streak", FieldType::ReadOnly);
/// Peer: the percentage of its weight that it has in its slow start.
pub const THROTTLE: Field = field("throttle", FieldType::ReadOnly);
/// Peer: since when it is in this state by its probes, in seconds since the epoch.
pub const SINCE: Field = field("since", FieldType::ReadOnly);
/// Peer: the cause of that.
pub const CAUSE: Field = field("cause", FieldType::ReadOnly);
/// Upstream, peer: the totals of its tries.
pub const STATS: Field = field("stats", FieldType::ReadOnly);
/// Peer: how long it grows to its weight.
pub const SLOW_START: Field = field("slow_start", FieldType::Seconds);
/// Peer: the port of its probes.
pub const CHECK_PORT: Field = field("check_port", FieldType::Optional(&PORT.kind));
/// Peer: the path of its probes.
pub const CHECK_URL: Field = field("check_url", FieldType::Optional(&check::fields::URL.kind));

/// Peer: the Host of its probes.
pub const CHECK_HOST: Field = field("check_host", FieldType::Optional(&check::fields::HOST.kind));

/// Upstream: how a peer is picked.
pub const METHOD: Field = field("method", FieldType::Choice(&names(&Method::NAMES)));
/// Upstream: the text of a peer that the ring of chash hashes.
pub const HASH_ID: Field = field("hash_id", FieldType::Choice(&names(&HashId::NAMES)));
/// Upstream: the options of its check, see [`crate::config::check`].
pub const HEALTHCHECK: Field = field("healthcheck", FieldType::Optional(&FieldType::Object));
/// Upstream: its peers.
pub const PEERS: Field = field("peers", FieldType::List);

/// All that dyups knows of a peer.
pub const PEER: &[Field] = &[
    HOST,
    PORT,
    SERVER,
    WEIGHT,
    STATUS,
    BACKUP,
    MAX_CONNS,
    MAX_FAILS,
    FAIL_TIMEOUT,
    SLOW_START,
    CHECK_PORT,
    CHECK_URL,
    CHECK_HOST,
    CONNS,
    FAILS,
    OUT,
    STATE,
    PROBES,
    STREAK,
    THROTTLE,
    SINCE,
    CAUSE,
    STATS,
    LEAVING,
];

/// The fields for the probes of one peer alone.
pub const PEER_CHECK: &[Field] = &[CHECK_PORT, CHECK_URL, CHECK_HOST];

/// All that dyups knows of an upstream.
pub const UPSTREAM: &[Field] =
    &[METHOD, HASH_ID, PEERS, HEALTHCHECK, field("generation", FieldType::ReadOnly), ORIGIN, STATS];

/// Upstream, route: where it comes from.
pub const ORIGIN: Field = field("origin", FieldType::ReadOnly);

/// Route: its upstreams, with their weights.
pub const TARGETS: Field =
    field("targets", FieldType::Text("the name of an upstream, or a list of pairs of such a name and a weight"));
/// Route: the variable of nginx whose value decides between its targets.
pub const KEY: Field =
    field("key", FieldType::Optional(&FieldType::Text("one variable of nginx, such as \"$cookie_user\"")));

/// All that dyups knows of a route.
pub const ROUTE: &[Field] = &[TARGETS, KEY, ORIGIN];
