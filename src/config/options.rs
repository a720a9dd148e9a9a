//! The options of a call that changes an upstream.

use super::fields;
use super::object::Object;
use super::value::Value;
use crate::error::{Error, Result};
use crate::quote::quote;
use crate::upstream::field::Field;

const OPTIONS: &[Field] = &[fields::BY];

/// Most bytes of `by`.
const MAX_BY_BYTES: usize = 255;

/// The user or program for which a change is made, from the option `by`. `null` in place of an object means no options.
///
/// # Errors
///
/// [`crate::error::Code::Invalid`] as for any object.
///
/// ```
/// use dyups::config::{options, value::parse};
/// assert_eq!(options::by(&parse(br#"{"by": "deploy 42"}"#).unwrap(), "options"), Ok(Some("deploy 42".to_string())));
/// let error = options::by(&parse(br#"{"by": 42}"#).unwrap(), "options").unwrap_err();
/// assert_eq!(error.message, "options.by: 42: allowed: a text of 1 to 255 bytes");
/// ```
pub fn by(value: &Value, at: &str) -> Result<Option<String>> {
    if *value == Value::Null {
        return Ok(None);
    }
    let object = Object::new(value, at, OPTIONS)?;
    match object.text(&fields::BY)? {
        Some(by) if !(1..=MAX_BY_BYTES).contains(&by.len()) => {
            let (path, shown) = (object.path(&fields::BY), quote(by.as_bytes()));
            Err(Error::invalid(format!("{path}: {shown}: allowed: {}", fields::BY.kind.allowed())))
        }
        by => Ok(by.map(str::to_string)),
    }
}

/// The options of a call that has none of its own: `null`, or an object without fields.
///
/// # Errors
///
/// [`crate::error::Code::Invalid`] as for any object.
pub fn none(value: &Value, at: &str) -> Result<()> {
    match value {
        Value::Null => Ok(()),
        _ => Object::new(value, at, &[]).map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::parse;

    #[test]
    fn a_name_of_whom_a_change_is_made_for_is_a_short_text() {
        let by = |json: &str| super::by(&parse(json.as_bytes()).unwrap(), "options").map_err(|error| error.to_string());
        assert_eq!(by("null"), Ok(None));
        assert_eq!(by("{}"), Ok(None));
        assert_eq!(by(&format!(r#"{{"by":"{}"}}"#, "x".repeat(255))), Ok(Some("x".repeat(255))));
        for json in [r#"{"by":""}"#.to_string(), format!(r#"{{"by":"{}"}}"#, "x".repeat(256)), r#"{"by":[]}"#.into()] {
            let error = by(&json).unwrap_err();
            assert!(
                error.starts_with("options.by: ") && error.ends_with("allowed: a text of 1 to 255 bytes"),
                "{error}"
            );
        }
        assert_eq!(by(r#"{"bye":"x"}"#), Err("options.bye: not known to this version; known: by".into()));
        assert_eq!(by("7"), Err("options: 7: allowed: an object".into()));
    }
}
