//! A region of layout 1, as the library wrote it that had no other one, is taken over whole.
//!
//! upstreams.json is the answer of `status` for that region.

#![allow(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

use dyups::shm::layout::Shape;
use dyups::table::Table;
use dyups::table::snapshot::Flags;
use serde_json::Value;
use support::*;

const UPSTREAMS: &str = include_str!("upstreams.json");

fn names_by_age(table: &Table) -> Vec<String> {
    let mut all = table.upstreams().expect("readable");
    all.sort_by_key(|stored| stored.created);
    all.into_iter().map(|stored| stored.upstream.name).collect()
}

#[test]
fn a_region_of_layout_1_is_taken_over_whole() {
    let scratch = Scratch::new();
    let base = scratch.file("region");
    layout_1::made(&base);
    let (table, notes) = open(&base, SMALL).expect("usable");
    assert!(notes.len() == 1 && notes[0].contains("has the table of") && notes[0].contains("region.v1"), "{notes:?}");
    let status: Value =
        serde_json::from_slice(&dyups::status::json(&table, None, None).expect("readable")).expect("JSON");
    let expected: Value = serde_json::from_str(UPSTREAMS).expect("JSON");
    for (name, upstream) in expected.as_object().expect("an object") {
        for (field, value) in upstream.as_object().expect("an object").iter().filter(|(field, _)| *field != "peers") {
            assert_eq!(&status["upstreams"][name][field], value, "{name}.{field}");
        }
        let peers = upstream["peers"].as_array().expect("a list");
        assert_eq!(status["upstreams"][name]["peers"].as_array().expect("a list").len(), peers.len(), "{name}");
        for (index, peer) in peers.iter().enumerate() {
            for (field, value) in peer.as_object().expect("an object") {
                assert_eq!(&status["upstreams"][name]["peers"][index][field], value, "{name}[{index}].{field}");
            }
        }
    }
    let names: Vec<&str> = expected.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(names_by_age(&table), names, "layout 1 does not tell which was first: by name");
    // Remembered, since the files would bring it back.
    let deleted = table.get("deleted").expect("readable").expect("remembered");
    assert!(deleted.flags.has(Flags::DELETED) && deleted.flags.has(Flags::IN_FILE));
    assert!(table.get("touched").expect("readable").expect("there").flags.has(Flags::TOUCHED));
    assert!(dyups::shm::region::file_of(&base, Shape::V1.layout).exists(), "it stays for the way back");
}

#[test]
fn upstreams_keep_the_order_in_which_they_were_made() {
    let (table, _scratch) = table(SMALL);
    for name in ["one", "two", "three", "four"] {
        table.set_upstream(&upstream(name, &["10.0.0.1:80"]), SOON).expect("room");
    }
    table.put_peer("one", &patch("10.0.0.2:80", 3), dyups::table::ops::Absent::Make, SOON).expect("room");
    table.delete_upstream("two", true, SOON).expect("there");
    table.set_upstream(&upstream("two", &["10.0.0.1:80"]), SOON).expect("room");
    assert_eq!(names_by_age(&table), ["one", "three", "four", "two"]);
    let versions: Vec<u64> = table.upstreams().expect("readable").iter().map(|stored| stored.version).collect();
    assert!((1..versions.len()).all(|at| !versions[..at].contains(&versions[at])), "{versions:?}");
}
