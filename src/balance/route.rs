//! Where a host leads: from the host that a request asks for, by its route, to the name of an upstream. Without a lock, a system call or
//! an allocation, and without anything that a worker would keep of each host.
//!
//! A split by a key is a weighted rendezvous ([`crate::order::rendezvous`]). Without a key, requests take turns, of which all workers
//! share the count. Upstreams that are not there take no part.

use super::miss::Miss;
use crate::order::{rendezvous, turns};
use crate::shm::layout::Geometry;
use crate::shm::versioned::TRIES;
use crate::shm::{Damaged, Memory};
use crate::table::Record;
use crate::table::directory::Directory;
use crate::table::snapshot::route::{NO_NAME, Place, Targets};
use crate::table::snapshot::{Flags, Kind, View};
use crate::upstream::host::{Asked, DEFAULT};
use crate::upstream::route::MAX_TARGETS;

/// The name of an upstream that a host leads to.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Routed {
    /// Bytes of the name.
    pub len: u32,
    /// The name, not terminated.
    pub text: [u8; 256],
}

impl Default for Routed {
    fn default() -> Self {
        Routed { len: 0, text: NO_NAME }
    }
}

/// The directory that leads from hosts to upstreams.
#[derive(Debug)]
pub struct Router<'a, M> {
    directory: Directory<'a, M>,
}

impl<'a, M: Memory> Router<'a, M> {
    /// That of the table in `mem`.
    pub fn over(mem: &'a M, geometry: &'a Geometry) -> Self {
        Router { directory: Directory::over(mem, geometry) }
    }

    /// Where `host` leads; false: there is no route for it. `key` answers the hash of the key, given the name of the route's variable if
    /// it has one; `None`: there is no key. `last` is the place of the upstream that this request has tried before. A request without a
    /// key stays with that, as long as its route leads there.
    ///
    /// # Errors
    ///
    /// [`Miss::NotFound`]: there is none of the upstreams that the route names. [`Miss::Changing`], [`Miss::Damaged`].
    pub fn lead(
        &self,
        host: &[u8],
        key: impl Fn(Option<&str>) -> Option<u64>,
        last: Option<Record>,
        out: &mut Routed,
    ) -> Result<bool, Miss> {
        for _ in 0..TRIES {
            let Some((record, view)) = self.find(host)? else { return Ok(false) };
            let led = self.choose(record, &view, &key, last, out);
            if self.directory.stamp_holds(record, view.stamp)? {
                return led.map(|()| true);
            }
        }
        Err(Miss::Changing)
    }

    /// Writes the name of the variable by whose value the route of `host` chooses between several upstreams; false: there is no such
    /// route, or requests take turns.
    ///
    /// # Errors
    ///
    /// [`Miss::Changing`], [`Miss::Damaged`].
    pub fn variable(&self, host: &[u8], out: &mut Routed) -> Result<bool, Miss> {
        let mem = self.directory.mem();
        for _ in 0..TRIES {
            let Some((record, view)) = self.find(host)? else { return Ok(false) };
            let key = view.targets(mem).and_then(|targets| {
                let len = targets.key(mem, &mut out.text)?.filter(|_| targets.count > 1).map(<[u8]>::len);
                Ok(len.map(|len| len as u32))
            });
            if self.directory.stamp_holds(record, view.stamp)? {
                out.len = key?.unwrap_or_default();
                return Ok(out.len > 0);
            }
        }
        Err(Miss::Changing)
    }

    /// The route for a host.
    fn find(&self, host: &[u8]) -> Result<Option<(u32, View)>, Miss> {
        let find = |name: &[u8]| {
            let found = self.directory.find_of(Kind::ROUTE, name)?;
            Ok(found.filter(|(_, view)| !view.flags.has(Flags::DELETED)))
        };
        match Asked::new(host) {
            Some(asked) => asked.first(find),
            None => find(DEFAULT.as_bytes()),
        }
    }

    /// Writes the upstream that a version of a route leads to.
    fn choose(
        &self,
        record: u32,
        view: &View,
        key: &impl Fn(Option<&str>) -> Option<u64>,
        last: Option<Record>,
        out: &mut Routed,
    ) -> Result<(), Miss> {
        let mem = self.directory.mem();
        let targets = view.targets(mem)?;
        if targets.count == 1 {
            let only = view.target(mem, &targets, 0)?;
            return self.take(&only, out)?.map(|_| ()).ok_or(Miss::NotFound);
        }
        let mut name = NO_NAME;
        let variable = targets.key(mem, &mut name)?.and_then(|name| std::str::from_utf8(name).ok());
        match key(variable) {
            Some(key) => self.by_key(view, &targets, key, out),
            None => self.by_turn(record, view, &targets, last, out),
        }
    }

    /// The upstream that scores highest for a key, of those that are there.
    fn by_key(&self, view: &View, targets: &Targets, key: u64, out: &mut Routed) -> Result<(), Miss> {
        let mem = self.directory.mem();
        let mut gone = [false; MAX_TARGETS];
        loop {
            let (mut best, mut highest) = (None, 0.0);
            for index in (0..targets.count).filter(|&index| !gone[index]) {
                let target = view.target(mem, targets, index)?;
                let score = rendezvous::score(key, target.hash, target.weight);
                if score > highest {
                    (best, highest) = (Some((index, target)), score);
                }
            }
            let Some((index, target)) = best else { return Err(Miss::NotFound) };
            if self.take(&target, out)?.is_some() {
                return Ok(());
            }
            gone[index] = true;
        }
    }

    /// The upstream whose turn it is, among those that are there.
    fn by_turn(
        &self,
        record: u32,
        view: &View,
        targets: &Targets,
        last: Option<Record>,
        out: &mut Routed,
    ) -> Result<(), Miss> {
        let mem = self.directory.mem();
        let (mut weights, mut total, mut all_there) = ([0; MAX_TARGETS], 0, true);
        for (index, weight) in weights.iter_mut().enumerate().take(targets.count) {
            let target = view.target(mem, targets, index)?;
            if target.weight == 0 {
                continue;
            }
            match self.take(&target, out)? {
                Some(place) if last == Some(place) => return Ok(()),
                Some(_) => *weight = u64::from(target.weight),
                None => all_there = false,
            }
            total += *weight;
        }
        if total == 0 {
            return Err(Miss::NotFound);
        }
        let step = if all_there { targets.step } else { turns::step(total) };
        let mut number = turns::turn(self.directory.record(record).take_turn(mem)?, total, step);
        for (index, weight) in weights.into_iter().enumerate() {
            match number.checked_sub(weight) {
                Some(rest) => number = rest,
                None => return self.write(&view.target(mem, targets, index)?, out).map_err(Miss::from),
            }
        }
        // The weights were other ones a moment ago: so the version is no longer the same.
        Err(Miss::Changing)
    }

    /// Writes the name of a target, and answers the place of that upstream; `None`: there is none.
    fn take(&self, target: &Place, out: &mut Routed) -> Result<Option<Record>, Miss> {
        self.write(target, out)?;
        let found = self.directory.find(&out.text[..out.len as usize])?;
        let found = found.filter(|(_, view)| !view.flags.has(Flags::DELETED));
        Ok(found.map(|(record, _)| self.directory.record(record)))
    }

    fn write(&self, target: &Place, out: &mut Routed) -> Result<(), Damaged> {
        out.len = target.name(self.directory.mem(), &mut out.text)?.len() as u32;
        Ok(())
    }
}
