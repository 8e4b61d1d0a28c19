//! What the bed consists of: Debian packages, and the programs that are wanted from them.

/// Packages of Debian 13, without their recommendations (no desktop parts of QEMU).
pub(crate) const PACKAGES: &[&str] = &[
    // Servers and clients to test and measure against. nbdkit has its file, memory and blkio plugins inside.
    "nbdkit",
    "libnbd-bin",
    "python3-libnbd",
    // A parser of metrics that Prometheus's own project has written.
    "python3-prometheus-client",
    "nbd-client",
    "fio",
    "qemu-utils",
    // Block modules that qemu loads on demand, blkio among them.
    "qemu-block-extra",
    "qemu-system-x86",
    // `nbdinfo` describes contents with it.
    "file",
    // File systems and partition tables without loop devices.
    "e2fsprogs",
    "dosfstools",
    "mtools",
    "fdisk",
    "syslinux",
    "syslinux-common",
    // Kernels and initial RAM disks of the emulated guest.
    "busybox-static",
    "cpio",
    "kmod",
    "xz-utils",
    "zstd",
    // `vdpa` makes vDPA devices.
    "iproute2",
    // Judges of what `cargo xtask dist` makes: the package, its manual, its units.
    "dpkg",
    "lintian",
    "mandoc",
    "systemd",
    // Shells that ask the gateway for candidates.
    "bash",
    "bash-completion",
    "fish",
    "zsh",
    // An example makes a filter of system calls with it.
    "jq",
];

/// What a fresh Debian system has on which the `.deb` is installed, beside its smallest set.
pub(crate) const FRESH: &[&str] =
    &["bash-completion", "bsdutils", "libnbd-bin", "man-db", "systemd", "util-linux"];

/// Programs that get a wrapper in `bin`.
pub(crate) const TOOLS: &[&str] = &[
    "nbdinfo",
    "nbdcopy",
    "nbddump",
    "nbdfuse",
    "nbdsh",
    "nbdkit",
    "nbd-client",
    "fio",
    "qemu-img",
    "qemu-io",
    "qemu-nbd",
    "qemu-storage-daemon",
    "qemu-system-x86_64",
    "mke2fs",
    "e2fsck",
    "debugfs",
    "dumpe2fs",
    "tune2fs",
    "mkfs.ext4",
    "mkfs.fat",
    "fsck.fat",
    "mformat",
    "mcopy",
    "mdir",
    "mmd",
    "mtype",
    "sfdisk",
    "syslinux",
    "busybox",
    "cpio",
    "depmod",
    "dpkg-deb",
    "bash",
    "fish",
    "jq",
    "ldd",
    "lintian",
    "mandoc",
    "modprobe",
    "systemd-analyze",
    "xz",
    "zsh",
    "zstd",
];

/// Folders of a Debian tree that hold programs, in the order of a root user's `PATH`.
pub(crate) const FOLDERS: &[&str] = &["usr/sbin", "usr/bin"];
