//! The upstreams and routes that are still known to be right after a damage: all but those in doubt.
//!
//! One of them is in doubt once a word was spoiled on which its answers rest. These words are its record, the snapshot and the
//! rings, the bits that say that these are taken, and the way to it through its bucket. So is one to which a forgery lays
//! claim: a forger that makes the checksums right can claim any memory.

use super::case::Brief;
use super::names::{HOSTS, names};
use super::routes::{RouteChange, Routes};
use crate::support::model::{Model, Op};
use dyups::error::Code;
use dyups::order::chash::ring_points;
use dyups::shm::arena::granules_of;
use dyups::shm::layout::{Geometry, state};
use dyups::shm::{GRANULE_WORDS, Memory, Stamp};
use dyups::table::Table;
use dyups::table::directory::{Directory, hash};
use dyups::table::record::stamp_at;
use dyups::table::snapshot::{Flags, Kind, View};
use dyups::upstream::{Peer, Upstream};
use std::collections::BTreeSet;
use std::ops::Range;

#[derive(Clone, Debug, Default)]
pub struct Truth {
    pub model: Model,
    pub routes: Routes,
    doubt: BTreeSet<String>,
    doubt_of_routes: BTreeSet<String>,
    /// Something was spoiled: an error is an answer.
    pub spoiled: bool,
    /// The header, by which the next process knows the region, was.
    pub header_spoiled: bool,
    /// The word was that bounds the records of all lists. A list may lack names until the next repair; a look for one name does not.
    pub unlisted: bool,
    /// A block may have been given away twice: a version that is written from now on may be written over.
    loose: bool,
    forged: BTreeSet<u32>,
    restless: bool,
}

impl Truth {
    pub fn of(model: Model, routes: Routes) -> Truth {
        Truth { model, routes, ..Truth::default() }
    }

    pub fn is_sure(&self, name: &str) -> bool {
        !self.doubt.contains(name)
    }

    pub fn is_sure_route(&self, host: &str) -> bool {
        !self.doubt_of_routes.contains(host)
    }

    /// A forger made checksums right: nonsense may look as if it made sense.
    pub fn is_forged(&self) -> bool {
        !self.forged.is_empty()
    }

    /// Another thread spoils the region all the time.
    pub fn nothing_is_sure(&mut self) {
        self.doubt(self.sure());
        self.doubt_routes(self.sure_routes());
        (self.spoiled, self.header_spoiled, self.restless) = (true, true, true);
    }

    /// A stored value is there, unless it was stored in another place than expected.
    pub fn is_quiet(&self) -> bool {
        !self.restless && !self.is_forged()
    }

    /// A list has all that there is.
    pub fn lists_all(&self) -> bool {
        !self.is_forged() && !self.unlisted
    }

    /// The names that are not in doubt, of upstreams or of none.
    pub fn sure(&self) -> Vec<String> {
        let all: BTreeSet<&String> = names().iter().chain(self.model.0.keys()).collect();
        all.into_iter().filter(|name| self.is_sure(name)).cloned().collect()
    }

    /// The same of the hosts of routes.
    pub fn sure_routes(&self) -> Vec<String> {
        let all: BTreeSet<&str> = HOSTS.into_iter().chain(self.routes.0.keys().map(String::as_str)).collect();
        all.into_iter().filter(|host| self.is_sure_route(host)).map(str::to_owned).collect()
    }

    pub fn doubt(&mut self, names: impl IntoIterator<Item = String>) {
        self.doubt.extend(names);
    }

    pub fn doubt_routes(&mut self, hosts: impl IntoIterator<Item = String>) {
        self.doubt_of_routes.extend(hosts);
    }

    /// The grounds of all names that are not in doubt.
    fn grounds(&self, table: &Table) -> [Vec<(String, Ground)>; 2] {
        let of = |kind| move |name: String| (name.clone(), Ground::of(table, kind, &name));
        let upstreams = self.sure().into_iter().map(of(Kind::UPSTREAM)).collect();
        [upstreams, self.sure_routes().into_iter().map(of(Kind::ROUTE)).collect()]
    }

    /// Those of which it is so are in doubt.
    fn doubt_those(&mut self, [upstreams, routes]: &[Vec<(String, Ground)>; 2], is_so: impl Fn(&Ground) -> bool) {
        let those = |all: &[(String, Ground)]| -> Vec<String> {
            all.iter().filter(|(_, ground)| is_so(ground)).map(|(name, _)| name.clone()).collect()
        };
        self.doubt(those(upstreams));
        self.doubt_routes(those(routes));
    }

    /// A word is about to be spoiled, or was in the middle of a call: then any bit of it may have changed.
    pub fn spoil(&mut self, table: &Table, word: usize, changed: u64, cleared: u64) {
        let geometry = table.region().geometry();
        self.spoiled |= changed != 0;
        self.header_spoiled |= changed != 0 && word < 8;
        self.unlisted |= changed != 0 && word == state::RECORDS_END;
        self.loose |= cleared != 0 && bits_of_granules(geometry).contains(&word);
        self.doubt_those(&self.grounds(table), |ground| ground.rests_on(word, changed));
        if let Some(record) = record_of_stamp(geometry, word) {
            self.forged.insert(record);
        }
    }

    /// A record that leads to a forged block by now may claim the blocks of others.
    pub fn forge(&mut self, table: &Table, record: Option<u32>) {
        self.forged.extend(record);
        let grounds = self.grounds(table);
        for record in self.forged.clone() {
            for claim in claims(table, record) {
                self.loose |= !is_taken(table, &claim);
                self.doubt_those(&grounds, |ground| ground.record != Some(record) && ground.holds(&claim));
            }
        }
    }

    /// Notes the answer of a change. For names that are sure, it has to fit.
    pub fn note(&mut self, op: &Op, answer: Result<(), Code>) {
        let names = self.names_of(op);
        let sure = names.iter().all(|name| self.is_sure(name));
        let is_load = matches!(op, Op::Load(..));
        let mut after = self.model.clone();
        let expected = match after.apply(op) {
            Ok(()) if self.may_be_routed(op, true) => Err(Code::NotEmpty),
            applied => applied,
        };
        match answer {
            Ok(()) => {
                assert!(!sure || expected.is_ok(), "{:?}: done, expected {expected:?}", Brief(op));
                self.model = after;
                if self.loose || is_load && self.unlisted {
                    self.doubt(names);
                }
                if is_load && self.unlisted {
                    self.doubt_routes(self.sure_routes());
                }
                if let Op::Load(_, overwrite) = op {
                    self.routes.follow_nothing(*overwrite);
                }
            }
            Err(Code::NotEmpty) if self.may_be_routed(op, false) => {}
            Err(code) if Err(code) == expected => {}
            // A weight of which no ring can be.
            Err(Code::Invalid) if names.iter().any(|name| is_too_heavy(after.0.get(name))) => {}
            // Nothing was changed; of a list, some may have been.
            Err(Code::Full) if !is_load => {}
            Err(code) => {
                let allowed = code == Code::Full || self.spoiled && matches!(code, Code::Damaged | Code::Changing);
                assert!(!sure || allowed, "{:?}: {code:?}, expected {expected:?}", Brief(op));
                self.doubt(names);
                if is_load {
                    self.doubt_routes(self.sure_routes());
                }
            }
        }
    }

    /// Whether a route keeps a change from being done; `surely`, or for all that is known.
    fn may_be_routed(&self, op: &Op, surely: bool) -> bool {
        match op {
            Op::Delete(name, false) if surely => {
                !self.unlisted && self.routes.to(name).any(|host| self.is_sure_route(host))
            }
            Op::Delete(name, false) => !self.doubt_of_routes.is_empty() || self.routes.to(name).next().is_some(),
            _ => false,
        }
    }

    /// Notes the answer of a change of a route.
    pub fn note_route(&mut self, change: &RouteChange, answer: Result<(), Code>) {
        let host = change.host().to_owned();
        let targets = match change {
            RouteChange::Set(route) => route.targets.as_slice(),
            RouteChange::Delete(_) => &[],
        };
        let sure = self.is_sure_route(&host) && targets.iter().all(|target| self.is_sure(&target.upstream));
        let mut after = self.routes.clone();
        let expected = after.apply(change, |upstream| self.model.visible(upstream).is_some());
        match answer {
            Ok(()) => {
                assert!(!sure || expected.is_ok(), "{change:?}: done, expected {expected:?}");
                self.routes = after;
                if self.loose || expected.is_err() {
                    self.doubt_routes([host]);
                }
            }
            Err(code) if Err(code) == expected => {}
            // Nothing was changed.
            Err(Code::Full) => {}
            Err(code) => {
                let allowed = self.spoiled && matches!(code, Code::Damaged | Code::Changing);
                assert!(!sure || allowed, "{change:?}: {code:?}, expected {expected:?}");
                self.doubt_routes([host]);
            }
        }
    }

    /// The names that a change is about.
    pub fn names_of(&self, op: &Op) -> Vec<String> {
        match op {
            Op::Put(name, ..) | Op::DeletePeer(name, _) | Op::Delete(name, _) | Op::Ring(name) | Op::Check(name, _) => {
                vec![name.clone()]
            }
            Op::Set(upstream) => vec![upstream.name.clone()],
            Op::Load(files, _) => {
                let in_file = self.model.0.iter().filter(|(_, (_, flags))| flags.has(Flags::IN_FILE));
                files.iter().map(|file| &file.name).chain(in_file.map(|(name, _)| name)).cloned().collect()
            }
        }
    }
}

fn is_too_heavy(upstream: Option<&(Upstream, Flags)>) -> bool {
    let weight = |peers: &[Peer]| peers.iter().map(|peer| u64::from(peer.weight)).sum();
    upstream.is_some_and(|(upstream, _)| ring_points(weight(&upstream.peers)).is_err())
}

/// The words on which the answers about one name rest.
struct Ground {
    record: Option<u32>,
    words: Vec<Range<usize>>,
    /// Bits of bitmaps: word and mask.
    bits: Vec<(usize, u64)>,
    granules: Vec<Range<usize>>,
}

impl Ground {
    fn of(table: &Table, kind: Kind, name: &str) -> Ground {
        let (mem, geometry) = (table.region().mem(), table.region().geometry());
        let found = Directory::new(table.region()).find_of(kind, name.as_bytes()).ok().flatten();
        let bucket = geometry.buckets_at + (hash(name.as_bytes()) as usize & (geometry.buckets - 1));
        let record = found.map(|(record, _)| record);
        let mut ground = Ground { record, words: Vec::new(), bits: Vec::new(), granules: Vec::new() };
        ground.words.push(bucket..bucket + 1);
        let mut link = mem.load(bucket).expect("inside");
        for _ in 0..geometry.records {
            let Some(on_the_way) = link.checked_sub(1).filter(|&record| record < geometry.records as u64) else {
                break;
            };
            let at = geometry.record(on_the_way as u32);
            ground.words.push(at..at + 3);
            ground.bits.push((geometry.record_bits_at + on_the_way as usize / 64, 1 << (on_the_way % 64)));
            if record == Some(on_the_way as u32) {
                break;
            }
            link = mem.load(at + 1).expect("inside");
        }
        // An upstream and a route of one name have one hash: a look for the one looks at the other's head too.
        let find = |kind| Directory::new(table.region()).find_of(kind, name.as_bytes()).ok().flatten();
        let found = [Kind::UPSTREAM, Kind::ROUTE].into_iter().filter_map(find);
        for granules in found.flat_map(|(_, view)| blocks_of(&view)) {
            ground.words.push(granules.start * GRANULE_WORDS..granules.end * GRANULE_WORDS);
            ground.bits.extend(granules.clone().map(|g| (geometry.granule_bits_at + g / 64, 1 << (g % 64))));
            ground.granules.push(granules);
        }
        ground
    }

    fn rests_on(&self, word: usize, changed: u64) -> bool {
        changed != 0 && self.words.iter().any(|words| words.contains(&word))
            || self.bits.iter().any(|&(at, mask)| at == word && mask & changed != 0)
    }

    fn holds(&self, claim: &Range<usize>) -> bool {
        self.granules.iter().any(|own| own.start < claim.end && claim.start < own.end)
    }
}

fn blocks_of(view: &View) -> Vec<Range<usize>> {
    let rings = view.rings.iter().filter(|ring| ring.block != 0).map(|ring| (ring.block, ring.words()));
    let all = std::iter::once((view.stamp.block(), view.words)).chain(rings);
    all.map(|(block, words)| block as usize..block as usize + granules_of(words)).collect()
}

/// The granules that a record says are its own, if it is believed.
fn claims(table: &Table, record: u32) -> Vec<Range<usize>> {
    let (mem, geometry) = (table.region().mem(), table.region().geometry());
    let place = stamp_at(geometry, record);
    let stamp = Stamp(mem.load(place).expect("inside"));
    View::read(mem, geometry, place, stamp).map_or(Vec::new(), |view| blocks_of(&view))
}

fn is_taken(table: &Table, granules: &Range<usize>) -> bool {
    let first = table.region().geometry().granule_bits_at;
    granules.clone().all(|g| table.region().mem().load(first + g / 64).is_ok_and(|bits| bits >> (g % 64) & 1 == 1))
}

fn bits_of_granules(geometry: &Geometry) -> Range<usize> {
    geometry.granule_bits_at..geometry.heap_at * GRANULE_WORDS
}

fn record_of_stamp(geometry: &Geometry, word: usize) -> Option<u32> {
    (0..geometry.records as u32).find(|&record| stamp_at(geometry, record) == word)
}
