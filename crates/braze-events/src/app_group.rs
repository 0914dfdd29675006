//! The ids of app groups: when two are the same, and which can't be ids.
//!
//! Braze's are UUIDs, which people, templates and tools write in capitals or in small letters. So two UUIDs that
//! differ in nothing else are one app group. Any other id is compared as it is.

/// Letters of a UUID, dashes included.
const UUID_LENGTH: usize = 36;

/// Hexadecimal digits of a UUID.
const UUID_DIGITS: usize = 32;

/// Where the dashes of a UUID stand.
const DASHES: [usize; 4] = [8, 13, 18, 23];

/// The bit that sets the small letters apart from the capitals. Digits and the dash have it, too.
const SMALL: u8 = 0x20;

/// An id that is hexadecimal digits and dashes and about as long as a UUID was meant to be one.
const NEAR_UUID: std::ops::RangeInclusive<usize> = 28..=40;

/// A UUID with capitals, in small letters; `None`: the id is compared as it is.
#[inline]
pub fn lowered(id: &[u8]) -> Option<[u8; UUID_LENGTH]> {
    let mut uuid: [u8; UUID_LENGTH] = id.try_into().ok()?;
    if uuid.iter().fold(SMALL, |common, letter| common & letter) == SMALL || !is_uuid(id) {
        return None;
    }
    uuid.make_ascii_lowercase();
    Some(uuid)
}

/// An id as it is compared.
pub fn canonical(id: &str) -> Box<str> {
    if is_uuid(id.as_bytes()) { id.to_ascii_lowercase().into() } else { id.into() }
}

fn is_uuid(id: &[u8]) -> bool {
    let fits = |(at, letter): (usize, &u8)| {
        if DASHES.contains(&at) { *letter == b'-' } else { letter.is_ascii_hexdigit() }
    };
    id.len() == UUID_LENGTH && id.iter().enumerate().all(fits)
}

/// A fault of an id in a configuration. The text completes a sentence that begins with the id, and never quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdFault {
    /// No event of Braze has such an id.
    Impossible(&'static str),
    /// It was probably meant to be another.
    Doubtful(&'static str),
}

/// The fault of `id`, if it has one.
pub fn fault(id: &str) -> Option<IdFault> {
    let has = |is_one: fn(char) -> bool| id.chars().any(is_one);
    let is_bracket = |letter: char| "{}()[]<>".contains(letter);
    let reason = if id.trim().is_empty() {
        "is empty, which no app group id is; leave it out"
    } else if has(is_unseen) {
        "has a character in it that can't be seen, which came along when it was copied; type the id anew"
    } else if has(char::is_whitespace) {
        "has white space in it, which no app group id has; write the id alone"
    } else if has(is_quote) {
        "has quotation marks in it, which no app group id has; write the id alone"
    } else if id.starts_with(is_bracket) || id.ends_with(is_bracket) {
        "stands in brackets, which no app group id does; write the id alone"
    } else if id.get(..9).is_some_and(|head| head.eq_ignore_ascii_case("urn:uuid:")) {
        "begins with urn:uuid:, which no app group id does; write the id alone"
    } else if has(is_other_dash) {
        "has a dash in it that is not `-`, as text programs make it; write `-`"
    } else if id.contains(',') {
        "has a comma in it; write every app group id as an entry of its own"
    } else {
        return doubt(id).map(IdFault::Doubtful);
    };
    Some(IdFault::Impossible(reason))
}

fn doubt(id: &str) -> Option<&'static str> {
    let is_near = NEAR_UUID.contains(&id.len())
        && id.bytes().all(|letter| letter.is_ascii_hexdigit() || letter == b'-')
        && !is_uuid(id.as_bytes());
    match id.bytes().filter(u8::is_ascii_hexdigit).count() {
        _ if !is_near => None,
        UUID_DIGITS => Some(
            "has the 32 digits of an app group id, but not its dashes (8-4-4-4-12), so that no event of Braze has it",
        ),
        _ if id.contains('-') => {
            Some("looks like an app group id, but does not have the 32 digits of one (8-4-4-4-12)")
        }
        _ => None,
    }
}

/// Characters of no width, and controls but for white space.
pub fn is_unseen(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
        || (letter.is_control() && !letter.is_whitespace())
}

/// Quotation marks, straight and printed.
pub fn is_quote(letter: char) -> bool {
    matches!(letter, '"' | '\'' | '`' | '´' | '«' | '»' | '\u{2018}'..='\u{201f}' | '‹' | '›' | '＂' | '＇')
}

fn is_other_dash(letter: char) -> bool {
    matches!(letter, '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "5f3e8f0a-1234-4cde-9abc-0123456789ab";

    #[test]
    fn a_uuid_is_compared_in_small_letters_and_anything_else_as_it_is() {
        let capitals = ID.to_uppercase();
        assert_eq!(lowered(capitals.as_bytes()).as_ref().map(<[u8; 36]>::as_slice), Some(ID.as_bytes()));
        assert_eq!(&*canonical(&capitals), ID);
        assert_eq!(lowered(ID.as_bytes()), None);
        for other in [
            "",
            "G-1",
            "5F3E8F0A12344CDE9ABC0123456789AB",
            "5F3E8F0A-1234-4CDE-9ABC0-123456789AB",
            "GF3E8F0A-1234-4CDE-9ABC-0123456789AB",
        ] {
            assert_eq!((lowered(other.as_bytes()), &*canonical(other)), (None, other));
        }
    }

    #[test]
    fn what_is_no_id_is_told() {
        let impossible = |id: &str, word: &str| match fault(id) {
            Some(IdFault::Impossible(reason)) => assert!(reason.contains(word), "{id}: {reason}"),
            other => panic!("{id:?}: {other:?}"),
        };
        for (id, word) in [
            (String::new(), "empty"),
            (format!("{{{ID}}}"), "brackets"),
            (format!("\"{ID}\""), "quotation marks"),
            (format!("'{ID}"), "quotation marks"),
            (format!("“{ID}”"), "quotation marks"),
            (format!("{ID}\u{200b}"), "can't be seen"),
            (format!("\u{feff}{ID}"), "can't be seen"),
            (ID.replace('a', "a\u{ad}"), "can't be seen"),
            (format!("{ID}\u{1}"), "can't be seen"),
            (format!(" {ID}"), "white space"),
            (format!("{ID}\u{a0}"), "white space"),
            (ID.replace('-', "- "), "white space"),
            (format!("{ID}\n"), "white space"),
            (ID.replace('-', "–"), "dash"),
            (format!("urn:uuid:{ID}"), "urn:uuid:"),
            (format!("{ID},{ID}"), "comma"),
        ] {
            impossible(&id, word);
        }
        for (id, word) in [
            (ID.replace('-', ""), "not its dashes"),
            (ID.replacen('-', "", 1), "not its dashes"),
            (ID[1..].to_owned(), "32 digits"),
            (format!("{ID}0"), "32 digits"),
        ] {
            assert!(matches!(fault(&id), Some(IdFault::Doubtful(reason)) if reason.contains(word)), "{id}");
        }
        for id in
            [ID, &ID.to_uppercase(), "5f3e8f0a12344cde9abc0123", "group-1", "Ab.C[0]-d", "007", "géré", "agb"]
        {
            assert_eq!(fault(id), None, "{id}");
        }
    }

    proptest! {
        /// Two ids are the same exactly where they are one text, or UUIDs that are one but for their case.
        #[test]
        fn case_is_all_that_may_differ(
            left in "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|[aAgG-]{1,3}",
            at in 0_usize..40,
            with in "[0-9a-gA-G-]",
        ) {
            let mut right = left.clone();
            let at = at % right.len();
            right.replace_range(at..=at, &with);
            let is_same = left == right || (left.len() == UUID_LENGTH && left.eq_ignore_ascii_case(&right));
            prop_assert_eq!(canonical(&left) == canonical(&right), is_same);
            let compared = |id: &str| lowered(id.as_bytes()).map_or(id.as_bytes().to_vec(), |id| id.to_vec());
            prop_assert_eq!(compared(&left), canonical(&left).as_bytes().to_vec());
        }
    }
}
