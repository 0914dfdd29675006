//! Queries of a search, and how they are compared with tags.

/// Words of a query that are used; further ones are ignored.
const WORDS_MAX: usize = 16;

/// Appends `text` as it is compared: in lower case, with `_` for white space, as Datadog writes it. Line feeds, which
/// separate tags, stay.
pub(super) fn normalize(normal: &mut String, text: &str) {
    if text.is_ascii() {
        let start = normal.len();
        for (number, piece) in text.split([' ', '\t', '\r', '\u{c}']).enumerate() {
            if number > 0 {
                normal.push('_');
            }
            normal.push_str(piece);
        }
        normal[start..].make_ascii_lowercase();
    } else {
        let one = |c: char| if c.is_whitespace() && c != '\n' { '_' } else { c };
        normal.extend(text.chars().flat_map(char::to_lowercase).map(one));
    }
}

/// A query, ready to be compared.
#[derive(Debug)]
pub struct Query {
    whole: String,
    words: Vec<String>,
}

impl Query {
    /// `None`: the query is empty.
    pub fn new(text: &str) -> Option<Self> {
        let normal = |text: &str| {
            let mut normal = String::new();
            normalize(&mut normal, text);
            normal
        };
        let words: Vec<String> = text.split_whitespace().take(WORDS_MAX).map(normal).collect();
        let whole = normal(text.trim());
        (!words.is_empty()).then_some(Self { whole, words })
    }

    /// The rank of tags as they were sent.
    pub fn rank_of(&self, tags: &str) -> u8 {
        let mut normal = String::new();
        normalize(&mut normal, tags);
        self.rank(&normal)
    }

    /// How well normalized tags, parted by line feeds, match: 2 when a tag's value equals the query, 1 when every word
    /// occurs somewhere, 0 when not.
    pub(super) fn rank(&self, normal: &str) -> u8 {
        if !self.words.iter().all(|word| normal.contains(word.as_str())) {
            return 0;
        }
        let is_value = |tag: &str| {
            tag == self.whole || tag.split_once(':').is_some_and(|(_, value)| value == self.whole)
        };
        if normal.split('\n').any(is_value) { 2 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(query: &str, tags: &[&str]) -> u8 {
        let mut normal = String::new();
        normalize(&mut normal, &tags.join("\n"));
        Query::new(query).unwrap().rank(&normal)
    }

    #[test]
    fn names_are_found_in_any_case_by_any_words_and_as_datadog_writes_them() {
        let tags = ["campaign_id:8a3f", "campaign_name:Weekly Newsletter", "channel:email"];
        for (query, found) in [
            ("weekly", 1),
            ("NEWSLETTER email", 1),
            ("weekly newsletter", 2),
            (" Weekly_Newsletter ", 2),
            ("8A3F", 2),
            ("campaign_id:8a3f", 2),
            ("8a3", 1),
            ("monthly", 0),
            ("weekly sms", 0),
        ] {
            assert_eq!(rank(query, &tags), found, "{query}");
        }
        assert_eq!(rank("ÉTÉ", &["campaign_name:Soldes d'été"]), 1);
        assert_eq!(rank("カート", &["campaign_name:カート"]), 2);
    }

    #[test]
    fn a_query_without_words_asks_nothing() {
        assert!(Query::new(" \t ").is_none());
    }
}
