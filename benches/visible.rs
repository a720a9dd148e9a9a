//! The time from a change until another worker sees it. Every pick that begins after the change was answered sees it, so most
//! of this is the change itself.

use crate::measure::Figures;
use crate::place::Place;
use crate::table::{Line, time};
use crate::worker::Worker;

const CHANGES: usize = 1000;
const ROUNDS: usize = 3;
const GAP_NS: f64 = 500e3;
const LEAD_NS: f64 = 50e6;

pub fn measure(place: &Place) -> Vec<Line> {
    let changer = Worker::start(place, "left", 0, "visible", |_| ());
    let watcher = Worker::start(place, "right", 1, "visible", |_| ());
    let (mut stores, mut changes) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        stores.extend(round(&changer, &watcher, "store"));
        changes.extend(round(&changer, &watcher, "set_upstream"));
    }
    let (stores, changes) = (Figures::new(stores), Figures::new(changes));
    [("median", 0.5), ("99 of 100", 0.99)]
        .map(|(what, part)| {
            let (store, change) = (stores.quantile(part), changes.quantile(part));
            let what = format!("`set_upstream` of 4 peers until another worker picks from it, {what}");
            Line::new(what, time(change), format!("a bare store until it is seen: {}", time(store)), change / store)
        })
        .into()
}

/// Each change: from just before it began to the first pick in the other worker that was made from it, in ns.
fn round(changer: &Worker, watcher: &Worker, how: &str) -> Vec<f64> {
    changer.order("require('visible').first()");
    let start = changer.number("require('native').now()") + LEAD_NS;
    let patience = (CHANGES as f64 + 1.0) * GAP_NS + 5e9;
    let change = format!("require('visible').change('{how}', {CHANGES}, {start:.0}, {GAP_NS})");
    let watch = format!("require('visible').watch('{how}', {CHANGES}, {start:.0}, {patience})");
    let (began, seen) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watcher.ask(&watch));
        (changer.ask(&change), watching.join().expect("an answer"))
    });
    let numbers = |text: &str| -> Vec<f64> { text.split(' ').map(|ns| ns.parse().expect("ns")).collect() };
    let (began, seen) = (numbers(&began), numbers(&seen));
    assert_eq!(seen.last().map(|&ns| ns > 0.0), Some(true), "the last change is seen");
    // A version that the watcher missed was replaced while the watcher was not on its CPU: the next one shows this change too.
    let mut next = f64::INFINITY;
    let mut waits = Vec::new();
    for (began, seen) in began.iter().zip(&seen).rev() {
        if *seen > 0.0 {
            next = *seen;
        }
        waits.push(next - began);
    }
    waits
}
