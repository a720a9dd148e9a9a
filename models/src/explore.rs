//! Runs a model and tells how much of it was seen.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// The observations of a model's processes, and the number of executions of each.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<Mutex<BTreeMap<String, u64>>>);

impl Seen {
    /// One of the things that may be seen.
    pub fn note(&self, what: impl Debug) {
        *self.0.lock().expect("no panic under it").entry(format!("{what:?}")).or_default() += 1;
    }

    fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().expect("no panic under it").clone()
    }
}

/// How far a model is explored, and what has come out of it so far.
pub struct Exploration {
    name: &'static str,
    preemptions: usize,
    seen: Seen,
    executions: u64,
    begun: Instant,
}

impl Exploration {
    /// With at most `preemptions` preemptions.
    pub fn new(name: &'static str, preemptions: usize) -> Exploration {
        Exploration { name, preemptions, seen: Seen::default(), executions: 0, begun: Instant::now() }
    }

    /// Explores `model`, which may be one of many.
    pub fn run(&mut self, model: impl Fn(&Seen) + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(self.preemptions);
        builder.max_branches = 20_000;
        let executions = Arc::new(AtomicU64::new(0));
        let (seen, count) = (self.seen.clone(), Arc::clone(&executions));
        builder.check(move || {
            count.fetch_add(1, Ordering::Relaxed);
            model(&seen);
        });
        self.executions += executions.load(Ordering::Relaxed);
    }

    /// Prints what was done, and expects that all of `sights`, and nothing else, was seen.
    pub fn saw(self, sights: &[&str]) {
        let seen = self.seen.all();
        let Exploration { name, preemptions, executions, .. } = self;
        let took = self.begun.elapsed();
        println!("{name}: {executions} executions with at most {preemptions} preemptions in {took:.1?}: {seen:?}");
        assert!(seen.keys().eq(sights), "expected were {sights:?}");
        assert!(executions > 200, "that is no exploration");
    }
}

/// Explores one model.
pub fn explore(name: &'static str, preemptions: usize, sights: &[&str], model: impl Fn(&Seen) + Send + Sync + 'static) {
    let mut exploration = Exploration::new(name, preemptions);
    exploration.run(model);
    exploration.saw(sights);
}
