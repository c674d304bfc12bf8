//! Seeds of what the kernel does not say: records, objects of the API, requests; and of the ring's records and of BTF.

use std::{collections::BTreeMap, fs, path::PathBuf};

use zdt_common::{ABI, Hook};

use super::holds;

fn read(path: &str) -> Vec<u8> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read(root.join(path)).unwrap()
}

/// Of `fuzz_targets/events.rs`: the length of a record, the record.
fn record(hook: Hook, payload: &[u8]) -> Vec<u8> {
    let mut record = 5_000_000_000_u64.to_le_bytes().to_vec();
    record.extend(ABI.to_le_bytes());
    record.extend((hook as u16).to_le_bytes());
    record.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
    record.extend(payload);
    let length = u16::try_from(record.len()).unwrap().to_le_bytes();
    [&length[..], &record].concat()
}

#[test]
fn events_start_from_a_record_of_each_hook() {
    let mut seeds = BTreeMap::new();
    for hook in Hook::ALL {
        let mut payload = vec![0; hook.payload_len()];
        // Addresses, names of cgroups and an answer's head are text somewhere in it.
        let text: &[u8] = match hook {
            Hook::CgroupSkbEgress => b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 5\r\n\r\nbusy\n",
            _ => b"kubepods-burstable-pod0a1b2c3d_0000_4000_8000_000000000000.slice\0",
        };
        let at = payload.len().saturating_sub(text.len() + 64) / 8 * 8;
        for (to, from) in payload[at..].iter_mut().zip(text) {
            *to = *from;
        }
        let name = hook.name().replace('/', "-");
        seeds.insert(format!("hook-{name}"), record(*hook, &payload));
    }
    holds("events", &seeds);
}

#[test]
fn btf_starts_from_the_kernels_that_zdt_runs_on() {
    let kernels = ["5.10", "6.1", "6.18"].map(|series| {
        let btf = read(&format!("tests/fixtures/btf/{series}.btf"));
        let length = u32::try_from(btf.len()).unwrap().to_le_bytes();
        (format!("kernel-{series}"), [&length[..], &btf].concat())
    });
    holds("btf", &kernels.into());
}

/// Long ones are slow: the first of a record, with its head.
fn first(record: &str, lines: usize) -> Vec<u8> {
    let record = String::from_utf8(read(&format!("tests/fixtures/{record}.jsonl"))).unwrap();
    record
        .split_inclusive('\n')
        .take(lines)
        .collect::<String>()
        .into_bytes()
}

#[test]
fn record_starts_from_recorded_rollouts_and_from_what_is_none() {
    let head = "{\"format\":\"zdt-record\",\"version\":1,\"zdt\":\"0.1.0\"}\n";
    let tick = "{\"at\":5,\"what\":\"tick\"}\n";
    holds(
        "record",
        &BTreeMap::from([
            ("rollout".to_owned(), first("immediate-exit/yes-answer-cut", 60)),
            (
                "packets".to_owned(),
                first("stale-conntrack-entry/yes-port-used-again", 60),
            ),
            ("newer".to_owned(), head.replace(":1,", ":9,").into_bytes()),
            (
                "cut".to_owned(),
                format!("{head}{tick}{{\"at\":6,\"wh").into_bytes(),
            ),
            (
                "unknown".to_owned(),
                format!("{head}{tick}{{\"at\":6,\"what\":\"later\"}}\n").into_bytes(),
            ),
        ]),
    );
}

#[test]
fn correlator_starts_from_each_record_as_it_was_recorded() {
    // Of `fuzz_targets/correlator.rs`: which line, which of its values, nothing instead.
    let lines = |record: &str| {
        let text = String::from_utf8(read(&format!("tests/fixtures/{record}.jsonl"))).unwrap();
        u16::try_from(text.lines().count() - 1).unwrap()
    };
    let (mut from, mut seeds) = (0, BTreeMap::new());
    for record in [
        "immediate-exit/yes-answer-cut",
        "stale-conntrack-entry/yes-port-used-again",
        "accept-queue-overflow/yes-syn",
    ] {
        let to = from + lines(record);
        let script = (from..to).flat_map(|line| [line.to_le_bytes()[0], line.to_le_bytes()[1], 0, 0]);
        let (cause, _) = record.split_once('/').unwrap();
        seeds.insert(cause.to_owned(), script.collect());
        from = to;
    }
    holds("correlator", &seeds);
}

#[test]
fn objects_start_from_a_real_api_servers() {
    let object = |name: &str| {
        let object: serde_json::Value =
            serde_json::from_slice(&read(&format!("zdt-daemon/tests/fixtures/{name}.json"))).unwrap();
        object.to_string()
    };
    let (pod, slice, replica_set) = (
        object("pod-terminating"),
        object("endpointslice-rolling"),
        object("replicaset"),
    );
    let service = r#"{"metadata":{"name":"web","namespace":"shop","resourceVersion":"5"},"spec":{"clusterIP":"10.96.0.80","ports":[{"port":80,"nodePort":30080}],"selector":{"app":"web"}}}"#;
    let older = pod.replace("\"resourceVersion\":\"", "\"resourceVersion\":\"1");
    assert_ne!(older, pod);
    let seed = |lines: &[String]| lines.join("\n").into_bytes();
    holds(
        "objects",
        &BTreeMap::from([
            (
                "pod".to_owned(),
                seed(&[format!("pa{pod}"), format!("pa{older}"), format!("pd{pod}")]),
            ),
            (
                "slice".to_owned(),
                seed(&[format!("sa{slice}"), format!("sd{slice}")]),
            ),
            (
                "lists".to_owned(),
                seed(&[
                    "pb".into(),
                    "pe".into(),
                    format!("va{service}"),
                    format!("ra{replica_set}"),
                    "pi".into(),
                    "pg".into(),
                    "pb".into(),
                    format!("pl{pod}"),
                    "pe".into(),
                ]),
            ),
        ]),
    );
}

#[test]
fn http_starts_from_the_requests_that_zdt_answers() {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes();
    let hook = r#"{"name":"web","namespace":"shop","phase":"Progressing","metadata":{"budget":"1"}}"#;
    let posted = format!(
        "POST /api/v1/gate?over=true HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{hook}",
        hook.len()
    );
    let chunked =
        "POST /api/v1/gate HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    let listened = "GET /api/v1/events HTTP/1.1\r\nhost: x\r\nlast-event-id: 1-2.3\r\n\r\n";
    holds(
        "http",
        &BTreeMap::from([
            ("page".to_owned(), get("/")),
            ("metrics".to_owned(), get("/metrics")),
            (
                "outputs".to_owned(),
                get("/api/v1/outputs?since=1&boot=x&namespace=shop&workload=deployment%2Fweb"),
            ),
            ("state".to_owned(), get("/api/v1/state")),
            (
                "gate".to_owned(),
                get("/api/v1/gate?workload=deployment/web&namespace=shop&since=10m&budget=1&to=5c9f"),
            ),
            (
                "lanes".to_owned(),
                get("/api/v1/lanes?workload=web&began=1700000000000"),
            ),
            ("report".to_owned(), get("/api/v1/report?format=markdown")),
            ("events".to_owned(), get("/api/v1/events?since=0&last=5")),
            ("webhook".to_owned(), posted.into_bytes()),
            ("chunked".to_owned(), chunked.as_bytes().to_vec()),
            ("goes-on".to_owned(), listened.as_bytes().to_vec()),
        ]),
    );
}
