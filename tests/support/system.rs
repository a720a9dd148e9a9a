//! Processes and users, as far as the tests need them.

use std::path::Path;
use std::time::{Duration, Instant};

/// How long anything may take that should be there at once. Long, since CI machines sleep.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `met`; panics with `what` if that does not come.
pub fn wait_for(what: &str, met: impl FnMut() -> bool) {
    assert!(wait_until(PATIENCE, met), "waited {PATIENCE:?} in vain: {what}");
}

/// Waits at most `patience` until `met`, and says whether it was.
pub fn wait_until(patience: Duration, mut met: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if met() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sends a signal; false when there is no such process. A negative `pid` is a process group.
pub fn signal(pid: i32, signal: i32) -> bool {
    assert!(pid.abs() > 1, "not a process of ours: {pid}");
    // SAFETY: two numbers; the call touches no memory.
    unsafe { libc::kill(pid, signal) == 0 }
}

/// Whether some process of the group lives. A zombie does not, whenever its parent will look at it.
pub fn group_lives(group: i32) -> bool {
    processes().any(|process| process.group == group)
}

/// Live children of `parent` as (pid, title).
pub fn children(parent: u32) -> Vec<(u32, String)> {
    let children = processes().filter(|process| process.parent == parent);
    children.map(|process| (process.pid, process.title())).collect()
}

/// The groups of processes that have `text` in their command line.
pub fn groups_with(text: &str) -> Vec<i32> {
    processes().filter(|process| process.title().contains(text)).map(|process| process.group).collect()
}

/// The live processes of a group.
pub fn members(group: i32) -> Vec<u32> {
    processes().filter(|process| process.group == group).map(|process| process.pid).collect()
}

/// Stops a process, and answers once the kernel says that it stands; false when it is gone.
pub fn stop(pid: u32) -> bool {
    let state = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    };
    signal(pid as i32, libc::SIGSTOP)
        && wait_until(PATIENCE, || !matches!(state(), Some('R' | 'S' | 'D')))
        && state() == Some('T')
}

struct Process {
    pid: u32,
    parent: u32,
    group: i32,
}

impl Process {
    /// Its command line, or the title that it has put there.
    fn title(&self) -> String {
        let title = std::fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(&title).trim_end_matches('\0').to_owned()
    }
}

/// All processes but zombies.
fn processes() -> impl Iterator<Item = Process> {
    std::fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name in parentheses may contain anything; state, parent and group follow it.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let (state, parent, group) = (fields.next()?, fields.next()?, fields.next()?);
        (state != "Z").then_some(Process { pid, parent: parent.parse().ok()?, group: group.parse().ok()? })
    })
}

pub fn is_root() -> bool {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A user that nginx's workers run as when the master is root: name, uid, gid.
pub fn worker_user() -> (&'static str, u32, u32) {
    let passwd = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    for user in ["www-data", "nobody"] {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(user));
        if let Some([uid, gid]) = line.map(|line| {
            let mut ids = line.split(':').skip(2).map(|id| id.parse::<u32>().expect("an id in /etc/passwd"));
            [ids.next().expect("uid"), ids.next().expect("gid")]
        }) {
            return (user, uid, gid);
        }
    }
    panic!("neither www-data nor nobody in /etc/passwd");
}

/// Whether every user may pass through to `dir`.
pub fn passable(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    dir.ancestors().all(|dir| std::fs::metadata(dir).is_ok_and(|meta| meta.mode() & 0o001 != 0))
}
