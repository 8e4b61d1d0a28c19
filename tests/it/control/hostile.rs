//! Operators that hang, flood or lie harm neither NBD clients nor other operators.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::process::{open_descriptors, resident_bytes};
use tests::{Gateway, Operator, run, wait_until};

use super::{Controlled, what};
use crate::raw::{READ, Raw};

/// Bytes that the server's memory may grow by hostile operators, far below what they send.
const GROWTH_BYTES: u64 = 16 << 20;

/// An NBD client and an operator get what they ask for.
fn all_is_well(controlled: &Controlled) {
    let mut client = Raw::open(controlled.socket(), "");
    assert_eq!(client.write(0, 0, &[9; 4096]), 0);
    assert_eq!(client.read(0, 4096), Ok(vec![9; 4096]));
    assert_eq!(controlled.operator().run("status")["exports"], 1);
}

#[test]
fn operators_that_hang_in_a_line_make_room() {
    let controlled = Controlled::start(&["memory", "1M"]);
    let mut hanging: Vec<Operator> = (0..40).map(|_| controlled.operator()).collect();
    for operator in &mut hanging {
        // Those that have lost their places cannot even do that.
        let _ = operator.send(b"{\"command\":\"sta");
    }
    all_is_well(&controlled);
    controlled.gateway.stop();
}

#[test]
fn two_hundred_connections_are_a_few_at_a_time() {
    let controlled = Controlled::start(&["memory", "1M"]);
    let before = open_descriptors(controlled.gateway.pid());
    let crowd: Vec<Operator> = (0..200).map(|_| Operator::connect(&controlled.path)).collect();
    wait_until("most of them are gone", || open_descriptors(controlled.gateway.pid()) <= before + 16);
    all_is_well(&controlled);
    drop(crowd);
    wait_until("all of them are gone", || open_descriptors(controlled.gateway.pid()) <= before);
    controlled.gateway.stop();
}

#[test]
fn a_line_that_is_too_long_ends_the_connection() {
    let controlled = Controlled::start(&["memory", "1M"]);
    let before = resident_bytes(controlled.gateway.pid());
    let line = vec![b'x'; 1 << 20];
    for _ in 0..50 {
        let mut operator = controlled.operator();
        let _ = operator.send(&line);
        let answer = operator.answer().unwrap();
        assert!(what(&answer["error"]).contains("more than 65536 bytes"), "{answer}");
        assert_eq!(operator.answer(), None);
    }
    all_is_well(&controlled);
    let growth = resident_bytes(controlled.gateway.pid()).saturating_sub(before);
    assert!(growth < GROWTH_BYTES, "{growth} bytes");
    controlled.gateway.stop();
}

#[test]
fn whatever_is_no_request_is_told_so_and_the_next_one_is_answered() {
    let controlled = Controlled::start(&["memory", "1M"]);
    let mut operator = controlled.operator();
    let deep = ["[".repeat(60_000), "\n".into()].concat();
    let object = ["{\"a\":".repeat(10_000), "\n".into()].concat();
    for line in [
        &b"\n"[..],
        b"\xff\xfe\x00\n",
        b"{\"command\":\"\xc3\x28\"}\n",
        b"null\n",
        b"{}{}\n",
        b"{\"command\":null}\n",
        b"{\"command\":\"status\",\"zzz\":1}\n",
        b"{\"command\":\"pause\",\"name\":1}\n",
        b"{\"command\":\"pause\"}\n",
        b"{\"command\":\"add\",\"export\":[]}\n",
        b"{\"command\":\"disconnect\",\"client\":-1}\n",
        b"{\"command\":\"disconnect\",\"client\":1e400}\n",
        b"GET / HTTP/1.1\n",
        deep.as_bytes(),
        object.as_bytes(),
    ] {
        assert!(operator.send(line));
        let answer = operator.answer().unwrap();
        assert_eq!(answer["error"]["kind"], "usage", "{answer}");
    }
    assert!(operator.ask(&json!({ "command": "status" })).is_ok());
    all_is_well(&controlled);
    controlled.gateway.stop();
}

#[test]
fn an_operator_that_takes_no_answers_is_nobodys_trouble() {
    let words = (0..60).flat_map(|number| {
        let words = [if number > 0 { "--" } else { "-r" }, "-e", "", "memory", "1M"].map(str::to_owned);
        words.into_iter().map(move |word| if word.is_empty() { format!("disk{number}") } else { word })
    });
    let words: Vec<String> = words.collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let controlled = Controlled::start(&[&["--memory", "1M"], &words[..]].concat());
    let before = resident_bytes(controlled.gateway.pid());
    let request = b"{\"command\":\"exports\"}\n";
    let mut flood: Vec<Operator> = (0..8).map(|_| Operator::silent(&controlled.path)).collect();
    for operator in &mut flood {
        // What the server does not take stays in the socket.
        assert!(operator.send(&request.repeat(500)));
    }
    let mut client = Raw::open(controlled.socket(), "disk1");
    for _ in 0..1000 {
        assert_eq!(client.write(0, 0, &[9; 4096]), 0);
    }
    assert_eq!(controlled.operator().run("status")["exports"], 60);
    let growth = resident_bytes(controlled.gateway.pid()).saturating_sub(before);
    assert!(growth < GROWTH_BYTES, "{growth} bytes");
    // Some close in the middle of an answer.
    drop(flood);
    assert_eq!(controlled.operator().run("status")["exports"], 60);
    controlled.gateway.stop();
}

#[test]
fn operators_that_flood_with_questions_leave_time_for_clients() {
    let controlled = Controlled::start(&["memory", "1M"]);
    let over = Arc::new(AtomicBool::new(false));
    let flooding = |_| {
        let (path, over) = (controlled.path.clone(), over.clone());
        thread::spawn(move || {
            let (mut operator, mut answered) = (Operator::silent(&path), 0);
            while !over.load(Ordering::Relaxed) {
                match operator.send(&b"{\"command\":\"clients\"}\n".repeat(50)) && operator.answer().is_some()
                {
                    true => answered += 1,
                    // Somebody else has got its place.
                    false => operator = Operator::silent(&path),
                }
            }
            answered
        })
    };
    let flood: Vec<_> = (0..20).map(flooding).collect();
    let mut client = Raw::open(controlled.socket(), "");
    for block in 0..2000 {
        assert_eq!(client.write(0, block % 256 * 4096, &[9; 4096]), 0);
    }
    all_is_well(&controlled);
    over.store(true, Ordering::Relaxed);
    let answered: Vec<u32> = flood.into_iter().map(|operator| operator.join().unwrap()).collect();
    assert!(answered.iter().sum::<u32>() > 0, "the flood was none");
    controlled.gateway.stop();
}

#[test]
fn another_user_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        tests::skip!("only root can become another user");
    }
    // The server is not root's either: root and its own user may, others may not.
    let controlled = Controlled::start(&["memory", "1M"]);
    // As if somebody had opened the way to it.
    let folder = controlled.path.parent().unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&controlled.path, fs::Permissions::from_mode(0o666)).unwrap();
    let program = folder.join("gateway");
    fs::copy(Gateway::program(), &program).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
    let output = run(command.arg("ctl").arg(&controlled.path).arg("stop"));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.failure().contains("only root and the user that the server runs as"));
    assert!(controlled.gateway.stderr().contains("of user 65534 may not use the control socket"));
    all_is_well(&controlled);
    controlled.gateway.stop();
}

#[test]
fn the_socket_is_for_its_owner() {
    let controlled = Controlled::start(&["memory", "1M"]);
    assert_eq!(fs::metadata(&controlled.path).unwrap().permissions().mode() & 0o777, 0o600);
    controlled.gateway.stop();
}

#[test]
fn the_end_does_not_wait_for_commands() {
    let mut controlled = Controlled::start(&["-e", "disk", "memory", "1M"]);
    let mut glutton = Raw::open(controlled.socket(), "disk");
    for cookie in 0..64 {
        glutton.request(READ, cookie, 0, 1 << 20);
    }
    assert_eq!(glutton.reply().map(|reply| reply.error), Some(0));
    let (mut operator, mut other) = (controlled.operator(), controlled.operator());
    let drain = thread::spawn(move || operator.about("drain", "disk"));
    wait_until("the command is under way", || other.state("disk").as_deref() == Some("draining"));
    assert!(!drain.is_finished());
    controlled.gateway.signal(Signal::SIGTERM);
    let error: Value = drain.join().unwrap().unwrap_err();
    assert!(what(&error).contains("the server ends"), "{error}");
    assert_eq!(other.answer(), None);
    assert!(!controlled.path.exists());
    assert_eq!(controlled.gateway.wait().code(), Some(0));
}
