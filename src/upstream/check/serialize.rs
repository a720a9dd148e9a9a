//! A check as an object of fields, for any syntax.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::super::field::Field;
use super::super::fields as peer;
use super::{Check, PeerCheck, fields};

/// A check as an object: every option that it has and that its type knows. Read back, it is the equal check.
///
/// ```
/// use dyups::upstream::check::serialize::CheckObject;
/// use dyups::upstream::check::{Check, CheckType};
/// let check = Check { kind: CheckType::Tcp, port: Some(81), ..Check::default() };
/// let numbers = r#""interval":3000,"timeout":2000,"rise":2,"fall":3,"concurrency":10"#;
/// assert_eq!(
///     serde_json::to_string(&CheckObject { check: &check, is_default: false }).unwrap(),
///     format!(r#"{{"type":"tcp","port":81,{numbers},"default_down":false,"panic_threshold":0}}"#)
/// );
/// ```
pub struct CheckObject<'a> {
    /// Its options.
    pub check: &'a Check,
    /// It is the default of `setup`, and the object says so. Read back, an upstream with it follows the default again.
    pub is_default: bool,
}

impl Serialize for CheckObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let check = self.check;
        let mut map = Options(check, serializer.serialize_map(None)?);
        map.put(&fields::TYPE, Some(check.kind.name()))?;
        map.put(&fields::HTTP_REQ, check.http_req.as_ref())?;
        map.put(&fields::SEND, check.send.as_ref())?;
        map.put(&fields::EXPECT, check.expect.as_ref())?;
        map.put(&fields::PORT, check.port)?;
        map.put(&fields::HOST, check.host.as_ref())?;
        map.put(&fields::INTERVAL, Some(check.interval))?;
        map.put(&fields::INTERVAL_DOWN, check.interval_down)?;
        map.put(&fields::TIMEOUT, Some(check.timeout))?;
        map.put(&fields::RISE, Some(check.rise))?;
        map.put(&fields::FALL, Some(check.fall))?;
        map.put(&fields::VALID_STATUSES, Some(&check.valid_statuses))?;
        map.put(&fields::CONCURRENCY, Some(check.concurrency))?;
        map.put(&fields::SSL_VERIFY, Some(check.ssl_verify))?;
        map.put(&fields::SSL_CERT, check.ssl_cert.as_ref())?;
        map.put(&fields::SSL_KEY, check.ssl_key.as_ref())?;
        map.put(&fields::EXPECT_BODY, check.expect_body.as_ref())?;
        // A list, as headers have an order and may repeat.
        let headers: Vec<_> = check.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        map.put(&fields::HEADERS, (!headers.is_empty()).then_some(headers))?;
        map.put(&fields::URL, check.http_req.is_none().then_some(&check.url))?;
        map.put(&fields::DEFAULT_DOWN, Some(check.default_down))?;
        map.put(&fields::PANIC_THRESHOLD, Some(check.panic_threshold))?;
        map.put(&fields::DEFAULT, self.is_default.then_some(true))?;
        map.1.end()
    }
}

/// An object that is being written, of this check.
struct Options<'a, M>(&'a Check, M);

impl<M: SerializeMap> Options<'_, M> {
    /// Writes an option that is there, and that the type knows.
    fn put(&mut self, field: &Field, value: Option<impl Serialize>) -> std::result::Result<(), M::Error> {
        match value.filter(|_| fields::types(field).contains(&self.0.kind)) {
            Some(value) => self.1.serialize_entry(field.name, &value),
            None => Ok(()),
        }
    }
}

/// The options for the probes of one peer, as an object with the fields that are set.
pub struct PeerCheckObject<'a>(pub &'a PeerCheck);

impl PeerCheckObject<'_> {
    /// Adds its fields to an object that has others too.
    ///
    /// # Errors
    ///
    /// Those of `map`.
    pub fn add_to<M: SerializeMap>(&self, map: &mut M) -> std::result::Result<(), M::Error> {
        let PeerCheckObject(check) = self;
        if let Some(port) = check.port {
            map.serialize_entry(peer::CHECK_PORT.name, &port)?;
        }
        if let Some(url) = &check.url {
            map.serialize_entry(peer::CHECK_URL.name, url)?;
        }
        match &check.host {
            Some(host) => map.serialize_entry(peer::CHECK_HOST.name, host),
            None => Ok(()),
        }
    }
}

impl Serialize for PeerCheckObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.add_to(&mut map)?;
        map.end()
    }
}
