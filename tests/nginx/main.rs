//! dyups inside real nginx processes: the promises to operators, seen from outside, over HTTP.
//!
//! Every test starts its own nginx, with its own prefix, ports and region, and leaves nothing behind. The tests run side by side, as
//! many as `--test-threads` says. One that measures has the machine to itself: see [`Place::alone`](web::place::Place::alone). The
//! library has to be built: `make test` does that, `make build` alone too.
#![allow(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/nginx/mod.rs"]
mod web;

mod answers;
mod backends;
mod certificates;
mod changers;
mod checked;
mod counted;
mod door;
mod fronts;
mod gated;
mod generations;
mod holder;
mod https;
mod metered;
mod probers;
mod relay;
mod request;
mod sick;
mod sockets;
mod streams;
mod symptoms;
mod syntax_lines;
mod timed;
mod tls_client;
mod tries;
mod wrk;

mod test_answers;
mod test_busy;
mod test_cache;
mod test_changes;
mod test_chash;
mod test_checks;
mod test_clock;
mod test_counted_upgrade;
mod test_demo;
mod test_docs;
mod test_drain;
mod test_environment;
mod test_failures;
mod test_full;
mod test_grpc;
mod test_identity;
mod test_long_writes;
mod test_lua;
mod test_methods;
mod test_order;
mod test_partial;
mod test_probers;
mod test_probes;
mod test_probing;
mod test_protocols;
mod test_requests;
mod test_retries;
mod test_routes;
mod test_sick;
mod test_slices;
mod test_slow_start;
mod test_states;
mod test_statistics;
mod test_stopped;
mod test_storm;
mod test_survival;
mod test_syntax;
mod test_tls;
mod test_tries;
mod test_upgrade;
mod test_verdicts;

use support::{next, system};
use web::{client, load, place, server, wall_clock};
