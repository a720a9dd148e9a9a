//! The content that the table is to have, kept beside it in the simplest way.

use super::{SOON, upstream};
use dyups::config::check;
use dyups::config::value::Value;
use dyups::error::Code;
use dyups::shm::Region;
use dyups::table::ops::Absent;
use dyups::table::snapshot::Flags;
use dyups::table::store::Table;
use dyups::upstream::{Address, PeerPatch, Upstream};
use std::borrow::Borrow;
use std::collections::BTreeMap;

/// The content that the table is to have: all upstreams with their flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model(pub BTreeMap<String, (Upstream, Flags)>);

/// A change by an operator.
#[derive(Clone, Debug)]
pub enum Op {
    Put(String, PeerPatch, Absent),
    DeletePeer(String, Address),
    Set(Upstream),
    Delete(String, bool),
    Ring(String),
    Load(Vec<Upstream>, bool),
    Check(String, Value),
}

impl Model {
    /// The upstream `name` as users see it: no tombstone.
    pub fn visible(&self, name: &str) -> Option<&(Upstream, Flags)> {
        self.0.get(name).filter(|(_, flags)| !flags.has(Flags::DELETED))
    }

    fn touch(&mut self, upstream: Upstream) {
        let flags = self.0.get(&upstream.name).map_or(Flags::default(), |(_, flags)| *flags);
        let flags = flags.with(Flags::TOUCHED).without(Flags::DELETED);
        self.0.insert(upstream.name.clone(), (upstream, flags));
    }

    /// Does `op`; the code of its error.
    pub fn apply(&mut self, op: &Op) -> Result<(), Code> {
        match op {
            Op::Put(name, patch, absent) => {
                let old = self.visible(name).map(|(upstream, _)| upstream.clone());
                if old.is_none() && *absent == Absent::Refuse {
                    return Err(Code::NotFound);
                }
                let mut new = old.unwrap_or_else(|| upstream(name, &[]));
                match new.peers.iter_mut().find(|peer| peer.address.same_as(&patch.address)) {
                    Some(peer) => patch.apply(peer),
                    None if *absent == Absent::Refuse => return Err(Code::NotFound),
                    None => {
                        new.peers.push(patch.clone().into_peer());
                        if is_path(&patch.address) {
                            check_port(&new)?;
                        }
                    }
                }
                self.touch(new);
            }
            Op::DeletePeer(name, address) => {
                let mut new = self.visible(name).ok_or(Code::NotFound)?.0.clone();
                let index = new.peers.iter().position(|peer| peer.address.same_as(address)).ok_or(Code::NotFound)?;
                new.peers.remove(index);
                self.touch(new);
            }
            Op::Set(new) => {
                let whole = match self.visible(&new.name) {
                    Some((old, _)) if !new.own_check => with_check_of(new, old),
                    _ => new.clone(),
                };
                check_port(&whole)?;
                self.touch(whole);
                let (_, flags) = self.0.get_mut(&new.name).expect("set");
                *flags = flags.without(Flags::RING);
            }
            Op::Delete(name, force) => {
                let (old, flags) = self.visible(name).ok_or(Code::NotFound)?;
                if !old.peers.is_empty() && !force {
                    return Err(Code::NotEmpty);
                }
                match flags.has(Flags::IN_FILE) {
                    true => {
                        let flags = Flags::TOUCHED.with(Flags::IN_FILE).with(Flags::DELETED);
                        self.0.insert(name.clone(), (upstream(name, &[]), flags));
                    }
                    false => drop(self.0.remove(name)),
                }
            }
            Op::Ring(name) => {
                self.visible(name).ok_or(Code::NotFound)?;
                let (_, flags) = self.0.get_mut(name).expect("visible");
                *flags = flags.with(Flags::RING);
            }
            Op::Load(files, overwrite) => self.load(files, *overwrite),
            Op::Check(name, options) => {
                self.visible(name).ok_or(Code::NotFound)?;
                let (upstream, flags) = self.0.get_mut(name).expect("visible");
                let check = check::merge_or_none(upstream.check.as_ref(), options, "").map_err(|error| error.code)?;
                let new = Upstream { check, own_check: true, ..upstream.clone() };
                // A file may bring a path beside a port that was set by hand: to say that again is no change.
                if *upstream != new || !flags.has(Flags::CHECK_BY_HAND) {
                    check_port(&new)?;
                }
                *upstream = new;
                *flags = flags.with(Flags::CHECK_BY_HAND);
            }
        }
        Ok(())
    }

    fn load(&mut self, files: &[Upstream], overwrite: bool) {
        for file in files {
            let old = self.0.get(&file.name);
            let new = match old {
                None => (file.clone(), Flags::IN_FILE),
                Some((own, flags)) if flags.has(Flags::TOUCHED) && !overwrite => {
                    (own.clone(), flags.with(Flags::IN_FILE))
                }
                Some((old, flags)) => {
                    let (new, by_hand) = match flags.has(Flags::CHECK_BY_HAND) && !overwrite {
                        true => (with_check_of(file, old), Flags::CHECK_BY_HAND),
                        false => (file.clone(), Flags::default()),
                    };
                    let ring = if flags.has(Flags::RING) && *old == new { Flags::RING } else { Flags::default() };
                    (new, Flags::IN_FILE.with(ring).with(by_hand))
                }
            };
            self.0.insert(file.name.clone(), new);
        }
        let named = |name: &String| files.iter().any(|file| file.name == *name);
        self.0.retain(|name, (_, flags)| {
            let gone = flags.has(Flags::IN_FILE) && !named(name);
            let own = flags.has(Flags::TOUCHED) && !flags.has(Flags::DELETED) && !overwrite;
            if gone && own {
                *flags = flags.without(Flags::IN_FILE);
            }
            !gone || own
        });
    }
}

fn with_check_of(new: &Upstream, old: &Upstream) -> Upstream {
    Upstream { check: old.check.clone(), own_check: old.own_check, ..new.clone() }
}

fn is_path(address: &Address) -> bool {
    address.text().starts_with("unix:")
}

/// Nothing can be probed at a port of a path.
fn check_port(upstream: &Upstream) -> Result<(), Code> {
    let has_port = upstream.own_check && upstream.check.as_ref().is_some_and(|check| check.port.is_some());
    let has_path = upstream.peers.iter().any(|peer| is_path(&peer.address));
    if has_port && has_path { Err(Code::Invalid) } else { Ok(()) }
}

/// Does `op` to the table itself.
pub fn apply<R: Borrow<Region>>(table: &Table<R>, op: &Op) -> Result<(), Code> {
    match op {
        Op::Put(name, patch, absent) => table.put_peer(name, patch, *absent, SOON),
        Op::DeletePeer(name, address) => table.delete_peer(name, address, SOON),
        Op::Set(upstream) => table.set_upstream(upstream, SOON),
        Op::Delete(name, force) => table.delete_upstream(name, *force, SOON),
        Op::Ring(name) => table.build_ring(name, SOON),
        Op::Load(files, overwrite) => table.load(files, *overwrite, SOON),
        Op::Check(name, options) => table.set_check(name, check::change(options), SOON),
    }
    .map_err(|error| error.code)
}

/// All that the table holds, tombstones included.
pub fn content<R: Borrow<Region>>(table: &Table<R>) -> Model {
    let all = table.all().expect("readable");
    Model(all.into_iter().map(|stored| (stored.upstream.name.clone(), (stored.upstream, stored.flags))).collect())
}
