//! The upstreams file: `{"upstreams": {"api": {"peers": [...]}}, "routes": {"www.example.com": "api"}}`. `status` answers in the same shape,
//! with [`More`].

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::object::{Object, entries};
use super::path::path;
use super::route::route;
use super::upstream::upstream;
use super::{fields, value};
use crate::error::{Error, Result};
use crate::upstream::check::serialize::{CheckObject, PeerCheckObject};
use crate::upstream::{Peer, Route, Status, Upstream};
use std::collections::HashSet;

/// The content of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// Its upstreams, in its order.
    pub upstreams: Vec<Upstream>,
    /// Its routes, in its order.
    pub routes: Vec<Route>,
}

/// Reads an upstreams file. Fields that `status` adds are ignored.
///
/// # Errors
///
/// [`crate::error::Code::Invalid`]: the input is not JSON, has no `upstreams`, has a field or value that this version does not
/// know, or has one host twice.
///
/// ```
/// use dyups::config::json;
/// let file = json::file(br#"{"upstreams": {"api": {"peers": [{"host": "10.0.0.1"}]}}, "routes": {"a.example": "api"}}"#).unwrap();
/// assert_eq!((file.upstreams[0].name.as_str(), file.routes[0].host.as_str()), ("api", "a.example"));
/// ```
pub fn file(bytes: &[u8]) -> Result<File> {
    let value = value::parse(bytes)?;
    let object = Object::new(&value, "", fields::FILE)?;
    let upstreams = object.given(&fields::UPSTREAMS).ok_or_else(|| object.missing(&fields::UPSTREAMS))?;
    let upstreams = entries(upstreams, fields::UPSTREAMS.name)?.iter();
    let read = upstreams.map(|(name, value)| upstream(name, value, &path(fields::UPSTREAMS.name, name)));
    Ok(File { upstreams: read.collect::<Result<_>>()?, routes: routes(&object)? })
}

fn routes(object: &Object<'_>) -> Result<Vec<Route>> {
    let Some(given) = object.given(&fields::ROUTES) else { return Ok(Vec::new()) };
    let mut routes: Vec<Route> = Vec::new();
    let mut hosts = HashSet::new();
    for (host, value) in entries(given, fields::ROUTES.name)? {
        let at = path(fields::ROUTES.name, host);
        let route = route(host, value, &at)?;
        if !hosts.insert(route.host.clone()) {
            return Err(Error::invalid(format!("{at}: the same host as another one, in another spelling")));
        }
        routes.push(route);
    }
    Ok(routes)
}

/// The fields of an upstream in the file's shape, but for its name and its peers. The caller writes the name, as the object's key.
///
/// `method` is there when the upstream has one.
///
/// ```
/// use dyups::config::json::UpstreamFields;
/// use dyups::upstream::Upstream;
/// assert_eq!(serde_json::to_string(&UpstreamFields(&Upstream::default())).unwrap(), r#"{"hash_id":"nginx"}"#);
/// ```
#[derive(Debug)]
pub struct UpstreamFields<'a>(pub &'a Upstream);

impl Serialize for UpstreamFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let UpstreamFields(upstream) = self;
        let mut map = serializer.serialize_map(None)?;
        if let Some(method) = upstream.method {
            map.serialize_entry(fields::METHOD.name, method.name())?;
        }
        map.serialize_entry(fields::HASH_ID.name, upstream.hash_id.name())?;
        let shown = |check| CheckObject { check, is_default: !upstream.own_check };
        match &upstream.check {
            Some(check) => map.serialize_entry(fields::HEALTHCHECK.name, &shown(check))?,
            None if upstream.own_check => map.serialize_entry(fields::HEALTHCHECK.name, &false)?,
            None => {}
        }
        map.end()
    }
}

/// Fields that a writer adds to an object.
pub trait More {
    /// Adds them.
    ///
    /// # Errors
    ///
    /// Those of `map`.
    fn add_to<M: SerializeMap>(&self, map: &mut M) -> std::result::Result<(), M::Error>;
}

/// Nothing more.
impl More for () {
    fn add_to<M: SerializeMap>(&self, _: &mut M) -> std::result::Result<(), M::Error> {
        Ok(())
    }
}

/// A peer's object in the file's shape: every field, and then those of the second part. Read back, it is the equal peer.
///
/// `server` is there when the port was not written.
///
/// ```
/// use dyups::config::json::PeerObject;
/// use dyups::upstream::{Address, Peer};
/// let peer = Peer::new(Address::from_server("10.0.0.1:81").unwrap());
/// let json = serde_json::to_string(&PeerObject(&peer, &())).unwrap();
/// assert!(json.starts_with(r#"{"host":"10.0.0.1","port":81,"weight":1,"status":"up","#));
/// ```
#[derive(Debug)]
pub struct PeerObject<'a, T>(pub &'a Peer, pub &'a T);

impl<T: More> Serialize for PeerObject<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let PeerObject(peer, more) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(fields::HOST.name, peer.address.host())?;
        if let Some(port) = peer.address.port() {
            map.serialize_entry(fields::PORT.name, &port)?;
            if !peer.address.port_written() {
                map.serialize_entry(fields::SERVER.name, peer.address.server())?;
            }
        }
        map.serialize_entry(fields::WEIGHT.name, &peer.weight)?;
        map.serialize_entry(fields::STATUS.name, peer.status.name())?;
        map.serialize_entry(fields::BACKUP.name, &peer.backup)?;
        map.serialize_entry(fields::MAX_CONNS.name, &peer.max_conns)?;
        map.serialize_entry(fields::MAX_FAILS.name, &peer.max_fails)?;
        map.serialize_entry(fields::FAIL_TIMEOUT.name, &peer.fail_timeout)?;
        map.serialize_entry(fields::SLOW_START.name, &peer.slow_start)?;
        if let Some(check) = &peer.check {
            PeerCheckObject(check).add_to(&mut map)?;
        }
        if peer.status == Status::Leaving {
            map.serialize_entry(fields::LEAVING.name, &true)?;
        }
        more.add_to(&mut map)?;
        map.end()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::check::tests::any_check;
    use super::*;
    use crate::upstream::{Address, Check, HashId, Method, PeerCheck};
    use proptest::prelude::*;

    fn why(json: &str) -> String {
        file(json.as_bytes()).unwrap_err().message.into_owned()
    }

    fn written(upstream: &Upstream) -> String {
        let text = |value: serde_json::Result<String>| value.expect("every key is a text");
        let peer = |peer| text(serde_json::to_string(&PeerObject(peer, &())));
        let peers: Vec<String> = upstream.peers.iter().map(peer).collect();
        let fields = text(serde_json::to_string(&UpstreamFields(upstream)));
        format!("{},\"peers\":[{}]}}", &fields[..fields.len() - 1], peers.join(","))
    }

    #[test]
    fn upstreams_are_read_in_the_order_of_the_file() {
        let read = file(br#"{"upstreams":{"b":{"peers":[]},"a":{"peers":{}}}}"#).unwrap();
        assert_eq!(read.upstreams.iter().map(|upstream| upstream.name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(file(br#"{"upstreams":{}}"#), Ok(File::default()));
    }

    #[test]
    fn routes_are_read_by_host_and_no_host_is_there_twice() {
        let read = file(br#"{"upstreams":{},"routes":{"B.example":"api","*.a.example":[["x",1],["y",2]]}}"#).unwrap();
        assert_eq!(
            read.routes.iter().map(|route| route.host.as_str()).collect::<Vec<_>>(),
            ["b.example", "*.a.example"]
        );
        for (routes, message) in [
            (r#"{"a":"x","A.":"y"}"#, "routes.A.: the same host as another one, in another spelling"),
            (r#"{"a":[["x",1],["y"]]}"#, "routes.a[1]: [\"y\"]: allowed: a pair"),
            (r#"{"a:b":"x"}"#, "route \"a:b\": allowed: a host"),
            (r#"[]"#, "routes: []: allowed: an object"),
        ] {
            let error = why(&format!(r#"{{"upstreams":{{}},"routes":{routes}}}"#));
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn what_status_adds_to_the_file_is_ignored() {
        assert_eq!(
            file(br#"{"version":"1","region":{"bytes":1},"workers":[1,2],"upstreams":{},"deleted":[{"upstream":5}]}"#),
            Ok(File::default())
        );
    }

    #[test]
    fn what_this_version_does_not_know_is_refused_by_name() {
        let known = "not known to this version; known: upstreams, routes";
        assert_eq!(why(r#"{"upstreams":{},"rouets":{}}"#), format!("rouets: {known}"));
        assert_eq!(
            why(r#"{"upstreams":{"api":{"peers":[],"health":{}}}}"#),
            "upstreams.api.health: not known to this version; known: method, hash_id, peers, healthcheck"
        );
    }

    #[test]
    fn upstreams_are_an_object_that_has_to_be_given() {
        assert_eq!(why("{}"), "upstreams: not given: allowed: an object");
        assert_eq!(why("[]"), "[]: allowed: an object");
        assert_eq!(why(r#"{"upstreams":[1]}"#), "upstreams: [1]: allowed: an object");
    }

    #[test]
    fn a_bad_name_is_refused() {
        assert!(why(r#"{"upstreams":{"a b":{"peers":[]}}}"#).starts_with(r#"upstream "a b": allowed: a name"#));
        let not_utf_8 = file(b"{\"upstreams\":{\"a\xff\":{\"peers\":[]}}}").unwrap_err();
        assert!(not_utf_8.message.contains("of UTF-8"), "{not_utf_8}");
    }

    #[test]
    fn a_check_that_is_the_default_is_said_to_be_and_is_none_of_its_own_when_it_is_read() {
        let upstream = Upstream { name: "a".into(), check: Some(Check::default()), ..Upstream::default() };
        let json = written(&upstream);
        assert!(json.contains(r#""panic_threshold":0,"default":true},"peers":"#), "{json}");
        let read = file(format!(r#"{{"upstreams":{{"a":{json}}}}}"#).as_bytes()).unwrap();
        assert_eq!(read.upstreams, [Upstream { check: None, ..upstream }]);
    }

    #[test]
    fn every_field_of_a_peer_is_written() {
        let peers = ["10.0.0.1", "[::1]:8080", "unix:/a\"b"].map(|s| Peer::new(Address::from_server(s).unwrap()));
        let rest =
            r#""weight":1,"status":"up","backup":false,"max_conns":0,"max_fails":1,"fail_timeout":10,"slow_start":0}"#;
        let upstream = Upstream { method: Some(Method::Rr), peers: peers.into(), ..Upstream::default() };
        let addresses = [
            r#""host":"10.0.0.1","port":80,"server":"10.0.0.1""#,
            r#""host":"[::1]","port":8080"#,
            r#""host":"unix:/a\"b""#,
        ];
        let peers = addresses.map(|address| format!("{{{address},{rest}")).join(",");
        assert_eq!(written(&upstream), format!(r#"{{"method":"rr","hash_id":"nginx","peers":[{peers}]}}"#));
    }

    prop_compose! {
        fn any_peer()(
            server in prop_oneof![
                any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
                (any::<std::net::Ipv6Addr>(), 1u16..).prop_map(|(ip, port)| format!("[{ip}]:{port}")),
                "unix:/[ -~ö]{0,20}",
            ],
            weight: u16,
            status in prop::sample::select(vec![Status::Up, Status::Down, Status::Drain, Status::Leaving]),
            backup: bool,
            numbers: [u32; 4],
            (port, url, host) in
                (prop::option::of(1u16..), prop::option::of("/[!-~ö]{0,9}"), prop::option::of("[a-z]{1,9}(:81)?")),
        ) -> Peer {
            let address = Address::from_server(&server).unwrap();
            // A path has no port that another could take the place of.
            let port = port.filter(|_| address.port().is_some());
            let check = PeerCheck { port, url, host, ..PeerCheck::default() };
            let check = (check != PeerCheck::default()).then(|| Box::new(check));
            let [max_conns, max_fails, fail_timeout, slow_start] = numbers;
            Peer { address, weight, status, backup, max_conns, max_fails, fail_timeout, slow_start, check, foreign: None }
        }
    }

    prop_compose! {
        pub fn any_upstream()(
            name in "[!-.0-{}~öß]{1,20}",
            method in prop::sample::select(vec![None, Some(Method::Rr), Some(Method::Chash), Some(Method::LeastConn), Some(Method::RandomTwo), Some(Method::Random), Some(Method::IpHash)]),
            hash_id in prop::sample::select(vec![HashId::Nginx, HashId::HostPort]),
            mut peers in prop::collection::vec(any_peer(), 0..5),
            check in prop::option::of(any_check()),
            none in any::<bool>(),
        ) -> Upstream {
            // Two equal addresses, as rare as they are, would be refused.
            peers.dedup_by(|a, b| a.address.same_as(&b.address));
            let own_check = check.is_some() || none;
            // A path has no port, and a check of paths may have none either.
            let is_path = |peer: &Peer| peer.address.port().is_none();
            let check = check.map(|check| Check { port: check.port.filter(|_| !peers.iter().any(is_path)), ..check });
            Upstream { name, method, hash_id, peers, check, own_check, foreign: None }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_the_same(upstream in any_upstream()) {
            prop_assume!(crate::upstream::name::check(upstream.name.as_bytes()).is_ok());
            prop_assume!(!crate::config::addresses::tests::has_repeat(&upstream.peers));
            let name = serde_json::to_string(&upstream.name).unwrap();
            let json = format!(r#"{{"upstreams":{{{name}:{}}}}}"#, written(&upstream));
            prop_assert_eq!(file(json.as_bytes()).map(|file| file.upstreams), Ok(vec![upstream]));
        }
    }
}
