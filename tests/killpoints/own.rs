//! The operations of this suite alone, for which a subject and calls of the C ABI are not enough.

use crate::WAIT;
use crate::checks::{
    first_is_down, follow_the_default, made_and_checked, made_before_the_default, probe, probe_all_well,
};
use crate::full::{delete_filler, fill_but, made_and_full, nearly_full};
use crate::operations::Operation;
use crate::requests::{balance, balance_among_the_out, bring_the_first_back, pick};
use crate::slow_start::{slow, the_first_is_back_slowly_or_out};
use crate::statistics::count_tries;
use crate::subject::{SUBJECT, made, patch};
use crate::support::changes::NEW;
use crate::words::{ails, connected, fails_unwatched, is_used, limited, nearly_all_out, spoiled, use_up_a_cell};
use dyups::health;
use dyups::shm::history;
use dyups::table::Table;
use dyups::table::ops::Absent;
use dyups::table::replace::Replacement;
use dyups::upstream::{Method, Route, Target, Upstream};

/// An operation of this suite alone.
pub struct Own {
    name: &'static str,
    /// The function of [`Table`] that it calls.
    calls: &'static str,
    prepare: fn(&Table, &Upstream),
    run: fn(&Table, &Upstream),
    check: fn(&Table, &str),
    make_room: fn(&Table),
    also_large: bool,
}

impl Operation for Own {
    fn name(&self) -> &'static str {
        self.name
    }

    fn also_large(&self) -> bool {
        self.also_large
    }

    fn prepare(&self, table: &Table, subject: &Upstream) {
        (self.prepare)(table, subject);
    }

    fn run(&self, table: &Table, subject: &Upstream) -> &'static str {
        (self.run)(table, subject);
        self.calls
    }

    fn check(&self, table: &Table, what: &str) {
        (self.check)(table, what);
    }

    fn make_room(&self, table: &Table) {
        (self.make_room)(table);
    }
}

/// All of them.
pub const OWN: &[Own] = &[
    Own {
        name: "replace, prepared in parts",
        calls: "put",
        run: |table, subject| {
            let mut new = Replacement::new(Upstream {
                peers: subject.peers.iter().take(1).cloned().collect(),
                ..subject.clone()
            });
            while !(new.is_prepared() && new.put(table, WAIT).expect("room")) {
                new.prepare(table, &mut || false).expect("readable");
            }
        },
        ..PLAIN
    },
    Own {
        name: "delete peers that are connected",
        calls: "set_upstream",
        prepare: connected,
        run: |table, subject| table.set_upstream(&Upstream { peers: vec![], ..subject.clone() }, WAIT).expect("set"),
        ..PLAIN
    },
    Own {
        name: "delete an upstream that is connected",
        calls: "delete_upstream",
        prepare: connected,
        run: |table, subject| table.delete_upstream(&subject.name, true, WAIT).expect("delete"),
        ..PLAIN
    },
    Own {
        name: "delete a peer that is idle",
        calls: "delete_idle",
        prepare: |table, subject| {
            made(table, subject);
            let _ = table.drain_peer(&subject.name, &patch(0).address, WAIT);
        },
        run: |table, subject| {
            let idle = [patch(0).address.ident()];
            table.delete_idle(&subject.name, &idle, WAIT).expect("done");
        },
        ..PLAIN
    },
    Own {
        name: "create where one was used",
        calls: "set_upstream",
        prepare: |table, subject| {
            made(table, subject);
            is_used(table, subject);
            table.delete_upstream(&subject.name, true, WAIT).expect("delete");
        },
        run: |table, subject| table.set_upstream(subject, WAIT).expect("set"),
        ..PLAIN
    },
    Own {
        name: "let failures count again",
        calls: "put_peer",
        prepare: fails_unwatched,
        run: |table, subject| limited(table, subject, 1),
        ..PLAIN
    },
    Own { name: "balance", calls: "pick", run: balance, ..PLAIN },
    Own {
        name: "balance among peers that are out",
        calls: "pick",
        prepare: nearly_all_out,
        run: balance_among_the_out,
        ..PLAIN
    },
    Own {
        name: "find that all are well",
        calls: "pick",
        prepare: |table, subject| {
            made(table, subject);
            ails(table, subject);
        },
        run: |table, _| health::heal(table).expect("sound"),
        ..PLAIN
    },
    Own { name: "probe", calls: "pick", prepare: made_and_checked, run: probe, ..PLAIN },
    Own {
        name: "probe a peer that comes back slowly",
        calls: "pick",
        prepare: |table, subject| first_is_down(table, &slow(subject)),
        run: probe_all_well,
        check: the_first_is_back_slowly_or_out,
        ..PLAIN
    },
    Own {
        name: "try a peer that comes back slowly",
        calls: "pick",
        prepare: |table, subject| nearly_all_out(table, &slow(subject)),
        run: bring_the_first_back,
        check: the_first_is_back_slowly_or_out,
        ..PLAIN
    },
    Own {
        name: "end the checks of a peer that comes back slowly",
        calls: "set_check",
        prepare: |table, subject| first_is_down(table, &slow(subject)),
        run: |table, subject| table.set_check(&subject.name, |_| Ok(None), WAIT).expect("there"),
        check: the_first_is_back_slowly_or_out,
        ..PLAIN
    },
    Own {
        name: "follow the default check",
        calls: "spread_default_check",
        prepare: made_before_the_default,
        run: |table, _| follow_the_default(table),
        ..PLAIN
    },
    Own {
        name: "count for a worker, and no more",
        calls: "pick",
        run: |table, _| {
            let count = || table.region().cells().expect("they are there").count_in(7, 1, true);
            assert_eq!(count(), Ok(true));
            table.region().count_for(7).expect("sound");
            // Its row begins anew.
            assert_eq!(count(), Ok(true));
            table.region().reap(None).expect("sound");
        },
        ..PLAIN
    },
    Own {
        name: "retire a cell and bring it back",
        calls: "put_peer",
        prepare: |table, subject| {
            made(table, subject);
            use_up_a_cell(table, subject);
        },
        run: |table, subject| {
            table.put_peer(&subject.name, &patch(NEW), Absent::Make, WAIT).expect("add");
            table.region().cells().expect("they are there").goes_unnumbered().expect("inside");
        },
        ..PLAIN
    },
    Own {
        name: "delete what a file has",
        calls: "delete_upstream",
        prepare: from_file,
        run: |table, subject| table.delete_upstream(&subject.name, true, WAIT).expect("delete"),
        also_large: true,
        ..PLAIN
    },
    Own { name: "load", calls: "load", prepare: nothing, run: from_file, ..PLAIN },
    Own {
        name: "load without it",
        calls: "load",
        prepare: from_file,
        run: |table, _| load(table, None),
        also_large: true,
        ..PLAIN
    },
    Own {
        name: "load a route",
        calls: "load_with_routes",
        prepare: from_file,
        run: |table, subject| load_route(table, subject, "routed"),
        ..PLAIN
    },
    Own {
        name: "load without the route",
        calls: "load_with_routes",
        prepare: |table, subject| {
            from_file(table, subject);
            load_route(table, subject, "routed");
        },
        run: |table, subject| {
            let deleted = Upstream { name: "deleted".into(), ..Upstream::default() };
            table.load_with_routes(&[deleted, subject.clone()], &[], false, WAIT).expect("load");
        },
        ..PLAIN
    },
    Own {
        name: "delete a route that a file has",
        calls: "delete_route",
        prepare: |table, subject| {
            from_file(table, subject);
            load_route(table, subject, "routed");
        },
        run: |table, _| table.delete_route("routed", WAIT).expect("delete"),
        ..PLAIN
    },
    Own {
        name: "refused: full",
        calls: "set_upstream",
        prepare: nearly_full,
        run: |table, subject| {
            let larger = |peers| Upstream { peers, ..subject.clone() };
            let peers = (0..4000).map(|i| patch(i).into_peer()).collect();
            let refused = match subject.method {
                // Its ring fits, and has to be given back.
                Some(Method::Chash) if !subject.peers.is_empty() => table.set_upstream(subject, WAIT),
                _ => table.set_upstream(&larger(peers), WAIT),
            };
            assert!(refused.is_err(), "more than the region holds");
        },
        make_room: delete_filler,
        ..PLAIN
    },
    Own {
        name: "delete a peer where all is full",
        calls: "delete_peer",
        prepare: made_and_full,
        run: |table, subject| {
            let deleted = table.delete_peer(&subject.name, &patch(subject.peers.len() / 2).address, WAIT);
            // The ring of the largest does not fit into the spare.
            let too_large = subject.peers.len() == 20 && subject.method == Some(Method::Chash);
            assert_eq!(deleted.is_ok(), !subject.peers.is_empty() && !too_large, "{deleted:?}");
        },
        make_room: delete_filler,
        ..PLAIN
    },
    Own {
        name: "delete a connected peer where all is full",
        calls: "delete_peer",
        prepare: |table, subject| {
            connected(table, subject);
            fill_but(table, 0);
        },
        run: |table, subject| drop(table.delete_peer(&subject.name, &patch(0).address, WAIT)),
        make_room: delete_filler,
        ..PLAIN
    },
    Own {
        name: "look it over at the start",
        calls: "check",
        run: |table, _| assert_eq!(table.check(WAIT), Ok(None)),
        also_large: true,
        ..PLAIN
    },
    Own {
        name: "repair what was spoiled",
        calls: "check",
        prepare: spoiled,
        run: |table, _| assert_eq!(table.check(WAIT), Ok(None)),
        ..PLAIN
    },
    Own { name: "pick", calls: "pick", run: pick, ..PLAIN },
    Own {
        name: "remember a change",
        calls: "add_change",
        run: |table, _| {
            let history = table.region().history().expect("it is there");
            history
                .add_change(&history::Change { time: 1, name: SUBJECT.into(), ..history::Change::default() })
                .expect("inside");
        },
        ..PLAIN
    },
    Own { name: "count tries", calls: "count_tries", run: count_tries, ..PLAIN },
    Own {
        name: "give a source its number",
        calls: "source",
        run: |table, _| assert_eq!(table.source("etcd:/services", WAIT), Ok(1)),
        ..PLAIN
    },
    // The last, since this process, which does all once to count, keeps it.
    Own {
        name: "claim a slot",
        calls: "claim_slot",
        run: |table, _| assert!(table.region().claim_slot().is_ok()),
        ..PLAIN
    },
];

const PLAIN: Own =
    Own { name: "", calls: "", prepare: made, run: nothing, check: no_more, make_room: room_enough, also_large: false };

fn nothing(_: &Table, _: &Upstream) {}

fn no_more(_: &Table, _: &str) {}

fn room_enough(_: &Table) {}

/// Loads a file that has the subject, or not. Each upstream of a load is a change of its own: this one changes nothing else.
fn load(table: &Table, subject: Option<&Upstream>) {
    let deleted = Upstream { name: "deleted".into(), ..Upstream::default() };
    let file: Vec<Upstream> = subject.into_iter().chain([&deleted]).cloned().collect();
    table.load(&file, false, WAIT).expect("load");
}

/// Loads a file that leads a host to the subject, which is made already. That is the only change.
fn load_route(table: &Table, subject: &Upstream, host: &str) {
    let deleted = Upstream { name: "deleted".into(), ..Upstream::default() };
    let target = Target { upstream: subject.name.clone(), weight: 1 };
    let route = Route { host: host.into(), targets: vec![target], key: None };
    table.load_with_routes(&[deleted, subject.clone()], &[route], false, WAIT).expect("load");
}

fn from_file(table: &Table, subject: &Upstream) {
    load(table, Some(subject));
}
