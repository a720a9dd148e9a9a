//! How a peer is picked, and which text of it the ring of chash hashes.

/// A method of picking. The numbers are part of the C ABI (`dyups_find`, 0 there means "the upstream's own").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Method {
    /// nginx's smooth weighted round robin, exact over all workers.
    Rr = 1,
    /// nginx's consistent hash of a key.
    Chash = 2,
    /// The fewest open connections for its weight, over all workers.
    LeastConn = 3,
    /// By chance and weight.
    Random = 4,
    /// The better of two by chance.
    RandomTwo = 5,
    /// By the address of the client.
    IpHash = 6,
}

impl Method {
    /// All of them, by the name that files and calls use.
    pub const NAMES: [(&'static str, Method); 6] = [
        ("rr", Method::Rr),
        ("chash", Method::Chash),
        ("least_conn", Method::LeastConn),
        ("random", Method::Random),
        ("random two", Method::RandomTwo),
        ("ip_hash", Method::IpHash),
    ];

    /// The method with this number, `None` for 0 and for numbers that no method has.
    #[inline(always)]
    pub fn numbered(number: u32) -> Option<Method> {
        match number {
            1 => Some(Method::Rr),
            2 => Some(Method::Chash),
            3 => Some(Method::LeastConn),
            4 => Some(Method::Random),
            5 => Some(Method::RandomTwo),
            6 => Some(Method::IpHash),
            _ => None,
        }
    }

    /// Its name: `"rr"`, `"chash"`, ...
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize - 1].0
    }
}

/// The text of a peer that the ring hashes. There are two traditions, so an upstream names its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum HashId {
    /// As nginx's `hash ... consistent`: host and port as written, joined by NUL.
    #[default]
    Nginx = 0,
    /// As lua-resty-chash with `host:port` ids.
    HostPort = 1,
}

impl HashId {
    /// Both, by the name that files and calls use.
    pub const NAMES: [(&'static str, HashId); 2] = [("nginx", HashId::Nginx), ("host:port", HashId::HostPort)];

    /// The one with this number; `None` for numbers that none has.
    pub fn numbered(number: u8) -> Option<HashId> {
        Self::NAMES.get(usize::from(number)).map(|&(_, id)| id)
    }

    /// `"nginx"` or `"host:port"`.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].0
    }
}
