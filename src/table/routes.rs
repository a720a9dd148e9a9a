//! Routes in the table: which upstreams a host leads to. Each change of a route is one step, as that of an upstream is, by the same
//! stores: see [`super::commit`].

use super::change_log::{self, Difference};
use super::commit::{self, Build, CellPlan, RingPlan};
use super::directory::Directory;
use super::in_place;
use super::ops::no_upstream;
use super::snapshot::route::{NO_NAME, encode_route};
use super::snapshot::{Flags, Kind, Origin, View, set_flags};
use super::store::Table;
use crate::error::{Code, Error, Result};
use crate::order::rendezvous;
use crate::shm::layout::state;
use crate::shm::versioned::{TRIES, Unread};
use crate::shm::{Damaged, Mem, Memory, Region, Writer};
use crate::upstream::{Route, Upstream};
use std::borrow::Borrow;
use std::collections::HashSet;
use std::time::Duration;

/// A route as it stands in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRoute {
    /// Where its host leads.
    pub route: Route,
    /// Its flags.
    pub flags: Flags,
}

impl StoredRoute {
    fn is_there(&self) -> bool {
        !self.flags.has(Flags::DELETED)
    }
}

/// The result of a change for a route.
enum Edit {
    Keep,
    Put(Route, Flags),
    /// The same with other flags. Data that a later library has stored beside stay.
    Flags(Flags),
    Remove,
}

/// A route's place, its version, and the content of that.
type Found = (u32, View, StoredRoute);

fn no_route(host: &str) -> Error {
    Error::new(Code::NotFound, format!("route {host}: not found"))
}

fn stored(view: &View, mem: &Mem) -> Result<StoredRoute, Damaged> {
    Ok(StoredRoute { route: view.decode_route(mem)?, flags: view.flags })
}

impl<R: Borrow<Region>> Table<R> {
    /// The route of exactly this host, as [`crate::upstream::host::check`] has it.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`]: there is none. [`Code::Changing`], [`Code::Damaged`]: it cannot be read.
    pub fn route(&self, host: &str) -> Result<Route> {
        Ok(self.stored_route(host)?.route)
    }

    /// The same with its flags.
    ///
    /// # Errors
    ///
    /// As [`Table::route`].
    pub fn stored_route(&self, host: &str) -> Result<StoredRoute> {
        let found = self.find_route(host)?.filter(|(_, _, stored)| stored.is_there());
        found.map(|(_, _, stored)| stored).ok_or_else(|| no_route(host))
    }

    /// All routes, ordered by host.
    ///
    /// # Errors
    ///
    /// [`Code::Changing`], [`Code::Damaged`]: one cannot be read.
    pub fn routes(&self) -> Result<Vec<StoredRoute>> {
        let mut all = self.all_routes()?;
        all.retain(StoredRoute::is_there);
        Ok(all)
    }

    /// The same with those that are deleted and remembered.
    pub fn all_routes(&self) -> Result<Vec<StoredRoute>> {
        let mut all = Vec::new();
        let mem = self.region().mem();
        Directory::new(self.region()).each_of(Kind::ROUTE, |view| stored(view, mem), |route| all.push(route))?;
        all.sort_by(|a: &StoredRoute, b| a.route.host.cmp(&b.route.host));
        // One that was deleted and made again while we read may have been met twice; either is an answer.
        all.dedup_by(|a, b| a.route.host == b.route.host);
        Ok(all)
    }

    /// Makes a route, or replaces it as a whole.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`]: there is no such upstream. [`Code::Full`]: there is no room. Those of [`Table::writer`].
    pub fn set_route(&self, route: &Route, wait: Duration) -> Result<()> {
        self.edit_route(&route.host, wait, |old| {
            // Under the lock: no upstream can go meanwhile.
            for target in &route.targets {
                self.upstream_exists(&target.upstream)
                    .map_err(|error| error.within(format!("route {}", route.host)))?;
            }
            let flags = old.map_or(Flags::default(), |old| old.flags).with(Flags::TOUCHED).without(Flags::DELETED);
            Ok(match old {
                Some(old) if old.route == *route && old.flags == flags => Edit::Keep,
                _ => Edit::Put(route.clone(), flags),
            })
        })
    }

    /// Deletes a route.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`]: there is none. Those of [`Table::writer`].
    pub fn delete_route(&self, host: &str, wait: Duration) -> Result<()> {
        self.edit_route(host, wait, |old| {
            let old = old.filter(|old| old.is_there()).ok_or_else(|| no_route(host))?;
            let gone = Route { host: host.to_owned(), ..Route::default() };
            Ok(match old.flags.has(Flags::IN_FILE) {
                true => Edit::Put(gone, Flags::IN_FILE.with(Flags::TOUCHED).with(Flags::DELETED)),
                false => Edit::Remove,
            })
        })
    }

    /// Makes the routes follow their files, by the rules of [`Table::load`].
    pub(super) fn follow_routes(&self, files: &[Route], overwrite: bool, wait: Duration) -> Result<()> {
        for route in files {
            self.edit_route(&route.host, wait, |old| Ok(follow(route, old, overwrite)))
                .map_err(|error| error.within(format!("route {}", route.host)))?;
        }
        let hosts: HashSet<&str> = files.iter().map(|route| route.host.as_str()).collect();
        for gone in self.all_routes()?.iter().filter(|stored| stored.flags.has(Flags::IN_FILE)) {
            let host = gone.route.host.as_str();
            if !hosts.contains(host) {
                self.edit_route(host, wait, |old| Ok(forget(old, overwrite)))?;
            }
        }
        Ok(())
    }

    /// Checks that the upstreams of these routes are there, or come with `files`, before anything of both is loaded.
    pub(super) fn knows_targets(&self, routes: &[Route], files: &[Upstream], overwrite: bool) -> Result<()> {
        let coming: HashSet<&str> = files.iter().map(|upstream| upstream.name.as_str()).collect();
        for route in routes {
            for target in route.targets.iter().map(|target| target.upstream.as_str()) {
                if !coming.contains(target) && !self.outlives_files(target, overwrite)? {
                    let error = no_upstream(target).within(format!("route {}", route.host));
                    return Err(Error::invalid(error.message));
                }
            }
        }
        Ok(())
    }

    /// Whether there is an upstream of this name also once files that do not have it are loaded.
    fn outlives_files(&self, name: &str, overwrite: bool) -> Result<bool> {
        let found = Directory::new(self.region()).find(name.as_bytes())?;
        Ok(found.is_some_and(|(_, view)| {
            let stays = !view.flags.has(Flags::IN_FILE) || view.flags.has(Flags::TOUCHED) && !overwrite;
            stays && !view.flags.has(Flags::DELETED)
        }))
    }

    /// The upstreams that routes name and that are not there, each with the host of such a route.
    ///
    /// # Errors
    ///
    /// As [`Table::routes`].
    pub fn lost_targets(&self) -> Result<Vec<(String, String)>> {
        let mut lost = Vec::new();
        for StoredRoute { route, .. } in self.routes()? {
            for target in &route.targets {
                match self.upstream_exists(&target.upstream) {
                    Err(error) if error.code == Code::NotFound => {
                        lost.push((route.host.clone(), target.upstream.clone()));
                    }
                    found => found?,
                }
            }
        }
        Ok(lost)
    }

    /// The host of a route that names this upstream, if there is one. It reads all routes: 0.1 µs each.
    ///
    /// # Errors
    ///
    /// As [`Table::routes`].
    pub fn route_to(&self, upstream: &str) -> Result<Option<String>> {
        let (mem, hash) = (self.region().mem(), rendezvous::hash(upstream.as_bytes()));
        let names_it = |view: &View| {
            let (targets, mut name) = (view.targets(mem)?, NO_NAME);
            for index in 0..targets.count {
                let target = view.target(mem, &targets, index)?;
                if target.hash == hash && target.name(mem, &mut name)? == upstream.as_bytes() {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        let host = |view: &View| if names_it(view)? { view.name(mem).map(Some) } else { Ok(None) };
        let mut found = None;
        Directory::new(self.region()).each_of(Kind::ROUTE, host, |host| {
            if let Some(host) = host {
                found = Some(host);
            }
        })?;
        Ok(found)
    }

    /// The number of the last change. A look at the whole table from here on holds as long as the number stays. `None`: a change is
    /// under way, which may have its number already and is not seen yet.
    ///
    /// # Errors
    ///
    /// [`Code::Damaged`]: a word lies outside of the region.
    pub fn settled(&self) -> Result<Option<u64>> {
        let mem = self.region().mem();
        let sequence = mem.load_acquire(state::SEQUENCE)?;
        Ok((mem.load_acquire(state::WRITING)? == 0).then_some(sequence))
    }

    fn find_route(&self, host: &str) -> Result<Option<Found>> {
        let directory = Directory::new(self.region());
        for _ in 0..TRIES {
            let Some((record, view)) = directory.find_of(Kind::ROUTE, host.as_bytes())? else { return Ok(None) };
            let stored = stored(&view, self.region().mem());
            if directory.stamp_holds(record, view.stamp)? {
                return Ok(Some((record, view, stored?)));
            }
        }
        Err(Unread::Changing.into())
    }

    /// Changes the route of `host` to what `change` makes of it, all under the lock: a route is small.
    fn edit_route(
        &self,
        host: &str,
        wait: Duration,
        change: impl FnOnce(Option<&StoredRoute>) -> Result<Edit>,
    ) -> Result<()> {
        let writer = self.writer(wait)?;
        let found = self.find_route(host)?;
        let old = found.as_ref().map(|(_, _, stored)| stored);
        let new = change(old)?;
        let difference = difference(host, old, &new);
        write(&writer, host, found.as_ref(), new)?;
        if let Some(change) = difference.filter(|_| change_log::records()) {
            let old_version = found.as_ref().map_or(0, |(_, view, _)| view.version);
            change_log::add(Difference { old_version, version: self.region().mem().load(state::SEQUENCE)?, ..change });
        }
        Ok(())
    }
}

/// The change as operators see it.
fn difference(host: &str, old: Option<&StoredRoute>, new: &Edit) -> Option<Difference> {
    let old = old.filter(|old| old.is_there()).map(|old| &old.route);
    match new {
        Edit::Keep | Edit::Flags(_) => None,
        Edit::Remove => Difference::of_route(host, old, None),
        Edit::Put(route, flags) => Difference::of_route(host, old, Some(route).filter(|_| !flags.has(Flags::DELETED))),
    }
}

fn write(writer: &Writer<'_>, host: &str, found: Option<&Found>, new: Edit) -> Result<()> {
    let old = found.map(|&(record, view, _)| (record, view));
    let image = match (new, old) {
        (Edit::Put(route, flags), _) => encode_route(&route, flags, origin(found)),
        (Edit::Flags(flags), Some((_, view))) => {
            let mut image = in_place::words(writer.mem(), view.stamp.word(), view.words)?;
            set_flags(&mut image, flags);
            image
        }
        (Edit::Remove, Some((record, view))) => return commit::remove(writer, record, &view),
        (Edit::Keep | Edit::Flags(_) | Edit::Remove, _) => return Ok(()),
    };
    let build = Build { image, rings: [RingPlan::None, RingPlan::None], must: false, cells: CellPlan::default() };
    commit::put(writer, host, build, old)
}

/// The origin that a version takes over from the one before it.
fn origin(found: Option<&Found>) -> Origin {
    match found {
        Some((_, view, stored)) if stored.is_there() => {
            Origin { created: view.created, source: view.source, ..Origin::default() }
        }
        _ => Origin::default(),
    }
}

/// The edit for a route that a file has.
fn follow(file: &Route, old: Option<&StoredRoute>, overwrite: bool) -> Edit {
    let Some(old) = old else { return Edit::Put(file.clone(), Flags::IN_FILE) };
    let flags = match old.flags.has(Flags::TOUCHED) && !overwrite {
        true => old.flags.with(Flags::IN_FILE),
        false => Flags::IN_FILE,
    };
    let stays = flags != Flags::IN_FILE || old.route == *file;
    match stays {
        true if flags == old.flags => Edit::Keep,
        true => Edit::Flags(flags),
        false => Edit::Put(file.clone(), flags),
    }
}

/// The edit for a route that the files no longer have.
fn forget(old: Option<&StoredRoute>, overwrite: bool) -> Edit {
    match old {
        None => Edit::Keep,
        Some(old) if !old.is_there() || !old.flags.has(Flags::TOUCHED) || overwrite => Edit::Remove,
        Some(old) => Edit::Flags(old.flags.without(Flags::IN_FILE)),
    }
}
