//! The addresses of a list of peers, to find those that are there twice.

use crate::upstream::Address;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The addresses of a list of peers so far. They are compared by their meaning and not by their text.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// The first peer with each identity.
    firsts: HashMap<u64, usize>,
    /// Further addresses, where two that differ have one identity.
    others: Vec<usize>,
}

impl Addresses {
    /// None so far, with room for `count`.
    pub(super) fn with_capacity(count: usize) -> Addresses {
        Addresses { firsts: HashMap::with_capacity(count), others: Vec::new() }
    }

    /// Adds that of the peer at `index`. Answers the index of the first peer with this address, which may be this one.
    pub(super) fn add<'a>(&mut self, index: usize, address: impl Fn(usize) -> &'a Address) -> usize {
        let own = address(index);
        let first = match self.firsts.entry(own.ident()) {
            Entry::Vacant(place) => *place.insert(index),
            Entry::Occupied(first) => *first.get(),
        };
        let is_same = |&other: &usize| own.same_as(address(other));
        if is_same(&first) {
            return first;
        }
        self.others.iter().copied().find(is_same).unwrap_or_else(|| {
            self.others.push(index);
            index
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::upstream::Peer;

    /// Whether two peers have one address.
    pub fn has_repeat(peers: &[Peer]) -> bool {
        let mut addresses = Addresses::default();
        (0..peers.len()).any(|index| addresses.add(index, |index| &peers[index].address) != index)
    }

    #[test]
    fn an_address_is_found_again_in_another_spelling_and_no_other_is() {
        let mut servers: Vec<Address> =
            ["[::1]", "10.0.0.1", "unix:/a", "[0::1]:80", "10.0.0.1:80", "10.0.0.1:81", "unix:/a"]
                .map(|server| Address::from_server(server).unwrap())
                .into();
        // Two paths that have the identity of a third, as hashes may.
        let ident = servers[2].ident();
        let forged = |text: &str| Address::from_parts(text, text.len(), 0, false, ident).unwrap();
        servers.extend([forged("unix:/b"), forged("unix:/c"), forged("unix:/b"), forged("unix:/a")]);
        let mut addresses = Addresses::default();
        let firsts: Vec<usize> =
            (0..servers.len()).map(|index| addresses.add(index, |index| &servers[index])).collect();
        assert_eq!(firsts, [0, 1, 2, 0, 1, 5, 2, 7, 8, 7, 2]);
    }
}
