//! The facts that a table remembers of an upstream beside its configuration.

/// The facts that a table remembers of an upstream beside its configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// Changed at run time: a reload of the files leaves it alone.
    pub const TOUCHED: Flags = Flags(1);
    /// Its name is in the files that were loaded last.
    pub const IN_FILE: Flags = Flags(2);
    /// Deleted at run time and remembered, since the files would bring it back.
    pub const DELETED: Flags = Flags(4);
    /// A caller asked for chash, so each version has a ring.
    pub const RING: Flags = Flags(8);
    /// Its check was set at run time: a reload of the files leaves that alone.
    pub const CHECK_BY_HAND: Flags = Flags(16);

    /// Whether `flag` is set.
    pub fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 != 0
    }

    /// With `flag` set.
    #[must_use]
    pub fn with(self, flag: Flags) -> Flags {
        Flags(self.0 | flag.0)
    }

    /// With `flag` cleared.
    #[must_use]
    pub fn without(self, flag: Flags) -> Flags {
        Flags(self.0 & !flag.0)
    }
}
