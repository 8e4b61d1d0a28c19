//! Many disks in one server: each is served, they do not harm each other, and a reload puts others in their place.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use nix::sys::signal::Signal;
use tests::{Gateway, GatewayBuilder, requires, run, tool, wait_until};

use crate::raw::{ESHUTDOWN, FLUSH, READ, Raw};
use crate::reconnect::Spot;

const MIB: u64 = 1 << 20;

/// A gateway with a configuration file, which can be changed.
pub(crate) struct Configured {
    pub(crate) gateway: Gateway,
    file: PathBuf,
    /// Reloads that the log has told of.
    reloads: usize,
}

impl Configured {
    pub(crate) fn start(text: &str) -> Configured {
        Configured::start_by(Gateway::builder(), text)
    }

    pub(crate) fn start_by(builder: GatewayBuilder, text: &str) -> Configured {
        let file = builder.path("gateway.toml");
        fs::write(&file, text).unwrap();
        let gateway = builder.start(&["--config".into(), file.clone().into_os_string()]);
        Configured { gateway, file, reloads: 0 }
    }

    /// Changes the file, and has it read.
    pub(crate) fn reload(&mut self, text: &str) {
        // As an editor does it: nobody reads half of a file.
        let new = self.file.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &self.file).unwrap();
        self.gateway.signal(Signal::SIGHUP);
        self.reloads += 1;
        let reloads = self.reloads;
        let told = |text: &str| {
            text.matches("the configuration is reloaded").count() + text.matches("goes on as before").count()
        };
        wait_until("the log tells of the reload", || told(&self.gateway.stderr()) == reloads);
    }

    pub(crate) fn open(&self, export: &str) -> Raw {
        Raw::open(self.gateway.socket(), export)
    }

    /// Whether a client finds this export.
    pub(crate) fn has(&self, export: &str) -> bool {
        run(Command::new(tool("nbdinfo").unwrap()).args(["--size", &self.gateway.uri_of(export)]))
            .status
            .success()
    }
}

/// A RAM disk.
pub(crate) fn memory(name: &str) -> String {
    memory_with(name, "")
}

/// A RAM disk with further keys.
pub(crate) fn memory_with(name: &str, keys: &str) -> String {
    format!("[[export]]\nname = '{name}'\ndriver = 'memory'\nmemory = '1M'\nproperties.size = '1M'\n{keys}\n")
}

#[test]
fn drivers_on_one_line_are_as_many_exports() {
    let gateway = Gateway::start(&["-e", "first", "memory", "1M", "--", "-e", "second", "-r", "null", "2M"]);
    let (mut first, mut second) =
        (Raw::open(gateway.socket(), "first"), Raw::open(gateway.socket(), "second"));
    assert_eq!((first.size_bytes, second.size_bytes), (MIB, 2 * MIB));
    assert_eq!(Raw::open(gateway.socket(), "").size_bytes, MIB, "the first is the default");
    assert_eq!(first.write(0, 0, &[7; 4096]), 0);
    assert_eq!(first.read(0, 4096), Ok(vec![7; 4096]));
    assert_eq!(second.read(0, 4096), Ok(vec![0; 4096]));
    assert_ne!(second.write(0, 0, &[7; 4096]), 0, "it is read-only");
    gateway.stop();
}

#[test]
fn two_hundred_exports_are_listed_and_each_keeps_its_own_data() {
    requires!("nbdinfo");
    let text = (0..200).fold(String::new(), |mut text, number| {
        write!(
            text,
            "{}",
            memory_with(&format!("disk{number}"), &format!("description = 'number {number}'"))
        )
        .unwrap();
        text
    });
    let configured = Configured::start(&text);
    let list =
        run(Command::new(tool("nbdinfo").unwrap()).args(["--list", "--json", &configured.gateway.uri()]))
            .success();
    for number in 0..200_u8 {
        assert!(
            list.contains(&format!("\"disk{number}\"")) && list.contains(&format!("\"number {number}\"")),
            "{list}"
        );
        assert_eq!(configured.open(&format!("disk{number}")).write(0, 4096, &[number; 4096]), 0);
    }
    let mut clients: Vec<Raw> = (0..200).map(|number| configured.open(&format!("disk{number}"))).collect();
    for (number, client) in (0..200_u8).zip(&mut clients) {
        assert_eq!(client.read(4096, 4096), Ok(vec![number; 4096]));
    }
    assert_eq!(configured.open("").read(4096, 1), Ok(vec![0]), "the first is the default");
    assert!(!configured.has("disk200"));
    configured.gateway.stop();
}

#[test]
fn clients_of_disks_with_one_queue_are_served_wherever_they_arrive() {
    let text = ["a", "b", "c"].map(|name| {
        format!(
            "[[export]]\nname = '{name}'\ndriver = 'null'\nproperties = {{ size = '1M', num-queues = 1 }}\n"
        )
    });
    let configured = Configured::start_by(Gateway::builder().workers(3), &text.concat());
    let mut clients: Vec<Raw> =
        (0..4).flat_map(|_| ["a", "b", "c"]).map(|name| configured.open(name)).collect();
    for _ in 0..10 {
        for client in &mut clients {
            assert_eq!(client.read(0, 512), Ok(vec![0; 512]));
        }
    }
    drop(clients);
    configured.gateway.stop();
}

#[test]
fn a_disk_that_stands_still_does_not_hold_up_others() {
    requires!("qemu-storage-daemon");
    let spot = Spot::new("");
    let image = tests::Image::sparse(tests::Place::Disk, MIB);
    let mut back_end = spot.start(image.path());
    let socket = spot.socket();
    let text = format!(
        "{}[[export]]\nname = 'slow'\ndriver = 'virtio-blk-vhost-user'\nproperties.path = '{}'\n",
        memory("quick"),
        socket.display()
    );
    let configured = Configured::start(&text);
    // As many that wait on each worker.
    let mut slow: Vec<Raw> = (0..4).map(|_| configured.open("slow")).collect();
    let mut quick: Vec<Raw> = (0..4).map(|_| configured.open("quick")).collect();
    back_end.signal(Signal::SIGSTOP);
    for (cookie, client) in (0..).zip(&mut slow) {
        client.request(READ, cookie, 0, 4096);
    }
    for client in &mut quick {
        for block in 0..100 {
            assert_eq!(client.write(0, block * 4096, &[1; 4096]), 0);
            assert_eq!(client.ask(FLUSH, 0, 0, 0), 0);
        }
    }
    // New ones find their way too.
    assert_eq!(configured.open("quick").read(0, 1), Ok(vec![1]));
    back_end.signal(Signal::SIGCONT);
    for client in &mut slow {
        assert_eq!(client.reply().map(|reply| reply.error), Some(0));
        client.stream.read_exact(&mut [0; 4096]).unwrap();
    }
    drop(slow);
    configured.gateway.stop();
}

#[test]
fn exports_come_and_go_and_others_notice_nothing() {
    requires!("nbdinfo");
    let mut configured = Configured::start(&[memory("stays"), memory("goes")].concat());
    let (mut stays, mut goes) = (configured.open("stays"), configured.open("goes"));
    assert_eq!(stays.write(0, 0, &[3; 512]), 0);
    assert_eq!(goes.write(0, 0, &[4; 512]), 0);
    configured.reload(&[memory("comes"), memory("stays")].concat());
    assert!(configured.gateway.stderr().contains("1 exports added, 1 removed, 1 changed, 2 in service"));
    assert_eq!(stays.read(0, 512), Ok(vec![3; 512]));
    // A request that is on its way when the server closes is refused, or finds it closed.
    let refused = goes.reply().is_none();
    assert!(refused, "the client of an export that is gone is sent away");
    assert!(configured.has("comes") && !configured.has("goes"));
    assert_eq!(configured.open("").read(0, 1), Ok(vec![0]), "the first one of the new file is the default");
    configured.reload(&[memory("stays"), memory("goes")].concat());
    assert_eq!(configured.open("goes").read(0, 1), Ok(vec![0]), "it is another disk");
    assert_eq!(stays.read(0, 512), Ok(vec![3; 512]));
    configured.gateway.stop();
}

#[test]
fn a_client_that_sends_while_its_export_goes_is_told_so_or_sent_away() {
    let mut configured = Configured::start(&[memory("stays"), memory("goes")].concat());
    let mut goes = configured.open("goes");
    let sender = thread::spawn(move || {
        let mut last = 0;
        // Until an answer is an error, or none comes.
        while last == 0 {
            let bytes = crate::raw::header(FLUSH, 1, 0, 0);
            if std::io::Write::write_all(&mut goes.stream, &bytes).is_err() {
                return None;
            }
            last = goes.reply()?.error;
        }
        Some(last)
    });
    configured.reload(&memory("stays"));
    let last = sender.join().unwrap();
    assert!(last.is_none_or(|error| error == ESHUTDOWN), "{last:?}");
    configured.gateway.stop();
}

#[test]
fn a_file_that_is_wrong_changes_nothing() {
    let mut configured = Configured::start(&memory("stays"));
    let mut stays = configured.open("stays");
    configured.reload("[[export]]\nname = 'stays'\ndriver = 'memroy'\n");
    let said = configured.gateway.stderr();
    assert!(said.contains("gateway.toml:3:10: ") && said.contains("goes on as before"), "{said}");
    // Right as far as that can be known, but its device is not there.
    let missing = "[[export]]\nname = 'new'\ndriver = 'io_uring'\nproperties.path = '/nonexistent'\n";
    configured.reload(&[memory("stays"), missing.into()].concat());
    assert!(configured.gateway.stderr().contains("/nonexistent"));
    assert_eq!(stays.read(0, 512), Ok(vec![0; 512]));
    configured.reload(&[memory("stays"), memory("more")].concat());
    assert_eq!(configured.open("more").size_bytes, MIB);
    assert_eq!(stays.read(0, 512), Ok(vec![0; 512]));
    configured.gateway.stop();
}

#[test]
fn clients_leave_for_another_device_and_not_for_another_description() {
    let mut configured = Configured::start(&memory("disk"));
    let mut client = configured.open("disk");
    assert_eq!(client.write(0, 0, &[5; 512]), 0);
    configured.reload(&memory_with("disk", "description = 'as before'"));
    assert_eq!(client.write(0, 512, &[6; 512]), 0, "a description is nothing to leave for");
    configured.reload("[[export]]\nname = 'disk'\ndriver = 'null'\nproperties.size = '1M'\n");
    assert_eq!(client.reply(), None, "another device is");
    assert_eq!(configured.open("disk").read(0, 1), Ok(vec![0]));
    configured.gateway.stop();
}

#[test]
fn places_come_and_go_and_clients_notice_nothing() {
    let folder = tests::Server::folder();
    let place = |name: &str| {
        let path = folder.path().join(name);
        let text = format!("[[listen]]\nunix = '{}'\n", path.display());
        (path, text)
    };
    let ((one, listens_on_one), (two, listens_on_two)) = (place("one"), place("two"));
    let file = folder.path().join("gateway.toml");
    let write = |places: &str| fs::write(&file, [places, &memory("disk")].concat()).unwrap();
    write(&listens_on_one);
    let mut command = Command::new(Gateway::program());
    command.arg("--config").arg(&file);
    let mut server = tests::Server::start_unix(command, tests::Server::folder(), &one);
    let mut client = Raw::open(&one, "disk");
    write(&[listens_on_one, listens_on_two.clone()].concat());
    server.signal(Signal::SIGHUP);
    wait_until("it listens on both", || two.exists());
    assert_eq!(Raw::open(&two, "disk").write(0, 0, &[9]), 0);
    write(&listens_on_two);
    server.signal(Signal::SIGHUP);
    wait_until("it does not listen on the first any more", || !one.exists());
    assert_eq!(client.read(0, 1), Ok(vec![9]), "who is connected stays so");
    assert_eq!(Raw::open(&two, "disk").read(0, 1), Ok(vec![9]));
    // What is in the way of one changes nothing.
    let taken = folder.path().join("taken");
    fs::write(&taken, "a file").unwrap();
    write(&format!("[[listen]]\nunix = '{}'\n", taken.display()));
    server.signal(Signal::SIGHUP);
    wait_until("the log tells of it", || server.stderr().contains("the server goes on as before"));
    assert_eq!(Raw::open(&two, "disk").read(0, 1), Ok(vec![9]));
    server.stop();
    assert!(!two.exists() && taken.exists());
}

#[test]
fn clients_that_the_rules_do_not_admit_find_nothing() {
    requires!("nbdinfo");
    let own = nix::unistd::geteuid();
    let text = [
        memory_with("ours", &format!("allow.uid = [{own}]")),
        memory_with("theirs", &format!("allow.uid = [{}]", own.as_raw() + 1)),
    ];
    let mut configured = Configured::start(&text.concat());
    assert!(configured.has("ours") && !configured.has("theirs"));
    let list =
        run(Command::new(tool("nbdinfo").unwrap()).args(["--list", "--json", &configured.gateway.uri()]))
            .success();
    assert!(list.contains("\"ours\"") && !list.contains("\"theirs\""), "{list}");
    let said = configured.gateway.stderr();
    assert!(said.contains("may not open") && said.contains("its user is not among those allowed"), "{said}");
    // Who is not admitted any more is sent away.
    let mut client = configured.open("ours");
    configured.reload(&memory_with("ours", &format!("allow.uid = [{}]", own.as_raw() + 1)));
    assert_eq!(client.reply(), None);
    assert!(!configured.has("ours"));
    configured.gateway.stop();
}

#[test]
fn fio_verifies_through_fifty_reloads() {
    requires!("fio");
    let image = tests::Image::sparse(tests::Place::Disk, 64 * MIB);
    let steady = format!(
        "[[export]]\nname = 'steady'\ndriver = 'io_uring'\nproperties.path = '{}'\n",
        image.path().display()
    );
    let mut configured = Configured::start(&steady);
    let uri = format!("--uri={}", configured.gateway.uri_of("steady"));
    let load = thread::spawn(move || {
        let words = [
            "--name=verify",
            "--ioengine=nbd",
            &uri,
            "--rw=randwrite",
            "--bsrange=4k-64k",
            "--blockalign=4k",
            "--size=64M",
            "--io_size=256M",
            "--rate=32m",
            "--norandommap=0",
            "--iodepth=64",
            "--verify=crc32c",
            "--verify_fatal=1",
            "--verify_backlog=256",
            "--verify_state_save=0",
            "--randseed=1",
        ];
        run(Command::new(tool("fio").unwrap()).args(words))
    });
    wait_until("fio writes", || image.path().metadata().is_ok_and(|facts| facts.blocks() > 0));
    for round in 0..50 {
        let others = (0..round % 5).map(|number| memory(&format!("other{number}")));
        let text = [steady.clone()].into_iter().chain(others).collect::<String>();
        configured.reload(&text);
    }
    assert_eq!(configured.gateway.stderr().matches("the configuration is reloaded").count(), 50);
    assert!(!load.is_finished(), "fio ran meanwhile");
    let output = load.join().unwrap();
    assert!(
        output.status.success() && output.stdout.contains("err= 0"),
        "{}{}",
        output.stdout,
        output.stderr
    );
    configured.gateway.stop();
}
