//! Colour, only where somebody looks at it.

use std::fmt;

/// Whether to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    pub colour: bool,
}

impl Style {
    /// No colour: files, pipes, tests.
    pub const PLAIN: Self = Self { colour: false };

    pub(super) fn bold<T: fmt::Display>(self, text: T) -> String {
        self.paint("1", text)
    }

    pub(super) fn red<T: fmt::Display>(self, text: T) -> String {
        self.paint("31", text)
    }

    pub(super) fn yellow<T: fmt::Display>(self, text: T) -> String {
        self.paint("33", text)
    }

    pub(super) fn green<T: fmt::Display>(self, text: T) -> String {
        self.paint("32", text)
    }

    pub(super) fn dim<T: fmt::Display>(self, text: T) -> String {
        self.paint("2", text)
    }

    /// SGR parameters as in ECMA-48, 8.3.117.
    fn paint<T: fmt::Display>(self, code: &str, text: T) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_string()
        }
    }
}
