//! Tags as Datadog stores them, which is what queries, monitors and "group by" see.
//!
//! The forwarder sends names as Braze wrote them; Datadog changes them on arrival. Queries, and the check for names that
//! become one, need the changed form.

/// The longest tag that Datadog keeps, in characters, its key and the colon included. Source: Datadog's "Getting
/// Started with Tags".
const TAG_CHARACTERS_MAX: usize = 200;

/// The tag `key:value` as Datadog stores it; empty if nothing of it is left.
///
/// Letters become lower case. What is not a letter, a digit or one of `_ - : . /` becomes an underscore, and a run of
/// underscores one. What stands before the first letter or colon is left out, and so is an underscore at the end. Then
/// 200 characters are kept.
///
/// Sources: Datadog's "Getting Started with Tags", and its own normaliser (the crate `libdd-trace-normalization`),
/// with which a property below compares. The algorithm of the metrics back end is not published. Where the two
/// differ, or are silent:
///
/// - The documentation keeps 200 characters, the normaliser 400 bytes of them at most, which is an arbitrary part of a
///   long Japanese name. Here it is 200 characters.
/// - The documentation has a tag begin with a letter; the normaliser takes a colon, too. So it is here. Datadog's
///   log forwarder leaves out digits and underscores only. Our keys begin with a letter, so it matters for static
///   tags alone.
/// - "Letter" and "digit" are Unicode's `Alphabetic` and `Numeric`, as in the normaliser; it says itself that the Agent
///   takes category L instead, which turns vowel signs (Devanagari, Thai) into underscores.
/// - A capital letter whose small one takes more bytes (Ⱥ), or more characters than one (İ), is kept as it is, or as
///   the first of them, as in the normaliser.
/// - A value of which nothing is left (an emoji) leaves `key:`, as in the normaliser; the documentation wants no colon
///   at the end, and does not say what it does about one.
///
/// So the result is certain for names of at most 200 characters, key included, in Latin, Greek or Cyrillic letters.
///
/// ```
/// use datadog_points::normalize::stored_tag;
///
/// assert_eq!(stored_tag("campaign_name:Weekly Newsletter (EMEA)"), "campaign_name:weekly_newsletter_emea");
/// ```
pub fn stored_tag(tag: &str) -> String {
    let mut stored = String::with_capacity(tag.len().min(2 * TAG_CHARACTERS_MAX));
    store(&mut stored, &[tag]);
    stored
}

/// The value of the tag `key:value` as Datadog stores it; empty if nothing of it is left, and then no query finds it.
/// See [`stored_tag`]; `key` is one that Datadog does not change, as all of ours are.
pub fn stored_value(key: &str, value: &str) -> String {
    let mut stored = String::new();
    store(&mut stored, &[key, ":", value]);
    // A key is shorter than a tag, so its colon is always there.
    stored.split_off((key.len() + 1).min(stored.len()))
}

/// Joins `parts` into a tag and puts it into `stored` as Datadog stores it, in place of the old content.
pub fn store(stored: &mut String, parts: &[&str]) {
    stored.clear();
    let mut characters = 0;
    for character in parts.iter().flat_map(|part| part.chars()).map(stored_character) {
        if characters == TAG_CHARACTERS_MAX {
            break;
        }
        let is_left_out = if stored.is_empty() {
            !(character.is_alphabetic() || character == ':')
        } else {
            character == '_' && stored.ends_with('_')
        };
        if !is_left_out {
            stored.push(character);
            characters += 1;
        }
    }
    if stored.ends_with('_') {
        stored.pop();
    }
}

/// What Datadog makes of one character, whichever stands before it.
#[inline]
fn stored_character(character: char) -> char {
    match character {
        'a'..='z' | '0'..='9' | '_' | '-' | ':' | '.' | '/' => character,
        'A'..='Z' => character.to_ascii_lowercase(),
        '\0'..='\x7f' => '_',
        _ if character.is_uppercase() => {
            let small = character.to_lowercase().next();
            small.filter(|small| small.len_utf8() <= character.len_utf8()).unwrap_or(character)
        }
        _ if character.is_alphanumeric() => character,
        _ => '_',
    }
}

#[cfg(test)]
mod tests;
