//! What is shown to a zdt that is asked, and what it has to show: a token, and a certificate.

use std::{
    fs,
    io::{self, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use crate::config;

/// A token is a JWT of about 1 kB.
const MOST_TOKEN: usize = 64 << 10;

/// How daemons are asked. The certificates are read once, the token for each request: the kubelet renews it.
#[derive(Clone, Debug)]
pub(super) struct Access {
    args: config::Access,
    tls: Option<Arc<ClientConfig>>,
}

impl Access {
    /// `tls`: some of those who are asked serve with it.
    pub(super) fn open(args: &config::Access, tls: bool) -> anyhow::Result<Self> {
        if !tls && args.ca_file.is_some() {
            bail!("--ca-file is of no use without TLS: ask an address that begins with https://");
        }
        let access = Self {
            args: args.clone(),
            tls: if tls { Some(trusting(args)?) } else { None },
        };
        access.token(tls)?;
        Ok(access)
    }

    /// The header that shows the token; empty without one.
    pub(super) fn header(&self, tls: bool) -> anyhow::Result<String> {
        let token = self.token(tls)?;
        Ok(token.map_or_else(String::new, |t| format!("authorization: Bearer {t}\r\n")))
    }

    /// Why it may be that nobody is let in.
    pub(super) fn refused(&self, tls: bool, status: u16) -> Option<&'static str> {
        match (status, self.args.token(tls)) {
            (401, None) => Some("it wants a token: give one with --token-file FILE"),
            (401, Some(_)) => Some(
                "the API server does not know the token of --token-file: is it of this cluster, and new?",
            ),
            (403, _) => Some("whose token this is may not read it: bind the ClusterRole zdt-reader to them"),
            _ => None,
        }
    }

    /// TLS with whoever listens there, if `host` is what its certificate says.
    pub(super) fn dial(&self, stream: TcpStream, host: &str) -> io::Result<impl Read + Write + use<>> {
        let config = self.tls.clone().ok_or(io::ErrorKind::Unsupported)?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| io::Error::other(format!("{host} is no name that a certificate can have")))?;
        let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(StreamOwned::new(session, stream))
    }

    fn token(&self, tls: bool) -> anyhow::Result<Option<String>> {
        let Some(file) = self.args.token(tls) else {
            return Ok(None);
        };
        let name = file.display();
        let text = fs::read_to_string(&file).with_context(|| {
            format!("cannot read the token {name}: --token-file takes a file with a bearer token in it")
        })?;
        let token = text.trim();
        let fit = |byte: u8| byte.is_ascii_graphic();
        if token.is_empty() || token.len() > MOST_TOKEN || !token.bytes().all(fit) {
            bail!("{name} holds no bearer token: --token-file takes one, and nothing else in the file");
        }
        Ok(Some(token.to_owned()))
    }
}

fn trusting(args: &config::Access) -> anyhow::Result<Arc<ClientConfig>> {
    let file: PathBuf = args.ca().context(
        "an https address needs to be told whom to trust: give the certificate of who signed zdt's, or zdt's own, with \
         --ca-file FILE (PEM; `ca.crt` or `tls.crt` of the Secret zdt-tls)",
    )?;
    let roots = roots(&file).with_context(|| format!("cannot use the certificates of {}", file.display()))?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn roots(file: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file)? {
        roots.add(certificate?)?;
    }
    if roots.is_empty() {
        bail!("there is no certificate in it: --ca-file takes a PEM file");
    }
    Ok(roots)
}

/// What to do about an exchange that failed, where it is known.
pub(super) fn hint(error: &io::Error) -> Option<&'static str> {
    let source = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    match source {
        rustls::Error::InvalidMessage(_) => Some("it speaks no TLS: ask it by http://"),
        rustls::Error::InvalidCertificate(why) => Some(match why {
            CertificateError::UnknownIssuer => {
                "nobody in --ca-file has signed its certificate: give who has (`ca.crt` of the Secret zdt-tls)"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name: ask it by a name that is in it, as https://zdt.zdt.svc"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired: renew the Secret zdt-tls"
            }
            _ => "its certificate cannot be trusted",
        }),
        _ => None,
    }
}
