//! Routes of a spoiled region: what they are to be, and whether an answer about one is right.

use super::names::{HOSTS, names};
use crate::support::SOON;
use dyups::balance::miss::Miss;
use dyups::balance::route::{Routed, Router};
use dyups::error::Code;
use dyups::order::rendezvous;
use dyups::table::Table;
use dyups::table::routes::StoredRoute;
use dyups::table::snapshot::Flags;
use dyups::upstream::{Route, Target};
use std::collections::BTreeMap;

/// A change of a route.
#[derive(Debug)]
pub enum RouteChange {
    Set(Route),
    Delete(String),
}

impl RouteChange {
    pub fn host(&self) -> &str {
        match self {
            RouteChange::Set(route) => &route.host,
            RouteChange::Delete(host) => host,
        }
    }

    pub fn apply(&self, table: &Table) -> Result<(), Code> {
        match self {
            RouteChange::Set(route) => table.set_route(route, SOON),
            RouteChange::Delete(host) => table.delete_route(host, SOON),
        }
        .map_err(|error| error.code)
    }
}

/// The routes that the table is to have, with their flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes(pub BTreeMap<String, (Route, Flags)>);

impl Routes {
    /// All that the table has.
    pub fn of(table: &Table) -> Routes {
        let all = table.all_routes().expect("readable");
        Routes(all.into_iter().map(|StoredRoute { route, flags }| (route.host.clone(), (route, flags))).collect())
    }

    /// The route of exactly this host, as users see it.
    pub fn visible(&self, host: &str) -> Option<&Route> {
        self.0.get(host).filter(|(_, flags)| !flags.has(Flags::DELETED)).map(|(route, _)| route)
    }

    /// The hosts of all routes that name an upstream.
    pub fn to<'a>(&'a self, upstream: &'a str) -> impl Iterator<Item = &'a String> {
        let names = move |route: &Route| route.targets.iter().any(|target| target.upstream == upstream);
        self.0.keys().filter(move |host| self.visible(host).is_some_and(names))
    }

    /// Makes a change; the code of its error. `exists` tells of an upstream whether it is there.
    pub fn apply(&mut self, change: &RouteChange, exists: impl Fn(&str) -> bool) -> Result<(), Code> {
        let flags = |host: &str| self.0.get(host).map_or(Flags::default(), |(_, flags)| *flags);
        let host = change.host().to_owned();
        match change {
            RouteChange::Set(route) if !route.targets.iter().all(|target| exists(&target.upstream)) => {
                return Err(Code::NotFound);
            }
            RouteChange::Set(route) => {
                let flags = flags(&host).with(Flags::TOUCHED).without(Flags::DELETED);
                self.0.insert(host, (route.clone(), flags));
            }
            RouteChange::Delete(_) if self.visible(&host).is_none() => return Err(Code::NotFound),
            RouteChange::Delete(_) if flags(&host).has(Flags::IN_FILE) => {
                let gone = Route { host: host.clone(), ..Route::default() };
                self.0.insert(host, (gone, Flags::IN_FILE.with(Flags::TOUCHED).with(Flags::DELETED)));
            }
            RouteChange::Delete(_) => drop(self.0.remove(&host)),
        }
        Ok(())
    }

    /// Follows files that have no routes.
    pub fn follow_nothing(&mut self, overwrite: bool) {
        self.0.retain(|_, (_, flags)| {
            let own = flags.has(Flags::TOUCHED) && !flags.has(Flags::DELETED) && !overwrite;
            let gone = flags.has(Flags::IN_FILE) && !own;
            *flags = flags.without(Flags::IN_FILE);
            !gone
        });
    }
}

/// A route as three bytes want it: its host, the first of its targets, and how many there are of which weights.
pub fn shaped_route(host: u8, first: u8, shape: u8) -> Route {
    let count = [1, 1, 2, 3][usize::from(shape % 4)];
    let weight = |nth: u8| [1, 90 - 80 * u16::from(nth.min(1)), u16::from(nth), 65_535][usize::from(shape / 4 % 4)];
    let target = |nth: u8| Target {
        upstream: names()[(usize::from(first) + usize::from(nth)) % names().len()].clone(),
        weight: if count == 1 { 1 } else { weight(nth) },
    };
    Route {
        host: HOSTS[usize::from(host) % HOSTS.len()].into(),
        targets: (0..count).map(target).collect(),
        key: (shape >= 128).then(|| "cookie_u".repeat(usize::from(shape / 16 % 8) + 1)),
    }
}

/// Where a host leads; `None`: nowhere.
pub fn lead(table: &Table, host: &str, key: Option<u8>) -> Result<Option<Vec<u8>>, Miss> {
    let mut out = Routed::default();
    let hash = |_: Option<&str>| key.map(|key| rendezvous::hash(&[key]));
    let led =
        Router::over(table.region().mem(), table.region().geometry()).lead(host.as_bytes(), hash, None, &mut out)?;
    assert!(out.len as usize <= out.text.len());
    Ok(led.then(|| out.text[..out.len as usize].to_vec()))
}

/// The hosts of the routes that a host may mean, from the narrowest to the widest. Those of the cases have no port.
pub fn meant(host: &str) -> Vec<String> {
    let wider = host.match_indices('.').map(|(dot, _)| format!("*{}", &host[dot..]));
    std::iter::once(host.to_owned()).chain(wider).chain(["default".to_owned()]).collect()
}
