//! The valid regions that cases begin with.

use super::case::shaped;
use super::names::names;
use super::routes::shaped_route;
use crate::support::{SOON, upstream};
use dyups::error::Code;
use dyups::table::Table;
use dyups::table::directory::Directory;

/// Fills an empty region.
pub const STARTS: [fn(&Table); 8] = [empty, few, rings, deleted, long, full, half_done, crowded];

/// The same of those with routes.
pub const STARTS_WITH_ROUTES: [fn(&Table); 4] = [routes, routes_of_files, routes_alone, routes_in_a_full_region];

fn empty(_: &Table) {}

fn set(table: &Table, name: usize, shape: u8, size: u8) {
    table.set_upstream(&shaped(&names()[name], shape, size), SOON).expect("room");
}

/// By rr: one peer, three, and twenty with backups and peers that are down; one upstream without peers.
fn few(table: &Table) {
    for (name, shape, size) in [(0, 1, 1), (1, 1 + 32, 3), (4, 128 + 64 + 16, 134), (5, 0, 0)] {
        set(table, name, shape, size);
    }
}

/// By chash, of both kinds: declared, and asked for by a pick.
fn rings(table: &Table) {
    for (name, shape, size) in [(0, 2, 3), (1, 2 + 8 + 128, 5), (2, 0, 2), (6, 2 + 32, 6)] {
        set(table, name, shape, size);
    }
    table.build_ring(&names()[2], SOON).expect("room");
}

/// Upstreams of a file, one untouched, one changed and two deleted at run time, and one that no file has.
fn deleted(table: &Table) {
    let files: Vec<_> = (0..4).map(|i| shaped(&names()[i], 2 * (i as u8 % 2), 2)).collect();
    table.load(&files, false, SOON).expect("room");
    set(table, 1, 0, 3);
    for gone in [2, 3] {
        table.delete_upstream(&names()[gone], true, SOON).expect("there");
    }
    set(table, 7, 0, 1);
}

/// Names and addresses that do not fit into one word, or three.
fn long(table: &Table) {
    for (name, shape, size) in [(6, 0, 134), (5, 2, 133), (0, 1, 7)] {
        set(table, name, shape, size);
    }
}

/// Not a granule is free.
fn full(table: &Table) {
    set(table, 0, 2, 3);
    set(table, 1, 0, 5);
    for size in [7, 6, 5, 3, 1, 0] {
        for i in 0.. {
            let filler = shaped(&format!("filler-{size}-{i}"), 0, size);
            match table.set_upstream(&filler, SOON) {
                Ok(()) => {}
                Err(error) if error.code == Code::Full => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// The leavings of a writer that died while it made an upstream, and of one that died while it deleted one.
fn half_done(table: &Table) {
    few(table);
    let writer = table.writer(SOON).expect("free");
    let directory = Directory::new(table.region());
    let (gone, view) = directory.find(names()[1].as_bytes()).expect("sound").expect("there");
    writer.begin().expect("sound");
    directory.publish(gone, view.stamp.next(0).expect("young")).expect("sound");
    let record = directory.free_record().expect("sound").expect("free");
    writer.allocate(&[7; 100]).expect("room");
    directory.link(record, names()[2].as_bytes()).expect("sound");
}

/// Every record has an upstream.
fn crowded(table: &Table) {
    few(table);
    for i in 4..table.region().geometry().records {
        table.set_upstream(&upstream(&format!("n{i}"), &["10.0.0.1:80"]), SOON).expect("room");
    }
}

/// To one upstream and to several, by a key and without, narrow and wide; one leads to no upstream any more.
fn routes(table: &Table) {
    few(table);
    set(table, 2, 0, 2);
    // Of two each: the host, the first upstream, and the shape.
    for (host, first, shape) in [(0, 0, 2 + 4), (1, 0, 3 + 128), (3, 4, 0), (4, 1, 2), (5, 4, 2 + 8 + 240), (2, 2, 0)] {
        table.set_route(&shaped_route(host, first, shape), SOON).expect("room");
    }
    table.delete_upstream(&names()[2], true, SOON).expect("there");
}

/// Routes of a file, one untouched, one changed and one deleted at run time, and one that no file has.
fn routes_of_files(table: &Table) {
    let files: Vec<_> = (0..3).map(|i| shaped(&names()[i], 0, 2)).collect();
    let of_file: Vec<_> =
        [(0, 0, 0), (1, 1, 0), (3, 0, 2 + 4)].map(|(host, first, shape)| shaped_route(host, first, shape)).into();
    table.load_with_routes(&files, &of_file, false, SOON).expect("room");
    table.set_route(&shaped_route(1, 0, 2 + 128), SOON).expect("room");
    table.delete_route("default", SOON).expect("there");
    table.set_route(&shaped_route(5, 2, 0), SOON).expect("room");
}

/// None of the upstreams that they name is there any more.
fn routes_alone(table: &Table) {
    routes(table);
    for upstream in table.upstreams().expect("readable") {
        table.delete_upstream(&upstream.upstream.name, true, SOON).expect("there");
    }
}

/// Not a granule is free.
fn routes_in_a_full_region(table: &Table) {
    routes(table);
    full(table);
}
