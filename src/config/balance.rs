//! The options of `dyups.balance`.

use super::fields::{
    BALANCE, CONNECT_TIMEOUT, HOST_NAME, KEEPALIVE, KEEPALIVE_REQUESTS, KEEPALIVE_TIMEOUT, READ_TIMEOUT, RETRY_FLOOR,
    RETRY_PERCENT, SEND_TIMEOUT, TRIES,
};
use super::object::Object;
use super::value::{self, Value};
use crate::error::Result;
use crate::state::budget::Allowance;

/// The options of `dyups_balance`. Times are in milliseconds; 0: nginx.conf's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct BalanceOptions {
    /// Most tries of a request; 0: as many as there are peers.
    pub tries: u32,
    /// Retries for a hundred requests; 4294967295: any number.
    pub retry_percent: u32,
    /// Retries that are always allowed, in ten seconds.
    pub retry_floor: u32,
    /// Until the connection is there.
    pub connect_timeout: u32,
    /// Between two writes.
    pub send_timeout: u32,
    /// Between two reads.
    pub read_timeout: u32,
    /// 1: connections are kept for the next request.
    pub keepalive: u32,
    /// How long a connection is kept while it is unused.
    pub keepalive_timeout: u32,
    /// How many requests a connection serves.
    pub keepalive_requests: u32,
}

impl Default for BalanceOptions {
    fn default() -> Self {
        BalanceOptions {
            tries: 0,
            retry_percent: 20,
            retry_floor: 10,
            connect_timeout: 0,
            send_timeout: 0,
            read_timeout: 0,
            keepalive: 0,
            keepalive_timeout: 60_000,
            keepalive_requests: 1000,
        }
    }
}

impl BalanceOptions {
    /// Reads them from JSON.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Invalid`]: the message names the option, the value and the allowed values.
    pub fn read(json: &[u8]) -> Result<BalanceOptions> {
        let value = value::parse(json)?;
        let object = Object::new(&value, "options", &BALANCE)?;
        object.text(&HOST_NAME)?;
        let default = BalanceOptions::default();
        let number = |field, default| object.number(field).map(|given: Option<u32>| given.unwrap_or(default));
        Ok(BalanceOptions {
            tries: number(&TRIES, default.tries)?,
            retry_percent: match object.given(&RETRY_PERCENT) {
                Some(Value::Bool(false)) => Allowance::ANY,
                _ => number(&RETRY_PERCENT, default.retry_percent)?,
            },
            retry_floor: number(&RETRY_FLOOR, default.retry_floor)?,
            connect_timeout: number(&CONNECT_TIMEOUT, default.connect_timeout)?,
            send_timeout: number(&SEND_TIMEOUT, default.send_timeout)?,
            read_timeout: number(&READ_TIMEOUT, default.read_timeout)?,
            keepalive: object.boolean(&KEEPALIVE)?.unwrap_or(false).into(),
            keepalive_timeout: number(&KEEPALIVE_TIMEOUT, default.keepalive_timeout)?,
            keepalive_requests: number(&KEEPALIVE_REQUESTS, default.keepalive_requests)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::field::FieldType;

    /// Values below and above the range of an option, where it is a number.
    fn beyond(kind: FieldType) -> Vec<String> {
        match kind {
            FieldType::Limit(&kind) => [beyond(kind), vec!["true".into()]].concat(),
            FieldType::Integer { min, max } => vec![(min - 1).to_string(), (max + 1).to_string(), "1.5".into()],
            _ => Vec::new(),
        }
    }

    #[test]
    fn a_bad_option_is_named_with_its_value_and_what_is_allowed() {
        for field in &BALANCE {
            let wrong_type = if matches!(field.kind, FieldType::Text(_)) { "7" } else { r#""much""# };
            for value in beyond(field.kind).into_iter().chain([wrong_type.to_string(), "[]".into()]) {
                let json = format!(r#"{{"{}":{value}}}"#, field.name);
                let error = BalanceOptions::read(json.as_bytes()).expect_err(&json);
                let expected = format!("options.{}: {value}: allowed: {}", field.name, field.kind.allowed());
                let shown = error.message.replace("a list", "[]");
                assert!(shown == expected || error.message == expected, "{json}: {error}, not {expected}");
            }
        }
        let error = BalanceOptions::read(br#"{"trys":1}"#).expect_err("unknown");
        assert!(error.message.starts_with("options.trys: not known to this version; known: tries, "), "{error}");
    }

    #[test]
    fn what_is_not_given_has_its_default() {
        assert_eq!(BalanceOptions::read(b"{}"), Ok(BalanceOptions::default()));
        let read = BalanceOptions::read(br#"{"tries":3,"read_timeout":1500,"keepalive":true,"host":"api.local"}"#);
        let expected = BalanceOptions { tries: 3, read_timeout: 1500, keepalive: 1, ..BalanceOptions::default() };
        assert_eq!(read, Ok(expected));
        let read = BalanceOptions::read(br#"{"retry_percent":false}"#);
        assert_eq!(read, Ok(BalanceOptions { retry_percent: Allowance::ANY, ..BalanceOptions::default() }));
    }
}
