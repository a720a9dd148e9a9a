//! The rules by which nginx takes or refuses a backend's answer, where they differ by nginx's version.

use crate::version::NginxVersion;

/// The rules of one nginx. docs/healthcheck.md has them in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// From 1.23.0 on: one `Content-Length` of digits, or one `Transfer-Encoding: chunked`, and not both.
    pub(super) strict_lengths: bool,
    /// From 1.29.0 on: responses of 103 are skipped.
    pub(super) early_hints: bool,
    /// From 1.29.4 on: in chunks, no line ends in LF alone.
    pub(super) strict_chunks: bool,
}

impl Rules {
    /// Those of the newest nginx that is known here.
    pub const NEWEST: Rules = Rules { strict_lengths: true, early_hints: true, strict_chunks: true };

    /// Those of an nginx of this version.
    ///
    /// ```
    /// use dyups::http::response::Rules;
    /// use dyups::version::NginxVersion;
    /// assert_eq!(Rules::of(NginxVersion::new(1, 29, 4)), Rules::NEWEST);
    /// assert_ne!(Rules::of(NginxVersion::new(1, 22, 1)), Rules::NEWEST);
    /// ```
    pub fn of(version: NginxVersion) -> Rules {
        Rules {
            strict_lengths: version >= NginxVersion::new(1, 23, 0),
            early_hints: version >= NginxVersion::new(1, 29, 0),
            strict_chunks: version >= NginxVersion::new(1, 29, 4),
        }
    }

    /// Whether no other response to the same request follows one with this status.
    pub(super) fn is_final(self, status: u16) -> bool {
        !(self.early_hints && status == 103)
    }
}
