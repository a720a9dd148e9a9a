//! Deaths while a region is made, and while one is made in place of another.

use crate::choice::Choice;
use crate::death::{Stores, dies_at};
use crate::image::cells_of;
use crate::subject::{bystanders, patch, subject};
use crate::support::layout_1;
use crate::{SMALL, Tally, WAIT, after, open};
use dyups::shm::deletions::Deletions;
use dyups::shm::sources::Sources;
use dyups::table::ops::Absent;
use dyups::upstream::Method;
use std::path::Path;

/// How a region is come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Made,
    Resized,
    /// It is there, and its cells are not.
    WithoutCells,
    /// Processes without slots had it, and are gone.
    AfterUnnumbered,
    /// There is one of layout 1, whose table is taken over.
    FromLayout1,
}

impl Way {
    fn prepare(self, path: &Path) {
        if self == Way::FromLayout1 {
            layout_1::made(path);
        } else if self != Way::Made {
            let table = open(path, SMALL);
            bystanders(&table);
            table.set_upstream(&subject(3, Method::Chash), WAIT).expect("set");
            table.source("etcd:/services", WAIT).expect("the first");
            table.put_peer("gone", &patch(0), Absent::Make, WAIT).expect("add");
            table.delete_upstream("gone", true, WAIT).expect("delete");
            if self == Way::AfterUnnumbered {
                table.region().cells().expect("they are there").goes_unnumbered().expect("inside");
            }
            if self == Way::WithoutCells {
                std::fs::remove_file(cells_of(table.region().path())).expect("remove");
            }
        }
    }

    /// There are a source and a deletion, which a region of layout 1 has no place for.
    fn has_all(self) -> bool {
        !matches!(self, Way::Made | Way::FromLayout1)
    }

    fn size(self) -> u64 {
        if self == Way::Resized { 2 * SMALL } else { SMALL }
    }
}

/// Kills all of them.
pub fn kill(dir: &Path, choice: &mut Choice, tally: &mut Tally) {
    for way in [Way::Made, Way::Resized, Way::WithoutCells, Way::AfterUnnumbered, Way::FromLayout1] {
        let size = way.size();
        let counted = dir.join(format!("counted-{way:?}"));
        way.prepare(&counted);
        let come = |path: &Path| drop(open(path, size).writer(WAIT).expect("the lock"));
        let stores = Stores::of(|| come(&counted));
        let whole = after::state(&open(&counted, size));
        for nth in choice.of_operation(&stores) {
            let what = format!("{way:?}, store {nth} of {}", stores.count());
            let path = dir.join(format!("{way:?}-{nth}"));
            way.prepare(&path);
            assert!(dies_at(nth, || come(&path)), "{what}: survived");
            tally.points += 1;
            tally.died.insert(stores.place(nth));
            let table = open(&path, size);
            assert_eq!(table.region().geometry().size, size, "{what}");
            if way.has_all() {
                let (mem, geometry) = (table.region().mem(), table.region().geometry());
                assert_eq!(Sources::over(mem, geometry).all(), Ok(vec![(1, "etcd:/services".into())]), "{what}");
                let deleted = Deletions::over(mem, geometry).all().expect("sound");
                assert!(deleted.iter().any(|deletion| deletion.name == b"gone"), "{what}: {deleted:?}");
            }
            drop(table.writer(WAIT).expect("the lock"));
            assert!(after::state(&table) == whole, "{what}: {:?}", table.all());
            table.put_peer("next", &patch(0), Absent::Make, WAIT).unwrap_or_else(|error| panic!("{what}: {error}"));
            std::fs::remove_file(table.region().path()).expect("remove");
        }
    }
}
