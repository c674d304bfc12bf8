//! Verdicts to collectors that take all, nothing, some, that are slow, and that are away.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy.toml allows them in tests only by `#[test]`; what fails here must fail the test"
)]

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse},
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::LogRecord,
};
use prost::Message as _;
use socket2::{Domain, Socket, Type};
use zdt_daemon::{
    sink::{
        Sink as _,
        metrics::{ExportCount, ExportCounts},
        otlp::{Collector, Exporting, OtlpSink, Patience, WAITING},
    },
    verdict::Output,
};

/// What a client on another node was refused; and a probe, which is no request.
const REFUSED: &str =
    include_str!("../../tests/fixtures/endpoint-removal-race/yes-client-on-another-node.verdicts.jsonl");
const PROBE: &str =
    include_str!("../../tests/fixtures/endpoint-removal-race/no-kubelet-probe.verdicts.jsonl");

/// The first line of each is a verdict, others are none.
fn outputs(lines: &str) -> Vec<Output> {
    lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn verdict() -> Output {
    outputs(REFUSED).remove(0)
}

/// What a collector got, and what it shall say; it says nothing before it is told to.
struct Server {
    addr: SocketAddr,
    got: Receiver<ExportLogsServiceRequest>,
    say: SyncSender<(u16, ExportLogsServiceResponse)>,
}

fn server() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (gets, got) = sync_channel(1024);
    let (say, says) = sync_channel(1024);
    // Ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            serve(stream, &gets, &says);
        }
    });
    Server { addr, got, say }
}

/// One connection, request after request.
fn serve(
    mut stream: TcpStream,
    gets: &SyncSender<ExportLogsServiceRequest>,
    says: &Receiver<(u16, ExportLogsServiceResponse)>,
) {
    let mut head = BufReader::new(stream.try_clone().unwrap());
    let mut first = String::new();
    while head.read_line(&mut first).unwrap_or(0) > 0 {
        assert!(first.starts_with("POST /v1/logs HTTP/1.1"), "{first}");
        let (mut line, mut length, mut is_protobuf) = (String::new(), 0, false);
        while head.read_line(&mut line).unwrap() > 2 {
            let lower = line.to_lowercase();
            is_protobuf |= lower.trim() == "content-type: application/x-protobuf";
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        assert!(is_protobuf);
        let mut body = vec![0; length];
        head.read_exact(&mut body).unwrap();
        let _ = gets.send(ExportLogsServiceRequest::decode(body.as_slice()).unwrap());
        let Ok((status, said)) = says.recv() else { return };
        let said = said.encode_to_vec();
        let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n", said.len());
        let _ = stream.write_all(&[head.as_bytes(), &said].concat());
        first.clear();
    }
}

fn sink(addr: SocketAddr, tries: u32) -> (OtlpSink, Exporting, ExportCount) {
    let mut collector: Collector = format!("http://{addr}").parse().unwrap();
    collector.patience = Patience {
        answer: Duration::from_mins(1),
        first_wait: Duration::from_millis(1),
        tries,
    };
    let count = ExportCounts::new().unwrap().of("otlp");
    let (sink, exporting) = OtlpSink::new(collector, count.clone());
    (sink, exporting, count)
}

/// Delivered, failed, dropped.
fn counted(count: &ExportCount) -> (u64, u64, u64) {
    (count.delivered.get(), count.failed.get(), count.dropped.get())
}

/// Sends in the background, as the daemon does.
fn sending(exporting: Exporting) -> thread::JoinHandle<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    thread::spawn(move || runtime.block_on(exporting.send("n1".into())))
}

/// By name, as text; each name once.
fn named(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    let named: BTreeMap<_, _> = attributes
        .iter()
        .map(|a| (a.key.as_str(), text(a.value.as_ref().unwrap())))
        .collect();
    assert_eq!(named.len(), attributes.len(), "a name that is there twice");
    named
}

fn text(value: &AnyValue) -> String {
    match value.value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::ArrayValue(all) => all.values.iter().map(text).collect::<Vec<_>>().join("|"),
        other => panic!("{other:?}"),
    }
}

fn records(request: &ExportLogsServiceRequest) -> &[LogRecord] {
    &request.resource_logs[0].scope_logs[0].log_records
}

#[test]
fn a_collector_that_takes_all_gets_each_verdict_as_a_record_and_nothing_else() {
    let server = server();
    let (mut sink, exporting, count) = sink(server.addr, 1);
    for output in outputs(REFUSED).iter().chain(&outputs(PROBE)) {
        sink.deliver(output).unwrap();
    }
    drop(sink);
    server
        .say
        .send((200, ExportLogsServiceResponse::default()))
        .unwrap();
    sending(exporting).join().unwrap();
    assert_eq!(counted(&count), (2, 0, 0), "of all the outputs two are verdicts");

    let request = server.got.recv().unwrap();
    let resource = &request.resource_logs[0].resource.as_ref().unwrap().attributes;
    let resource = named(resource);
    assert_eq!(
        (
            resource["service.name"].as_str(),
            resource["k8s.node.name"].as_str()
        ),
        ("zdt", "n1")
    );
    let [refused, probe] = records(&request) else {
        panic!("{request:?}")
    };
    assert_eq!(refused.event_name, "zdt.verdict");
    assert_eq!(
        (refused.severity_number, refused.severity_text.as_str()),
        (17, "ERROR")
    );
    assert_eq!(refused.time_unix_nano, 1_795_346_977_691_000_000);
    assert!(refused.observed_time_unix_nano > 0);
    assert_eq!(
        text(refused.body.as_ref().unwrap()),
        "SYN refused: web-57847fbcdb-lkj5v closed its listener 5 ms after SIGTERM, node n1 still routed to it 37 ms after the \
         deletion"
    );
    let attributes = named(&refused.attributes);
    for (name, wanted) in [
        ("k8s.namespace.name", "shop"),
        ("k8s.pod.name", "web-57847fbcdb-lkj5v"),
        ("k8s.pod.uid", "a78082aa-635d-4250-9903-f746631bac38"),
        ("k8s.pod.label.pod-template-hash", "57847fbcdb"),
        ("k8s.deployment.name", "web"),
        ("k8s.service.name", "web"),
        ("client.address", "10.244.2.2"),
        ("client.port", "59914"),
        ("server.address", "10.244.1.4"),
        ("server.port", "8080"),
        ("destination.address", "10.244.1.4"),
        ("error.type", "refused"),
        ("zdt.verdict.id", "10.244.2.2:59914>10.244.1.4:8080@1795346977"),
        ("zdt.workload", "deployment/web"),
        ("zdt.cause", "endpoint-removal-race"),
        ("zdt.blame", "rollout"),
        ("zdt.trigger", "rolling-update"),
        ("zdt.confidence", "full"),
    ] {
        assert_eq!(attributes[name], wanted, "{name}");
    }
    assert!(
        attributes["zdt.evidence"].contains("+0.012 s signal 15 from runc|"),
        "{}",
        attributes["zdt.evidence"]
    );
    assert!(!attributes.contains_key("zdt.amplifiers"), "there are none");
    assert_eq!(probe.severity_text, "INFO", "a probe is no request");
}

#[test]
fn a_collector_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    let server = server();
    let (mut sink, exporting, count) = sink(server.addr, 3);
    sink.deliver(&verdict()).unwrap();
    drop(sink);
    for status in [503, 429, 200] {
        server
            .say
            .send((status, ExportLogsServiceResponse::default()))
            .unwrap();
    }
    sending(exporting).join().unwrap();
    assert_eq!((counted(&count), server.got.try_iter().count()), ((1, 0, 0), 3));

    let server = self::server();
    let (mut sink, exporting, count) = self::sink(server.addr, 3);
    sink.deliver(&verdict()).unwrap();
    drop(sink);
    server
        .say
        .send((400, ExportLogsServiceResponse::default()))
        .unwrap();
    sending(exporting).join().unwrap();
    assert_eq!((counted(&count), server.got.try_iter().count()), ((0, 1, 0), 1));
}

#[test]
fn what_a_collector_rejects_of_a_request_is_counted() {
    let server = server();
    let (mut sink, exporting, count) = sink(server.addr, 1);
    for _ in 0..5 {
        sink.deliver(&verdict()).unwrap();
    }
    drop(sink);
    let partial_success = Some(ExportLogsPartialSuccess {
        rejected_log_records: 2,
        error_message: "too old".into(),
    });
    server
        .say
        .send((200, ExportLogsServiceResponse { partial_success }))
        .unwrap();
    sending(exporting).join().unwrap();
    assert_eq!(counted(&count), (3, 2, 0));
}

#[test]
fn a_collector_that_hangs_holds_up_nothing_and_what_does_not_fit_is_counted() {
    let server = server();
    let (mut sink, exporting, count) = sink(server.addr, 1);
    sink.deliver(&verdict()).unwrap();
    let sending = sending(exporting);
    // It has the first one, and does not answer.
    let first = server.got.recv().unwrap();
    let more = 100;
    for _ in 0..WAITING + more {
        sink.deliver(&verdict()).unwrap();
    }
    assert_eq!(counted(&count), (0, 0, more as u64));
    drop(sink);
    // It comes to itself: what waited gets there, every one once.
    for _ in 0..=WAITING {
        let _ = server.say.try_send((200, ExportLogsServiceResponse::default()));
    }
    sending.join().unwrap();
    let got = server.got.try_iter().map(|r| records(&r).len()).sum::<usize>() + records(&first).len();
    assert_eq!(got, 1 + WAITING);
    assert_eq!(counted(&count), (1 + WAITING as u64, 0, more as u64));
}

#[test]
fn a_collector_that_is_away_is_counted() {
    // A port that is taken, and that nobody listens on.
    let taken = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    taken.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let addr = taken.local_addr().unwrap().as_socket().unwrap();
    let (mut sink, exporting, count) = sink(addr, 3);
    for _ in 0..10 {
        sink.deliver(&verdict()).unwrap();
    }
    drop(sink);
    sending(exporting).join().unwrap();
    assert_eq!(counted(&count), (0, 10, 0));
}
