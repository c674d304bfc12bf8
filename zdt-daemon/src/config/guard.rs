//! Who may read what is served, and whether others can read along.

use std::path::PathBuf;

use clap::Args;

#[derive(Clone, Debug, Default, Args)]
pub struct Guard {
    /// Serve with TLS: the certificate and its chain (PEM). A file that changes is read again
    #[arg(long, value_name = "FILE", requires_all = ["listen", "tls_key"])]
    pub tls_cert: Option<PathBuf>,
    /// The key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Serve what names pods and addresses (/api/v1) only to whom the API server allows it: the request has a token
    /// (`Authorization: Bearer`), and whose it is may `get` that path (nonResourceURLs). /metrics, /healthz, /readyz and the page
    /// without its content stay open. Without TLS the token can be read on its way
    #[arg(long, requires = "listen")]
    pub token_review: bool,
}

impl Guard {
    /// Certificate and key.
    pub fn tls(&self) -> Option<(PathBuf, PathBuf)> {
        self.tls_cert.clone().zip(self.tls_key.clone())
    }
}
