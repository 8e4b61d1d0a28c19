//! [`Report`]: everything that is wrong with a file, each with its place.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};

use drivers::Error;

/// What is wrong with a configuration file: never empty.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Report {
    file: PathBuf,
    mistakes: Vec<Mistake>,
}

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq)]
struct Mistake {
    /// Line and column, from 1; `None`: the file could not be read.
    place: Option<(usize, usize)>,
    text: String,
    hint: Option<String>,
}

impl Report {
    /// The file could not be read.
    pub(super) fn unreadable(file: &Path, cause: &dyn fmt::Display) -> Report {
        let text = format!("cannot read the configuration: {cause}");
        Report { file: file.to_owned(), mistakes: vec![Mistake { place: None, text, hint: None }] }
    }

    /// Whether the file could be read, so that its words are wrong and not the system.
    pub(crate) fn is_about_words(&self) -> bool {
        self.mistakes.iter().all(|mistake| mistake.place.is_some())
    }
}

/// One line for each mistake: `FILE:LINE:COLUMN: text; hint`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:", self.file.display())?;
            if let Some((line, column)) = mistake.place {
                write!(f, "{line}:{column}:")?;
            }
            write!(f, " {}", OneLine(&mistake.text))?;
            if let Some(hint) = &mistake.hint {
                write!(f, "; {}", OneLine(hint))?;
            }
        }
        Ok(())
    }
}

/// Text in which control characters are visible: values of the file may have any.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            c if c.is_control() => write!(f, "{}", c.escape_default()),
            c => write!(f, "{c}"),
        })
    }
}

/// Mistakes as they are found, by where they begin in the text.
#[derive(Debug, Default)]
pub(super) struct Mistakes(RefCell<Vec<Found>>);

/// Place, text and hint.
pub(super) type Found = (usize, String, Option<String>);

impl Mistakes {
    /// Notes a mistake that begins at this byte.
    pub(super) fn add(&self, at: usize, text: impl Into<String>) {
        self.0.borrow_mut().push((at, text.into(), None));
    }

    /// Notes one for which something can be done.
    pub(super) fn add_with_hint(&self, at: usize, text: impl Into<String>, hint: impl Into<String>) {
        self.0.borrow_mut().push((at, text.into(), Some(hint.into())));
    }

    /// Notes an error that is about the text from this byte on.
    pub(super) fn add_error(&self, at: usize, error: Error) {
        self.0.borrow_mut().push((at, error.message, error.hint));
    }

    /// All of them, in the order of the text.
    pub(super) fn into_list(self) -> Vec<Found> {
        let mut mistakes = self.0.into_inner();
        // Stable: what was found first at a place stays first.
        mistakes.sort_by_key(|(at, ..)| *at);
        mistakes
    }

    /// The report about `text`, the content of `file`; `None` if there is nothing to report.
    pub(super) fn into_report(self, file: &Path, text: &str) -> Option<Report> {
        let mistakes = self.into_list();
        let mut places = Places { text, at: 0, line: 1, column: 1 };
        let mistakes: Vec<Mistake> = mistakes
            .into_iter()
            .map(|(at, text, hint)| Mistake { place: Some(places.of(at)), text, hint })
            .collect();
        (!mistakes.is_empty()).then(|| Report { file: file.to_owned(), mistakes })
    }
}

/// Lines and columns of ascending bytes of a text. A column is a character, whatever its width.
struct Places<'a> {
    text: &'a str,
    /// The byte of `line` and `column`.
    at: usize,
    line: usize,
    column: usize,
}

impl Places<'_> {
    fn of(&mut self, at: usize) -> (usize, usize) {
        // A byte inside a character counts as the character.
        let at = (0..=at.min(self.text.len())).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0);
        for c in self.text.get(self.at..at).unwrap_or_default().chars() {
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.at = self.at.max(at);
        (self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, at: usize) -> (usize, usize) {
        Places { text, at: 0, line: 1, column: 1 }.of(at)
    }

    #[test]
    fn columns_count_characters_from_one() {
        assert_eq!(place("", 0), (1, 1));
        assert_eq!(place("abc", 2), (1, 3));
        assert_eq!(place("é = 1", 3), (1, 3));
        assert_eq!(place("a\r\nb", 3), (2, 1));
        assert_eq!(place("a\n", 2), (2, 1));
        assert_eq!(place("a\n", 99), (2, 1));
    }

    #[test]
    fn mistakes_are_sorted_by_place_and_one_per_line() {
        let mistakes = Mistakes::default();
        mistakes.add(3, "second");
        mistakes.add_with_hint(0, "first", "do this");
        mistakes.add(3, "thi\nrd");
        let report = mistakes.into_report(Path::new("f"), "ab\ncd").unwrap();
        assert_eq!(report.to_string(), "f:1:1: first; do this\nf:2:1: second\nf:2:1: thi\\nrd");
        assert!(report.is_about_words());
        assert!(Mistakes::default().into_report(Path::new("f"), "").is_none());
    }

    #[test]
    fn a_file_that_cannot_be_read_has_no_place() {
        let report = Report::unreadable(Path::new("f"), &"gone");
        assert_eq!(report.to_string(), "f: cannot read the configuration: gone");
        assert!(!report.is_about_words());
    }
}
