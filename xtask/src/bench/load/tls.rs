//! [`TlsStream`]: the load generator's side of a TLS session.
//!
//! One receive takes as many records as there are, one send carries all that a flush has. Every server is offered the
//! same version and the same cipher, so that they are compared by what they make of it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use anyhow::Context as _;
use openssl::ssl::{Ssl, SslContext, SslFiletype, SslMethod, SslStream, SslVerifyMode, SslVersion};

/// Ciphertext received at a time.
const RECEIVE_BYTES: usize = 256 * 1024;

/// The cipher that is offered.
const CIPHER: &str = "TLS_AES_256_GCM_SHA384";

/// A stream through TLS 1.3.
pub(crate) struct TlsStream(SslStream<Batches>);

impl TlsStream {
    /// Does the TLS handshake with the server `host`, whose certificate must be signed by the authority in `folder`.
    /// Sends the client's certificate from there if it has one.
    pub(crate) fn connect(tcp: TcpStream, host: &str, folder: &Path) -> anyhow::Result<Self> {
        let mut context = SslContext::builder(SslMethod::tls_client())?;
        context.set_min_proto_version(Some(SslVersion::TLS1_3))?;
        context.set_ciphersuites(CIPHER)?;
        let authority = folder.join("ca-cert.pem");
        context.set_ca_file(&authority).with_context(|| format!("reading {}", authority.display()))?;
        context.set_verify(SslVerifyMode::PEER);
        let (certificate, key) = (folder.join("client-cert.pem"), folder.join("client-key.pem"));
        if certificate.exists() {
            context.set_certificate_chain_file(certificate)?;
            context.set_private_key_file(key, SslFiletype::PEM)?;
        }
        let mut ssl = Ssl::new(&context.build())?;
        match host.parse() {
            Ok(address) => ssl.param_mut().set_ip(address)?,
            Err(_) => {
                ssl.param_mut().set_host(host)?;
                ssl.set_hostname(host)?;
            }
        }
        let mut stream = SslStream::new(ssl, Batches::new(tcp))?;
        stream.connect().context("TLS handshake")?;
        Ok(Self(stream))
    }

    /// The socket below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.0.get_ref().tcp
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tcp().fmt(f)
    }
}

impl Read for TlsStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = self.0.read(buf)?;
        // A record has at most 16 KiB: whole records that have been received go along.
        while filled > 0 && filled < buf.len() && self.0.get_ref().has_record() {
            match self.0.read(&mut buf[filled..])? {
                0 => break,
                more => filled += more,
            }
        }
        Ok(filled)
    }
}

impl Write for TlsStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A socket behind a buffer in each direction.
struct Batches {
    tcp: TcpStream,
    received: Vec<u8>,
    taken: usize,
    filled: usize,
    to_send: Vec<u8>,
}

impl Batches {
    fn new(tcp: TcpStream) -> Self {
        Self { tcp, received: vec![0; RECEIVE_BYTES], taken: 0, filled: 0, to_send: Vec::new() }
    }

    /// Whether a whole record is there, so that asking for it does not wait. Its header has a type, a version and the
    /// length of what follows (RFC 8446, section 5.1).
    fn has_record(&self) -> bool {
        match self.received[self.taken..self.filled] {
            [_, _, _, high, low, ref body @ ..] => body.len() >= usize::from(high) << 8 | usize::from(low),
            _ => false,
        }
    }
}

impl Read for Batches {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.filled {
            // Whoever waits for an answer has asked for it.
            self.flush()?;
            self.taken = 0;
            self.filled = self.tcp.read(&mut self.received)?;
        }
        let count = buf.len().min(self.filled - self.taken);
        buf[..count].copy_from_slice(&self.received[self.taken..][..count]);
        self.taken += count;
        Ok(count)
    }
}

impl Write for Batches {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.to_send.extend_from_slice(buf);
        if self.to_send.len() >= RECEIVE_BYTES {
            self.flush()?;
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.tcp.write_all(&self.to_send);
        self.to_send.clear();
        result
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_record_is_there_when_its_last_byte_is() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut batches = Batches::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let record = [23, 3, 3, 0, 2, 1, 2];
        batches.received[..record.len()].copy_from_slice(&record);
        for filled in 0..=record.len() {
            batches.filled = filled;
            assert_eq!(batches.has_record(), filled == record.len());
        }
    }
}
