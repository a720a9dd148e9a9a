//! Pages that go while they are mapped. A process that touches one lives on, and harms no other process from then on.

#![allow(unsafe_code)]

mod support;

use dyups::error::Code;
use dyups::shm::Memory;
use dyups::shm::layout::state;
use dyups::upstream::Upstream;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use support::*;

const SIZE: u64 = 1 << 20;
const PAGE: u64 = 4096;

/// Plays its part for a test in another process; nothing when it runs as a test.
#[test]
fn helper_process() {
    match role() {
        Some((role, args)) if role == "user" => user(&args[0], Path::new(&args[1])),
        Some((role, _)) => panic!("no role {role}"),
        None => {}
    }
}

static CAUGHT: AtomicU32 = AtomicU32::new(0);

extern "C" fn catch(_: i32) {
    CAUGHT.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn catch_info(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the siginfo from the caller of the handler.
    CAUGHT.fetch_add(if unsafe { (*info).si_signo } == libc::SIGBUS { 1 } else { 1000 }, Ordering::Relaxed);
}

/// A process that does something of its own about SIGBUS, and then opens the region.
fn user(before: &str, path: &Path) {
    let (handler, flags) = match before {
        "default" => (libc::SIG_DFL, 0),
        "ignored" => (libc::SIG_IGN, 0),
        "handler" => (catch as *const () as usize, 0),
        _ => (catch_info as *const () as usize, libc::SA_SIGINFO),
    };
    // SAFETY: zeros are a valid sigaction, and both handlers only count.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        (action.sa_sigaction, action.sa_flags) = (handler, flags);
        assert_eq!(libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()), 0);
    }
    let (table, _) = open(path, SIZE).expect("usable");
    say("ready");
    for order in orders() {
        match order[0].as_str() {
            "caught" => say(CAUGHT.load(Ordering::Relaxed)),
            "torn" => {
                let last = table.region().mem().words() - 1;
                say(format_args!("{:?} {}", table.region().mem().load(last), table.region().mem().is_torn()));
            }
            other => panic!("no order {other}"),
        }
    }
}

fn cut(path: &Path, size: u64) {
    File::options().write(true).open(region_file(path)).and_then(|file| file.set_len(size)).expect("cut");
}

#[test]
fn a_bus_error_that_is_not_ours_goes_where_it_went_before_and_ours_are_still_caught() {
    for before in ["handler", "handler with info", "ignored", "default"] {
        let (_table, scratch) = table(SIZE);
        let path = scratch.file("region");
        let mut user = Helper::start("user", &[before, path.to_str().expect("UTF-8")]);
        assert_eq!(user.answer().as_deref(), Some("ready"));
        if before == "default" {
            user.signal(libc::SIGBUS);
            assert_eq!(user.answer(), None);
            assert_eq!(user.kill().signal(), Some(libc::SIGBUS));
            continue;
        }
        for sent in 1..=2 {
            user.signal(libc::SIGBUS);
            if before != "ignored" {
                wait_for("it is caught", || user.ask("caught") == sent.to_string());
            }
        }
        cut(&path, SIZE - PAGE);
        assert_eq!(user.ask("torn"), "Ok(0) true", "{before}");
        user.finish();
    }
}

/// An upstream of so many peers.
fn api(peers: usize) -> Upstream {
    let servers: Vec<String> = (0..peers).map(|i| format!("10.0.{}.{}:80", i / 250, i % 250)).collect();
    upstream("api", &servers.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_page_that_goes_under_a_change_is_nobody_elses_damage() {
    let (one, scratch) = table(SIZE);
    let path = scratch.file("region");
    let (other, _) = open(&path, SIZE).expect("usable");
    // From here on it knows that there is memory where the large one lay.
    [2, 2000, 2].iter().for_each(|&peers| one.set_upstream(&api(peers), SOON).expect("room"));
    let heap = one.region().geometry().spare_end() as u64 * 64;
    cut(&path, heap.next_multiple_of(PAGE) + 2 * PAGE);
    let error = one.set_upstream(&api(2000), SOON).expect_err("not seen by all");
    assert_eq!(error.code, Code::Damaged);
    cut(&path, SIZE);
    assert_ne!(other.region().mem().load(state::WRITING), Ok(0), "the next one is to repair");
    assert_eq!(other.upstream("api").expect("as it was").upstream, api(2));
    other.put_peer("api", &patch("10.9.9.9:80", 1), dyups::table::ops::Absent::Make, SOON).expect("usable");
    other.set_upstream(&api(2000), SOON).expect("room");
    assert_no_leak(&other);
    let error = one.set_upstream(&api(1), SOON).expect_err("it is torn");
    assert_eq!(error.code, Code::Damaged);
    assert_eq!(other.upstream("api").expect("as it was").upstream, api(2000));
}
