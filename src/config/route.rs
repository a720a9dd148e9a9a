//! A route as JSON: the name of an upstream, a list of targets, or an object with both and a key.

use super::fields;
use super::object::{Object, integer};
use super::path::item;
use super::value::Value;
use crate::error::{Error, Result};
use crate::upstream::field::Field;
use crate::upstream::{Route, Target, host, name, route};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// A target in a list.
const PAIR: &str = "a pair: the name of an upstream and its weight, an integer from 0 to 65535";

/// Reads the route of `host`; `at` is its path in messages, such as `routes.www.example.com`.
///
/// # Errors
///
/// [`crate::error::Code::Invalid`]: a bad host, name, weight or key; no targets, too many, or one twice.
///
/// ```
/// use dyups::config::{route::route, value::parse};
/// let read = |json: &str| route("WWW.example.com", &parse(json.as_bytes()).unwrap(), "route").unwrap();
/// assert_eq!(read(r#""api""#).targets[0].upstream, "api");
/// assert_eq!(read(r#"[["blue", 90], ["green", 10]]"#).targets[1].weight, 10);
/// assert_eq!(read(r#"{"targets": "api", "key": "$cookie_u"}"#).in_words(), "api by $cookie_u");
/// ```
pub fn route(host: &str, value: &Value, at: &str) -> Result<Route> {
    let host = host::check(host.as_bytes())?;
    let (targets, key, place) = match value {
        Value::Map(_) if value.lua().is_none() => {
            let object = Object::new(value, at, fields::ROUTE)?;
            let given = object.given(&fields::TARGETS).ok_or_else(|| object.missing(&fields::TARGETS))?;
            let place = object.path(&fields::TARGETS);
            (targets(given, &place)?, key(&object)?, place)
        }
        _ => (targets(value, at)?, None, at.to_owned()),
    };
    let route = Route { host, targets, key };
    route.check().map_err(|error| error.within(place))?;
    Ok(route)
}

fn key(object: &Object<'_>) -> Result<Option<String>> {
    match object.given(&fields::KEY) {
        None | Some(Value::Bool(false)) => Ok(None),
        Some(_) => {
            let text = object.text(&fields::KEY)?.unwrap_or_default();
            route::variable(text).map(Some).map_err(|error| error.within(object.path(&fields::KEY)))
        }
    }
}

fn targets(value: &Value, at: &str) -> Result<Vec<Target>> {
    match value {
        Value::Text(name) => Ok(vec![Target { upstream: upstream(name, at)?, weight: 1 }]),
        Value::List(list) if list.len() > route::MAX_TARGETS => {
            Err(Error::invalid(format!("{at}: {} upstreams: allowed: 1 to {}", list.len(), route::MAX_TARGETS)))
        }
        Value::List(list) => list.iter().enumerate().map(|(index, pair)| target(pair, &item(at, index))).collect(),
        // Lua cannot tell an empty list from an empty object.
        Value::Map(map) if map.is_empty() => Ok(Vec::new()),
        _ => Err(refused(value, at, &fields::TARGETS.kind.allowed())),
    }
}

fn target(pair: &Value, at: &str) -> Result<Target> {
    let Value::List(parts) = pair else { return Err(refused(pair, at, PAIR)) };
    let [Value::Text(name), weight] = parts.as_slice() else { return Err(refused(pair, at, PAIR)) };
    let number = integer(weight).and_then(|number| fields::WEIGHT.kind.number(number));
    let field = |field: &Field| format!("{at}.{}", field.name);
    let weight = number.ok_or_else(|| refused(weight, &field(&fields::WEIGHT), &fields::WEIGHT.kind.allowed()))?;
    Ok(Target { upstream: upstream(name, at)?, weight })
}

fn upstream(text: &str, at: &str) -> Result<String> {
    Ok(name::check(text.as_bytes()).map_err(|error| error.within(at))?.to_owned())
}

fn refused(value: &Value, at: &str, allowed: &str) -> Error {
    Error::invalid(format!("{at}: {value}: allowed: {allowed}"))
}

/// A route as an object, with where it comes from.
#[derive(Debug)]
pub struct RouteObject<'a>(pub &'a Route, pub &'static str);

impl Serialize for RouteObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let RouteObject(route, origin) = self;
        let mut map = serializer.serialize_map(None)?;
        let pairs: Vec<_> = route.targets.iter().map(|target| (&target.upstream, target.weight)).collect();
        map.serialize_entry(fields::TARGETS.name, &pairs)?;
        if let Some(key) = &route.key {
            map.serialize_entry(fields::KEY.name, &format!("${key}"))?;
        }
        map.serialize_entry(fields::ORIGIN.name, origin)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::parse;
    use proptest::prelude::*;

    fn read(json: &str) -> std::result::Result<Route, String> {
        route("www", &parse(json.as_bytes()).unwrap(), "route").map_err(|error| error.to_string())
    }

    fn written(route: &Route) -> String {
        serde_json::to_string(&RouteObject(route, "file")).unwrap()
    }

    #[test]
    fn a_route_is_a_name_a_list_or_an_object() {
        let one = |upstream: &str| Target { upstream: upstream.into(), weight: 1 };
        let to = |targets| Route { host: "www".into(), targets, key: None };
        assert_eq!(read(r#""api""#), Ok(to(vec![one("api")])));
        assert_eq!(read(r#"{"targets":"api","key":false,"origin":"file"}"#), Ok(to(vec![one("api")])));
        let split = to(vec![Target { weight: 9, ..one("a") }, Target { weight: 0, ..one("b") }]);
        assert_eq!(read(r#"[["a",9],["b",0.0]]"#), Ok(split.clone()));
        let keyed = Route { key: Some("arg_u".into()), ..split };
        assert_eq!(read(r#"{"targets":[["a",9],["b",0]],"key":"$arg_U"}"#), Ok(keyed.clone()));
        assert_eq!(written(&keyed), r#"{"targets":[["a",9],["b",0]],"key":"$arg_u","origin":"file"}"#);
    }

    #[test]
    fn what_is_wrong_is_said_where_it_is() {
        let list = "the name of an upstream, or a list of pairs of such a name and a weight";
        for (json, message) in [
            ("5", format!("route: 5: allowed: {list}")),
            (r#"{"\u0001lua":"nan"}"#, format!("route: nan: allowed: {list}")),
            (r#"{"targets":true}"#, format!("route.targets: true: allowed: {list}")),
            (r#"{"key":"$a"}"#, format!("route.targets: not given: allowed: {list}")),
            ("{}", format!("route.targets: not given: allowed: {list}")),
            (r#"{"targets":{}}"#, "route.targets: 0 upstreams: allowed: 1 to 64".into()),
            ("[]", "route: 0 upstreams: allowed: 1 to 64".into()),
            (r#"["a"]"#, format!(r#"route[1]: "a": allowed: {PAIR}"#)),
            (r#"[["a"]]"#, format!(r#"route[1]: ["a"]: allowed: {PAIR}"#)),
            (r#"[[1,"a"]]"#, format!(r#"route[1]: [1,"a"]: allowed: {PAIR}"#)),
            (r#"[["a",-1]]"#, "route[1].weight: -1: allowed: an integer from 0 to 65535".into()),
            (r#"{"targets":[["a",1],["a",2]]}"#, "route.targets: upstream a: it is there twice".into()),
            (r#"[["a",0]]"#, "route: all weights are 0: allowed: one above 0 at least".into()),
            (
                r#"{"targets":"a","key":"u"}"#,
                r#"route.key: "u": allowed: one variable of nginx, such as "$cookie_user""#.into(),
            ),
            (
                r#"{"targets":"a","key":5}"#,
                r#"route.key: 5: allowed: one variable of nginx, such as "$cookie_user", or false for none"#.into(),
            ),
            (r#"{"targets":"a","keys":1}"#, "route.keys: not known to this version; known: targets, key".into()),
        ] {
            assert_eq!(read(json), Err(message), "{json}");
        }
        assert!(read(r#""a b""#).unwrap_err().starts_with(r#"route: upstream "a b": allowed: a name"#));
        let many = format!("[{}]", vec![r#"["a",1]"#; 65].join(","));
        assert_eq!(read(&many), Err("route: 65 upstreams: allowed: 1 to 64".into()));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_the_same(
            targets in prop::collection::btree_map("[a-zö]{1,8}", 1u16.., 1..9),
            key in prop::option::of("[a-z_0-9]{1,9}"),
        ) {
            let targets = targets.into_iter().map(|(upstream, weight)| Target { upstream, weight }).collect();
            let route = Route { host: "www".into(), targets, key };
            prop_assert_eq!(read(&written(&route)), Ok(route));
        }
    }
}
