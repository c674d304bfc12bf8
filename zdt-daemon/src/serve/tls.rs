//! TLS, where the operator gives a certificate. Its files are read again when they change: what renews certificates
//! (cert-manager, the kubelet's mounted Secrets) replaces them under a running daemon.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
    server::TlsStream,
};

use crate::{clock, input::Ktime};

/// The files are looked at this often at most, whoever connects how often.
const LOOK_EVERY_MS: f64 = 1_000.0;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {}: {why}: --tls-cert and --tls-key take PEM files", .file.display())]
    Read { file: PathBuf, why: String },
    #[error("{} and {} are no pair of a certificate and its key: {source}", .cert.display(), .key.display())]
    Pair {
        cert: PathBuf,
        key: PathBuf,
        source: rustls::Error,
    },
}

/// The certificate that is served.
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    now: Mutex<Now>,
}

struct Now {
    acceptor: TlsAcceptor,
    /// When the files were changed that it is made of, and when that was asked.
    changed: Changed,
    looked: Ktime,
}

/// Times of both files; a Secret's are links that are replaced, and what they lead to has another time.
type Changed = [Option<SystemTime>; 2];

impl Tls {
    pub fn open(cert: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let now = Now {
            changed: changed(&cert, &key),
            acceptor: read(&cert, &key)?,
            looked: clock::now(),
        };
        let now = Mutex::new(now);
        Ok(Self { cert, key, now })
    }

    /// With the newest certificate that can be used.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = self.acceptor();
        acceptor.accept(stream).await
    }

    fn acceptor(&self) -> TlsAcceptor {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if clock::now().ms_since(now.looked) >= LOOK_EVERY_MS {
            now.looked = clock::now();
            let changed = changed(&self.cert, &self.key);
            if changed != now.changed {
                // Once for each change: one file may be there before the other.
                now.changed = changed;
                match read(&self.cert, &self.key) {
                    Ok(acceptor) => now.acceptor = acceptor,
                    Err(error) => {
                        tracing::warn!("{error}; the certificate that was read before is served on");
                    }
                }
            }
        }
        now.acceptor.clone()
    }
}

fn changed(cert: &Path, key: &Path) -> Changed {
    [cert, key].map(|file| fs::metadata(file).and_then(|of| of.modified()).ok())
}

fn read(cert: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let cannot = |file: &Path, why: String| TlsError::Read {
        file: file.to_owned(),
        why,
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|e| cannot(cert, e.to_string()));
    let chain = chain?;
    if chain.is_empty() {
        return Err(cannot(cert, "there is no certificate in it".to_owned()));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| cannot(key, e.to_string()))?;
    let pair = |source| TlsError::Pair {
        cert: cert.to_owned(),
        key: key.to_owned(),
        source,
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
