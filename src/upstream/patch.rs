//! The fields of a peer that change.

use super::fields;
use super::{Address, Peer, PeerCheck, Status};

/// A peer's address and the fields that were given; `None` is not given. See [`Peer`] for their meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPatch {
    /// Which peer.
    pub address: Address,
    /// 0..=65535.
    pub weight: Option<u16>,
    /// Up, down, drain, or leaving.
    pub status: Option<Status>,
    /// Whether it is a backup.
    pub backup: Option<bool>,
    /// 0 for no limit.
    pub max_conns: Option<u32>,
    /// 0 for never.
    pub max_fails: Option<u32>,
    /// Seconds.
    pub fail_timeout: Option<u32>,
    /// Seconds.
    pub slow_start: Option<u32>,
    /// Of its probes.
    pub check: PeerCheckPatch,
}

/// The fields of a [`PeerCheck`] that were given: `None` is not given, `Some(None)` takes away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerCheckPatch {
    /// `check_port`.
    pub port: Option<Option<u16>>,
    /// `check_url`.
    pub url: Option<Option<String>>,
    /// `check_host`.
    pub host: Option<Option<String>>,
}

impl PeerCheckPatch {
    /// Adds the fields that `more` gives.
    pub fn add(&mut self, more: PeerCheckPatch) {
        set(&mut self.port, more.port.map(Some));
        set(&mut self.url, more.url.map(Some));
        set(&mut self.host, more.host.map(Some));
    }

    /// Changes the fields that are given.
    pub fn apply(&self, check: &mut Option<Box<PeerCheck>>) {
        if *self == PeerCheckPatch::default() {
            return;
        }
        let mut new = check.take().unwrap_or_default();
        set(&mut new.port, self.port);
        set(&mut new.url, self.url.clone());
        set(&mut new.host, self.host.clone());
        let given = [
            (&fields::CHECK_PORT, self.port.is_some()),
            (&fields::CHECK_URL, self.url.is_some()),
            (&fields::CHECK_HOST, self.host.is_some()),
        ];
        new.kept.retain(|name| !given.iter().any(|(field, is_given)| *is_given && field.name == name));
        *check = (*new != PeerCheck::default()).then_some(new);
    }
}

impl PeerPatch {
    /// A patch that changes nothing of the peer at `address`.
    pub fn new(address: Address) -> PeerPatch {
        PeerPatch {
            address,
            weight: None,
            status: None,
            backup: None,
            max_conns: None,
            max_fails: None,
            fail_timeout: None,
            slow_start: None,
            check: PeerCheckPatch::default(),
        }
    }

    /// Changes the given fields of `peer`, which has this address; the others keep their values.
    ///
    /// The peer also keeps the spelling of its address: a ring hashes the text, and another spelling would move keys. A peer
    /// that is to be deleted once it is idle stays, unless the patch says `leaving` again. A caller that changes a peer wants
    /// to keep it.
    pub fn apply(&self, peer: &mut Peer) {
        set(&mut peer.weight, self.weight);
        peer.status = self.status.unwrap_or(peer.status.to_stay());
        set(&mut peer.backup, self.backup);
        set(&mut peer.max_conns, self.max_conns);
        set(&mut peer.max_fails, self.max_fails);
        set(&mut peer.fail_timeout, self.fail_timeout);
        set(&mut peer.slow_start, self.slow_start);
        self.check.apply(&mut peer.check);
    }

    /// A new peer, with defaults for the fields that were not given.
    pub fn into_peer(self) -> Peer {
        let mut peer = Peer::new(self.address.clone());
        self.apply(&mut peer);
        peer
    }
}

/// Sets `option` to the given value, if there is one.
fn set<T>(option: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *option = value;
    }
}
