//! What `cargo xtask dist` packs, by the judgement of Debian's tools. Whether it works when it is installed is shown in
//! the emulated guest (`tests/guest/package.sh`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;
use tests::{Gateway, requires, run, tool};
use xtask::dist::{self, Package};

/// The package with the gateway of the tests, made once, and the folder with it.
fn package() -> &'static Package {
    static PACKAGE: OnceLock<(TempDir, Package)> = OnceLock::new();
    &PACKAGE.get_or_init(make).1
}

fn make() -> (TempDir, Package) {
    let folder = tempfile::tempdir().unwrap();
    let package = dist::make(Gateway::program(), folder.path()).unwrap();
    (folder, package)
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn debian_has_no_objections() {
    requires!("dpkg-deb", "lintian");
    let deb = &package().deb;
    let list = run(Command::new(tool("dpkg-deb").unwrap()).arg("--contents").arg(deb)).success();
    for path in [
        "-rwxr-xr-x root/root",
        "./usr/bin/gateway",
        "./usr/share/man/man1/gateway-io_uring.1.gz",
        "./usr/share/man/man5/gateway.toml.5.gz",
        "./usr/share/bash-completion/completions/gateway",
        "./usr/share/zsh/vendor-completions/_gateway",
        "./usr/share/fish/vendor_completions.d/gateway.fish",
        "./usr/lib/systemd/system/gateway@.service",
        "./usr/lib/systemd/system/gateway@.socket",
        "./usr/lib/sysusers.d/gateway.conf",
        "./usr/share/doc/gateway/examples/many.toml",
        "./etc/gateway/",
    ] {
        assert!(list.contains(path), "{path} is missing:\n{list}");
    }
    let depends =
        run(Command::new(tool("dpkg-deb").unwrap()).arg("--field").arg(deb).arg("Depends")).success();
    assert!(depends.starts_with("libc6 (>= 2."), "{depends}");
    let mut lintian = Command::new(tool("lintian").unwrap());
    lintian.args(["--allow-root", "--fail-on", "error"]).arg(deb);
    let _ = run(&mut lintian).success();
}

#[test]
fn the_same_program_makes_the_same_files() {
    let (_folder, again) = make();
    for (one, other) in [(&package().deb, &again.deb), (&package().archive, &again.archive)] {
        assert!(fs::read(one).unwrap() == fs::read(other).unwrap(), "{} differs", one.display());
    }
}

#[test]
fn the_manual_has_no_mistakes() {
    requires!("mandoc");
    let folder = tempfile::tempdir().unwrap();
    let mut generate = Command::new(Gateway::program());
    let _ = run(generate.args(["generate", "man", "--date", "2026-01-02"]).arg(folder.path())).success();
    let pages: Vec<PathBuf> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(pages.len() > 10, "{pages:?}");
    let lint = run(Command::new(tool("mandoc").unwrap()).args(["-T", "lint", "-W", "warning"]).args(&pages));
    assert!(lint.status.success(), "{}{}", lint.stdout, lint.stderr);
}

/// The units as an instance, with the drop-ins of these examples.
fn units(dropins: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["service", "socket"] {
        let name = format!("gateway@.{kind}");
        fs::copy(repository().join("packaging/systemd").join(&name), folder.path().join(name)).unwrap();
    }
    for dropin in dropins {
        let source = repository().join("examples/systemd").join(dropin);
        let text = fs::read_to_string(&source).unwrap();
        let kind = if text.contains("[Socket]") { "socket" } else { "service" };
        let destination = folder.path().join(format!("gateway@disk.{kind}.d"));
        fs::create_dir_all(&destination).unwrap();
        fs::copy(source, destination.join(dropin)).unwrap();
    }
    folder
}

/// All examples of drop-ins.
fn dropins() -> Vec<String> {
    let names = fs::read_dir(repository().join("examples/systemd")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".conf")).collect()
}

#[test]
fn systemd_understands_the_units_and_every_drop_in() {
    requires!("systemd-analyze");
    let dropins = dropins();
    assert!(dropins.len() > 3, "{dropins:?}");
    let sets: Vec<Vec<&str>> =
        [vec![]].into_iter().chain(dropins.iter().map(|name| vec![name.as_str()])).collect();
    for set in sets {
        let folder = units(&set);
        let mut verify = Command::new(tool("systemd-analyze").unwrap());
        verify.args(["verify", "--man=no", "gateway@disk.service", "gateway@disk.socket"]);
        let told = run(verify.env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display())));
        let told = format!("{}{}", told.stdout, told.stderr);
        assert!(told.contains("gateway@disk.service"), "it was looked at: {told}");
        // The program is not installed here.
        let wrong: Vec<&str> =
            told.lines().filter(|line| !line.contains("/usr/bin/gateway is not executable")).collect();
        assert!(wrong.iter().all(|line| !line.contains("gateway@")), "{set:?}: {wrong:#?}");
    }
}

#[test]
fn the_service_is_exposed_little() {
    requires!("systemd-analyze");
    for set in [&[][..], &["vfio.conf", "vdpa.conf", "nvme.conf"]] {
        let folder = units(set);
        let mut security = Command::new(tool("systemd-analyze").unwrap());
        security.args(["security", "--no-pager", "--offline=true", "--threshold=30", "gateway@disk.service"]);
        let told = run(security.env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display())));
        assert!(told.status.success(), "{}{}", told.stdout, told.stderr);
        assert!(told.stdout.contains("Overall exposure level"), "{}{}", told.stdout, told.stderr);
    }
}
