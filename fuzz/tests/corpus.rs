//! Replays each corpus through the body of its target.

use std::path::Path;

#[test]
fn every_input_of_every_corpus_passes() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (target, body) in fuzz::TARGETS {
        let mut inputs = 0;
        for entry in std::fs::read_dir(corpora.join(target)).expect("each target has a corpus") {
            let path = entry.expect("a folder entry").path();
            eprintln!("{}", path.display());
            body(&std::fs::read(&path).expect("a corpus file"));
            inputs += 1;
        }
        assert!(inputs > 0, "the corpus of {target} is empty");
    }
}

#[test]
fn every_target_has_its_program() {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    for (target, _) in fuzz::TARGETS {
        assert!(programs.join(format!("{target}.rs")).exists(), "{target}");
    }
    let count = std::fs::read_dir(&programs).expect("programs").count();
    assert_eq!(count, fuzz::TARGETS.len(), "a program is not replayed by tests");
}

#[test]
fn seeds_are_in_their_corpora() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (target, name, bytes) in fuzz::seeds() {
        let path = corpora.join(target).join(&name);
        let found = std::fs::read(&path).ok();
        assert_eq!(found, Some(bytes), "{}: run `cargo run --example seeds` here", path.display());
    }
}
