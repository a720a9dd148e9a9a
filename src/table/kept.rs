//! Stored options that this library does not know, or not so: it keeps them word for word for the library that wrote them.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::hash::{Hash, Hasher};

/// The entries of a JSON object in their order, each value as it is written.
#[derive(Debug)]
pub struct Entries<'a>(pub Vec<(String, &'a RawValue)>);

impl<'a> Entries<'a> {
    /// Those of the object `json`; `None`: it is no object.
    pub fn of(json: &'a str) -> Option<Entries<'a>> {
        serde_json::from_str(json).ok()
    }
}

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EachEntry)
    }
}

struct EachEntry;

impl<'de> Visitor<'de> for EachEntry {
    type Value = Entries<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

/// Options that are kept, by name.
///
/// ```
/// use dyups::table::kept::{Entries, Kept};
/// let mut kept = Kept::default();
/// Entries::of(r#"{"a": [1, 2.50], "b": 7}"#).unwrap().0.iter().for_each(|(name, value)| kept.keep(name, value));
/// kept.retain(|name| name != "b");
/// assert_eq!(kept.iter().collect::<Vec<_>>(), [("a", "[1, 2.50]")]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Kept(Vec<(String, Box<RawValue>)>);

impl Kept {
    /// Keeps one more.
    pub fn keep(&mut self, name: &str, value: &RawValue) {
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// Forgets those that `stays` does not want.
    pub fn retain(&mut self, mut stays: impl FnMut(&str) -> bool) {
        self.0.retain(|(name, _)| stays(name));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one has this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(kept, _)| kept == name)
    }

    /// Their names and values, as they are written.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.get()))
    }

    /// The same, to be written again.
    pub(super) fn raw(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), &**value))
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Kept {}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.iter().for_each(|entry| entry.hash(state));
    }
}

/// What else of an upstream this library keeps and does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    /// The number of its method; 0: the method is known, or there is none.
    pub method: u8,
    /// The number of its hash id; 0: that is known.
    pub hash_id: u8,
    /// Options beside those of its check and of its peers.
    pub options: Kept,
}

impl Foreign {
    /// In a box, as few upstreams have any.
    pub fn boxed(self) -> Option<Box<Foreign>> {
        (self != Foreign::default()).then(|| Box::new(self))
    }
}
