//! Unsafe code stays in modules that say why they need it.
//!
//! The lint `unsafe_code` is denied in the workspace. A module lifts it for itself, at its top, with
//! `expect` and a reason: `expect` goes stale visibly when the last unsafe block is gone, `allow` does not.

use super::Finding;
use super::code::{code, has_word};
use crate::repo::File;

/// How a module lifts the lint, without blanks: rustfmt may put it on several lines.
const LIFTED: &str = "#![expect(unsafe_code,reason=";

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.has_extension("rs")) {
        let text = code(&file.text);
        let dense: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let lifts = ["expect(unsafe_code", "allow(unsafe_code"].map(|lift| dense.matches(lift).count());
        let lifts_well = dense.matches(LIFTED).count();
        if lifts.iter().sum::<usize>() > lifts_well {
            let message = "lift `unsafe_code` for a whole module, with `#![expect(unsafe_code, reason = …)]`";
            findings.push(Finding::whole(file, message));
        }
        for (index, line) in text.lines().enumerate() {
            if lifts_well == 0 && has_word(line, "unsafe") {
                let message = "`unsafe` in a module without `#![expect(unsafe_code, reason = …)]`";
                findings.push(Finding::at(file, index, message));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> usize {
        check(&[File::new("a.rs", text)]).len()
    }

    #[test]
    fn unsafe_code_needs_a_module_that_expects_it() {
        assert_eq!(findings("fn f() { unsafe { g() } }"), 1);
        assert_eq!(findings("#![expect(unsafe_code, reason = \"calls\")]\nfn f() { unsafe { g() } }"), 0);
        assert_eq!(findings("// unsafe is not needed here\nfn f() { g(\"unsafe\") }"), 0);
    }

    #[test]
    fn the_lint_is_not_lifted_for_less_than_a_module_nor_allowed() {
        assert_eq!(findings("#[expect(unsafe_code, reason = \"calls\")]\nfn f() {}"), 1);
        assert_eq!(findings("#![allow(unsafe_code, reason = \"calls\")]"), 1);
        assert_eq!(findings("#![expect(unsafe_code)]"), 1);
        assert_eq!(findings("#![expect(\n    unsafe_code,\n    reason = \"calls\"\n)]\nunsafe fn f() {}"), 0);
        assert_eq!(findings("#![forbid(unsafe_code)]"), 0);
    }
}
