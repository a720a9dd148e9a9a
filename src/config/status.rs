//! The options of `status`.

use super::object::Object;
use super::value::Value;
use crate::error::Result;
use crate::upstream::field::{Field, FieldType, field};

/// Whether each upstream and each peer has the totals of its tries.
pub const STATS: Field = field("stats", FieldType::Bool);

/// Reads whether totals are asked for. `null` in place of an object: they are not.
///
/// # Errors
///
/// [`crate::error::Code::Invalid`]: a field, its value and the allowed ones.
///
/// ```
/// use dyups::config::{status::stats, value::parse};
/// assert_eq!(stats(&parse(br#"{"stats": true}"#).unwrap(), "options"), Ok(true));
/// let error = stats(&parse(br#"{"stats": 1}"#).unwrap(), "options").unwrap_err();
/// assert_eq!(error.message, "options.stats: 1: allowed: true or false");
/// ```
pub fn stats(value: &Value, at: &str) -> Result<bool> {
    match value {
        Value::Null => Ok(false),
        value => Ok(Object::new(value, at, &[STATS])?.boolean(&STATS)?.unwrap_or(false)),
    }
}
