//! TLS, and who may read what names pods.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, Stream,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use zdt_daemon::{
    cluster::{self, Allowed, Reviewer},
    serve::{Admission, Admitted, Aside, Pages, Server, Text, Tls, Told},
    sink::recent::Recent,
};

use super::{Counting, api, connect, get, status, zdt};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/tls")
        .join(name)
}

/// The first certificate is the one that is served; copies, so that they can change.
fn copied(dir: &zdt::Dir, which: &str) -> (PathBuf, PathBuf) {
    let to = |kind: &str| dir.0.join(format!("tls.{kind}"));
    for kind in ["crt", "key"] {
        fs::copy(fixture(&format!("{which}.{kind}")), to(kind)).unwrap();
    }
    (to("crt"), to("key"))
}

fn serve_pages(pages: Arc<dyn Pages>, tls: Option<Tls>) -> SocketAddr {
    let mut server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    if let Some(tls) = tls {
        server = server.with_tls(tls);
    }
    let addr = server.addr().unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(server.run(pages))
    });
    addr
}

/// What a client gets that trusts this certificate alone.
fn ask_with_tls(addr: SocketAddr, trusted: &str, path: &str) -> Result<String, String> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(fixture(trusted)).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = connect(addr);
    let mut stream = Stream::new(&mut session, &mut socket);
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").map_err(|e| e.to_string())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|e| e.to_string())?;
    Ok(String::from_utf8(answer).unwrap())
}

fn open_pages() -> Arc<Counting> {
    Arc::new(Counting(AtomicUsize::default(), Recent::new("n1").0))
}

#[test]
fn with_tls_nothing_is_said_in_the_clear_and_a_new_certificate_is_taken_up() {
    let dir = zdt::Dir::new("tls");
    let (cert, key) = copied(&dir, "first");
    let addr = serve_pages(open_pages(), Some(Tls::open(cert.clone(), key.clone()).unwrap()));
    status(&ask_with_tls(addr, "first.crt", "/metrics").unwrap(), 200);
    assert!(ask_with_tls(addr, "second.crt", "/metrics").is_err());
    let plain = get(addr, "/metrics");
    assert!(!plain.contains("HTTP/1.1"), "{plain}");
    // Who does not finish a handshake is hung up on.
    let mut silent = connect(addr);
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);

    // A key that is no key, and then the right pair.
    fs::write(&key, "nonsense").unwrap();
    status(&ask_with_tls(addr, "first.crt", "/healthz").unwrap(), 200);
    copied(&dir, "second");
    let written = fs::metadata(&key).unwrap().modified().unwrap();
    let later = written + Duration::from_secs(10);
    for file in [&cert, &key] {
        fs::File::options()
            .append(true)
            .open(file)
            .unwrap()
            .set_modified(later)
            .unwrap();
    }
    let taken_up = (0..300).any(|_| {
        thread::sleep(Duration::from_millis(100));
        ask_with_tls(addr, "second.crt", "/healthz").is_ok()
    });
    assert!(taken_up, "the new certificate is not served");
}

#[test]
fn certificate_that_cannot_be_served_is_an_error_that_names_the_file() {
    let dir = zdt::Dir::new("no-tls");
    let (cert, key) = copied(&dir, "first");
    let run = |cert: &Path, key: &Path, says: &[&str]| {
        let mut run = zdt::zdt(zdt::ZDT.as_ref());
        run.args(["run", "--node", "n1", "--listen", "127.0.0.1:0", "--tls-cert"])
            .arg(cert)
            .arg("--tls-key")
            .arg(key)
            .arg("--kubeconfig")
            .arg(dir.kubeconfig());
        zdt::ends(&mut run, 2, says);
    };
    run(&dir.0.join("none.crt"), &key, &["none.crt", "--tls-cert"]);
    run(&cert, &cert, &["tls.crt", "PEM"]);
    run(&cert, &fixture("second.key"), &["no pair"]);
    let mut run = zdt::zdt(zdt::ZDT.as_ref());
    zdt::ends(
        run.args(["run", "--tls-cert", "x", "--tls-key", "y"]),
        2,
        &["--listen"],
    );
    let mut run = zdt::zdt(zdt::ZDT.as_ref());
    zdt::ends(run.args(["run", "--token-review"]), 2, &["--listen"]);
}

/// An API server that knows two tokens, and lets one of them read; and how often it was asked.
fn knows_tokens() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::default());
    let count = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, count) = (stream.unwrap(), Arc::clone(&count));
            thread::spawn(move || {
                let mut read = Vec::new();
                let mut piece = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut piece) {
                    read.extend_from_slice(&piece[..n]);
                    let text = String::from_utf8_lossy(&read).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else {
                        continue;
                    };
                    let length = head.lines().find_map(|l| {
                        l.to_ascii_lowercase()
                            .strip_prefix("content-length: ")?
                            .parse()
                            .ok()
                    });
                    if body.len() < length.unwrap_or(0_usize) {
                        continue;
                    }
                    count.fetch_add(1, Relaxed);
                    let asked: serde_json::Value = serde_json::from_str(body).unwrap();
                    let status = if head.starts_with("POST /apis/authentication.k8s.io/v1/tokenreviews") {
                        match asked["spec"]["token"].as_str().unwrap() {
                            "reader" => {
                                serde_json::json!({"authenticated": true, "user": {"username": "ann", "groups": ["ops"]}})
                            }
                            "stranger" => {
                                serde_json::json!({"authenticated": true, "user": {"username": "bob"}})
                            }
                            _ => serde_json::json!({"authenticated": false, "error": "unknown"}),
                        }
                    } else {
                        assert!(
                            head.starts_with("POST /apis/authorization.k8s.io/v1/subjectaccessreviews"),
                            "{head}"
                        );
                        let spec = &asked["spec"];
                        let path = spec["nonResourceAttributes"]["path"].as_str().unwrap();
                        let get = spec["nonResourceAttributes"]["verb"] == "get";
                        let may = spec["user"] == "ann"
                            && spec["groups"][0] == "ops"
                            && get
                            && path.starts_with("/api/v1/");
                        serde_json::json!({"allowed": may})
                    };
                    let mut told = asked;
                    told["status"] = status;
                    let told = told.to_string();
                    let length = told.len();
                    let _ = write!(
                        stream,
                        "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{told}"
                    );
                    read.clear();
                }
            });
        }
    });
    (addr, asked)
}

/// Pages whose names are for those whom the API server lets.
struct Guarded(Arc<Counting>, Arc<Reviewer>);

impl Pages for Guarded {
    fn metrics(&self) -> Text {
        self.0.metrics()
    }

    fn metrics_type(&self) -> &'static str {
        self.0.metrics_type()
    }

    fn alive(&self) -> Result<(), &'static str> {
        Ok(())
    }

    fn ready(&self) -> Result<(), &'static str> {
        Ok(())
    }

    fn recent(&self) -> &Arc<Recent> {
        self.0.recent()
    }

    fn aside(&self, work: Box<dyn FnOnce() -> Told + Send>) -> Aside {
        self.0.aside(work)
    }

    fn dropped_listener(&self) {}

    fn asked(&self, _: &'static str, _: u16) {}

    fn admits(&self, token: Option<&str>, verb: &str, page: &str) -> Admission {
        self.1.admits(token, verb, page)
    }
}

#[test]
fn names_are_for_those_whom_the_api_server_lets_and_the_metrics_for_everybody() {
    let dir = zdt::Dir::new("review");
    let (server, asked) = knows_tokens();
    let kubeconfig = api::kubeconfig(&dir.0, server);
    let (to, from) = std::sync::mpsc::sync_channel(1);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (client, _) = cluster::client(Some(&kubeconfig)).await.unwrap();
            let pages = Guarded(open_pages(), Arc::new(Reviewer::new(client)));
            let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
            to.send(server.addr().unwrap()).unwrap();
            server.run(Arc::new(pages)).await
        })
    });
    let addr = from.recv().unwrap();
    let ask = |path: &str, token: &str| {
        super::ask(
            addr,
            &format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n"),
        )
    };
    for open in ["/metrics", "/healthz", "/readyz", "/"] {
        status(&get(addr, open), 200);
    }
    assert_eq!(asked.load(Relaxed), 0, "nobody is asked about those");
    for path in [
        "/api/v1/state",
        "/api/v1/outputs",
        "/api/v1/events",
        "/api/v1/report",
        "/api/v1/gate?workload=web",
    ] {
        let refused = get(addr, path);
        status(&refused, 401);
        assert!(refused.contains("www-authenticate: Bearer\r\n"), "{refused}");
    }
    assert_eq!(asked.load(Relaxed), 0, "nor about nobody");
    status(&ask("/api/v1/state", "nobodys"), 401);
    status(&ask("/api/v1/state", "stranger"), 403);
    let before = asked.load(Relaxed);
    for _ in 0..5 {
        status(&ask("/api/v1/state", "reader"), 200);
    }
    assert_eq!(asked.load(Relaxed), before + 2, "once, and kept");
}

#[test]
fn api_server_that_does_not_answer_lets_nobody_in() {
    let dir = zdt::Dir::new("no-review");
    let kubeconfig = dir.kubeconfig();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (client, _) = cluster::client(Some(&kubeconfig)).await.unwrap();
        let reviewer = Arc::new(Reviewer::new(client));
        assert_eq!(reviewer.may("reader", "get", "/api/v1/state").await, None);
        assert_eq!(
            reviewer.admits(Some("reader"), "get", "/api/v1/state").await,
            Admitted::Unknown
        );
        // No token that long is asked about.
        let long = "x".repeat(100_000);
        assert_eq!(
            reviewer.may(&long, "get", "/api/v1/state").await,
            Some(Allowed::Unknown)
        );
    });
}
