//! Makes text from outside safe for a terminal and for one line.

use std::borrow::Cow;

/// Control characters, line breaks and the marks that reorder text (U+202A to U+202E, U+2066 to U+2069) as `\u{…}`.
/// A process may name itself anything (`comm` is 15 free bytes), and terminals obey escape sequences.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_unsafe(c) {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn terminal_sequences_and_line_breaks_do_not_get_through() {
        assert_eq!(
            escape("a\u{1b}[31mb\nc\u{9b}d\u{202e}"),
            "a\\u{1b}[31mb\\u{a}c\\u{9b}d\\u{202e}"
        );
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        assert!(matches!(escape("Grüße → web-1"), std::borrow::Cow::Borrowed(_)));
    }
}
