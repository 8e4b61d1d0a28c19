//! nbdinfo, of libnbd.

use std::process::Command;

use tests::{Gateway, requires, run, tool};

#[test]
fn nbdinfo_sees_the_size_of_the_ram_disk() {
    requires!("nbdinfo");
    let gateway = Gateway::start(&["memory", "1G"]);
    let output = run(Command::new(tool("nbdinfo").unwrap()).args(["--size", &gateway.uri()]));
    assert_eq!(output.success().trim(), "1073741824");
}
