//! An operator's changes of the table: one edit each.
//!
//! ```
//! use dyups::table::ops::Absent;
//! use dyups::upstream::{Address, PeerPatch};
//! use std::time::Duration;
//!
//! let directory = tempfile::tempdir().unwrap();
//! let (table, _notes) = dyups::table::Table::open(&directory.path().join("region"), 1 << 20).unwrap();
//! let peer = PeerPatch { weight: Some(3), ..PeerPatch::new(Address::from_server("10.0.0.1:8080").unwrap()) };
//! table.put_peer("api", &peer, Absent::Make, Duration::ZERO).unwrap();
//! assert_eq!(table.upstream("api").unwrap().upstream.peers[0].weight, 3);
//! let error = table.delete_upstream("api", false, Duration::ZERO).unwrap_err();
//! assert_eq!(error.to_string(), "upstream api: not empty: it has 1 peer: delete first, or force");
//! ```

use super::directory::Directory;
use super::snapshot::Flags;
use super::store::{Edit, Stored, Table};
use crate::error::{Code, Error, Result};
use crate::quote::quote;
use crate::shm::Region;
use crate::shm::sources::{self, Sources};
use crate::upstream::{Address, MAX_PEERS, Peer, PeerPatch, Route, Status, Upstream, name};
use std::borrow::Borrow;
use std::cell::Cell;
use std::collections::HashSet;
use std::time::Duration;

/// Whether a peer that is not there is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It is made, and its upstream too.
    Make,
    /// It is an error.
    Refuse,
}

/// The stored upstream, if users of the table see it: no tombstone.
pub(super) fn visible(stored: Option<Stored>) -> Option<Stored> {
    stored.filter(|stored| !stored.flags.has(Flags::DELETED))
}

pub(super) fn flags(stored: Option<&Stored>) -> Flags {
    stored.map_or(Flags::default(), |stored| stored.flags)
}

/// The flags of a version made at run time, after one with `flags`.
pub(super) fn touched(flags: Flags) -> Flags {
    flags.with(Flags::TOUCHED).without(Flags::DELETED)
}

pub(super) fn no_upstream(name: &str) -> Error {
    Error::new(Code::NotFound, format!("upstream {name}: not found"))
}

fn routed(name: &str, host: &str) -> Error {
    Error::new(
        Code::NotEmpty,
        format!("upstream {name}: route {host} leads there: delete or change it first, or force"),
    )
}

fn no_peer(name: &str, address: &Address) -> Error {
    Error::new(Code::NotFound, format!("upstream {name}: peer {}: not found", address.text()))
}

fn position(upstream: &Upstream, address: &Address) -> Option<usize> {
    upstream.peers.iter().position(|peer| peer.address.same_as(address))
}

impl<R: Borrow<Region>> Table<R> {
    /// A copy of the upstream called `name`.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`]: there is none. [`Code::Changing`], [`Code::Damaged`]: it cannot be read.
    pub fn upstream(&self, name: &str) -> Result<Stored> {
        visible(self.get(name)?).ok_or_else(|| no_upstream(name))
    }

    /// Takes the name of an upstream that is there, or that may be made ([`name::check`]): another version may have had another rule.
    ///
    /// # Errors
    ///
    /// As [`name::check`].
    pub fn name<'a>(&self, name: &'a [u8]) -> Result<&'a str> {
        name::check(name).or_else(|error| match std::str::from_utf8(name) {
            Ok(text) if self.upstream_exists(text).is_ok() => Ok(text),
            _ => Err(error),
        })
    }

    /// Sees whether there is an upstream called `name`.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`]: there is none. [`Code::Changing`], [`Code::Damaged`]: it cannot be read.
    pub fn upstream_exists(&self, name: &str) -> Result<()> {
        match Directory::new(self.region()).find(name.as_bytes())? {
            Some((_, view)) if !view.flags.has(Flags::DELETED) => Ok(()),
            _ => Err(no_upstream(name)),
        }
    }

    /// Copies of all upstreams, ordered by name.
    ///
    /// # Errors
    ///
    /// [`Code::Changing`], [`Code::Damaged`]: one cannot be read.
    pub fn upstreams(&self) -> Result<Vec<Stored>> {
        let mut all = self.all()?;
        all.retain(|stored| !stored.flags.has(Flags::DELETED));
        Ok(all)
    }

    /// Changes the given fields of a peer, or makes the peer as `absent` says.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`]: with [`Absent::Refuse`], there is no such peer or upstream.
    /// [`Code::Full`]: the upstream has as many peers as it may have.
    /// [`Code::Invalid`]: the new peer has no port, and its check needs one.
    /// Those of [`Table::edit`].
    pub fn put_peer(&self, name: &str, patch: &PeerPatch, absent: Absent, wait: Duration) -> Result<()> {
        self.edit(name, wait, |stored| {
            let flags = flags(stored.as_ref());
            let (mut upstream, mut changed) = match (visible(stored), absent) {
                (Some(old), _) => (old.upstream, flags != touched(flags)),
                (None, Absent::Make) => (self.checked(&tombstone(name), None), true),
                (None, Absent::Refuse) => return Err(no_upstream(name)),
            };
            match (position(&upstream, &patch.address), absent) {
                (Some(index), _) => {
                    let peer = &mut upstream.peers[index];
                    let old = peer.clone();
                    // A leaving peer that is added comes back, as it would a moment later, when it is gone.
                    if absent == Absent::Make && peer.status == Status::Leaving {
                        peer.status = Status::Up;
                    }
                    patch.apply(peer);
                    changed |= *peer != old;
                }
                (None, Absent::Refuse) => return Err(no_peer(name, &patch.address)),
                (None, Absent::Make) => {
                    push(&mut upstream, patch.clone().into_peer())?;
                    if patch.address.port().is_none() {
                        upstream.check_port()?;
                    }
                    changed = true;
                }
            }
            // Even where no reader sees a change, the upstream is from now on the operator's, not the file's.
            Ok(if changed { Edit::Put(upstream, touched(flags)) } else { Edit::Keep })
        })
    }

    /// Takes a peer out of its upstream.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`]: there is no such peer or upstream. Those of [`Table::edit`].
    pub fn delete_peer(&self, name: &str, address: &Address, wait: Duration) -> Result<()> {
        self.edit(name, wait, |stored| {
            let Stored { mut upstream, flags, .. } = visible(stored).ok_or_else(|| no_upstream(name))?;
            let index = position(&upstream, address).ok_or_else(|| no_peer(name, address))?;
            upstream.peers.remove(index);
            Ok(Edit::Put(upstream, touched(flags)))
        })
    }

    /// Drains a peer, which is deleted once it is idle, see [`Table::delete_drained`].
    ///
    /// # Errors
    ///
    /// As [`Table::delete_peer`].
    pub fn drain_peer(&self, name: &str, address: &Address, wait: Duration) -> Result<()> {
        self.edit(name, wait, |stored| {
            let Stored { mut upstream, flags, .. } = visible(stored).ok_or_else(|| no_upstream(name))?;
            let index = position(&upstream, address).ok_or_else(|| no_peer(name, address))?;
            upstream.peers[index].status = Status::Leaving;
            Ok(Edit::Put(upstream, touched(flags)))
        })
    }

    /// Replaces an upstream as a whole, or makes it. It keeps its check, unless `upstream` has one of its own.
    ///
    /// # Errors
    ///
    /// [`Code::Invalid`]: a peer without a port that its check needs. Those of [`Table::edit`].
    pub fn set_upstream(&self, upstream: &Upstream, wait: Duration) -> Result<()> {
        self.edit(&upstream.name, wait, |stored| {
            // A pick by chash will ask for the ring again. Written even where it is the same, since the stored one may be
            // damaged.
            let flags = touched(flags(stored.as_ref())).without(Flags::RING);
            let new = self.checked(upstream, visible(stored).as_ref());
            new.check_port()?;
            Ok(Edit::Put(new, flags))
        })
    }

    /// Deletes an upstream; one that has peers, or that a route names, only with `force`.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`]: there is none. [`Code::NotEmpty`]: it has peers, or a route names it, and there is no `force`. Those of
    /// [`Table::edit`].
    pub fn delete_upstream(&self, name: &str, force: bool, wait: Duration) -> Result<()> {
        // No route named it as of this change: it is asked before the lock is taken, and under the lock where there was a change.
        let unrouted = Cell::new(None);
        let is_unrouted = || {
            let settled = self.settled()?;
            if force || settled.is_some() && unrouted.get() == settled {
                return Ok(());
            }
            match self.route_to(name)? {
                None => unrouted.set(settled),
                Some(host) => return Err(routed(name, &host)),
            }
            Ok(())
        };
        self.edit_if(name, wait, is_unrouted, |stored| {
            let old = visible(stored).ok_or_else(|| no_upstream(name))?;
            if !old.upstream.peers.is_empty() && !force {
                let count = old.upstream.peers.len();
                let peers = if count == 1 { "peer" } else { "peers" };
                return Err(Error::new(
                    Code::NotEmpty,
                    format!("upstream {name}: not empty: it has {count} {peers}: delete first, or force"),
                ));
            }
            is_unrouted()?;
            Ok(match old.flags.has(Flags::IN_FILE) {
                true => Edit::Put(tombstone(name), Flags::IN_FILE.with(Flags::TOUCHED).with(Flags::DELETED)),
                false => Edit::Remove,
            })
        })
    }

    /// Gives an upstream the ring that picks use from now on.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`]: there is none. [`Code::Invalid`]: its weights make the ring too large. Those of [`Table::edit`].
    pub fn build_ring(&self, name: &str, wait: Duration) -> Result<()> {
        self.edit(name, wait, |stored| {
            let old = visible(stored).ok_or_else(|| no_upstream(name))?;
            Ok(match old.flags.has(Flags::RING) && old.has_ring {
                true => Edit::Keep,
                false => Edit::Ring(old.upstream, old.flags.with(Flags::RING)),
            })
        })
    }

    /// The number of a source, which it gets now if it has none. No other source ever gets it.
    ///
    /// # Errors
    ///
    /// [`Code::Full`]: the text is too long, or no number is left. Those of [`Table::writer`].
    pub fn source(&self, text: &str, wait: Duration) -> Result<u32> {
        let writer = self.writer(wait)?;
        writer.is_seen_by_all()?;
        let number = Sources::over(writer.mem(), writer.geometry()).add(text)?;
        number.ok_or_else(|| {
            let most = sources::MAX_TEXT;
            Error::new(
                Code::Full,
                format!(
                    "source {}: there is no number for it: allowed: 1 to {most} bytes, as long as there is one",
                    quote(text.as_bytes())
                ),
            )
        })
    }

    /// Makes the table follow its files. An upstream that was not touched at run time becomes as they say, appears and goes with
    /// them. With `overwrite`, so does one that was touched. Where only the check was set at run time, only that stays.
    ///
    /// # Errors
    ///
    /// Those of [`Table::edit`]; the upstreams before the one that fails are loaded.
    pub fn load(&self, files: &[Upstream], overwrite: bool, wait: Duration) -> Result<()> {
        self.load_with_routes(files, &[], overwrite, wait)
    }

    /// The same of files that have routes too. These follow after the upstreams that they may lead to have come, and before those go
    /// that they have led to.
    ///
    /// # Errors
    ///
    /// As [`Table::load`]. [`Code::Invalid`]: a route names an upstream that is not there then; nothing is loaded.
    pub fn load_with_routes(
        &self,
        files: &[Upstream],
        routes: &[Route],
        overwrite: bool,
        wait: Duration,
    ) -> Result<()> {
        self.knows_targets(routes, files, overwrite)?;
        for upstream in files {
            self.edit(&upstream.name, wait, |stored| Ok(self.follow(upstream, stored.as_ref(), overwrite)))
                .map_err(|error| error.within(format!("upstream {}", upstream.name)))?;
        }
        self.follow_routes(routes, overwrite, wait)?;
        let names: HashSet<&str> = files.iter().map(|upstream| upstream.name.as_str()).collect();
        for gone in self.all()?.iter().filter(|stored| stored.flags.has(Flags::IN_FILE)) {
            let name = gone.upstream.name.as_str();
            if !names.contains(name) {
                self.edit(name, wait, |stored| Ok(forget(stored, overwrite)))?;
            }
        }
        Ok(())
    }

    /// The edit for an upstream that a file has.
    fn follow(&self, file: &Upstream, stored: Option<&Stored>, overwrite: bool) -> Edit {
        let Some(old) = stored else { return Edit::Put(self.checked(file, None), Flags::IN_FILE) };
        if old.flags.has(Flags::TOUCHED) && !overwrite {
            let flags = old.flags.with(Flags::IN_FILE);
            return if flags == old.flags { Edit::Keep } else { Edit::Put(old.upstream.clone(), flags) };
        }
        let by_hand = old.flags.has(Flags::CHECK_BY_HAND) && !overwrite;
        let new = if by_hand { with_check_of(file, &old.upstream) } else { self.checked(file, None) };
        let kept = if by_hand { Flags::CHECK_BY_HAND } else { Flags::default() };
        let flags = Flags::IN_FILE.with(kept);
        match (new == old.upstream, flags.with(Flags(old.flags.0 & Flags::RING.0))) {
            (true, with_ring) if with_ring == old.flags => Edit::Keep,
            (true, with_ring) => Edit::Put(new, with_ring),
            (false, _) => Edit::Put(new, flags),
        }
    }

    /// A new version of an upstream. If it has no check of its own, it gets the check of the old version, or the default if
    /// there is no old one.
    fn checked(&self, new: &Upstream, old: Option<&Stored>) -> Upstream {
        match old {
            _ if new.own_check => new.clone(),
            Some(old) => with_check_of(new, &old.upstream),
            None => Upstream { check: self.default_check(), ..new.clone() },
        }
    }
}

fn with_check_of(new: &Upstream, old: &Upstream) -> Upstream {
    Upstream { check: old.check.clone(), own_check: old.own_check, ..new.clone() }
}

fn push(upstream: &mut Upstream, peer: Peer) -> Result<()> {
    if upstream.peers.len() >= MAX_PEERS {
        return Err(Error::new(
            Code::Full,
            format!(
                "upstream {}: peers: {} are there: allowed: at most {MAX_PEERS}",
                upstream.name,
                upstream.peers.len()
            ),
        ));
    }
    upstream.peers.push(peer);
    Ok(())
}

fn tombstone(name: &str) -> Upstream {
    Upstream { name: name.to_owned(), ..Upstream::default() }
}

/// The edit for an upstream that the files no longer have.
fn forget(stored: Option<Stored>, overwrite: bool) -> Edit {
    match stored {
        None => Edit::Keep,
        Some(old) if old.flags.has(Flags::DELETED) || !old.flags.has(Flags::TOUCHED) || overwrite => Edit::Remove,
        Some(old) => Edit::Put(old.upstream, old.flags.without(Flags::IN_FILE)),
    }
}
