//! Completion in real shells: what the scripts make of what the gateway answers.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tests::{Gateway, requires, run, tool};

/// The scripts, as the gateway writes them.
fn scripts() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let _ =
        run(Command::new(Gateway::program()).args(["generate", "completions"]).arg(folder.path())).success();
    folder
}

/// Runs a script of a shell with the gateway as `$GATEWAY` and the folder of the completions as working folder.
fn shell(name: &str, options: &[&str], script: &str, folder: &Path) -> Vec<String> {
    let mut command = Command::new(tool(name).unwrap());
    command.args(options).args(["-c", script]).current_dir(folder);
    command.env("GATEWAY", Gateway::program()).env("HOME", folder).env("LC_ALL", "C.UTF-8");
    run(&mut command).success().lines().map(str::to_owned).collect()
}

/// What bash would put in the place of the last word, without the package bash-completion: readline breaks words at
/// `=`, and hands the piece behind it to the function.
fn bash(line: &str, piece: &str, folder: &Path) -> Vec<String> {
    let script = format!(
        "source ./gateway.bash; COMP_LINE='{line}' COMP_POINT={} COMP_CWORD=2 COMP_WORDS=(gateway x '{piece}')\n\
         _gateway \"$GATEWAY\" '{piece}' x; ((${{#COMPREPLY[@]}} == 0)) || printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        line.len()
    );
    shell("bash", &["--norc", "--noprofile"], &script, folder)
}

#[test]
fn bash_completes_drivers_properties_and_options() {
    requires!("bash");
    let folder = scripts();
    let bash = |line: &str, piece: &str| bash(line, piece, folder.path());
    assert_eq!(bash("gateway io_uring dir", "dir"), ["direct="]);
    assert_eq!(bash("gateway io_uring direct=", ""), ["true", "false"]);
    assert_eq!(bash("gateway io_uring direct=t", "t"), ["true"]);
    assert_eq!(bash("gateway io_uring direct=", "="), ["true", "false"], "as bash-completion calls it");
    assert_eq!(bash("gateway io_ur", "io_ur"), ["io_uring"]);
    assert_eq!(bash("gateway --read", "--read"), ["--readonly"]);
    assert_eq!(bash("gateway --tls=re", "re"), ["require"]);
    let cache = bash("gateway memory 1G -- virtio-blk-vhost-user reconnect-cache=l", "l");
    assert_eq!(cache, ["lost"], "behind the separator");
    assert!(bash("gateway io_uring path=/dev/nu", "/dev/nu").is_empty(), "files are for readline");
    assert!(bash("gateway io_uring path=\"di", "\"di").is_empty(), "so are files in quotes");
}

#[test]
fn zsh_completes_drivers_properties_and_options() {
    requires!("zsh");
    let folder = scripts();
    let zsh = |words: &str, prefix: &str| {
        // What its completion system calls, without a terminal: the script is run as the function that it is.
        let script = format!(
            "_describe() {{ print -rl -- \"$1\" \"${{(@P)2}}\" \"${{@[3,-1]}}\" }}; _files() {{ print files $@ }}\n\
             compset() {{ print compset $@ }}; words=($GATEWAY {words} '{prefix}') CURRENT=$#words PREFIX='{prefix}'\n\
             source ./_gateway"
        );
        shell("zsh", &["-f"], &script, folder.path())
    };
    let described = "direct=:Bypass the page cache (O_DIRECT)";
    assert_eq!(zsh("io_uring", "dir"), ["property", described, "-S", ""]);
    assert_eq!(zsh("io_uring", "direct=t"), ["word", "direct=true:"]);
    assert_eq!(zsh("", "io_ur"), ["word", "io_uring:image files and block devices"]);
    assert_eq!(zsh("io_uring", "path=/dev/nu"), ["compset -P *=", "files"]);
    let any = zsh("io_uring", "");
    assert!(any.iter().any(|line| line == described), "{any:?}");
}

#[test]
fn fish_completes_drivers_properties_and_options() {
    requires!("fish");
    let folder = scripts();
    std::fs::write(folder.path().join("disk.img"), "").unwrap();
    let fish = |line: &str| {
        let script = format!("source ./gateway.fish; complete -C \"$GATEWAY {line}\"");
        shell("fish", &["--no-config"], &script, folder.path())
    };
    assert_eq!(fish("io_uring dir"), ["direct=\tBypass the page cache (O_DIRECT)"]);
    assert_eq!(fish("io_uring direct=t"), ["direct=true"]);
    assert_eq!(fish("io_ur"), ["io_uring\timage files and block devices"]);
    assert_eq!(fish("io_uring path=dis"), ["path=disk.img"]);
    assert!(fish("--read").iter().any(|line| line.starts_with("--readonly\t")));
}
