//! The stored options of an upstream: `{"healthcheck":{...},"peers":{"3":{"check_port":81}}}`, a peer by its index. Absent
//! options are left out.
//!
//! Another version of this library may have written it, or may read it next ([`self::lenient`]). Options that this one does
//! not know are kept when it writes the upstream again.

pub mod lenient;
pub mod object;

use crate::bounds::check_json;
use crate::error::Result;
use crate::shm::Damaged;
use crate::upstream::check::serialize::{CheckObject, PeerCheckObject};
use crate::upstream::kept::Kept;
use crate::upstream::{Check, PeerCheck, Upstream, fields};
use lenient::with_kept;
use object::Entries;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use std::collections::HashMap;

/// Most bytes of it that are read: more than any library takes in one input, and not all that a spoiled region could claim.
pub const MOST_BYTES: usize = 256 << 20;

/// The options of single peers, by index.
pub type PeerChecks = HashMap<u32, PeerCheck>;

/// The checks of an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// How all peers are checked; `None`: they are not.
    pub check: Option<Check>,
    /// The options of single peers, by index.
    pub peers: PeerChecks,
    /// The rest.
    pub kept: Kept,
}

impl Checks {
    /// Reads the output of [`write()`], of this library or another.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: it is nothing that any library writes.
    pub fn read(stored: &[u8]) -> std::result::Result<Checks, Damaged> {
        let text = std::str::from_utf8(stored).map_err(|_| Damaged)?;
        let mut checks = Checks::default();
        for (name, value) in &Entries::of(text).ok_or(Damaged)?.0 {
            if name == fields::HEALTHCHECK.name {
                checks.check = lenient::check(value);
                if checks.check.is_none() {
                    checks.kept.keep(name, value);
                }
            } else if name == fields::PEERS.name {
                checks.peers = peers(value).ok_or(Damaged)?;
            } else {
                checks.kept.keep(name, value);
            }
        }
        Ok(checks)
    }
}

fn peers(stored: &RawValue) -> Option<PeerChecks> {
    let entries = Entries::of(stored.get())?.0;
    entries.iter().map(|(index, value)| Some((index.parse().ok()?, lenient::peer(value)?))).collect()
}

/// The stored form of an upstream that has any such option.
///
/// # Errors
///
/// [`crate::error::Code::Invalid`]: more than one input may have.
pub fn write(upstream: &Upstream) -> Result<Vec<u8>> {
    let stored = serde_json::to_vec(&Stored(upstream)).expect("every key is a string");
    check_json(&stored, "the options of its checks")?;
    Ok(stored)
}

struct Stored<'a>(&'a Upstream);

impl Serialize for Stored<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(check) = &self.0.check {
            let object = CheckObject { check, is_default: false };
            map.serialize_entry(fields::HEALTHCHECK.name, &WithKept(&object, &check.kept))?;
        }
        map.serialize_entry(fields::PEERS.name, &StoredPeers(self.0))?;
        let none = Kept::default();
        let kept = self.0.foreign.as_ref().map_or(&none, |foreign| &foreign.options);
        for (name, value) in kept.raw() {
            map.serialize_entry(name, value)?;
        }
        #[cfg(feature = "next-options")]
        next::add(&mut map, kept)?;
        map.end()
    }
}

struct StoredPeers<'a>(&'a Upstream);

impl Serialize for StoredPeers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (index, peer) in self.0.peers.iter().enumerate() {
            if let Some(check) = peer.check.as_deref() {
                map.serialize_entry(&index.to_string(), &WithKept(&PeerCheckObject(check), &check.kept))?;
            }
        }
        map.end()
    }
}

/// An object, with the options that are kept beside its own.
struct WithKept<'a, T>(&'a T, &'a Kept);

impl<T: Serialize> Serialize for WithKept<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if self.1.is_empty() && !cfg!(feature = "next-options") {
            return self.0.serialize(serializer);
        }
        let own = serde_json::to_string(self.0).map_err(serde::ser::Error::custom)?;
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in with_kept(&own, self.1) {
            map.serialize_entry(&name, value)?;
        }
        #[cfg(feature = "next-options")]
        next::add(&mut map, self.1)?;
        map.end()
    }
}

/// For tests alone: an option more in each object, as a later version may have.
#[cfg(feature = "next-options")]
mod next {
    use super::{Kept, RawValue, SerializeMap};

    pub fn add<M: SerializeMap>(map: &mut M, kept: &Kept) -> Result<(), M::Error> {
        let value = RawValue::from_string(r#"{"a":[1,2.50],"b":"ü"}"#.to_owned()).expect("JSON");
        if kept.has("next_option") { Ok(()) } else { map.serialize_entry("next_option", &value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Address, Peer};

    fn upstream(check: Option<Check>, own: &[Option<PeerCheck>]) -> Upstream {
        let peer = |(i, check): (usize, &Option<PeerCheck>)| Peer {
            check: check.clone().map(Box::new),
            ..Peer::new(Address::from_server(&format!("10.0.0.1:{}", i + 1)).unwrap())
        };
        Upstream { check, peers: own.iter().enumerate().map(peer).collect(), ..Upstream::default() }
    }

    #[test]
    fn what_is_there_is_stored_and_read_back() {
        let own =
            PeerCheck { port: Some(81), url: Some("/\"\\ö".into()), host: Some("a.b".into()), ..PeerCheck::default() };
        let stored = write(&upstream(None, &[None, Some(own.clone())])).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&stored),
            r#"{"peers":{"1":{"check_port":81,"check_url":"/\"\\ö","check_host":"a.b"}}}"#
        );
        let (kept, peers) = (Kept::default(), [(1, own.clone())].into());
        assert_eq!(Checks::read(&stored), Ok(Checks { check: None, peers, kept: kept.clone() }));
        let check = Check { fall: 9, ..Check::default() };
        let stored = write(&upstream(Some(check.clone()), &[Some(own.clone())])).unwrap();
        assert_eq!(Checks::read(&stored), Ok(Checks { check: Some(check), peers: [(0, own)].into(), kept }));
    }

    #[test]
    fn more_than_could_be_read_again_is_refused() {
        let commas =
            PeerCheck { url: Some(format!("/{}", ",".repeat(crate::bounds::MAX_VALUES))), ..PeerCheck::default() };
        let error = write(&upstream(None, &[Some(commas)])).unwrap_err();
        assert_eq!(error.message, "the options of its checks: more values than the 4194304 that are allowed");
    }

    #[test]
    fn what_another_version_has_stored_is_kept_wherever_it_stands() {
        let stored = r#"{"healthcheck":{"fall":300,"jitter":5},"peers":{"0":{"check_host":"x"},"1":{"check_port":81,"a":[1.50]}},"sticky":{"b":null}}"#;
        let Checks { check, mut peers, kept } = Checks::read(stored.as_bytes()).expect("sound");
        let mut upstream = upstream(check, &[peers.remove(&0), peers.remove(&1)]);
        upstream.foreign = crate::upstream::kept::Foreign { options: kept, ..Default::default() }.boxed();
        let again = String::from_utf8(write(&upstream).unwrap()).unwrap();
        for part in [
            r#""fall":300,"jitter":5}"#,
            r#""peers":{"0":{"check_host":"x"},"1":{"check_port":81,"a":[1.50]}}"#,
            r#""sticky":{"b":null}"#,
        ] {
            assert!(again.contains(part), "{part}: {again}");
        }
        // A check that is no object is none that this library could do, and is not lost either.
        let checks = Checks::read(br#"{"healthcheck":[{}],"peers":{}}"#).expect("sound");
        assert_eq!((checks.check, checks.kept.has("healthcheck")), (None, true));
    }

    #[test]
    fn what_nobody_wrote_is_an_error() {
        for stored in ["", "[]", "{", "{}x", r#"{"peers":{"x":{}}}"#, r#"{"peers":{"0":7}}"#, r#"{"peers":7}"#] {
            assert_eq!(Checks::read(stored.as_bytes()), Err(Damaged), "{stored}");
        }
        assert_eq!(Checks::read(b"{\"a\":\"\xff\"}"), Err(Damaged));
    }
}
