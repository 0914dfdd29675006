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
    /// What stands before and behind an element on its line.
    pub(super) const fn around(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::Document => (b"", b""),
            Self::Array => (b"[", b"]"),
            Self::Events => (b"{\"events\":[", b"]}"),
        }
    }

    /// An element's line without that.
    pub(in crate::content) fn strip(line: &[u8]) -> &[u8] {
        [Self::Events, Self::Array]
            .into_iter()
            .find_map(|container| {
                let (before, behind) = container.around();
                line.strip_prefix(before)?.strip_suffix(behind)
            })
            .unwrap_or(line)
    }
}
