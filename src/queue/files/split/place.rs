//! Where in a document the splitter stands.

/// What the splitter is inside of, between two pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Top,
    Array,
    Events,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Between two pieces.
    Between,
    /// In an object or array that is a piece.
    Value,
    /// In a piece that is neither: a number, a string, garbage.
    Loose,
}

/// What happens to the bytes of the piece that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Copy,
    /// It is too long: it is only counted.
    Oversized,
    /// It is what follows the events in their envelope.
    Remainder,
}
