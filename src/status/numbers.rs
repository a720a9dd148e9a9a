//! The numbers of tries, as `report` and `status` show them.

use crate::error::{Error, Result};
use crate::shm::{Damaged, Mem, clock};
use crate::stats::histogram::BUCKETS;
use crate::stats::place::{Counted, Places};
use crate::stats::section::*;
use crate::stats::span::{self, Sums};
use crate::stats::totals::{Times, Totals, percentiles};
use crate::table::Record;
use crate::table::copy::Copied;
use crate::table::store::Table;
use serde_json::{Map, Value, json};

/// The sections of a table.
#[derive(Debug)]
pub struct Numbered<'a> {
    table: &'a Table,
    places: Places<'a, Mem>,
    /// Milliseconds since the epoch.
    pub now: u64,
}

impl<'a> Numbered<'a> {
    /// Those of a table, if there are statistics.
    pub fn find(table: &'a Table) -> Option<Self> {
        Places::of(table.region()).map(|places| Numbered { table, places, now: clock::epoch_ms() })
    }

    /// Those of a table, for `what`, which needs them.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Invalid`]: statistics are off.
    pub fn of(table: &'a Table, what: &str) -> Result<Self> {
        let allowed = "allowed: with statistics = true in setup, and room for their file";
        Numbered::find(table).ok_or_else(|| Error::invalid(format!("{what}: statistics are off: {allowed}")))
    }

    /// The totals of an upstream.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: its section lies outside of the file.
    pub fn totals(&self, copied: &Copied) -> Result<Totals, Damaged> {
        let counted = self.places.find_upstream(self.record(copied), copied.view.created)?;
        Ok(counted.map(|counted| self.read(counted)).transpose()?.unwrap_or_default())
    }

    /// The totals of a peer, and a number that no other peer ever has; `None`: it has had neither traffic nor probes.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: there is no such peer, or its section lies outside of the file.
    pub fn totals_of_peer(&self, copied: &Copied, index: u32) -> Result<Option<(u64, Totals)>, Damaged> {
        let Some((cell, who)) = copied.cell(self.table.region(), index)? else { return Ok(None) };
        let Some(counted) = self.places.find_peer(cell)? else { return Ok(None) };
        Ok(Some((who.number(), self.read(counted)?)))
    }

    /// The numbers of an upstream since the statistics began.
    ///
    /// # Errors
    ///
    /// As [`Numbered::totals`].
    pub fn of_upstream(&self, copied: &Copied) -> Result<Map<String, Value>, Damaged> {
        Ok(numbers_of_upstream(&self.totals(copied)?))
    }

    /// The numbers of a peer since the statistics began.
    ///
    /// # Errors
    ///
    /// As [`Numbered::totals_of_peer`].
    pub fn of_peer(&self, copied: &Copied, index: u32) -> Result<Map<String, Value>, Damaged> {
        let totals = self.totals_of_peer(copied, index)?.map(|(_, totals)| totals).unwrap_or_default();
        let mut numbers = numbers(&totals);
        add_of_peer(&mut numbers, &totals, self.now);
        Ok(numbers)
    }

    /// Tries of all upstreams for which there was no room.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: the file is too short.
    pub fn uncounted(&self) -> Result<u64, Damaged> {
        self.places.sections.uncounted()
    }

    /// The last seconds of an upstream.
    ///
    /// # Errors
    ///
    /// As [`Numbered::totals`].
    pub fn last(&self, copied: &Copied, seconds: u64) -> Result<Value, Damaged> {
        let sums = match self.places.find_upstream(self.record(copied), copied.view.created)? {
            Some(counted) => {
                let read = |section| span::sums(&self.places.sections, section, self.now, seconds);
                self.places.read(counted, read)?.unwrap_or_default()
            }
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

    /// Totals of a peer or an upstream that is gone by now are 0.
    fn read(&self, counted: Counted) -> Result<Totals, Damaged> {
        let read = |section| Totals::read(&self.places.sections, section);
        Ok(self.places.read(counted, read)?.unwrap_or_default())
    }

    fn record(&self, copied: &Copied) -> Record {
        Record::numbered(self.table.region().geometry(), copied.view.record)
    }
}

/// The numbers that peers and upstreams have.
pub fn numbers(totals: &Totals) -> Map<String, Value> {
    let mut map = Map::new();
    for (name, word) in [
        ("requests", REQUESTS),
        ("failed", FAILED),
        ("timeouts", TIMEOUTS),
        ("refused", REFUSED),
        ("retries", RETRIES),
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

/// The numbers of an upstream, with those that no peer has.
pub fn numbers_of_upstream(totals: &Totals) -> Map<String, Value> {
    let mut map = numbers(totals);
    map.insert("refused_retries".into(), totals.word(REFUSED_RETRIES).into());
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

/// Adds the numbers that only a peer has. `now`: milliseconds since the epoch.
pub fn add_of_peer(map: &mut Map<String, Value>, totals: &Totals, now: u64) {
    let since = totals.word(DOWN_SINCE);
    let running = if since == 0 { 0 } else { now.saturating_sub(since) };
    map.insert("selected".into(), totals.word(SELECTED).into());
    map.insert("unavail".into(), totals.word(UNAVAIL).into());
    map.insert("unhealthy".into(), totals.word(UNHEALTHY).into());
    map.insert("downtime".into(), (totals.word(DOWNTIME) + running).into());
    map.insert("downstart".into(), since.into());
    map.insert("probes".into(), json!({"good": totals.word(PROBES_GOOD), "failed": totals.word(PROBES_FAILED)}));
}
