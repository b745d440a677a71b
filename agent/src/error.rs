//! What goes into a line that tells of an error, so that it stays one line.

use std::{
    fmt::{self, Display, Write as _},
    io,
    path::Path,
};

/// Why the system refused something: in lower case, without a number.
pub struct Reason<'a>(pub &'a io::Error);

impl Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let mut letters = text.split(" (os error").next().unwrap_or_default().chars();
        letters.next().into_iter().flat_map(char::to_lowercase).try_for_each(|letter| f.write_char(letter))?;
        f.write_str(letters.as_str())
    }
}

/// A path that anyone may have chosen: control characters in it are escaped.
pub struct Name<'a>(pub &'a Path);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.to_string_lossy().chars().try_for_each(|letter| {
            if letter.is_control() { write!(f, "{}", letter.escape_default()) } else { f.write_char(letter) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_are_in_lower_case_and_have_no_number() {
        assert_eq!(Reason(&io::Error::from_raw_os_error(2)).to_string(), "no such file or directory");
        assert_eq!(Reason(&io::Error::other("Ünknown")).to_string(), "ünknown");
        assert_eq!(Reason(&io::Error::other("")).to_string(), "");
    }

    #[test]
    fn names_stay_on_their_line() {
        assert_eq!(Name(Path::new("a\nb \u{1b}[2J ü")).to_string(), "a\\nb \\u{1b}[2J ü");
    }
}
