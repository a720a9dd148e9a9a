//! An upstream as a value, which a writer edits and `status` shows; and a route, which leads a host to upstreams. These are values
//! alone: no file here knows memory or a text format.
//!
//! - [`name`], [`address`]: the name of an upstream, and the address of a peer
//! - [`peer`]: a peer, and [`patch`]: the fields of one that change
//! - [`method`]: how a peer is picked
//! - [`check`]: how peers are probed
//! - [`fields`]: the names of all these, and the values that each takes
//! - [`route`]: where a host leads, and [`host`]: which routes a host may have
//! - [`kept`]: stored options that this version does not know

pub mod address;
pub mod check;
pub mod field;
pub mod fields;
pub mod host;
pub mod kept;
pub mod method;
pub mod name;
pub mod patch;
pub mod peer;
pub mod route;

pub use address::Address;
pub use check::{Check, PeerCheck};
pub use method::{HashId, Method};
pub use patch::PeerPatch;
pub use peer::{Peer, Status};
pub use route::{Route, Target};

use crate::error::{Error, Result};
use kept::Foreign;

/// Most peers that one upstream may have: 2^18, since a ring point has bits for no more.
pub const MAX_PEERS: usize = 1 << 18;

/// An upstream: a named, ordered list of peers and how one of them is picked.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Upstream {
    /// 1 to 255 bytes, see [`name::check`].
    pub name: String,
    /// How a peer is picked when the caller does not say; `None`: chash with a key, rr without.
    pub method: Option<Method>,
    /// The text of a peer that the ring of chash hashes.
    pub hash_id: HashId,
    /// In the order in which they were given; no two with one address.
    pub peers: Vec<Peer>,
    /// How its peers are checked; `None`: they are not.
    pub check: Option<Check>,
    /// A caller or a file has set a check for this upstream, or none. Otherwise it has the default of `setup`.
    pub own_check: bool,
    /// Data that another version has stored beside, if any.
    pub foreign: Option<Box<Foreign>>,
}

impl Upstream {
    /// A copy that has no peers.
    pub fn without_peers(&self) -> Upstream {
        Upstream {
            name: self.name.clone(),
            method: self.method,
            hash_id: self.hash_id,
            peers: Vec::new(),
            check: self.check.clone(),
            own_check: self.own_check,
            foreign: self.foreign.clone(),
        }
    }

    /// The number of its method as it is stored; 0 for none.
    pub fn method_number(&self) -> u8 {
        let foreign = || self.foreign.as_ref().map_or(0, |foreign| foreign.method);
        self.method.map_or_else(foreign, |method| method as u8)
    }

    /// The number of its hash id as it is stored. This library may not know it, and then builds a ring by the default.
    pub fn hash_number(&self) -> u8 {
        let foreign = self.foreign.as_ref().map(|foreign| foreign.hash_id).filter(|&number| number != 0);
        foreign.unwrap_or(self.hash_id as u8)
    }
}

impl Upstream {
    /// Checks that the port of its own check is one that all its peers can be probed at. That of the default of `setup` is for
    /// those peers that have a port.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Invalid`]: a peer is a path.
    pub fn check_port(&self) -> Result<()> {
        let port = self.check.as_ref().filter(|_| self.own_check).and_then(|check| check.port);
        let path = self.peers.iter().find(|peer| peer.address.port().is_none());
        let (Some(port), Some(path)) = (port, path) else { return Ok(()) };
        let path = path.address.text();
        Err(Error::invalid(format!(
            "healthcheck.port: {port}: peer {path} has no port; allowed: false, and check_port for peers that have one"
        )))
    }
}
