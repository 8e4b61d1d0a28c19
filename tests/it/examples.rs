//! The files of `examples/`, which users paste: each does what its first lines say.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Gateway, Rng, Server, requires, run, run_with_input, tool};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples")
}

/// A script with the gateway and the tools of the test bed in its `PATH`.
fn script(name: &str) -> Command {
    let beside = |program: &Path| program.parent().unwrap().to_owned();
    let mut folders = vec![beside(Gateway::program()), beside(&tool("nbdinfo").unwrap())];
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let path: OsString = std::env::join_paths(folders).unwrap();
    let mut command = Command::new(examples().join(name));
    command.env("PATH", path);
    command
}

#[test]
fn every_example_is_known_to_a_test() {
    let known = [
        "backup.sh",
        "clone.sh",
        "container",
        "libvirt",
        "many.toml",
        "qemu.sh",
        "ramdisk.sh",
        "systemd",
        "tls.toml",
    ];
    let mut names: Vec<String> = fs::read_dir(examples())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, known);
}

#[test]
fn a_disk_is_backed_up() {
    requires!("nbdinfo", "nbdcopy");
    let folder = Server::folder();
    let (disk, copy) = (folder.path().join("disk"), folder.path().join("copy"));
    fs::write(&disk, Rng::from_environment().bytes(3 << 20)).unwrap();
    let gateway = Gateway::start(&["io_uring", &format!("path={}", disk.display())]);
    let _ = run(script("backup.sh").arg(gateway.uri()).arg(&copy)).success();
    assert!(fs::read(&disk).unwrap() == fs::read(&copy).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
    gateway.stop();
}

#[test]
fn a_command_has_a_ram_disk() {
    requires!("nbdinfo");
    let told = run(script("ramdisk.sh").args(["1G", "nbdinfo --size \"$uri\""])).success();
    assert_eq!(told, "1073741824\n");
}

#[test]
fn an_image_is_cloned() {
    requires!("nbdinfo", "qemu-img");
    let folder = Server::folder();
    let [raw, image, disk] = ["raw", "image.qcow2", "disk"].map(|name| folder.path().join(name));
    let contents = Rng::from_environment().bytes(2 << 20);
    fs::write(&raw, &contents).unwrap();
    fs::write(&disk, vec![1; 2 << 20]).unwrap();
    let mut convert = Command::new(tool("qemu-img").unwrap());
    let _ = run(convert.args(["convert", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(&image)).success();
    let _ = run(script("clone.sh").arg(&image).arg(&disk)).success();
    assert!(fs::read(&disk).unwrap() == contents);
}

#[test]
fn configurations_are_right() {
    for name in ["many.toml", "tls.toml"] {
        let file = examples().join(name);
        let told = run(Command::new(Gateway::program()).arg("--check-config").arg(&file)).success();
        assert!(told.ends_with("fine\n"), "{told}");
    }
}

#[test]
fn a_machine_boots_from_an_export() {
    requires!("nbdinfo", "qemu-system-x86_64");
    let image = tests::bootable_image().unwrap();
    let gateway = Gateway::start(&["io_uring", &format!("path={}", image.display()), "read-only=true"]);
    let mut machine = script("qemu.sh");
    machine.arg(gateway.uri()).args(["-nodefaults", "-display", "none", "-no-reboot", "-snapshot"]);
    machine.args(["-serial", "stdio", "-accel", "tcg,thread=single", "-cpu", "max,-cx16", "-m", "512M"]);
    let told = run(&mut machine).success();
    assert!(told.contains(xtask::boot::SUCCESS_LINE), "{told}");
    gateway.stop();
}

#[test]
fn the_disk_for_libvirt_is_well_formed() {
    requires!("nbdsh");
    let file = examples().join("libvirt/disk.xml");
    let parse = format!("import xml.dom.minidom; xml.dom.minidom.parse('{}')", file.display());
    let _ = run(Command::new(tool("nbdsh").unwrap()).args(["-c", &parse])).success();
}

#[test]
fn a_filter_for_containers_lets_io_uring_through() {
    requires!("nbdinfo", "jq");
    let filter = r#"{"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#;
    let told = run_with_input(&mut script("container/seccomp.sh"), filter).success();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["syscalls"][0]["names"][0], "read");
    assert_eq!(told["syscalls"][1]["names"][0], "io_uring_setup");
    assert_eq!(told["syscalls"][1]["action"], "SCMP_ACT_ALLOW");
}
