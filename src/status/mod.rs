//! The JSON of `status()` and `GET /status`: the shape of the upstreams file, with read-only fields around it.

pub mod metrics;
pub mod peers;
pub mod report;

use crate::config::json::{self, More};
use crate::config::route::RouteObject;
use crate::error::Result;
use crate::shm::cells::deleted::{Deleted, Ledger};
use crate::shm::layout::{LAYOUT, state};
use crate::shm::lock::Holder;
use crate::shm::{GRANULE, Memory};
use crate::table::routes::StoredRoute;
use crate::table::snapshot::Flags;
use crate::table::store::{Stored, Table};
use crate::upstream::fields;
use peers::PeerState;
use serde::ser::SerializeMap;
use serde_json::{Value, json};

/// The whole table, or the upstream called `name` alone, as JSON. Loading it back gives the same table. `slot`: that of this
/// process, which no lock shows to itself.
///
/// It reads, and changes nothing: the counts of dead workers stand until the next tick takes them back.
///
/// # Errors
///
/// - [`crate::error::Code::NotFound`]: there is no upstream called `name`.
/// - [`crate::error::Code::Changing`], [`crate::error::Code::Damaged`]: the table or its cells cannot be read.
/// - [`crate::error::Code::System`]: the operating system does not say which workers live.
pub fn json(table: &Table, name: Option<&str>, slot: Option<u32>) -> Result<Vec<u8>> {
    let upstreams = match name {
        Some(name) => vec![table.upstream(name)?],
        None => table.upstreams()?,
    };
    let head =
        json!({"version": env!("CARGO_PKG_VERSION"), "region": region(table)?, "workers": workers(table, slot)?});
    let mut out = head.to_string().into_bytes();
    out.pop();
    out.extend_from_slice(b",\"upstreams\":{");
    for (i, stored) in upstreams.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(Value::from(stored.upstream.name.as_str()).to_string().as_bytes());
        out.push(b':');
        let shown = Shown { table, stored, states: peers::states(table, stored)? };
        json::write_upstream(&mut out, &stored.upstream, &shown);
    }
    out.push(b'}');
    if name.is_none() {
        out.extend_from_slice(b",\"routes\":");
        out.append(&mut routes(table)?);
    }
    // Read after the upstreams. So a peer that is deleted meanwhile is in both rather than in neither.
    out.extend_from_slice(b",\"deleted\":");
    out.extend_from_slice(deleted(table, name)?.to_string().as_bytes());
    out.push(b'}');
    Ok(out)
}

/// All routes, by host, in the shape of the upstreams file.
pub fn routes(table: &Table) -> Result<Vec<u8>> {
    let routes = table.routes()?;
    let entry = |stored: &StoredRoute| {
        let origin = if stored.flags.has(Flags::TOUCHED) { "runtime" } else { "file" };
        let host = Value::from(stored.route.host.as_str());
        format!("{host}:{}", serde_json::to_string(&RouteObject(&stored.route, origin)).expect("every key is a string"))
    };
    Ok(format!("{{{}}}", routes.iter().map(entry).collect::<Vec<_>>().join(",")).into_bytes())
}

/// Peers that are no more and have connections open; those of the upstream called `name` alone.
fn deleted(table: &Table, name: Option<&str>) -> Result<Value> {
    let Some(cells) = table.region().cells() else { return Ok(json!([])) };
    let mut all = Ledger::of(cells).all()?;
    all.retain(|peer| name.is_none_or(|name| peer.upstream == name));
    let shown = |peer: &Deleted| json!({"upstream": peer.upstream, "server": peer.server, "conns": peer.conns});
    Ok(all.iter().map(shown).collect())
}

/// An upstream with its read-only fields.
struct Shown<'a> {
    table: &'a Table,
    stored: &'a Stored,
    states: Vec<PeerState>,
}

impl More for Shown<'_> {
    fn of_upstream<M: SerializeMap>(&self, map: &mut M) -> std::result::Result<(), M::Error> {
        let origin = if self.stored.flags.has(Flags::TOUCHED) { "runtime" } else { "file" };
        map.serialize_entry("generation", &self.stored.generation)?;
        map.serialize_entry("origin", origin)
    }

    fn of_peer<M: SerializeMap>(&self, index: usize, map: &mut M) -> std::result::Result<(), M::Error> {
        let Some(state) = self.states.get(index) else { return Ok(()) };
        map.serialize_entry(fields::CONNS.name, &state.conns)?;
        map.serialize_entry(fields::FAILS.name, &state.fails)?;
        map.serialize_entry(fields::OUT.name, &state.out)?;
        map.serialize_entry(fields::STATE.name, state.state.name())?;
        if let Some(verdict) = state.verdict {
            map.serialize_entry(fields::PROBES.name, &verdict.results())?;
            map.serialize_entry(fields::STREAK.name, &verdict.streak())?;
        }
        if let Some(event) = state.event(self.table) {
            map.serialize_entry(fields::SINCE.name, &(event.time / 1000))?;
            map.serialize_entry(fields::CAUSE.name, &event.text)?;
        }
        Ok(())
    }
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
