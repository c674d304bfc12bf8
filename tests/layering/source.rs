//! Reads the workspace's Rust files and finds names in them, without comments, strings and unit tests.

use std::path::{Path, PathBuf};

/// One file.
#[derive(Debug)]
pub struct Source {
    /// From the repository's root.
    pub path: String,
    /// As it is.
    pub text: String,
    /// The same lines, with comments, strings and what follows `#[cfg(test)]` blanked out.
    pub code: String,
}

impl Source {
    pub fn new(path: String, text: String) -> Self {
        let tested = path.ends_with("/tests.rs") || path.ends_with("_tests.rs");
        let code = if tested {
            String::new()
        } else {
            flatten_imports(&blank_tests(&blank(&text)))
        };
        Self { path, text, code }
    }
}

/// Every Rust file of the repository's crates.
pub fn workspace() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for dir in ["zdt-common", "zdt-daemon", "zdt-ebpf", "xtask", "tests"] {
        collect(&root.join(dir), &mut files);
    }
    files.sort();
    let read = files.into_iter().map(|file| {
        let path = file.strip_prefix(root).unwrap().display().to_string();
        Source::new(path, std::fs::read_to_string(&file).unwrap())
    });
    let sources: Vec<Source> = read.collect();
    assert!(
        sources.len() > 30,
        "only {} files under {}",
        sources.len(),
        root.display()
    );
    sources
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        if path.is_symlink() {
            // zdt-ebpf/zdt-common, which is looked at by itself.
        } else if path.is_dir() {
            if path.file_name().is_none_or(|n| n != "target") {
                collect(&path, files);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// Lines of the code that name one of `wanted` (a word, or a path of words), at most one finding per line and name.
pub fn names(source: &Source, wanted: &[&str]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (n, line) in source.code.lines().enumerate() {
        for name in wanted {
            if has_path(line, name) {
                found.push((n + 1, format!("names `{name}`")));
            }
        }
    }
    found
}

/// `name` stands in `line` with no letter, digit or underscore at either end. A crate's name (one word, small letters)
/// counts only at the start of a path or as an import, so that a field or a variable may be called so.
fn has_path(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let whole = !before.ends_with(word) && !after.starts_with(word);
        let lower = !name.contains("::")
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit());
        let used = after.starts_with("::")
            || after.starts_with('!')
            || after.starts_with('(')
            || before.trim_end().ends_with("use");
        whole && (!lower || (used && !before.ends_with("::")))
    })
}

/// Names of functions, types, modules and constants that a file declares, with their lines.
pub fn declared(source: &Source) -> Vec<(usize, String)> {
    let keywords = [
        "fn", "struct", "enum", "trait", "mod", "type", "const", "static", "union",
    ];
    let mut found = Vec::new();
    for (n, line) in source.code.lines().enumerate() {
        let tokens: Vec<&str> = line
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .filter(|t| !t.is_empty())
            .collect();
        for pair in tokens.windows(2) {
            if keywords.contains(&pair[0]) && !keywords.contains(&pair[1]) {
                found.push((n + 1, pair[1].to_owned()));
            }
        }
    }
    found
}

/// Names of fields and variables whose type is one of `types`: `by: HashMap<…>`, `let by = HashMap::new()`.
pub fn declared_as(source: &Source, types: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for line in source.code.lines() {
        for kind in types {
            let Some((before, _)) = line.split_once(kind) else {
                continue;
            };
            let name = before.trim_end_matches(|c: char| !(c.is_alphanumeric() || c == '_'));
            let name = name.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next();
            found.extend(
                name.filter(|n| !n.is_empty() && !["collections", "std"].contains(n))
                    .map(str::to_owned),
            );
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Lines of the code that hold `text`.
pub fn lines_with(source: &Source, text: &str) -> Vec<(usize, String)> {
    let lines = source.code.lines().enumerate();
    lines
        .filter(|(_, l)| l.contains(text))
        .map(|(n, l)| (n + 1, l.trim().to_owned()))
        .collect()
}

/// `FlowTable` and `flow_table` are `flow`, `table`.
pub fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut last_lower = false;
    for c in name.chars() {
        if c == '_' || (c.is_uppercase() && last_lower) {
            words.push(String::new());
        }
        last_lower = c.is_lowercase() || c.is_ascii_digit();
        if c != '_' {
            words.last_mut().unwrap().extend(c.to_lowercase());
        }
    }
    words.retain(|w| !w.is_empty());
    words
}

/// Number of the line at a byte.
pub fn line_at(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Blanks comments and the insides of strings; keeps lines.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |n| n + 2)
        } else if let Some(hashes) = raw_string(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = hashes + 2;
            rest[body..]
                .find(&end)
                .map_or(rest.len(), |n| body + n + end.len())
        } else if c == '"' {
            string(rest)
        } else if let Some(len) = character(rest) {
            len
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        out.push(if rest.starts_with('/') { ' ' } else { '_' });
        out.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
        rest = &rest[skipped..];
    }
    out
}

/// Hashes of a raw string that starts here.
fn raw_string(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('r')?;
    let hashes = after.chars().take_while(|c| *c == '#').count();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// Length of the string that starts here.
fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// Length of the character literal that starts here (a lifetime is none).
fn character(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    let len = if inner.starts_with('\\') {
        inner.char_indices().skip(2).find(|(_, c)| *c == '\'')?.0
    } else {
        inner.chars().next()?.len_utf8()
    };
    inner[len..].starts_with('\'').then_some(len + 2)
}

/// Blanks from `#[cfg(test)]` on: unit tests stand at the end of a file.
fn blank_tests(code: &str) -> String {
    code.split("#[cfg(test)]").next().unwrap_or_default().to_owned()
}

/// Writes each import in one level: `use crate::{input::Input, kernel::Ring};` also as `crate::kernel::Ring`, on the line
/// where the name stands.
fn flatten_imports(code: &str) -> String {
    let mut lines: Vec<String> = code.lines().map(str::to_owned).collect();
    for (start, _) in code.match_indices("use ") {
        let boundary = start == 0 || code[..start].ends_with([' ', '\n', '(']);
        let Some(end) = code[start..].find(';').filter(|_| boundary) else {
            continue;
        };
        expand(code, start + 4, start + end, &mut lines);
    }
    lines.join("\n")
}

/// Appends full paths of one `use` to their lines.
fn expand(code: &str, from: usize, to: usize, lines: &mut [String]) {
    let mut prefixes: Vec<String> = vec![String::new()];
    let mut path = String::new();
    for (at, c) in code[from..to].char_indices().chain([(to - from, ',')]) {
        match c {
            '{' => {
                prefixes.push(path.clone());
            }
            ',' | '}' => {
                if path.contains("::")
                    && prefixes.len() > 1
                    && let Some(line) = lines.get_mut(line_at(code, from + at.min(to - from - 1)) - 1)
                {
                    line.push_str(" use ");
                    line.push_str(&path);
                    line.push(';');
                }
                if c == '}' {
                    prefixes.pop();
                    path.clear();
                } else {
                    path = prefixes.last().cloned().unwrap_or_default();
                }
            }
            c if c.is_whitespace() => {}
            c => path.push(c),
        }
    }
}
