//! What differs from run to run: the programs under test, the scenarios, and the order in which they run.
//!
//! | path in the guest | is |
//! |---|---|
//! | `/init` | the first program |
//! | `/guest/NAME.sh` | scenarios, and what they share |
//! | `/guest/waves` | a line for each wave of scenarios, with words `NAME:SECONDS` |
//! | `/usr/bin/gateway` | starts the program under test; others of this machine likewise |
//! | `/host/` | these programs themselves, with the libraries of this machine; the package of the gateway |
//!
//! Such a program was linked against the libraries of this machine, which may be older or newer than those of the
//! guest's other programs. It therefore brings its own along and is started by its own loader.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::base::Base;
use super::cpio::Archive;
use super::scenario::{LIBRARIES, Scenario};
use super::{programs, tools};
use crate::sh;

/// The loader of programs for x86-64 (System V ABI, AMD64 supplement, "Program Interpreter", as Linux has it).
const LOADER: &str = "ld-linux-x86-64.so.2";

/// What a run adds to the base.
pub(super) struct Job<'a> {
    /// Scenarios in the order in which they run.
    pub(super) waves: &'a [Vec<Scenario>],
    /// Folder with the files that scenarios share.
    pub(super) sources: &'a Path,
    /// Programs of this machine, beside those of this repository.
    pub(super) programs: &'a [PathBuf],
}

impl Job<'_> {
    /// Writes the guest's first file system: the base, and behind it what belongs to this run.
    ///
    /// # Errors
    /// A program cannot be built, a file is missing, or the file system says no.
    pub(super) fn write(&self, base: &Base, archive: &Path) -> Result<()> {
        let measures = self.waves.iter().flatten().any(|scenario| scenario.measures);
        let gateway = programs::gateway(measures)?;
        let mut all = vec![gateway.clone()];
        let mut on_demand: BTreeSet<&str> =
            self.waves.iter().flatten().flat_map(|scenario| &scenario.programs).map(String::as_str).collect();
        let packs = on_demand.remove(programs::PACKAGE);
        for name in on_demand {
            all.push(programs::on_demand(name)?);
        }
        all.extend_from_slice(self.programs);
        fs::copy(&base.archive, archive).with_context(|| format!("cannot write {}", archive.display()))?;
        let file = File::options()
            .append(true)
            .open(archive)
            .with_context(|| format!("cannot write {}", archive.display()))?;
        let mut out = Archive::new(BufWriter::new(file));
        let stripped = archive.with_extension("stripped");
        for program in &all {
            write_program(&mut out, program, &stripped)?;
        }
        if packs {
            let deb = programs::package(&gateway, &archive.with_extension("dist"))?;
            let contents = fs::read(&deb).with_context(|| format!("cannot read {}", deb.display()))?;
            out.file(&format!("host/{}", programs::PACKAGE), &contents)
                .context("cannot write the archive")?;
        }
        for library in LIBRARIES {
            let path = self.sources.join(library).with_extension("sh");
            let contents = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            out.file(&format!("guest/{library}.sh"), &contents).context("cannot write the archive")?;
        }
        write_scenarios(&mut out, self.waves).context("cannot write the archive")?;
        out.finish().context("cannot write the archive")?;
        Ok(())
    }
}

fn write_scenarios(out: &mut Archive<impl Write>, waves: &[Vec<Scenario>]) -> std::io::Result<()> {
    out.program("init", include_bytes!("init.sh"))?;
    for scenario in waves.iter().flatten() {
        out.file(&format!("guest/{}.sh", scenario.name), scenario.text.as_bytes())?;
    }
    out.file("guest/waves", list(waves).as_bytes())
}

/// The text of `/guest/waves`.
fn list(waves: &[Vec<Scenario>]) -> String {
    let mut text = String::new();
    for wave in waves {
        let words: Vec<String> =
            wave.iter().map(|scenario| format!("{}:{}", scenario.name, scenario.limit_seconds)).collect();
        text.push_str(&words.join(" "));
        text.push('\n');
    }
    text
}

/// A program of this machine with its libraries, and a script of its name.
fn write_program(out: &mut Archive<impl Write>, program: &Path, stripped: &Path) -> Result<()> {
    let name = file_name(program)?;
    for library in tools::libraries_here(program)? {
        let contents = fs::read(&library).with_context(|| format!("cannot read {}", library.display()))?;
        out.program(&format!("host/{}", file_name(&library)?), &contents)
            .context("cannot write the archive")?;
    }
    // Line tables are three quarters of it, and everything in the guest is memory. Names of functions stay.
    let strip = sh::capture(Command::new("strip").args(["--strip-debug", "-o"]).arg(stripped).arg(program));
    let source = if strip.is_ok() { stripped } else { program };
    let contents = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
    out.program(&format!("host/{name}"), &contents).context("cannot write the archive")?;
    let script =
        format!("#!/bin/sh\nexec /host/{LOADER} --argv0 {name} --library-path /host /host/{name} \"$@\"\n");
    out.program(&format!("usr/bin/{name}"), script.as_bytes()).context("cannot write the archive")
}

fn file_name(path: &Path) -> Result<&str> {
    path.file_name().and_then(|name| name.to_str()).with_context(|| format!("{} has no name", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_are_lines_of_names_with_limits() {
        let scenario = |name: &str| {
            Scenario::parse(name, "# It works.\n# devices: none\n# limit: 7\n# beside: yes\n").unwrap()
        };
        let waves = [vec![scenario("a"), scenario("b")], vec![scenario("c")]];
        assert_eq!(list(&waves), "a:7 b:7\nc:7\n");
    }
}
