//! Idle client connections, many at once: each is opened, carries one request and is then left
//! open until dropped.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::Failure;
use crate::cases::SMALL;

/// Connections to one listener, each after its first response.
pub(crate) struct Idle(Vec<Box<dyn Stream>>);

impl Idle {
    /// Opens `count` connections one after the other, over TLS when `tls` is given.
    ///
    /// # Errors
    /// Where one of them fails, or the response does.
    pub(crate) fn open(
        listener: SocketAddr,
        count: usize,
        tls: Option<&Arc<ClientConfig>>,
    ) -> Result<Self, Failure> {
        let mut streams = Vec::with_capacity(count);
        for number in 0..count {
            let mut stream = connect(listener, tls)
                .and_then(|mut stream| ask(&mut *stream).map(|()| stream))
                .map_err(|failure| format!("connection {number}: {failure}"))?;
            stream.flush()?;
            streams.push(stream);
        }
        Ok(Self(streams))
    }

    /// Sends a second request on each of `sample` connections, which shows that they were kept.
    ///
    /// # Errors
    /// Where one was not.
    pub(crate) fn ask_again(&mut self, sample: usize) -> Result<(), Failure> {
        let step = (self.0.len() / sample.max(1)).max(1);
        for stream in self.0.iter_mut().step_by(step) {
            ask(&mut **stream).map_err(|failure| format!("an idle connection was not kept: {failure}"))?;
        }
        Ok(())
    }
}

/// A connection with or without TLS.
trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

fn connect(listener: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> Result<Box<dyn Stream>, Failure> {
    let stream = TcpStream::connect(listener)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let Some(config) = tls else { return Ok(Box::new(stream)) };
    let name = ServerName::from(listener.ip());
    let connection = ClientConnection::new(Arc::clone(config), name)?;
    Ok(Box::new(StreamOwned::new(connection, stream)))
}

/// One request and its response, whose head and 100 bytes of body come together or in pieces.
fn ask(stream: &mut dyn Stream) -> Result<(), Failure> {
    write!(stream, "GET {SMALL} HTTP/1.1\r\nHost: bench.example\r\n\r\n")?;
    stream.flush()?;
    let mut response = Vec::with_capacity(1024);
    let mut chunk = [0; 1024];
    while !response.ends_with(&[b'x'; 100]) {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Err("closed instead of answered".into());
        }
        response.extend_from_slice(chunk.get(..read).unwrap_or_default());
    }
    Ok(())
}

/// Trusts the certificate in `dir` alone, and asks for HTTP/1.1.
///
/// # Errors
/// Where the certificate cannot be read.
pub(crate) fn tls(dir: &Path) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("cert.pem"))?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A session kept for each connection would cost nothing here, but each must be a full handshake.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}
