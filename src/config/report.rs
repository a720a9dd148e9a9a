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
    /// Since the report with this mark.
    Since(String),
}

impl Window {
    /// Reads it. `null` in place of an object: [`Window::All`]. `since`: the mark of an earlier report that stands beside the object.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Invalid`]: a field, its value and the allowed ones; or both fields at once.
    ///
    /// ```
    /// use dyups::config::{report::Window, value::parse};
    /// assert_eq!(Window::read(&parse(br#"{"seconds": 10}"#).unwrap(), None, "options"), Ok(Window::Seconds(10)));
    /// let error = Window::read(&parse(br#"{"seconds": 0}"#).unwrap(), None, "options").unwrap_err();
    /// assert_eq!(error.message, "options.seconds: 0: allowed: an integer from 1 to 3600");
    /// ```
    pub fn read(value: &Value, since: Option<&str>, at: &str) -> Result<Window> {
        if *value == Value::Null {
            return Ok(since.map_or(Window::All, |mark| Window::Since(mark.to_owned())));
        }
        let object = Object::new(value, at, &[SECONDS, SINCE])?;
        match (object.number(&SECONDS)?, object.text(&SINCE)?.or(since)) {
            (None, None) => Ok(Window::All),
            (Some(seconds), None) => Ok(Window::Seconds(seconds)),
            (None, Some(mark)) => Ok(Window::Since(mark.to_owned())),
            (Some(_), Some(mark)) => {
                let (path, shown) = (object.path(&SINCE), quote(mark.as_bytes()));
                Err(Error::invalid(format!("{path}: {shown}: allowed: only without {}", SECONDS.name)))
            }
        }
    }
}
