//! Routes: which upstream a host leads to, what outlives what, and how a split shares its requests out.

#![allow(unsafe_code)]

mod support;

use dyups::balance::miss::Miss;
use dyups::balance::pick::{Ask, Handle, Picked};
use dyups::balance::route::{Routed, Router};
use dyups::config::{json, route::route as read, value::parse};
use dyups::error::Code;
use dyups::order::rendezvous;
use dyups::shm::Memory;
use dyups::shm::deletions::Deletions;
use dyups::table::change_log;
use dyups::table::directory::Directory;
use dyups::table::snapshot::{Flags, Kind};
use dyups::table::{Record, Table};
use dyups::upstream::Route;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::*;

/// A route as callers write it.
fn route(host: &str, json: &str) -> Route {
    read(host, &parse(json.as_bytes()).expect("JSON"), "route").expect("a route")
}

fn set(table: &Table, host: &str, json: &str) {
    table.set_route(&route(host, json), SOON).expect("room");
}

/// Where a host leads for a key; `None`: nowhere.
fn lead_of(table: &Table, host: &str, key: Option<&str>, last: Option<Record>) -> Result<Option<String>, Miss> {
    let mut out = Routed::default();
    let router = Router::over(table.region().mem(), table.region().geometry());
    let hash = |_: Option<&str>| key.map(|key| rendezvous::hash(key.as_bytes()));
    let led = router.lead(host.as_bytes(), hash, last, &mut out)?;
    let text = std::str::from_utf8(&out.text[..out.len as usize]).expect("UTF-8");
    Ok(led.then(|| text.to_owned()))
}

fn lead(table: &Table, host: &str) -> Result<Option<String>, Miss> {
    lead_of(table, host, None, None)
}

fn to(upstream: &str) -> Result<Option<String>, Miss> {
    Ok(Some(upstream.to_owned()))
}

/// A table with these upstreams, of a peer each.
fn with(names: &[&str]) -> (Table, Scratch) {
    let (table, scratch) = table(SMALL);
    names.iter().for_each(|name| table.set_upstream(&upstream(name, &["10.0.0.1"]), SOON).expect("room"));
    (table, scratch)
}

/// How many of so many requests each upstream gets.
fn shares(
    table: &Table,
    host: &str,
    requests: usize,
    key: impl Fn(usize) -> Option<String>,
) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for i in 0..requests {
        let upstream = lead_of(table, host, key(i).as_deref(), None).expect("there").expect("a route");
        *counts.entry(upstream).or_default() += 1;
    }
    counts
}

fn counts(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    pairs.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
}

#[test]
fn a_host_leads_to_its_upstream_from_the_change_on_until_the_route_is_deleted() {
    let (table, _scratch) = with(&["blue", "green"]);
    assert_eq!(lead(&table, "www.example.com"), Ok(None));
    set(&table, "WWW.example.com.", r#""blue""#);
    assert_eq!(lead(&table, "www.Example.com"), to("blue"));
    set(&table, "www.example.com", r#""green""#);
    assert_eq!(lead(&table, "www.example.com."), to("green"));
    set(&table, "*.example.com", r#""blue""#);
    set(&table, "default", r#""blue""#);
    assert_eq!(lead(&table, "www.example.com:8080"), to("green"));
    assert_eq!(lead(&table, "a.b.example.com"), to("blue"));
    assert_eq!(lead(&table, "elsewhere"), to("blue"));
    assert_eq!(lead(&table, ""), to("blue"));
    table.delete_route("www.example.com", SOON).expect("there");
    table.delete_route("default", SOON).expect("there");
    assert_eq!(lead(&table, "www.example.com"), to("blue"), "the wider one");
    assert_eq!(lead(&table, "elsewhere"), Ok(None));
    assert_eq!(table.delete_route("default", SOON).map_err(|error| error.code), Err(Code::NotFound));
    assert_no_leak(&table);
}

#[test]
fn a_host_and_an_upstream_of_the_same_name_are_two() {
    let (table, _scratch) = with(&["www.example.com", "green"]);
    set(&table, "www.example.com", r#""green""#);
    assert_eq!(lead(&table, "www.example.com"), to("green"));
    assert_eq!(names(&table), ["green", "www.example.com"]);
    assert_eq!(table.upstream("www.example.com").expect("there").upstream.peers.len(), 1);
    table.delete_upstream("www.example.com", true, SOON).expect("there");
    assert_eq!(lead(&table, "www.example.com"), to("green"));
    assert_eq!(
        Handle::new(b"www.example.com").pick(&table, Ask::default(), false, &mut Picked::default()),
        Err(Miss::NotFound)
    );
    table.delete_route("www.example.com", SOON).expect("there");
    assert_eq!(names(&table), ["green"]);
    assert_no_leak(&table);
}

#[test]
fn a_route_to_an_upstream_that_is_not_there_is_refused_and_the_old_one_stays() {
    let (table, _scratch) = with(&["blue"]);
    set(&table, "www", r#""blue""#);
    let error = table.set_route(&route("www", r#"[["blue", 1], ["green", 1]]"#), SOON).unwrap_err();
    assert_eq!((error.code, &*error.message), (Code::NotFound, "route www: upstream green: not found"));
    assert_eq!(lead(&table, "www"), to("blue"));
    // One that was deleted and is remembered is not there either.
    table.load(&[upstream("filed", &["10.0.0.1"])], false, SOON).expect("room");
    table.delete_upstream("filed", true, SOON).expect("there");
    assert_eq!(table.set_route(&route("www", r#""filed""#), SOON).unwrap_err().code, Code::NotFound);
}

#[test]
fn an_upstream_that_a_route_names_goes_only_by_force_and_then_the_others_have_its_requests() {
    let (table, _scratch) = table(SMALL);
    for name in ["a", "b", "c"] {
        table.set_upstream(&upstream(name, &[]), SOON).expect("room");
    }
    set(&table, "www", r#"[["a", 2], ["b", 1], ["c", 1]]"#);
    let error = table.delete_upstream("a", false, SOON).unwrap_err();
    assert_eq!(error.code, Code::NotEmpty);
    assert_eq!(error.message, "upstream a: route www leads there: delete or change it first, or force");
    table.delete_upstream("a", true, SOON).expect("force");
    assert_eq!(shares(&table, "www", 40, |_| None), counts(&[("b", 20), ("c", 20)]), "by turns");
    let by_key = shares(&table, "www", 40, |i| Some(i.to_string()));
    assert_eq!(by_key.keys().collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(table.lost_targets(), Ok(vec![("www".to_owned(), "a".to_owned())]));
    table.delete_upstream("b", true, SOON).expect("force");
    table.delete_upstream("c", true, SOON).expect("force");
    assert_eq!(
        (lead(&table, "www"), lead_of(&table, "www", Some("k"), None)),
        (Err(Miss::NotFound), Err(Miss::NotFound))
    );
    // An upstream that comes back is led to again.
    table.set_upstream(&upstream("b", &[]), SOON).expect("room");
    assert_eq!(lead(&table, "www"), to("b"));
    table.delete_route("www", SOON).expect("there");
    table.delete_upstream("b", false, SOON).expect("no route names it any more");
}

#[test]
fn without_a_key_any_cycle_of_turns_is_shared_exactly() {
    let (table, _scratch) = with(&["a", "b", "c", "d"]);
    set(&table, "www", r#"[["a", 90], ["b", 10]]"#);
    for _ in 0..3 {
        assert_eq!(shares(&table, "www", 100, |_| None), counts(&[("a", 90), ("b", 10)]));
    }
    // Any few in a row are even too.
    for _ in 0..5 {
        let few = shares(&table, "www", 20, |_| None);
        assert!((1..=3).contains(&few.get("b").copied().unwrap_or(0)), "{few:?}");
    }
    set(&table, "www", r#"[["a", 5], ["b", 0], ["c", 2], ["d", 65535]]"#);
    assert_eq!(shares(&table, "www", 65542, |_| None), counts(&[("a", 5), ("c", 2), ("d", 65535)]));
}

#[test]
fn by_a_key_the_shares_hold_and_a_change_of_weights_moves_only_the_keys_that_must() {
    let (table, _scratch) = with(&["blue", "green"]);
    let key = |i: usize| Some(format!("session-{i:06}"));
    let leads = |table: &Table| -> Vec<String> {
        (0..100_000).map(|i| lead_of(table, "www", key(i).as_deref(), None).expect("there").expect("a route")).collect()
    };
    let part = |leads: &[String]| leads.iter().filter(|name| *name == "green").count() as f64 / 1000.0;
    set(&table, "www", r#"{"targets": [["blue", 90], ["green", 10]], "key": "$cookie_session"}"#);
    let before = leads(&table);
    assert!((part(&before) - 10.0).abs() < 0.5, "{}", part(&before));
    assert!(leads(&table) == before, "stable");
    set(&table, "www", r#"{"targets": [["green", 20], ["blue", 80]], "key": "$cookie_session"}"#);
    let after = leads(&table);
    assert!((part(&after) - 20.0).abs() < 0.5, "{}", part(&after));
    assert!(before.iter().zip(&after).all(|(old, new)| old == new || old == "blue"), "green loses none");
}

#[test]
fn a_request_that_takes_turns_stays_with_the_upstream_that_it_has_tried() {
    let (table, _scratch) = with(&["blue", "green", "other"]);
    set(&table, "www", r#"[["blue", 1], ["green", 1]]"#);
    let place = |name: &str| {
        let directory = Directory::new(table.region());
        Some(directory.record(directory.find(name.as_bytes()).expect("sound").expect("there").0))
    };
    for name in ["blue", "green"] {
        (0..5).for_each(|_| assert_eq!(lead_of(&table, "www", None, place(name)), to(name)));
    }
    assert!(lead_of(&table, "www", None, place("other")).expect("there").is_some(), "no target of this route");
    set(&table, "www", r#""green""#);
    assert_eq!(lead_of(&table, "www", None, place("blue")), to("green"), "the route leads there no more");
}

#[test]
fn the_variable_of_the_key_is_the_one_that_the_route_names() {
    let (table, _scratch) = with(&["blue", "green"]);
    set(&table, "www", r#"{"targets": [["blue", 1], ["green", 1]], "key": "$Cookie_U"}"#);
    let asked = std::cell::RefCell::new(Vec::new());
    let key = |variable: Option<&str>| {
        asked.borrow_mut().extend(variable.map(str::to_owned));
        Some(7)
    };
    let router = Router::over(table.region().mem(), table.region().geometry());
    assert_eq!(router.lead(b"www", key, None, &mut Routed::default()), Ok(true));
    assert_eq!(*asked.borrow(), ["cookie_u"]);
}

#[test]
fn routes_are_there_after_a_repair_and_in_a_region_that_is_made_anew() {
    let scratch = Scratch::new();
    let base = scratch.file("region");
    let (table, _) = open(&base, SMALL).expect("usable");
    table.set_upstream(&upstream("blue", &["10.0.0.1"]), SOON).expect("room");
    table.set_upstream(&upstream("green", &["10.0.0.1"]), SOON).expect("room");
    let split = format!(r#"{{"targets": [["blue", 90], ["green", 10]], "key": "${}"}}"#, "x".repeat(128));
    set(&table, &"x.".repeat(120), &split);
    set(&table, "*.example.com:8080", r#""blue""#);
    let all = table.routes().expect("readable");
    assert_eq!(all.len(), 2);
    assert_eq!(table.repair(&table.writer(SOON).expect("free")), Ok(0));
    assert_eq!(table.routes().as_ref(), Ok(&all));
    drop(table);
    let (table, notes) = open(&base, 2 * SMALL).expect("usable");
    assert!(notes.iter().all(|note| !note.contains("lost")), "{notes:?}");
    assert_eq!((table.routes().as_ref(), table.region().geometry().size), (Ok(&all), 2 * SMALL));
    assert_eq!(lead(&table, "a.example.com:8080"), to("blue"));
    assert_no_leak(&table);
}

#[test]
fn routes_follow_their_files_as_upstreams_do() {
    let (table, _scratch) = table(SMALL);
    let upstreams = [upstream("blue", &["10.0.0.1"]), upstream("green", &["10.0.0.1"])];
    let load = |routes: &[Route], overwrite| table.load_with_routes(&upstreams, routes, overwrite, SOON);
    let all = || -> Vec<String> {
        let routes = table.routes().expect("readable");
        routes.iter().map(|stored| format!("{} {}", stored.route.host, stored.route.in_words())).collect()
    };
    let blue = ["kept", "changed", "deleted"].map(|host| route(host, r#""blue""#));
    load(&blue, false).expect("room");
    assert_eq!(all(), ["changed blue", "deleted blue", "kept blue"]);
    set(&table, "changed", r#""green""#);
    set(&table, "made", r#""green""#);
    table.delete_route("deleted", SOON).expect("there");
    let green = ["kept", "changed", "deleted", "new"].map(|host| route(host, r#"[["green", 2], ["blue", 1]]"#));
    load(&green, false).expect("room");
    assert_eq!(all(), ["changed green", "kept green 2, blue 1", "made green", "new green 2, blue 1"]);
    load(&green[..2], false).expect("room");
    assert_eq!(all(), ["changed green", "kept green 2, blue 1", "made green"]);
    // Its name was in no file in between: it is no longer remembered.
    load(&green[1..3], false).expect("room");
    assert_eq!(all(), ["changed green", "deleted green 2, blue 1", "made green"]);
    load(&blue[..2], true).expect("room");
    assert_eq!(all(), ["changed blue", "kept blue", "made green"]);
    load(&[], false).expect("room");
    assert_eq!(all(), ["made green"]);
    assert_no_leak(&table);
}

#[test]
fn a_file_moves_a_host_before_the_upstream_goes_and_no_request_finds_neither() {
    let (table, _scratch) = table(SMALL);
    let file = |name: &str| ([upstream(name, &["10.0.0.1"])], [route("www", &format!("{name:?}"))]);
    let load = |(upstreams, routes): &([_; 1], [Route; 1])| table.load_with_routes(upstreams, routes, false, SOON);
    let [blue, green] = ["blue", "green"].map(file);
    load(&blue).expect("room");
    load(&green).expect("room");
    // The numbers of the changes are their order.
    let (mem, geometry) = (table.region().mem(), table.region().geometry());
    let (_, moved) = Directory::new(table.region()).find_of(Kind::ROUTE, b"www").expect("sound").expect("there");
    let gone = Deletions::over(mem, geometry).all().expect("sound").pop().expect("one");
    assert!(gone.name == b"blue" && moved.version < gone.sequence, "{} before {gone:?}", moved.version);
    let (_, made) = Directory::new(table.region()).find(b"green").expect("sound").expect("there");
    assert!(made.version < moved.version);
    load(&blue).expect("room");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                match lead(&table, "www") {
                    Ok(led) => assert!(matches!(led.as_deref(), Some("blue" | "green")), "{led:?}"),
                    Err(miss) => assert_eq!(miss, Miss::Changing),
                }
            }
        });
        for _ in 0..200 {
            load(&green).expect("room");
            load(&blue).expect("room");
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().expect("no request finds neither");
    });
}

#[test]
fn a_file_whose_route_names_an_upstream_that_will_not_be_there_loads_nothing() {
    let (table, _scratch) = with(&["own"]);
    let [blue, green] = ["blue", "green"].map(|name| upstream(name, &["10.0.0.1"]));
    let load = |upstreams: &[dyups::upstream::Upstream], routes: &[Route]| {
        table.load_with_routes(upstreams, routes, false, SOON).map_err(|error| error.to_string())
    };
    let no_green = Err("route www: upstream green: not found".to_owned());
    assert_eq!(load(std::slice::from_ref(&blue), &[route("www", r#""green""#)]), no_green);
    assert_eq!(names(&table), ["own"]);
    assert_eq!(load(std::slice::from_ref(&green), &[route("www", r#""green""#), route("a", r#""own""#)]), Ok(()));
    // It came with a file, and the next one has it no more.
    assert_eq!(load(std::slice::from_ref(&blue), &[route("www", r#""green""#)]), no_green);
    // A reload does not fail for an upstream that was deleted at run time.
    table.delete_upstream("green", true, SOON).expect("there");
    assert_eq!(load(std::slice::from_ref(&green), &[route("www", r#""green""#)]), Ok(()));
    assert_eq!(table.lost_targets(), Ok(vec![("www".to_owned(), "green".to_owned())]));
    assert_eq!(lead(&table, "www"), Err(Miss::NotFound));
}

#[test]
fn status_loaded_back_gives_the_same_routes() {
    let (table, _scratch) = with(&["blue", "green"]);
    set(&table, "www", r#"{"targets": [["blue", 90], ["green", 10]], "key": "$cookie_u"}"#);
    set(&table, "*.example.com", r#""blue""#);
    let status = dyups::status::json(&table, None, None).expect("sound");
    let file = json::file(&status).expect("a file");
    let routes: Vec<Route> = table.routes().expect("readable").into_iter().map(|stored| stored.route).collect();
    assert_eq!(file.routes, routes);
    let text = String::from_utf8(status).expect("UTF-8");
    assert!(
        text.contains(r#""routes":{"*.example.com":{"targets":[["blue",1]],"origin":"runtime"},"www":{"#),
        "{text}"
    );
    assert!(
        !String::from_utf8_lossy(&dyups::status::json(&table, Some("blue"), None).expect("there")).contains("routes")
    );
}

#[test]
fn each_change_of_a_route_is_one_line_and_a_call_that_changes_nothing_has_none() {
    let (table, _scratch) = with(&["blue", "green"]);
    let lines = |change: &dyn Fn()| -> Vec<String> {
        let ((), changes) = change_log::record(change);
        changes.iter().map(|change| change.line("Lua")).collect()
    };
    let version = || table.region().mem().load(dyups::shm::layout::state::SEQUENCE).expect("inside");
    let made = lines(&|| set(&table, "www", r#""blue""#));
    assert_eq!(made, [format!("route www: made by Lua: none -> blue, version {}", version())]);
    assert_eq!(lines(&|| set(&table, "www", r#""blue""#)), [""; 0]);
    let changed = lines(&|| set(&table, "www", r#"[["blue", 9], ["green", 1]]"#));
    assert_eq!(changed, [format!("route www: changed by Lua: blue -> blue 9, green 1, version {}", version())]);
    let deleted = lines(&|| table.delete_route("www", SOON).expect("there"));
    assert_eq!(deleted, [format!("route www: deleted by Lua: blue 9, green 1 -> none, version {}", version())]);
}

#[test]
fn where_the_region_is_full_a_route_still_changes_and_goes() {
    let (table, _scratch) = with(&["blue", "green"]);
    set(&table, "www", r#""green""#);
    let mut filled = 0;
    let full = loop {
        match table.set_route(&route(&format!("host-{filled}"), r#""blue""#), SOON) {
            Ok(()) => filled += 1,
            Err(error) => break error,
        }
    };
    assert!(full.code == Code::Full && filled > 30, "{full}");
    set(&table, "www", r#""blue""#);
    assert_eq!(lead(&table, "www"), to("blue"));
    table.delete_route("www", SOON).expect("there");
    set(&table, "host-more", r#""blue""#);
    assert_no_leak(&table);
}

#[test]
fn a_route_with_any_spoiled_word_is_an_error_and_no_panic() {
    let (table, _scratch) = with(&["blue", "green"]);
    set(&table, "www", r#"{"targets": [["blue", 90], ["green", 10]], "key": "$cookie_u"}"#);
    let (mem, directory) = (table.region().mem(), Directory::new(table.region()));
    let (_, view) = directory.find_of(Kind::ROUTE, b"www").expect("sound").expect("there");
    let mut random = Random(1);
    for word in 0..view.words {
        let at = view.stamp.word() + word;
        let sound = mem.load(at).expect("inside");
        for spoiled in [0, u64::MAX, sound ^ 1, sound ^ 1 << 32, sound ^ 1 << 48, random.below(u64::MAX)] {
            mem.store(at, spoiled).expect("inside");
            for key in [None, Some("k")] {
                // Its words may lead to an upstream by accident.
                let _ = lead_of(&table, "www", key, None);
            }
            let _ = (table.routes(), table.route_to("blue"), table.lost_targets());
        }
        mem.store(at, sound).expect("inside");
    }
    assert_eq!(lead_of(&table, "www", Some("k"), None).map(|led| led.is_some()), Ok(true));
    // A repair drops a route whose targets make no sense.
    mem.store(view.stamp.word() + view.words - 1, u64::MAX).expect("inside");
    assert_eq!(table.repair(&table.writer(SOON).expect("free")), Ok(1));
    assert_eq!((table.routes().map(|all| all.len()), lead(&table, "www")), (Ok(0), Ok(None)));
    assert_no_leak(&table);
}

#[test]
fn a_deleted_route_of_a_file_is_remembered_and_leads_nowhere() {
    let (table, _scratch) = table(SMALL);
    let upstreams = [upstream("blue", &["10.0.0.1"])];
    table.load_with_routes(&upstreams, &[route("www", r#""blue""#)], false, SOON).expect("room");
    table.delete_route("www", SOON).expect("there");
    assert_eq!((lead(&table, "www"), table.route("www").map_err(|error| error.code)), (Ok(None), Err(Code::NotFound)));
    let all = table.all_routes().expect("readable");
    assert!(all.len() == 1 && all[0].flags.has(Flags::DELETED));
    table.delete_upstream("blue", true, SOON).expect("there");
    set_again(&table);
    assert_eq!(lead(&table, "www"), to("blue"));
}

fn set_again(table: &Table) {
    table.set_upstream(&upstream("blue", &["10.0.0.1"]), SOON).expect("room");
    set(table, "www", r#""blue""#);
}

#[test]
fn a_hundred_thousand_hosts_lead_to_their_upstreams() {
    const HOSTS: usize = 100_000;
    let (table, _scratch) = table(128 << 20);
    let names: Vec<String> = (0..10).map(|i| format!("upstream-{i}")).collect();
    names.iter().for_each(|name| table.set_upstream(&upstream(name, &["10.0.0.1"]), SOON).expect("room"));
    let host = |i: usize| format!("customer-{i}.example.com");
    let begun = Instant::now();
    for i in 0..HOSTS {
        set(&table, &host(i), &format!("{:?}", names[i % 10]));
    }
    let made = begun.elapsed();
    let begun = Instant::now();
    for i in 0..HOSTS {
        assert_eq!(lead(&table, &host(i)), to(&names[i % 10]), "{i}");
    }
    let led = begun.elapsed();
    assert_eq!(lead(&table, "customer-100000.example.com"), Ok(None));
    let bytes = used(&table) * dyups::shm::GRANULE as u64 / HOSTS as u64;
    assert!(bytes < 400, "{bytes} bytes a route");
    let begun = Instant::now();
    assert_eq!(table.route_to("nothing"), Ok(None));
    let looked = begun.elapsed();
    tell(format_args!("{HOSTS} hosts: {bytes} bytes, {made:?} to set, {led:?} to look up; {looked:?} to read all"));
}

#[test]
fn no_upstream_goes_while_a_route_to_it_is_being_made() {
    const ROUTES: usize = 200;
    let (table, _scratch) = table(SMALL);
    let made = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !made.load(Ordering::Relaxed) {
                table.set_upstream(&upstream("blue", &[]), SOON).expect("room");
                // Refused while a route names it.
                let _ = table.delete_upstream("blue", false, SOON);
            }
        });
        let mut routes = 0;
        let mut gone = false;
        while routes < ROUTES && !gone {
            if table.set_route(&route("www", r#""blue""#), SOON).is_ok() {
                // Long enough for a deletion that has waited for its turn meanwhile.
                routes += 1;
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_millis(1) {
                    gone |= lead(&table, "www") == Err(Miss::NotFound);
                }
                table.delete_route("www", SOON).expect("there");
            }
        }
        made.store(true, Ordering::Relaxed);
        assert!(!gone, "after {routes} routes");
    });
}
