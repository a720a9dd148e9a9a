//! The kinds of things that a name of the table stands for.

/// The kind of thing that a version describes. Each kind has names of its own. All have the same head, and their peers, cells and rings
/// mean the same. The other words behind the head are a matter of the kind.
///
/// A library passes over kinds that it does not know: no name leads to them, no list shows them, no pick reads them. A repair keeps
/// them, and so does a new region that is filled from one of the same layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kind(pub u8);

impl Kind {
    /// An upstream.
    pub const UPSTREAM: Kind = Kind(0);
    /// A host that leads to upstreams: see [`super::route`].
    pub const ROUTE: Kind = Kind(1);
    /// An upstream that its source has to renew. No library writes one yet.
    pub const LEASE: Kind = Kind(2);
}
