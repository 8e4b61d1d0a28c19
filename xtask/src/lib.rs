//! Tasks of the workspace: `cargo xtask …`.
//!
//! | task | does |
//! |---|---|
//! | `setup` | makes the test bed: other people's NBD tools, a kernel, a bootable image ([`bed`]) |
//! | `check` | format, lints, documentation, tidiness: the gate before a commit ([`check`]) |
//! | `tidy` | only the rules that no other tool knows ([`tidy`]) |
//! | `test` | installs what the tests need and runs them all; what CI runs ([`test`](mod@test)) |
//! | `fuzz` | replays corpora and looks for new inputs ([`fuzz`]) |
//! | `boot` | boots a disk under software emulation ([`boot`]) |
//! | `guest` | runs scenarios in a guest with devices and a kernel of its own ([`guest`]) |
//! | `dist` | packs the gateway as others install it ([`dist`]) |
//! | `bench` | speed and CPU per request against other servers ([`bench`](mod@bench)) |
//! | `flamegraph` | where the gateway spends its time, as a picture ([`bench::flamegraph`]) |
//!
//! # What it is not
//!
//! It contains nothing of the product, but for the protocol's layouts, which its load generator takes from `nbd`:
//! the servers that it tests and measures, the gateway included, are programs that it starts. Tests are in the
//! crates and in `tests/`; what is here makes the places for them.
//!
//! # What a machine needs
//!
//! Rust with a C compiler and git, on Linux for x86-64. The rest is installed by the tasks that need it, by
//! `apt-get` where there is one and the user is root; otherwise the message says what to install. Making the bed
//! on a system other than Debian 13 takes root once (debootstrap). Nothing is fetched from anywhere but the
//! package archives that the machine's own package managers are set to, and signatures are checked.
//!
//! # How long it takes
//!
//! The bed: about two minutes and 1.3 GB, once; then it is kept, in the user's cache folder, and `setup` takes no
//! time. A change of the list of packages or of the way the image is made rebuilds that part by itself. To start
//! afresh, remove the folder.
//!
//! # Builds
//!
//! Tasks, checks and tests share the `dev` profile. `bench` and `flamegraph` alone need optimised code: the
//! command line starts them again as release builds.

pub mod bed;
pub mod bench;
pub mod boot;
pub mod check;
pub mod dist;
pub mod fuzz;
pub mod guest;
pub mod image;
mod repo;
mod sh;
pub mod test;
pub mod tidy;
