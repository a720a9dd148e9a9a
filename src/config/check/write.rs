//! A check as JSON.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::fields;
use crate::config::fields::Field;
use crate::upstream::Check;

/// Appends the check as a compact object: every option that it has and that its type knows. Read back, it is the equal check.
///
/// ```
/// use dyups::config::check;
/// use dyups::upstream::Check;
/// use dyups::upstream::check::Kind;
/// let mut out = Vec::new();
/// check::write(&mut out, &Check { kind: Kind::Tcp, port: Some(81), ..Check::default() });
/// let numbers = r#""interval":3000,"timeout":2000,"rise":2,"fall":3,"concurrency":10"#;
/// assert_eq!(out, format!(r#"{{"type":"tcp","port":81,{numbers},"default_down":false,"panic_threshold":0}}"#).into_bytes());
/// ```
pub fn write(out: &mut Vec<u8>, check: &Check) {
    serde_json::to_writer(out, &CheckObject { check, is_default: false })
        .expect("a Vec takes every write, and every key is a string");
}

/// A check as an object within other JSON.
pub struct CheckObject<'a> {
    /// Its options.
    pub check: &'a Check,
    /// It is the default of `setup`, which is said then. Read back, an upstream with it follows the default again.
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
