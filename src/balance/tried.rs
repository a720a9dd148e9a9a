//! The peers that a request was sent to: a pick passes over them.

/// Most peers that one request may try; then there is none left for it.
pub(crate) const MAX_TRIED: usize = 64;

/// The peers that a request has tried, by the identity of their address, so that it outlives changes of the table.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Tried {
    /// How many of `idents` are set, at most 64; then there is no peer left for the request. 0 for a new one.
    pub count: u32,
    /// Identities of the tried peers.
    pub idents: [u64; 64],
}

impl Default for Tried {
    fn default() -> Self {
        Tried { count: 0, idents: [0; MAX_TRIED] }
    }
}

impl Tried {
    /// Those that were tried.
    pub(super) fn idents(&self) -> &[u64] {
        &self.idents[..(self.count as usize).min(MAX_TRIED)]
    }

    pub(super) fn has(&self, ident: u64) -> bool {
        self.idents().contains(&ident)
    }

    /// Adds one.
    pub fn push(&mut self, ident: u64) {
        if let Some(free) = self.idents.get_mut(self.count as usize) {
            *free = ident;
            self.count += 1;
        }
    }
}
