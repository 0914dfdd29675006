//! The bearer tokens that may push, and the app groups that each may speak for.

use std::fmt;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use crate::app_group::{self, Fault};

/// Bytes of a token file; a few tokens need a few hundred.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// App group ids as they are compared, in order.
pub(super) type AppGroups = Arc<[Box<str>]>;

/// One token. It can't be printed.
#[derive(Clone, PartialEq, Eq)]
struct Token {
    secret: Box<[u8]>,
    /// The app groups that its events may be of; `None`: any.
    app_groups: Option<AppGroups>,
}

/// What a request with a known token may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Grant {
    /// Events of any app group.
    Any,
    /// Events of these app groups.
    Bound(AppGroups),
}

/// The tokens of one file. They can't be printed: `Debug` shows how many there are, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Tokens(Vec<Token>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

impl Tokens {
    /// Reads a token file: a line is a token, or a token, white space, and the ids of the app groups that it is bound
    /// to, parted by commas. Blank lines and lines that begin with `#` are left out. Blocks on the file.
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
        let mut tokens: Vec<Token> = Vec::new();
        for (number, line) in (1_usize..).zip(text.split(|byte| *byte == b'\n')) {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let token = parse_line(line).map_err(|reason| format!("line {number}: {reason}"))?;
            // One of them would be in force by chance.
            let known = tokens.iter().find(|known| known.secret == token.secret);
            if known.is_some_and(|known| *known != token) {
                return Err(format!(
                    "line {number}: this token stands on a line above with other app groups; write it once"
                ));
            }
            tokens.push(token);
        }
        if tokens.is_empty() {
            return Err("there is no token in it; write one a line, or leave push.token_file empty".into());
        }
        Ok(Self(tokens))
    }

    /// What is odd about the app groups that tokens are bound to.
    pub(super) fn doubts(&self) -> Vec<&'static str> {
        let bound = self.0.iter().filter_map(|token| token.app_groups.as_ref());
        let faults = bound.flat_map(|ids| ids.iter()).filter_map(|id| app_group::fault(id));
        faults.map(|(Fault::Doubtful(reason) | Fault::Impossible(reason))| reason).collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The number of the token in an `Authorization` header's value, and what is granted to it; `None` where it is not
    /// `Bearer` and one of the tokens. Takes the same time for every wrong token of a length, and looks at all tokens
    /// always.
    pub(super) fn find(&self, authorization: &[u8]) -> Option<(usize, Grant)> {
        let (scheme, offered) = authorization.split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"bearer") || !offered.starts_with(b" ") {
            return None;
        }
        let offered = offered.trim_ascii();
        let found = (0_u64..).zip(&self.0).fold(u64::MAX, |found, (number, token)| {
            u64::conditional_select(&found, &number, token.secret.ct_eq(offered))
        });
        let number = usize::try_from(found).ok()?;
        let app_groups = self.0.get(number)?.app_groups.as_ref();
        Some((number, app_groups.map_or(Grant::Any, |bound| Grant::Bound(Arc::clone(bound)))))
    }
}

/// Reads a line that is not empty and has no white space around it.
fn parse_line(line: &[u8]) -> Result<Token, String> {
    if line.get(..7).is_some_and(|head| head.eq_ignore_ascii_case(b"bearer ")) {
        return Err("write the token alone, without \"Bearer\"".to_owned());
    }
    let length = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (secret, bound) = line.split_at(length);
    if !secret.iter().all(u8::is_ascii_graphic) {
        return Err("a token is visible ASCII without white space".to_owned());
    }
    let bound = str::from_utf8(bound).map_err(|_| "the app group ids behind the token are not UTF-8 text")?;
    let bound = bound.trim();
    let app_groups = if bound.is_empty() { None } else { Some(parse_app_groups(bound)?) };
    Ok(Token { secret: secret.into(), app_groups })
}

fn parse_app_groups(text: &str) -> Result<AppGroups, String> {
    let mut ids = Vec::new();
    for id in text.split(',').map(str::trim) {
        if id.is_empty() {
            return Err("behind the token there is a comma without an app group id beside it".into());
        }
        if id.starts_with('#') {
            return Err(
                "a comment needs a line of its own; behind a token stand the app groups it is bound to"
                    .into(),
            );
        }
        if id.contains(char::is_whitespace) {
            return Err(
                "a token has no white space in it, and the app group ids behind it are parted by commas"
                    .into(),
            );
        }
        if let Some(Fault::Impossible(reason)) = app_group::fault(id) {
            return Err(format!("an app group id behind the token {reason}"));
        }
        ids.push(app_group::canonical(id));
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Tokens {
        fn grant(&self, authorization: &[u8]) -> Option<Grant> {
            self.find(authorization).map(|(_, grant)| grant)
        }
    }

    fn file(text: &str) -> Result<Tokens, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        fs::write(&path, text).unwrap();
        Tokens::load(&path).map_err(|text| text.replace(&format!("{}/", directory.path().display()), ""))
    }

    #[test]
    fn comments_blank_lines_and_line_ends_are_no_part_of_tokens_but_equals_signs_are() {
        let tokens = file("\u{feff}# old\r\n\r\nfirst+/-._~==\r\n  second  \n\n#third").unwrap();
        assert_eq!(tokens.grant(b"Bearer first+/-._~=="), Some(Grant::Any));
        assert_eq!(tokens.grant(b"bearer  second "), Some(Grant::Any));
        for wrong in
            ["Bearer first+/-._~=", "Bearer third", "Bearer ", "Bearer", "", "Basic second", "second"]
        {
            assert_eq!(tokens.grant(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(tokens.grant(b"Bearersecond"), None);
        assert_eq!(tokens.grant(b"Bearer second, Bearer second"), None);
    }

    fn bound(ids: &[&str]) -> Grant {
        Grant::Bound(ids.iter().map(|id| Box::from(*id)).collect())
    }

    #[test]
    fn a_token_is_bound_to_the_app_groups_behind_it_and_to_no_others() {
        let tokens = file("free\nsecret== g-1\r\nother\t g-3 , g-2,g-3 \nother g-2,g-3").unwrap();
        assert_eq!(tokens.grant(b"Bearer free"), Some(Grant::Any));
        assert_eq!(tokens.grant(b"Bearer secret=="), Some(bound(&["g-1"])));
        assert_eq!(tokens.grant(b"Bearer other"), Some(bound(&["g-2", "g-3"])));
        assert_eq!(tokens.grant(b"Bearer secret== g-1"), None);
        assert_eq!(tokens.grant(b"Bearer g-1"), None);
    }

    #[test]
    fn a_token_is_bound_to_uuids_in_whatever_case_they_are_written() {
        const ID: &str = "5f3e8f0a-1234-4cde-9abc-0123456789ab";
        let capitals = ID.to_uppercase();
        let tokens = file(&format!("a {capitals}\nb {ID},G-1,{capitals}\na {ID}")).unwrap();
        assert_eq!(tokens.grant(b"Bearer a"), Some(bound(&[ID])));
        assert_eq!(tokens.grant(b"Bearer b"), Some(bound(&[ID, "G-1"])));
        assert_eq!(tokens.doubts(), Vec::<&str>::new());
        for (id, word) in [
            (format!("{{{ID}}}"), "brackets"),
            (format!("'{ID}'"), "quotation marks"),
            (format!("{ID}\u{200b}"), "can't be seen"),
        ] {
            let error = file(&format!("secret g-1,{id}")).unwrap_err();
            let head = "tokens: line 1: an app group id behind the token ";
            assert!(error.starts_with(head) && error.contains(word) && !error.contains("5f3e"), "{error}");
        }
        let tokens = file(&format!("secret {}", ID.replace('-', ""))).unwrap();
        assert!(tokens.doubts()[0].contains("not its dashes"), "{:?}", tokens.doubts());
    }

    #[test]
    fn errors_name_file_line_and_reason_and_never_the_token() {
        let text = |text: &str| file(text).unwrap_err();
        let parted = "a token has no white space in it, and the app group ids behind it are parted by commas";
        assert_eq!(text("ok\nse cr et"), format!("tokens: line 2: {parted}"));
        let comma = "behind the token there is a comma without an app group id beside it";
        assert_eq!(text("secret g-1,,g-2"), format!("tokens: line 1: {comma}"));
        assert_eq!(text("secret ,"), format!("tokens: line 1: {comma}"));
        let comment = "a comment needs a line of its own; behind a token stand the app groups it is bound to";
        assert_eq!(text("secret # secret"), format!("tokens: line 1: {comment}"));
        let twice = "this token stands on a line above with other app groups; write it once";
        assert_eq!(text("secret g-1\nother\nsecret"), format!("tokens: line 3: {twice}"));
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
                prop_assert_eq!(tokens.grant(header.as_bytes()), Some(Grant::Any));
            }
            let header = format!("Bearer {offered}");
            prop_assert_eq!(tokens.grant(header.as_bytes()).is_some(), listed.contains(&offered));
        }

        /// Each token is granted what stands behind it, whatever stands on the other lines.
        #[test]
        fn every_token_keeps_its_own_app_groups(
            lines in prop::collection::btree_map("[a-z]{3,9}", prop::collection::btree_set("[A-Z0-9-]{1,8}", 0..4), 1..6),
        ) {
            let text: Vec<String> = lines
                .iter()
                .map(|(token, ids)| format!("{token} {}\n", ids.iter().map(String::as_str).collect::<Vec<_>>().join(",")))
                .collect();
            let tokens = Tokens::parse(text.concat().as_bytes()).unwrap();
            for (token, ids) in &lines {
                let expected = match ids.len() {
                    0 => Grant::Any,
                    _ => Grant::Bound(ids.iter().map(|id| Box::from(id.as_str())).collect()),
                };
                let header = format!("Bearer {token}");
                prop_assert_eq!(tokens.grant(header.as_bytes()), Some(expected));
            }
        }
    }
}
