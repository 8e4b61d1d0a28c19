//! `gateway pki`: an authority, certificates and pre-shared keys to begin with.
//!
//! The folder is for the server, and also for clients on the same machine. Each client has a folder of its own in it,
//! with all that it needs and nothing that it must not have.

mod files;
mod issue;

use std::net::IpAddr;
use std::path::PathBuf;

use drivers::Error;
use openssl::error::ErrorStack;
use openssl::rand::rand_bytes;

use super::certificates::{CA_CERTIFICATE, SERVER_CERTIFICATE, SERVER_KEY, first_reason};
use files::{Files, Secrecy};
use issue::{Authority, Pair, Purpose};

/// What only this program makes and nobody but the authority needs.
const CA_KEY: &str = "ca-key.pem";

/// What a client shows, and its private key.
const CLIENT_CERTIFICATE: &str = "client-cert.pem";
const CLIENT_KEY: &str = "client-key.pem";

/// Users and their keys.
const KEYS: &str = "keys.psk";

/// Bytes of a pre-shared key.
const KEY_BYTES: usize = 32;

/// Longest common name of a certificate (RFC 5280, appendix A.1, `ub-common-name`).
const NAME_BYTES_MAX: usize = 64;

/// What is to be made.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) folder: PathBuf,
    /// Names and addresses that clients have for the server, besides those that every machine has.
    pub(crate) hosts: Vec<String>,
    /// Names of clients; the user's if there are none.
    pub(crate) clients: Vec<String>,
    /// How long certificates are valid.
    pub(crate) days: u32,
}

/// Makes everything, and returns what to tell the user.
///
/// # Errors
/// A name cannot be used, a file is there already, or the system said no.
pub(crate) fn make(mut wanted: Wanted) -> Result<String, Error> {
    if wanted.clients.is_empty() {
        wanted.clients.push(user());
    }
    wanted.clients.iter().try_for_each(|name| check_name(name))?;
    let is_known = |(index, name): &(usize, &String)| wanted.clients[..*index].contains(name);
    if let Some((_, name)) = wanted.clients.iter().enumerate().find(is_known) {
        return Err(Error::usage(format!("client {name:?} is given twice")).hint("give it once"));
    }
    let hosts = hosts(&wanted.hosts);
    let mut files = Files::default();
    plan(&wanted, &hosts, &mut files)
        .map_err(|cause| Error::device(format!("cannot make certificates: {}", first_reason(&cause))))?;
    files.write(&wanted.folder)?;
    Ok(tell(&wanted, &hosts))
}

fn plan(wanted: &Wanted, hosts: &[String], files: &mut Files) -> Result<(), ErrorStack> {
    let authority = Authority::new(wanted.days)?;
    let ca = authority.pair()?;
    files.add(CA_CERTIFICATE, &ca.certificate, Secrecy::Public);
    files.add(CA_KEY, &ca.key, Secrecy::Secret);
    let server = authority.issue(own_name(hosts), &Purpose::Server(hosts))?;
    files.add(SERVER_CERTIFICATE, &server.certificate, Secrecy::Public);
    files.add(SERVER_KEY, &server.key, Secrecy::Secret);
    let mut keys = String::new();
    for (index, client) in wanted.clients.iter().enumerate() {
        let pair = authority.issue(client, &Purpose::Client)?;
        let line = format!("{client}:{}\n", random_key()?);
        if index == 0 {
            add_client(files, "", &pair);
        }
        let folder = format!("{client}/");
        files.add(&format!("{folder}{CA_CERTIFICATE}"), &ca.certificate, Secrecy::Public);
        add_client(files, &folder, &pair);
        files.add(&format!("{folder}{KEYS}"), line.as_bytes(), Secrecy::Secret);
        keys.push_str(&line);
    }
    files.add(KEYS, keys.as_bytes(), Secrecy::Secret);
    Ok(())
}

fn add_client(files: &mut Files, folder: &str, pair: &Pair) {
    files.add(&format!("{folder}{CLIENT_CERTIFICATE}"), &pair.certificate, Secrecy::Public);
    files.add(&format!("{folder}{CLIENT_KEY}"), &pair.key, Secrecy::Secret);
}

/// In hexadecimal digits.
fn random_key() -> Result<String, ErrorStack> {
    let mut key = [0; KEY_BYTES];
    rand_bytes(&mut key)?;
    Ok(key.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The name that libnbd gives a client without one.
fn user() -> String {
    let named = |variable| std::env::var(variable).ok().filter(|name| check_name(name).is_ok());
    named("LOGNAME").or_else(|| named("USER")).unwrap_or_else(|| "client".into())
}

/// What clients call this machine.
fn hosts(more: &[String]) -> Vec<String> {
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut hosts: Vec<String> = Vec::new();
    let known = ["localhost", "127.0.0.1", "::1", own.trim()];
    for host in known.into_iter().chain(more.iter().map(String::as_str)) {
        if !host.is_empty() && !hosts.iter().any(|known| known == host) {
            hosts.push(host.to_owned());
        }
    }
    hosts
}

/// What the server's certificate is called: the first of its names by which other machines may know it.
fn own_name(hosts: &[String]) -> &str {
    let is_name = |host: &&String| {
        host.as_str() != "localhost" && host.len() <= NAME_BYTES_MAX && host.parse::<IpAddr>().is_err()
    };
    hosts.iter().find(is_name).map_or("localhost", String::as_str)
}

/// A client's name becomes a folder, the name of a certificate, and a user in the file of keys.
fn check_name(name: &str) -> Result<(), Error> {
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && !"/:".contains(c);
    let is_file =
        [CA_CERTIFICATE, CA_KEY, SERVER_CERTIFICATE, SERVER_KEY, CLIENT_CERTIFICATE, CLIENT_KEY, KEYS];
    let is_fine = !name.is_empty()
        && !is_file.contains(&name)
        && name.len() <= NAME_BYTES_MAX
        && !name.starts_with(['.', '#', '-'])
        && name.chars().all(is_plain);
    if is_fine {
        return Ok(());
    }
    Err(Error::usage(format!("a client cannot be called {name:?}")).hint(
        "give 1 to 64 characters without space, '/' and ':' that do not begin with '.', '#' or '-', and no name of a \
         file",
    ))
}

fn tell(wanted: &Wanted, hosts: &[String]) -> String {
    let folder = wanted.folder.display();
    let client = &wanted.clients[0];
    let mut text =
        format!("{folder}: for the server, valid for {} days, as {}\n", wanted.days, hosts.join(", "));
    for client in &wanted.clients {
        text.push_str(&format!("{folder}/{client}: for client {client}, to be copied to its machine\n"));
    }
    text.push_str(&format!(
        "{folder}/{CA_KEY}: signs more certificates; keep it elsewhere

With certificates:
  gateway --tls-certificates {folder} memory 1G
  gateway --tls-certificates {folder} --tls-verify-peer memory 1G    # only clients that have one too
  nbdinfo 'nbds://localhost?tls-certificates={folder}/{client}'
  qemu-img info --object tls-creds-x509,id=t,dir={folder}/{client},endpoint=client \\
      --image-opts driver=nbd,host=localhost,port=10809,tls-creds=t

With pre-shared keys:
  gateway --tls-psk {folder}/{KEYS} memory 1G
  nbdinfo 'nbds://{client}@localhost?tls-psk-file={folder}/{client}/{KEYS}'
  qemu-img info --object tls-creds-psk,id=t,dir={folder}/{client},endpoint=client,username={client} \\
      --image-opts driver=nbd,host=localhost,port=10809,tls-creds=t
"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn wanted(folder: PathBuf, clients: &[&str]) -> Wanted {
        let clients = clients.iter().map(|name| (*name).to_owned()).collect();
        Wanted { folder, hosts: vec!["disk.example".into(), "192.0.2.1".into()], clients, days: 7 }
    }

    #[test]
    fn files_are_made_once_and_keys_are_secret() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("new/pki");
        let text = make(wanted(folder.clone(), &["alice", "bob"])).unwrap();
        assert!(text.contains("disk.example") && text.contains("client bob"), "{text}");
        let mode = |name: &str| std::fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
        for secret in [
            CA_KEY,
            SERVER_KEY,
            CLIENT_KEY,
            KEYS,
            "alice/client-key.pem",
            "bob/client-key.pem",
            "bob/keys.psk",
        ] {
            assert_eq!(mode(secret), 0o600, "{secret}");
        }
        let keys = std::fs::read_to_string(folder.join(KEYS)).unwrap();
        assert_eq!(keys.lines().count(), 2);
        assert!(keys.contains(&std::fs::read_to_string(folder.join("bob/keys.psk")).unwrap()));
        let error = make(wanted(folder.clone(), &["carol"])).unwrap_err().to_string();
        assert!(error.contains("is there already"), "{error}");
        assert_eq!(std::fs::read_to_string(folder.join(KEYS)).unwrap(), keys, "nothing was touched");
        assert!(!folder.join("carol").exists());
    }

    #[test]
    fn names_that_would_be_something_else_are_refused() {
        for name in ["", "a/b", "..", "a:b", "#a", "-a", "a b", &"x".repeat(65)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("alice@example.com").is_ok());
    }
}
