//! [`Page`]: a page of the manual in the language of man(7).

use roff::{Inline, Roff, bold, roman};

/// What the pages are the manual of, in their last line.
const SOURCE: &str = concat!("gateway ", env!("CARGO_PKG_VERSION"));

/// A page.
#[derive(Debug)]
pub(super) struct Page {
    name: String,
    section: u8,
    roff: Roff,
    /// Whether a heading stands last: what follows it needs no request for a paragraph.
    at_heading: bool,
}

impl Page {
    /// A page that has its name and one line about it.
    pub(super) fn new(name: &str, section: u8, summary: &str) -> Page {
        let mut page = Page { name: name.to_owned(), section, roff: Roff::new(), at_heading: false };
        page.section("NAME");
        page.roff.text([roman(format!("{name} - {summary}"))]);
        page
    }

    /// The name of its file.
    pub(super) fn file_name(&self) -> String {
        format!("{}.{}", self.name, self.section)
    }

    /// Its text. `date` may be empty.
    pub(super) fn render(&self, date: &str) -> String {
        let section = self.section.to_string();
        let title = self.name.to_uppercase();
        let manual = if self.section == 5 { "File Formats" } else { "User Commands" };
        // An empty word needs quotes, or the next one would take its place.
        let date = if date.is_empty() { "\"\"" } else { date };
        let mut whole = Roff::new();
        whole.control("TH", [title.as_str(), &section, date, SOURCE, manual]);
        // Neither words such as names of pages nor paths are to be broken.
        whole.control("nh", []).control("ad", ["l"]);
        format!("{}{}", whole.render(), self.roff.to_roff().replace('\'', "\\*(Aq"))
    }

    pub(super) fn section(&mut self, title: &str) {
        self.roff.control("SH", [title]);
        self.at_heading = true;
    }

    pub(super) fn subsection(&mut self, title: &str) {
        self.roff.control("SS", [title]);
        self.at_heading = true;
    }

    pub(super) fn paragraph(&mut self, inlines: impl Into<Vec<Inline>>) {
        self.begin_paragraph();
        self.roff.text(inlines);
    }

    fn begin_paragraph(&mut self) {
        if !std::mem::take(&mut self.at_heading) {
            self.roff.control("PP", []);
        }
    }

    /// Text as in the program's help: paragraphs are parted by empty lines, lines mean nothing.
    pub(super) fn paragraphs(&mut self, text: &str) {
        for paragraph in text.split("\n\n") {
            self.paragraph([roman(one_line(paragraph))]);
        }
    }

    /// A word that is explained, and the first line about it.
    pub(super) fn term(&mut self, term: impl Into<Vec<Inline>>, text: &str) {
        self.at_heading = false;
        self.roff.control("TP", []).text(term).text([roman(one_line(text))]);
    }

    /// More about the last term, on a line of its own.
    pub(super) fn line(&mut self, text: &str) {
        self.roff.control("br", []).text([roman(text)]);
    }

    /// Lines that stay as they are.
    pub(super) fn verbatim<S: AsRef<str>>(&mut self, lines: impl IntoIterator<Item = S>) {
        self.begin_paragraph();
        self.roff.control("nf", []);
        for line in lines {
            self.roff.text([roman(line.as_ref())]);
        }
        self.roff.control("fi", []);
    }

    /// Command lines, with what is said of each.
    pub(super) fn commands<'a>(&mut self, commands: impl IntoIterator<Item = (&'a str, &'a str)>) {
        for (line, about) in commands {
            if about.is_empty() {
                self.paragraph([bold(line)]);
            } else {
                self.term([bold(line)], about);
            }
        }
    }

    /// Other pages, by name and section.
    pub(super) fn see_also(&mut self, pages: &[(String, u8)]) {
        self.section("SEE ALSO");
        let mut inlines = Vec::new();
        for (index, (name, section)) in pages.iter().enumerate() {
            let comma = if index + 1 == pages.len() { "" } else { ", " };
            inlines.extend([bold(name), roman(format!("({section}){comma}"))]);
        }
        self.roff.text(inlines);
    }
}

/// The text without its line breaks.
pub(super) fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_be_taken_for_requests() {
        let mut page = Page::new("a-b", 1, "it's");
        page.paragraph([roman(".SH \\x")]);
        page.verbatim(["'a"]);
        let text = page.render("");
        assert!(text.contains("\n.TH A-B 1 \"\" \"gateway "), "{text}");
        assert!(text.contains("\na\\-b \\- it\\*(Aqs\n"), "{text}");
        assert!(text.contains("\n\\&.SH \\\\x\n") && text.contains("\n\\&\\*(Aqa\n"), "{text}");
    }
}
