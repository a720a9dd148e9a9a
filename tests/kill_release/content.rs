//! The content of a table, and the contents that it may have between two.

use super::image::{BASE, Image};
use super::support::model::{Model, content};
use super::support::{open, used};
use dyups::table::Table;
use dyups::table::routes::StoredRoute;
use dyups::table::snapshot::Flags;
use std::collections::BTreeSet;
use std::path::Path;

/// A table that a death may leave, and how many granules it takes, where that is known.
#[derive(Clone, Debug)]
pub struct Whole {
    pub content: Model,
    pub routes: Vec<StoredRoute>,
    pub used: Option<u64>,
}

impl Whole {
    /// The content for a process that starts with this image. `dir` is written over.
    pub fn of(image: &Image, dir: &Path, size: u64) -> Whole {
        image.place(dir);
        let (table, _notes) = open(&dir.join(BASE), size).expect("usable");
        Whole::in_table(&table)
    }

    /// The content of a table.
    pub fn in_table(table: &Table) -> Whole {
        let routes = table.all_routes().expect("readable");
        Whole { content: content(table), routes, used: Some(used(table)) }
    }

    /// Whether both have the same upstreams and routes.
    pub fn is_as(&self, other: &Whole) -> bool {
        self.content == other.content && self.routes == other.routes
    }
}

/// The tables from `old` to `new`: each change is of one upstream, those that the files have before those that they lost. One route
/// may change, in a call that changes no upstream.
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
        way.push(Whole { content: content.clone(), used: None, ..old.clone() });
    }
    if old.routes != new.routes {
        way.push(Whole { content, used: None, ..new.clone() });
    }
    if let [_, .., last] = &mut way[..] {
        last.used = new.used;
    }
    way
}
