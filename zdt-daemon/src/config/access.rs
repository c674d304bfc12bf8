//! How a zdt is asked that serves with TLS, or only to some.

use std::path::PathBuf;

use clap::Args;

/// Where the kubelet puts what a pod shows to the API server, and trusts of it.
const IN_CLUSTER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[derive(Clone, Debug, Default, Args)]
pub struct Access {
    /// Trust the certificates that are signed by these (PEM), when an address is https [default: the service account's
    /// ca.crt, in a pod]
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Show this token, for a zdt with --token-review; read anew for each request. Whose it is needs the ClusterRole
    /// zdt-reader [default: the service account's, in a pod, when the address is https]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

impl Access {
    /// The file of certificates for https.
    pub fn ca(&self) -> Option<PathBuf> {
        self.ca_file.clone().or_else(|| in_cluster("ca.crt"))
    }

    /// The file of the token. Without TLS it can be read on its way, so only one that was named is shown there.
    pub fn token(&self, tls: bool) -> Option<PathBuf> {
        let own = || in_cluster("token").filter(|_| tls);
        self.token_file.clone().or_else(own)
    }
}

fn in_cluster(name: &str) -> Option<PathBuf> {
    Some(PathBuf::from(IN_CLUSTER).join(name)).filter(|file| file.exists())
}
