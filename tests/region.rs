//! The region as a file that processes find, share, damage and lose; its locks and its slots.

#![allow(unsafe_code)]

mod support;

use dyups::error::{Code, Error, Result};
use dyups::shm::layout::{LAYOUT, MAGIC, fixed, state};
use dyups::shm::lock::{CREATION, LockFile, WRITER, first_byte, writer_byte};
use dyups::shm::{Damaged, Memory, Writer};
use dyups::table::directory::Directory;
use dyups::table::store::Table;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::*;

const MIB: u64 = 1 << 20;

// ---- the other process ------------------------------------------------------------------------------------------------

/// Carries out the orders of a test in another process; does nothing when it runs as a test.
#[test]
fn helper_process() {
    match role() {
        Some((role, _)) if role == "shell" => shell(),
        Some((role, _)) => panic!("no role {role}"),
        None => {}
    }
}

fn shell() {
    let mut table: Option<&'static Table> = None;
    let mut writer: Option<Writer<'static>> = None;
    let mut wait = Duration::from_secs(2);
    say("ready");
    for order in orders() {
        let args: Vec<&str> = order[1..].iter().map(String::as_str).collect();
        let with = || table.expect("open first");
        match (order[0].as_str(), args.as_slice()) {
            ("open", [path, size]) => report(open(Path::new(path), size.parse().expect("size")).map(|(new, notes)| {
                table = Some(Box::leak(Box::new(new)));
                notes.join("; ")
            })),
            ("setup", json) => report(dyups::config::setup::Setup::read(json.join(" ").as_bytes()).and_then(|conf| {
                let mut notes = Vec::new();
                dyups::process::setup(&conf, &mut notes).map(|()| notes.join("; "))
            })),
            ("start", []) => report(dyups::process::start()),
            ("wait", [ms]) => {
                wait = Duration::from_millis(ms.parse().expect("a number"));
                say("ok");
            }
            ("uid", [uid]) => {
                become_user(uid.parse().expect("uid"));
                say("ok");
            }
            ("claim", []) => report(with().region().claim_slot()),
            ("put", [name, server]) => report(put(with(), name, server, wait)),
            ("delete", [name]) => report(with().delete_upstream(name, true, wait).map(|()| "")),
            ("list", []) => say(format_args!("ok {}", names(with()).join(" "))),
            ("lost", []) => say(format_args!("ok {}", with().region().lost().unwrap_or_default())),
            ("hold", []) => {
                writer = Some(with().writer(wait).expect("free"));
                say("ok");
            }
            ("half", []) => {
                half_a_change(writer.as_ref().expect("held")).expect("sound");
                say("ok");
            }
            ("orphan", []) => say(format_args!("ok {}", orphan())),
            ("fork", []) => say(format_args!("ok {}", forked(with(), writer.as_ref()))),
            ("bytes", [path, first, count]) => {
                lock_bytes(Path::new(path), first.parse().expect("first"), count.parse().expect("count"));
                say("ok");
            }
            ("fds", []) => say(format_args!("ok {}", descriptors())),
            _ => panic!("no order {order:?}"),
        }
    }
    drop(writer);
}

fn start() -> Helper {
    let mut helper = Helper::start("shell", &[]);
    assert_eq!(helper.answer().as_deref(), Some("ready"));
    helper
}

/// A process that has the region open, and its messages for the operator.
fn user(path: &Path, size: u64) -> (Helper, String) {
    let mut helper = start();
    let notes = helper.ok(&format!("open {} {size}", path.display()));
    (helper, notes)
}

/// Opens the region in another process, which ends: the table's names, and the messages for the operator.
fn look(path: &Path, size: u64) -> (String, String) {
    let (mut helper, notes) = user(path, size);
    let names = helper.ok("list");
    helper.finish();
    (names, notes)
}

/// Opens, in another process, a region that cannot be opened. Asserts the code; answers the message.
fn refused(path: &Path, size: u64) -> String {
    let mut helper = start();
    let error = helper.refused(&format!("open {} {size}", path.display()));
    helper.finish();
    error
}

fn put(table: &Table, name: &str, server: &str, wait: Duration) -> Result<&'static str> {
    table.put_peer(name, &patch(server, 1), dyups::table::ops::Absent::Make, wait).map(|()| "")
}

/// The leavings of a writer that dies in the middle of making an upstream.
fn half_a_change(writer: &Writer<'_>) -> Result<(), Error> {
    let directory = Directory::over(writer.mem(), writer.geometry());
    writer.begin()?;
    writer.allocate(&[7; 1000])?;
    let record = directory.free_record()?.ok_or(Damaged)?;
    Ok(directory.link(record, b"never")?)
}

fn become_user(uid: u32) {
    // SAFETY: three calls that take numbers and change the user of this process, as intended.
    let done = unsafe { libc::setgroups(0, std::ptr::null()) == 0 && libc::setgid(uid) == 0 && libc::setuid(uid) == 0 };
    assert!(done, "{}", std::io::Error::last_os_error());
}

/// Tries in a forked child to take the locks of the parent, and drops the parent's guard there. The child's findings as a
/// number. 1: the writer lock was free to it. 2: it was not told that the parent holds it. 4: its own slot was its parent's.
fn forked(table: &Table, held: Option<&Writer<'_>>) -> i32 {
    // SAFETY: no other thread of this helper matters. None holds a lock of the allocator, and glibc takes care of its own locks
    // at a fork. The child ends by _exit.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let mut found = 0;
        if let Some(held) = held {
            // A guard that the child inherited: dropping it must not free the parent's lock.
            // SAFETY: the copy lives in the child's own memory, where the original is never used or dropped again.
            drop(unsafe { std::ptr::read(held) });
        }
        match table.region().writer(Duration::ZERO) {
            Ok(_) => found |= 1,
            Err(error) if error.message.contains(&format!("pid {}", std::os::unix::process::parent_id())) => {}
            Err(_) => found |= 2,
        }
        if dyups::process::own_slot().is_some() {
            found |= 4;
        }
        // SAFETY: ends the child at once, without running the functions that the parent registered.
        unsafe { libc::_exit(found) }
    }
    let mut status = 0;
    // SAFETY: waits for the child made above and writes its status into a live integer.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert!(libc::WIFEXITED(status), "{status}");
    libc::WEXITSTATUS(status)
}

/// Open descriptors: `deleted or name:cloexec` of those that lead to files with "region" in their names.
fn descriptors() -> String {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").expect("proc") {
        let entry = entry.expect("proc");
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        if target.contains("region") {
            let fd: i32 = entry.file_name().to_string_lossy().parse().expect("a number");
            // SAFETY: asks for the flags of a descriptor; no memory is involved.
            let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
            found.push(format!("{}:{}", target.rsplit('/').next().unwrap_or(""), flags & libc::FD_CLOEXEC));
        }
    }
    found.join(" ")
}

// ---- files ------------------------------------------------------------------------------------------------------------

fn read_words(path: &Path) -> Vec<u64> {
    std::fs::read(path).expect("read").as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect()
}

fn patch_word(path: &Path, index: usize, value: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("open");
    file.write_all_at(&value.to_ne_bytes(), index as u64 * 8).expect("write");
}

/// Changes a word of the header and makes the checksum right again.
fn patch_header(path: &Path, index: usize, value: u64) {
    patch_word(path, index, value);
    let mut hasher = crc32fast::Hasher::new();
    read_words(path)[..fixed::CHECKSUM].iter().for_each(|word| hasher.update(&word.to_ne_bytes()));
    patch_word(path, fixed::CHECKSUM, hasher.finalize().into());
}

/// A region with the upstream `api` in it that no process uses; the name that its users give it.
fn abandoned(scratch: &Scratch, size: u64) -> PathBuf {
    let path = scratch.file("region");
    let (mut helper, notes) = user(&path, size);
    assert_eq!(notes, "");
    helper.ok("put api 10.0.0.1:80");
    helper.finish();
    path
}

/// The names in the directory, with `.vN` for the layout.
fn entries(scratch: &Scratch) -> Vec<String> {
    let layout = format!(".v{LAYOUT}");
    let mut names: Vec<String> = std::fs::read_dir(scratch.path())
        .expect("read")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().replace(&layout, ".vN"))
        .collect();
    names.sort();
    names
}

// ---- life -------------------------------------------------------------------------------------------------------------

#[test]
fn a_new_region_is_a_file_of_its_size_that_only_its_owner_may_open() {
    let scratch = Scratch::new();
    let path = scratch.file("region");
    let (table, notes) = open(&path, MIB).expect("made");
    assert!(notes.is_empty(), "{notes:?}");
    for file in [&region_file(&path), &scratch.file("region.lock")] {
        assert_eq!(std::fs::metadata(file).expect("there").mode() & 0o7777, 0o600, "{}", file.display());
    }
    assert_eq!(std::fs::metadata(region_file(&path)).expect("there").len(), MIB);
    assert_eq!(entries(&scratch), ["region.lock", "region.vN", "region.vN.cells", "region.vN.history"]);
    assert_eq!((names(&table), table.region().lost()), (vec![], None));
}

#[test]
fn an_empty_region_takes_no_more_memory_than_it_must() {
    let scratch = Scratch::new();
    open(&scratch.file("region"), 128 * MIB).expect("usable");
    let path = |name: &String| scratch.file(&name.replace("vN", &format!("v{LAYOUT}")));
    let taken = |name: &String| std::fs::metadata(path(name)).expect("there").blocks() * 512;
    // With layout 1 it took 6,704 KiB.
    let all: u64 = entries(&scratch).iter().map(taken).sum();
    assert!((1..=4 * MIB).contains(&all), "{all} bytes");
}

#[test]
fn processes_see_the_same_table() {
    let scratch = Scratch::new();
    let path = scratch.file("region");
    let ((mut a, _), (mut b, notes)) = (user(&path, MIB), user(&path, MIB));
    assert_eq!(notes, "");
    a.ok("put one 10.0.0.1:80");
    assert_eq!(b.ok("list"), "one");
    b.ok("put two unix:/run/two");
    b.ok("delete one");
    assert_eq!(a.ok("list"), "two");
    a.finish();
    b.finish();
}

#[test]
fn the_table_outlives_all_its_processes() {
    let scratch = Scratch::new();
    let path = scratch.file("region");
    let ((mut a, _), (mut b, _)) = (user(&path, MIB), user(&path, MIB));
    a.ok("put one 10.0.0.1:80");
    b.ok("put two 10.0.0.2:80");
    a.ok("hold");
    a.kill();
    b.kill();
    assert_eq!(look(&path, MIB), ("one two".into(), "".into()));
}

#[test]
fn processes_that_make_the_region_at_once_get_one() {
    for _ in 0..5 {
        let scratch = Scratch::new();
        let order = format!("open {} {MIB}", scratch.file("region").display());
        let mut helpers: Vec<Helper> = (0..4).map(|_| start()).collect();
        helpers.iter_mut().for_each(|helper| helper.send(&order));
        for helper in &mut helpers {
            assert_eq!(helper.answer().as_deref(), Some("ok "));
        }
        for (i, helper) in helpers.iter_mut().enumerate() {
            helper.ok(&format!("put u{i} 10.0.0.1:80"));
        }
        for mut helper in helpers {
            assert_eq!(helper.ok("list"), "u0 u1 u2 u3");
            helper.finish();
        }
    }
}

#[test]
fn a_process_stopped_while_it_makes_the_region_is_named() {
    let scratch = Scratch::new();
    std::fs::write(scratch.file("region.lock"), "").expect("write");
    std::fs::set_permissions(scratch.file("region.lock"), PermissionsExt::from_mode(0o600)).expect("chmod");
    let mut maker = start();
    maker.ok(&format!("bytes {} 0 1", scratch.file("region.lock").display()));
    maker.stop();
    let error = refused(&scratch.file("region"), MIB);
    assert!(
        error.starts_with("Busy ") && error.contains(&format!("region: busy, held by pid {}", maker.pid())),
        "{error}"
    );
    maker.kill();
    assert_eq!(look(&scratch.file("region"), MIB), ("".into(), "".into()));
}

#[test]
fn what_a_dead_maker_left_is_in_nobodys_way() {
    let scratch = Scratch::new();
    let path = scratch.file("region");
    std::fs::write(format!("{}.new", region_file(&path).display()), "half").expect("write");
    assert_eq!(look(&path, MIB), ("".into(), "".into()));
    assert_eq!(entries(&scratch), ["region.lock", "region.vN", "region.vN.cells", "region.vN.history"]);
}

#[test]
fn nobody_holds_a_descriptor_of_the_region_and_no_child_gets_the_lock() {
    let scratch = Scratch::new();
    let mut helper = start();
    helper.ok(&format!("setup {{\"shm_path\":\"{}\",\"shm_size\":\"1m\"}}", scratch.file("region").display()));
    helper.ok("start");
    assert_eq!(helper.ok("fds"), "region.lock:1");
    helper.finish();
}

// ---- things in the way ------------------------------------------------------------------------------------------------

#[test]
fn a_file_that_is_no_region_is_refused_and_left_alone() {
    let scratch = Scratch::new();
    let path = scratch.file("region");
    let file = region_file(&path);
    for content in ["", "a text\n", &"long ".repeat(1000)] {
        std::fs::write(&file, content).expect("write");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("chmod");
        let error = refused(&path, MIB);
        assert!(error.starts_with("System "), "{error}");
        assert!(
            error.ends_with("is not a dyups region: it is left alone; remove it, or name another file with shm_path")
        );
        assert_eq!(std::fs::read_to_string(&file).expect("there"), content);
    }
}

#[test]
fn what_is_no_file_is_refused() {
    let scratch = Scratch::new();
    let (directory, fifo) = (scratch.file("directory"), scratch.file("fifo"));
    std::fs::create_dir(region_file(&directory)).expect("mkdir");
    // SAFETY: a NUL-terminated path that outlives the call.
    assert_eq!(unsafe { libc::mkfifo(text(&region_file(&fifo)).as_ptr(), 0o600) }, 0);
    for path in [&directory, &fifo] {
        let (error, file) = (refused(path, MIB), region_file(path));
        let expected = format!("System {} is not a regular file: remove it, or name another file", file.display());
        assert!(error.starts_with(&expected), "{error}");
    }
    let lock = scratch.file("region.lock");
    std::fs::rename(region_file(&fifo), &lock).expect("rename");
    let error = refused(&scratch.file("region"), MIB);
    assert!(error.starts_with(&format!("System {} is not a regular file", lock.display())), "{error}");
}

#[test]
fn a_device_is_refused() {
    if !is_root("a_device_is_refused") {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.file("zero");
    // SAFETY: a NUL-terminated path that outlives the call.
    if unsafe { libc::mknod(text(&region_file(&path)).as_ptr(), libc::S_IFCHR | 0o600, libc::makedev(1, 5)) } != 0 {
        eprintln!("a_device_is_refused: skipped: mknod: {}", std::io::Error::last_os_error());
        return;
    }
    let error = refused(&path, MIB);
    // On a file system without devices it is not even opened.
    assert!(error.contains("is not a regular file") || error.contains("no permission"), "{error}");
}

#[test]
fn links_are_refused() {
    let scratch = Scratch::new();
    let path = abandoned(&scratch, MIB);
    let (soft, hard) = (scratch.file("soft"), scratch.file("hard"));
    std::os::unix::fs::symlink(region_file(&path), region_file(&soft)).expect("symlink");
    let (error, link) = (refused(&soft, MIB), region_file(&soft));
    assert!(error.starts_with(&format!("System {} is a symbolic link: remove it", link.display())), "{error}");
    std::os::unix::fs::symlink(scratch.file("nowhere"), scratch.file("new.lock")).expect("symlink");
    let error = refused(&scratch.file("new"), MIB);
    assert!(error.contains("new.lock is a symbolic link"), "{error}");
    assert!(!scratch.file("nowhere").exists(), "a planted link is not followed");
    std::fs::hard_link(region_file(&path), &hard).expect("link");
    let error = refused(&path, MIB);
    assert!(error.contains("has 2 names (hard links): remove the others"), "{error}");
    std::fs::remove_file(&hard).expect("remove");
    assert_eq!(look(&path, MIB).0, "api");
}

#[test]
fn a_file_that_others_may_open_is_refused() {
    let scratch = Scratch::new();
    let path = abandoned(&scratch, MIB);
    for file in [region_file(&path), scratch.file("region.lock")] {
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("chmod");
        let error = refused(&path, MIB);
        let expected = format!("System {} has mode 644: others may open it: chmod it to 600", file.display());
        assert!(error.starts_with(&expected), "{error}");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("chmod");
    }
    assert_eq!(look(&path, MIB), ("api".into(), "".into()));
}

#[test]
fn a_file_of_another_user_is_refused() {
    if !is_root("a_file_of_another_user_is_refused") {
        return;
    }
    let scratch = Scratch::new();
    let path = abandoned(&scratch, MIB);
    for file in [&region_file(&path), &scratch.file("region.lock")] {
        std::os::unix::fs::chown(file, Some(65534), None).expect("chown");
        let error = refused(&path, MIB);
        let expected =
            format!("{} belongs to uid 65534, not to uid 0: remove it or start nginx as its owner", file.display());
        assert!(error.starts_with("System ") && error.contains(&expected), "{error}");
        std::os::unix::fs::chown(file, Some(0), None).expect("chown");
    }
}

#[test]
fn a_user_without_permission_reads_what_to_do() {
    if !is_root("a_user_without_permission_reads_what_to_do") {
        return;
    }
    let scratch = Scratch::new();
    std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
    let path = abandoned(&scratch, MIB);
    for path in [path, scratch.file("new")] {
        let mut helper = start();
        helper.ok("uid 65534");
        let error = helper.refused(&format!("open {} {MIB}", path.display()));
        assert!(
            error.starts_with("System no permission for ") && error.contains("as uid 65534: call dyups.setup in"),
            "{error}"
        );
        helper.finish();
    }
}

#[test]
fn a_missing_directory_is_named() {
    let scratch = Scratch::new();
    let error = refused(&scratch.file("no/region"), MIB);
    assert!(
        error.starts_with("System ") && error.ends_with("/no/region.lock cannot be made: its directory does not exist")
    );
}

#[test]
fn a_size_that_cannot_be_is_refused_before_anything_is_made() {
    let scratch = Scratch::new();
    for size in [0, SMALL - 4096, SMALL + 1, (4 << 30) + 4096] {
        let error = open(&scratch.file("region"), size).expect_err("not allowed");
        assert_eq!(error.code, Code::Invalid);
        assert!(error.message.starts_with(&format!("shm_size: {size}: allowed: from 256 KiB to 4 GiB")), "{error}");
    }
    assert_eq!(entries(&scratch), Vec::<String>::new());
}

#[test]
fn the_default_directory_is_made_for_one_user_and_a_planted_one_is_refused() {
    if !is_root("the_default_directory_is_made_for_one_user_and_a_planted_one_is_refused") {
        return;
    }
    // A user that owns nothing on this machine.
    let uid = 2_000_000 + std::process::id();
    let path = PathBuf::from(format!("/dev/shm/dyups-{uid}"));
    let setup = |expect_ok: bool| {
        let mut helper = start();
        helper.ok(&format!("uid {uid}"));
        let answer = match expect_ok {
            true => helper.ok("setup {\"prefix\":\"/a/b\"}"),
            false => helper.refused("setup {\"prefix\":\"/a/b\"}"),
        };
        helper.finish();
        answer
    };
    assert_eq!(setup(true), "");
    let meta = std::fs::metadata(&path).expect("made");
    assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o700, uid));
    assert!(std::fs::read_dir(&path).expect("read").all(|entry| entry.is_ok_and(|entry| {
        entry.file_name().to_string_lossy().starts_with("a-b-")
            && entry.metadata().is_ok_and(|meta| meta.mode() & 0o777 == 0o600)
    })));
    let refusal = format!("System {} is not a directory of uid {uid} that only uid {uid} may write", path.display());
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).expect("chmod");
    let answer = setup(false);
    assert!(answer.starts_with(&refusal) && answer.contains(&format!("(owner {uid}, mode 777)")), "{answer}");
    std::os::unix::fs::chown(&path, Some(65534), None).expect("chown");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("chmod");
    let answer = setup(false);
    assert!(answer.starts_with(&refusal) && answer.contains("(owner 65534, mode 755)"), "{answer}");
    std::fs::remove_dir_all(&path).expect("remove");
    std::os::unix::fs::symlink("/tmp", &path).expect("symlink");
    let answer = setup(false);
    std::fs::remove_file(&path).expect("remove");
    assert!(answer.starts_with(&refusal), "{answer}");
}

/// Mounts an empty /dev/shm that this process alone sees, where every user may write.
fn own_shm() {
    assert!(mount_for_this_thread("own_shm", Path::new("/dev/shm"), "16m"));
    std::fs::set_permissions("/dev/shm", PermissionsExt::from_mode(0o1777)).expect("chmod");
}

/// Puts something in the place of root's directory, as a user that is not root can.
fn plant(how: &str, path: &Path) {
    let (other, mode) = match how {
        "a directory" => (true, 0o755),
        "one that all may write" => (true, 0o777),
        "a directory of root that all may write" => (false, 0o777),
        "a file" => {
            std::fs::write(path, "").expect("a file");
            return std::os::unix::fs::chown(path, Some(65534), None).expect("chown");
        }
        "a link" => {
            std::fs::create_dir("/dev/shm/elsewhere").expect("a directory");
            return std::os::unix::fs::symlink("/dev/shm/elsewhere", path).expect("a link");
        }
        "a link to nowhere" => return std::os::unix::fs::symlink("/dev/shm/nowhere", path).expect("a link"),
        other => panic!("{other}"),
    };
    std::fs::create_dir(path).expect("a directory");
    std::fs::write(path.join("planted"), "").expect("a file");
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("chmod");
    std::os::unix::fs::chown(path, other.then_some(65534), None).expect("chown");
}

#[test]
fn whatever_others_put_in_the_place_of_root_s_default_directory_root_starts_and_says_where_it_is() {
    if !is_root("whatever_others_put_in_the_place_of_root_s_default_directory_root_starts_and_says_where_it_is") {
        return;
    }
    let path = Path::new("/dev/shm/dyups-0");
    for how in [
        "a directory",
        "one that all may write",
        "a directory of root that all may write",
        "a file",
        "a link",
        "a link to nowhere",
    ] {
        // Its own mounts go with this thread.
        let how = how.to_owned();
        let done = std::thread::spawn(move || {
            own_shm();
            plant(&how, path);
            let mut helper = start();
            let note = helper.ok("setup {\"prefix\":\"/a/b\"}");
            let expected = format!("{} was somebody else's (", path.display());
            let (_, aside) = note.split_once("it was set aside as ").unwrap_or_else(|| panic!("{how}: {note}"));
            let aside = aside.strip_suffix(" and is made anew").unwrap_or_else(|| panic!("{how}: {note}"));
            assert!(note.starts_with(&expected) && aside.starts_with("/dev/shm/dyups-0.set-aside-"), "{how}: {note}");
            assert!(std::fs::symlink_metadata(aside).is_ok(), "{how}: what was there is there still");
            let meta = std::fs::symlink_metadata(path).expect("made");
            assert!(meta.is_dir() && (meta.uid(), meta.mode() & 0o7777) == (0, 0o700), "{how}");
            assert!(!path.join("planted").exists(), "{how}");
            let elsewhere = std::fs::read_dir("/dev/shm/elsewhere").map_or(0, Iterator::count);
            assert_eq!(elsewhere, 0, "{how}: nothing is written through a link");
            helper.finish();
            // The next one finds its own.
            let mut helper = start();
            assert_eq!(helper.ok("setup {\"prefix\":\"/a/b\"}"), "", "{how}");
            helper.finish();
        });
        done.join().expect("content");
    }
}

// ---- damage -----------------------------------------------------------------------------------------------------------

#[test]
fn a_region_with_a_damaged_header_is_set_aside_and_made_anew() {
    for word in [fixed::SIZE, fixed::BOOT, fixed::BOOT + 1, fixed::PID_NAMESPACE, fixed::LOCK, fixed::CHECKSUM] {
        let scratch = Scratch::new();
        let path = abandoned(&scratch, SMALL);
        let file = region_file(&path);
        let old = read_words(&file);
        patch_word(&file, word, old[word] ^ 1 << 13);
        let (names, note) = look(&path, SMALL);
        assert_eq!(names, "", "word {word}");
        let expected = format!("{} is damaged (its header has a wrong checksum): it was set aside as ", file.display());
        let aside = note.strip_prefix(&expected).and_then(|rest| rest.strip_suffix(" and is made anew"));
        let aside = Path::new(aside.unwrap_or_else(|| panic!("{note}")));
        assert_eq!(read_words(aside)[state::USED + 1..], old[state::USED + 1..], "as it was");
        let (mut helper, notes) = user(&path, SMALL);
        helper.ok("put new 10.0.0.1:80");
        assert_eq!(notes, "");
        helper.finish();
    }
}

#[test]
fn a_region_of_another_size_than_its_header_says_is_set_aside() {
    for (header, file) in [(SMALL * 2, SMALL), (SMALL, SMALL * 2), (SMALL, SMALL - 4096), (SMALL - 4096, SMALL - 4096)]
    {
        let scratch = Scratch::new();
        let path = abandoned(&scratch, SMALL);
        patch_header(&region_file(&path), fixed::SIZE, header);
        std::fs::OpenOptions::new().write(true).open(region_file(&path)).and_then(|f| f.set_len(file)).expect("resize");
        let (names, note) = look(&path, SMALL);
        assert!(names.is_empty() && note.contains("is damaged (its size is not what its header says)"), "{note}");
    }
}

#[test]
fn damaged_files_of_one_second_do_not_replace_each_other() {
    let scratch = Scratch::new();
    let rounds = 3;
    for _ in 0..rounds {
        let path = abandoned(&scratch, SMALL);
        patch_word(&region_file(&path), fixed::CHECKSUM, 0);
        look(&path, SMALL);
        std::fs::remove_file(region_file(&path)).expect("remove");
    }
    let aside = entries(&scratch).iter().filter(|name| name.starts_with("region.vN.damaged-")).count();
    assert_eq!(aside, rounds, "{:?}", entries(&scratch));
}

#[test]
fn a_region_of_another_magic_or_layout_is_refused_and_left_alone() {
    let scratch = Scratch::new();
    let path = abandoned(&scratch, SMALL);
    let file = region_file(&path);
    patch_header(&file, fixed::LAYOUT, u64::from(LAYOUT) + 1);
    let error = refused(&path, SMALL);
    let (theirs, ours) = (LAYOUT + 1, LAYOUT);
    assert!(error.contains(&format!("has layout {theirs}, by its name it has {ours}: stop all")), "{error}");
    patch_header(&file, fixed::LAYOUT, u64::from(LAYOUT));
    patch_header(&file, fixed::MAGIC, MAGIC + 1);
    let error = refused(&path, SMALL);
    assert!(error.contains("is not a dyups region: it is left alone"), "{error}");
    patch_header(&file, fixed::MAGIC, MAGIC);
    assert_eq!(look(&path, SMALL), ("api".into(), "".into()));
}

#[test]
fn a_region_of_an_earlier_boot_is_made_anew() {
    let scratch = Scratch::new();
    let path = abandoned(&scratch, SMALL);
    patch_header(&region_file(&path), fixed::BOOT, 12345);
    let note = format!("{} is of an earlier boot: it is made anew", region_file(&path).display());
    assert_eq!(look(&path, SMALL), ("".into(), note));
    assert_eq!(look(&path, SMALL), ("".into(), "".into()));
}

#[test]
fn an_upstream_that_is_damaged_is_lost_alone_and_said() {
    let scratch = Scratch::new();
    let path = abandoned(&scratch, SMALL);
    let geometry = {
        let (table, _) = open(&path, SMALL).expect("sound");
        put(&table, "other", "10.0.0.2:80", SOON).expect("room");
        *table.region().geometry()
    };
    let file = region_file(&path);
    let words = read_words(&file);
    let stamp = dyups::shm::Stamp(words[geometry.record(0)]);
    patch_word(&file, stamp.word(), u64::MAX);
    let note = format!("{} was damaged: 1 of 2 upstreams are lost", file.display());
    assert_eq!(look(&path, SMALL), ("other".into(), note));
    assert_eq!(look(&path, SMALL), ("other".into(), "".into()));
}

#[test]
fn a_change_cut_off_by_death_is_no_damage() {
    let scratch = Scratch::new();
    let path = abandoned(&scratch, SMALL);
    let (mut helper, _) = user(&path, SMALL);
    helper.ok("hold");
    helper.ok("half");
    helper.kill();
    assert_eq!(look(&path, SMALL), ("api".into(), "".into()));
    assert_no_leak(&open(&path, SMALL).expect("sound").0);
}

// ---- size, and a full file system ---------------------------------------------------------------------------------------

#[test]
fn another_size_waits_until_nobody_uses_the_region() {
    let scratch = Scratch::new();
    let path = abandoned(&scratch, MIB);
    let (mut worker, _) = user(&path, MIB);
    worker.ok("claim");
    let (names, note) = look(&path, 2 * MIB);
    assert_eq!(names, "api");
    let expected = format!(
        "shm_size is {}, but {} has {MIB} bytes and is in use by pid {}: it keeps its size until the next start with no \
         live user",
        2 * MIB,
        region_file(&path).display(),
        worker.pid()
    );
    assert_eq!(note, expected);
    worker.kill();
    let file = region_file(&path);
    for size in [2 * MIB, SMALL] {
        let before = std::fs::metadata(&file).expect("there").len();
        let note = format!("{}: shm_size is {size}, it had {before} bytes: made anew with its table", file.display());
        assert_eq!(look(&path, size), ("api".into(), note));
        assert_eq!(std::fs::metadata(&file).expect("there").len(), size);
        assert_no_leak(&open(&path, size).expect("sound").0);
    }
}

// ---- lost files -------------------------------------------------------------------------------------------------------

#[test]
fn a_deleted_lock_file_is_noticed() {
    let scratch = Scratch::new();
    let path = abandoned(&scratch, SMALL);
    let (mut a, _) = user(&path, SMALL);
    std::fs::remove_file(format!("{}.lock", path.display())).expect("remove");
    assert!(a.ok("lost").starts_with(&format!("{}.lock was deleted or replaced", path.display())));
    a.ok("put new 10.0.0.9:80");
    a.finish();
}

#[test]
fn a_deleted_file_is_noticed_and_the_table_goes_on() {
    let scratch = Scratch::new();
    let path = abandoned(&scratch, SMALL);
    let ((mut a, _), (mut b, _)) = (user(&path, SMALL), user(&path, SMALL));
    assert_eq!(a.ok("lost"), "");
    let file = region_file(&path);
    std::fs::remove_file(&file).expect("remove");
    let expected =
        format!("{} was deleted or replaced: workers and reloads go on with the table in memory", file.display());
    assert!(a.ok("lost").starts_with(&expected));
    a.ok("put new 10.0.0.9:80");
    assert_eq!(b.ok("list"), "api new");
    // Another one by its name is not it.
    assert_eq!(look(&path, SMALL), ("".into(), "".into()));
    assert!(b.ok("lost").starts_with(&expected));
    a.finish();
    b.finish();
}

#[test]
fn a_deleted_file_of_cells_is_noticed_and_who_makes_it_anew_says_that_others_count_elsewhere() {
    let scratch = Scratch::new();
    let path = abandoned(&scratch, SMALL);
    let (mut old, _) = user(&path, SMALL);
    assert_eq!((old.ok("claim"), old.ok("lost")), ("0".into(), "".into()));
    let file = dyups::shm::region::cells_of(&path, LAYOUT).display().to_string();
    std::fs::remove_file(&file).expect("remove");
    let expected = format!("{file} was deleted or replaced: open connections and failures are counted apart");
    assert!(old.ok("lost").starts_with(&expected));
    let made =
        format!("{file} was lost and is made anew, but pid {} counts on in the old one: restart nginx", old.pid());
    let (mut new, notes) = user(&path, SMALL);
    assert_eq!((notes, new.ok("lost")), (made, String::new()));
    assert!(old.ok("lost").starts_with(&expected), "another one by its name is not it");
    old.ok("put new 10.0.0.9:80");
    assert_eq!(new.ok("list"), "api new");
    old.finish();
    new.finish();
    std::fs::remove_file(&file).expect("remove");
    assert_eq!(look(&path, SMALL), ("api new".into(), "".into()), "nobody else counts");
}

#[test]
fn a_worker_that_may_not_look_into_the_directory_notices_too() {
    if !is_root("a_worker_that_may_not_look_into_the_directory_notices_too") {
        return;
    }
    let scratch = Scratch::new();
    std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o700)).expect("chmod");
    let path = abandoned(&scratch, SMALL);
    let (mut worker, _) = user(&path, SMALL);
    worker.ok("uid 65534");
    assert_eq!(worker.ok("lost"), "");
    std::fs::remove_file(region_file(&path)).expect("remove");
    assert!(worker.ok("lost").contains("was deleted or replaced"));
    worker.ok("put new 10.0.0.9:80");
    worker.finish();
}

#[test]
fn a_replaced_lock_file_makes_a_new_region_with_the_old_table() {
    let scratch = Scratch::new();
    let path = abandoned(&scratch, SMALL);
    let lock = scratch.file("region.lock");
    let (mut old, _) = user(&path, SMALL);
    let file = region_file(&path);
    let note = format!("{}: its lock file was replaced: made anew with its table", file.display());
    // Deleted, or replaced by a copy.
    for replaced in [false, true] {
        std::fs::rename(&lock, scratch.file("old.lock")).expect("rename");
        if replaced {
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&lock).expect("make");
        }
        let inode = std::fs::metadata(&file).expect("there").ino();
        assert_eq!(look(&path, SMALL), ("api".into(), note.clone()));
        assert_ne!(std::fs::metadata(&file).expect("there").ino(), inode);
        assert_eq!(look(&path, SMALL), ("api".into(), "".into()));
    }
    assert!(old.ok("lost").contains("was deleted or replaced"));
    old.finish();
}

#[test]
fn setup_again_keeps_the_region_and_says_what_it_cannot_change() {
    let scratch = Scratch::new();
    let (path, other) = (scratch.file("region"), scratch.file("other"));
    let mut helper = start();
    let setup = |path: &Path, size| format!("setup {{\"shm_path\":\"{}\",\"shm_size\":{size}}}", path.display());
    assert_eq!(helper.ok(&setup(&path, SMALL)), "");
    assert_eq!(helper.ok(&setup(&path, SMALL)), "");
    let (at, file) = (path.display(), region_file(&path));
    let size = format!("shm_size is {MIB}, but {} has {SMALL} bytes: restart nginx to change it", file.display());
    assert_eq!(helper.ok(&setup(&path, MIB)), size);
    let place = format!("shm_path is {}, but {at} is in use: restart nginx to change it", other.display());
    assert_eq!(helper.ok(&setup(&other, MIB)), format!("{place}; {size}"));
    assert!(!region_file(&other).exists());
    assert_eq!((helper.ok("start"), helper.ok("start")), ("0".into(), "0".into()));
    helper.finish();
}

// ---- locks and slots --------------------------------------------------------------------------------------------------

#[test]
fn a_stopped_writer_is_named_and_its_death_frees_the_lock() {
    let (table, scratch) = table(SMALL);
    let (mut writer, _) = user(&scratch.file("region"), SMALL);
    writer.ok("hold");
    writer.ok("half");
    writer.stop();
    let free = dyups::upstream::PeerPatch::new(address("10.0.0.1:80"));
    for wait in [Duration::ZERO, Duration::from_millis(50)] {
        let begun = Instant::now();
        let error = table.put_peer("api", &free, dyups::table::ops::Absent::Make, wait).expect_err("held");
        assert_eq!((error.code, &*error.message), (Code::Busy, &*format!("busy, held by pid {}", writer.pid())));
        let took = begun.elapsed();
        assert!(took >= wait && took < wait + Duration::from_millis(200), "{took:?} of {wait:?}");
    }
    assert_eq!(names(&table), Vec::<String>::new(), "readers do not notice");
    writer.kill();
    put(&table, "api", "10.0.0.1:80", Duration::from_millis(100)).expect("free again");
    assert_eq!(table.region().mem().load(state::REPAIRS), Ok(1));
    assert_eq!(table.region().mem().load(state::RECORDS), Ok(1), "what was half made is gone");
    assert_no_leak(&table);
}

#[test]
fn a_busy_answer_names_a_holder_that_exists() {
    let (_table, scratch) = table(SMALL);
    let mut helpers: Vec<Helper> = (0..3).map(|_| user(&scratch.file("region"), SMALL).0).collect();
    let mut busy = 0;
    for helper in &mut helpers {
        helper.ok("wait 0");
    }
    // Many orders at once, so that the helpers are at it at the same time.
    for round in 0..20 {
        for order in 0..100 {
            helpers.iter_mut().for_each(|helper| helper.send(&format!("put api 10.0.{round}.{order}:80")));
        }
        for helper in &mut helpers {
            for _ in 0..100 {
                let answer = helper.answer().expect("alive");
                busy += usize::from(answer != "ok ");
                assert!(!answer.contains("another pid namespace"), "{answer}");
            }
        }
        helpers[0].ok("delete api");
    }
    println!("busy: {busy} of 6000");
    helpers.into_iter().for_each(Helper::finish);
}

#[test]
fn a_forked_child_has_neither_the_lock_nor_the_slot_of_its_parent() {
    let scratch = Scratch::new();
    let path = scratch.file("region");
    let (mut parent, _) = user(&path, SMALL);
    let (mut other, _) = user(&path, SMALL);
    other.ok("wait 0");
    parent.ok(&format!("setup {{\"shm_path\":\"{}\",\"shm_size\":{SMALL}}}", scratch.file("region2").display()));
    parent.ok("start");
    parent.ok("hold");
    assert_eq!(parent.ok("fork"), "0", "the child found what it must not have");
    let error = other.refused("put api 10.0.0.1:80");
    assert!(error.contains(&format!("held by pid {}", parent.pid())), "the child freed its parent's lock: {error}");
    parent.finish();
    other.ok("put api 10.0.0.1:80");
    other.finish();
}

#[test]
fn while_a_newer_layout_is_in_use_changes_are_refused_and_all_else_goes_on() {
    let scratch = Scratch::new();
    let path = scratch.file("region");
    let (mut old, _) = user(&path, SMALL);
    old.ok("put api 10.0.0.1:80");
    let lock = scratch.file("region.lock").display().to_string();
    // The newer one may hold any byte: its life, its writer, a slot; and it may be newer by more than one.
    for (byte, layout) in
        [(first_byte(LAYOUT + 1), LAYOUT + 1), (writer_byte(LAYOUT + 1), LAYOUT + 1), (first_byte(77) + 5, 77)]
    {
        let mut new = start();
        new.ok(&format!("bytes {lock} {byte} 1"));
        let held_by = format!("Superseded superseded by layout {layout} (held by pid {}): ", new.pid());
        for order in ["put api 10.0.0.2:80", "put new 10.0.0.2:80", "delete api"] {
            let error = old.refused(order);
            assert!(error.starts_with(&held_by) && error.contains("QUIT"), "{order}: {error}");
        }
        assert_eq!(old.ok("list"), "api");
        old.ok("claim");
        // Another one of the old layout starts, and says how it is.
        let (names, note) = look(&path, SMALL);
        assert_eq!((names.as_str(), note.as_str()), ("api", ""), "others use it, so nobody looks it over");
        new.kill();
        old.ok("put api 10.0.0.2:80");
    }
    let mut new = start();
    new.ok(&format!("bytes {lock} {} 1", first_byte(LAYOUT + 1)));
    old.kill();
    let (names, note) = look(&path, SMALL);
    assert!(names == "api" && note.starts_with(&format!("superseded by layout {} (held", LAYOUT + 1)), "{note}");
    new.finish();
    assert_eq!(look(&path, SMALL), ("api".into(), "".into()));
}

#[test]
fn an_older_layout_is_in_nobodys_way() {
    let scratch = Scratch::new();
    let path = scratch.file("region");
    let (mut new, _) = user(&path, SMALL);
    let mut old = start();
    old.ok(&format!("bytes {} {} {}", scratch.file("region.lock").display(), CREATION + 1, first_byte(LAYOUT) - 1));
    new.ok("put api 10.0.0.1:80");
    new.finish();
    old.finish();
}

#[test]
fn a_region_is_in_use_until_the_last_one_that_its_maker_has_forked_is_gone() {
    let scratch = Scratch::new();
    let path = abandoned(&scratch, SMALL);
    let (mut maker, _) = user(&path, SMALL);
    let child: i32 = maker.ok("orphan").parse().expect("a pid");
    for dies in [maker.pid() as i32, child] {
        let (names, note) = look(&path, MIB);
        assert_eq!(names, "api");
        assert!(note.contains("is in use by an nginx whose workers have no slots: it keeps its size"), "{note}");
        // SAFETY: a signal to a process of this test: one that was not waited for, and its child.
        assert_eq!(unsafe { libc::kill(dies, libc::SIGKILL) }, 0);
    }
    wait_for("the lock is free", || look(&path, MIB).1.contains("made anew with its table"));
    maker.kill();
}

#[test]
fn a_process_that_opens_a_region_twice_keeps_the_locks_of_the_first() {
    let (table, scratch) = table(SMALL);
    let path = scratch.file("region");
    table.region().claim_slot().expect("free");
    let (second, _) = open(&path, SMALL).expect("sound");
    let writer = table.writer(SOON).expect("free");
    assert_eq!(second.writer(Duration::ZERO).expect_err("held").code, Code::Busy);
    drop(second);
    let (mut other, note) = user(&path, MIB);
    assert!(note.contains(&format!("in use by pid {}", std::process::id())), "{note}");
    other.ok("wait 0");
    assert!(other.refused("put api 10.0.0.1:80").contains(&format!("held by pid {}", std::process::id())));
    drop(writer);
    other.ok("put api 10.0.0.1:80");
    other.finish();
}

#[test]
fn threads_of_one_process_exclude_each_other() {
    let scratch = Scratch::new();
    let lock = LockFile::open(&scratch.file("lock")).expect("made");
    let inside = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let guard = lock.lock(WRITER, SOON).expect("soon");
                    assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    drop(guard);
                }
            });
        }
    });
}
