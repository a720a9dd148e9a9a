//! A case: any bytes name a valid region to begin with, and the steps that then change it.

use super::names::{HOSTS, names};
use super::places::{Place, Spoil, Value};
use super::routes::{RouteChange, shaped_route};
use super::starts::{STARTS, STARTS_WITH_ROUTES};
use crate::support::{address, model::Op, peer};
use dyups::table::ops::Absent;
use dyups::upstream::{Address, Check, HashId, Method, Peer, PeerPatch, Status, Upstream};
use std::fmt::{self, Debug, Formatter};
use std::ops::RangeInclusive;

/// Steps of a case at most: a longer one finds nothing that two short ones do not.
const MOST_STEPS: usize = 40;

#[derive(Debug)]
pub struct Case {
    /// Which of the regions of [`super::starts`], those with routes behind the others.
    pub start: usize,
    pub steps: Vec<Step>,
}

#[derive(Debug)]
pub enum Step {
    /// The other process stores a word.
    Spoil(Spoil),
    /// The other process makes a checksum right again.
    Forge(Forgery),
    Do(Act),
    /// The other process stores a word before this process's `access`th access to the region.
    Amid {
        access: u64,
        spoil: Spoil,
        act: Act,
    },
}

/// Which checksum is made right.
#[derive(Clone, Copy, Debug)]
pub enum Forgery {
    /// That of the region's header.
    Region,
    /// Those of the snapshot that a record leads to, and of its rings.
    Snapshot(u8),
}

/// A step of this process.
pub enum Act {
    Change(Box<Op>),
    Find(String, How),
    /// By `get`, `GET /upstream/NAME` and `status`.
    Read(String),
    Route(RouteChange),
    /// Where a host leads, with a key or without.
    Lead(String, Option<u8>),
    /// At all routes: by `routes`, `GET /routes`, and as a deletion and a start of nginx look at them.
    LookAtRoutes,
    Look(Look),
    Repair,
    /// As the next start of nginx does.
    Attach,
}

impl Debug for Act {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Act::Change(op) => Brief(op).fmt(f),
            Act::Find(name, how) => write!(f, "find {name} {how:?}"),
            Act::Read(name) => write!(f, "read {name}"),
            Act::Route(change) => change.fmt(f),
            Act::Lead(host, key) => write!(f, "lead {host} by {key:?}"),
            Act::LookAtRoutes => f.write_str("look at the routes"),
            Act::Look(look) => write!(f, "look at {look:?}"),
            Act::Repair => f.write_str("repair"),
            Act::Attach => f.write_str("attach"),
        }
    }
}

/// A change as one line.
pub struct Brief<'a>(pub &'a Op);

impl Debug for Brief<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let brief = |upstream: &Upstream| {
            let method = upstream.method.map_or("", Method::name);
            format!("{} ({} {} peers)", upstream.name, method, upstream.peers.len())
        };
        match self.0 {
            Op::Set(upstream) => write!(f, "set {}", brief(upstream)),
            Op::Put(name, patch, absent) => write!(f, "put {} into {name}, {absent:?}", patch.address.text()),
            Op::DeletePeer(name, address) => write!(f, "delete {} from {name}", address.text()),
            Op::Delete(name, force) => write!(f, "delete {name}{}", if *force { " by force" } else { "" }),
            Op::Ring(name) => write!(f, "build the ring of {name}"),
            Op::Check(name, options) => write!(f, "check {name} by {options}"),
            Op::Load(files, overwrite) => {
                let files: Vec<String> = files.iter().map(brief).collect();
                write!(f, "load {}{}", files.join(", "), if *overwrite { " over all" } else { "" })
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub enum How {
    Rr,
    Chash(u8),
    /// As Lua does.
    Cached,
    /// Again and again, until all were tried; with a key, or none.
    Tried(Option<u8>),
}

/// At the whole table.
#[derive(Clone, Copy, Debug)]
pub enum Look {
    All,
    Names,
    Status,
    Detail,
    Workers,
    /// As a worker does that probes.
    Probes,
}

/// Bytes that are read from the front.
struct Bytes<'a> {
    bytes: &'a [u8],
    /// Half of the acts are about routes.
    routes: bool,
}

/// The first bytes of cases about routes. No case that was found before there were routes begins with one of them.
const ABOUT_ROUTES: RangeInclusive<u8> = 136..=143;

impl Case {
    /// The case in `bytes`; an incomplete step at the end is dropped.
    pub fn read(bytes: &[u8]) -> Case {
        let mut bytes = Bytes { bytes, routes: false };
        let first = bytes.byte().unwrap_or(0);
        bytes.routes = ABOUT_ROUTES.contains(&first);
        let start = match bytes.routes {
            true => STARTS.len() + usize::from(first - ABOUT_ROUTES.start()) % STARTS_WITH_ROUTES.len(),
            false => usize::from(first) % STARTS.len(),
        };
        Case { start, steps: std::iter::from_fn(|| bytes.step()).take(MOST_STEPS).collect() }
    }
}

impl Bytes<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(first)
    }

    fn half(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes([self.byte()?, self.byte()?]))
    }

    fn word(&mut self) -> Option<u64> {
        let mut bytes = [0; 8];
        for byte in &mut bytes {
            *byte = self.byte()?;
        }
        Some(u64::from_le_bytes(bytes))
    }

    fn step(&mut self) -> Option<Step> {
        Some(match self.byte()? % 16 {
            0..=4 => Step::Spoil(self.spoil()?),
            5 => Step::Forge(Forgery::Region),
            6 => Step::Forge(Forgery::Snapshot(self.byte()?)),
            7 | 8 => Step::Amid { access: u64::from(self.half()? % 4096) + 1, spoil: self.spoil()?, act: self.act()? },
            _ => Step::Do(self.act()?),
        })
    }

    fn spoil(&mut self) -> Option<Spoil> {
        Some(Spoil { place: self.place()?, value: self.value()? })
    }

    fn place(&mut self) -> Option<Place> {
        Some(match self.byte()? % 12 {
            0 => Place::Fixed(self.byte()?),
            1 => Place::State(self.byte()?),
            2 => Place::Slot(self.half()?),
            3 => Place::Bucket(self.byte()?),
            4 => Place::RecordBits(self.byte()?),
            5 | 6 => Place::Record(self.byte()?, self.byte()?),
            7 => Place::GranuleBits(self.byte()?),
            8 | 9 => Place::Block(self.byte()?, self.half()?),
            10 => Place::Ring(self.byte()?, self.half()?),
            _ => Place::Any(self.half()?),
        })
    }

    fn value(&mut self) -> Option<Value> {
        Some(match self.byte()? % 12 {
            0 => Value::Is(self.word()?),
            1 => Value::Flip(self.byte()?),
            2 => Value::Byte(self.byte()?, self.byte()?),
            3 => Value::Small(self.byte()?),
            4 => Value::Add(self.byte()? as i8),
            5 => Value::CopyOf(self.place()?),
            6 => Value::Link(self.byte()?),
            7 => Value::BlockOf(self.byte()?),
            8 => Value::LastGeneration,
            9 => Value::Low(self.byte()?),
            10 => Value::High(self.byte()?),
            _ => Value::AsInTheBeginning,
        })
    }

    fn act(&mut self) -> Option<Act> {
        let byte = self.byte()?;
        if self.routes && byte >= 128 {
            return self.act_on_routes(byte);
        }
        Some(match byte % 16 {
            0..=5 => Act::Change(Box::new(self.op()?)),
            6..=9 => Act::Find(self.name()?, self.how()?),
            10 => Act::Read(self.name()?),
            11 | 12 => Act::Look(self.look()?),
            13 | 14 => Act::Repair,
            _ => Act::Attach,
        })
    }

    fn act_on_routes(&mut self, byte: u8) -> Option<Act> {
        let host = |byte: u8| HOSTS[usize::from(byte) % HOSTS.len()].to_owned();
        Some(match byte % 8 {
            0..=2 => Act::Route(RouteChange::Set(shaped_route(self.byte()?, self.byte()?, self.byte()?))),
            3 => Act::Route(RouteChange::Delete(host(self.byte()?))),
            4 => Act::LookAtRoutes,
            5 => Act::Lead(host(self.byte()?), None),
            _ => Act::Lead(host(self.byte()?), Some(self.byte()?)),
        })
    }

    fn op(&mut self) -> Option<Op> {
        Some(match self.byte()? % 12 {
            0..=2 => Op::Set(self.upstream()?),
            3..=5 => Op::Put(self.name()?, self.patch()?, Absent::Make),
            6 => Op::Put(self.name()?, self.patch()?, Absent::Refuse),
            7 | 8 => Op::DeletePeer(self.name()?, self.address()?),
            9 => Op::Delete(self.name()?, self.byte()? % 4 > 0),
            10 => Op::Ring(self.name()?),
            _ => self.load()?,
        })
    }

    fn load(&mut self) -> Option<Op> {
        let head = self.byte()?;
        let mut files: Vec<Upstream> = Vec::new();
        for _ in 0..head % 4 {
            let upstream = self.upstream()?;
            if files.iter().all(|file| file.name != upstream.name) {
                files.push(upstream);
            }
        }
        Some(Op::Load(files, head >= 128))
    }

    fn how(&mut self) -> Option<How> {
        let key = self.byte()?;
        Some(match self.byte()? % 5 {
            0 => How::Rr,
            1 => How::Chash(key),
            2 => How::Cached,
            3 => How::Tried(None),
            _ => How::Tried(Some(key)),
        })
    }

    fn look(&mut self) -> Option<Look> {
        let all = [Look::All, Look::Names, Look::Status, Look::Detail, Look::Workers, Look::Probes];
        Some(all[usize::from(self.byte()?) % all.len()])
    }

    fn name(&mut self) -> Option<String> {
        let names = names();
        Some(names[usize::from(self.byte()?) % names.len()].clone())
    }

    fn address(&mut self) -> Option<Address> {
        Some(numbered(self.byte()?.into()))
    }

    fn patch(&mut self) -> Option<PeerPatch> {
        let (address, bits) = (self.address()?, self.byte()?);
        let statuses = [None, Some(Status::Up), Some(Status::Down), Some(Status::Drain)];
        Some(PeerPatch {
            weight: [None, Some(0), Some(5), Some(60_000)][usize::from(bits % 4)],
            status: statuses[usize::from(bits / 4 % 4)],
            backup: [None, Some(false), Some(true), None][usize::from(bits / 16 % 4)],
            max_fails: (bits >= 64).then_some(bits.into()),
            ..PeerPatch::new(address)
        })
    }

    fn upstream(&mut self) -> Option<Upstream> {
        Some(shaped(&self.name()?, self.byte()?, self.byte()?))
    }
}

/// One of few addresses, of all kinds.
fn numbered(number: u16) -> Address {
    let host = number / 8 + 1;
    address(&match number % 8 {
        0..=2 => format!("10.0.0.{host}:80"),
        3 => format!("10.0.0.{host}"),
        4 => format!("[2001:db8::{host:x}]:8080"),
        5 => format!("[2001:db8:1111:2222:3333:4444:5555:{host:x}]"),
        6 => format!("unix:/run/{host}.sock"),
        _ => format!("unix:/{}/{host:03}", "x".repeat(102)),
    })
}

/// An upstream as two bytes want it.
pub fn shaped(name: &str, shape: u8, size: u8) -> Upstream {
    let count = [0, 1, 2, 3, 5, 9, 20, 40][usize::from(size % 8)];
    let one = |i: u16| {
        // Those of a kind, or all kinds.
        let number = if size < 128 { i * 8 } else { i * 9 };
        let weight = [1, i % 5, if i == 0 { 5 } else { 1 }, if i == 0 { 97 } else { i % 3 }];
        Peer {
            address: numbered(number),
            status: if shape & 64 != 0 && i % 3 == 1 { Status::Down } else { Status::Up },
            backup: shape & 128 != 0 && i % 3 == 2,
            ..peer("10.0.0.1", weight[usize::from(shape / 16 % 4)])
        }
    };
    Upstream {
        name: name.to_owned(),
        method: [None, Some(Method::Rr), Some(Method::Chash), Some(Method::Chash)][usize::from(shape % 4)],
        hash_id: if shape & 8 == 0 { HashId::Nginx } else { HashId::HostPort },
        peers: (0..count).map(one).collect(),
        check: (shape & 3 == 2).then(Check::default),
        own_check: true,
        foreign: None,
    }
}
