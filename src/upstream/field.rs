//! A field: its name, and the values that it takes.

use super::address;

/// A field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// As in JSON, in Lua and, where nginx has it, in nginx.conf.
    pub name: &'static str,
    /// The values that it takes.
    pub kind: FieldType,
}

/// The values that a field takes.
#[derive(Clone, Copy, Debug)]
pub enum FieldType {
    /// An integer; `10.0` is one too, as Lua has only such.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// Whole seconds, 0 to 4294967295.
    Seconds,
    /// One of these names.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Bool,
    /// An address without its port, see [`Address::from_host_port`](super::Address::from_host_port).
    Host,
    /// An address as in a `server` line, see [`Address::from_server`](super::Address::from_server).
    Server,
    /// A text, described.
    Text(&'static str),
    /// A list; an empty object is an empty list, as Lua cannot tell them apart.
    List,
    /// An object.
    Object,
    /// A field that `status` adds: any value, ignored by readers.
    ReadOnly,
    /// One of these, or `false`, which takes away the value that was set.
    Optional(&'static FieldType),
    /// A limit, or `false`: there is none.
    Limit(&'static FieldType),
}

impl FieldType {
    /// The words of messages for the allowed values.
    ///
    /// ```
    /// use dyups::upstream::fields;
    /// assert_eq!(fields::WEIGHT.kind.allowed(), "an integer from 0 to 65535");
    /// assert_eq!(fields::STATUS.kind.allowed(), r#""up", "down" or "drain""#);
    /// ```
    pub fn allowed(&self) -> String {
        match self {
            FieldType::Integer { min, max } => format!("an integer from {min} to {max}"),
            FieldType::Seconds => format!("an integer from 0 to {} (seconds)", u32::MAX),
            FieldType::Choice(names) => one_of(names),
            FieldType::Bool => "true or false".to_string(),
            FieldType::Host => address::ALLOWED.to_string(),
            FieldType::Server => format!("{}, an IP address with or without :port", address::ALLOWED),
            FieldType::Text(what) => what.to_string(),
            FieldType::List => "a list".to_string(),
            FieldType::Object => "an object".to_string(),
            FieldType::ReadOnly => "anything (ignored)".to_string(),
            FieldType::Optional(kind) => format!("{}, or false for none", kind.allowed()),
            FieldType::Limit(kind) => format!("{}, or false for no limit", kind.allowed()),
        }
    }

    /// `number` as a `T`, if it is within the range of an `Integer` or `Seconds`, which may be optional or a limit. `None` for
    /// every other kind.
    ///
    /// ```
    /// use dyups::upstream::fields;
    /// assert_eq!(fields::WEIGHT.kind.number::<u16>(3), Some(3));
    /// assert_eq!(fields::PORT.kind.number::<u16>(0), None);
    /// ```
    pub fn number<T: TryFrom<i64>>(&self, number: i64) -> Option<T> {
        let range = match *self {
            FieldType::Integer { min, max } => min..=max,
            FieldType::Seconds => 0..=i64::from(u32::MAX),
            FieldType::Optional(kind) | FieldType::Limit(kind) => return kind.number(number),
            _ => return None,
        };
        if range.contains(&number) { T::try_from(number).ok() } else { None }
    }
}

/// `"a", "b" or "c"`.
fn one_of(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".to_string(),
    }
}

/// The names of a list such as [`Status::NAMES`](super::Status::NAMES).
pub(super) const fn names<T: Copy, const N: usize>(pairs: &[(&'static str, T); N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut i = 0;
    while i < N {
        names[i] = pairs[i].0;
        i += 1;
    }
    names
}

/// A field of this name.
pub(crate) const fn field(name: &'static str, kind: FieldType) -> Field {
    Field { name, kind }
}
