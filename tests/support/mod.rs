//! Helpers for the tests of regions and tables: a scratch directory, regions, peers, and other processes.
//!
//! Another process is this test binary again, started anew and not forked: `--exact helper_process` with its orders in the
//! environment and on stdin. It answers in lines that begin with `@`, so that what libtest prints is told apart.

#![allow(dead_code, unused_imports, unsafe_code)]

pub mod locks;
pub mod memory;
pub mod model;
pub mod next;
mod scratch;
pub mod shipped;
pub mod system;

pub use locks::lock_bytes;
pub use scratch::Scratch;

use dyups::error::{Error, Result};
use dyups::shm::layout::{LAYOUT, state};
use dyups::shm::{Memory, Region};
use dyups::table::directory::{self, Directory};
use dyups::table::store::Table;
use dyups::upstream::{Address, Peer, PeerPatch, Upstream};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a test waits for a lock that must be free.
pub const SOON: Duration = Duration::from_secs(5);
/// The smallest region: 64 upstreams.
pub const SMALL: u64 = 256 * 1024;

/// Opens a table the way `process` does.
pub fn open(path: &Path, size: u64) -> Result<(Table, Vec<String>)> {
    Table::open(path, size)
}

/// The file of the region that its users call `base`.
pub fn region_file(base: &Path) -> PathBuf {
    dyups::shm::region::file_of(base, LAYOUT)
}

/// Opens a table that is there, without the repair that an unused one gets.
pub fn attach_as_it_is(path: &Path, size: u64) -> Table {
    let (region, notes) = Region::open(path, size, &dyups::table::open::Upstreams).expect("usable");
    assert!(notes.is_empty(), "{notes:?}");
    Table::new(region)
}

/// A table of its own for a test, and the directory that it lives in.
pub fn table(size: u64) -> (Table, Scratch) {
    let scratch = Scratch::new();
    let (table, notes) = open(&scratch.file("region"), size).expect("a new region");
    assert_eq!(notes, Vec::<String>::new());
    (table, scratch)
}

pub fn address(server: &str) -> Address {
    Address::from_server(server).expect(server)
}

pub fn peer(server: &str, weight: u16) -> Peer {
    Peer { weight, ..Peer::new(address(server)) }
}

pub fn patch(server: &str, weight: u16) -> PeerPatch {
    PeerPatch { weight: Some(weight), ..PeerPatch::new(address(server)) }
}

/// An upstream with peers of weight 1.
pub fn upstream(name: &str, servers: &[&str]) -> Upstream {
    Upstream {
        name: name.to_owned(),
        peers: servers.iter().map(|server| peer(server, 1)).collect(),
        ..Upstream::default()
    }
}

/// Names of all upstreams.
pub fn names<R: std::borrow::Borrow<Region>>(table: &Table<R>) -> Vec<String> {
    table.upstreams().expect("readable").into_iter().map(|stored| stored.upstream.name).collect()
}

/// Names whose records share one bucket of the smallest region.
pub fn in_bucket(bucket: u32, count: usize) -> Vec<String> {
    (0..).map(|i| format!("n{i}")).filter(|name| directory::hash(name.as_bytes()) % 64 == bucket).take(count).collect()
}

/// Granules in use.
pub fn used<R: std::borrow::Borrow<Region>>(table: &Table<R>) -> u64 {
    table.region().mem().load(state::USED).expect("inside")
}

/// The cells of an upstream's peers, by server.
pub fn cells_of<R: std::borrow::Borrow<Region>>(table: &Table<R>, name: &str) -> BTreeMap<String, u32> {
    let mem = table.region().mem();
    let (_, view) = Directory::new(table.region()).find(name.as_bytes()).expect("readable").expect("there");
    let of = |index| {
        let address = view.address(mem, index).expect("inside");
        (address.server().to_owned(), view.cell(mem, index).expect("inside"))
    };
    (0..view.peers).map(of).collect()
}

/// How many cells are taken.
pub fn used_cells<R: std::borrow::Borrow<Region>>(table: &Table<R>) -> u64 {
    table.region().cells().expect("it has some").used().expect("inside")
}

/// Asserts that a repair would find in use just the blocks and cells that the region says: nothing leaked, nothing is used
/// twice. And that the spare is free.
pub fn assert_no_leak<R: std::borrow::Borrow<Region>>(table: &Table<R>) {
    // The leavings of the last death are cleared away first, as by any next writer.
    drop(table.writer(SOON).expect("free"));
    let cells: Vec<u32> = names(table).iter().flat_map(|name| cells_of(table, name).into_values()).collect();
    let distinct: BTreeSet<u32> = cells.iter().copied().collect();
    assert!(!distinct.contains(&0), "a peer has no cell");
    assert_eq!(distinct.len(), cells.len(), "two peers have one cell");
    let before = used_cells(table);
    assert_eq!(before, cells.len() as u64, "cells that are taken");
    assert_no_leak_of_heap(table);
    assert_eq!(used_cells(table), before, "after a repair");
}

/// The same of the heap alone: where a test has written versions by itself, whose peers have no cells or any.
pub fn assert_no_leak_of_heap<R: std::borrow::Borrow<Region>>(table: &Table<R>) {
    let counted = |word| table.region().mem().load(word).expect("inside");
    let geometry = table.region().geometry();
    let taken = |granule: &usize| counted(geometry.granule_bits_at + granule / 64) >> (granule % 64) & 1 == 1;
    let writer = table.writer(SOON).expect("free");
    let before = (counted(state::USED), counted(state::RECORDS), names(table));
    table.repair(&writer).expect("repairable");
    assert_eq!((counted(state::USED), counted(state::RECORDS), names(table)), before, "after a repair");
    assert_eq!((geometry.heap_at..geometry.spare_end()).find(taken), None, "in the spare");
}

/// Waits until `done`, at most ten seconds.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Prints a count for the user of the tests, though libtest hides the output of a good test.
pub fn tell(line: impl std::fmt::Display) {
    let _ = std::io::stderr().write_all(format!("\n{line}\n").as_bytes());
}

/// How many a storm kills.
pub fn storm_kills() -> u64 {
    std::env::var("DYUPS_STORM_KILLS").map_or(200, |kills| kills.parse().expect("DYUPS_STORM_KILLS: a number"))
}

/// Whether this is root; says so on stderr when a test is skipped for lack of it.
pub fn is_root(test: &str) -> bool {
    let root = dyups::shm::file::effective_user() == 0;
    if !root {
        eprintln!("{test}: skipped: it needs root");
    }
    root
}

/// A path as C has it.
pub fn text(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no NUL")
}

/// Mounts a tmpfs that only this thread sees, and that goes with it. False: only root can, and says so of `test` on stderr.
pub fn mount_for_this_thread(test: &str, path: &Path, size: &str) -> bool {
    let mounted = mount(path, size);
    assert!(mounted.is_ok() || !is_root(test), "cannot mount a tmpfs: {mounted:?}");
    mounted.is_ok()
}

fn mount(path: &Path, size: &str) -> std::io::Result<()> {
    let (path, options) = (text(path), CString::new(format!("size={size},mode=700")).expect("no NUL"));
    let (none, root, tmpfs) = (c"none".as_ptr(), c"/".as_ptr(), c"tmpfs".as_ptr());
    // SAFETY: all pointers are to NUL-terminated strings that outlive the calls.
    let done = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(none, root, std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE, std::ptr::null()) == 0
            && libc::mount(tmpfs, path.as_ptr(), tmpfs, 0, options.as_ptr().cast()) == 0
    };
    if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Takes the last byte of a file system.
pub fn take_all(path: &Path) {
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path).expect("open");
    while (&file as &dyn FileExt).write_at(&[0; 4096], file.metadata().expect("stat").len()).is_ok() {}
}

/// A sequence of numbers that a seed decides.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % end
    }
}

/// Another process of this test binary; killed when the value goes.
pub struct Helper {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts a process in which [`role`] says `role`.
    pub fn start(role: &str, args: &[&str]) -> Helper {
        let mut child = Command::new(std::env::current_exe().expect("know myself"))
            .args(["--exact", "helper_process", "--nocapture", "--test-threads=1"])
            .env("DYUPS_TEST_ROLE", role)
            .env("DYUPS_TEST_ARGS", args.join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a helper");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Helper { child, stdin, stdout }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives an order and does not wait for the answer.
    pub fn send(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("the helper listens");
    }

    /// The next answer; `None`: it has ended.
    pub fn answer(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.stdout.read_line(&mut line).expect("readable") > 0 {
            // libtest prints "test helper_process ... " without a newline before the first one.
            if let Some(at) = line.find('@') {
                return Some(line[at + 1..].trim_end_matches('\n').to_owned());
            }
            line.clear();
        }
        None
    }

    /// Gives an order; the answer.
    pub fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.answer().unwrap_or_else(|| panic!("the helper died of {line:?}"))
    }

    /// Gives an order that has to succeed; the rest of the answer.
    pub fn ok(&mut self, line: &str) -> String {
        let answer = self.ask(line);
        answer.strip_prefix("ok").unwrap_or_else(|| panic!("{line}: {answer}")).trim_start().to_owned()
    }

    /// Gives an order that has to fail; `Code message`.
    pub fn refused(&mut self, line: &str) -> String {
        let answer = self.ask(line);
        answer.strip_prefix("err ").unwrap_or_else(|| panic!("{line}: {answer}")).to_owned()
    }

    pub fn signal(&self, signal: i32) {
        signal_to(self.pid(), signal);
    }

    /// SIGKILL, and waits until the kernel has cleared up behind it; how it ended. Its earlier answers can still be read.
    pub fn kill(&mut self) -> ExitStatus {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait")
    }

    /// Stops it, and waits until it stands.
    pub fn stop(&self) {
        self.signal(libc::SIGSTOP);
        wait_for("the helper stops", || self.is_stopped());
    }

    /// Whether it stands, stopped by itself or by another process.
    pub fn is_stopped(&self) -> bool {
        std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))
            .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')))
    }

    /// Whether [`Helper::answer`] would not wait.
    pub fn has_answered(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.stdout.get_ref().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one whole pollfd of a descriptor that is open.
        !self.stdout.buffer().is_empty() || unsafe { libc::poll(&mut poll, 1, 0) } > 0
    }

    /// Lets it end by itself, and asserts that it is content.
    pub fn finish(mut self) {
        let _ = writeln!(self.stdin, "exit");
        while self.answer().is_some() {}
        let status = self.child.wait().expect("wait");
        assert!(status.success(), "a helper failed: {status}");
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal_to(pid: u32, signal: i32) {
    // SAFETY: kill takes two numbers; the pid is that of a child of ours which has not been waited for.
    assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0, "{}", std::io::Error::last_os_error());
}

/// A child that outlives its parent and does nothing, for a minute at most: its pid.
pub fn orphan() -> i32 {
    // SAFETY: the child makes plain system calls alone.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: as above. The descriptors are those that tests would wait for the end of.
        unsafe {
            (0..3).for_each(|fd| _ = libc::close(fd));
            libc::alarm(60);
            loop {
                libc::pause();
            }
        }
    }
    pid
}

/// The purpose of this process: its role and arguments. `None` in the tests themselves.
pub fn role() -> Option<(String, Vec<String>)> {
    let role = std::env::var("DYUPS_TEST_ROLE").ok()?;
    let args = std::env::var("DYUPS_TEST_ARGS").unwrap_or_default();
    Some((role, args.lines().map(str::to_owned).collect()))
}

/// Answers the test that started this process; one line, one write.
pub fn say(line: impl std::fmt::Display) {
    let line = format!("@{line}\n");
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).expect("the test listens");
}

/// The answer of a helper to an order.
pub fn report(result: Result<impl std::fmt::Display, Error>) {
    match result {
        Ok(value) => say(format_args!("ok {value}")),
        Err(error) => say(format_args!("err {:?} {error}", error.code)),
    }
}

/// The orders of the test that started this process, until it says `exit` or ends.
pub fn orders() -> impl Iterator<Item = Vec<String>> {
    std::io::stdin()
        .lines()
        .map_while(std::result::Result::ok)
        .take_while(|line| line != "exit")
        .map(|line| line.split(' ').map(str::to_owned).collect())
}
