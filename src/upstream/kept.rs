//! Stored options, or values of them, that this library does not know. It keeps them word for word for the library that wrote them.

use serde_json::value::RawValue;
use std::hash::{Hash, Hasher};

/// Options that are kept, by name.
///
/// ```
/// use dyups::table::options::object::Entries;
/// use dyups::upstream::kept::Kept;
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
    pub(crate) fn raw(&self) -> impl Iterator<Item = (&str, &RawValue)> {
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

/// Rare options in bytes, each by its key, as a later version has stored them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras(pub Vec<(u16, Box<[u8]>)>);

/// Data of a peer that a later version has stored, and that this library keeps without knowing them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForeignPeer {
    /// The number of its status, which counts as down; 0: the status is known.
    pub status: u8,
    /// The number of its tier, which counts as backup; 0: the tier is known.
    pub tier: u8,
    /// Its weight, which counts as the greatest that this library can work with; 0: the weight is known.
    pub weight: u32,
    /// Rare options.
    pub extras: Extras,
}

impl ForeignPeer {
    /// In a box, as few peers have any.
    pub fn boxed(self) -> Option<Box<ForeignPeer>> {
        (self != ForeignPeer::default()).then(|| Box::new(self))
    }
}

/// Data of an upstream that this library keeps without knowing them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    /// The number of its method; 0: the method is known, or there is none.
    pub method: u8,
    /// The number of its hash id; 0: that is known.
    pub hash_id: u8,
    /// Options beside those of its check and of its peers.
    pub options: Kept,
    /// Rare options of the upstream itself.
    pub extras: Extras,
}

impl Foreign {
    /// In a box, as few upstreams have any.
    pub fn boxed(self) -> Option<Box<Foreign>> {
        (self != Foreign::default()).then(|| Box::new(self))
    }
}
