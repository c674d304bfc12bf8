//! The logs of zdt's own pods, read through the API server: what the daemons of a cluster have said, without anything else to
//! run.

use std::{path::Path, time::Duration};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ListParams, LogParams},
};
use thiserror::Error;
use tokio::time::timeout;

use super::connect::{ConnectError, client};

/// As the manifests label and name them.
const LABEL: &str = "app.kubernetes.io/name=zdt";
const CONTAINER: &str = "zdt";

/// Asked at the same time.
const SIDE_BY_SIDE: usize = 16;

/// Each must have answered by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// Of one pod's log. The API cuts at the end, so that beyond it the newest lines are missing.
const MOST_BYTES: i64 = 64 << 20;

/// What one daemon's log says.
#[derive(Debug)]
pub struct PodLog {
    pub node: String,
    /// In the order of time: before its last restart, and since. Or why it did not answer.
    pub texts: Result<Vec<String>, String>,
    /// It is longer than what was read.
    pub cut: bool,
}

/// Why there are none.
#[derive(Debug, Error)]
pub enum LogsError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the API server at {url} did not answer within {} s", PATIENCE.as_secs())]
    Silent { url: String },
    #[error(
        "the API server at {url} does not list the pods of namespace {namespace} ({source}): the user of the kubeconfig \
         needs get and list on pods and pods/log there"
    )]
    List {
        url: String,
        namespace: String,
        source: kube::Error,
    },
    #[error(
        "there is no pod of zdt in namespace {namespace} of {url}: install it (`kubectl apply -k deploy/base`), name its \
         namespace with --zdt-namespace, or give files with --record"
    )]
    None { url: String, namespace: String },
}

/// Reads the log of every zdt pod in `namespace`, `since` so many seconds.
pub async fn logs(
    kubeconfig: Option<&Path>,
    namespace: &str,
    since: Option<i64>,
) -> Result<Vec<PodLog>, LogsError> {
    let (client, url) = client(kubeconfig).await?;
    let api: Api<Pod> = Api::namespaced(client, namespace);
    let params = ListParams::default().labels(LABEL);
    let Ok(listed) = timeout(PATIENCE, api.list(&params)).await else {
        return Err(LogsError::Silent { url });
    };
    let namespace = namespace.to_owned();
    let pods = match listed {
        Ok(pods) if pods.items.is_empty() => return Err(LogsError::None { url, namespace }),
        Ok(pods) => pods.items,
        Err(source) => {
            return Err(LogsError::List {
                url,
                namespace,
                source,
            });
        }
    };
    let all = pods.into_iter().map(|pod| one(&api, pod, since));
    Ok(stream::iter(all).buffered(SIDE_BY_SIDE).collect().await)
}

async fn one(api: &Api<Pod>, pod: Pod, since: Option<i64>) -> PodLog {
    let name = pod.metadata.name.unwrap_or_default();
    let node = pod.spec.and_then(|s| s.node_name).unwrap_or_else(|| name.clone());
    let statuses = pod.status.and_then(|s| s.container_statuses).unwrap_or_default();
    let restarted = statuses
        .iter()
        .any(|s| s.name == CONTAINER && s.restart_count > 0);
    let asked = timeout(PATIENCE, async {
        let mut texts = Vec::new();
        // The kubelet keeps the log of one container before this one, if it does.
        if restarted && let Ok(before) = api.logs(&name, &params(since, true)).await {
            texts.push(before);
        }
        let now = api.logs(&name, &params(since, false)).await;
        texts.push(now.map_err(|e| e.to_string())?);
        Ok(texts)
    });
    let texts = asked
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
    let whole = |t: &String| i64::try_from(t.len()).is_ok_and(|n| n < MOST_BYTES);
    PodLog {
        node,
        cut: texts.as_ref().is_ok_and(|texts| !texts.iter().all(whole)),
        texts,
    }
}

fn params(since_seconds: Option<i64>, previous: bool) -> LogParams {
    LogParams {
        container: Some(CONTAINER.to_owned()),
        since_seconds,
        limit_bytes: Some(MOST_BYTES),
        previous,
        ..LogParams::default()
    }
}
