//! dyups inside real nginx processes: what operators were promised, seen from outside, over HTTP.
//!
//! Every test starts its own nginx, with its own prefix, ports and region, and leaves nothing behind. They run one at a
//! time, whatever `--test-threads` says, since they measure each other otherwise; test_sick.rs alone, which measures nothing,
//! waits for nobody and needs no nginx but for TLS. The library has to be built: `make test` does that, `make build` alone too.
#![allow(unsafe_code)]

mod common;

#[path = "nginx/answers.rs"]
mod answers;
#[path = "nginx/backends.rs"]
mod backends;
#[path = "nginx/certificates.rs"]
mod certificates;
#[path = "nginx/changers.rs"]
mod changers;
#[path = "nginx/checked.rs"]
mod checked;
#[path = "nginx/client.rs"]
mod client;
#[path = "nginx/counted.rs"]
mod counted;
#[path = "nginx/door.rs"]
mod door;
#[path = "nginx/fronts.rs"]
mod fronts;
#[path = "nginx/gated.rs"]
mod gated;
#[path = "nginx/generations.rs"]
mod generations;
#[path = "nginx/holder.rs"]
mod holder;
#[path = "nginx/https.rs"]
mod https;
#[path = "nginx/load.rs"]
mod load;
mod next;
#[path = "nginx/place.rs"]
mod place;
#[path = "nginx/probers.rs"]
mod probers;
#[path = "nginx/relay.rs"]
mod relay;
#[path = "nginx/request.rs"]
mod request;
#[path = "nginx/server.rs"]
mod server;
mod shipped;
#[path = "nginx/sick.rs"]
mod sick;
#[path = "nginx/sockets.rs"]
mod sockets;
#[path = "nginx/streams.rs"]
mod streams;
#[path = "nginx/symptoms.rs"]
mod symptoms;
#[path = "nginx/syntax_lines.rs"]
mod syntax_lines;
#[path = "nginx/system.rs"]
mod system;
#[path = "nginx/timed.rs"]
mod timed;
#[path = "nginx/tls_client.rs"]
mod tls_client;
#[path = "nginx/wrk.rs"]
mod wrk;

#[path = "nginx/test_answers.rs"]
mod test_answers;
#[path = "nginx/test_busy.rs"]
mod test_busy;
#[path = "nginx/test_cache.rs"]
mod test_cache;
#[path = "nginx/test_changes.rs"]
mod test_changes;
#[path = "nginx/test_chash.rs"]
mod test_chash;
#[path = "nginx/test_checks.rs"]
mod test_checks;
#[path = "nginx/test_counted_upgrade.rs"]
mod test_counted_upgrade;
#[path = "nginx/test_demo.rs"]
mod test_demo;
#[path = "nginx/test_docs.rs"]
mod test_docs;
#[path = "nginx/test_drain.rs"]
mod test_drain;
#[path = "nginx/test_environment.rs"]
mod test_environment;
#[path = "nginx/test_failures.rs"]
mod test_failures;
#[path = "nginx/test_full.rs"]
mod test_full;
#[path = "nginx/test_grpc.rs"]
mod test_grpc;
#[path = "nginx/test_identity.rs"]
mod test_identity;
#[path = "nginx/test_lua.rs"]
mod test_lua;
#[path = "nginx/test_methods.rs"]
mod test_methods;
#[path = "nginx/test_order.rs"]
mod test_order;
#[path = "nginx/test_partial.rs"]
mod test_partial;
#[path = "nginx/test_probers.rs"]
mod test_probers;
#[path = "nginx/test_probes.rs"]
mod test_probes;
#[path = "nginx/test_probing.rs"]
mod test_probing;
#[path = "nginx/test_protocols.rs"]
mod test_protocols;
#[path = "nginx/test_requests.rs"]
mod test_requests;
#[path = "nginx/test_retries.rs"]
mod test_retries;
#[path = "nginx/test_sick.rs"]
mod test_sick;
#[path = "nginx/test_states.rs"]
mod test_states;
#[path = "nginx/test_stopped.rs"]
mod test_stopped;
#[path = "nginx/test_storm.rs"]
mod test_storm;
#[path = "nginx/test_survival.rs"]
mod test_survival;
#[path = "nginx/test_syntax.rs"]
mod test_syntax;
#[path = "nginx/test_tls.rs"]
mod test_tls;
#[path = "nginx/test_upgrade.rs"]
mod test_upgrade;
#[path = "nginx/test_verdicts.rs"]
mod test_verdicts;
