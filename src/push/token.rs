//! The bearer tokens that may push.

use std::fmt;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use subtle::{Choice, ConstantTimeEq as _};

/// Bytes of a token file; a few tokens need a few hundred.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The tokens of one file. They can't be printed: `Debug` shows how many there are, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Tokens(Vec<Box<[u8]>>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

impl Tokens {
    /// Reads a token file: a token a line, blank lines and lines that begin with `#` left out. Blocks on the
    /// file.
    ///
    /// # Errors
    /// The file, the line and the reason, never what the line says.
    pub(super) fn load(path: &Path) -> Result<Self, String> {
        let named = |reason: &dyn fmt::Display| format!("{}: {reason}", path.display());
        let file = fs::File::open(path).map_err(|error| named(&error))?;
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(|error| named(&error))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(named(&"it is larger than 1 MiB, which no token file is"));
        }
        Self::parse(&text).map_err(|reason| named(&reason))
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        let mut tokens = Vec::new();
        for (number, line) in (1_usize..).zip(text.split(|byte| *byte == b'\n')) {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let head = line.get(..7).unwrap_or_default();
            if head.eq_ignore_ascii_case(b"bearer ") {
                return Err(format!("line {number}: write the token alone, without \"Bearer\""));
            }
            if !line.iter().all(u8::is_ascii_graphic) {
                return Err(format!("line {number}: a token is visible ASCII without white space"));
            }
            tokens.push(line.into());
        }
        if tokens.is_empty() {
            return Err("there is no token in it; write one a line, or leave push.token_file empty".into());
        }
        Ok(Self(tokens))
    }

    /// Whether an `Authorization` header's value is `Bearer` and one of the tokens. Takes the same time for
    /// every wrong token of a length, and looks at all tokens always.
    pub(super) fn allow(&self, authorization: &[u8]) -> bool {
        let Some((scheme, offered)) = authorization.split_at_checked(6) else { return false };
        if !scheme.eq_ignore_ascii_case(b"bearer") || !offered.starts_with(b" ") {
            return false;
        }
        let offered = offered.trim_ascii();
        let any = self.0.iter().fold(Choice::from(0), |any, token| any | token.ct_eq(offered));
        any.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(text: &str) -> Result<Tokens, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        fs::write(&path, text).unwrap();
        Tokens::load(&path).map_err(|text| text.replace(&format!("{}/", directory.path().display()), ""))
    }

    #[test]
    fn comments_blank_lines_and_line_ends_are_no_part_of_tokens_but_equals_signs_are() {
        let tokens = file("\u{feff}# old\r\n\r\nfirst+/-._~==\r\n  second  \n\n#third").unwrap();
        assert!(tokens.allow(b"Bearer first+/-._~=="));
        assert!(tokens.allow(b"bearer  second "));
        for wrong in
            ["Bearer first+/-._~=", "Bearer third", "Bearer ", "Bearer", "", "Basic second", "second"]
        {
            assert!(!tokens.allow(wrong.as_bytes()), "{wrong}");
        }
        assert!(!tokens.allow(b"Bearersecond"));
        assert!(!tokens.allow(b"Bearer second, Bearer second"));
    }

    #[test]
    fn errors_name_file_line_and_reason_and_never_the_token() {
        let text = |text: &str| file(text).unwrap_err();
        assert_eq!(text("ok\nse cret"), "tokens: line 2: a token is visible ASCII without white space");
        assert_eq!(text("Bearer secret"), "tokens: line 1: write the token alone, without \"Bearer\"");
        assert_eq!(text("a\n\nsecrét"), "tokens: line 3: a token is visible ASCII without white space");
        let none = "tokens: there is no token in it; write one a line, or leave push.token_file empty";
        assert_eq!(text(""), none);
        assert_eq!(text("# only\n \n"), none);
        assert!(Tokens::load(Path::new("/nowhere/t")).unwrap_err().starts_with("/nowhere/t: "));
    }

    #[test]
    fn tokens_can_not_be_printed() {
        let tokens = Tokens::parse(b"secret\nother").unwrap();
        assert_eq!(format!("{tokens:?}"), "Tokens(2)");
    }

    proptest! {
        /// Exactly the tokens of the file are allowed.
        #[test]
        fn only_listed_tokens_are_allowed(
            listed in prop::collection::vec("[A-Za-z0-9+/=._~-]{1,12}", 1..5),
            offered in "[A-Za-z0-9+/=._~-]{1,12}",
        ) {
            let tokens = Tokens::parse(listed.join("\n").as_bytes()).unwrap();
            for token in &listed {
                let header = format!("Bearer {token}");
                prop_assert!(tokens.allow(header.as_bytes()));
            }
            let header = format!("Bearer {offered}");
            prop_assert_eq!(tokens.allow(header.as_bytes()), listed.contains(&offered));
        }
    }
}
