//! Deaths while a region is made, and while one is made in place of another.

use crate::death::{Stores, dies_at};
use crate::operations::{bystanders, patch, subject};
use crate::{SMALL, Tally, WAIT, after, open};
use dyups::balance::Method;
use dyups::table::ops::Absent;
use std::path::Path;

/// Kills both at each store.
pub fn kill(dir: &Path, tally: &mut Tally) {
    for resized in [false, true] {
        let prepare = |path: &Path| {
            if resized {
                let table = open(path, SMALL);
                bystanders(&table);
                table.set_upstream(&subject(3, Method::Chash), WAIT).expect("set");
            }
        };
        let size = if resized { 2 * SMALL } else { SMALL };
        let counted = dir.join(format!("counted-{resized}"));
        prepare(&counted);
        let stores = Stores::of(|| drop(open(&counted, size)));
        tally.places.extend(stores.places());
        let whole = after::state(&open(&counted, size));
        for nth in stores.all() {
            let what = format!("resized: {resized}, store {nth} of {}", stores.count());
            let path = dir.join(format!("made-{resized}-{nth}"));
            prepare(&path);
            assert!(dies_at(nth, || drop(open(&path, size))), "{what}: survived");
            tally.points += 1;
            let table = open(&path, size);
            assert_eq!(table.region().geometry().size, size, "{what}");
            assert!(after::state(&table) == whole, "{what}: {:?}", table.all());
            table.put_peer("next", &patch(0), Absent::Make, WAIT).unwrap_or_else(|error| panic!("{what}: {error}"));
            std::fs::remove_file(table.region().path()).expect("remove");
        }
    }
}
