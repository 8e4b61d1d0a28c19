//! Unix domain sockets: what may be in the way, and what is left behind.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use drivers::Error;
use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

use super::BACKLOG;

/// Longest path of a socket in bytes: `sun_path` holds 108 with the final zero (unix(7)).
pub(crate) const PATH_BYTES_MAX: usize = 107;

/// Names tried for a private folder before giving up.
const FOLDER_TRIES: u32 = 1000;

/// Who may connect to a socket file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Whoever the umask does not keep out.
    AsUsual,
    /// Its owner and root.
    Owner,
}

/// A socket file that this server made. Dropping this removes it, unless it is another one by now.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    /// Listens on `path`, for this user and root only. The file of a server that is gone is replaced.
    ///
    /// # Errors
    /// A server listens there, or something else is there, or the system says no.
    pub(crate) fn open_private(path: &Path) -> Result<(Socket, SocketFile), Error> {
        SocketFile::open(path, Access::Owner)
    }

    /// As [`SocketFile::open_private`], for others too.
    pub(super) fn open(path: &Path, access: Access) -> Result<(Socket, SocketFile), Error> {
        let bytes = path.as_os_str().len();
        if bytes > PATH_BYTES_MAX {
            return Err(Error::device(format!(
                "cannot listen on socket '{}': its path has {bytes} bytes, and at most {PATH_BYTES_MAX} are possible",
                path.display()
            ))
            .hint("choose a shorter path, or a relative one in a folder with a shorter path"));
        }
        if let Ok(facts) = fs::symlink_metadata(path) {
            clear_the_way(path, &facts)?;
        }
        let failed = |cause: io::Error| refused(path, &cause);
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
        if access == Access::Owner {
            // The file takes its mode from the socket (Linux), so it is never there with another one.
            let mode = Mode::S_IRUSR | Mode::S_IWUSR;
            fchmod(&socket, mode).map_err(|cause| failed(cause.into()))?;
        }
        socket.bind(&SockAddr::unix(path).map_err(failed)?).map_err(failed)?;
        let facts = fs::symlink_metadata(path).map_err(failed)?;
        let file = SocketFile { path: path.to_owned(), identity: identity(&facts) };
        socket.listen(BACKLOG).map_err(failed)?;
        Ok((socket, file))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|facts| identity(&facts) == self.identity);
        if ours && let Err(cause) = fs::remove_file(&self.path) {
            tracing::warn!("cannot remove socket {}: {cause}", self.path.display());
        }
    }
}

fn identity(facts: &Metadata) -> (u64, u64) {
    (facts.dev(), facts.ino())
}

/// Tells a file from one that has taken its number.
fn birth(facts: &Metadata) -> ((u64, u64), (i64, i64)) {
    (identity(facts), (facts.ctime(), facts.ctime_nsec()))
}

/// Whether somebody listens there, who may be busy.
fn connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        // The queue of those who wait is full.
        Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => Ok(()),
        result => result,
    }
}

/// Removes the socket of a server that is gone.
fn clear_the_way(path: &Path, facts: &Metadata) -> Result<(), Error> {
    let shown = path.display();
    if !facts.file_type().is_socket() {
        return Err(Error::device(format!(
            "cannot listen on socket '{shown}': something that is no socket is there already"
        ))
        .hint("choose another path, or remove it"));
    }
    match connect(path) {
        Ok(()) => {
            Err(Error::device(format!("cannot listen on socket '{shown}': another server listens there"))
                .hint("choose another path, or stop that server"))
        }
        // Nobody listens.
        Err(cause) if cause.kind() == io::ErrorKind::ConnectionRefused => {
            // Another server may have put its own socket there in this moment, even under the same number.
            let same = fs::symlink_metadata(path).is_ok_and(|now| birth(&now) == birth(facts));
            if !same {
                return Ok(());
            }
            tracing::info!("socket {shown} was left behind by a server that is gone; replacing it");
            fs::remove_file(path).map_err(|cause| {
                Error::system(format!("remove socket '{shown}' that a server left behind"), &cause)
                    .hint("remove it, or choose another path")
            })
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(cause) => {
            Err(Error::system(format!("find out whether a server listens on socket '{shown}'"), &cause)
                .hint("choose another path, or remove it"))
        }
    }
}

fn refused(path: &Path, cause: &io::Error) -> Error {
    let error = Error::system(format!("listen on socket '{}'", path.display()), cause);
    match cause.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => error.hint("the folder it shall lie in does not exist"),
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => error.hint("choose a folder that you may write to"),
        Some(libc::EADDRINUSE) => error.hint("another server has just taken it; choose another path"),
        _ => error,
    }
}

/// A folder that only this user may enter. Dropping this removes it.
#[derive(Debug)]
pub(super) struct PrivateFolder {
    path: PathBuf,
}

impl PrivateFolder {
    /// Makes one in the folder for temporary files, or in `/tmp` if that one's path is too long for a socket.
    ///
    /// # Errors
    /// What the system answered.
    pub(super) fn new() -> Result<PrivateFolder, Error> {
        let mut parent = std::path::absolute(std::env::temp_dir()).unwrap_or_else(|_| "/tmp".into());
        if parent.as_os_str().len() > PATH_BYTES_MAX / 2 {
            parent = "/tmp".into();
        }
        let pid = std::process::id();
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for number in 0..FOLDER_TRIES {
            let path = parent.join(format!("gateway-{pid}-{number}"));
            // Fails on whatever is there already, links included, so nobody can prepare the place.
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(PrivateFolder { path }),
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => last = cause,
                Err(cause) => {
                    last = cause;
                    break;
                }
            }
        }
        Err(Error::system(format!("make a private folder in '{}'", parent.display()), &last)
            .hint("set TMPDIR to a folder that you may write to, or give a path with -U"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        if let Err(cause) = fs::remove_dir(&self.path) {
            tracing::warn!("cannot remove folder {}: {cause}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    fn message(path: &Path) -> String {
        SocketFile::open(path, Access::AsUsual).expect_err("the way is not free").to_string()
    }

    #[test]
    fn a_private_folder_is_private_and_goes_with_its_owner() {
        let folder = PrivateFolder::new().unwrap();
        let path = folder.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let (_socket, file) = SocketFile::open(&path.join("socket"), Access::AsUsual).unwrap();
        drop(file);
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_private_socket_is_for_its_owner() {
        let folder = PrivateFolder::new().unwrap();
        let path = folder.path().join("socket");
        let (_socket, _file) = SocketFile::open_private(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_live_socket_is_left_alone() {
        let folder = PrivateFolder::new().unwrap();
        let path = folder.path().join("socket");
        let (_socket, _file) = SocketFile::open(&path, Access::AsUsual).unwrap();
        let text = message(&path);
        assert!(text.contains("another server listens there") && text.contains("choose"), "{text}");
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn a_socket_left_behind_is_replaced() {
        let folder = PrivateFolder::new().unwrap();
        let path = folder.path().join("socket");
        let (socket, file) = SocketFile::open(&path, Access::AsUsual).unwrap();
        std::mem::forget(file);
        drop(socket);
        assert!(path.exists());
        let (_socket, _file) = SocketFile::open(&path, Access::AsUsual).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = PrivateFolder::new().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "precious").unwrap();
        assert!(message(&path).contains("no socket"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_socket_of_a_successor_is_not_removed() {
        let folder = PrivateFolder::new().unwrap();
        let path = folder.path().join("socket");
        let (_old, file) = SocketFile::open(&path, Access::AsUsual).unwrap();
        fs::remove_file(&path).unwrap();
        let (_new, successor) = SocketFile::open(&path, Access::AsUsual).unwrap();
        assert_ne!(file.identity, successor.identity);
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn a_path_that_is_too_long_is_refused_by_its_length() {
        let text = message(Path::new(&format!("/tmp/{}", "x".repeat(200))));
        assert!(text.contains("205 bytes") && text.contains("107"), "{text}");
    }
}
