//! Passwords and tokens, which are never shown.

use std::fmt;

/// A password, a token, or something that may hold one. It can't be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Takes it as it is.
    pub fn new(secret: &str) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for its recipient and nobody else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(secret: &str) -> Self {
        Self::new(secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
