//! A call of the C ABI on a table of this process: it comes to the same as in src/ffi/change.rs.

use crate::WAIT;
use crate::support::changes::Call;
use dyups::config::{check, peer, route, upstream, value};
use dyups::error::Result;
use dyups::table::Table;
use dyups::table::ops::Absent;

/// Makes the call. Answers which function of [`Table`] did it, and its result.
pub fn make(table: &Table, call: &Call) -> (&'static str, Result<()>) {
    let name = call.name.as_str();
    let value = || value::parse(call.json.as_bytes()).expect("JSON");
    let patch = || peer::peer_patch(&value(), "peer").expect("a peer");
    match call.function {
        "set_upstream" => {
            let upstream = upstream::upstream(name, &value(), "upstream").expect("an upstream");
            ("set_upstream", table.set_upstream(&upstream, WAIT))
        }
        "delete_upstream" => {
            let force = upstream::force(&value(), "options").expect("options");
            ("delete_upstream", table.delete_upstream(name, force, WAIT))
        }
        "add_peer" => ("put_peer", table.put_peer(name, &patch(), Absent::Make, WAIT)),
        "set_peer" => ("put_peer", table.put_peer(name, &patch(), Absent::Refuse, WAIT)),
        "delete_peer" => match peer::peer_to_delete(&value(), "peer").expect("a peer") {
            (address, false) => ("delete_peer", table.delete_peer(name, &address, WAIT)),
            (address, true) => ("drain_peer", table.drain_peer(name, &address, WAIT)),
        },
        "healthcheck" => ("set_check", table.set_check(name, check::change(&value()), WAIT)),
        "set_route" => {
            let route = route::route(name, &value(), "route").expect("a route");
            ("set_route", table.set_route(&route, WAIT))
        }
        "delete_route" => ("delete_route", table.delete_route(name, WAIT)),
        "build_ring" => ("build_ring", table.build_ring(name, WAIT)),
        other => panic!("{other}: which function of the table does it?"),
    }
}
