//! The options of a report.

use super::object::Object;
use super::value::Value;
use crate::error::{Error, Result};
use crate::quote::quote;
use crate::upstream::field::{Field, FieldType, field};

/// A window that ends now, in seconds.
pub const SECONDS: Field = field("seconds", FieldType::Integer { min: 1, max: 3600 });
/// The `mark` of an earlier report.
pub const SINCE: Field = field("since", FieldType::Text("a report, or the mark of one"));

/// The time that a report is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Window {
    /// Since the statistics began.
    All,
    /// The last seconds.
    Seconds(u64),
    /// Since the report with this mark, which is one text or several.
    Since(Vec<String>),
}

impl Window {
    /// Reads it. `null` in place of an object: [`Window::All`].
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Invalid`]: a field, its value and the allowed ones; or both fields at once.
    ///
    /// ```
    /// use dyups::config::{report::Window, value::parse};
    /// assert_eq!(Window::read(&parse(br#"{"seconds": 10}"#).unwrap(), "options"), Ok(Window::Seconds(10)));
    /// let error = Window::read(&parse(br#"{"seconds": 0}"#).unwrap(), "options").unwrap_err();
    /// assert_eq!(error.message, "options.seconds: 0: allowed: an integer from 1 to 3600");
    /// ```
    pub fn read(value: &Value, at: &str) -> Result<Window> {
        if *value == Value::Null {
            return Ok(Window::All);
        }
        let object = Object::new(value, at, &[SECONDS, SINCE])?;
        match (object.number(&SECONDS)?, mark(&object)?) {
            (None, None) => Ok(Window::All),
            (Some(seconds), None) => Ok(Window::Seconds(seconds)),
            (None, Some(mark)) => Ok(Window::Since(mark)),
            (Some(_), Some(mark)) => {
                let (path, shown) = (object.path(&SINCE), quote(mark.concat().as_bytes()));
                Err(Error::invalid(format!("{path}: {shown}: allowed: only without {}", SECONDS.name)))
            }
        }
    }
}

fn mark(object: &Object<'_>) -> Result<Option<Vec<String>>> {
    let Some(Value::List(texts)) = object.given(&SINCE) else {
        return Ok(object.text(&SINCE)?.map(|text| vec![text.to_owned()]));
    };
    let text = |value: &Value| if let Value::Text(text) = value { Some(text.to_string()) } else { None };
    let refused = || Error::invalid(format!("{}: a list: allowed: {}", object.path(&SINCE), SINCE.kind.allowed()));
    texts.iter().map(text).collect::<Option<Vec<_>>>().map(Some).ok_or_else(refused)
}
