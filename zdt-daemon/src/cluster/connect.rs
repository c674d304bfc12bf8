//! A client of the API server, from a kubeconfig file or from the pod's service account.

use std::path::{Path, PathBuf};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use thiserror::Error;

/// Why there is no client. Nothing here heals by waiting.
#[derive(Debug, Error)]
pub enum ConnectError {
    #[error("{why}: check the file that --kubeconfig or $KUBECONFIG names ({})", .file.display())]
    Kubeconfig { file: PathBuf, why: String },
    #[error(
        "no way to reach an API server: {0}; outside a cluster pass --kubeconfig FILE or set $KUBECONFIG, \
         inside one run with a service account (automountServiceAccountToken: true)"
    )]
    NotInCluster(String),
    #[error("no client for the API server at {url}: {source}")]
    Client { url: String, source: kube::Error },
}

/// Makes a client; nothing is sent yet. Returns it with the API server's URL, for messages.
pub async fn client(kubeconfig: Option<&Path>) -> Result<(Client, String), ConnectError> {
    let mut config = match kubeconfig {
        Some(file) => from_file(file).await?,
        None => Config::incluster().map_err(|e| ConnectError::NotInCluster(e.to_string()))?,
    };
    // It would hide a server that refuses for minutes (429, 503, 504): whoever asks here has to know, and tries again itself.
    config.default_retry = false;
    let url = config.cluster_url.to_string();
    let client = Client::try_from(config).map_err(|source| ConnectError::Client {
        url: url.clone(),
        source,
    })?;
    Ok((client, url))
}

async fn from_file(file: &Path) -> Result<Config, ConnectError> {
    let broken = |error: &KubeconfigError| ConnectError::Kubeconfig {
        file: file.to_owned(),
        why: reason(error),
    };
    let kubeconfig = read(file).map_err(|e| broken(&e))?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|e| broken(&e))
}

/// `$KUBECONFIG` may be a list of files; the first one to set a value wins, and files that do not exist are skipped
/// as long as one does (kubectl reference, "kubeconfig files").
fn read(file: &Path) -> Result<Kubeconfig, KubeconfigError> {
    if file.exists() {
        return Kubeconfig::read_from(file);
    }
    let mut merged: Option<Kubeconfig> = None;
    for part in std::env::split_paths(file).filter(|part| part.exists()) {
        let next = Kubeconfig::read_from(part)?;
        merged = Some(match merged {
            Some(first) => first.merge(next)?,
            None => next,
        });
    }
    merged.map_or_else(|| Kubeconfig::read_from(file), Ok)
}

fn reason(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::CurrentContextNotSet => {
            "the kubeconfig names no current context (kubectl config use-context NAME)".into()
        }
        KubeconfigError::LoadContext(name) => {
            format!(
                "the kubeconfig's current context `{name}` is not among its contexts (kubectl config get-contexts)"
            )
        }
        KubeconfigError::LoadClusterOfContext(name) => {
            format!("the kubeconfig's context refers to the cluster `{name}`, which the file does not define")
        }
        KubeconfigError::ReadConfig(source, _) => format!("the kubeconfig cannot be read: {source}"),
        KubeconfigError::Parse(source) => {
            format!("the kubeconfig is not valid YAML for a kubeconfig: {source}")
        }
        KubeconfigError::MissingClusterUrl => "the kubeconfig's cluster has no `server`".into(),
        other => format!("the kubeconfig cannot be used: {other}"),
    }
}
