//! The texts of ngx_http_dyups_module, that of the routes, and the blocks that POST takes back: a line for each name or peer.

use super::slices::Sliced;
use super::walk::{Order, Step, Walk};
use crate::config::{dyups, nginx};
use crate::error::{Code, Result};
use crate::pace::Pace;
use crate::table::copy::Copied;
use crate::table::options::PeerChecks;
use crate::table::snapshot::Kind;
use crate::table::store::Table;
use crate::upstream::Peer;

/// The text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text<'a> {
    /// The names of all upstreams, in the order in which they were made.
    List,
    /// All upstreams with their peers, in the same order.
    Detail,
    /// The peers of one upstream.
    Servers(&'a str),
    /// The inside of nginx's block of one upstream, with all settings. Without peers there are no lines, since nginx takes no block
    /// without servers.
    Block(&'a str),
    /// All routes, by host.
    Routes,
}

/// A text that is written in slices.
#[derive(Debug)]
pub struct TextAnswer<'a> {
    table: &'a Table,
    walk: Walk<'a>,
    lines: Lines,
    /// The upstream whose lines are written.
    upstream: Option<Begun>,
}

/// An upstream whose lines are written.
#[derive(Debug)]
struct Begun {
    copied: Copied,
    checks: PeerChecks,
    /// The next peer.
    next: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lines {
    Names,
    Detail,
    Servers,
    Block,
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
            Text::Block(name) => (Walk::to(table, name)?, Lines::Block),
            Text::Routes => (Walk::over(table, Kind::ROUTE, Order::Name)?, Lines::Routes),
        };
        Ok(TextAnswer { table, walk, lines, upstream: None })
    }

    /// Writes what comes next; `None`: the slice is over. `Some(false)`: it was the last.
    fn next(&mut self, pace: &mut Pace, text: &mut String) -> Result<Option<bool>> {
        if let Some(Begun { copied, checks, next }) = &mut self.upstream {
            if *next == copied.view.peers {
                text.push_str(if self.lines == Lines::Detail { "\n" } else { "" });
                self.upstream = None;
            } else if !pace.step() {
                return Ok(None);
            } else {
                let mut peer = copied.peer(*next)?;
                peer.check = checks.remove(next).map(Box::new);
                self.lines.of_peer()(text, &peer);
                *next += 1;
            }
            return Ok(Some(true));
        }
        if matches!(self.lines, Lines::Names | Lines::Routes) {
            return self.next_name(pace, text);
        }
        Ok(match self.walk.upstream(pace)? {
            Step::Next(copied) => {
                let (upstream, checks) = copied.upstream()?;
                match self.lines {
                    Lines::Detail => dyups::name(text, &upstream.name),
                    Lines::Block if copied.view.peers > 0 => nginx::settings(text, &upstream),
                    _ => {}
                }
                self.upstream = Some(Begun { copied, checks, next: 0 });
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

impl Lines {
    fn of_peer(self) -> fn(&mut String, &Peer) {
        match self {
            Lines::Detail => dyups::detail,
            Lines::Block => nginx::server,
            _ => dyups::server,
        }
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
