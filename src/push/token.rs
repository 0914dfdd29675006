//! The bearer tokens that may push, and the app groups that each may speak for.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use braze_events::app_group::{self, IdFault};
use http_listener::file;

/// Bytes of a token file; a few tokens need a few hundred.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// UTF-8's byte order mark, which some editors put before the text.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// This many mixed letters and digits in a row are a part of a token rather than an id.
const PIECE_BYTES_MIN: usize = 8;

/// Canonical app group ids, in order.
pub(super) type AppGroups = Arc<[Box<str>]>;

/// One token. It can't be printed.
#[derive(Clone, PartialEq, Eq)]
struct Token {
    secret: Box<[u8]>,
    /// The app groups that its events may be of; `None`: any.
    app_groups: Option<AppGroups>,
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
    /// Also returns what the log should warn of.
    ///
    /// # Errors
    /// The file, the line and the reason, never what the line says.
    pub(super) fn load(path: &Path) -> Result<(Self, Vec<String>), String> {
        let named = |reason: &dyn fmt::Display| format!("{}: {reason}", path.display());
        let text = file::read(path, FILE_BYTES_MAX)?;
        let tokens = Self::parse(&text).map_err(|reason| named(&reason))?;
        Ok((tokens, slips(&text).iter().map(|slip| named(slip)).collect()))
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
            return Err("it is UTF-16; save it as UTF-8, without a byte order mark".into());
        }
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let mut tokens: Vec<Token> = Vec::new();
        for (number, line) in (1_usize..).zip(text.split(|byte| *byte == b'\n')) {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let token = parse_line(line).map_err(|reason| format!("line {number}: {reason}"))?;
            // Otherwise one of them would be in force by chance.
            let known = tokens.iter().find(|known| known.secret == token.secret);
            match known {
                None => tokens.push(token),
                // Once more: it is one sender all the same.
                Some(known) if *known == token => {}
                Some(_) => {
                    return Err(format!(
                        "line {number}: this token stands on a line above with other app groups; write it once"
                    ));
                }
            }
        }
        if tokens.is_empty() {
            return Err("there is no token in it; write one a line, or leave push.token_file empty".into());
        }
        Ok(Self(tokens))
    }

    /// Warnings on the app groups that tokens are bound to.
    pub(super) fn doubts(&self) -> Vec<&'static str> {
        let bound = self.0.iter().filter_map(|token| token.app_groups.as_ref());
        let faults = bound.flat_map(|ids| ids.iter()).filter_map(|id| app_group::fault(id));
        faults.map(|(IdFault::Doubtful(reason) | IdFault::Impossible(reason))| reason).collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The number of the token in an `Authorization` header's value, and the app groups that it is bound to, if it is;
    /// `None` where it is neither `Bearer` and one of the tokens, nor `Basic` with one of them for the password.
    pub(super) fn find(&self, authorization: &[u8]) -> Option<(usize, Option<AppGroups>)> {
        let space = authorization.iter().position(|byte| *byte == b' ')?;
        let (scheme, offered) = authorization.split_at(space);
        let offered = offered.trim_ascii();
        if scheme.eq_ignore_ascii_case(b"bearer") {
            return self.find_plain(offered);
        }
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return None;
        }
        // Clients that can only send basic auth put the token in the password; the user is ignored.
        let pair = STANDARD.decode(offered).ok()?;
        let colon = pair.iter().position(|byte| *byte == b':')?;
        self.find_plain(&pair[colon + 1..])
    }

    /// The same for a token by itself. Takes the same time for every wrong token of a length, and always compares all
    /// tokens.
    pub(super) fn find_plain(&self, offered: &[u8]) -> Option<(usize, Option<AppGroups>)> {
        let found = (0_u64..).zip(&self.0).fold(u64::MAX, |found, (number, token)| {
            u64::conditional_select(&found, &number, token.secret.ct_eq(offered))
        });
        let number = usize::try_from(found).ok()?;
        Some((number, self.0.get(number)?.app_groups.clone()))
    }
}

/// Reads a line that is not empty and has no white space around it.
fn parse_line(line: &[u8]) -> Result<Token, String> {
    if line.get(..7).is_some_and(|head| head.eq_ignore_ascii_case(b"bearer ")) {
        return Err("write the token alone, without \"Bearer\"".to_owned());
    }
    let length = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (secret, bound) = line.split_at(length);
    check_secret(secret)?;
    let bound = str::from_utf8(bound).map_err(|_| "the app group ids behind the token are not UTF-8 text")?;
    let bound = bound.trim();
    let app_groups = if bound.is_empty() { None } else { Some(parse_app_groups(bound)?) };
    Ok(Token { secret: secret.into(), app_groups })
}

/// Whether a header can carry it (RFC 6750, 2.1).
fn check_secret(secret: &[u8]) -> Result<(), &'static str> {
    let text = str::from_utf8(secret).unwrap_or_default();
    let is_quote = |letter: char| matches!(letter, '"' | '\'' | '`' | '\u{2018}'..='\u{201f}' | '«' | '»');
    if text.starts_with(is_quote) || text.ends_with(is_quote) {
        return Err("the token is in quotes; write it without them");
    }
    if text.contains(is_invisible) {
        return Err(
            "there is an invisible character in it (a byte order mark, a zero-width or no-break space); type the \
                    line anew",
        );
    }
    if !secret.iter().all(u8::is_ascii_graphic) {
        return Err("a token is visible ASCII without white space");
    }
    let padding = secret.iter().rev().take_while(|byte| **byte == b'=').count();
    let body = &secret[..secret.len() - padding];
    let is_carried = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
    if body.is_empty() || !body.iter().all(is_carried) {
        return Err(
            "no bearer header can carry this token: it is letters, digits and - . _ ~ + /, with = at its end \
                    only (RFC 6750)",
        );
    }
    Ok(())
}

fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{a0}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202f}' | '\u{2060}'..='\u{2064}'
        | '\u{feff}')
}

/// Warnings on a readable file, about probable slips.
fn slips(text: &[u8]) -> Vec<String> {
    let mut slips = Vec::new();
    if text.starts_with(BYTE_ORDER_MARK) {
        slips
            .push("it begins with a byte order mark, which is left out; save it as UTF-8 without one".into());
    }
    let lines = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text).split(|byte| *byte == b'\n');
    for (number, line) in (1_usize..).zip(lines.map(<[u8]>::trim_ascii)) {
        let behind = line.iter().position(u8::is_ascii_whitespace).map_or(&[][..], |at| &line[at..]);
        if !line.starts_with(b"#") && behind.split(|byte| !byte.is_ascii_alphanumeric()).any(is_piece) {
            slips.push(format!(
                "line {number}: behind the blank stands what looks like a piece of a token, and is taken for the id of \
                 the app group that the token is bound to; a token has no blank inside"
            ));
        }
    }
    slips
}

/// Hexadecimal digits are an id.
fn is_piece(run: &[u8]) -> bool {
    run.len() >= PIECE_BYTES_MIN
        && run.iter().any(u8::is_ascii_digit)
        && run.iter().any(|byte| byte.is_ascii_alphabetic() && !byte.is_ascii_hexdigit())
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
        if let Some(IdFault::Impossible(reason)) = app_group::fault(id) {
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
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    impl Tokens {
        #[expect(clippy::option_option, reason = "whether it is a token, and whether that is bound")]
        fn grant(&self, authorization: &[u8]) -> Option<Option<AppGroups>> {
            self.find(authorization).map(|(_, grant)| grant)
        }
    }

    fn file(text: &str) -> Result<Tokens, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        fs::write(&path, text).unwrap();
        Tokens::load(&path)
            .map(|(tokens, _)| tokens)
            .map_err(|text| text.replace(&format!("{}/", directory.path().display()), ""))
    }

    #[test]
    fn comments_blank_lines_and_line_ends_are_no_part_of_tokens_but_equals_signs_are() {
        let tokens = file("\u{feff}# old\r\n\r\nfirst+/-._~==\r\n  second  \n\n#third").unwrap();
        assert_eq!(tokens.grant(b"Bearer first+/-._~=="), Some(None));
        assert_eq!(tokens.grant(b"bearer  second "), Some(None));
        for wrong in
            ["Bearer first+/-._~=", "Bearer third", "Bearer ", "Bearer", "", "Basic second", "second"]
        {
            assert_eq!(tokens.grant(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(tokens.grant(b"Bearersecond"), None);
        assert_eq!(file("a\nb x\na\nb x\n").unwrap().len(), 2, "one that is written twice is one sender");
        assert_eq!(tokens.grant(b"Bearer second, Bearer second"), None);
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is compared with what is found")]
    fn bound(ids: &[&str]) -> Option<AppGroups> {
        Some(ids.iter().map(|id| Box::from(*id)).collect())
    }

    #[test]
    fn a_token_is_bound_to_the_app_groups_behind_it_and_to_no_others() {
        let tokens = file("free\nsecret== g-1\r\nother\t g-3 , g-2,g-3 \nother g-2,g-3").unwrap();
        assert_eq!(tokens.grant(b"Bearer free"), Some(None));
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
    fn a_token_that_was_written_wrong_is_refused_in_words_that_help_and_without_it() {
        for (text, reason) in [
            ("\"secret\"", "line 1: the token is in quotes; write it without them"),
            ("ok\n'secret' g-1", "line 2: the token is in quotes; write it without them"),
            ("\u{201c}secret\u{201d}", "line 1: the token is in quotes; write it without them"),
            ("\"\"", "line 1: the token is in quotes; write it without them"),
            ("ok\n\u{feff}secret", "line 2: there is an invisible character in it (a byte order mark"),
            ("sec\u{200b}ret", "line 1: there is an invisible character in it"),
            ("secret\u{a0}", "line 1: there is an invisible character in it"),
            ("secret@home", "line 1: no bearer header can carry this token"),
            ("sec=ret", "line 1: no bearer header can carry this token"),
            ("token=secret", "line 1: no bearer header can carry this token"),
            ("==", "line 1: no bearer header can carry this token"),
            ("secret,g-1", "line 1: no bearer header can carry this token"),
        ] {
            let error = file(text).unwrap_err();
            assert!(error.starts_with(&format!("tokens: {reason}")), "{text}: {error}");
            assert!(!error.contains("secret") && !error.contains("home"), "{error}");
        }
        let utf_16: Vec<u8> = "\u{feff}secret".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(Tokens::parse(&utf_16).unwrap_err().starts_with("it is UTF-16; save it as UTF-8"));
    }

    #[test]
    fn what_is_accepted_and_probably_a_slip_is_told() {
        assert_eq!(
            slips(b"secret\nsecret== 5f3e8f0a-1234-4cde-9abc-0123456789ab,5f3e8f0a12344cde9abc0123,g-1"),
            [""; 0]
        );
        let marked = slips("\u{feff}secret".as_bytes());
        assert_eq!(marked.len(), 1);
        assert!(marked[0].starts_with("it begins with a byte order mark, which is left out"), "{marked:?}");
        let cut = slips(b"# a comment with Zm9vYmFy1DEy\nok\nZm9v YmFy1DEy");
        assert_eq!(cut.len(), 1);
        assert!(cut[0].starts_with("line 3: behind the blank stands what looks like"), "{cut:?}");
        assert!(!cut[0].contains("YmFy"), "{cut:?}");
    }

    #[test]
    fn a_token_may_be_the_password_of_any_user() {
        let tokens = Tokens::parse(b"secret\nother== g-1").unwrap();
        let basic = |pair: &str| tokens.find(format!("Basic {}", STANDARD.encode(pair)).as_bytes());
        assert_eq!(basic("anybody:secret").map(|(number, _)| number), Some(0));
        assert_eq!(basic(":other==").map(|(number, _)| number), Some(1));
        for wrong in ["secret", "secret:", "a:b:secret", "a:secre", ""] {
            assert_eq!(basic(wrong), None, "{wrong}");
        }
        assert_eq!(tokens.find(b"Basic secret"), None);
        assert_eq!(tokens.find(b"Digest secret"), None);
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
            listed in prop::collection::vec("[A-Za-z0-9+/._~-]{1,12}={0,2}", 1..5),
            offered in "[A-Za-z0-9+/=._~-]{1,12}",
        ) {
            let tokens = Tokens::parse(listed.join("\n").as_bytes()).unwrap();
            for token in &listed {
                let header = format!("Bearer {token}");
                prop_assert_eq!(tokens.grant(header.as_bytes()), Some(None));
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
                    0 => None,
                    _ => Some(ids.iter().map(|id| Box::from(id.as_str())).collect()),
                };
                let header = format!("Bearer {token}");
                prop_assert_eq!(tokens.grant(header.as_bytes()), Some(expected));
            }
        }
    }
}
