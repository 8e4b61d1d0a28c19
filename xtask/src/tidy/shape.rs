//! Files that can be read in one sitting and lines that can be read without scrolling.

use super::Finding;
use crate::repo::File;

/// Lines of the longest file.
const FILE_LINES_MAX: usize = 650;
/// Characters of the longest line. rustfmt keeps code within 110; comments and strings may hang over a little.
const LINE_CHARS_MAX: usize = 120;

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.has_extension("rs") || file.has_extension("sh")) {
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX {
            let message = format!("{lines} lines are more than {FILE_LINES_MAX}: split it by subject");
            findings.push(Finding::whole(file, message));
        }
        for (index, line) in file.text.lines().enumerate() {
            let chars = line.chars().count();
            if chars > LINE_CHARS_MAX {
                let message = format!("{chars} characters are more than {LINE_CHARS_MAX}");
                findings.push(Finding::at(file, index, message));
            }
            if line.ends_with([' ', '\t', '\r']) {
                findings.push(Finding::at(file, index, "blank at the end of the line"));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(&[File::new(path, text)]).len()
    }

    #[test]
    fn a_file_may_have_650_lines() {
        assert_eq!(findings("a.rs", &"x\n".repeat(650)), 0);
        assert_eq!(findings("a.rs", &"x\n".repeat(651)), 1);
        assert_eq!(findings("data.txt", &"x\n".repeat(651)), 0);
    }

    #[test]
    fn a_line_may_have_120_characters() {
        assert_eq!(findings("a.rs", &"ü".repeat(120)), 0);
        assert_eq!(findings("a.rs", &"ü".repeat(121)), 1);
    }

    #[test]
    fn no_line_ends_with_a_blank() {
        assert_eq!(findings("a.sh", "a \nb\t\nc\n"), 2);
    }
}
