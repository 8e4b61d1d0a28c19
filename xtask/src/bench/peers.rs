//! Every server of the comparison, with the command line that starts it; and parts of the gateway that are measured by
//! themselves, which serve nobody.

use std::fmt;
use std::path::PathBuf;

use super::load::Address;
use super::part;

/// A server program in one configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This project, on whatever driver the disk needs.
    Gateway,
    /// The same with one connection, whatever the scenario says.
    GatewayOneConnection,
    /// nbdkit's file, memory or null plugin.
    Nbdkit,
    /// nbdkit's blkio plugin with libblkio's driver for the disk.
    NbdkitBlkio,
    /// qemu-nbd as people start it: its thread pool does the I/O.
    QemuNbd,
    /// qemu-nbd with io_uring.
    QemuNbdUring,
    /// qemu-nbd with libblkio's driver for the disk.
    QemuNbdBlkio,
    /// qemu-storage-daemon with io_uring.
    QemuStorageDaemon,
    /// The gateway's NVMe driver alone, see [`super::part`].
    NvmeDriver,
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
    /// Behind the vhost-user back-end that listens here.
    VhostUser(PathBuf),
}

impl Kind {
    /// All of them, in the order of the tables.
    pub(crate) const ALL: [Self; 9] = [
        Self::Gateway,
        Self::GatewayOneConnection,
        Self::Nbdkit,
        Self::NbdkitBlkio,
        Self::QemuNbd,
        Self::QemuNbdUring,
        Self::QemuNbdBlkio,
        Self::QemuStorageDaemon,
        Self::NvmeDriver,
    ];

    /// Whether this is a part of the gateway alone rather than a server.
    pub(crate) fn is_part(self) -> bool {
        self == Self::NvmeDriver
    }

    /// Name of the program.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Gateway | Self::GatewayOneConnection => "gateway",
            Self::Nbdkit | Self::NbdkitBlkio => "nbdkit",
            Self::QemuNbd | Self::QemuNbdUring | Self::QemuNbdBlkio => "qemu-nbd",
            Self::QemuStorageDaemon => "qemu-storage-daemon",
            Self::NvmeDriver => part::PROGRAM,
        }
    }

    /// Name for `--server` and for files.
    pub(crate) fn slug(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::GatewayOneConnection => "gateway-1conn",
            Self::Nbdkit => "nbdkit",
            Self::NbdkitBlkio => "nbdkit-blkio",
            Self::QemuNbd => "qemu-nbd",
            Self::QemuNbdUring => "qemu-nbd-io_uring",
            Self::QemuNbdBlkio => "qemu-nbd-blkio",
            Self::QemuStorageDaemon => "qemu-storage-daemon",
            Self::NvmeDriver => "nvme-driver",
        }
    }

    /// Connections that it gets where a scenario asks for this many.
    pub(crate) fn connections(self, of_scenario: usize) -> usize {
        if self == Self::GatewayOneConnection { 1 } else { of_scenario }
    }

    /// The file that says, by having content, that the server is ready to accept; nothing where connecting to it
    /// does no harm.
    ///
    /// nbdkit's blkio plugin connects to a vhost-user back-end for each of its clients, and hangs at the second.
    pub(crate) fn ready_file(self, disk: &Disk, address: &Address) -> Option<PathBuf> {
        match (self, disk, address) {
            (Self::NbdkitBlkio, Disk::VhostUser(_), Address::Unix(path)) => Some(path.with_extension("pid")),
            _ => None,
        }
    }

    /// Name in tables, where the disk decides about drivers and plugins.
    pub(crate) fn title(self, disk: &Disk) -> String {
        let name = match (self, disk) {
            (Self::GatewayOneConnection, _) => "gateway, 1 connection",
            (Self::Gateway, Disk::File(_)) => "gateway io_uring",
            (Self::Gateway, Disk::Memory(_)) => "gateway memory",
            (Self::Gateway, Disk::Null(_)) => "gateway null",
            (Self::Gateway, Disk::VhostUser(_)) => "gateway virtio-blk-vhost-user",
            (Self::Nbdkit, Disk::File(_)) => "nbdkit file",
            (Self::Nbdkit, Disk::Memory(_)) => "nbdkit memory",
            (Self::Nbdkit, _) => "nbdkit null",
            (Self::NbdkitBlkio, Disk::VhostUser(_)) => "nbdkit blkio virtio-blk-vhost-user",
            (Self::NbdkitBlkio, _) => "nbdkit blkio io_uring",
            (Self::QemuNbd, _) => "qemu-nbd",
            (Self::QemuNbdUring, _) => "qemu-nbd --aio=io_uring",
            (Self::QemuNbdBlkio, _) => "qemu-nbd virtio-blk-vhost-user",
            (Self::QemuStorageDaemon, _) => "qemu-storage-daemon aio=io_uring",
            (Self::NvmeDriver, _) => "driver nvme-vfio-pci alone, polled",
        };
        name.into()
    }

    /// Arguments that make the program serve `disk` at `address` in the foreground; a part serves nothing and takes
    /// others.
    pub(crate) fn arguments(self, disk: &Disk, address: &Address) -> Vec<String> {
        match self {
            Self::Gateway | Self::GatewayOneConnection => {
                [gateway_listen(address), gateway_disk(disk)].concat()
            }
            Self::Nbdkit => [nbdkit_listen(address), nbdkit_plugin(disk)].concat(),
            Self::NbdkitBlkio => {
                let pid_file = self.ready_file(disk, address);
                let pid_file = pid_file.iter().flat_map(|path| ["-P".into(), path.display().to_string()]);
                [nbdkit_listen(address), pid_file.collect(), nbdkit_blkio(disk)].concat()
            }
            Self::QemuNbd => qemu_nbd(address, disk, None),
            Self::QemuNbdUring => qemu_nbd(address, disk, Some("--aio=io_uring")),
            Self::QemuNbdBlkio => qemu_nbd_blkio(address, disk),
            Self::QemuStorageDaemon => qemu_storage_daemon(address, disk),
            Self::NvmeDriver => Vec::new(),
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
        Disk::File(path) | Disk::VhostUser(path) => path.display().to_string(),
        Disk::Memory(_) | Disk::Null(_) => "(no file)".into(),
    }
}

fn gateway_listen(address: &Address) -> Vec<String> {
    match address {
        Address::Unix(path) => vec!["-U".into(), path.display().to_string()],
        Address::Tcp(host, port) => vec!["-i".into(), host.clone(), "-p".into(), port.to_string()],
        Address::Tls(host, port, folder) => {
            let tcp = gateway_listen(&Address::Tcp(host.clone(), *port));
            let certificates = format!("--tls-certificates={}", folder.display());
            [tcp, vec!["--tls=require".into(), certificates]].concat()
        }
    }
}

fn gateway_disk(disk: &Disk) -> Vec<String> {
    match disk {
        Disk::File(path) => vec!["io_uring".into(), format!("path={}", path.display())],
        Disk::Memory(size_bytes) => vec!["memory".into(), size_bytes.to_string()],
        Disk::Null(size_bytes) => vec!["null".into(), size_bytes.to_string()],
        Disk::VhostUser(path) => vec!["virtio-blk-vhost-user".into(), format!("path={}", path.display())],
    }
}

fn nbdkit_listen(address: &Address) -> Vec<String> {
    // The same option names as the gateway's; nbdkit forks without -f.
    [strings(["-f"]), gateway_listen(address)].concat()
}

fn nbdkit_plugin(disk: &Disk) -> Vec<String> {
    match disk {
        Disk::File(path) | Disk::VhostUser(path) => vec!["file".into(), path.display().to_string()],
        Disk::Memory(size_bytes) => vec!["memory".into(), size_bytes.to_string()],
        Disk::Null(size_bytes) => vec!["null".into(), size_bytes.to_string()],
    }
}

fn nbdkit_blkio(disk: &Disk) -> Vec<String> {
    let driver = if let Disk::VhostUser(_) = disk { "virtio-blk-vhost-user" } else { "io_uring" };
    vec!["blkio".into(), driver.into(), format!("path={}", file(disk))]
}

fn qemu_nbd(address: &Address, disk: &Disk, aio: Option<&str>) -> Vec<String> {
    let mut arguments = [strings(["-f", "raw", "--cache=writeback"]), qemu_nbd_listen(address)].concat();
    arguments.extend(aio.map(String::from));
    arguments.push(file(disk));
    arguments
}

/// libblkio demands that there be no cache above it.
fn qemu_nbd_blkio(address: &Address, disk: &Disk) -> Vec<String> {
    let image = format!("driver=virtio-blk-vhost-user,path={},cache.direct=on", file(disk));
    [qemu_nbd_listen(address), vec!["--image-opts".into(), image]].concat()
}

/// `-e 16`: without it a second client waits for the first one; `-t`: serve on after the first one leaves.
fn qemu_nbd_listen(address: &Address) -> Vec<String> {
    let listen = match address {
        Address::Unix(path) => vec!["-k".into(), path.display().to_string()],
        Address::Tcp(host, port) | Address::Tls(host, port, _) => {
            vec!["-b".into(), host.clone(), "-p".into(), port.to_string()]
        }
    };
    let tls = match address {
        Address::Tls(_, _, folder) => vec![
            "--object".into(),
            format!("tls-creds-x509,id=tls,endpoint=server,verify-peer=off,dir={}", folder.display()),
            "--tls-creds=tls".into(),
        ],
        _ => Vec::new(),
    };
    [strings(["-t", "-e", "16"]), listen, tls].concat()
}

fn qemu_storage_daemon(address: &Address, disk: &Disk) -> Vec<String> {
    let listen = match address {
        Address::Unix(path) => format!("addr.type=unix,addr.path={}", path.display()),
        Address::Tcp(host, port) | Address::Tls(host, port, _) => {
            format!("addr.type=inet,addr.host={host},addr.port={port}")
        }
    };
    let tls = match address {
        Address::Tls(_, _, folder) => vec![
            "--object".into(),
            format!("tls-creds-x509,id=tls,endpoint=server,verify-peer=off,dir={}", folder.display()),
        ],
        _ => Vec::new(),
    };
    let encrypted = if tls.is_empty() { "" } else { ",tls-creds=tls" };
    let file = format!("driver=file,node-name=disk,filename={},aio=io_uring,cache.direct=off", file(disk));
    // The export is made last, so that a server which answers has it.
    let server = vec![
        "--blockdev".into(),
        file,
        "--nbd-server".into(),
        format!("{listen},max-connections=16{encrypted}"),
        "--export".into(),
        "type=nbd,id=export,node-name=disk,name=,writable=on".into(),
    ];
    [tls, server].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_is_told_its_socket_and_its_disk() {
        let disk = Disk::File("/images/a".into());
        let unix = Address::Unix("/run/s".into());
        let tcp = Address::Tcp("127.0.0.1".into(), 4711);
        let tls = Address::Tls("127.0.0.1".into(), 4711, "/pki".into());
        for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_part()) {
            let line = kind.arguments(&disk, &unix).join(" ");
            assert!(line.contains("/run/s") && line.contains("/images/a"), "{kind}: {line}");
            let line = kind.arguments(&disk, &tcp).join(" ");
            assert!(line.contains("127.0.0.1") && line.contains("4711"), "{kind}: {line}");
            assert!(!line.contains("tls"), "{kind}: {line}");
            let line = kind.arguments(&disk, &tls).join(" ");
            assert!(line.contains("4711") && line.contains("tls") && line.contains("/pki"), "{kind}: {line}");
        }
    }

    #[test]
    fn a_server_that_bears_one_client_is_not_asked_whether_it_serves() {
        let disk = Disk::VhostUser("/run/back-end".into());
        let address = Address::Unix("/run/s.sock".into());
        let asked = Kind::ALL.into_iter().filter(|kind| kind.ready_file(&disk, &address).is_none());
        assert!(!asked.collect::<Vec<_>>().contains(&Kind::NbdkitBlkio));
        let line = Kind::NbdkitBlkio.arguments(&disk, &address).join(" ");
        assert!(line.contains("-P /run/s.pid blkio virtio-blk-vhost-user path=/run/back-end"), "{line}");
    }
}
