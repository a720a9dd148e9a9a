//! A peer as an object: whole, or the fields of it that change.

use super::check::{or_none, text};
use super::fields;
use super::object::Object;
use super::value::Value;
use crate::error::{Error, Result};
use crate::http::request;
use crate::quote::quote;
use crate::upstream::patch::PeerCheckPatch;
use crate::upstream::{Address, PeerPatch, Status};

/// Reads a peer, whole or in part; `at` is its path in messages, such as `upstreams.api.peers[3]`, empty for none.
///
/// # Errors
///
/// [`crate::error::Code::Invalid`]: the message names the field, its value and the allowed values.
///
/// ```
/// use dyups::config::{peer::peer_patch, value::parse};
/// let patch = peer_patch(&parse(br#"{"host": "10.0.0.1", "weight": 3}"#).unwrap(), "peer").unwrap();
/// assert_eq!((patch.address.text(), patch.weight, patch.status), ("10.0.0.1:80", Some(3), None));
/// let error = peer_patch(&parse(br#"{"host": "10.0.0.1", "weight": -1}"#).unwrap(), "peer").unwrap_err();
/// assert_eq!(error.message, "peer.weight: -1: allowed: an integer from 0 to 65535");
/// ```
pub fn peer_patch(value: &Value, at: &str) -> Result<PeerPatch> {
    let object = Object::new(value, at, fields::PEER)?;
    let (address, check) = (address(&object)?, peer_check_patch(&object)?);
    if let (Some(Some(port)), None) = (check.port, address.port()) {
        let (path, peer) = (object.path(&fields::CHECK_PORT), address.text());
        return Err(Error::invalid(format!("{path}: {port}: {peer} has no port; allowed: false, or not given")));
    }
    Ok(PeerPatch {
        address,
        weight: object.number(&fields::WEIGHT)?,
        status: status(&object)?,
        backup: object.boolean(&fields::BACKUP)?,
        max_conns: object.number(&fields::MAX_CONNS)?,
        max_fails: object.number(&fields::MAX_FAILS)?,
        fail_timeout: object.number(&fields::FAIL_TIMEOUT)?,
        slow_start: object.number(&fields::SLOW_START)?,
        check,
    })
}

/// Reads the settings of a peer's probes that differ from the check's.
///
/// # Errors
///
/// As [`peer_patch`].
pub fn peer_check_patch(object: &Object<'_>) -> Result<PeerCheckPatch> {
    Ok(PeerCheckPatch {
        port: or_none(object, &fields::CHECK_PORT, Object::number)?,
        url: or_none(object, &fields::CHECK_URL, text(request::check_url))?,
        host: or_none(object, &fields::CHECK_HOST, text(request::check_host))?,
    })
}

/// The meaning of `status` and `leaving` together: a peer that leaves drains until then.
fn status(object: &Object<'_>) -> Result<Option<Status>> {
    let status = object.choice(&fields::STATUS, &Status::NAMES)?;
    match (object.boolean(&fields::LEAVING)?, status) {
        (Some(true), None | Some(Status::Drain)) => Ok(Some(Status::Leaving)),
        // One of the two is a mistake, and one of them would have the peer deleted.
        (Some(true), Some(other)) => Err(Error::invalid(format!(
            "{}: true with status \"{}\": allowed: only with status \"drain\"",
            object.path(&fields::LEAVING),
            other.name()
        ))),
        (_, status) => Ok(status),
    }
}

/// Reads the address of a peer that is to be deleted, and whether it drains first. The other known fields are not looked at.
///
/// # Errors
///
/// As [`peer_patch`].
pub fn peer_to_delete(value: &Value, at: &str) -> Result<(Address, bool)> {
    let object = Object::new(value, at, fields::PEER_TO_DELETE)?;
    Ok((address(&object)?, object.boolean(&fields::DRAIN)?.unwrap_or(false)))
}

/// The address from `host` and `port`, from `server`, or from all of them. Then `server` is the address as it was written.
fn address(object: &Object<'_>) -> Result<Address> {
    match (host_port(object)?, server(object)?) {
        (None, None) => Err(object.missing(&fields::HOST)),
        (Some(address), None) | (None, Some(address)) => Ok(address),
        (Some(address), Some(server)) if server.same_as(&address) => Ok(server),
        (Some(address), Some(server)) => {
            let (path, server) = (object.path(&fields::SERVER), quote(server.server().as_bytes()));
            let allowed = quote(address.text().as_bytes());
            Err(Error::invalid(format!("{path}: {server}: allowed: the address of host and port, {allowed}")))
        }
    }
}

fn host_port(object: &Object<'_>) -> Result<Option<Address>> {
    let port = object.number(&fields::PORT)?;
    match object.text(&fields::HOST)? {
        Some(host) => {
            let address = Address::from_host_port(host, port);
            address.map(Some).map_err(|error| error.within(object.path(&fields::HOST)))
        }
        // A port without its host is half an address.
        None if port.is_some() => Err(object.missing(&fields::HOST)),
        None => Ok(None),
    }
}

fn server(object: &Object<'_>) -> Result<Option<Address>> {
    let Some(server) = object.text(&fields::SERVER)? else { return Ok(None) };
    Address::from_server(server).map(Some).map_err(|error| error.within(object.path(&fields::SERVER)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::parse;
    use crate::upstream::{Peer, PeerCheck};

    fn patch(json: &str) -> Result<PeerPatch> {
        peer_patch(&parse(json.as_bytes()).unwrap(), "peer")
    }

    fn why(json: &str) -> String {
        patch(json).unwrap_err().message.into_owned()
    }

    #[test]
    fn a_peer_of_all_fields_is_read() {
        let json = r#"{"host":"10.0.0.1","port":81,"weight":0,"status":"down","backup":true,"max_conns":1,
            "max_fails":2,"fail_timeout":3,"slow_start":4294967295,"check_port":4,"check_url":"/a","check_host":"b:1"}"#;
        let peer = patch(json).unwrap().into_peer();
        let address = Address::from_server("10.0.0.1:81").unwrap();
        assert_eq!(
            peer,
            Peer {
                address,
                weight: 0,
                status: Status::Down,
                backup: true,
                max_conns: 1,
                max_fails: 2,
                fail_timeout: 3,
                slow_start: u32::MAX,
                check: Some(Box::new(PeerCheck {
                    port: Some(4),
                    url: Some("/a".into()),
                    host: Some("b:1".into()),
                    ..PeerCheck::default()
                })),
                foreign: None,
            }
        );
    }

    #[test]
    fn what_is_not_given_is_the_default() {
        let address = Address::from_server("10.0.0.1").unwrap();
        assert_eq!(patch(r#"{"host":"10.0.0.1","port":null,"weight":null}"#).unwrap().into_peer(), Peer::new(address));
    }

    #[test]
    fn a_patch_changes_what_was_given_and_keeps_the_rest() {
        let mut peer = patch(r#"{"server":"[::1]","weight":5,"max_fails":7}"#).unwrap().into_peer();
        let change = patch(r#"{"host":"[0:0::1]","port":80,"weight":9,"status":"drain"}"#).unwrap();
        assert!(change.address.same_as(&peer.address));
        change.apply(&mut peer);
        assert_eq!((peer.weight, peer.status, peer.max_fails), (9, Status::Drain, 7));
        assert_eq!(peer.address.server(), "[::1]");
    }

    #[test]
    fn server_is_the_address_as_written() {
        assert_eq!(patch(r#"{"server":"10.0.0.1"}"#).unwrap().address.server(), "10.0.0.1");
        let all = r#"{"host":"10.0.0.1","port":80,"server":"10.0.0.1"}"#;
        assert_eq!(patch(all).unwrap().address.server(), "10.0.0.1");
        assert_eq!(
            why(r#"{"host":"10.0.0.1","port":81,"server":"10.0.0.1"}"#),
            r#"peer.server: "10.0.0.1": allowed: the address of host and port, "10.0.0.1:81""#
        );
    }

    #[test]
    fn a_peer_that_leaves_drains() {
        let status = |json: &str| patch(&format!(r#"{{"host":"10.0.0.1",{json}}}"#)).map(|patch| patch.status);
        assert_eq!(status(r#""leaving":true"#), Ok(Some(Status::Leaving)));
        assert_eq!(status(r#""leaving":true,"status":"drain""#), Ok(Some(Status::Leaving)));
        assert_eq!(status(r#""leaving":false,"status":"drain""#), Ok(Some(Status::Drain)));
        assert_eq!(status(r#""leaving":false"#), Ok(None));
        for other in ["up", "down"] {
            let message = format!(r#"peer.leaving: true with status "{other}": allowed: only with status "drain""#);
            assert_eq!(why(&format!(r#"{{"host":"10.0.0.1","leaving":true,"status":"{other}"}}"#)), message);
        }
    }

    #[test]
    fn a_peer_has_a_port_and_a_url_of_its_own_for_probes_until_they_are_taken_away() {
        let apply = |peer: &mut Peer, json: &str| {
            patch(&format!(r#"{{"host":"10.0.0.1",{json}}}"#)).unwrap().apply(peer);
            peer.check.as_deref().map(|check| (check.port, check.url.clone()))
        };
        let url = Some("/a".to_string());
        let mut peer = patch(r#"{"host":"10.0.0.1"}"#).unwrap().into_peer();
        assert_eq!(peer.check, None);
        assert_eq!(apply(&mut peer, r#""check_port":81"#), Some((Some(81), None)));
        assert_eq!(apply(&mut peer, r#""check_url":"/a""#), Some((Some(81), url.clone())));
        assert_eq!(apply(&mut peer, r#""weight":2,"check_url":null"#), Some((Some(81), url.clone())));
        assert_eq!(apply(&mut peer, r#""check_port":false"#), Some((None, url)));
        assert_eq!(apply(&mut peer, r#""check_url":false"#), None);
    }

    #[test]
    fn a_path_has_no_port_that_probes_could_go_to() {
        assert_eq!(
            why(r#"{"host":"unix:/a","check_port":81}"#),
            "peer.check_port: 81: unix:/a has no port; allowed: false, or not given"
        );
        assert!(patch(r#"{"host":"unix:/a","check_port":false,"check_host":"a"}"#).is_ok());
    }

    #[test]
    fn an_address_has_to_be_given() {
        let missing = "peer.host: not given: allowed: an IPv4 address, an IPv6 address in brackets, unix:/path";
        assert_eq!(why("{}"), missing);
        assert_eq!(why(r#"{"port":80}"#), missing);
        assert_eq!(why(r#"{"port":80,"server":"10.0.0.1"}"#), missing);
    }

    #[test]
    fn a_bad_field_is_named_with_its_value_and_what_is_allowed() {
        assert!(
            why(r#"{"host":"api.local"}"#).starts_with(r#"peer.host: "api.local": a name that needs DNS; allowed:"#)
        );
        assert!(why(r#"{"host":5}"#).starts_with("peer.host: 5: allowed: an IPv4 address"));
        assert!(why(r#"{"host":"unix:/p","port":1}"#).starts_with(r#"peer.host: "unix:/p": a unix path has no port"#));
        assert!(why(r#"{"server":"x y"}"#).starts_with(r#"peer.server: "x y": not an address"#));
        assert_eq!(why(r#"{"host":"1.1.1.1","port":0}"#), "peer.port: 0: allowed: an integer from 1 to 65535");
        assert_eq!(
            why(r#"{"host":"1.1.1.1","fail_timeout":"10s"}"#),
            r#"peer.fail_timeout: "10s": allowed: an integer from 0 to 4294967295 (seconds)"#
        );
    }

    #[test]
    fn without_a_path_the_field_stands_first() {
        let value = parse(br#"{"host":"1.1.1.1","weight":-1}"#).unwrap();
        assert_eq!(peer_patch(&value, "").unwrap_err().message, "weight: -1: allowed: an integer from 0 to 65535");
    }

    #[test]
    fn for_an_address_the_other_fields_are_not_looked_at() {
        let address = |json: &str| peer_to_delete(&parse(json.as_bytes()).unwrap(), "peer").map(|(address, _)| address);
        assert_eq!(address(r#"{"host":"1.1.1.1","weight":"x"}"#), Address::from_server("1.1.1.1"));
        assert!(address(r#"{"host":"1.1.1.1","x":1}"#).unwrap_err().message.starts_with("peer.x: not known"));
    }
}
