//! A JSON value: any, before the fields that it should have are known.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::text;
use crate::bounds::check_json;
use crate::error::{Error, Result};
use crate::quote::{Short, quote};

/// The key of the one-key object by which our Lua encoder names a value that JSON does not have: `{"\u0001lua":"nan"}`.
///
/// The text is `nan`, `inf`, `-inf`, `function`, `userdata`, `cdata`, `thread`, `recursive`, `mixed` or the like. No
/// field allows such a value; a message shows the text bare.
pub const LUA_KEY: &str = "\u{1}lua";

/// A JSON value. `Display` shows it in a message: compact JSON, cut as by [`crate::quote`].
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`; as the value of a field: not given.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without fraction or exponent that an `i64` holds.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A string. U+FFFD in it may have been bytes that are not UTF-8, see [`parse`].
    Text(String),
    /// An array.
    List(Vec<Value>),
    /// An object, in the order of the text; no key is there twice.
    Map(Vec<(String, Value)>),
}

/// Parses JSON.
///
/// A byte order mark at the beginning is skipped. Bytes that are not UTF-8 become U+FFFD here. The reader of the field refuses
/// them ([`super::object`]), since its message can name the field.
///
/// # Errors
///
/// [`crate::error::Code::Invalid`]: the input has more than [`crate::bounds::MAX_INPUT_BYTES`] or
/// [`crate::bounds::MAX_VALUES`]. It is not JSON, or is nested deeper than 127 (the message has line and column). A key is
/// twice in one object (the message names it).
///
/// ```
/// use dyups::config::value::{Value, parse};
/// assert_eq!(parse(b"[1, 2.5]"), Ok(Value::List(vec![Value::Int(1), Value::Float(2.5)])));
/// ```
pub fn parse(json: &[u8]) -> Result<Value> {
    let json = text::without_mark(json);
    check_json(json, "JSON")?;
    parse_checked(json)
}

/// The same of bytes whose number was checked, and that begin with no byte order mark.
pub(super) fn parse_checked(json: &[u8]) -> Result<Value> {
    serde_json::from_str(&String::from_utf8_lossy(json)).map_err(|error| {
        // The only error of our visitor, which is no error of syntax, is a key that is there twice.
        let what = if error.is_data() { "JSON" } else { "not JSON" };
        Error::invalid(format!("{what}: {error}"))
    })
}

impl Value {
    /// The word of our Lua encoder for a value that JSON cannot express, see [`LUA_KEY`].
    pub fn lua(&self) -> Option<&str> {
        match self {
            Value::Map(map) => match map.as_slice() {
                [(key, Value::Text(text))] if key == LUA_KEY => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// Adds itself to a message as compact JSON.
    fn show(&self, out: &mut Short) -> fmt::Result {
        if let Some(text) = self.lua() {
            return out.escaped(text.as_bytes());
        }
        match self {
            Value::Null => out.whole("null"),
            Value::Bool(value) => out.whole(if *value { "true" } else { "false" }),
            Value::Int(value) => out.whole(&value.to_string()),
            // Debug, as Display would write 1e300 in 301 digits.
            Value::Float(value) => out.whole(&format!("{value:?}")),
            Value::Text(text) => show_text(text, out),
            Value::List(list) => show_list(list, out),
            Value::Map(map) => show_map(map, out),
        }
    }
}

fn show_text(text: &str, out: &mut Short) -> fmt::Result {
    out.whole("\"")?;
    out.escaped(text.as_bytes())?;
    out.whole("\"")
}

fn show_list(list: &[Value], out: &mut Short) -> fmt::Result {
    out.whole("[")?;
    for (i, value) in list.iter().enumerate() {
        out.whole(if i == 0 { "" } else { "," })?;
        value.show(out)?;
    }
    out.whole("]")
}

fn show_map(map: &[(String, Value)], out: &mut Short) -> fmt::Result {
    out.whole("{")?;
    for (i, (key, value)) in map.iter().enumerate() {
        out.whole(if i == 0 { "" } else { "," })?;
        show_text(key, out)?;
        out.whole(":")?;
        value.show(out)?;
    }
    out.whole("}")
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Value::Text(text) = self {
            return f.write_str(&quote(text.as_bytes()));
        }
        let mut short = Short::default();
        // An error only says that the rest was cut.
        let _ = self.show(&mut short);
        f.write_str(short.text())
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Value, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> std::result::Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = access.next_element()? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> std::result::Result<Value, A::Error> {
        let mut map = Vec::new();
        let mut seen = HashSet::new();
        while let Some(key) = access.next_key::<String>()? {
            if is_repeat(&key, &map, &mut seen) {
                return Err(A::Error::custom(format_args!("key {} is there twice", quote(key.as_bytes()))));
            }
            map.push((key, access.next_value()?));
        }
        Ok(Value::Map(map))
    }
}

/// Whether `map` has `key`. `seen` is for this function alone: it has the keys of a map that is too long to go through.
fn is_repeat(key: &str, map: &[(String, Value)], seen: &mut HashSet<String>) -> bool {
    // Most objects are peers, and going through a few keys is faster than a set of them.
    const FEW: usize = 16;
    if map.len() < FEW {
        return map.iter().any(|(other, _)| other == key);
    }
    if seen.is_empty() {
        seen.extend(map.iter().map(|(key, _)| key.clone()));
    }
    !seen.insert(key.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::MAX_VALUES;
    use proptest::prelude::*;

    fn why(json: &[u8]) -> String {
        parse(json).unwrap_err().message.into_owned()
    }

    fn shown(json: &str) -> String {
        parse(json.as_bytes()).unwrap().to_string()
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let map = |key: &str, value| Value::Map(vec![(key.to_string(), value)]);
        for (json, value) in [
            ("null", Value::Null),
            ("true", Value::Bool(true)),
            ("-9223372036854775808", Value::Int(i64::MIN)),
            ("9223372036854775808", Value::Float(9_223_372_036_854_775_808.0)),
            ("10.0", Value::Float(10.0)),
            (r#""a\n""#, Value::Text("a\n".into())),
            (r#"[{"a":[]}]"#, Value::List(vec![map("a", Value::List(vec![]))])),
        ] {
            assert_eq!(parse(json.as_bytes()), Ok(value));
        }
    }

    #[test]
    fn a_syntax_error_has_its_line_and_column() {
        assert_eq!(why(b"{\n \"a\": 1\n \"b\""), "not JSON: expected `,` or `}` at line 3 column 2");
        assert_eq!(why(b""), "not JSON: EOF while parsing a value at line 1 column 0");
        assert_eq!(why(b"1 2"), "not JSON: trailing characters at line 1 column 3");
        assert_eq!(why(b"1e999"), "not JSON: number out of range at line 1 column 5");
    }

    #[test]
    fn a_key_that_is_there_twice_is_named() {
        assert_eq!(why(br#"{"a": 1, "b": {"a": 2}, "a": 3}"#), r#"JSON: key "a" is there twice at line 1 column 27"#);
    }

    #[test]
    fn a_repeat_is_found_among_many_keys() {
        for (keys, repeat) in [(40, 0), (40, 15), (40, 16), (40, 39), (15, 3), (16, 15), (17, 16)] {
            let json: String = (0..keys).map(|i| format!("\"{i}\":0,")).collect();
            assert!(parse(format!("{{{json}\"x\":0}}").as_bytes()).is_ok());
            assert!(
                why(format!("{{{json}\"{repeat}\":0}}").as_bytes()).contains(&format!("key \"{repeat}\" is there"))
            );
        }
    }

    #[test]
    fn more_values_than_memory_is_for_are_refused() {
        let message = "JSON: more values than the 4194304 that are allowed";
        assert_eq!(why(format!("[{}0]", "0,".repeat(MAX_VALUES)).as_bytes()), message);
        assert_eq!(why("[[]]".repeat(MAX_VALUES / 2 + 1).as_bytes()), message);
        assert!(parse(format!("[{}0]", "0,".repeat(MAX_VALUES - 1)).as_bytes()).is_ok());
    }

    #[test]
    fn deep_nesting_is_an_error() {
        assert!(parse("[".repeat(127).as_bytes()).unwrap_err().message.contains("EOF"));
        assert!(why("[".repeat(100_000).as_bytes()).starts_with("not JSON: recursion limit exceeded"));
    }

    #[test]
    fn bytes_that_are_not_utf_8_become_a_replacement_character() {
        assert_eq!(parse(b"\"a\xff\""), Ok(Value::Text("a\u{fffd}".into())));
    }

    #[test]
    fn a_message_shows_compact_json() {
        assert_eq!(shown(r#" {"a": [1, 2.5, null, true], "b": {}} "#), r#"{"a":[1,2.5,null,true],"b":{}}"#);
        assert_eq!(shown(r#""a\nb""#), r#""a\x0ab""#);
        assert_eq!(shown("1e300"), "1e300");
        assert_eq!(shown("10.0"), "10.0");
    }

    #[test]
    fn a_long_value_is_cut() {
        assert_eq!(shown(&format!("\"{}\"", "x".repeat(100))), format!("\"{}…\"", "x".repeat(64)));
        assert_eq!(shown(&format!("[{}1]", "1,".repeat(100))), format!("[{}1…", "1,".repeat(31)));
    }

    #[test]
    fn what_json_has_no_word_for_is_shown_bare() {
        assert_eq!(shown(r#"{"\u0001lua":"nan"}"#), "nan");
        assert_eq!(shown(r#"[{"\u0001lua":"function"}]"#), "[function]");
        assert_eq!(shown(r#"{"\u0001lua":1}"#), r#"{"\x01lua":1}"#);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes: Vec<u8>, json in r#"[\[\]{}",:0-9a-e .\\-]{0,40}"#) {
            for bytes in [&bytes[..], json.as_bytes()] {
                let message = parse(bytes).map_or_else(|error| error.to_string(), |value| value.to_string());
                prop_assert!(!message.chars().any(char::is_control));
            }
        }
    }
}
