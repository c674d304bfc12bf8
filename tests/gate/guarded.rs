//! The gate at a daemon that serves with TLS, and only to those whom the API server lets.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::Child,
};

use super::{
    Dir, ends,
    served::{Guard, Started, certificate},
    zdt,
};

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

const GUARD: Guard = Guard {
    tls: true,
    token: "eyJ.right",
    stranger: "eyJ.stranger",
};

/// The options that name these files.
fn shows(ca: impl Into<Option<PathBuf>>, token: Option<String>) -> Vec<String> {
    let ca = ca.into().map(|ca| format!("--ca-file={}", ca.display()));
    let token = token.map(|token| format!("--token-file={token}"));
    ca.into_iter().chain(token).collect()
}

fn first() -> PathBuf {
    certificate("first.crt")
}

impl Dir {
    fn token(&self, name: &str, text: &str) -> String {
        let file = self.0.join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    }
}

fn gate(server: &str, shown: Vec<String>) -> Child {
    let mut command = zdt(&["gate", "deployment/web", "-n", "shop", "--timeout", "1s"]);
    command
        .arg(format!("--server={server}"))
        .args(shown)
        .spawn()
        .unwrap()
}

/// Side by side: each takes its second.
fn each_ends(of: Vec<(Child, &str)>) {
    for (child, says) in of {
        ends(&child.wait_with_output().unwrap(), 2, says);
    }
}

#[test]
fn gate_shows_its_token_to_a_zdt_whose_certificate_it_trusts() {
    let dir = Dir::new("guarded-gate");
    let one = Started::guarded("n1", ANY_PORT, Some(GUARD));
    let https = format!("https://{}", one.addr);
    // As `kubectl create token` prints it.
    let token = dir.token("token", "eyJ.right\n");
    let ended = gate(&https, shows(first(), Some(token.clone())))
        .wait_with_output()
        .unwrap();
    ends(&ended, 2, "no rollout of deployment/web was seen");
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(!text.contains("no answer") && !text.contains("says 4"), "{text}");

    // The token without TLS, for who says so.
    let plain = Guard { tls: false, ..GUARD };
    let two = Started::guarded("n2", ANY_PORT, Some(plain));
    let http = format!("http://{}", two.addr);
    let ended = gate(&http, shows(None, Some(token))).wait_with_output().unwrap();
    ends(&ended, 2, "no rollout of deployment/web was seen");
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(!text.contains("says 4"), "{text}");
}

#[test]
fn gate_that_is_not_let_in_or_does_not_trust_says_what_to_do() {
    let dir = Dir::new("guarded-errors");
    let one = Started::guarded("n1", ANY_PORT, Some(GUARD));
    let open = Started::of("n2", ANY_PORT);
    let https = format!("https://{}", one.addr);
    let token = |name: &str, text: &str| Some(dir.token(name, text));
    let by_name = format!("https://localhost:{}", one.addr.port());
    each_ends(vec![
        (
            gate(&https, shows(first(), None)),
            "it wants a token: give one with --token-file",
        ),
        (
            gate(&https, shows(first(), token("wrong", "eyJ.wrong"))),
            "the API server does not know the token",
        ),
        (
            gate(&https, shows(first(), token("stranger", "eyJ.stranger"))),
            "bind the ClusterRole zdt-reader",
        ),
        (
            gate(&https, shows(certificate("second.crt"), None)),
            "nobody in --ca-file has signed its certificate",
        ),
        (
            gate(&by_name, shows(first(), None)),
            "its certificate is for another name",
        ),
        (
            gate(&format!("http://{}", one.addr), Vec::new()),
            "does it serve with TLS (https://)",
        ),
        (
            gate(&format!("https://{}", open.addr), shows(first(), None)),
            "it speaks no TLS: ask it by http://",
        ),
        // What can be known before anybody is asked.
        (gate(&https, Vec::new()), "needs to be told whom to trust"),
        (
            gate(&https, shows(certificate("first.key"), None)),
            "there is no certificate in it",
        ),
        (
            gate(&https, shows(first(), Some("/nonexistent/token".to_owned()))),
            "cannot read the token /nonexistent/token",
        ),
        (
            gate(&https, shows(first(), token("lines", "a\r\nx-evil: 1"))),
            "holds no bearer token",
        ),
        (
            gate(&format!("http://{}", open.addr), shows(first(), None)),
            "--ca-file is of no use without TLS",
        ),
    ]);
}

/// The first line that it prints, and its end.
fn first_line(mut child: Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    line
}

#[test]
fn watch_shows_its_token_too() {
    let dir = Dir::new("guarded-watch");
    let one = Started::guarded("n1", ANY_PORT, Some(GUARD));
    let watch = |token: &str| {
        let shown = shows(first(), Some(dir.token("token", token)));
        let mut command = zdt(&["watch", "deployment/web", "-n", "shop"]);
        let child = command
            .arg(format!("--server=https://{}", one.addr))
            .args(shown)
            .spawn();
        first_line(child.unwrap())
    };
    let line = watch("eyJ.right");
    assert!(
        line.contains("waiting for a rollout") && !line.contains('['),
        "{line}"
    );
    let line = watch("eyJ.wrong");
    assert!(line.contains("says 401"), "{line}");
}

#[test]
fn serve_gate_asks_as_the_gate_does_and_takes_up_a_new_token() {
    let dir = Dir::new("guarded-serve-gate");
    let one = Started::guarded("n1", ANY_PORT, Some(GUARD));
    let server = format!("--server=https://{}", one.addr);
    let token = dir.token("token", "eyJ.old");
    let mut gates = zdt(&["serve-gate", "--listen", "127.0.0.1:0", &server])
        .args(shows(first(), Some(token)))
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(gates.stderr.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let addr: SocketAddr = line.trim().rsplit('/').next().unwrap().parse().unwrap();
    let question = "GET /api/v1/gate?workload=deployment%2Fweb&namespace=shop";
    let ask = || super::daemons::ask(addr, question, "");
    let answer = ask();
    assert!(answer.contains("says 401"), "{answer}");
    // The kubelet renews it.
    dir.token("token", "eyJ.right");
    let answer = ask();
    assert!(
        answer.contains("no rollout of deployment/web was seen") && !answer.contains("401"),
        "{answer}"
    );
    gates.kill().unwrap();
    gates.wait().unwrap();

    let mut without = zdt(&["serve-gate", "--listen", "127.0.0.1:0", &server]);
    ends(&without.output().unwrap(), 2, "needs to be told whom to trust");
}
