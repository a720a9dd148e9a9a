//! What is stored of an upstream's checks: `{"healthcheck":{...},"peers":{"3":{"check_port":81}}}`, a peer by its index. What is not
//! there is left out.

use super::upstream::Upstream;
use crate::config::check::{self, CheckObject};
use crate::config::fields::{self, Field};
use crate::config::json::PeerCheckObject;
use crate::config::object::{Object, entries};
use crate::config::peer::PeerCheckPatch;
use crate::config::value;
use crate::error::{Error, Result};
use crate::health::check::{Check, PeerCheck};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::collections::HashMap;

const UPSTREAM: &[Field] = &[fields::HEALTHCHECK, fields::PEERS];
const PEER: &[Field] = &[fields::CHECK_PORT, fields::CHECK_URL];

/// What is different for some peers, by index.
pub type PeerChecks = HashMap<u32, PeerCheck>;

/// The checks of an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// How all peers are checked; `None`: they are not.
    pub check: Option<Check>,
    /// What is different for some peers, by index.
    pub peers: PeerChecks,
}

impl Checks {
    /// Reads what [`write()`] gave.
    pub fn read(stored: &[u8]) -> Result<Checks> {
        let value = value::parse(stored)?;
        let object = Object::new(&value, "", UPSTREAM)?;
        let check = object.given(&fields::HEALTHCHECK).map(|options| check::read(options, "")).transpose()?;
        let mut peers = HashMap::new();
        if let Some(list) = object.given(&fields::PEERS) {
            for (index, value) in entries(list, "")? {
                let index = index.parse().map_err(|_| Error::invalid("a peer that is not named by its index"))?;
                let given = PeerCheckPatch::read(&Object::new(value, "", PEER)?)?;
                peers.insert(index, PeerCheck { port: given.port.flatten(), url: given.url.flatten() });
            }
        }
        Ok(Checks { check, peers })
    }
}

/// What is to be stored of an upstream that has any of it.
///
/// # Errors
///
/// [`crate::error::Code::Invalid`]: more than could be read again.
pub fn write(upstream: &Upstream) -> Result<Vec<u8>> {
    let stored = serde_json::to_vec(&Stored(upstream)).expect("every key is a string");
    value::check_bounds(&stored, "the options of its checks")?;
    Ok(stored)
}

struct Stored<'a>(&'a Upstream);

impl Serialize for Stored<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(check) = &self.0.check {
            map.serialize_entry(fields::HEALTHCHECK.name, &CheckObject { check, is_default: false })?;
        }
        map.serialize_entry(fields::PEERS.name, &StoredPeers(self.0))?;
        map.end()
    }
}

struct StoredPeers<'a>(&'a Upstream);

impl Serialize for StoredPeers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let peers = self.0.peers.iter().enumerate();
        let own = peers.filter_map(|(index, peer)| Some((index.to_string(), PeerCheckObject(peer.check.as_deref()?))));
        serializer.collect_map(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Address, Peer};

    fn upstream(check: Option<Check>, own: &[Option<PeerCheck>]) -> Upstream {
        let peer = |(i, check): (usize, &Option<PeerCheck>)| Peer {
            check: check.clone().map(Box::new),
            ..Peer::new(Address::from_server(&format!("10.0.0.1:{}", i + 1)).unwrap())
        };
        Upstream { check, peers: own.iter().enumerate().map(peer).collect(), ..Upstream::default() }
    }

    #[test]
    fn what_is_there_is_stored_and_read_back() {
        let own = PeerCheck { port: Some(81), url: Some("/\"\\ö".into()) };
        let stored = write(&upstream(None, &[None, Some(own.clone())])).unwrap();
        assert_eq!(String::from_utf8_lossy(&stored), r#"{"peers":{"1":{"check_port":81,"check_url":"/\"\\ö"}}}"#);
        assert_eq!(Checks::read(&stored), Ok(Checks { check: None, peers: [(1, own.clone())].into() }));
        let check = Check { fall: 9, ..Check::default() };
        let stored = write(&upstream(Some(check.clone()), &[Some(own.clone())])).unwrap();
        assert_eq!(Checks::read(&stored), Ok(Checks { check: Some(check), peers: [(0, own)].into() }));
    }

    #[test]
    fn more_than_could_be_read_again_is_refused() {
        let commas = PeerCheck { port: None, url: Some(format!("/{}", ",".repeat(value::MAX_VALUES))) };
        let error = write(&upstream(None, &[Some(commas)])).unwrap_err();
        assert_eq!(error.message, "the options of its checks: more values than the 4194304 that are allowed");
    }

    #[test]
    fn what_nobody_wrote_is_an_error() {
        for stored in ["", "[]", r#"{"check":{}}"#, r#"{"peers":{"x":{}}}"#, r#"{"peers":{"0":{"weight":1}}}"#] {
            assert!(Checks::read(stored.as_bytes()).is_err(), "{stored}");
        }
    }
}
