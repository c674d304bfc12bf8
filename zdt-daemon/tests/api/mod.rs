//! A small API server for tests: lists and watches of a few objects over plain HTTP, with a resourceVersion that
//! counts events, and the ability to go away, come back, forget its history and refuse.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy.toml allows them in tests only by `#[test]`; what fails here must fail the test"
)]

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::{self, JoinHandle},
};

use serde_json::{Value, json};

#[derive(Default)]
struct State {
    objects: BTreeMap<(&'static str, String), Value>,
    /// Resource and watch event; the index + 1 is its resourceVersion.
    events: Vec<(&'static str, Value)>,
    /// Watches that start before this version get 410 Gone.
    oldest: usize,
    /// They get it as the response's status; else as an event of the watch, as kube-apiserver does.
    gone_by_status: bool,
    refuse: BTreeMap<&'static str, u16>,
    /// Who asks for its version waits.
    slow: bool,
    /// Of zdt's own pods, by name. None: the kubelet does not answer.
    logs: BTreeMap<String, Option<String>>,
    stopped: bool,
    connections: Vec<TcpStream>,
}

/// What outlives the server's process, as etcd does.
#[derive(Clone, Default)]
pub struct Store {
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }

    /// Adds or changes an object.
    pub fn put(&self, resource: &'static str, mut object: Value) {
        let mut state = self.lock();
        let version = state.events.len() + 1;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let known = state.objects.insert((resource, name), object.clone()).is_some();
        let event = json!({"type": if known {"MODIFIED"} else {"ADDED"}, "object": object});
        state.events.push((resource, event));
        self.state.1.notify_all();
    }

    pub fn delete(&self, resource: &'static str, name: &str) {
        let mut state = self.lock();
        let version = state.events.len() + 1;
        let mut object = state.objects.remove(&(resource, name.to_owned())).unwrap();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        state
            .events
            .push((resource, json!({"type": "DELETED", "object": object})));
        self.state.1.notify_all();
    }

    /// A pod of zdt itself, and its log.
    pub fn daemon(&self, name: &str, log: Option<&str>) {
        self.lock().logs.insert(name.to_owned(), log.map(str::to_owned));
    }

    /// Answers everything about `resource` with this HTTP status.
    pub fn refuse(&self, resource: &'static str, status: u16) {
        self.lock().refuse.insert(resource, status);
    }

    /// Makes who asks for its version wait, or answers them.
    pub fn slow(&self, slow: bool) {
        self.lock().slow = slow;
        self.state.1.notify_all();
    }

    /// Answers again.
    pub fn serve(&self, resource: &'static str) {
        self.lock().refuse.remove(resource);
    }

    /// Compaction: watches that resume get 410 Gone and must list anew.
    pub fn forget_history(&self, gone_by_status: bool) {
        let mut state = self.lock();
        state.gone_by_status = gone_by_status;
        state.oldest = state.events.len();
    }
}

/// A pod as little as zdt needs.
pub fn pod(name: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}")},
        "spec": {"nodeName": "n1", "containers": [{"name": "app"}]},
        "status": {"phase": "Running", "podIP": ip}
    })
}

/// The server's process.
pub struct Api {
    pub addr: SocketAddr,
    store: Store,
    acceptor: Option<JoinHandle<()>>,
}

impl Api {
    pub fn start(store: &Store) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), store)
    }

    pub fn start_at(addr: SocketAddr, store: &Store) -> Self {
        let listener = TcpListener::bind(addr).unwrap();
        let addr = listener.local_addr().unwrap();
        store.lock().stopped = false;
        let accepting = store.clone();
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.lock().stopped {
                    return;
                }
                accepting.lock().connections.push(stream.try_clone().unwrap());
                let serving = accepting.clone();
                // Ends when its connection does.
                thread::spawn(move || {
                    serve(&serving, &stream);
                    // The clone above would keep it open.
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self {
            addr,
            store: store.clone(),
            acceptor: Some(acceptor),
        }
    }

    /// Closes the port and every connection.
    pub fn stop(mut self) -> SocketAddr {
        self.close();
        self.addr
    }

    fn close(&mut self) {
        let Some(acceptor) = self.acceptor.take() else {
            return;
        };
        self.store.lock().stopped = true;
        // Wakes the acceptor.
        drop(TcpStream::connect(self.addr));
        acceptor.join().unwrap();
        for connection in self.store.lock().connections.drain(..) {
            // May be closed already.
            let _ = connection.shutdown(Shutdown::Both);
        }
        self.store.state.1.notify_all();
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.close();
    }
}

/// Writes a kubeconfig for a server into `dir`.
pub fn kubeconfig(dir: &Path, addr: SocketAddr) -> PathBuf {
    let file = dir.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\n\
         clusters: [{{name: c, cluster: {{server: \"http://{addr}\"}}}}]\n\
         contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n\
         users: [{{name: u, user: {{}}}}]\n"
    );
    std::fs::write(&file, text).unwrap();
    file
}

const RESOURCES: [(&str, &str); 4] = [
    ("/api/v1/pods", "pods"),
    ("/api/v1/services", "services"),
    ("/apis/discovery.k8s.io/v1/endpointslices", "endpointslices"),
    ("/apis/apps/v1/replicasets", "replicasets"),
];

fn serve(store: &Store, stream: &TcpStream) -> Option<()> {
    let mut head = BufReader::new(stream);
    let mut first = String::new();
    head.read_line(&mut first).ok()?;
    let mut line = String::new();
    while head.read_line(&mut line).ok()? > 2 {
        line.clear();
    }
    let path = first.split(' ').nth(1)?;
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    if let Some(own) = path.strip_prefix("/api/v1/namespaces/zdt/pods") {
        return daemons(store, stream, own);
    }
    let Some((_, resource)) = RESOURCES.iter().find(|(p, _)| *p == path) else {
        let waits = |s: &mut State| s.slow && !s.stopped;
        drop(store.state.1.wait_while(store.lock(), waits).unwrap());
        let version = json!({"major": "1", "minor": "36", "gitVersion": "v1.36.2", "gitCommit": "", "gitTreeState": "",
            "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
        return answer(stream, 200, &version);
    };
    if let Some(status) = store.lock().refuse.get(resource) {
        return answer(
            stream,
            *status,
            &failure(*status, &format!("{resource} is not for you")),
        );
    }
    if query.contains("watch=true") {
        let from = query
            .split('&')
            .find_map(|p| p.strip_prefix("resourceVersion="))?;
        return watch(store, stream, resource, from.parse().ok()?);
    }
    let list = {
        let state = store.lock();
        let of_it = state.objects.iter().filter(|((r, _), _)| r == resource);
        json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": state.events.len().to_string()},
            "items": of_it.map(|(_, object)| object).collect::<Vec<_>>()})
    };
    answer(stream, 200, &list)
}

/// The list of zdt's own pods, or the log of one.
fn daemons(store: &Store, mut stream: &TcpStream, path: &str) -> Option<()> {
    let logs = store.lock().logs.clone();
    let Some(name) = path.strip_prefix('/').and_then(|p| p.strip_suffix("/log")) else {
        let pods = logs.keys().map(|name| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "zdt"},
                "spec": {"nodeName": format!("node-of-{name}"), "containers": [{"name": "zdt"}]}})
        });
        let list =
            json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": pods.collect::<Vec<_>>()});
        return answer(stream, 200, &list);
    };
    match logs.get(name)? {
        None => answer(stream, 500, &failure(500, "dial tcp 10.0.0.9:10250: connect: connection refused")),
        Some(log) => write!(
            stream,
            "HTTP/1.1 200 x\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{log}",
            log.len()
        )
        .ok(),
    }
}

fn failure(status: u16, message: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": message, "reason": "x", "code": status})
}

fn answer(mut stream: &TcpStream, status: u16, body: &Value) -> Option<()> {
    let body = body.to_string();
    write!(
        stream,
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()
}

fn watch(store: &Store, mut stream: &TcpStream, resource: &str, mut next: usize) -> Option<()> {
    let gone = next < store.lock().oldest;
    let expired = failure(410, "too old resource version");
    if gone && store.lock().gone_by_status {
        return answer(stream, 410, &expired);
    }
    write!(
        stream,
        "HTTP/1.1 200 x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    .ok()?;
    if gone {
        let line = format!("{}\n", json!({"type": "ERROR", "object": expired}));
        return write!(stream, "{:x}\r\n{line}\r\n0\r\n\r\n", line.len()).ok();
    }
    loop {
        let fresh: Vec<String> = {
            let waited = store
                .state
                .1
                .wait_while(store.lock(), |s| !s.stopped && s.events.len() <= next)
                .unwrap();
            if waited.stopped {
                return None;
            }
            let fresh = waited.events[next..].iter().filter(|(r, _)| *r == resource);
            let lines = fresh.map(|(_, event)| format!("{event}\n")).collect();
            next = waited.events.len();
            lines
        };
        for line in fresh {
            write!(stream, "{:x}\r\n{line}\r\n", line.len()).ok()?;
        }
    }
}
