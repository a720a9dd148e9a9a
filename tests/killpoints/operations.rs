//! The operations at which a process dies: the changes of one upstream, and those of this suite alone.

use crate::call;
use crate::own::OWN;
use crate::support::changes::{CHANGES, Change};
use dyups::table::Table;
use dyups::upstream::Upstream;

/// One operation.
pub trait Operation {
    fn name(&self) -> &'static str;
    /// It is also tried with a thousand peers.
    fn also_large(&self) -> bool;
    /// Prepares the table.
    fn prepare(&self, table: &Table, subject: &Upstream);
    /// Runs it. Answers which function of [`Table`] it called.
    fn run(&self, table: &Table, subject: &Upstream) -> &'static str;
    /// What must hold after its death beside all else.
    fn check(&self, _table: &Table, _what: &str) {}
    /// After its death in a full region: deletes something.
    fn make_room(&self, _table: &Table) {}
}

impl Operation for Change {
    fn name(&self) -> &'static str {
        self.name
    }

    fn also_large(&self) -> bool {
        self.also_large
    }

    fn prepare(&self, table: &Table, subject: &Upstream) {
        for before in (self.before)(subject) {
            call::make(table, &before).1.expect("done");
        }
    }

    fn run(&self, table: &Table, subject: &Upstream) -> &'static str {
        let (function, result) = call::make(table, &(self.call)(subject));
        assert_eq!(result.is_err(), (self.refused)(subject), "{result:?}");
        function
    }
}

/// All of them. `coverage` sees to it that none is missing.
pub fn all() -> impl Iterator<Item = &'static dyn Operation> {
    let changes = CHANGES.iter().map(|change| change as &dyn Operation);
    changes.chain(OWN.iter().map(|own| own as &dyn Operation))
}
