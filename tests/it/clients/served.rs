//! The disks that every client is tried on.

use std::path::Path;
use std::process::Command;

use tests::{Gateway, Image, Output, Place, run, tool};

/// A disk that a gateway serves, in one of the ways it can.
pub(super) struct Served {
    pub(super) gateway: Gateway,
    pub(super) name: &'static str,
    /// The file behind it, if there is one.
    pub(super) image: Option<Image>,
}

/// Starts a gateway for a disk of this many bytes, in each way in turn, and hands it to the test.
pub(super) fn on_each_disk(size: u64, test: impl Fn(&Served)) {
    let served =
        Served { gateway: Gateway::start(&["memory", &size.to_string()]), name: "RAM disk", image: None };
    served.check(&test);
    let files = [
        ("file in memory", Place::Memory, "direct=false"),
        ("file in memory, direct", Place::Memory, "direct=true"),
        ("file on a disk", Place::Disk, "direct=false"),
        ("file on a disk, direct", Place::Disk, "direct=true"),
    ];
    for (name, place, direct) in files {
        let image = Image::sparse(place, size);
        let gateway = Gateway::start(&["io_uring", &image.property(), direct]);
        Served { gateway, name, image: Some(image) }.check(&test);
    }
}

impl Served {
    fn check(self, test: impl Fn(&Served)) {
        eprintln!("== {}", self.name);
        test(&self);
        self.gateway.stop();
    }

    pub(super) fn uri(&self) -> String {
        self.gateway.uri()
    }
}

/// Runs a tool of the test bed.
pub(crate) fn client(name: &str, words: &[&str]) -> Output {
    let tool = tool(name).expect("the test asked for it before");
    run(Command::new(tool).args(words))
}

/// A path as text, for a command line.
pub(super) fn text(path: &Path) -> &str {
    path.to_str().expect("paths of the tests are plain text")
}
