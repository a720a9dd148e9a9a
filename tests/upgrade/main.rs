//! From one layout to the next and back: two libraries, each in processes of its own, beside one lock file.

#![allow(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

mod library;
mod trace;

use dyups::shm::region::history_of;
use library::shell;
use std::path::{Path, PathBuf};
use support::*;
use support::{next, shipped};

/// Carries out the orders of a test in another process; does nothing when it runs as a test.
#[test]
fn helper_process() {
    match role() {
        Some((role, args)) if role == "shell" => shell(&args),
        Some((role, _)) => panic!("no role {role}"),
        None => {}
    }
}

/// A process with one of the two libraries.
fn process(library: &Path) -> Helper {
    let mut helper = Helper::start("shell", &[library.to_str().expect("UTF-8")]);
    assert_eq!(helper.answer().as_deref(), Some("ready"));
    helper
}

fn setup(scratch: &Scratch) -> String {
    format!("setup {{\"shm_path\":\"{}\",\"shm_size\":\"1m\",\"statistics\":false}}", scratch.file("region").display())
}

/// A process with the old library and its region.
fn old(scratch: &Scratch) -> Helper {
    let mut old = process(&shipped::library());
    assert_eq!(old.ok(&setup(scratch)), "");
    old
}

/// A process with the new library and its region, and its messages for the operator.
fn new(scratch: &Scratch) -> (Helper, String) {
    let mut new = process(next::library());
    let notes = new.ok(&setup(scratch));
    (new, notes)
}

fn file(scratch: &Scratch, layout: u32) -> PathBuf {
    dyups::shm::region::file_of(&scratch.file("region"), layout)
}

fn taken_over(scratch: &Scratch) -> String {
    let [old, new] = [next::LAYOUT - 1, next::LAYOUT].map(|layout| file(scratch, layout));
    format!("{} has the table of {}, which stays for the way back", new.display(), old.display())
}

fn taken_over_again(scratch: &Scratch) -> String {
    let [old, new] = [next::LAYOUT - 1, next::LAYOUT].map(|layout| file(scratch, layout));
    format!("{} has the table of {} again, which was changed since", new.display(), old.display())
}

fn assert_superseded(helper: &mut Helper) {
    let error = helper.refused("set api 10.9.9.9:80");
    assert!(error.starts_with(&format!("-12 superseded by layout {} (held by ", next::LAYOUT)), "{error}");
}

#[test]
fn the_table_goes_over_whole_and_the_old_one_stays() {
    let scratch = Scratch::new();
    let mut old = old(&scratch);
    let peers = |count: usize, method: &str| {
        let list: Vec<String> = (0..count)
            .map(|i| {
                let server = match i % 3 {
                    0 => format!("10.0.{}.{}:80{}", i / 250, i % 250, i % 10),
                    1 => format!("[2001:db8:aaaa:bbbb:cccc:dddd:1111:{i:x}]:8443"),
                    _ => format!("unix:/run/a/path/that/is/longer/than/one/word/and/than/a/peer/{i}"),
                };
                format!(
                    "{{\"server\":\"{server}\",\"weight\":{},\"status\":\"{}\",\"backup\":{},\"max_conns\":{i},\"max_fails\":7,\
                     \"fail_timeout\":{},\"slow_start\":5}}",
                    i % 7,
                    ["up", "down", "drain"][i % 11 % 3],
                    i % 5 == 4,
                    i * 3
                )
            })
            .collect();
        format!("{{\"peers\":[{}]{method}}}", list.join(","))
    };
    for (i, method) in
        ["", ",\"method\":\"rr\"", ",\"method\":\"chash\"", ",\"method\":\"chash\",\"hash_id\":\"host:port\""]
            .iter()
            .enumerate()
    {
        for count in [0, 1, 3, 200] {
            old.ok(&format!("set_json u{i}-{count} {}", peers(count, method)));
        }
    }
    let table = old.ok("upstreams");
    let (mut new, notes) = new(&scratch);
    assert!(notes.starts_with(&taken_over(&scratch)), "{notes}");
    assert_eq!(new.ok("upstreams"), table);
    assert_eq!(old.ok("upstreams"), table);
    for i in 0..4 {
        let picks = format!("picks u{i}-200 300");
        assert_eq!(new.ok(&picks), old.ok(&picks), "the same picks");
    }
    new.finish();
    old.finish();
}

#[test]
fn while_the_new_one_lives_the_old_one_is_refused_and_when_it_dies_it_writes_again() {
    let scratch = Scratch::new();
    let mut old = old(&scratch);
    old.ok("start");
    old.ok("set api 10.0.0.1:80");
    let (mut first, _) = new(&scratch);
    assert_superseded(&mut old);
    first.ok("start");
    let (mut second, notes) = new(&scratch);
    assert_eq!(notes, "", "it finds what the first one made");
    first.ok("set new 10.0.0.2:80");
    assert_eq!(second.ok("list"), "api new");
    assert_eq!(old.ok("list"), "api", "what it reads is what it had");
    first.kill();
    assert_superseded(&mut old);
    second.kill();
    old.ok("set api 10.0.0.3:80");
    old.finish();
}

#[test]
fn a_changed_old_table_is_taken_over_again_and_an_unchanged_one_is_not() {
    let scratch = Scratch::new();
    let mut old = old(&scratch);
    old.ok("set api 10.0.0.1:80");
    let (mut first, _) = new(&scratch);
    first.ok("set only-new 10.0.0.2:80");
    first.kill();
    let (mut second, notes) = new(&scratch);
    assert_eq!((notes.as_str(), second.ok("list").as_str()), ("", "api only-new"), "nothing happened to the old one");
    second.kill();
    old.ok("set only-old 10.0.0.3:80");
    let (mut third, notes) = new(&scratch);
    assert!(notes.starts_with(&taken_over_again(&scratch)), "{notes}");
    assert_eq!(third.ok("list"), "api only-old");
    third.finish();
    let (mut fourth, notes) = new(&scratch);
    assert_eq!((notes.as_str(), fourth.ok("list").as_str()), ("", "api only-old"));
    // The old file may go when there will be no way back.
    fourth.ok("set late 10.0.0.4:80");
    fourth.kill();
    old.kill();
    std::fs::remove_file(file(&scratch, next::LAYOUT - 1)).expect("remove");
    let (mut fifth, notes) = new(&scratch);
    assert_eq!((notes.as_str(), fifth.ok("list").as_str()), ("", "api late only-old"));
    fifth.finish();
}

#[test]
fn an_old_region_that_was_made_anew_and_never_used_has_nothing_to_say() {
    let scratch = Scratch::new();
    let mut first = old(&scratch);
    first.ok("set api 10.0.0.1:80");
    let (mut new_one, _) = new(&scratch);
    new_one.ok("set only-new 10.0.0.2:80");
    first.kill();
    // There is no way back any more, and then the old one is started all the same.
    std::fs::remove_file(file(&scratch, next::LAYOUT - 1)).expect("remove");
    let mut again = process(&shipped::library());
    let notes = again.ok(&setup(&scratch));
    assert!(notes.contains("superseded by layout"), "{notes}");
    again.finish();
    new_one.kill();
    let (mut new_one, notes) = new(&scratch);
    assert_eq!((notes.as_str(), new_one.ok("list").as_str()), ("", "api only-new"));
    new_one.finish();
}

#[test]
fn whenever_the_last_of_the_new_ones_dies_while_another_comes_nothing_acknowledged_is_lost() {
    let scratch = Scratch::new();
    let mut old = old(&scratch);
    let (mut acknowledged, mut refused) = (0, 0);
    for nth in 1u32.. {
        old.ok(&format!("set api 10.1.{}.{}:80", nth / 250, nth % 250));
        let (mut last, _) = new(&scratch);
        let (server, mut answer) = (format!("10.2.{}.{}:80", nth / 250, nth % 250), String::new());
        let watched = trace::watched(process(next::library()), &setup(&scratch), |call| {
            if call == nth {
                last.kill();
                answer = old.ask(&format!("try api {server}"));
            }
            true
        });
        let mut coming = watched.expect("it was not killed");
        assert!(coming.answer().is_some_and(|answer| answer.starts_with("ok ")));
        match answer.as_str() {
            "" => {
                coming.kill();
                last.kill();
                break;
            }
            "ok " => {
                acknowledged += 1;
                assert!(coming.ok("upstreams").contains(&server[..server.len() - 3]), "system call {nth}: {server}");
            }
            _ => refused += 1,
        }
        assert_superseded(&mut old);
        coming.kill();
    }
    assert!(acknowledged > 5 && refused > 5, "{acknowledged} acknowledged, {refused} refused");
    old.finish();
}

#[test]
fn a_table_is_taken_over_even_where_somebody_says_that_the_new_layout_is_in_use() {
    let scratch = Scratch::new();
    let mut old = old(&scratch);
    old.ok("set api 10.0.0.1:80");
    // A worker gone bad can lock any byte.
    old.ok(&format!(
        "hold {} {}",
        dyups::shm::lock::first_byte(next::LAYOUT) + 7,
        scratch.file("region.lock").display()
    ));
    let (mut new, notes) = new(&scratch);
    assert!(notes.starts_with(&taken_over(&scratch)), "{notes}");
    assert_eq!(new.ok("list"), "api");
    new.finish();
    old.finish();
}

#[test]
fn who_was_forked_after_the_setup_keeps_the_old_one_out() {
    let scratch = Scratch::new();
    let mut old = old(&scratch);
    let (mut maker, _) = new(&scratch);
    let child: i32 = maker.ok("orphan").parse().expect("a pid");
    // As when nginx becomes a daemon.
    maker.kill();
    assert_superseded(&mut old);
    // SAFETY: a signal to a process that waits for nothing else.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0);
    wait_for("the old one writes again", || old.ask("set api 10.0.0.1:80") == "ok ");
    old.finish();
}

#[test]
fn a_stopped_old_writer_is_named_and_nothing_is_superseded() {
    let scratch = Scratch::new();
    let (mut holder, mut other) = (old(&scratch), old(&scratch));
    other.ok("set api 10.0.0.1:80");
    holder.ok(&format!("hold {} {}", dyups::shm::lock::WRITER, scratch.file("region.lock").display()));
    holder.stop();
    let mut new = process(next::library());
    let error = new.refused(&setup(&scratch));
    assert!(error.starts_with("-5 ") && error.ends_with(&format!("busy, held by pid {}", holder.pid())), "{error}");
    holder.kill();
    other.ok("set api 10.0.0.2:80");
    assert!(new.ok(&setup(&scratch)).starts_with(&taken_over(&scratch)));
    new.finish();
    other.finish();
}

#[test]
fn one_process_does_not_get_two_layouts_and_loses_no_lock_by_asking() {
    let scratch = Scratch::new();
    let (mut both, mut other) = (old(&scratch), old(&scratch));
    assert_eq!(both.ok("start"), "0");
    both.ok(&format!("load {}", next::library().display()));
    let error = both.refused(&setup(&scratch));
    assert!(
        error.contains("in use in this process") && error.ends_with("restart nginx, or upgrade it by USR2"),
        "{error}"
    );
    assert_eq!(other.ok("start"), "1", "the slot of the first library is still held");
    other.ok("set api 10.0.0.1:80");
    both.finish();
    other.finish();
}

#[test]
fn a_library_that_was_replaced_since_it_was_loaded_is_said_so_at_each_setup() {
    let scratch = Scratch::new();
    let (path, other) = (scratch.file("libdyups.so"), scratch.file("other.so"));
    std::fs::copy(shipped::library(), &path).expect("copy");
    let mut helper = process(&path);
    assert_eq!(helper.ok(&setup(&scratch)), "");
    assert_eq!(helper.ok(&setup(&scratch)), "");
    std::fs::copy(next::library(), &other).expect("copy");
    std::fs::rename(&other, &path).expect("rename");
    let note = format!("{} was replaced: a reload goes on with the library that is loaded, version ", path.display());
    for _ in 0..2 {
        let notes = helper.ok(&setup(&scratch));
        assert!(notes.starts_with(&note) && notes.ends_with("USR2, to use the new one"), "{notes}");
    }
    helper.ok("set api 10.0.0.1:80");
    helper.finish();
}

#[test]
fn what_the_old_one_acknowledged_last_before_it_was_refused_is_in_the_new_table() {
    let scratch = Scratch::new();
    let mut old = old(&scratch);
    for round in 0..10 {
        old.send("until_refused api");
        // It is in the middle of it.
        assert_eq!(old.answer().as_deref(), Some("ok begun"));
        let (mut new, _) = new(&scratch);
        let last = old.answer().expect("alive");
        let (weight, error) = last.split_once(' ').expect("two");
        assert!(error.starts_with("-12 superseded"), "{last}");
        let table = new.ok("upstreams");
        assert!(table.contains(&format!("\"weight\":{weight}")), "round {round}: {last}: {table}");
        new.kill();
    }
    old.finish();
}

#[test]
fn whenever_the_old_one_writes_while_its_table_is_taken_over_it_is_refused_or_the_new_table_has_it() {
    for again in [false, true] {
        let scratch = Scratch::new();
        let mut old = old(&scratch);
        old.ok("set api 10.0.0.0:80");
        if again {
            new(&scratch).0.kill();
            old.ok("set api 10.0.0.1:80");
        }
        let (mut last, mut busy, mut superseded, mut let_in_again) = (String::new(), 0, 0, false);
        let watched = trace::watched(process(next::library()), &setup(&scratch), |call| {
            let server = format!("10.1.{}.{}:80", call / 250, call % 250);
            match old.ask(&format!("try api {server}")) {
                answer if answer == "ok " => {
                    // In between it could be at a change that is not yet there when the table is read.
                    let_in_again |= busy + superseded > 0;
                    last = server;
                }
                answer if answer.starts_with("err -5 ") => busy += 1,
                answer if answer.starts_with("err -12 ") => superseded += 1,
                answer => panic!("{answer}"),
            }
            true
        });
        let mut new = watched.expect("it was not killed");
        assert!(new.answer().is_some_and(|answer| answer.starts_with("ok ")));
        let table = new.ok("upstreams");
        assert!(table.contains(last.split(':').next().expect("a host")), "{last} was acknowledged: {table}");
        assert!(!let_in_again, "kept out once, it was let in again");
        assert!(!last.is_empty() && busy > 0 && superseded > 0, "{last}, {busy} busy, {superseded} superseded");
        new.finish();
        old.finish();
    }
}

#[test]
fn a_process_that_dies_at_any_system_call_of_the_take_over_leaves_the_old_one_in_charge() {
    let scratch = Scratch::new();
    let mut old = old(&scratch);
    let mut points = 0;
    // First with no region of the new layout, then with one that is no longer true.
    for again in [false, true] {
        for nth in 1.. {
            let new_file = file(&scratch, next::LAYOUT);
            if !again {
                let _ = std::fs::remove_file(&new_file);
            } else if !new_file.exists() {
                new(&scratch).0.finish();
            }
            old.ok(&format!("set api 10.{}.{}.1:80", u8::from(again), nth % 250));
            // Otherwise there is more to copy, and so there are more system calls, with each of these deaths.
            if nth > 5 {
                let _ = std::fs::remove_file(history_of(&scratch.file("region"), next::LAYOUT - 1));
            }
            let survivor = trace::watched(process(next::library()), &setup(&scratch), |call| call < nth);
            let survived = survivor.map(|mut survivor| survivor.kill()).is_some();
            old.ok(&format!("set api 10.{}.{}.2:80", u8::from(again), nth % 250));
            let table = old.ok("upstreams");
            let (mut next, _) = new(&scratch);
            assert_eq!(next.ok("upstreams"), table, "again: {again}, system call {nth}");
            next.ok("set new 10.0.0.2:80");
            next.kill();
            if survived {
                break;
            }
            points += 1;
        }
    }
    println!("{points} deaths at system calls of a take-over");
    assert!(points > 50, "{points}");
    old.finish();
}

/// An upstream as a library with wider bounds and more options takes it, and this one does not.
fn wide() -> String {
    let statuses: Vec<String> = (300..400).map(|status| status.to_string()).collect();
    let url = "x".repeat(9000);
    format!(
        "{{\"method\":\"chash\",\"healthcheck\":{{\"interval\":3,\"interval_down\":200000000,\"concurrency\":50000,\
         \"valid_statuses\":[{},999],\"url\":\"/{url}\",\"fall\":7}},\"peers\":[{{\"server\":\"10.0.0.1:80\",\"weight\":3}},\
         {{\"server\":\"10.0.0.2:80\",\"check_port\":81,\"check_url\":\"/{url}\"}},{{\"server\":\"10.0.0.3:80\",\"check_port\":82}}]}}",
        statuses.join(",")
    )
}

#[test]
fn what_a_library_with_wider_bounds_and_more_options_has_stored_an_older_one_keeps_and_changes_the_rest() {
    const OPTION: (&str, &str) = ("next_option", r#"{"a":[1,2.50],"b":"ü"}"#);
    let scratch = Scratch::new();
    let mut newer = process(next::with_more_options());
    assert_eq!(newer.ok(&setup(&scratch)), "");
    for name in ["api", "a|b"] {
        newer.ok(&format!("set_json {name} {}", wide()));
    }
    let before: serde_json::Value = serde_json::from_str(&newer.ok("upstreams")).expect("JSON");
    newer.finish();

    // The older one, which checks all of it, since no other process is there.
    let (table, notes) = open(&scratch.file("region"), 1 << 20).expect("sound");
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(names(&table), ["api", "a|b"]);
    for name in ["api", "a|b"] {
        assert_eq!(table.name(name.as_bytes()), Ok(name), "what is there can be named");
        table.put_peer(name, &patch("10.0.0.3:80", 9), dyups::table::ops::Absent::Refuse, SOON).expect("there");
        table.delete_peer(name, &address("10.0.0.1:80"), SOON).expect("there");
        let fall = dyups::config::value::parse(br#"{"fall":5}"#).expect("JSON");
        table.set_check(name, dyups::config::check::change(&fall), SOON).expect("good");
        let stored = table.upstream(name).expect("there").upstream;
        let check = stored.check.as_ref().expect("one");
        assert_eq!((check.interval, check.concurrency, check.fall), (3, 50_000, 5), "it goes on as far as it can");
        let foreign = stored.foreign.as_ref().expect("some");
        for kept in [&foreign.options, &check.kept, &stored.peers[0].check.as_ref().expect("its own").kept] {
            assert_eq!(kept.iter().collect::<Vec<_>>(), [OPTION], "{name}");
        }
    }
    drop(table);

    let mut newer = process(next::with_more_options());
    assert_eq!(newer.ok(&setup(&scratch)), "");
    let after: serde_json::Value = serde_json::from_str(&newer.ok("upstreams")).expect("JSON");
    let mut expected = before;
    for upstream in expected.as_object_mut().expect("an object").values_mut() {
        upstream["healthcheck"]["fall"] = 5.into();
        upstream["peers"].as_array_mut().expect("a list").remove(0);
        upstream["peers"][1]["weight"] = 9.into();
    }
    assert_eq!(after, expected);
    newer.finish();
}
