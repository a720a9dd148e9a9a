//! The JSON of `report()`: the numbers of an upstream's tries, and of each of its peers.

use super::doc::{Doc, Shape};
use super::numbers::{Numbered, add_of_peer, numbers, numbers_of_upstream};
use super::slices::{self, Sliced};
use super::walk::{Step, Walk};
use crate::config::report::{SINCE, Window};
use crate::error::{Code, Error, Result};
use crate::pace::Pace;
use crate::quote::quote;
use crate::stats::totals::Totals;
use crate::table::copy::Copied;
use crate::table::store::Table;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::ops::Range;

/// The report of an upstream, or of one of its peers, in one piece.
///
/// # Errors
///
/// As [`ReportAnswer::of`].
pub fn json(table: &Table, name: &str, server: Option<&str>, window: &Window) -> Result<Vec<u8>> {
    slices::whole(ReportAnswer::of(table, name, server, window.clone(), Shape::Text)?)
}

/// Bytes of marks, after which another text begins.
const LONG_MARK: usize = 16 << 10;

/// The report of an upstream, or of one of its peers.
#[derive(Debug)]
pub struct ReportAnswer<'a> {
    numbers: Numbered<'a>,
    server: Option<String>,
    window: Window,
    marks: Marks,
    doc: Doc,
    walk: Walk<'a>,
    part: Part,
    /// The totals of this report, for a later one: see [`Marks`].
    mark: Vec<String>,
}

/// The part that comes next.
#[derive(Debug)]
enum Part {
    /// The mark of the earlier report is read.
    Marks,
    Copy,
    /// The one peer that is asked for is looked for from this index on.
    Search(Copied, u32),
    Peers(Copied, u32),
    Mark(usize),
    End,
}

impl<'a> ReportAnswer<'a> {
    /// The report.
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
    pub fn of(table: &'a Table, name: &str, server: Option<&str>, window: Window, shape: Shape) -> Result<Self> {
        let numbers = Numbered::of(table, "report")?;
        if matches!(window, Window::Seconds(_)) && server.is_some() {
            return Err(Error::invalid("options.seconds: of one peer: allowed: of an upstream"));
        }
        Ok(ReportAnswer {
            mark: vec![format!("{:x}", numbers.now)],
            numbers,
            server: server.map(str::to_owned),
            marks: if let Window::Since(mark) = &window { Marks::of(mark)? } else { Marks::default() },
            window,
            doc: Doc::new(shape),
            walk: Walk::to(table, name)?,
            part: Part::Marks,
        })
    }

    /// Writes the next part; `false`: the slice is over.
    fn write_part(&mut self, pace: &mut Pace, out: &mut Vec<u8>) -> Result<bool> {
        match std::mem::replace(&mut self.part, Part::End) {
            Part::Marks => {
                let goes_on = pace.step();
                self.part = if goes_on && !self.marks.read_on()? { Part::Copy } else { Part::Marks };
                return Ok(goes_on);
            }
            Part::Copy => match self.walk.upstream(pace)? {
                Step::Next(copied) => self.part = self.begin(copied, out)?,
                Step::Pause => {
                    self.part = Part::Copy;
                    return Ok(false);
                }
                Step::End => return Err(Error::new(Code::NotFound, "the upstream was deleted meanwhile")),
            },
            Part::Search(copied, index) => {
                let is_it = index < copied.view.peers && Some(copied.peer(index)?.address.server()) == self.server();
                if is_it {
                    let peer = self.peer(&copied, index)?;
                    self.doc.entries(out, &peer);
                    self.part = Part::Mark(0);
                } else if index >= copied.view.peers {
                    let server = quote(self.server().unwrap_or_default().as_bytes());
                    return Err(Error::new(Code::NotFound, format!("peer {server}: not found")));
                } else {
                    self.part = Part::Search(copied, index + 1);
                    return Ok(pace.step());
                }
            }
            Part::Peers(copied, index) if index == copied.view.peers => {
                self.doc.close(out);
                self.part = Part::Mark(0);
            }
            Part::Peers(copied, index) => {
                if !pace.step() {
                    self.part = Part::Peers(copied, index);
                    return Ok(false);
                }
                let peer = self.peer(&copied, index)?;
                // Its numbers are as much work as three peers without numbers are.
                pace.spend(3);
                self.doc.element(out, &peer);
                self.part = Part::Peers(copied, index + 1);
            }
            Part::Mark(nth) => {
                if nth == 0 {
                    self.end(out)?;
                }
                if let Some(mark) = self.mark.get(nth) {
                    self.doc.element(out, mark);
                    self.part = Part::Mark(nth + 1);
                    return Ok(pace.step());
                }
                self.doc.close(out);
            }
            Part::End => {}
        }
        Ok(true)
    }

    fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// Writes the numbers of the upstream.
    fn begin(&mut self, copied: Copied, out: &mut Vec<u8>) -> Result<Part> {
        if let Window::Seconds(seconds) = self.window {
            self.doc.entries(out, &self.numbers.last(&copied, seconds)?);
            return Ok(Part::End);
        }
        let totals = self.numbers.totals(&copied)?;
        self.keep(0, &totals);
        if self.server.is_some() {
            return Ok(Part::Search(copied, 0));
        }
        self.doc.entries(out, &numbers_of_upstream(&self.marks.since(0, &totals)?));
        self.doc.list(out, "peers");
        Ok(Part::Peers(copied, 0))
    }

    fn peer(&mut self, copied: &Copied, index: u32) -> Result<Map<String, Value>> {
        let (who, totals) = self.numbers.totals_of_peer(copied, index)?.unwrap_or_default();
        self.keep(who, &totals);
        let since = self.marks.since(who, &totals)?;
        let mut peer = numbers(&since);
        add_of_peer(&mut peer, &since, self.numbers.now);
        peer.insert("server".into(), copied.peer(index)?.address.server().into());
        Ok(peer)
    }

    /// Keeps totals for the mark.
    fn keep(&mut self, of: u64, totals: &Totals) {
        if of != 0 && *totals == Totals::default() {
            return;
        }
        if self.mark.last().is_none_or(|mark| mark.len() > LONG_MARK) {
            self.mark.push(String::new());
        }
        if let Some(mark) = self.mark.last_mut() {
            *mark += &format!("{}{of:x}={}", if mark.is_empty() { "" } else { ";" }, totals.mark());
        }
    }

    /// Writes the fields behind the peers, and begins the mark.
    fn end(&mut self, out: &mut Vec<u8>) -> Result<()> {
        if let Some(time) = self.marks.time {
            self.doc.entry(out, "seconds", &(self.numbers.now.saturating_sub(time) as f64 / 1000.0));
        }
        self.doc.entry(out, "uncounted", &self.numbers.uncounted()?);
        self.doc.list(out, "mark");
        Ok(())
    }
}

impl Sliced for ReportAnswer<'_> {
    fn write(&mut self, pace: &mut Pace, out: &mut Vec<u8>) -> Result<bool> {
        self.doc.begin(out);
        while !matches!(self.part, Part::End) {
            if !self.write_part(pace, out)? {
                self.doc.pause(out);
                return Ok(true);
            }
        }
        self.doc.entry(out, "changed", &self.walk.is_outdated()?);
        self.doc.end(out);
        Ok(false)
    }
}

/// The totals of earlier reports, by peer; those of the upstream under 0.
///
/// A mark is a list of texts. Joined by `;` they are the time of the report, and for each peer `NUMBER=TOTALS`, in hexadecimal.
#[derive(Debug, Default)]
struct Marks {
    text: String,
    /// The first byte that is not read yet.
    next: usize,
    /// Milliseconds since the epoch.
    time: Option<u64>,
    /// Where the totals of each peer stand. A report reads them as it comes to the peer.
    of: HashMap<u64, Range<usize>>,
}

impl Marks {
    /// Those of a mark, of which only the time is read yet.
    fn of(mark: &str) -> Result<Marks> {
        let first = mark.split(';').next().unwrap_or_default();
        let time = u64::from_str_radix(first, 16).map_err(|_| no_mark(mark))?;
        Ok(Marks { text: mark.to_owned(), next: first.len() + 1, time: Some(time), of: HashMap::new() })
    }

    /// Reads on, for one peer; whether there was one.
    fn read_on(&mut self) -> Result<bool> {
        let Some(rest) = self.text.get(self.next..).filter(|rest| !rest.is_empty()) else { return Ok(false) };
        let one = rest.split(';').next().unwrap_or_default();
        let of = one.split_once('=').and_then(|(of, _)| Some((of.len() + 1, u64::from_str_radix(of, 16).ok()?)));
        let (begin, of) = of.ok_or_else(|| no_mark(&self.text))?;
        self.of.insert(of, self.next + begin..self.next + one.len());
        self.next += one.len() + 1;
        Ok(true)
    }

    fn since(&self, of: u64, now: &Totals) -> Result<Totals> {
        let Some(before) = self.of.get(&of) else { return Ok(now.clone()) };
        let before = &self.text[before.clone()];
        Ok(now.since(&Totals::from_mark(before).ok_or_else(|| no_mark(before))?))
    }
}

fn no_mark(text: &str) -> Error {
    Error::invalid(format!("options.since: {}: allowed: {}", quote(text.as_bytes()), SINCE.kind.allowed()))
}
