//! The JSON of `report()`: the numbers of an upstream's tries, and of each of its peers.

use crate::config::report::{SINCE, Window};
use crate::error::{Code, Error, Result};
use crate::quote::quote;
use crate::shm::sections::{Section, Sections};
use crate::shm::{Mem, clock};
use crate::stats::histogram::BUCKETS;
use crate::stats::place::Places;
use crate::stats::section::*;
use crate::stats::span::{self, Sums};
use crate::stats::totals::{Times, Totals, percentiles};
use crate::table::Record;
use crate::table::directory::Directory;
use crate::table::snapshot::View;
use crate::table::store::Table;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// The report of an upstream, or of one of its peers, as JSON.
///
/// # Arguments
///
/// - `server`: the peer; `None`: the upstream and all its peers
///
/// # Errors
///
/// - [`Code::NotFound`]: there is no such upstream, or no such peer.
/// - [`Code::Invalid`]: statistics are off; the mark is none; a window in seconds of one peer.
/// - [`Code::Changing`], [`Code::Damaged`]: the table or the statistics cannot be read.
pub fn json(table: &Table, name: &str, server: Option<&str>, window: &Window) -> Result<Vec<u8>> {
    let places = Places::of(table.region()).ok_or_else(off)?;
    let reading = Reading::of(table, name, places)?;
    let report = match (window, server) {
        (Window::Seconds(seconds), None) => reading.last(*seconds)?,
        (Window::Seconds(_), Some(_)) => {
            return Err(Error::invalid("options.seconds: of one peer: allowed: of an upstream"));
        }
        (Window::All, _) => reading.all(server, &Marks::default())?,
        (Window::Since(mark), _) => {
            let marks = Marks::read(mark).ok_or_else(|| {
                Error::invalid(format!("options.since: {}: allowed: {}", quote(mark.as_bytes()), SINCE.kind.allowed()))
            })?;
            reading.all(server, &marks)?
        }
    };
    Ok(report.to_string().into_bytes())
}

fn off() -> Error {
    Error::invalid("report: statistics are off: allowed: with statistics = true in setup, and room for their file")
}

/// The totals of earlier reports, by peer; those of the upstream under 0.
#[derive(Debug, Default)]
struct Marks {
    /// Milliseconds since the epoch.
    time: Option<u64>,
    of: HashMap<u64, Totals>,
}

impl Marks {
    fn read(text: &str) -> Option<Marks> {
        let mut parts = text.split(';');
        let time = u64::from_str_radix(parts.next()?, 16).ok()?;
        let one = |part: &str| {
            let (of, totals) = part.split_once('=')?;
            Some((u64::from_str_radix(of, 16).ok()?, Totals::from_mark(totals)?))
        };
        Some(Marks { time: Some(time), of: parts.map(one).collect::<Option<_>>()? })
    }

    fn since(&self, of: u64, now: &Totals) -> Totals {
        self.of.get(&of).map_or_else(|| now.clone(), |before| now.since(before))
    }
}

/// The sections of an upstream and its peers.
pub(super) struct Reading<'a> {
    sections: Sections<'a, Mem>,
    now: u64,
    upstream: Option<Section>,
    /// Each with its server, and a number that no other peer ever has.
    peers: Vec<(String, u64, Option<Section>)>,
}

impl<'a> Reading<'a> {
    pub(super) fn of(table: &'a Table, name: &str, places: Places<'a, Mem>) -> Result<Reading<'a>> {
        let (directory, region) = (Directory::new(table.region()), table.region());
        let missing = || Error::new(Code::NotFound, format!("upstream {}: not found", quote(name.as_bytes())));
        let (number, _) = directory.find(name.as_bytes())?.ok_or_else(missing)?;
        let (mem, cells) = (region.mem(), region.cells());
        let read = |view: &View| {
            let peer = |index| {
                let cell = view.cell(mem, index)?;
                let who = match cells {
                    Some(cells) if cell != 0 => cells.who(cell)?.number(),
                    _ => 0,
                };
                let section = if cell == 0 { None } else { places.find_peer(cell)? };
                Ok((view.address(mem, index)?.server().to_owned(), who, section))
            };
            let upstream = places.find_upstream(Record::numbered(region.geometry(), number), view.created)?;
            Ok((upstream, (0..view.peers).map(peer).collect::<std::result::Result<Vec<_>, _>>()?))
        };
        let (upstream, peers) = directory.look(number, read)?.ok_or_else(missing)?;
        Ok(Reading { sections: places.sections, now: clock::epoch_ms(), upstream, peers })
    }

    /// The totals of the upstream.
    pub(super) fn whole(&self) -> Result<Totals> {
        self.totals(self.upstream)
    }

    /// The totals of the peers that had traffic or probes, by server.
    pub(super) fn of_servers(&self) -> Result<HashMap<String, Totals>> {
        let counted = self.peers.iter().filter(|(_, _, section)| section.is_some());
        counted.map(|(server, _, section)| Ok((server.clone(), self.totals(*section)?))).collect()
    }

    fn totals(&self, section: Option<Section>) -> Result<Totals> {
        Ok(section.map(|section| Totals::read(&self.sections, section)).transpose()?.unwrap_or_default())
    }

    fn all(&self, server: Option<&str>, marks: &Marks) -> Result<Value> {
        let (mut shown, mut mark, mut found) = (Vec::new(), format!("{:x}", self.now), None);
        let whole = self.totals(self.upstream)?;
        mark += &format!(";0={}", whole.mark());
        for (its, who, section) in &self.peers {
            let totals = self.totals(*section)?;
            if totals != Totals::default() {
                mark += &format!(";{who:x}={}", totals.mark());
            }
            let since = marks.since(*who, &totals);
            let mut peer = numbers(&since);
            of_a_peer(&mut peer, &since, self.now);
            peer.insert("server".into(), its.as_str().into());
            if server == Some(its.as_str()) {
                found = Some(peer.clone());
            }
            shown.push(Value::Object(peer));
        }
        let mut report = match (server, found) {
            (None, _) => {
                let mut report = numbers(&marks.since(0, &whole));
                report.insert("peers".into(), shown.into());
                report
            }
            (Some(_), Some(peer)) => peer,
            (Some(server), None) => {
                return Err(Error::new(Code::NotFound, format!("peer {}: not found", quote(server.as_bytes()))));
            }
        };
        if let Some(time) = marks.time {
            report.insert("seconds".into(), (self.now.saturating_sub(time) as f64 / 1000.0).into());
        }
        report.insert("uncounted".into(), self.sections.uncounted()?.into());
        report.insert("mark".into(), mark.into());
        Ok(Value::Object(report))
    }

    /// The last seconds of the upstream.
    fn last(&self, seconds: u64) -> Result<Value> {
        let sums = match self.upstream {
            Some(section) => span::sums(&self.sections, section, self.now, seconds)?,
            None => Sums::default(),
        };
        let seconds = if seconds > 60 { seconds.next_multiple_of(60) } else { seconds };
        let mean = |nth: usize| sums.times[nth] as f64 / sums.counts[nth].max(1) as f64;
        let [up_to_2xx, of_3xx, of_4xx, of_5xx] = sums.classes;
        Ok(json!({
            "seconds": seconds,
            "requests": sums.requests,
            "rate": sums.requests as f64 / seconds as f64,
            "failed": sums.failed,
            "codes": {"2xx": up_to_2xx, "3xx": of_3xx, "4xx": of_4xx, "5xx": of_5xx},
            "header_time": {"count": sums.counts[0], "mean": mean(0)},
            "response_time": {"count": sums.counts[1], "mean": mean(1)},
        }))
    }
}

fn numbers(totals: &Totals) -> Map<String, Value> {
    let mut map = Map::new();
    for (name, word) in [
        ("requests", REQUESTS),
        ("failed", FAILED),
        ("timeouts", TIMEOUTS),
        ("refused", REFUSED),
        ("sent", SENT),
        ("received", RECEIVED),
    ] {
        map.insert(name.into(), totals.word(word).into());
    }
    let codes: Map<String, Value> = totals.codes().into_iter().map(|(code, count)| (code, count.into())).collect();
    map.insert("codes".into(), codes.into());
    map.insert("header_time".into(), times(totals.header_times()));
    map.insert("response_time".into(), times(totals.response_times()));
    let connect = totals.connect_times();
    map.insert(
        "connect_time".into(),
        json!({"count": connect.count, "mean": connect.mean(), "max": connect.max, "kept": totals.word(KEPT)}),
    );
    map
}

fn times((all, counts): (Times, [u64; BUCKETS])) -> Value {
    let mut map = Map::new();
    map.insert("count".into(), all.count.into());
    map.insert("mean".into(), all.mean().into());
    map.insert("max".into(), all.max.into());
    for (name, value) in percentiles(&counts) {
        map.insert(name.into(), value.unwrap_or_default().into());
    }
    map.into()
}

/// The numbers that only a peer has.
fn of_a_peer(map: &mut Map<String, Value>, totals: &Totals, now: u64) {
    let since = totals.word(DOWN_SINCE);
    let running = if since == 0 { 0 } else { now.saturating_sub(since) };
    map.insert("selected".into(), totals.word(SELECTED).into());
    map.insert("unavail".into(), totals.word(UNAVAIL).into());
    map.insert("unhealthy".into(), totals.word(UNHEALTHY).into());
    map.insert("downtime".into(), (totals.word(DOWNTIME) + running).into());
    map.insert("downstart".into(), since.into());
    map.insert("probes".into(), json!({"good": totals.word(PROBES_GOOD), "failed": totals.word(PROBES_FAILED)}));
}
