//! Every server of the comparison, with the command line that starts it.

use std::fmt;
use std::path::PathBuf;

use super::load::Address;

/// A server program in one configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This project, on whatever driver the disk needs.
    Gateway,
    /// nbdkit's file, memory or null plugin.
    Nbdkit,
    /// nbdkit's blkio plugin with libblkio's io_uring driver.
    NbdkitBlkio,
    /// qemu-nbd as people start it: its thread pool does the I/O.
    QemuNbd,
    /// qemu-nbd with io_uring.
    QemuNbdUring,
    /// qemu-storage-daemon with io_uring.
    QemuStorageDaemon,
}

/// What is served.
#[derive(Debug, Clone)]
pub(crate) enum Disk {
    /// A file.
    File(PathBuf),
    /// A RAM disk of the server's own, of this many bytes.
    Memory(u64),
    /// Reads zeroes; this many bytes.
    Null(u64),
}

impl Kind {
    /// All of them, in the order of the tables.
    pub(crate) const ALL: [Self; 6] = [
        Self::Gateway,
        Self::Nbdkit,
        Self::NbdkitBlkio,
        Self::QemuNbd,
        Self::QemuNbdUring,
        Self::QemuStorageDaemon,
    ];

    /// Name of the program.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Nbdkit | Self::NbdkitBlkio => "nbdkit",
            Self::QemuNbd | Self::QemuNbdUring => "qemu-nbd",
            Self::QemuStorageDaemon => "qemu-storage-daemon",
        }
    }

    /// Name for `--server` and for files.
    pub(crate) fn slug(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Nbdkit => "nbdkit",
            Self::NbdkitBlkio => "nbdkit-blkio",
            Self::QemuNbd => "qemu-nbd",
            Self::QemuNbdUring => "qemu-nbd-io_uring",
            Self::QemuStorageDaemon => "qemu-storage-daemon",
        }
    }

    /// Name in tables, where the disk decides about drivers and plugins.
    pub(crate) fn title(self, disk: &Disk) -> String {
        let name = match (self, disk) {
            (Self::Gateway, Disk::File(_)) => "gateway io_uring",
            (Self::Gateway, Disk::Memory(_)) => "gateway memory",
            (Self::Gateway, Disk::Null(_)) => "gateway null",
            (Self::Nbdkit, Disk::File(_)) => "nbdkit file",
            (Self::Nbdkit, Disk::Memory(_)) => "nbdkit memory",
            (Self::Nbdkit, Disk::Null(_)) => "nbdkit null",
            (Self::NbdkitBlkio, _) => "nbdkit blkio io_uring",
            (Self::QemuNbd, _) => "qemu-nbd",
            (Self::QemuNbdUring, _) => "qemu-nbd --aio=io_uring",
            (Self::QemuStorageDaemon, _) => "qemu-storage-daemon aio=io_uring",
        };
        name.into()
    }

    /// Arguments that make the program serve `disk` at `address` in the foreground.
    pub(crate) fn arguments(self, disk: &Disk, address: &Address) -> Vec<String> {
        match self {
            Self::Gateway => [gateway_listen(address), gateway_disk(disk)].concat(),
            Self::Nbdkit => [nbdkit_listen(address), nbdkit_plugin(disk)].concat(),
            Self::NbdkitBlkio => {
                [nbdkit_listen(address), strings(["blkio", "io_uring"]), vec![format!("path={}", file(disk))]]
                    .concat()
            }
            Self::QemuNbd => qemu_nbd(address, disk, None),
            Self::QemuNbdUring => qemu_nbd(address, disk, Some("--aio=io_uring")),
            Self::QemuStorageDaemon => qemu_storage_daemon(address, disk),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

fn strings<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(String::from).into()
}

/// Path of a disk that is a file; the scenarios give no other disk to a server that needs one.
fn file(disk: &Disk) -> String {
    match disk {
        Disk::File(path) => path.display().to_string(),
        Disk::Memory(_) | Disk::Null(_) => "(no file)".into(),
    }
}

fn gateway_listen(address: &Address) -> Vec<String> {
    match address {
        Address::Unix(path) => vec!["-U".into(), path.display().to_string()],
        Address::Tcp(host, port) => vec!["-i".into(), host.clone(), "-p".into(), port.to_string()],
    }
}

fn gateway_disk(disk: &Disk) -> Vec<String> {
    match disk {
        Disk::File(path) => vec!["io_uring".into(), format!("path={}", path.display())],
        Disk::Memory(size_bytes) => vec!["memory".into(), size_bytes.to_string()],
        Disk::Null(size_bytes) => vec!["null".into(), size_bytes.to_string()],
    }
}

fn nbdkit_listen(address: &Address) -> Vec<String> {
    // The same option names as the gateway's; nbdkit forks without -f.
    [strings(["-f"]), gateway_listen(address)].concat()
}

fn nbdkit_plugin(disk: &Disk) -> Vec<String> {
    match disk {
        Disk::File(path) => vec!["file".into(), path.display().to_string()],
        Disk::Memory(size_bytes) => vec!["memory".into(), size_bytes.to_string()],
        Disk::Null(size_bytes) => vec!["null".into(), size_bytes.to_string()],
    }
}

/// `-e 16`: without it a second client waits for the first one; `-t`: serve on after the first one leaves.
fn qemu_nbd(address: &Address, disk: &Disk, aio: Option<&str>) -> Vec<String> {
    let mut arguments = strings(["-f", "raw", "-t", "-e", "16", "--cache=writeback"]);
    arguments.extend(aio.map(String::from));
    arguments.extend(match address {
        Address::Unix(path) => vec!["-k".into(), path.display().to_string()],
        Address::Tcp(host, port) => vec!["-b".into(), host.clone(), "-p".into(), port.to_string()],
    });
    arguments.push(file(disk));
    arguments
}

fn qemu_storage_daemon(address: &Address, disk: &Disk) -> Vec<String> {
    let listen = match address {
        Address::Unix(path) => format!("addr.type=unix,addr.path={}", path.display()),
        Address::Tcp(host, port) => format!("addr.type=inet,addr.host={host},addr.port={port}"),
    };
    let file = format!("driver=file,node-name=disk,filename={},aio=io_uring,cache.direct=off", file(disk));
    // The export is made last, so that a server which answers has it.
    vec![
        "--blockdev".into(),
        file,
        "--nbd-server".into(),
        format!("{listen},max-connections=16"),
        "--export".into(),
        "type=nbd,id=export,node-name=disk,name=,writable=on".into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_is_told_its_socket_and_its_disk() {
        let disk = Disk::File("/images/a".into());
        let unix = Address::Unix("/run/s".into());
        let tcp = Address::Tcp("127.0.0.1".into(), 4711);
        for kind in Kind::ALL {
            let line = kind.arguments(&disk, &unix).join(" ");
            assert!(line.contains("/run/s") && line.contains("/images/a"), "{kind}: {line}");
            let line = kind.arguments(&disk, &tcp).join(" ");
            assert!(line.contains("127.0.0.1") && line.contains("4711"), "{kind}: {line}");
        }
    }
}
