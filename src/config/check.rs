//! The options of `dyups.healthcheck`: read, and merged with the check that is set.

use super::fields::HEALTHCHECK;
use super::object::{Object, entries};
use super::path::{item, path};
use super::value::Value;
use crate::error::{Error, Result};
use crate::health::certificate;
use crate::http::request;
use crate::quote::quote;
use crate::upstream::check::fields::{self, CHECK, MAX_HEADERS, MAX_STATUSES, MAX_TEXT_BYTES};
use crate::upstream::field::{Field, FieldType};
use crate::upstream::{Check, check};

/// Reads the options of a check that is new; `at` is their path in messages, such as `healthcheck`.
///
/// # Errors
///
/// As [`merge`].
///
/// ```
/// use dyups::config::{check, value::parse};
/// let options = br#"{"type": "http", "http_req": "GET /status HTTP/1.0\r\nHost: foo.com\r\n\r\n", "fall": 5}"#;
/// let check = check::read(&parse(options).unwrap(), "healthcheck").unwrap();
/// assert_eq!((check.fall, check.interval, check.valid_statuses), (5, 3000, vec![200, 302]));
/// ```
pub fn read(value: &Value, at: &str) -> Result<Check> {
    merge(&Check::default(), value, at)
}

/// The files that options name, as a check that has nothing else; for the rest of them see [`merge`].
pub fn files(value: &Value) -> Option<Check> {
    let object = Object::new(value, "", CHECK).ok()?;
    let is_sound = |path: &&str| path.len() <= MAX_TEXT_BYTES && certificate::check_path(path).is_ok();
    let path = |field| object.text(field).ok().flatten().filter(is_sound).map(str::to_string);
    Some(Check { ssl_cert: path(&fields::SSL_CERT), ssl_key: path(&fields::SSL_KEY), ..Check::default() })
}

/// Whether these options are those of the default check, as `status` marks them.
pub fn is_default(value: &Value) -> bool {
    matches!(value, Value::Map(map) if map.iter().any(|(key, value)| key == fields::DEFAULT.name && *value == Value::Bool(true)))
}

/// As [`merge`] with the check that is set, if there is one; `false`: none.
///
/// # Errors
///
/// As [`merge`].
pub fn merge_or_none(old: Option<&Check>, patch: &Value, at: &str) -> Result<Option<Check>> {
    match (patch, old) {
        (Value::Bool(false), _) => Ok(None),
        (Value::Map(_), Some(old)) => merge(old, patch, at).map(Some),
        (Value::Map(_), None) => read(patch, at).map(Some),
        _ => Err(Error::invalid(format!("{at}: {patch}: allowed: {}", HEALTHCHECK.kind.allowed()))),
    }
}

/// The change of a check that `options` make, as [`merge_or_none`]. Messages call them `healthcheck`.
///
/// # Errors
///
/// The function that is returned has those of [`merge_or_none`].
pub fn change(options: &Value) -> impl Fn(Option<&Check>) -> Result<Option<Check>> {
    move |old| merge_or_none(old, options, HEALTHCHECK.name)
}

/// The check that is set, with the options of `patch` in place of its own. Lists are replaced whole. `false` takes away an
/// option that may be none.
///
/// When `patch` gives an option that the check's type does not know, that is an error. When the option is there from before and
/// `patch` changes the type, it is forgotten. So `{"type": "tcp"}` alone makes a tcp check of any. Changed back, such options
/// have their defaults. When `patch` brings an `http_req`, `url` and `headers` are forgotten too.
///
/// lua-resty-upstream-healthcheck's users have two options more in their table: `shm` is ignored, `upstream` is an error that
/// says where it belongs.
///
/// # Errors
///
/// [`crate::error::Code::Invalid`]: the message names the option, the value and the allowed values. `old` goes on as it was.
///
/// ```
/// use dyups::config::{check, value::parse};
/// use dyups::upstream::Check;
/// let merged = |json: &[u8]| check::merge(&Check::default(), &parse(json).unwrap(), "healthcheck");
/// assert_eq!(merged(br#"{"rise": 1}"#).unwrap(), Check { rise: 1, ..Check::default() });
/// let error = merged(br#"{"rise": 0}"#).unwrap_err();
/// assert_eq!(error.message, "healthcheck.rise: 0: allowed: an integer from 1 to 255");
/// ```
pub fn merge(old: &Check, patch: &Value, at: &str) -> Result<Check> {
    let object = Object::new(patch, at, CHECK)?;
    if let Some(upstream) = object.given(&fields::UPSTREAM) {
        let path = object.path(&fields::UPSTREAM);
        let advice = "the upstream is the first argument: dyups.healthcheck(upstream, {...})";
        return Err(Error::invalid(format!("{path}: {upstream}: not an option; {advice}")));
    }
    let mut new = old.clone();
    set(&mut new.kind, object.choice(&fields::TYPE, &check::CheckType::NAMES)?);
    numbers(&object, &mut new)?;
    texts(&object, &mut new)?;
    set(&mut new.valid_statuses, statuses(&object)?);
    set(&mut new.headers, headers(&object)?);
    set(&mut new.ssl_verify, object.boolean(&fields::SSL_VERIFY)?);
    set(&mut new.default_down, object.boolean(&fields::DEFAULT_DOWN)?);
    refuse_what_is_not_used(&object, &new)?;
    new.forget_what_is_not_used();
    forget_what_was_kept(&object, &mut new);
    refuse_half_a_certificate(&object, &new)?;
    Ok(new)
}

/// A given option replaces the one that was kept for another version. A new type, or a request, has options of its own. Options
/// of the old type that this version knows are then forgotten.
fn forget_what_was_kept(object: &Object<'_>, new: &mut Check) {
    let is_other = object.given(&fields::TYPE).is_some() || object.given(&fields::HTTP_REQ).is_some();
    new.kept.retain(|name| match CHECK.iter().find(|field| field.name == name) {
        Some(field) => !is_other && object.given(field).is_none(),
        None => true,
    });
}

/// Changes an option, if it is given.
pub(super) fn set<T>(option: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *option = value;
    }
}

fn numbers(object: &Object<'_>, new: &mut Check) -> Result<()> {
    set(&mut new.port, or_none(object, &fields::PORT, Object::number)?);
    set(&mut new.interval, object.number(&fields::INTERVAL)?);
    set(&mut new.interval_down, or_none(object, &fields::INTERVAL_DOWN, Object::number)?);
    set(&mut new.timeout, object.number(&fields::TIMEOUT)?);
    set(&mut new.rise, object.number(&fields::RISE)?);
    set(&mut new.fall, object.number(&fields::FALL)?);
    set(&mut new.concurrency, object.number(&fields::CONCURRENCY)?);
    set(&mut new.panic_threshold, object.number(&fields::PANIC_THRESHOLD)?);
    Ok(())
}

fn texts(object: &Object<'_>, new: &mut Check) -> Result<()> {
    let any = |_: &str| Ok(());
    set(&mut new.http_req, or_none(object, &fields::HTTP_REQ, text(|req| request::check_one(req.as_bytes())))?);
    set(&mut new.send, or_none(object, &fields::SEND, text(any))?);
    set(&mut new.expect, or_none(object, &fields::EXPECT, text(any))?);
    set(&mut new.host, or_none(object, &fields::HOST, text(request::check_host))?);
    set(&mut new.ssl_cert, or_none(object, &fields::SSL_CERT, text(certificate::check_path))?);
    set(&mut new.ssl_key, or_none(object, &fields::SSL_KEY, text(certificate::check_path))?);
    set(&mut new.expect_body, or_none(object, &fields::EXPECT_BODY, text(any))?);
    set(&mut new.url, text(request::check_url)(object, &fields::URL)?);
    Ok(())
}

/// An option that `false` takes away: not given, none, or the value that `read` finds.
pub(super) fn or_none<'a, T>(
    object: &Object<'a>,
    field: &Field,
    read: impl FnOnce(&Object<'a>, &Field) -> Result<Option<T>>,
) -> Result<Option<Option<T>>> {
    match object.given(field) {
        Some(Value::Bool(false)) => Ok(Some(None)),
        _ => Ok(read(object, field)?.map(Some)),
    }
}

/// Reads a text that is not empty, not too long and nothing that `check` objects to.
pub(super) fn text(
    check: impl Fn(&str) -> std::result::Result<(), &'static str>,
) -> impl Fn(&Object<'_>, &Field) -> Result<Option<String>> {
    move |object, field| {
        let Some(text) = object.text(field)? else { return Ok(None) };
        let sized = match text.len() {
            0 => Err("empty"),
            1..=MAX_TEXT_BYTES => Ok(()),
            _ => Err("more than 8192 bytes"),
        };
        match sized.and_then(|()| check(text)) {
            Ok(()) => Ok(Some(text.to_string())),
            Err(why) => Err(refused(&object.path(field), &quote(text.as_bytes()), why, field.kind)),
        }
    }
}

fn refused(path: &str, shown: &str, why: &str, kind: FieldType) -> Error {
    Error::invalid(format!("{path}: {shown}: {why}; allowed: {}", kind.allowed()))
}

/// The statuses, in order and each once.
fn statuses(object: &Object<'_>) -> Result<Option<Vec<u16>>> {
    let field = fields::VALID_STATUSES;
    let Some(list) = object.list(&field)? else { return Ok(None) };
    if !(1..=MAX_STATUSES).contains(&list.len()) {
        return Err(refused(
            &object.path(&field),
            &format!("{} statuses", list.len()),
            "too few or too many",
            field.kind,
        ));
    }
    let mut statuses = Vec::with_capacity(list.len());
    for (i, value) in list.iter().enumerate() {
        let status =
            super::object::integer(value).and_then(|status| fields::STATUS.number(status)).ok_or_else(|| {
                let (path, allowed) = (item(&object.path(&field), i), fields::STATUS.allowed());
                Error::invalid(format!("{path}: {value}: allowed: {allowed}"))
            })?;
        statuses.push(status);
    }
    statuses.sort_unstable();
    statuses.dedup();
    Ok(Some(statuses))
}

/// The headers, from an object of names and values or a list of `Name: value`.
fn headers(object: &Object<'_>) -> Result<Option<Vec<(String, String)>>> {
    let field = fields::HEADERS;
    let at = object.path(&field);
    let headers: Vec<_> = match object.given(&field) {
        None => return Ok(None),
        Some(Value::List(list)) => {
            let header = |(i, value)| split_header(value, &item(&at, i));
            list.iter().take(MAX_HEADERS + 1).enumerate().map(header).collect::<Result<_>>()?
        }
        Some(map @ Value::Map(_)) => {
            let header = |(name, value): &(String, Value)| named_header(name, value, &path(&at, name));
            entries(map, &at)?.iter().take(MAX_HEADERS + 1).map(header).collect::<Result<_>>()?
        }
        Some(value) => return Err(Error::invalid(format!("{at}: {value}: allowed: {}", field.kind.allowed()))),
    };
    if headers.len() > MAX_HEADERS {
        return Err(refused(&at, "a list or object", "more than 32 headers", field.kind));
    }
    if headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host")).count() > 1 {
        return Err(refused(&at, "a list or object", "more than one Host", field.kind));
    }
    Ok(Some(headers))
}

fn split_header(value: &Value, at: &str) -> Result<(String, String)> {
    let allowed = "a text \"Name: value\"";
    let Value::Text(text) = value else { return Err(Error::invalid(format!("{at}: {value}: allowed: {allowed}"))) };
    let Some((name, value)) = text.split_once(':') else {
        return Err(refused(at, &value.to_string(), "no colon", FieldType::Text(allowed)));
    };
    checked_header(name, value, text, at, allowed)
}

fn named_header(name: &str, value: &Value, at: &str) -> Result<(String, String)> {
    let allowed = "a text, under the name of a header";
    let Value::Text(text) = value else { return Err(Error::invalid(format!("{at}: {value}: allowed: {allowed}"))) };
    checked_header(name, text, text, at, allowed)
}

/// The header without the spaces around its value.
fn checked_header(name: &str, value: &str, written: &str, at: &str, allowed: &'static str) -> Result<(String, String)> {
    let value = value.trim_matches([' ', '\t']);
    let checked = if name.len() + value.len() > MAX_TEXT_BYTES {
        Err("more than 8192 bytes")
    } else if [name, value].iter().any(|text| text.contains(char::REPLACEMENT_CHARACTER)) {
        Err("not UTF-8")
    } else {
        request::check_header(name, value)
    };
    match checked {
        Ok(()) => Ok((name.to_string(), value.to_string())),
        Err(why) => Err(refused(at, &quote(written.as_bytes()), why, FieldType::Text(allowed))),
    }
}

/// Refuses a certificate without its key, and a key without its certificate.
fn refuse_half_a_certificate(object: &Object<'_>, new: &Check) -> Result<()> {
    let (field, path, other) = match (&new.ssl_cert, &new.ssl_key) {
        (Some(path), None) => (&fields::SSL_CERT, path, &fields::SSL_KEY),
        (None, Some(path)) => (&fields::SSL_KEY, path, &fields::SSL_CERT),
        _ => return Ok(()),
    };
    let why = format!("without {}; allowed: both or none of them", other.name);
    Err(Error::invalid(format!("{}: {}: {why}", object.path(field), quote(path.as_bytes()))))
}

/// Refuses an option of the patch that the check would not look at.
fn refuse_what_is_not_used(object: &Object<'_>, new: &Check) -> Result<()> {
    let refuse = |field: &Field, allowed: String| match object.given(field) {
        // `false` takes away an option that is not there anyway.
        None | Some(Value::Bool(false)) if matches!(field.kind, FieldType::Optional(_)) => Ok(()),
        None => Ok(()),
        Some(value) => Err(Error::invalid(format!("{}: {value}: {allowed}", object.path(field)))),
    };
    for field in CHECK {
        let types = fields::types(field);
        if !types.contains(&new.kind) {
            let allowed = types.iter().map(|kind| format!("\"{}\"", kind.name())).collect::<Vec<_>>().join(" or ");
            refuse(field, format!("makes no sense with type \"{}\"; allowed: with {allowed}", new.kind.name()))?;
        }
    }
    if new.http_req.is_some() {
        let allowed = "makes no sense with http_req, which has its own; allowed: without it (http_req = false)";
        refuse(&fields::URL, allowed.to_string())?;
        refuse(&fields::HEADERS, allowed.to_string())?;
    }
    if new.is_head() && new.expect_body.is_some() {
        let allowed = "there is no body to a HEAD request; allowed: expect_body with another method";
        refuse(&fields::EXPECT_BODY, allowed.to_string())?;
        refuse(&fields::HTTP_REQ, allowed.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
