//! `GET .../pods/<name>/log`: what a container wrote, standard output and standard error in one, as kubelets have it.

use std::{io::ErrorKind, path::Path};

use axum::{
    extract::Query,
    http::{Uri, header},
    response::{IntoResponse as _, Response},
};
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;

use super::{request::Target, status::Failure, store::Store};

/// Of PodLogOptions. The lab's logs have no times.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Params {
    container: Option<String>,
    tail_lines: Option<usize>,
    follow: String,
    previous: String,
    since_time: Option<String>,
    since_seconds: Option<u64>,
}

pub(super) fn read(store: &Store, logs: &Path, target: &Target, uri: &Uri) -> Result<Response, Failure> {
    let Query(params) =
        Query::<Params>::try_from_uri(uri).map_err(|error| Failure::bad_request(error.body_text()))?;
    let (Some(namespace), Some(name), "Pod") = (&target.namespace, &target.name, target.kind.kind) else {
        return Err(Failure::not_found(&format!("the path {:?}", uri.path())));
    };
    if params.follow == "true" || params.previous == "true" {
        return Err(Failure::bad_request(
            "follow and previous are not served".to_owned(),
        ));
    }
    let missing = || Failure::not_found(&format!("pods {name:?}"));
    let pod = store.get::<Pod>(namespace, name).ok_or_else(missing)?;
    let containers = pod.spec.map(|spec| spec.containers).unwrap_or_default();
    let wanted = |of: &str| params.container.as_deref().is_none_or(|given| given == of);
    // A name from the store is no path: it is one that the kubelet has made a file of.
    let Some(container) = containers.into_iter().find(|c| wanted(&c.name)) else {
        return Err(Failure::bad_request(format!(
            "container {:?} is not valid for pod {name}",
            params.container
        )));
    };
    let file = logs.join(format!("{name}.{}.log", container.name));
    match std::fs::read(&file) {
        Ok(bytes) => {
            let lines = whole_lines(&bytes, params.tail_lines).to_vec();
            Ok(([(header::CONTENT_TYPE, "text/plain")], lines).into_response())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Failure::bad_request(format!(
            "container {:?} in pod {name:?} is waiting to start",
            container.name
        ))),
        Err(error) => Err(Failure::bad_request(format!("{}: {error}", file.display()))),
    }
}

/// What is being written is not yet a line.
fn whole_lines(log: &[u8], last: Option<usize>) -> &[u8] {
    let mut ends = log
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| **byte == b'\n')
        .map(|(at, _)| at + 1);
    let Some(end) = ends.next() else { return &[] };
    let begin = match last {
        None => 0,
        Some(0) => end,
        Some(lines) => ends.nth(lines - 1).unwrap_or(0),
    };
    log.get(begin..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_whole_ones() {
        let of = |log: &'static str, last| std::str::from_utf8(whole_lines(log.as_bytes(), last)).unwrap();
        assert_eq!(of("a\nb\nc", None), "a\nb\n");
        assert_eq!(of("a\nb\nc", Some(1)), "b\n");
        assert_eq!(of("a\nb\n", Some(1)), "b\n");
        assert_eq!(of("a\nb\n", Some(2)), "a\nb\n");
        assert_eq!(of("a\n", Some(5)), "a\n");
        assert_eq!(of("a\n", Some(0)), "");
        assert_eq!(of("a", Some(1)), "");
    }
}
