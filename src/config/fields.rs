//! The one table of what dyups knows of a file, an upstream and a peer. Every reader uses it, whatever the syntax.

use crate::upstream::{HashId, Method, Status, address};

/// A field: its name and what it takes.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// As in JSON, in Lua and, where nginx has it, in nginx.conf.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
}

/// What a field takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// An integer; `10.0` is one too, as Lua has only such.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// Whole seconds, 0 to 4294967295.
    Seconds,
    /// One of these names.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Bool,
    /// An address without its port, see [`address::Address::from_host_port`].
    Host,
    /// An address as in a `server` line, see [`address::Address::from_server`].
    Server,
    /// A text, described.
    Text(&'static str),
    /// A list; an empty object is an empty list, as Lua cannot tell them apart.
    List,
    /// An object.
    Object,
    /// What `status` adds: anything, ignored when it is read.
    ReadOnly,
    /// One of these, or `false`, which takes away what was set.
    Optional(&'static Kind),
    /// A limit, or `false`: there is none.
    Limit(&'static Kind),
}

impl Kind {
    /// What a message calls allowed.
    ///
    /// ```
    /// use dyups::config::fields;
    /// assert_eq!(fields::WEIGHT.kind.allowed(), "an integer from 0 to 65535");
    /// assert_eq!(fields::STATUS.kind.allowed(), r#""up", "down" or "drain""#);
    /// ```
    pub fn allowed(&self) -> String {
        match self {
            Kind::Integer { min, max } => format!("an integer from {min} to {max}"),
            Kind::Seconds => format!("an integer from 0 to {} (seconds)", u32::MAX),
            Kind::Choice(names) => one_of(names),
            Kind::Bool => "true or false".to_string(),
            Kind::Host => address::ALLOWED.to_string(),
            Kind::Server => format!("{}, an IP address with or without :port", address::ALLOWED),
            Kind::Text(what) => what.to_string(),
            Kind::List => "a list".to_string(),
            Kind::Object => "an object".to_string(),
            Kind::ReadOnly => "anything (ignored)".to_string(),
            Kind::Optional(kind) => format!("{}, or false for none", kind.allowed()),
            Kind::Limit(kind) => format!("{}, or false for no limit", kind.allowed()),
        }
    }

    /// `number` as a `T` when it is within the range of an `Integer` or `Seconds`, which may be optional or a limit; `None` for every
    /// other kind.
    ///
    /// ```
    /// use dyups::config::fields;
    /// assert_eq!(fields::WEIGHT.kind.number::<u16>(3), Some(3));
    /// assert_eq!(fields::PORT.kind.number::<u16>(0), None);
    /// ```
    pub fn number<T: TryFrom<i64>>(&self, number: i64) -> Option<T> {
        let range = match *self {
            Kind::Integer { min, max } => min..=max,
            Kind::Seconds => 0..=i64::from(u32::MAX),
            Kind::Optional(kind) | Kind::Limit(kind) => return kind.number(number),
            _ => return None,
        };
        if range.contains(&number) { T::try_from(number).ok() } else { None }
    }
}

/// `"a", "b" or "c"`.
fn one_of(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".to_string(),
    }
}

/// The names of a list such as [`Status::NAMES`].
const fn names<T: Copy, const N: usize>(pairs: &[(&'static str, T); N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut i = 0;
    while i < N {
        names[i] = pairs[i].0;
        i += 1;
    }
    names
}

const U32: Kind = Kind::Integer { min: 0, max: u32::MAX as i64 };
/// Up to a day.
const MILLISECONDS: Kind = Kind::Integer { min: 1, max: 86_400_000 };

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind }
}

/// Peer: its host, and with [`PORT`] its address.
pub const HOST: Field = field("host", Kind::Host);
/// Peer: its port. Not given: 80, and not written.
pub const PORT: Field = field("port", Kind::Integer { min: 1, max: u16::MAX as i64 });
/// Peer: its address as written, in place of [`HOST`] and [`PORT`], or beside them and the same as they.
pub const SERVER: Field = field("server", Kind::Server);
/// Peer: its share of the traffic.
pub const WEIGHT: Field = field("weight", Kind::Integer { min: 0, max: u16::MAX as i64 });
/// Peer: whether it takes part.
pub const STATUS: Field = field("status", Kind::Choice(&names(&Status::NAMES)));
/// Peer: whether it waits until no primary can be picked.
pub const BACKUP: Field = field("backup", Kind::Bool);
/// Peer: most open connections, 0 for no limit.
pub const MAX_CONNS: Field = field("max_conns", U32);
/// Peer: failures that take it out, 0 for never.
pub const MAX_FAILS: Field = field("max_fails", U32);
/// Peer: the window of [`MAX_FAILS`], and how long the peer is out.
pub const FAIL_TIMEOUT: Field = field("fail_timeout", Kind::Seconds);
/// Peer: whether it drains, and is deleted once it is idle.
pub const LEAVING: Field = field("leaving", Kind::Bool);
/// A peer to be deleted: whether it drains first.
pub const DRAIN: Field = field("drain", Kind::Bool);
/// Peer: the connections that are open to it, of all workers.
pub const CONNS: Field = field("conns", Kind::ReadOnly);
/// Peer: its failures that count.
pub const FAILS: Field = field("fails", Kind::ReadOnly);
/// Peer: whether they have taken it out.
pub const OUT: Field = field("out", Kind::ReadOnly);
/// Peer: whether it may be picked, in a word.
pub const STATE: Field = field("state", Kind::ReadOnly);
/// Peer: results of probes since it is there.
pub const PROBES: Field = field("probes", Kind::ReadOnly);
/// Peer: how many of them in a row say that it is no longer up, or down.
pub const STREAK: Field = field("streak", Kind::ReadOnly);
/// Peer: how long it grows to its weight.
pub const SLOW_START: Field = field("slow_start", Kind::Seconds);
/// Peer: the port of its probes.
pub const CHECK_PORT: Field = field("check_port", Kind::Optional(&PORT.kind));
/// Peer: the path of its probes.
pub const CHECK_URL: Field = field("check_url", Kind::Optional(&super::check::fields::URL.kind));

/// Peer: the Host of its probes.
pub const CHECK_HOST: Field = field("check_host", Kind::Optional(&super::check::fields::HOST.kind));

/// Upstream: how a peer is picked.
pub const METHOD: Field = field("method", Kind::Choice(&names(&Method::NAMES)));
/// Upstream: what the ring of chash hashes of a peer.
pub const HASH_ID: Field = field("hash_id", Kind::Choice(&names(&HashId::NAMES)));
/// Upstream: the options of its check, see [`super::check`].
pub const HEALTHCHECK: Field = field("healthcheck", Kind::Optional(&Kind::Object));
/// Upstream: its peers.
pub const PEERS: Field = field("peers", Kind::List);

/// A change: on whose behalf it is made.
pub const BY: Field = field("by", Kind::Text("a text of 1 to 255 bytes"));

/// Balancing: most tries of a request.
pub const TRIES: Field = field("tries", Kind::Integer { min: 0, max: 64 });
/// Balancing: retries for a hundred requests.
pub const RETRY_PERCENT: Field = field("retry_percent", Kind::Limit(&Kind::Integer { min: 0, max: 100 }));
/// Balancing: retries that are always allowed.
pub const RETRY_FLOOR: Field = field("retry_floor", Kind::Integer { min: 0, max: 1_000_000 });
/// Balancing: milliseconds until a connection is there.
pub const CONNECT_TIMEOUT: Field = field("connect_timeout", MILLISECONDS);
/// Balancing: milliseconds between two writes.
pub const SEND_TIMEOUT: Field = field("send_timeout", MILLISECONDS);
/// Balancing: milliseconds between two reads.
pub const READ_TIMEOUT: Field = field("read_timeout", MILLISECONDS);
/// Balancing: whether connections are kept for the next request.
pub const KEEPALIVE: Field = field("keepalive", Kind::Bool);
/// Balancing: milliseconds that they are kept unused.
pub const KEEPALIVE_TIMEOUT: Field = field("keepalive_timeout", MILLISECONDS);
/// Balancing: requests of one connection.
pub const KEEPALIVE_REQUESTS: Field = field("keepalive_requests", Kind::Integer { min: 1, max: 1_000_000_000 });
/// Balancing: the name that TLS asks for.
pub const HOST_NAME: Field = field("host", Kind::Text("a host name"));

/// What `balance` knows of options.
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
pub const UPSTREAMS: Field = field("upstreams", Kind::Object);

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
    LEAVING,
];

/// What is different in the probes of a peer.
pub const PEER_CHECK: &[Field] = &[CHECK_PORT, CHECK_URL, CHECK_HOST];

/// What a peer that is to be deleted is known by, and how.
pub const PEER_TO_DELETE: &[Field] = &{
    let mut fields = [DRAIN; PEER.len() + 1];
    let (known, _) = fields.split_at_mut(PEER.len());
    known.copy_from_slice(PEER);
    fields
};

/// All that dyups knows of an upstream.
pub const UPSTREAM: &[Field] =
    &[METHOD, HASH_ID, PEERS, HEALTHCHECK, field("generation", Kind::ReadOnly), field("origin", Kind::ReadOnly)];

/// Options of a deletion: the peers go with their upstream.
pub const FORCE: Field = field("force", Kind::Bool);

/// All that dyups knows of the options of a deletion.
pub const DELETE: &[Field] = &[FORCE];

/// All that dyups knows of a file.
pub const FILE: &[Field] = &[
    UPSTREAMS,
    field("version", Kind::ReadOnly),
    field("region", Kind::ReadOnly),
    field("workers", Kind::ReadOnly),
    field("deleted", Kind::ReadOnly),
];

/// The names of `fields`, for the message that refuses another one. What is only ever read is not worth naming.
pub fn known(fields: &[Field]) -> String {
    let written = fields.iter().filter(|field| !matches!(field.kind, Kind::ReadOnly));
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
        assert_eq!(known(FILE), "upstreams");
    }
}
