//! Time that processes spent on a CPU, from /proc, in nanoseconds.

use crate::system::children;

/// Of a live process, all its threads.
pub fn of(pid: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a live process");
    tasks.flatten().map(|task| schedstat(task.path().join("schedstat"))).sum()
}

/// Of the thread that asks.
pub fn of_this_thread() -> f64 {
    schedstat("/proc/thread-self/schedstat".into())
}

/// Of an nginx: its master, its workers, and the workers that it had before, these to 10 ms.
pub fn of_nginx(master: u32) -> f64 {
    // The dead first: one that dies in between is missed, and not counted twice.
    of_dead_children(master) + of(master) + children(master).iter().map(|(pid, _)| of(*pid)).sum::<f64>()
}

/// Of the children that a process has waited for, to 10 ms: the kernel tells it in ticks.
pub fn of_dead_children(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a live process");
    // Behind the name in parentheses follow state, parent, ...: cutime and cstime are fields 16 and 17 of proc(5).
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
    fields[13..15].iter().map(|ticks| ticks.parse::<f64>().expect("ticks")).sum::<f64>() * 1e7
}

fn schedstat(path: std::path::PathBuf) -> f64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0.0)
}
