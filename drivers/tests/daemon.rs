//! The conformance suite with a real back-end: `virtio-blk-vhost-user` on qemu-storage-daemon.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

use std::process::Command;
use std::sync::{Arc, Mutex};

use drivers::testing::{Fixture, Setup, conformance};
use drivers::{Opener, Settings, StartOptions, Started, SystemOpener};
use tests::{Image, Place, Server, requires, tool};

/// Disks of one image format.
struct Daemons {
    format: &'static str,
    /// The daemon of the present disk, with its image.
    running: Mutex<Option<(Server, Image)>>,
}

impl Daemons {
    fn new(format: &'static str) -> Daemons {
        Daemons { format, running: Mutex::new(None) }
    }

    fn image(&self, capacity_bytes: u64) -> Image {
        let image = Image::sparse(Place::Memory, if self.format == "raw" { capacity_bytes } else { 0 });
        if self.format != "raw" {
            let mut command = Command::new(tool("qemu-img").expect("the test asked for it before"));
            command
                .args(["create", "-q", "-f", self.format])
                .arg(image.path())
                .arg(capacity_bytes.to_string());
            let _ = tests::run(&mut command).success();
        }
        image
    }
}

impl Fixture for Daemons {
    fn name(&self) -> String {
        format!("virtio-blk-vhost-user, qemu-storage-daemon over {}", self.format)
    }

    fn start(&self, setup: Setup) -> Arc<dyn Started> {
        let image = self.image(setup.capacity_bytes);
        let folder = Server::folder();
        let (socket, ready) = (folder.path().join("vhost"), folder.path().join("ready"));
        let writable = if setup.read_only { "off" } else { "on" };
        let mut command = Command::new(tool("qemu-storage-daemon").expect("the test asked for it before"));
        command.args([
            "--blockdev",
            &format!("driver=file,node-name=file,filename={},discard=unmap", image.path().display()),
            "--blockdev",
            &format!("driver={},node-name=disk,file=file,discard=unmap", self.format),
            "--export",
            &format!(
                "type=vhost-user-blk,id=export,node-name=disk,writable={writable},num-queues={},\
                 addr.type=unix,addr.path={}",
                setup.workers,
                socket.display()
            ),
            "--nbd-server",
            &format!("addr.type=unix,addr.path={}", ready.display()),
        ]);
        let server = Server::start_unix(command, folder, &ready);
        let driver = drivers::find("virtio-blk-vhost-user").expect("there is such a driver");
        let words = [format!("path={}", socket.display())];
        let settings =
            Settings::parse(driver.name(), driver.properties(), driver.magic_property(), &words).unwrap();
        let opener: Arc<dyn Opener> = Arc::new(SystemOpener);
        let options = StartOptions { workers: setup.workers, region_bytes: 8 << 20 };
        let started = driver
            .connect(&settings, &opener)
            .and_then(|connected| connected.start(&settings, options))
            .unwrap_or_else(|error| panic!("{}: {error}", self.name()));
        *self.running.lock().unwrap() = Some((server, image));
        started
    }

    fn capacity_unit_bytes(&self) -> u64 {
        512
    }

    fn tells_size(&self) -> bool {
        true
    }
}

#[test]
fn vhost_user_over_raw_conforms() {
    requires!("qemu-storage-daemon");
    conformance(&Daemons::new("raw"));
}

#[test]
fn vhost_user_over_qcow2_conforms() {
    requires!("qemu-storage-daemon", "qemu-img");
    conformance(&Daemons::new("qcow2"));
}
