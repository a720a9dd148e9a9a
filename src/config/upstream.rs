//! An upstream as an object.

use super::addresses::Addresses;
use super::object::Object;
use super::path::item;
use super::peer::peer_patch;
use super::value::Value;
use super::{check, fields};
use crate::error::{Error, Result};
use crate::upstream::{Check, HashId, MAX_PEERS, Method, Peer, Upstream, name};

/// Reads a whole upstream; `at` is its path in messages, such as `upstreams.api`, empty for none.
///
/// # Errors
///
/// [`crate::error::Code::Invalid`]: a bad name or field, no `peers`, more than [`MAX_PEERS`] of them, or two with one
/// address.
///
/// ```
/// use dyups::config::{upstream::upstream, value::parse};
/// let value = parse(br#"{"peers": [{"host": "10.0.0.1", "port": 8080}]}"#).unwrap();
/// let api = upstream("api", &value, "upstreams.api").unwrap();
/// assert_eq!(api.peers[0].address.text(), "10.0.0.1:8080");
/// ```
pub fn upstream(name: &str, value: &Value, at: &str) -> Result<Upstream> {
    upstream_of(name, value, at, peers)
}

/// The same of an object whose peers `peers` has.
pub(super) fn upstream_of(
    name: &str,
    value: &Value,
    at: &str,
    peers: impl FnOnce(&Object<'_>) -> Result<Vec<Peer>>,
) -> Result<Upstream> {
    let name = name::check(name.as_bytes())?;
    let object = Object::new(value, at, fields::UPSTREAM)?;
    let (check, own_check) = check(&object)?;
    let upstream = Upstream {
        name: name.to_string(),
        method: object.choice(&fields::METHOD, &Method::NAMES)?,
        hash_id: object.choice(&fields::HASH_ID, &HashId::NAMES)?.unwrap_or_default(),
        peers: peers(&object)?,
        check,
        own_check,
        foreign: None,
    };
    upstream
        .check_port()
        .map_err(|error| if at.is_empty() { error } else { Error::invalid(format!("{at}.{}", error.message)) })?;
    Ok(upstream)
}

/// The upstream's check, and whether that is its own. `false` is none, as where a call switches a check off. A check that
/// `status` shows as the default counts as not given.
fn check(object: &Object<'_>) -> Result<(Option<Check>, bool)> {
    match object.given(&fields::HEALTHCHECK) {
        None => Ok((None, false)),
        Some(options) if check::is_default(options) => Ok((None, false)),
        Some(options) => Ok((check::merge_or_none(None, options, &object.path(&fields::HEALTHCHECK))?, true)),
    }
}

fn peers(object: &Object<'_>) -> Result<Vec<Peer>> {
    let path = object.path(&fields::PEERS);
    let list = object.list(&fields::PEERS)?.ok_or_else(|| object.missing(&fields::PEERS))?;
    let mut peers = PeerList::with_capacity(list.len().min(MAX_PEERS));
    if list.len() <= MAX_PEERS {
        list.iter().for_each(|value| peers.add(value, &path));
    } else {
        peers.count = list.len();
    }
    peers.finish(&path)
}

/// The peers of a list, which come one after the other.
#[derive(Debug, Default)]
pub(super) struct PeerList {
    peers: Vec<Peer>,
    /// How many values have come. From the first that is no peer on, they are only counted.
    count: usize,
    wrong: Option<Error>,
    seen: Addresses,
    /// The first peer with an address that an earlier one has, and the earlier one.
    repeat: Option<(usize, usize)>,
}

impl PeerList {
    /// None so far, with room for `count`.
    pub(super) fn with_capacity(count: usize) -> PeerList {
        PeerList { peers: Vec::with_capacity(count), seen: Addresses::with_capacity(count), ..PeerList::default() }
    }

    /// Takes the next value of the list at `path`.
    pub(super) fn add(&mut self, value: &Value, path: &str) {
        let index = self.count;
        self.count += 1;
        if self.wrong.is_some() || index >= MAX_PEERS {
            return;
        }
        match peer_patch(value, &item(path, index)) {
            Err(error) => self.wrong = Some(error),
            Ok(patch) => {
                self.peers.push(patch.into_peer());
                let first = self.seen.add(index, |index| &self.peers[index].address);
                self.repeat = self.repeat.or((first != index).then_some((index, first)));
            }
        }
    }

    /// All of them, if the list at `path` is one that an upstream may have.
    pub(super) fn finish(self, path: &str) -> Result<Vec<Peer>> {
        if self.count > MAX_PEERS {
            return Err(Error::invalid(format!("{path}: {} peers: allowed: at most {MAX_PEERS}", self.count)));
        }
        match (self.wrong, self.repeat) {
            (Some(wrong), _) => Err(wrong),
            (None, None) => Ok(self.peers),
            (None, Some((again, first))) => {
                let address = self.peers[again].address.server();
                let (first, again) = (item(path, first), item(path, again));
                Err(Error::invalid(format!("{again}: {address}: the same address as {first}")))
            }
        }
    }
}

/// The options of a deletion: whether it is forced. `null` means no options.
///
/// # Errors
///
/// [`crate::error::Code::Invalid`] as for any object.
pub fn force(value: &Value, at: &str) -> Result<bool> {
    match value {
        Value::Null => Ok(false),
        _ => Ok(Object::new(value, at, fields::DELETE)?.boolean(&fields::FORCE)?.unwrap_or(false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::parse;

    fn read(json: &str) -> Result<Upstream> {
        upstream("api", &parse(json.as_bytes()).unwrap(), "upstreams.api")
    }

    fn why(json: &str) -> String {
        read(json).unwrap_err().message.into_owned()
    }

    #[test]
    fn a_port_for_probes_is_refused_where_a_peer_is_a_path() {
        let with = |peers: &str| format!(r#"{{"peers":[{peers}],"healthcheck":{{"port":81}}}}"#);
        assert_eq!(
            why(&with(r#"{"host":"10.0.0.1"},{"host":"unix:/a"}"#)),
            "upstreams.api.healthcheck.port: 81: peer unix:/a has no port; allowed: false, and check_port for peers that have one"
        );
        assert!(read(&with(r#"{"host":"10.0.0.1"}"#)).is_ok());
        assert!(read(r#"{"peers":[{"host":"unix:/a"}],"healthcheck":{}}"#).is_ok());
    }

    #[test]
    fn an_upstream_is_read_with_defaults() {
        let api = read(r#"{"peers":[{"host":"10.0.0.1"},{"host":"unix:/p"}]}"#).unwrap();
        assert_eq!((api.name.as_str(), api.method, api.hash_id), ("api", None, HashId::Nginx));
        assert_eq!(api.peers.len(), 2);
    }

    #[test]
    fn method_and_hash_id_are_read() {
        let api = read(r#"{"method":"chash","hash_id":"host:port","peers":[]}"#).unwrap();
        assert_eq!((api.method, api.hash_id), (Some(Method::Chash), HashId::HostPort));
        assert_eq!(
            why(r#"{"method":"ip-hash","peers":[]}"#),
            r#"upstreams.api.method: "ip-hash": allowed: "rr", "chash", "least_conn", "random", "random two" or "ip_hash""#
        );
    }

    #[test]
    fn peers_have_to_be_given_but_may_be_none() {
        assert_eq!(why("{}"), "upstreams.api.peers: not given: allowed: a list");
        assert_eq!(why(r#"{"peers":null}"#), "upstreams.api.peers: not given: allowed: a list");
        assert_eq!(read(r#"{"peers":[]}"#).unwrap().peers, []);
        assert_eq!(read(r#"{"peers":{}}"#).unwrap().peers, []);
    }

    #[test]
    fn what_status_adds_is_ignored() {
        assert_eq!(read(r#"{"generation":3,"origin":{"file":"x"},"peers":[]}"#).unwrap().peers, []);
    }

    #[test]
    fn a_bad_peer_is_named_by_its_index() {
        assert_eq!(
            why(r#"{"peers":[{"host":"10.0.0.1"},{"host":"10.0.0.2","weight":2.5}]}"#),
            "upstreams.api.peers[1].weight: 2.5: allowed: an integer from 0 to 65535"
        );
        assert_eq!(why(r#"{"peers":["10.0.0.1"]}"#), r#"upstreams.api.peers[0]: "10.0.0.1": allowed: an object"#);
    }

    #[test]
    fn a_bad_peer_of_a_call_is_named_by_the_index_that_lua_has_for_it() {
        let read = |json: &str| upstream("api", &parse(json.as_bytes()).unwrap(), "upstream").unwrap_err().message;
        assert_eq!(read(r#"{"peers":[{"host":"10.0.0.1"},7]}"#), "upstream.peers[2]: 7: allowed: an object");
        assert_eq!(
            read(r#"{"peers":[{"host":"10.0.0.1"},{"host":"10.0.0.1"}]}"#),
            "upstream.peers[2]: 10.0.0.1: the same address as upstream.peers[1]"
        );
    }

    #[test]
    fn two_peers_with_one_address_are_named() {
        assert_eq!(
            why(r#"{"peers":[{"host":"[::2]"},{"host":"[::1]"},{"host":"[::3]"},{"host":"[0::1]","port":80}]}"#),
            "upstreams.api.peers[3]: [0::1]:80: the same address as upstreams.api.peers[1]"
        );
    }

    #[test]
    fn too_many_peers_are_refused() {
        let value = Value::Map(vec![("peers".into(), Value::List(vec![Value::Null; MAX_PEERS + 1]))]);
        let error = upstream("api", &value, "").unwrap_err();
        assert_eq!(error.message, "peers: 262145 peers: allowed: at most 262144");
    }

    #[test]
    fn a_bad_name_is_refused() {
        let value = parse(br#"{"peers":[]}"#).unwrap();
        assert!(upstream("a/b", &value, "").unwrap_err().message.starts_with(r#"upstream "a/b": "#));
    }
}
