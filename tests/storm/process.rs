//! One process of a storm: it finds, adds and deletes until it is stopped or killed, and compares its findings with the board.

use super::board::{Board, Content, Count, Span};
use super::world::{Place, SHARED, WORLD};
use crate::support::{Random, SOON};
use dyups::balance::miss::Miss;
use dyups::balance::pick::{Ask, Handle, Picked};
use dyups::error::{Code, Error};
use dyups::table::ops::Absent;
use dyups::table::store::Table;
use dyups::upstream::{Peer, PeerPatch, Upstream};
use std::collections::BTreeMap;
use std::ops::Range;

pub struct Process<'a> {
    table: &'a Table,
    board: &'a Board,
    seat: usize,
    random: Random,
    /// By upstream: the handles that a worker keeps.
    finders: Vec<Finder>,
    own: Vec<usize>,
}

/// A handle, and the texts that it has given out by index, as dyups.lua keeps them.
struct Finder {
    handle: Handle,
    peers: i32,
    texts: BTreeMap<u32, String>,
}

impl<'a> Process<'a> {
    pub fn new(table: &'a Table, board: &'a Board, seat: usize, seed: u64) -> Self {
        let finder = |name: &String| Finder { handle: Handle::new(name.as_bytes()), peers: -1, texts: BTreeMap::new() };
        let finders = WORLD.names.iter().map(finder).collect();
        let own = (0..super::world::CELLS).filter(|&cell| WORLD.owner(cell) == seat).collect();
        Process { table, board, seat, random: Random(seed), finders, own }
    }

    pub fn run(mut self) {
        while !self.board.is_stopped() {
            match self.any(8) {
                0 => self.look(),
                1 => self.change(),
                _ => self.find(),
            }
        }
    }

    fn any(&mut self, count: usize) -> usize {
        self.random.below(count as u64) as usize
    }

    /// Calls `look`; the state of the upstream on the board before and after.
    fn around<T>(&mut self, upstream: usize, look: impl FnOnce(&mut Self) -> T) -> (T, Spans) {
        let (board, first) = (self.board, WORLD.cells(upstream));
        let before = board.cells(first.clone());
        let answer = look(self);
        let spans =
            before.into_iter().zip(board.cells(first.clone())).map(|(before, after)| Span(before, after)).collect();
        (answer, Spans { first, spans })
    }

    // ---- finding ----

    /// One pick, of any upstream by any method.
    fn find(&mut self) {
        let upstream = self.any(WORLD.names.len());
        let key = self.random.below(1000).to_string();
        let key = [None, Some(key.as_bytes())][self.any(2)];
        let (found, spans) = self.around(upstream, |this| this.finders[upstream].find(this.table, key));
        self.board.add(self.seat, Count::Finds);
        match found {
            Ok((index, text)) => match WORLD.place(&text) {
                Some(Place::Shared { cell }) if spans.has(cell) && spans.of(cell).may_exist() => {}
                Some(Place::Whole { cell, content, index: place })
                    if spans.has(cell) && place == index as usize && spans.of(cell).may_be(content) => {}
                _ => self.wrong(upstream, &format!("found peer {index}, {text}"), &spans),
            },
            Err(Miss::Changing) => self.board.add(self.seat, Count::Changing),
            Err(Miss::NoPeer) if WORLD.is_shared(upstream) && spans.may_be_empty() => self.absent(),
            Err(Miss::NotFound) if !WORLD.is_shared(upstream) && spans.may_be_empty() => self.absent(),
            Err(miss) => self.wrong(upstream, &format!("{miss:?}"), &spans),
        }
    }

    fn absent(&self) {
        self.board.add(self.seat, Count::Absent);
    }

    /// Reads an upstream as a whole.
    fn look(&mut self) {
        let upstream = self.any(WORLD.names.len());
        let (read, spans) = self.around(upstream, |this| this.table.upstream(&WORLD.names[upstream]));
        let stored = match read {
            Ok(stored) => stored.upstream,
            Err(error) if error.code == Code::Changing => return self.board.add(self.seat, Count::Changing),
            Err(error) if error.code == Code::NotFound && !WORLD.is_shared(upstream) && spans.may_be_empty() => {
                return self.absent();
            }
            Err(error) => self.wrong(upstream, &error.to_string(), &spans),
        };
        if !spans.allow(upstream, &stored) {
            self.wrong(upstream, &format!("read {stored:?}"), &spans);
        }
    }

    fn wrong(&self, upstream: usize, what: &str, spans: &Spans) -> ! {
        self.board.wrong(&format!("upstream {upstream}, {}: {what}: {spans:?}", WORLD.names[upstream]))
    }

    // ---- changing ----

    /// A change of a thing of its own, announced and acknowledged; now and then a ring.
    fn change(&mut self) {
        if self.any(20) == 0 {
            let upstream = self.any(SHARED);
            return match self.table.build_ring(&WORLD.names[upstream], SOON) {
                Err(error) if ![Code::Changing, Code::Full].contains(&error.code) => {
                    self.board.wrong(&error.to_string())
                }
                _ => {}
            };
        }
        let cell = self.own[self.random.below(self.own.len() as u64) as usize];
        let old = self.board.cell(cell).now;
        let shared = WORLD.is_shared(WORLD.upstream_of(cell));
        let new = match (old, self.any(2)) {
            (1.., 0) => 0,
            _ => 1 + self.any(WORLD.last_content(cell).into()) as Content,
        };
        if new == old {
            return;
        }
        self.board.announce(cell, new);
        let done = if shared { self.set_shared(cell, old, new) } else { self.set_whole(cell, new) };
        match done {
            Ok(()) => {
                self.board.settle(cell, new);
                self.board.add(self.seat, Count::Changes);
            }
            // Nothing was changed. Deleting needs no room.
            Err(error) if error.code == Code::Changing || error.code == Code::Full && new != 0 => {
                self.board.settle(cell, old);
                self.board.add(self.seat, Count::Refused);
            }
            Err(error) => self.board.wrong(&format!("thing {cell} from {old} to {new}: {error}")),
        }
    }

    fn set_shared(&self, cell: usize, old: Content, new: Content) -> Result<(), Error> {
        let (name, address) = (&WORLD.names[WORLD.upstream_of(cell)], &WORLD.shared[cell]);
        if new == 0 {
            return self.table.delete_peer(name, address, SOON);
        }
        let patch = PeerPatch { weight: Some(new.into()), ..PeerPatch::new(address.clone()) };
        self.table.put_peer(name, &patch, if old == 0 { Absent::Make } else { Absent::Refuse }, SOON)
    }

    fn set_whole(&self, cell: usize, new: Content) -> Result<(), Error> {
        match new {
            0 => self.table.delete_upstream(&WORLD.names[WORLD.upstream_of(cell)], true, SOON),
            _ => self.table.set_upstream(&WORLD.whole(cell, new), SOON),
        }
    }
}

impl Finder {
    /// Index and text of a pick: the text that was kept when the library says that it is still good.
    fn find(&mut self, table: &Table, key: Option<&[u8]>) -> Result<(u32, String), Miss> {
        let mut picked = Picked::default();
        let index = self.handle.pick(table, Ask { key, ..Ask::default() }, true, &mut picked)?;
        if picked.fresh == 1 {
            if picked.peers != self.peers {
                self.texts.clear();
                self.peers = picked.peers;
            }
            let text = String::from_utf8_lossy(&picked.text[..picked.len as usize]);
            self.texts.insert(index, text.into_owned());
        }
        Ok((index, self.texts.get(&index).cloned().unwrap_or_else(|| "never given out".into())))
    }
}

/// The board's states of all things of an upstream.
#[derive(Debug)]
pub struct Spans {
    first: Range<usize>,
    spans: Vec<Span>,
}

impl Spans {
    fn has(&self, cell: usize) -> bool {
        self.first.contains(&cell)
    }

    fn of(&self, cell: usize) -> Span {
        self.spans[cell - self.first.start]
    }

    pub fn may_be_empty(&self) -> bool {
        self.spans.iter().all(|span| span.may_be(0))
    }

    /// The board's states of an upstream while no process changes it.
    pub fn now(board: &Board, upstream: usize) -> Spans {
        let first = WORLD.cells(upstream);
        let spans = board.cells(first.clone()).into_iter().map(|cell| Span(cell, cell)).collect();
        Spans { first, spans }
    }

    /// Whether the upstream may have been read like this: each of its peers, and none but them.
    pub fn allow(&self, upstream: usize, read: &Upstream) -> bool {
        if !WORLD.is_shared(upstream) {
            let cell = self.first.start;
            let content = read.peers.first().map_or(0, |peer| WORLD.content(upstream, peer));
            return content > 0 && self.of(cell).may_be(content) && *read == *WORLD.whole(cell, content);
        }
        let weight = |cell: usize| {
            let is = |peer: &&Peer| peer.address == WORLD.shared[cell];
            read.peers.iter().find(is).map_or(0, |peer| WORLD.content(upstream, peer))
        };
        let known = self.first.clone().filter(|&cell| weight(cell) > 0).count();
        known == read.peers.len() && self.first.clone().all(|cell| self.of(cell).may_be(weight(cell)))
    }
}
