//! The writing of Events against an API server that fails, refuses, and has them already.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy.toml allows them in tests only by `#[test]`; what fails here must fail the test"
)]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};
use zdt_daemon::{
    cluster::{self, Telling},
    input::Workload,
    sink::{events::Told, metrics::EventCounts},
};

/// Bodies of POSTs on Events.
type Posted = Arc<Mutex<Vec<Value>>>;

/// Answers the POSTs with these statuses in turn, then with the last one; knows the ReplicaSet `web-8cc9f4fb5`.
fn server(statuses: &'static [u16]) -> (SocketAddr, Posted) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let posted = Posted::default();
    let keep = Arc::clone(&posted);
    // Ends with the test's process.
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = BufReader::new(stream.try_clone().unwrap());
            let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
            head.read_line(&mut first).unwrap();
            while head.read_line(&mut line).unwrap() > 2 {
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            head.read_exact(&mut body).unwrap();
            let (status, answer) = if first.starts_with("POST /apis/events.k8s.io/v1/namespaces/shop/events")
            {
                let body: Value = serde_json::from_slice(&body).unwrap();
                let mut posted = keep.lock().unwrap();
                let status = *statuses.get(posted.len()).or(statuses.last()).unwrap();
                posted.push(body.clone());
                let failure = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no",
                                     "reason": "x", "code": status});
                (status, if status < 300 { body } else { failure })
            } else if first.starts_with("GET /apis/apps/v1/namespaces/shop/replicasets/web-8cc9f4fb5 ") {
                let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d-1", "controller": true});
                let meta = json!({"name": "web-8cc9f4fb5", "namespace": "shop", "ownerReferences": [owner]});
                (
                    200,
                    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": meta}),
                )
            } else {
                (
                    404,
                    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": first, "reason": "NotFound",
                             "code": 404}),
                )
            };
            let answer = answer.to_string();
            let length = answer.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nconnection: close\r\n\
                 content-length: {length}\r\n\r\n{answer}"
            );
        }
    });
    (addr, posted)
}

fn told(number: u64) -> Told {
    Told {
        namespace: "shop".into(),
        workload: Workload {
            kind: "deployment".into(),
            name: "web".into(),
        },
        template_hash: Some("8cc9f4fb5".into()),
        name: format!("web.{number:016x}"),
        reason: "PodIpGone".into(),
        action: "RollingUpdate".into(),
        note: "3 requests failed".into(),
    }
}

/// Writes `count` Events; what the server got, and how many were written and failed.
async fn write(name: &str, count: u64, statuses: &'static [u16]) -> (Vec<Value>, u64, u64) {
    let (addr, posted) = server(statuses);
    let file: PathBuf = std::env::temp_dir().join(format!("zdt-events-{}-{name}", std::process::id()));
    let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{addr}")}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}], "users": [{"name": "u", "user": {}}]});
    std::fs::write(&file, kubeconfig.to_string()).unwrap();
    let client = cluster::client(Some(&file)).await;
    std::fs::remove_file(&file).unwrap();
    let counts = EventCounts::new().unwrap();
    let (to, from) = mpsc::channel(8);
    for number in 0..count {
        to.send(told(number)).await.unwrap();
    }
    drop(to);
    let telling = Telling {
        told: from,
        counts: counts.clone(),
    };
    timeout(
        Duration::from_secs(20),
        telling.write(client.unwrap().0, "n1".into()),
    )
    .await
    .unwrap();
    let posted = posted.lock().unwrap().clone();
    (posted, counts.written.get(), counts.failed.get())
}

#[tokio::test]
async fn server_that_fails_is_tried_again_and_what_is_there_already_is_written() {
    let (posted, written, failed) = write("again", 1, &[500, 409]).await;
    assert_eq!((posted.len(), written, failed), (2, 1, 0));
    let [first, second] = [&posted[0], &posted[1]];
    assert_eq!(first, second, "the same name, time and text");
    assert_eq!(first["metadata"]["name"], "web.0000000000000000");
    assert_eq!(first["regarding"]["uid"], "d-1");
    assert_eq!(first["regarding"]["kind"], "Deployment");
    assert_eq!(
        (&first["type"], &first["reportingInstance"]),
        (&json!("Warning"), &json!("n1"))
    );
}

#[tokio::test]
async fn refusal_is_final_for_its_event_and_the_next_one_is_tried() {
    let (posted, written, failed) = write("refused", 2, &[403, 201]).await;
    assert_eq!((posted.len(), written, failed), (2, 1, 1));
}
