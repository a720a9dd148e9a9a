//! The things that change in a storm, and how they look in the table.
//!
//! Peers of shared upstreams: each belongs to one process, which alone adds, alters and deletes it, while others do that to its
//! neighbours. Its content is its weight. And whole upstreams, each of one process: all their peers show the content, as
//! max_fails. Some are so large that a killer meets a writer in the middle of them.

use super::board::Content;
use crate::support::{address, peer};
use dyups::table::directory;
use dyups::upstream::{Address, Method, Peer, Upstream};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};

/// Processes.
pub const SEATS: usize = 5;
/// Shared upstreams, the first ones.
pub const SHARED: usize = 3;
/// Peers of a shared upstream.
const PEERS: usize = 20;
const WHOLE: usize = 20;
/// The first thing that is a whole upstream.
const FIRST_WHOLE: usize = SHARED * PEERS;
/// Things.
pub const CELLS: usize = FIRST_WHOLE + WHOLE;
/// The place that a text in the table names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The peer of a shared upstream.
    Shared { cell: usize },
    /// A peer of a whole upstream while that has this content.
    Whole { cell: usize, content: Content, index: usize },
}

pub struct World {
    /// Names of the upstreams: the shared ones first.
    pub names: Vec<String>,
    /// Addresses of the shared peers.
    pub shared: Vec<Address>,
    places: BTreeMap<String, usize>,
    wholes: Mutex<BTreeMap<(usize, Content), Arc<Upstream>>>,
}

/// Few buckets for all of them, so that their records come and go in the same chains.
pub static WORLD: LazyLock<World> = LazyLock::new(|| {
    let in_few = |name: &String| directory::hash(name.as_bytes()) % 2048 < 3;
    let names = (0..).map(|i| format!("n{i}")).filter(in_few).take(SHARED + WHOLE).collect();
    let shared: Vec<Address> = (0..FIRST_WHOLE).map(|cell| address(&text(cell / PEERS, cell % PEERS))).collect();
    let places = shared.iter().enumerate().map(|(cell, address)| (address.text().to_owned(), cell)).collect();
    World { names, shared, places, wholes: Mutex::default() }
});

/// Short ones and long ones.
fn text(upstream: usize, peer: usize) -> String {
    match peer % 3 {
        0 => format!("10.{upstream}.0.{peer}:80"),
        1 => format!("[fd00:1111:2222:3333:4444:5555:{}:{}]:8080", upstream + 1, peer + 1),
        _ => format!("unix:/run/of/an/application/with/a/long/path/{upstream}/peer-{peer}.sock"),
    }
}

impl World {
    pub fn is_shared(&self, upstream: usize) -> bool {
        upstream < SHARED
    }

    /// The things that are or make up an upstream.
    pub fn cells(&self, upstream: usize) -> std::ops::Range<usize> {
        match upstream.checked_sub(SHARED) {
            None => upstream * PEERS..(upstream + 1) * PEERS,
            Some(whole) => FIRST_WHOLE + whole..FIRST_WHOLE + whole + 1,
        }
    }

    /// The upstream that a thing is or belongs to.
    pub fn upstream_of(&self, cell: usize) -> usize {
        cell.checked_sub(FIRST_WHOLE).map_or(cell / PEERS, |whole| SHARED + whole)
    }

    pub fn owner(&self, cell: usize) -> usize {
        cell % SEATS
    }

    /// A shared upstream before a process has added to it.
    pub fn empty(&self, upstream: usize) -> Upstream {
        let method = [None, Some(Method::Chash), Some(Method::Rr)][upstream % 3];
        Upstream { name: self.names[upstream].clone(), method, ..Upstream::default() }
    }

    /// The contents that a thing may have are those from 1 to this one.
    pub fn last_content(&self, cell: usize) -> Content {
        match cell.checked_sub(FIRST_WHOLE) {
            // Rings of many points take long to make.
            None => 3,
            Some(whole) if is_large(whole) => 3,
            Some(_) => Content::MAX,
        }
    }

    /// A whole upstream with this content. Each is made once.
    pub fn whole(&self, cell: usize, content: Content) -> Arc<Upstream> {
        let mut wholes = self.wholes.lock().expect("nobody panics under it");
        wholes.entry((cell, content)).or_insert_with(|| Arc::new(self.make_whole(cell, content))).clone()
    }

    fn make_whole(&self, cell: usize, content: Content) -> Upstream {
        let server = |index| format!("10.{cell}.{content}.{}:{}", index % 250, 80 + index / 250);
        let max_fails = content.into();
        let peers = (0..size(cell, content)).map(|index| Peer { max_fails, ..peer(&server(index), 1) }).collect();
        let name = self.names[self.upstream_of(cell)].clone();
        Upstream { name, method: Some(Method::Rr), peers, ..Upstream::default() }
    }

    /// The content that a peer of an upstream shows.
    pub fn content(&self, upstream: usize, peer: &Peer) -> Content {
        if self.is_shared(upstream) { peer.weight as Content } else { peer.max_fails as Content }
    }

    /// Where a text belongs.
    pub fn place(&self, text: &str) -> Option<Place> {
        if let Some(&cell) = self.places.get(text) {
            return Some(Place::Shared { cell });
        }
        let numbers: Vec<usize> = text.split(['.', ':']).map_while(|part| part.parse().ok()).collect();
        let &[10, cell, content, low, port] = numbers.as_slice() else { return None };
        let index = low + port.checked_sub(80)? * 250;
        let known = (FIRST_WHOLE..CELLS).contains(&cell) && index < size(cell, content as Content);
        known.then_some(Place::Whole { cell, content: content as Content, index })
    }
}

fn is_large(whole: usize) -> bool {
    whole.is_multiple_of(3)
}

/// How many peers a whole upstream with this content has.
fn size(cell: usize, content: Content) -> usize {
    if is_large(cell - FIRST_WHOLE) { 3000 } else { 1 + content as usize % 50 }
}
