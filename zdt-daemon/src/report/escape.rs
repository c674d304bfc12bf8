//! Makes text from outside safe for a terminal and for one line.

use std::{borrow::Cow, fmt::Write as _};

use serde::Serialize;

/// Control characters, line breaks, and what is not seen but changes what is: the marks that turn the direction of text and those
/// without a width (Unicode's Bidi_Control and Default_Ignorable_Code_Point, as far as they are of no use in a name), as
/// `\u{…}`. A process may name itself anything (`comm` is 15 free bytes), and terminals obey escape sequences.
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

/// A value as JSON on one line, with the same characters as `\uXXXX`. JSON itself lets all of them through but those below
/// U+0020: DEL, and the C1 controls, of which one begins escape sequences in some terminals (ECMA-48, 8.3.16).
pub fn json<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<String> {
    let json = serde_json::to_string(value)?;
    // Nearly all is ASCII that can be printed, and that a few instructions see of many bytes at once: no end at the first other one.
    let other = |seen, byte: u8| seen | !matches!(byte, b' '..=b'~');
    // Only strings have them, and there an escape means the same.
    if !json.bytes().fold(false, other) || !json.chars().any(is_unsafe) {
        return Ok(json);
    }
    let mut safe = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_unsafe(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(c);
        }
    }
    Ok(safe)
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::{escape, json};

    #[test]
    fn json_says_the_same_without_what_a_terminal_obeys() {
        let hostile = "\u{1b}[31m\u{9b}31m\u{7f}\u{202e}\u{e0041}\"<ü";
        let line = json(hostile).unwrap();
        assert_eq!(
            line,
            "\"\\u001b[31m\\u009b31m\\u007f\\u202e\\udb40\\udc41\\\"<ü\""
        );
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), hostile);
    }

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
