//! The other processes: one that is stopped, and those that go on beside it.

use super::support::*;
use super::version::{NAME, version, version_of};
use super::work::Work;
use dyups::balance::miss::Miss;
use dyups::balance::pick::{Ask, Handle, Picked};
use dyups::error::{Code, Result};
use dyups::shm::kill::{self, Counted};
use dyups::table::directory;
use dyups::table::ops::Absent;
use dyups::table::store::Table;
use dyups::upstream::Method;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

/// The peer that the sleeper adds.
pub const ADDED: &str = "12.0.0.1:80";

/// Plays its part for a test in another process.
pub fn play() {
    let Some((role, args)) = role() else { return };
    let [path, size] = &args[..] else { panic!("no region") };
    let table = attach_as_it_is(Path::new(path), size.parse().expect("a number"));
    say("ready");
    match role.as_str() {
        "sleeper" => sleeper(&table),
        "updater" => updater(&table),
        "patient" => patient(&table),
        "reader" => reader(&table),
        other => panic!("no role {other}"),
    }
}

/// Starts a process that has the region.
pub fn start(role: &str, path: &Path, size: u64) -> Helper {
    let mut helper = Helper::start(role, &[&path.display().to_string(), &size.to_string()]);
    assert_eq!(helper.answer().as_deref(), Some("ready"), "{role}");
    helper
}

/// The text of the peer that a handle picks.
pub fn pick(table: &Table, handle: &mut Handle, method: Method) -> std::result::Result<String, Miss> {
    let mut picked = Picked::default();
    handle.pick(
        table,
        Ask { key: Some(b"key"), method: Some(method), tried: None, ..Ask::default() },
        false,
        &mut picked,
    )?;
    Ok(String::from_utf8_lossy(&picked.text[..picked.len as usize]).into_owned())
}

/// Does one thing, and stops itself before access number `nth` to the region while it does; 0: never. Answers the number of
/// accesses, and the result.
fn sleeper(table: &Table) {
    let mut kept = Handle::new(NAME.as_bytes());
    for order in orders() {
        let order: Vec<&str> = order.iter().map(String::as_str).collect();
        let [what, how, nth] = order[..] else { panic!("no such order: {order:?}") };
        let method = Method::NAMES.into_iter().find_map(|(name, method)| (name == how).then_some(method));
        let arm = |kind| kill::arm(kind, nth.parse().expect("a number"), libc::SIGSTOP);
        let shown = |picked: std::result::Result<String, Miss>| picked.unwrap_or_else(|miss| format!("{miss:?}"));
        let result = match what {
            // A new handle looks the name up first.
            "find" => {
                let mut handle = Handle::new(NAME.as_bytes());
                arm(Counted::Any);
                shown(pick(table, &mut handle, method.expect(how)))
            }
            "find-again" => {
                arm(Counted::Any);
                shown(pick(table, &mut kept, method.expect(how)))
            }
            "add" => {
                arm(if how == "store" { Counted::Store } else { Counted::Any });
                let done = table.put_peer(NAME, &patch(ADDED, 1), Absent::Make, SOON);
                done.map_or_else(|error| error.to_string(), |()| "done".into())
            }
            _ => panic!("no such order: {order:?}"),
        };
        say(format_args!("{} {result}", kill::disarm()));
    }
}

/// The upstream whose record shares the chain.
pub fn neighbour() -> &'static str {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| in_bucket(directory::hash(NAME.as_bytes()) % 64, 1));
    &NAMES[0]
}

/// Changes without patience: versions of the one upstream, and a neighbour that comes and goes in the memory that they leave.
fn updater(table: &Table) {
    let mut number = 0;
    for order in orders() {
        let work = Work::of(order[0].parse().expect("milliseconds"), |round, work| {
            let beside = round % 4 == 3;
            let done = match beside {
                false => table.set_upstream(&version(number + 1), Duration::ZERO),
                true if round % 8 == 3 => table.set_upstream(&upstream(neighbour(), &["11.0.0.1"]), Duration::ZERO),
                true => match table.delete_upstream(neighbour(), true, Duration::ZERO) {
                    // Another process was writing when it was to be made.
                    Err(error) if error.code == Code::NotFound => Ok(()),
                    done => done,
                },
            };
            number += u64::from(done.is_ok() && !beside);
            note(work, table, done);
        });
        say(work);
    }
}

/// Changes that wait for their turn as long as Lua's do where they cannot yield.
fn patient(table: &Table) {
    for order in orders() {
        let work = Work::of(order[0].parse().expect("milliseconds"), |round, work| {
            let change = patch("13.0.0.1:80", 1 + (round % 2) as u16);
            note(work, table, table.put_peer("patient", &change, Absent::Make, PATIENCE));
        });
        say(work);
    }
}

/// See lua/dyups/retry.lua.
pub const PATIENCE: Duration = Duration::from_millis(20);

fn note(work: &mut Work, table: &Table, done: Result<()>) {
    work.most_used = work.most_used.max(used(table));
    match done {
        Ok(()) => work.done += 1,
        Err(error) if error.code == Code::Busy => {
            work.busy += 1;
            work.message = error.to_string();
        }
        Err(error) => panic!("{error}"),
    }
}

/// Picks, of versions that never go back.
fn reader(table: &Table) {
    let mut kept = Handle::new(NAME.as_bytes());
    let mut last = 0;
    for order in orders() {
        let work = Work::of(order[0].parse().expect("milliseconds"), |round, work| {
            let (_, method) = Method::NAMES[round as usize % 2];
            let mut new = Handle::new(NAME.as_bytes());
            let handle = if round % 4 < 2 { &mut kept } else { &mut new };
            let text = pick(table, handle, method).expect("a peer");
            work.done += 1;
            if text != ADDED {
                let number = version_of(&text).unwrap_or_else(|| panic!("{text} is of no version"));
                assert!(number >= last, "{number} after {last}");
                last = number;
            }
        });
        say(work);
    }
}
