//! The kind of machine, and whether it was quiet.

use crate::cpu;
use crate::requests;
use crate::table::{digits, time};
use std::time::{Duration, Instant};

/// The least share of its time that each of two busy threads got, one after the other section.
pub fn quiet() -> f64 {
    let busy = || {
        let (begin, cpu) = (Instant::now(), cpu::of_this_thread());
        while begin.elapsed() < Duration::from_millis(200) {}
        (cpu::of_this_thread() - cpu) / begin.elapsed().as_nanos() as f64
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(busy), scope.spawn(busy)];
        threads.into_iter().map(|thread| thread.join().expect("a busy thread")).fold(1.0, f64::min)
    })
}

/// Below the table: the machine that it was measured on, and how far to trust it.
pub fn print(shares: &[f64]) {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    println!("\n{}, {cpus} CPUs, Linux {}", model.map_or("?", |(_, model)| model), kernel());
    if let Some(&ns) = requests::NGINX.get() {
        println!(
            "\nHere a request by nginx's own round robin costs its worker {}; a ratio of requests depends on that.",
            time(ns)
        );
    }
    let least = shares.iter().copied().fold(1.0, f64::min);
    if least < 0.95 {
        println!(
            "\nThe machine was not quiet: two busy threads got as little as {} % of a CPU each.",
            digits(least * 100.0)
        );
    }
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}
