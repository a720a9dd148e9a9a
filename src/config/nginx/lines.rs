//! Directives as they are written.

use super::tokens::word;
use serde_json::Value;
use std::fmt::Write;

/// The fields of an object as JSON has them.
pub(super) fn options(object: &impl serde::Serialize) -> serde_json::Map<String, Value> {
    match serde_json::to_value(object) {
        Ok(Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    }
}

/// `name=value`.
pub(super) fn parameter(name: &str, value: &Value) -> String {
    match value {
        Value::String(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    }
}

/// Adds a directive of these words.
pub(super) fn line(text: &mut String, words: impl IntoIterator<Item = String>) {
    for (i, written) in words.into_iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{}", if i == 0 { "" } else { " " }, word(&written));
    }
    text.push_str(";\n");
}
