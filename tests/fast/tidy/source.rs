//! Reads Rust sources as far as the house rules need: comments and strings away, test code away, paths
//! resolved. It knows the language as this house writes it, not all of it.

use std::ops::Range;

/// One source file.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// From `src/`: `queue/embedded.rs`.
    pub(crate) path: String,
    /// As it is written.
    pub(crate) text: String,
    /// The same lines without comments, the contents of strings, and test code.
    pub(crate) code: String,
    /// How many of its lines are not test code.
    pub(crate) code_lines: usize,
    /// How many lines of it, and how many of its tests, are neither blank nor comments.
    lines_of_code: (usize, usize),
}

impl Source {
    /// Reads a file's text.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let stripped = without_comments(text);
        let (code, test_lines) = without_tests(&stripped);
        let code_lines = text.lines().count() - test_lines;
        let count = |text: &str| text.lines().filter(|line| !line.trim().is_empty()).count();
        let own = count(&code);
        let lines_of_code = (own, count(&stripped) - own);
        Self { path: path.to_owned(), text: text.to_owned(), code, code_lines, lines_of_code }
    }

    /// How many lines of it, and how many of its tests, are neither blank nor comments.
    pub(crate) fn lines_of_code(&self) -> (usize, usize) {
        self.lines_of_code
    }

    /// Its module: `["queue", "embedded"]`; nothing for `lib.rs`, `["main"]` for `main.rs`.
    pub(crate) fn module(&self) -> Vec<&str> {
        let path = self.path.trim_end_matches(".rs");
        if path == "lib" {
            return Vec::new();
        }
        path.strip_suffix("/lib").unwrap_or(path).split('/').collect()
    }

    /// The first segment of its module; `lib` for `lib.rs`.
    pub(crate) fn part(&self) -> &str {
        self.module().first().copied().unwrap_or("lib")
    }

    /// The modules that it declares behind `#[cfg(test)]`, whose files are test code.
    pub(crate) fn test_modules(&self) -> Vec<String> {
        let stripped = without_comments(&self.text);
        let mut found = Vec::new();
        for (at, _) in stripped.match_indices(TEST_ATTRIBUTE) {
            let item = &stripped[test_item(&stripped, at)];
            let mut words = words(item).into_iter().skip_while(|word| *word != "mod").skip(1);
            if let (true, Some(name)) = (item.ends_with(';'), words.next()) {
                found.push(self.module().into_iter().chain([name]).collect::<Vec<_>>().join("/"));
            }
        }
        found
    }

    /// Every path that the code names, from the crate (`event_lanes::stats::Stats`) or from another one
    /// (`std::fs::read`), with `use` trees taken apart.
    pub(crate) fn paths(&self) -> Vec<String> {
        let tokens = tokens(&self.code);
        let mut paths = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            if tokens[at] == "use" && tokens.get(at + 1).is_some_and(|next| is_word(next) || *next == "::") {
                at += 1;
                use_tree(&tokens, &mut at, &[], &mut paths);
            } else if is_word(tokens[at]) && tokens.get(at + 1) == Some(&"::") {
                let mut path = vec![tokens[at]];
                while tokens.get(at + 1) == Some(&"::")
                    && tokens.get(at + 2).is_some_and(|next| is_word(next))
                {
                    path.push(tokens[at + 2]);
                    at += 2;
                }
                paths.push(path);
            }
            at += 1;
        }
        paths.iter().filter(|path| !path.is_empty()).map(|path| self.resolve(path)).collect()
    }

    fn resolve(&self, path: &[&str]) -> String {
        let mut module = self.module();
        let mut rest = path;
        let mut ours = false;
        while let Some((first, after)) = rest.split_first() {
            match *first {
                "crate" | "braze_datadog" => module.clear(),
                "self" => {}
                "super" => drop(module.pop()),
                _ => break,
            }
            ours = true;
            rest = after;
        }
        if ours {
            ["crate"].into_iter().chain(module).chain(rest.iter().copied()).collect::<Vec<_>>().join("::")
        } else {
            path.join("::")
        }
    }

    /// Every function: its name, its first line (from 1), and how many lines it has.
    pub(crate) fn functions(&self) -> Vec<(String, usize, usize)> {
        let mut found = Vec::new();
        for (at, name) in after_word(&self.code, "fn") {
            let Some(body) = body_of(&self.code, at) else { continue };
            let first = line_of(&self.code, at);
            found.push((name.to_owned(), first, line_of(&self.code, body.end) - first + 1));
        }
        found
    }

    /// The names of the traits that it defines.
    pub(crate) fn traits(&self) -> Vec<String> {
        after_word(&self.code, "trait").into_iter().map(|(_, name)| name.to_owned()).collect()
    }
}

const TEST_ATTRIBUTE: &str = "#[cfg(test)]";

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

fn words(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect()
}

/// Words, `::`, and every other character by itself.
fn tokens(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if is_word(rest) {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        found.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    found
}

/// Takes a `use` tree apart; `at` ends on the token that closes it.
fn use_tree<'t>(tokens: &[&'t str], at: &mut usize, prefix: &[&'t str], paths: &mut Vec<Vec<&'t str>>) {
    let mut path = prefix.to_vec();
    while let Some(token) = tokens.get(*at) {
        match *token {
            "," | "}" | ";" => break,
            "::" => {}
            "as" => *at += 1,
            "self" if !prefix.is_empty() => {}
            "{" => {
                while tokens.get(*at).is_some_and(|token| *token != "}") {
                    *at += 1;
                    use_tree(tokens, at, &path, paths);
                }
                *at += 1;
                return;
            }
            word => path.push(word),
        }
        *at += 1;
    }
    if path.len() > prefix.len() || tokens.get(at.wrapping_sub(1)) == Some(&"self") {
        paths.push(path);
    }
}

/// Where `word` stands as a word of its own with a name behind it: the place of `word`, and that name.
fn after_word<'c>(code: &'c str, word: &str) -> Vec<(usize, &'c str)> {
    let ends_word = |c: char| !c.is_alphanumeric() && c != '_';
    let found = code.match_indices(word).filter_map(|(at, _)| {
        let rest = &code[at + word.len()..];
        let name = rest.trim_start();
        let alone = code[..at].chars().next_back().is_none_or(ends_word) && name.len() < rest.len();
        let name = &name[..name.find(ends_word).unwrap_or(name.len())];
        (alone && is_word(name)).then_some((at, name))
    });
    found.collect()
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The braces of the item that starts at `from`; `None` if it ends with a semicolon before them.
fn body_of(code: &str, from: usize) -> Option<Range<usize>> {
    let mut depth = 0_i32;
    for (at, character) in code[from..].char_indices().map(|(at, character)| (from + at, character)) {
        match character {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ';' if depth == 0 => return None,
            '{' if depth == 0 => return Some(at..closing_brace(code, at)),
            _ => {}
        }
    }
    None
}

fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0_i32;
    for (at, character) in code[open..].char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + at;
        }
    }
    code.len()
}

/// From a `#[cfg(test)]` at `from` to the end of the item, field or statement that it stands on.
fn test_item(code: &str, from: usize) -> Range<usize> {
    let mut start = from;
    while code[start..].trim_start().starts_with("#[") {
        let open = start + code[start..].find('[').unwrap_or_default();
        start = closing(code, open) + 1;
    }
    let item = words(&code[start..])
        .into_iter()
        .find(|word| !matches!(*word, "pub" | "crate" | "super" | "in" | "self"));
    let braced = ["mod", "fn", "impl", "struct", "enum", "trait", "async", "const", "unsafe", "extern"];
    if item.is_some_and(|item| braced.contains(&item))
        && let Some(body) = body_of(code, start)
    {
        return from..body.end + 1;
    }
    let is_item = item
        .is_some_and(|item| item == "use" || item == "type" || item == "static" || braced.contains(&item));
    let mut depth = 0_i32;
    for (at, character) in code[start..].char_indices() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return from..start + at,
            ')' | ']' | '}' => depth -= 1,
            ';' if depth == 0 => return from..start + at + 1,
            ',' if depth == 0 && !is_item => return from..start + at + 1,
            _ => {}
        }
    }
    from..code.len()
}

fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0_i32;
    for (at, character) in code[open..].char_indices() {
        match character {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + at;
        }
    }
    code.len() - 1
}

/// Blanks what stands behind `#[cfg(test)]`; says how many lines that is.
fn without_tests(code: &str) -> (String, usize) {
    let mut left = code.to_owned();
    let mut lines = 0;
    while let Some(at) = left.find(TEST_ATTRIBUTE) {
        let item = test_item(&left, at);
        lines += left[item.clone()].matches('\n').count() + 1;
        let blank = blank(&left[item.clone()]);
        left.replace_range(item, &blank);
    }
    (left, lines)
}

/// As many bytes, all of them spaces but for the line ends.
fn blank(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

/// Blanks comments and the contents of string and character literals.
fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let (kept, length) = match first {
            '/' if rest.starts_with("//") => (0, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => (0, block_comment(rest)),
            '"' => (1, string(rest)),
            'r' | 'b' | 'c' if !after_word && raw_string(rest).is_some() => {
                (0, raw_string(rest).unwrap_or_default())
            }
            '\'' => (0, character(rest)),
            _ => (first.len_utf8(), first.len_utf8()),
        };
        code.push_str(&rest[..kept]);
        code.push_str(&blank(&rest[kept..length]));
        rest = &rest[length..];
    }
    code
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        let from = &rest[at..];
        match (from.find("/*"), from.find("*/")) {
            (Some(open), Some(close)) if open < close => (depth, at) = (depth + 1, at + open + 2),
            (_, Some(close)) => (depth, at) = (depth - 1, at + close + 2),
            (_, None) => return rest.len(),
        }
        if depth == 0 {
            return at;
        }
    }
}

fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn raw_string(rest: &str) -> Option<usize> {
    let after_prefix =
        rest.strip_prefix("br").or_else(|| rest.strip_prefix("cr")).or_else(|| rest.strip_prefix('r'))?;
    let hashes = after_prefix.len() - after_prefix.trim_start_matches('#').len();
    let content = after_prefix[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = content.find(&end).map_or(content.len(), |at| at + end.len());
    Some(rest.len() - content.len() + length)
}

/// A character literal, or the quote of a lifetime.
fn character(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), Some((escaped, _))) => {
            rest[escaped + 1..].find('\'').map_or(rest.len(), |at| escaped + 1 + at + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}
