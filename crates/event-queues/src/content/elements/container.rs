//! Where elements stand.

/// The kinds of places for elements.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::content) enum Container {
    #[default]
    Document,
    Array,
    Events,
}

impl Container {
    /// What stands before and behind an element on its line. An array stands for an envelope, too: behind damage, what looks like an
    /// element of one may be the next envelope, which counts in an array and not in another envelope.
    pub(super) const fn around(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::Document => (b"", b""),
            Self::Array | Self::Events => (b"[", b"]"),
        }
    }

    /// An element's line without that.
    pub(in crate::content) fn strip(line: &[u8]) -> &[u8] {
        let (before, behind) = Self::Array.around();
        line.strip_prefix(before).and_then(|line| line.strip_suffix(behind)).unwrap_or(line)
    }
}
