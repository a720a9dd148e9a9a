//! The JSON of `status()` and `GET /status`: the shape of the upstreams file, with read-only fields around it.

use super::doc::{Doc, Shape};
use super::numbers::Numbered;
use super::peers::{self, Extended};
use super::slices::Sliced;
use super::walk::{Order, Step, Walk};
use crate::config::fields::{ROUTES, UPSTREAMS};
use crate::config::json::{PeerObject, UpstreamFields};
use crate::config::route::RouteObject;
use crate::error::{Code, Result};
use crate::pace::Pace;
use crate::shm::cells::deleted::{Deleted, Ledger};
use crate::shm::layout::{LAYOUT, state};
use crate::shm::lock::Holder;
use crate::shm::{GRANULE, Memory};
use crate::table::copy::Copied;
use crate::table::options::PeerChecks;
use crate::table::snapshot::{Flags, Kind};
use crate::table::store::Table;
use crate::upstream::fields;
use serde_json::{Map, Value, json};

/// The table, or one upstream of it.
///
/// It reads, and changes nothing: the counts of dead workers stand until the next tick takes them back.
#[derive(Debug)]
pub struct TableAnswer<'a> {
    table: &'a Table,
    name: Option<String>,
    /// That of this process, which no lock shows to itself.
    slot: Option<u32>,
    numbers: Option<Numbered<'a>>,
    doc: Doc,
    upstreams: Walk<'a>,
    routes: Walk<'a>,
    part: Part,
}

/// The part that comes next.
#[derive(Debug)]
enum Part {
    Head,
    Upstreams,
    Peers(Box<Upstream>),
    Routes,
    Tail,
}

/// An upstream whose peers are being written.
#[derive(Debug)]
struct Upstream {
    copied: Copied,
    checks: PeerChecks,
    next: u32,
}

impl<'a> TableAnswer<'a> {
    /// The whole table, or the upstream called `name` alone. `numbers`: each upstream and peer has its totals.
    ///
    /// # Errors
    ///
    /// - [`Code::NotFound`]: there is no upstream called `name`.
    /// - [`Code::Invalid`]: totals are asked for, and there are no statistics.
    /// - [`Code::Changing`], [`Code::Damaged`]: the table cannot be read.
    pub fn of(
        table: &'a Table,
        name: Option<&str>,
        slot: Option<u32>,
        numbers: bool,
        shape: Shape,
    ) -> Result<TableAnswer<'a>> {
        Ok(TableAnswer {
            table,
            name: name.map(str::to_owned),
            slot,
            numbers: numbers.then(|| Numbered::of(table, "status")).transpose()?,
            doc: Doc::new(shape),
            upstreams: match name {
                Some(name) => Walk::to(table, name)?,
                None => Walk::over(table, Kind::UPSTREAM, Order::Name)?,
            },
            routes: Walk::over(table, Kind::ROUTE, Order::Name)?,
            part: Part::Head,
        })
    }

    /// Writes the next part; `false`: the slice is over.
    fn write_part(&mut self, pace: &mut Pace, out: &mut Vec<u8>) -> Result<bool> {
        match &mut self.part {
            Part::Head => {
                let head = json!({
                    "version": env!("CARGO_PKG_VERSION"),
                    "region": region(self.table)?,
                    "workers": workers(self.table, self.slot)?,
                });
                self.doc.entries(out, &head);
                self.doc.object(out, UPSTREAMS.name);
                self.part = Part::Upstreams;
            }
            Part::Upstreams => match self.upstreams.upstream(pace)? {
                Step::Next(copied) => {
                    let upstream = self.begin_upstream(copied, out)?;
                    self.part = Part::Peers(Box::new(upstream));
                }
                Step::Pause => return Ok(false),
                Step::End => {
                    self.doc.close(out);
                    self.part = if self.name.is_none() { Part::Routes } else { Part::Tail };
                    if self.name.is_none() {
                        self.doc.object(out, ROUTES.name);
                    }
                }
            },
            Part::Peers(upstream) if upstream.next == upstream.copied.view.peers => {
                self.doc.close(out);
                self.doc.close(out);
                self.part = Part::Upstreams;
            }
            Part::Peers(upstream) => {
                if !pace.step() {
                    return Ok(false);
                }
                let Upstream { copied, checks, next } = &mut **upstream;
                let mut peer = copied.peer(*next)?;
                peer.check = checks.remove(next).map(Box::new);
                let state = peers::state(self.table, copied, *next, &peer)?;
                let stats = match &self.numbers {
                    Some(numbers) => {
                        // They are as much work again as three peers are.
                        pace.spend(3);
                        Some(numbers.of_peer(copied, *next)?)
                    }
                    None => None,
                };
                self.doc.element(out, &PeerObject(&peer, &Extended { table: self.table, state, stats }));
                *next += 1;
            }
            Part::Routes => match self.routes.name(pace)? {
                Step::Next(host) => write_route(self.table, &mut self.doc, &host, out)?,
                Step::Pause => return Ok(false),
                Step::End => {
                    self.doc.close(out);
                    self.part = Part::Tail;
                }
            },
            Part::Tail => {}
        }
        Ok(true)
    }

    fn begin_upstream(&mut self, copied: Copied, out: &mut Vec<u8>) -> Result<Upstream> {
        let (upstream, checks) = copied.upstream()?;
        self.doc.object(out, &upstream.name);
        self.doc.entries(out, &UpstreamFields(&upstream));
        let origin = if copied.view.flags.has(Flags::TOUCHED) { "runtime" } else { "file" };
        let mut more = Map::new();
        more.insert("generation".into(), copied.view.stamp.generation().into());
        more.insert(fields::ORIGIN.name.into(), origin.into());
        if let Some(numbers) = &self.numbers {
            more.insert(fields::STATS.name.into(), numbers.of_upstream(&copied)?.into());
        }
        self.doc.entries(out, &more);
        self.doc.list(out, fields::PEERS.name);
        Ok(Upstream { copied, checks, next: 0 })
    }
}

impl Sliced for TableAnswer<'_> {
    fn write(&mut self, pace: &mut Pace, out: &mut Vec<u8>) -> Result<bool> {
        self.doc.begin(out);
        while !matches!(self.part, Part::Tail) {
            if !self.write_part(pace, out)? {
                self.doc.pause(out);
                return Ok(true);
            }
        }
        // Read after the upstreams. So a peer that is deleted meanwhile is in both rather than in neither.
        self.doc.entry(out, "deleted", &deleted(self.table, self.name.as_deref())?);
        self.doc.entry(out, "changed", &self.upstreams.is_outdated()?);
        self.doc.end(out);
        Ok(false)
    }
}

/// All routes, by host, in the shape of the upstreams file.
#[derive(Debug)]
pub struct RoutesAnswer<'a> {
    table: &'a Table,
    doc: Doc,
    walk: Walk<'a>,
}

impl<'a> RoutesAnswer<'a> {
    /// All routes.
    ///
    /// # Errors
    ///
    /// [`Code::Damaged`]: the table cannot be read.
    pub fn of(table: &'a Table, shape: Shape) -> Result<RoutesAnswer<'a>> {
        Ok(RoutesAnswer { table, doc: Doc::new(shape), walk: Walk::over(table, Kind::ROUTE, Order::Name)? })
    }
}

impl Sliced for RoutesAnswer<'_> {
    fn write(&mut self, pace: &mut Pace, out: &mut Vec<u8>) -> Result<bool> {
        self.doc.begin(out);
        loop {
            match self.walk.name(pace)? {
                Step::Next(host) => write_route(self.table, &mut self.doc, &host, out)?,
                Step::Pause => {
                    self.doc.pause(out);
                    return Ok(true);
                }
                Step::End => {
                    self.doc.end(out);
                    return Ok(false);
                }
            }
        }
    }
}

/// Writes the route of this host, unless it is gone by now.
fn write_route(table: &Table, doc: &mut Doc, host: &str, out: &mut Vec<u8>) -> Result<()> {
    let stored = match table.stored_route(host) {
        Err(error) if error.code == Code::NotFound => return Ok(()),
        stored => stored?,
    };
    let origin = if stored.flags.has(Flags::TOUCHED) { "runtime" } else { "file" };
    doc.entry(out, host, &RouteObject(&stored.route, origin));
    Ok(())
}

/// Peers that are no more and have connections open; those of the upstream called `name` alone.
fn deleted(table: &Table, name: Option<&str>) -> Result<Value> {
    let Some(cells) = table.region().cells() else { return Ok(json!([])) };
    let mut all = Ledger::of(cells).all()?;
    all.retain(|peer| name.is_none_or(|name| peer.upstream == name));
    let shown = |peer: &Deleted| json!({"upstream": peer.upstream, "server": peer.server, "conns": peer.conns});
    Ok(all.iter().map(shown).collect())
}

fn region(table: &Table) -> Result<Value> {
    let region = table.region();
    let (mem, geometry) = (region.mem(), region.geometry());
    let used = mem.load(state::USED)?.saturating_mul(GRANULE as u64);
    Ok(json!({
        "path": region.path().to_string_lossy(),
        "layout": LAYOUT,
        "size": geometry.size,
        "used": used,
        "free": geometry.heap_bytes().saturating_sub(used),
        "records": mem.load(state::RECORDS)?,
        "max_records": geometry.records,
        "repairs": mem.load(state::REPAIRS)?,
        "lost": region.lost().is_some(),
    }))
}

fn workers(table: &Table, slot: Option<u32>) -> Result<Value> {
    let workers = table.region().workers(slot)?;
    Ok(workers
        .iter()
        .map(|worker| {
            let pid = match worker.holder {
                Holder::Pid(pid) => Value::from(pid),
                Holder::Foreign | Holder::Nameless => Value::Null,
            };
            json!({"slot": worker.slot, "pid": pid, "since": worker.since})
        })
        .collect())
}
