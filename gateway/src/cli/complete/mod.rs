//! What a shell offers when its user presses TAB: `gateway complete`, which only the scripts of shells call.
//!
//! The scripts know nothing; they ask this program, so that they cannot be wrong about it. It is answered before the
//! command line is parsed, since the words that are asked about are those of another one, and may have `--` in it.
//!
//! * `gateway complete words WORD…`: the words behind the program's name up to the cursor. The last one is the one
//!   that is being typed, and may be empty.
//! * `gateway complete line TEXT`: the same as a line, program included, as it was typed: with quotes and backslashes.
//!
//! The answer is a kind of answer (`candidates`, `files`, `folders`), the word that is being typed behind `word `, and
//! a line for each candidate: the whole word, a tabulator, and what it means.

mod candidates;
mod line;

use std::ffi::OsString;

use candidates::Answer;

/// The word that asks.
const NAME: &str = "complete";

/// The scripts, by shell: names of files as each shell looks for them, and their texts.
pub(super) const SCRIPTS: [(&str, &str); 3] = [
    ("gateway.bash", include_str!("gateway.bash")),
    ("_gateway", include_str!("gateway.zsh")),
    ("gateway.fish", include_str!("gateway.fish")),
];

/// What is to be printed, if the command line, with the program's name, asks for candidates.
pub(super) fn answer(arguments: &[OsString]) -> Option<String> {
    let text = |word: &OsString| word.to_string_lossy().into_owned();
    let [_, name, how, words @ ..] = arguments else { return None };
    if name != NAME {
        return None;
    }
    let words: Vec<String> = match (how.to_str(), words) {
        (Some("words"), words) => words.iter().map(text).collect(),
        (Some("line"), [line]) => line::words(&text(line)).into_iter().skip(1).collect(),
        _ => return None,
    };
    let (current, before) = words.split_last()?;
    Some(in_lines(current, &candidates::answer(before, current)))
}

fn in_lines(current: &str, answer: &Answer) -> String {
    let (kind, candidates) = match answer {
        Answer::Candidates(candidates) => ("candidates", &candidates[..]),
        Answer::Files => ("files", &[][..]),
        Answer::Folders => ("folders", &[][..]),
    };
    let mut text = format!("{kind}\nword {current}\n");
    for candidate in candidates {
        text.push_str(&format!("{}\t{}\n", candidate.text, candidate.help.replace(['\n', '\t'], " ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str]) -> Option<String> {
        answer(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn a_line_and_its_words_have_the_same_answer() {
        let text = asked(&["gateway", "complete", "words", "io_uring", "dir"]).unwrap();
        assert_eq!(text, "candidates\nword dir\ndirect=\tBypass the page cache (O_DIRECT)\n");
        assert_eq!(asked(&["gateway", "complete", "line", "gateway io_uring  'dir"]), Some(text));
    }

    #[test]
    fn files_are_left_to_the_shell() {
        let text = asked(&["gateway", "complete", "words", "io_uring", "path=/d"]).unwrap();
        assert_eq!(text, "files\nword path=/d\n");
    }

    #[test]
    fn other_lines_do_not_ask() {
        for line in [&["gateway"][..], &["gateway", "complete"], &["gateway", "memory", "complete", "words"]]
        {
            assert_eq!(asked(line), None, "{line:?}");
        }
        assert_eq!(asked(&["gateway", "complete", "words"]), None, "no word is being typed");
        assert_eq!(asked(&["gateway", "complete", "line", "gateway"]), None, "the program itself is");
    }
}
