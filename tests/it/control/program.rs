//! `gateway ctl`: what people see, and exit codes.

use std::process::Command;

use tests::{Gateway, Output, run, wait_until};

use super::Controlled;
use crate::raw::Raw;

impl Controlled {
    fn ctl(&self, line: &str) -> Output {
        run(Command::new(Gateway::program()).arg("ctl").arg(&self.path).args(line.split_whitespace()))
    }
}

#[test]
fn tables_are_for_people_and_json_is_for_programs() {
    let controlled = Controlled::start(&["-e", "disk", "memory", "1M"]);
    let _client = Raw::open(controlled.socket(), "disk");
    wait_until("the client is there", || controlled.ctl("clients").success().lines().count() == 2);
    let exports = controlled.ctl("exports").success();
    let lines: Vec<Vec<&str>> = exports.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "SIZE", "CLIENTS", "STATE", "ACCESS", "DRIVER", "PROPERTIES"]);
    assert_eq!(lines[1], ["disk", "1M", "1", "serving", "rw", "memory", "size=1048576"]);
    let json: serde_json::Value = serde_json::from_str(&controlled.ctl("--json exports").success()).unwrap();
    assert_eq!(json["exports"][0]["capacity"], 1 << 20);
    assert!(controlled.ctl("status").success().contains("listens on   socket "));
    controlled.gateway.stop();
}

#[test]
fn statistics_are_totals_or_what_happens_in_each_second() {
    let controlled = Controlled::start(&["-e", "disk", "memory", "1M"]);
    let mut client = Raw::open(controlled.socket(), "disk");
    for block in 0..10 {
        assert_eq!(client.write(0, block * 4096, &[1; 4096]), 0);
        assert_eq!(client.read(block * 4096, 4096), Ok(vec![1; 4096]));
    }
    let rows = |text: &str| -> Vec<Vec<String>> {
        text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let totals = rows(&controlled.ctl("stat").success());
    assert_eq!(totals[0][..4], ["EXPORT", "OPERATION", "REQUESTS", "BYTES"]);
    assert_eq!(totals[1][..7], ["disk", "read", "10", "40K", "0", "0", "0"]);
    assert_eq!(totals[2][..7], ["disk", "write", "10", "40K", "0", "0", "0"]);
    let lines = controlled.ctl("--json stat 1 2").success();
    let answers: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 2);
    assert!(answers[0]["time"].as_f64() < answers[1]["time"].as_f64());
    let load = std::thread::spawn(move || {
        let start = std::time::Instant::now();
        while start.elapsed().as_secs() < 4 {
            client.read(0, 4096).unwrap();
        }
    });
    let rates = rows(&controlled.ctl("stat 1 2").success());
    let [heading, row, again, other] = &rates[..] else { panic!("{rates:?}") };
    assert_eq!(heading[..3], ["EXPORT", "CLIENTS", "R/S"]);
    assert_eq!(again, heading);
    for row in [row, other] {
        assert_eq!(row[..2], ["disk", "1"]);
        assert!(row[2].parse::<u64>().unwrap() > 0 && row[4].ends_with("us"), "{row:?}");
        assert_eq!(row[5..8], ["0", "0", "-"]);
    }
    load.join().unwrap();
    assert_eq!(controlled.ctl("stat 0").status.code(), Some(2));
    controlled.gateway.stop();
}

#[test]
fn commands_say_what_they_have_done() {
    let mut controlled = Controlled::start(&["-e", "disk", "memory", "1M"]);
    for (line, said) in [
        ("add -e more -r memory 2M", "export 'more' is added\n"),
        ("pause more", "export 'more' is paused\n"),
        ("resume more", "export 'more' is served again\n"),
        ("drain more", "export 'more' is drained\n"),
        ("remove more", "export 'more' is removed\n"),
        ("log-level debug", "the log level is 'debug'\n"),
    ] {
        assert_eq!(controlled.ctl(line).success(), said, "{line}");
    }
    let client = Raw::open(controlled.socket(), "disk");
    let mut clients = String::new();
    wait_until("the client is there", || {
        clients = controlled.ctl("clients").success();
        clients.lines().count() == 2
    });
    let id = clients.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    assert_eq!(controlled.ctl(&format!("disconnect {id}")).success(), format!("client {id} is gone\n"));
    drop(client);
    assert_eq!(controlled.ctl("stop").success(), "the server has ended\n");
    assert_eq!(controlled.gateway.wait().code(), Some(0));
    assert!(!controlled.path.exists());
}

#[test]
fn exit_codes_tell_wrong_words_from_failures() {
    let controlled = Controlled::start(&["-e", "disk", "memory", "1M"]);
    let fails = |line: &str, code: i32, wanted: &str| {
        let output = controlled.ctl(line);
        assert_eq!(output.status.code(), Some(code), "{line}: {output:?}");
        let said = output.failure();
        assert!(said.starts_with("gateway: ") && said.contains(wanted), "{line}: {said}");
    };
    fails("", 2, "gateway ctl PATH COMMAND");
    fails("paus disk", 2, "pause");
    fails("pause disc", 1, "did you mean 'disk'?");
    fails("add -e a memroy 1G", 2, "did you mean 'memory'?");
    fails("add memory 1G", 2, "-e NAME");
    fails("add -e a io_uring /nonexistent", 1, "/nonexistent");
    fails("add -e disk memory 1G", 1, "there is an export 'disk' already");
    fails("log-level a=b=c=d", 2, "cannot be understood");
    fails("disconnect 4711", 1, "there is no client 4711");
    fails("disconnect x", 2, "x");
    fails("reload", 1, "no configuration file");
    let output = run(Command::new(Gateway::program()).args(["ctl", "/nonexistent/control", "status"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(output.failure().contains("--control"));
    // An NBD server's socket is no control socket.
    let output = run(Command::new(Gateway::program()).arg("ctl").arg(controlled.socket()).arg("status"));
    assert_eq!(output.status.code(), Some(1));
    controlled.gateway.stop();
}

#[test]
fn help_needs_no_server() {
    let help = |line: &[&str]| run(Command::new(Gateway::program()).arg("ctl").args(line)).success();
    for line in [&["--help"][..], &["-h"], &["/path", "--help"], &["/path", "status", "--help"]] {
        let said = help(line);
        assert!(said.contains("gateway ctl PATH") && said.contains("disconnect"), "{said}");
    }
    assert!(help(&["/path", "add", "--help"]).contains("--memory"));
}

#[test]
fn a_control_socket_that_is_in_use_is_not_taken() {
    let controlled = Controlled::start(&["memory", "1M"]);
    let mut command = Command::new(Gateway::program());
    let output = run(command
        .arg("--control")
        .arg(&controlled.path)
        .args(["-U", "-", "memory", "1M", "--run", "true"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(output.failure().contains("another server listens there"));
    assert!(controlled.ctl("status").status.success());
    controlled.gateway.stop();
}
