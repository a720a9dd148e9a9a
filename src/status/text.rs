//! The texts of ngx_http_dyups_module and that of the routes, a line for each name or peer.

use super::slices::Sliced;
use super::walk::{Order, Step, Walk};
use crate::config::dyups;
use crate::error::{Code, Result};
use crate::pace::Pace;
use crate::table::copy::Copied;
use crate::table::snapshot::Kind;
use crate::table::store::Table;

/// The text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text<'a> {
    /// The names of all upstreams, in the order in which they were made.
    List,
    /// All upstreams with their peers, in the same order.
    Detail,
    /// The peers of one upstream.
    Servers(&'a str),
    /// All routes, by host.
    Routes,
}

/// A text that is written in slices.
#[derive(Debug)]
pub struct TextAnswer<'a> {
    table: &'a Table,
    walk: Walk<'a>,
    lines: Lines,
    /// The upstream whose lines are written, and the next peer.
    upstream: Option<(Copied, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lines {
    Names,
    Detail,
    Servers,
    Routes,
}

impl<'a> TextAnswer<'a> {
    /// The text.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`]: there is no such upstream. [`Code::Changing`], [`Code::Damaged`]: the table cannot be read.
    pub fn of(table: &'a Table, text: Text<'_>) -> Result<Self> {
        let (walk, lines) = match text {
            Text::List => (Walk::over(table, Kind::UPSTREAM, Order::Made)?, Lines::Names),
            Text::Detail => (Walk::over(table, Kind::UPSTREAM, Order::Made)?, Lines::Detail),
            Text::Servers(name) => (Walk::to(table, name)?, Lines::Servers),
            Text::Routes => (Walk::over(table, Kind::ROUTE, Order::Name)?, Lines::Routes),
        };
        Ok(TextAnswer { table, walk, lines, upstream: None })
    }

    /// Writes what comes next; `None`: the slice is over. `Some(false)`: it was the last.
    fn next(&mut self, pace: &mut Pace, text: &mut String) -> Result<Option<bool>> {
        if let Some((copied, index)) = &mut self.upstream {
            if *index == copied.view.peers {
                text.push_str(if self.lines == Lines::Detail { "\n" } else { "" });
                self.upstream = None;
            } else if !pace.step() {
                return Ok(None);
            } else {
                let line = if self.lines == Lines::Detail { dyups::detail } else { dyups::server };
                line(text, &copied.peer(*index)?);
                *index += 1;
            }
            return Ok(Some(true));
        }
        if matches!(self.lines, Lines::Names | Lines::Routes) {
            return self.next_name(pace, text);
        }
        Ok(match self.walk.upstream(pace)? {
            Step::Next(copied) => {
                if self.lines == Lines::Detail {
                    dyups::name(text, &copied.upstream()?.0.name);
                }
                self.upstream = Some((copied, 0));
                Some(true)
            }
            Step::Pause => None,
            Step::End => Some(false),
        })
    }

    fn next_name(&mut self, pace: &mut Pace, text: &mut String) -> Result<Option<bool>> {
        match self.walk.name(pace)? {
            Step::Next(name) if self.lines == Lines::Names => dyups::name(text, &name),
            Step::Next(host) => match self.table.route(&host) {
                // It was deleted since its host was learned.
                Err(error) if error.code == Code::NotFound => {}
                route => dyups::route(text, &route?),
            },
            Step::Pause => return Ok(None),
            Step::End => return Ok(Some(false)),
        }
        Ok(Some(true))
    }
}

impl Sliced for TextAnswer<'_> {
    fn write(&mut self, pace: &mut Pace, out: &mut Vec<u8>) -> Result<bool> {
        let mut text = String::new();
        let more = loop {
            match self.next(pace, &mut text)? {
                Some(true) => {}
                Some(false) => break false,
                None => break true,
            }
        };
        out.extend_from_slice(text.as_bytes());
        Ok(more)
    }
}
