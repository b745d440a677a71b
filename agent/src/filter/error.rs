//! Why an expression is refused, and which word of it is to blame.

use std::{error, fmt, ops::Range};

/// An expression that is refused. Displayed in three lines: the reason, the expression, a caret under the word.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Error {
    expression: String,
    at: Range<usize>,
    reason: String,
}

impl Error {
    /// `at` is a place in `expression`, in octets.
    pub(super) fn new(expression: &str, at: Range<usize>, reason: String) -> Self {
        Self { expression: expression.to_owned(), at, reason }
    }

    /// The word that is to blame; empty at the end of the expression.
    pub fn word(&self) -> &str {
        self.expression.get(self.at.clone()).unwrap_or_default()
    }

    /// Where it begins, in octets.
    pub fn offset(&self) -> usize {
        self.at.start
    }

    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Line ends and other controls would tear the lines apart.
        let line: String = self.expression.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let before = self.expression.get(..self.at.start).unwrap_or_default().chars().count();
        let below = "~".repeat(self.word().chars().count().saturating_sub(1));
        write!(f, "filter expression: {}\n  {line}\n  {:before$}^{below}", self.reason, "")
    }
}

impl error::Error for Error {}
