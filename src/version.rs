//! The version of nginx, for the differences between versions.

use std::fmt;

/// A version of nginx.
///
/// ```
/// use dyups::version::NginxVersion;
/// let deb = NginxVersion::from_number(1022001);
/// assert_eq!(deb, Some(NginxVersion::new(1, 22, 1)));
/// assert!(deb < Some(NginxVersion::new(1, 29, 7)));
/// assert_eq!(NginxVersion::new(1, 29, 7).to_string(), "1.29.7");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NginxVersion(u32);

impl NginxVersion {
    /// The version `major.minor.patch`. `minor` and `patch` are 0 to 999.
    pub const fn new(major: u32, minor: u32, patch: u32) -> NginxVersion {
        NginxVersion(major * 1_000_000 + minor * 1000 + patch)
    }

    /// The version that nginx's own number stands for, such as 1022001 for 1.22.1; `None` for 0.
    pub const fn from_number(number: u32) -> Option<NginxVersion> {
        if number == 0 { None } else { Some(NginxVersion(number)) }
    }

    /// nginx's own number, such as 1022001.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for NginxVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NginxVersion(number) = self;
        write!(f, "{}.{}.{}", number / 1_000_000, number / 1000 % 1000, number % 1000)
    }
}
