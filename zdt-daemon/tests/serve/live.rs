//! The last outputs over HTTP: numbered lines, events, the gate's webhook, the page.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use zdt_daemon::{
    sink::{Sink as _, recent},
    verdict::Output,
};

use super::{ask, connect, get, serve, serve_with_sink, status};

/// An output that says nothing.
pub fn output() -> Output {
    let switch = r#"{"kind":"selector-switch","node":"n1","service":{"namespace":"shop","name":"web"},"at":1,"wall":1,"left":0,"ready":0,"stayed":null}"#;
    serde_json::from_str(switch).unwrap()
}

/// Reads a stream of events until `text` is in it.
fn until(stream: &mut TcpStream, text: &str) -> String {
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&all).contains(text) {
        let n = stream.read(&mut piece).unwrap();
        assert!(n > 0, "no {text:?} in {}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&piece[..n]);
    }
    String::from_utf8(all).unwrap()
}

#[test]
fn outputs_are_numbered_lines_and_say_what_is_gone() {
    let (addr, pages, mut sink) = serve_with_sink();
    for _ in 0..3 {
        sink.deliver(&output()).unwrap();
    }
    let answer = get(addr, "/api/v1/outputs?since=1");
    status(&answer, 200);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("zdt-missed: 0\r\n") && head.contains("zdt-next: 3\r\n"),
        "{head}"
    );
    let lines: Vec<&str> = body.lines().collect();
    assert!(lines.len() == 2 && lines[0].ends_with(",\"seq\":2}"), "{body}");
    assert_eq!(serde_json::from_str::<Output>(lines[1]).unwrap(), output());
    // A number of another daemon says nothing of this one's.
    assert_eq!(
        get(addr, "/api/v1/outputs?since=3&boot=other")
            .lines()
            .filter(|l| l.starts_with('{'))
            .count(),
        3
    );
    status(&get(addr, "/api/v1/outputs?since=x"), 400);
    status(&get(addr, "/api/v1/state"), 200);
    let gate = get(addr, "/api/v1/gate?workload=deployment/web");
    status(&gate, 503);
    assert!(
        gate.contains("no rollout of deployment/web was seen") && gate.contains("it is starting"),
        "{gate}"
    );
    status(&get(addr, "/api/v1/gate"), 400);
    let (boot, newest) = (pages.1.state().1.boot, pages.1.newest());
    assert!(head.contains(&format!("zdt-boot: {boot}\r\n")) && newest == 3);
}

#[test]
fn webhook_is_read_from_its_body_and_the_rest_takes_none() {
    let (addr, _) = serve();
    let post = |path: &str, body: &str| {
        let length = body.len();
        ask(
            addr,
            &format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"),
        )
    };
    let asked = post(
        "/api/v1/gate",
        r#"{"name":"web","namespace":"shop","phase":"Progressing","checksum":"1"}"#,
    );
    status(&asked, 503);
    assert!(asked.contains("no rollout of deployment/web was seen"), "{asked}");
    let named = post(
        "/api/v1/gate",
        r#"{"name":"web","metadata":{"workload":"statefulset/db"}}"#,
    );
    assert!(named.contains("no rollout of statefulset/db was seen"), "{named}");
    status(&post("/api/v1/gate", "nonsense"), 400);
    status(&post("/api/v1/gate", &"x".repeat(100_000)), 413);
    status(&post("/api/v1/outputs", "{}"), 405);
}

#[test]
fn events_come_as_they_are_delivered_and_go_on_where_a_listener_left_off() {
    let (addr, pages, mut sink) = serve_with_sink();
    sink.deliver(&output()).unwrap();
    let mut stream = connect(addr);
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let first = until(&mut stream, "event: state");
    let boot = pages.1.state().1.boot;
    assert!(first.contains("content-type: text/event-stream\r\n"), "{first}");
    assert!(
        first.contains("event: hello\ndata: ") && first.contains(&format!("id: {boot}.1\nevent: output\n"))
    );
    sink.deliver(&output()).unwrap();
    sink.flush().unwrap();
    until(&mut stream, &format!("id: {boot}.2\n"));
    // Nothing more comes, and the connection lives on a heartbeat.
    until(&mut stream, ": still here\n\n");

    let again = |id: &str| {
        let mut stream = connect(addr);
        write!(
            stream,
            "GET /api/v1/events HTTP/1.1\r\nhost: x\r\nlast-event-id: {id}\r\n\r\n"
        )
        .unwrap();
        until(&mut stream, "event: state")
    };
    let goes_on = again(&format!("{boot}.1"));
    assert!(goes_on.contains("\"restarted\":false") && goes_on.contains(".2\n") && !goes_on.contains(".1\n"));
    let restarted = again("other.2");
    assert!(restarted.contains("\"restarted\":true") && restarted.contains(&format!("id: {boot}.1\n")));
}

#[test]
fn listeners_are_so_many_and_what_they_missed_is_said() {
    let (addr, _, mut sink) = serve_with_sink();
    let listen = || {
        let mut stream = connect(addr);
        write!(stream, "GET /api/v1/events?since=0 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        stream
    };
    let mut seats: Vec<TcpStream> = (0..16).map(|_| listen()).collect();
    for seat in &mut seats {
        until(seat, "event: state");
    }
    until(&mut listen(), " 503 ");
    seats.pop();
    let freed = || {
        let mut stream = listen();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        head.ends_with(b"200")
    };
    assert!((0..50).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        freed()
    }));
    for _ in 0..recent::MOST + 20 {
        sink.deliver(&output()).unwrap();
    }
    sink.flush().unwrap();
    until(&mut seats[0], "event: missed\ndata: {\"missed\":20}\n");
}

#[test]
fn page_is_one_file_that_its_own_policy_allows() {
    let (addr, _) = serve();
    let page = get(addr, "/");
    status(&page, 200);
    assert!(page.contains("content-type: text/html; charset=utf-8\r\n"));
    let policy = page
        .lines()
        .find(|l| l.starts_with("content-security-policy: "))
        .unwrap();
    assert!(
        policy.contains("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(!page.contains("{{") && page.ends_with("</html>\n"));
}
