//! Reading an object's fields, with one wording for everything that can be wrong with them.

use super::fields;
use super::path::path;
use super::value::Value;
use crate::error::{Error, Result};
use crate::upstream::field::Field;

/// An object whose fields are all known. A field that is `null` is not given.
pub struct Object<'a> {
    map: &'a [(String, Value)],
    at: &'a str,
}

impl<'a> Object<'a> {
    /// Takes `value` as an object with no other fields than `known`. `at` is its path in messages, empty for none.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Invalid`] for another value, and for an unknown field, which is named.
    pub fn new(value: &'a Value, at: &'a str, known: &[Field]) -> Result<Object<'a>> {
        let map = entries(value, at)?;
        match map.iter().find(|(key, _)| !known.iter().any(|field| field.name == key)) {
            None => Ok(Object { map, at }),
            Some((key, _)) => {
                let (key, known) = (path(at, key), fields::known(known));
                Err(Error::invalid(format!("{key}: not known to this version; known: {known}")))
            }
        }
    }

    /// The value of `field`; `None` when it is absent or `null`.
    pub fn given(&self, field: &Field) -> Option<&'a Value> {
        let (_, value) = self.map.iter().find(|(key, _)| key == field.name)?;
        (*value != Value::Null).then_some(value)
    }

    /// The path of `field` in messages.
    pub fn path(&self, field: &Field) -> String {
        path(self.at, field.name)
    }

    /// An integer within the field's range. `10.0` is one; `2.5` and `"10"` are none.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Invalid`]: it is no integer, or not within the range.
    pub fn number<T: TryFrom<i64>>(&self, field: &Field) -> Result<Option<T>> {
        self.read(field, |value| field.kind.number(integer(value)?))
    }

    /// One of `names`: the value that it stands for.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Invalid`]: it is none of `names`.
    pub fn choice<T: Copy>(&self, field: &Field, names: &[(&str, T)]) -> Result<Option<T>> {
        self.read(field, |value| {
            let Value::Text(text) = value else { return None };
            names.iter().find(|(name, _)| name == text).map(|&(_, choice)| choice)
        })
    }

    /// `true` or `false`.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Invalid`]: it is neither.
    pub fn boolean(&self, field: &Field) -> Result<Option<bool>> {
        self.read(field, |value| if let Value::Bool(value) = value { Some(*value) } else { None })
    }

    /// A text. U+FFFD in it is refused: bytes that are not UTF-8 have become that (see [`super::value::parse`]).
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Invalid`]: it is no text, or has U+FFFD in it.
    pub fn text(&self, field: &Field) -> Result<Option<&'a str>> {
        let text = self.read(field, |value| if let Value::Text(text) = value { Some(text.as_str()) } else { None })?;
        match text {
            Some(text) if text.contains(char::REPLACEMENT_CHARACTER) => {
                let (path, shown) = (self.path(field), crate::quote::quote(text.as_bytes()));
                Err(Error::invalid(format!("{path}: {shown}: not UTF-8; allowed: {}", field.kind.allowed())))
            }
            text => Ok(text),
        }
    }

    /// A list. An empty object is an empty list, as Lua cannot tell them apart.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Invalid`]: it is no list.
    pub fn list(&self, field: &Field) -> Result<Option<&'a [Value]>> {
        self.read(field, |value| match value {
            Value::List(list) => Some(list.as_slice()),
            Value::Map(map) if map.is_empty() => Some(&[]),
            _ => None,
        })
    }

    /// The error for a field that has to be given and is not.
    pub fn missing(&self, field: &Field) -> Error {
        Error::invalid(format!("{}: not given: allowed: {}", self.path(field), field.kind.allowed()))
    }

    /// The field as `take` has it; an error when it is given and `take` does not want it.
    fn read<T>(&self, field: &Field, take: impl FnOnce(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.given(field) else { return Ok(None) };
        match take(value) {
            Some(taken) => Ok(Some(taken)),
            None => Err(Error::invalid(format!("{}: {value}: allowed: {}", self.path(field), field.kind.allowed()))),
        }
    }
}

/// The entries of `value`, which has to be an object.
///
/// # Errors
///
/// [`crate::error::Code::Invalid`] for another value; `at` is its path in the message.
pub fn entries<'a>(value: &'a Value, at: &str) -> Result<&'a [(String, Value)]> {
    match value {
        // A value of Lua that JSON does not have only looks like an object.
        Value::Map(map) if value.lua().is_none() => Ok(map),
        _ => {
            let error = Error::invalid(format!("{value}: allowed: an object"));
            Err(if at.is_empty() { error } else { error.within(at) })
        }
    }
}

/// `value` as an integer. Lua has only floats, so one without a fraction counts.
pub(super) fn integer(value: &Value) -> Option<i64> {
    // 2^53: above it a float does not hold every integer.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match *value {
        Value::Int(number) => Some(number),
        Value::Float(number) if number.fract() == 0.0 && number.abs() <= EXACT => Some(number as i64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::parse;
    use crate::upstream::Status;

    /// The result of `read` on the peer's fields in `json`, at the path `p`.
    fn with<T>(json: &str, read: impl FnOnce(&Object<'_>) -> Result<T>) -> std::result::Result<T, String> {
        let value = parse(json.as_bytes()).unwrap();
        Object::new(&value, "p", fields::PEER).and_then(|object| read(&object)).map_err(|error| error.to_string())
    }

    #[test]
    fn an_integral_float_is_an_integer() {
        for (json, weight) in
            [("10", Some(10)), ("10.0", Some(10)), ("1e1", Some(10)), ("-0.0", Some(0)), ("null", None)]
        {
            assert_eq!(with(&format!(r#"{{"weight":{json}}}"#), |object| object.number(&fields::WEIGHT)), Ok(weight));
        }
    }

    #[test]
    fn what_is_no_integer_in_range_is_refused() {
        for json in
            ["-1", "65536", "2.5", "1e300", "9223372036854775808", r#""1""#, "true", "[]", r#"{"\u0001lua":"nan"}"#]
        {
            let error = with(&format!(r#"{{"weight":{json}}}"#), |object| object.number::<u16>(&fields::WEIGHT));
            assert!(error.unwrap_err().ends_with(": allowed: an integer from 0 to 65535"));
        }
        let error = with(r#"{"weight":{"\u0001lua":"nan"}}"#, |object| object.number::<u16>(&fields::WEIGHT));
        assert_eq!(error.unwrap_err(), "p.weight: nan: allowed: an integer from 0 to 65535");
    }

    #[test]
    fn a_choice_is_one_of_its_names() {
        let status = |json: &str| with(json, |object| object.choice(&fields::STATUS, &Status::NAMES));
        assert_eq!(status(r#"{"status":"drain"}"#), Ok(Some(Status::Drain)));
        assert_eq!(status(r#"{"status":"UP"}"#), Err(r#"p.status: "UP": allowed: "up", "down" or "drain""#.into()));
        assert_eq!(status(r#"{"status":1}"#), Err(r#"p.status: 1: allowed: "up", "down" or "drain""#.into()));
    }

    #[test]
    fn a_boolean_is_no_number() {
        let backup = |json: &str| with(json, |object| object.boolean(&fields::BACKUP));
        assert_eq!(backup(r#"{"backup":true}"#), Ok(Some(true)));
        assert_eq!(backup(r#"{"backup":1}"#), Err("p.backup: 1: allowed: true or false".into()));
    }

    #[test]
    fn a_text_that_was_not_utf_8_is_refused_by_name() {
        let error = with("{\"host\":\"unix:/\u{fffd}\"}", |object| object.text(&fields::HOST).map(|_| ())).unwrap_err();
        assert!(error.starts_with("p.host: \"unix:/\u{fffd}\": not UTF-8; allowed: an IPv4 address"), "{error}");
    }

    #[test]
    fn an_empty_object_is_an_empty_list() {
        let list = |json: &str| {
            let value = parse(json.as_bytes()).unwrap();
            Object::new(&value, "", fields::UPSTREAM)?.list(&fields::PEERS).map(|list| list.map(<[Value]>::len))
        };
        assert_eq!(list(r#"{"peers":{}}"#), Ok(Some(0)));
        assert_eq!(list(r#"{"peers":[1]}"#), Ok(Some(1)));
        assert_eq!(list(r#"{"peers":{"1":2}}"#).unwrap_err().message, r#"peers: {"1":2}: allowed: a list"#);
    }

    #[test]
    fn an_unknown_field_is_named_with_the_known_ones() {
        let error = with(r#"{"wieght":null}"#, |_| Ok(())).unwrap_err();
        assert_eq!(
            error,
            "p.wieght: not known to this version; known: host, port, server, weight, status, backup, max_conns, \
             max_fails, fail_timeout, slow_start, check_port, check_url, check_host, leaving"
        );
    }

    #[test]
    fn only_an_object_has_fields() {
        assert_eq!(with("[]", |_| Ok(())).unwrap_err(), "p: []: allowed: an object");
        assert_eq!(with(r#"{"\u0001lua":"function"}"#, |_| Ok(())).unwrap_err(), "p: function: allowed: an object");
    }
}
