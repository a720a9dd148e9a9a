//! The content of a table, and the contents that it may have between two.

use super::image::{BASE, Image};
use super::support::model::{Model, content};
use super::support::{open, used};
use dyups::table::snapshot::Flags;
use std::collections::BTreeSet;
use std::path::Path;

/// A table that a death may leave, and how many granules it takes, where that is known.
#[derive(Clone, Debug)]
pub struct Whole {
    pub content: Model,
    pub used: Option<u64>,
}

impl Whole {
    /// The content for a process that starts with this image. `dir` is written over.
    pub fn of(image: &Image, dir: &Path, size: u64) -> Whole {
        image.place(dir);
        let (table, _notes) = open(&dir.join(BASE), size).expect("usable");
        Whole { content: content(&table), used: Some(used(&table)) }
    }
}

/// The tables from `old` to `new`: each change is of one upstream, those that the files have before those that they lost.
pub fn way(old: &Whole, new: &Whole) -> Vec<Whole> {
    let (before, after) = (&old.content.0, &new.content.0);
    let in_files = |name: &&String| after.get(*name).is_some_and(|(_, flags)| flags.has(Flags::IN_FILE));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    let (brought, lost): (Vec<_>, Vec<_>) = changed.partition(in_files);
    let mut way = vec![old.clone()];
    let mut content = old.content.clone();
    for name in brought.into_iter().chain(lost) {
        match after.get(name) {
            Some(upstream) => drop(content.0.insert(name.clone(), upstream.clone())),
            None => drop(content.0.remove(name)),
        }
        way.push(Whole { content: content.clone(), used: None });
    }
    if let [_, .., last] = &mut way[..] {
        last.used = new.used;
    }
    way
}
