//! Taking a URI apart.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{Remote, TlsKind, TlsParameters, Transport, UnixSocket, Uri, UriTls, percent_decode};
use crate::option::{BadName, check_name};
use crate::wire::DEFAULT_PORT;

/// Context id of the host of a virtual machine (vsock(7)).
const VMADDR_CID_HOST: u32 = 2;
/// Port of ssh.
const SSH_PORT: u16 = 22;

/// Why a text is no NBD URI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUri {
    /// It does not begin with a scheme of NBD and `://`.
    #[error("not an NBD URI: it must begin with nbd://, nbds://, nbd+unix:// or another scheme of NBD")]
    Scheme,
    /// A blank or a control character.
    #[error("a blank or a control character must be percent-encoded in a URI")]
    Character,
    /// A percent sign without two digits behind it.
    #[error("a percent sign is not followed by two hexadecimal digits")]
    PercentCoding,
    /// A part is not UTF-8 or contains NUL.
    #[error("{0} is not UTF-8 or contains NUL")]
    Text(&'static str),
    /// The host is missing, malformed, or starts with a dash.
    #[error("{0:?} is no host")]
    Host(String),
    /// The port, or the context id of vsock, is no number in range.
    #[error("{0:?} is no port number or context id")]
    Number(String),
    /// A Unix scheme has a host or port.
    #[error("a URI of a Unix socket has no host; write nbd+unix:///NAME?socket=PATH")]
    HostWithSocket,
    /// A Unix scheme lacks its socket, or it is empty.
    #[error("the parameter socket=PATH is missing or empty")]
    NoSocket,
    /// The export's name is not allowed.
    #[error("export {0}")]
    Export(#[from] BadName),
    /// A parameter that is unknown, or means nothing with this scheme.
    #[error("unknown parameter {0:?}; experimental ones start with x-")]
    UnknownParameter(String),
    /// A parameter given twice.
    #[error("parameter {0:?} is given twice")]
    RepeatedParameter(String),
    /// A parameter with a value that it cannot have.
    #[error("parameter {0} cannot be {1:?}")]
    Value(&'static str, String),
    /// A parameter names a local file, which this caller does not allow.
    #[error("parameter {0:?} names a local file, which is not allowed here")]
    LocalFile(String),
    /// A part behind `#`.
    #[error("an NBD URI has no part behind #")]
    Fragment,
}

/// Whether parameters may name files of TLS credentials. A URI from somebody else could make us read ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalFiles {
    /// They are errors.
    Refuse,
    /// The URI comes from the user himself.
    Allow,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Unix,
    Vsock,
    Ssh,
}

/// The parts of an authority, decoded; empty ones are `None`.
#[derive(Default)]
struct Authority {
    user: Option<String>,
    host: Option<String>,
    port: Option<String>,
}

/// Parameters by what they mean.
#[derive(Default)]
struct Parameters {
    socket: Option<UnixSocket>,
    nbd_port: Option<u16>,
    compress: Option<bool>,
    tls: TlsParameters,
    experimental: Vec<(String, String)>,
}

impl FromStr for Uri {
    type Err = BadUri;

    /// Parses a URI of somebody who is not trusted: local files are refused.
    fn from_str(text: &str) -> Result<Uri, BadUri> {
        Uri::parse(text, LocalFiles::Refuse)
    }
}

impl Uri {
    /// Parses a URI.
    ///
    /// # Errors
    /// It breaks a rule of doc/uri.md, or has a parameter that is not known.
    pub fn parse(text: &str, local_files: LocalFiles) -> Result<Uri, BadUri> {
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(BadUri::Character);
        }
        let (scheme, rest) = text.split_once("://").ok_or(BadUri::Scheme)?;
        let (kind, tls) = parse_scheme(scheme)?;
        if rest.contains('#') {
            return Err(BadUri::Fragment);
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, export) = rest.split_once('/').unwrap_or((rest, ""));
        let authority = parse_authority(authority)?;
        let parameters = parse_query(query, kind, local_files)?;
        let export = text_of(export, "the export's name")?;
        check_name(&export)?;
        let user = authority.user.clone();
        let tls_parameters = parameters.tls.clone();
        let experimental = parameters.experimental.clone();
        let transport = transport(kind, authority, parameters)?;
        Ok(Uri { transport, tls, export, user, tls_parameters, experimental })
    }
}

/// Schemes are compared without regard to case (RFC 3986, section 3.1).
fn parse_scheme(scheme: &str) -> Result<(Kind, UriTls), BadUri> {
    let scheme = scheme.to_ascii_lowercase();
    let (base, carrier) = scheme.split_once('+').unwrap_or((&scheme, "tcp"));
    let tls = match base {
        "nbd" => UriTls::Opportunistic,
        "nbds" => UriTls::Required,
        _ => return Err(BadUri::Scheme),
    };
    let kind = match carrier {
        "tcp" if !scheme.contains('+') => Kind::Tcp,
        "unix" => Kind::Unix,
        "vsock" => Kind::Vsock,
        "ssh" => Kind::Ssh,
        _ => return Err(BadUri::Scheme),
    };
    Ok((kind, tls))
}

/// `[user@]host[:port]` (RFC 3986, section 3.2).
fn parse_authority(text: &str) -> Result<Authority, BadUri> {
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(text_of(user, "the user name")?), rest),
        None => (None, text),
    };
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(|| BadUri::Host(text.to_owned()))?;
            let colon = port.is_empty() || port.starts_with(':');
            if host.is_empty() || !host.contains(':') || !colon {
                return Err(BadUri::Host(text.to_owned()));
            }
            (host, port.strip_prefix(':').unwrap_or(""))
        }
        None => rest.split_once(':').unwrap_or((rest, "")),
    };
    let host = text_of(host, "the host")?;
    // A host that starts with a dash would be an option of programs that get it as an argument.
    let harmless = |byte: u8| byte > b' ' && !b"[]/@\x7f".contains(&byte);
    if host.starts_with('-') || !host.bytes().all(harmless) {
        return Err(BadUri::Host(host));
    }
    let some = |part: String| (!part.is_empty()).then_some(part);
    Ok(Authority { user: user.and_then(some), host: some(host), port: some(port.to_owned()) })
}

fn transport(kind: Kind, authority: Authority, parameters: Parameters) -> Result<Transport, BadUri> {
    let Authority { host, port, .. } = authority;
    match kind {
        Kind::Unix if host.is_some() || port.is_some() => Err(BadUri::HostWithSocket),
        Kind::Unix => Ok(Transport::Unix(parameters.socket.ok_or(BadUri::NoSocket)?)),
        Kind::Tcp => Ok(Transport::Tcp {
            host: host.unwrap_or_else(|| "localhost".to_owned()),
            port: port.map_or(Ok(DEFAULT_PORT), |port| parse_port(&port))?,
        }),
        Kind::Vsock => Ok(Transport::Vsock {
            cid: host.map_or(Ok(VMADDR_CID_HOST), |cid| parse_number(&cid))?,
            port: port.map_or(Ok(u32::from(DEFAULT_PORT)), |port| parse_number(&port))?,
        }),
        Kind::Ssh => Ok(Transport::Ssh {
            host: host.ok_or_else(|| BadUri::Host(String::new()))?,
            ssh_port: port.map_or(Ok(SSH_PORT), |port| parse_port(&port))?,
            remote: match parameters.socket {
                Some(socket) => Remote::Socket(socket),
                None => Remote::Port(parameters.nbd_port.unwrap_or(DEFAULT_PORT)),
            },
            compress: parameters.compress.unwrap_or(false),
        }),
    }
}

fn parse_query(query: &str, kind: Kind, local_files: LocalFiles) -> Result<Parameters, BadUri> {
    let mut parameters = Parameters::default();
    let mut seen: Vec<String> = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let name = text_of(name, "the name of a parameter")?;
        if seen.contains(&name) {
            return Err(BadUri::RepeatedParameter(name));
        }
        take_parameter(&mut parameters, &name, value, (kind, local_files))?;
        seen.push(name);
    }
    if parameters.socket.is_some() && parameters.nbd_port.is_some() {
        return Err(BadUri::RepeatedParameter("nbd-port".to_owned()));
    }
    Ok(parameters)
}

fn take_parameter(
    parameters: &mut Parameters,
    name: &str,
    value: &str,
    (kind, local_files): (Kind, LocalFiles),
) -> Result<(), BadUri> {
    let text = || text_of(value, "the value of a parameter");
    let tls = &mut parameters.tls;
    match name {
        "socket" if matches!(kind, Kind::Unix | Kind::Ssh) => parameters.socket = Some(parse_socket(value)?),
        "nbd-port" if kind == Kind::Ssh => parameters.nbd_port = Some(parse_port(&text()?)?),
        "compress" if kind == Kind::Ssh => parameters.compress = Some(parse_bool("compress", &text()?)?),
        "tls-type" => tls.kind = Some(parse_tls_kind(&text()?)?),
        "tls-hostname" => tls.hostname = Some(text()?),
        "tls-verify-peer" => tls.verify_peer = Some(parse_bool("tls-verify-peer", &text()?)?),
        "tls-username" => tls.username = Some(text()?),
        "tls-certificates" | "tls-psk-file" if local_files == LocalFiles::Refuse => {
            return Err(BadUri::LocalFile(name.to_owned()));
        }
        "tls-certificates" => tls.certificates = Some(parse_path(value)?),
        "tls-psk-file" => tls.psk_file = Some(parse_path(value)?),
        _ if name.starts_with("x-") => parameters.experimental.push((name.to_owned(), text()?)),
        _ => return Err(BadUri::UnknownParameter(name.to_owned())),
    }
    Ok(())
}

fn parse_socket(value: &str) -> Result<UnixSocket, BadUri> {
    let bytes = percent_decode(value)?;
    match bytes.split_first() {
        None | Some((0, [])) => Err(BadUri::NoSocket),
        Some((0, name)) => Ok(UnixSocket::Abstract(name.to_vec())),
        Some(_) => Ok(UnixSocket::Path(parse_path(value)?)),
    }
}

fn parse_path(value: &str) -> Result<PathBuf, BadUri> {
    let bytes = percent_decode(value)?;
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(BadUri::Text("a path"));
    }
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

fn parse_tls_kind(value: &str) -> Result<TlsKind, BadUri> {
    match value {
        "anon" => Ok(TlsKind::Anonymous),
        "x509" => Ok(TlsKind::X509),
        "psk" => Ok(TlsKind::Psk),
        _ => Err(BadUri::Value("tls-type", value.to_owned())),
    }
}

fn parse_bool(name: &'static str, value: &str) -> Result<bool, BadUri> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(BadUri::Value(name, value.to_owned())),
    }
}

/// A number of digits only; no sign.
fn parse_number(text: &str) -> Result<u32, BadUri> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number.ok_or_else(|| BadUri::Number(text.to_owned()))
}

fn parse_port(text: &str) -> Result<u16, BadUri> {
    let port = u16::try_from(parse_number(text)?).ok().filter(|port| *port != 0);
    port.ok_or_else(|| BadUri::Number(text.to_owned()))
}

/// A part of a URI, decoded.
fn text_of(part: &str, what: &'static str) -> Result<String, BadUri> {
    let text = String::from_utf8(percent_decode(part)?).map_err(|_| BadUri::Text(what))?;
    if text.contains('\0') { Err(BadUri::Text(what)) } else { Ok(text) }
}
