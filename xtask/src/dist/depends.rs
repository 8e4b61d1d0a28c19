//! Packages of Debian that a program needs, from the libraries and versions of symbols that it names itself.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::sh;

/// Libraries, the package that has them, and how the versions of its symbols begin.
const PACKAGES: &[(&[&str], &str, &str)] = &[
    (
        &[
            "libc.so.6",
            "libm.so.6",
            "libdl.so.2",
            "libpthread.so.0",
            "librt.so.1",
            "ld-linux-x86-64.so.2",
            "ld-linux-aarch64.so.1",
            "ld-linux-riscv64-lp64d.so.1",
        ],
        "libc6",
        "GLIBC_",
    ),
    (&["libgcc_s.so.1"], "libgcc-s1", "GCC_"),
];

/// The field `Depends` for a program (deb-control(5)).
///
/// # Errors
/// `objdump` is missing, or the program needs a library of another package.
pub(super) fn of(program: &Path) -> Result<String> {
    parse(&sh::capture(Command::new("objdump").arg("--private-headers").arg(program).env("LC_ALL", "C"))?)
}

/// The same from what objdump(1) prints.
fn parse(headers: &str) -> Result<String> {
    let needed: Vec<&str> =
        headers.lines().filter_map(|line| line.trim().strip_prefix("NEEDED")).map(str::trim).collect();
    for library in &needed {
        if !PACKAGES.iter().any(|(libraries, ..)| libraries.contains(library)) {
            bail!("the program needs {library}, of which it is not known which package has it");
        }
    }
    let mut fields = Vec::new();
    for (libraries, package, prefix) in PACKAGES {
        if !needed.iter().any(|library| libraries.contains(library)) {
            continue;
        }
        let versions = headers.split_whitespace().filter_map(|word| word.strip_prefix(prefix));
        fields.push(match versions.filter_map(numbers).max() {
            Some(version) => format!("{package} (>= {})", text(&version)),
            None => (*package).to_owned(),
        });
    }
    Ok(fields.join(", "))
}

/// The numbers of a version; `None` for words such as `PRIVATE`.
fn numbers(version: &str) -> Option<Vec<u32>> {
    version.split('.').map(|number| number.parse().ok()).collect()
}

fn text(version: &[u32]) -> String {
    version.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::parse;

    const HEADERS: &str = "Dynamic Section:\n  NEEDED               libgcc_s.so.1\n  NEEDED               libc.so.6\n\
        Version References:\n  required from libc.so.6:\n    0x0d696917 0x00 12 GLIBC_2.9\n\
        \x20   0x069691b4 0x00 11 GLIBC_2.34\n    0x09691a75 0x00 07 GLIBC_2.2.5\n  required from libgcc_s.so.1:\n\
        \x20   0x0b792650 0x00 03 GCC_3.0\n    0x09265f61 0x00 06 GCC_3.3.1\n";

    #[test]
    fn the_newest_symbol_says_which_version_is_needed() {
        assert_eq!(parse(HEADERS).unwrap(), "libc6 (>= 2.34), libgcc-s1 (>= 3.3.1)");
    }

    #[test]
    fn an_unknown_library_is_an_error() {
        let error = parse("  NEEDED   libssl.so.3\n").unwrap_err();
        assert!(error.to_string().contains("libssl.so.3"), "{error}");
    }
}
