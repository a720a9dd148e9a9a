//! The ring of chash against others: pingora-ketama (Cloudflare's port of nginx's), and references written here from the
//! sources of nginx and of lua-resty-chash. Key by key, so that a migration moves no cache.

use std::net::SocketAddr;

use dyups::order::chash::{Base, Pick, Ring, build, key_hash, pick, pick_without_ring};
use dyups::upstream::{Address, HashId};
use pingora_ketama::{Bucket, Continuum};

const KEYS: u32 = 100_000;

fn keys() -> impl Iterator<Item = String> {
    (0..KEYS).map(|number| format!("/images/{number}.jpg?size={}", number % 7))
}

fn addresses(servers: &[(String, u16)]) -> Vec<Address> {
    servers.iter().map(|(server, _)| Address::from_server(server).unwrap()).collect()
}

fn ring(servers: &[(String, u16)], hash_id: HashId) -> Ring {
    let addresses = addresses(servers);
    let members: Vec<_> = addresses
        .iter()
        .zip(servers)
        .enumerate()
        .map(|(at, (address, server))| (at as u32, address, server.1))
        .collect();
    build(&members, hash_id).unwrap()
}

fn owner(ring: &Ring, key: &str) -> usize {
    match pick(&ring.words, ring.shape, key_hash(key.as_bytes()), |_| true) {
        Pick::Peer(index) => index as usize,
        other => panic!("{key}: {other:?}"),
    }
}

fn continuum(servers: &[(String, u16)]) -> (Continuum, Vec<SocketAddr>) {
    let nodes: Vec<SocketAddr> = servers.iter().map(|(server, _)| server.parse().unwrap()).collect();
    let buckets: Vec<Bucket> =
        nodes.iter().zip(servers).map(|(&node, server)| Bucket::new(node, u32::from(server.1))).collect();
    (Continuum::new(&buckets), nodes)
}

fn ipv4(weights: impl IntoIterator<Item = u16>) -> Vec<(String, u16)> {
    let server = |(at, weight): (usize, u16)| (format!("10.{}.{}.7:{}", at / 200, at % 200, 8000 + at % 3), weight);
    weights.into_iter().enumerate().map(server).collect()
}

/// The oldest form there is: all points in one list, CRC-32 of everything from the start. First point at or after the
/// key, else the first.
struct Reference(Vec<(u32, usize)>);

impl Reference {
    fn new(identities: &[(Vec<u8>, u16)]) -> Self {
        let mut points = Vec::new();
        for (at, (identity, weight)) in identities.iter().enumerate() {
            let mut previous = 0u32;
            for _ in 0..160 * u32::from(*weight) {
                previous = crc32fast::hash(&[&identity[..], &previous.to_le_bytes()].concat());
                points.push((previous, at));
            }
        }
        points.sort_unstable();
        Reference(points)
    }

    fn owner(&self, key: &str) -> usize {
        let hash = crc32fast::hash(key.as_bytes());
        let at = self.0.partition_point(|&(point, _)| point < hash);
        self.0.get(at).unwrap_or(&self.0[0]).1
    }
}

#[test]
fn ipv4_as_pingora_ketama() {
    for servers in [
        ipv4([1]),
        ipv4([1, 1]),
        ipv4([5, 1, 1]),
        ipv4([1, 2, 3, 10, 100]),
        ipv4((0..50).map(|at| 1 + at % 4)),
        ipv4(std::iter::repeat_n(1, 500)),
    ] {
        let ring = ring(&servers, HashId::Nginx);
        let (continuum, nodes) = continuum(&servers);
        for key in keys() {
            assert_eq!(Some(nodes[owner(&ring, &key)]), continuum.node(key.as_bytes()), "{key} of {servers:?}");
        }
    }
}

#[test]
fn ipv4_retries_as_pingora_ketama_goes_on() {
    let servers = ipv4([3, 1, 2, 5, 1, 1]);
    let ring = ring(&servers, HashId::Nginx);
    let (continuum, nodes) = continuum(&servers);
    for key in keys().take(5_000) {
        let mut order = Vec::new();
        while let Pick::Peer(index) =
            pick(&ring.words, ring.shape, key_hash(key.as_bytes()), |index| !order.contains(&nodes[index as usize]))
        {
            order.push(nodes[index as usize]);
        }
        let mut expected = Vec::new();
        let mut at = continuum.node_idx(key.as_bytes());
        while expected.len() < nodes.len() {
            // Answers the node and goes on to the next point.
            let node = *continuum.get_addr(&mut at).unwrap();
            if !expected.contains(&node) {
                expected.push(node);
            }
        }
        assert_eq!(order, expected, "{key}");
    }
}

/// nginx hashes an IPv6 address with its brackets, as written; pingora-ketama without them and normalized. So the rings
/// differ for `[::1]:80`, and this is about the algorithm alone.
#[test]
fn ipv6_as_pingora_ketama_but_for_the_brackets() {
    let servers: Vec<(String, u16)> = (1..6).map(|at| (format!("[2001:db8::{at}]:8080"), at % 3 + 1)).collect();
    let (continuum, nodes) = continuum(&servers);
    let bare = |node: &SocketAddr| Base::nginx(format!("{}:{}", node.ip(), node.port()).as_bytes());
    let members =
        || nodes.iter().zip(&servers).enumerate().map(|(at, (node, server))| (at as u32, bare(node), server.1));
    for key in keys().take(5_000) {
        let index = pick_without_ring(members(), key_hash(key.as_bytes()), |_| true).unwrap();
        assert_eq!(Some(nodes[index as usize]), continuum.node(key.as_bytes()), "{key}");
    }
}

#[test]
fn every_address_form_as_nginx() {
    let forms = [
        ("10.0.0.1", "10.0.0.1\0", 1),
        ("10.0.0.2:80", "10.0.0.2\x0080", 3),
        ("[2001:db8::1]", "[2001:db8::1]\0", 2),
        ("[2001:db8::2]:8080", "[2001:db8::2]\x008080", 1),
        ("unix:/run/app.sock", "/run/app.sock\0", 2),
        ("unix:/run/app:80", "/run/app:80\0", 1),
    ];
    let servers = forms.map(|(server, _, weight)| (server.to_string(), weight));
    let reference = Reference::new(&forms.map(|(_, identity, weight)| (identity.as_bytes().to_vec(), weight)));
    let ring = ring(&servers, HashId::Nginx);
    for key in keys() {
        assert_eq!(owner(&ring, &key), reference.owner(&key), "{key}");
    }
}

#[test]
fn host_port_as_lua_resty_chash() {
    let mut servers = ipv4([1, 2, 1, 5, 1, 30]);
    servers.push(("[2001:db8::1]:8080".into(), 2));
    // Without a port: the ring hashes the port on which the peer listens.
    servers.push(("10.9.9.9".into(), 2));
    let identities: Vec<(Vec<u8>, u16)> = servers
        .iter()
        .map(
            |(server, weight)| if server == "10.9.9.9" { ("10.9.9.9:80", *weight) } else { (server.as_str(), *weight) },
        )
        .map(|(identity, weight)| (identity.as_bytes().to_vec(), weight))
        .collect();
    let reference = Reference::new(&identities);
    let ring = ring(&servers, HashId::HostPort);
    for key in keys() {
        assert_eq!(owner(&ring, &key), reference.owner(&key), "{key}");
    }
}
