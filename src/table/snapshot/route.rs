//! A version of a route, of the kind [`Kind::ROUTE`]: a head like that of an upstream without peers, its host as the name, and behind
//! that:
//!
//! ```text
//! word 0   number of targets : 32 | bytes of the key's name : 32                                    (low half first)
//!      1   the step of the turns among all targets, see order/turns.rs
//!      2   the targets, two words each:
//!          weight : 32 | bytes of the name : 8 | 0 : 8 | where it is, in words of the block : 16
//!          hash of the name, by order/rendezvous.rs
//!          the name of the variable that is the key, and the names of the targets, each padded to whole words
//! ```

use super::entries::{packed, unpack};
use super::head::{bit, word};
use super::{Flags, HEADER, Kind, Origin, View, joined};
use crate::order::{rendezvous, turns};
use crate::shm::{Damaged, Memory, WORD};
use crate::upstream::name::MAX_NAME_BYTES;
use crate::upstream::route::{MAX_KEY_BYTES, MAX_TARGETS};
use crate::upstream::{Route, Target};

/// Words before the targets, and of each.
const FIXED: usize = 2;
const TARGET: usize = 2;

/// Room for a name, in whole words.
pub type Name = [u8; NAME_BYTES];
const NAME_BYTES: usize = MAX_NAME_BYTES.next_multiple_of(WORD);

/// No name yet.
pub const NO_NAME: Name = [0; NAME_BYTES];

/// Lays out `route`. [`super::place`] completes the image when it has its record.
pub fn encode_route(route: &Route, flags: Flags, origin: Origin) -> Vec<u64> {
    let mut words = vec![0; HEADER];
    words.extend(packed(route.host.as_bytes()));
    let at = words.len();
    let key = route.key.as_deref().unwrap_or_default();
    words.push(joined(route.targets.len(), key.len()));
    words.push(turns::step(route.targets.iter().map(|target| u64::from(target.weight)).sum::<u64>().max(1)));
    words.resize(at + FIXED + TARGET * route.targets.len(), 0);
    words.extend(packed(key.as_bytes()));
    for (index, target) in route.targets.iter().enumerate() {
        let name = target.upstream.as_bytes();
        let place = at + FIXED + TARGET * index;
        words[place] = u64::from(target.weight) | (name.len() as u64) << 32 | (words.len() as u64) << 48;
        words[place + 1] = rendezvous::hash(name);
        words.extend(packed(name));
    }
    origin.set(&mut words);
    words[word::ORIGIN] |= u64::from(Kind::ROUTE.0) << 32;
    words[word::SIZES] = joined(words.len(), 0);
    words[word::IDENTITY] = (route.host.len() as u64) << 32 | u64::from(flags.0) << 56;
    words[word::PLACES] = (at as u64) << bit::PEERS_AT;
    words
}

/// The targets of a route, as a pick reads them.
#[derive(Clone, Copy, Debug)]
pub struct Targets {
    /// Their number.
    pub count: usize,
    /// The step of the turns among all of them.
    pub step: u64,
    key_len: usize,
    /// The first word, in the mapping.
    at: usize,
}

/// One of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// Its share.
    pub weight: u32,
    /// The hash of its name.
    pub hash: u64,
    len: usize,
    at: usize,
}

impl View {
    /// The targets of a route.
    pub fn targets(&self, mem: &impl Memory) -> Result<Targets, Damaged> {
        let at = self.stamp.word() + self.peers_at;
        let (count, key_len) = super::halves(mem.load(at)?);
        let (count, key_len) = (count as usize, key_len as usize);
        let ends = self.peers_at + FIXED + TARGET * count + key_len.div_ceil(WORD);
        if self.kind != Kind::ROUTE || count > MAX_TARGETS || key_len > MAX_KEY_BYTES || ends > self.words {
            return Err(Damaged);
        }
        Ok(Targets { count, step: mem.load(at + 1)?, key_len, at })
    }

    /// One of them.
    pub fn target(&self, mem: &impl Memory, targets: &Targets, index: usize) -> Result<Place, Damaged> {
        let at = targets.at + FIXED + TARGET * index;
        let (place, hash) = (mem.load(at)?, mem.load(at + 1)?);
        let (len, from) = ((place >> 32) as u8 as usize, (place >> 48) as usize);
        match from + len.div_ceil(WORD) <= self.words {
            true => Ok(Place { weight: place as u32, hash, len, at: self.stamp.word() + from }),
            false => Err(Damaged),
        }
    }

    /// Reads the whole route.
    pub fn decode_route(&self, mem: &impl Memory) -> Result<Route, Damaged> {
        let targets = self.targets(mem)?;
        let text = |bytes: &[u8]| Ok(std::str::from_utf8(bytes).map_err(|_| Damaged)?.to_owned());
        let mut name = NO_NAME;
        let key = targets.key(mem, &mut name)?.map(text).transpose()?;
        let mut route = Route { host: self.name(mem)?, targets: Vec::with_capacity(targets.count), key };
        for index in 0..targets.count {
            let target = self.target(mem, &targets, index)?;
            let upstream = text(target.name(mem, &mut name)?)?;
            // More than this library takes counts as the most that it works with.
            route.targets.push(Target { upstream, weight: target.weight.min(u16::MAX.into()) as u16 });
        }
        Ok(route)
    }
}

impl Targets {
    /// The name of the variable that is the key, if there is one.
    pub fn key<'a>(&self, mem: &impl Memory, out: &'a mut Name) -> Result<Option<&'a [u8]>, Damaged> {
        unpack(mem, self.at + FIXED + TARGET * self.count, self.key_len, out)?;
        Ok(Some(&out[..self.key_len]).filter(|key| !key.is_empty()))
    }
}

impl Place {
    /// The name of the upstream.
    pub fn name<'a>(&self, mem: &impl Memory, out: &'a mut Name) -> Result<&'a [u8], Damaged> {
        unpack(mem, self.at, self.len, out)?;
        Ok(&out[..self.len])
    }
}
