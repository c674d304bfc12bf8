//! A verdict as a log record. Attributes have the names of OpenTelemetry's semantic conventions where there are some, and
//! begin with `zdt.` where there are none.

use std::net::SocketAddr;

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
    resource::v1::Resource,
};

use crate::{
    clock,
    input::{Wall, Workload},
    report,
    sink::metrics::word,
    verdict::{Blame, Confidence, Evidence, Finding, Judgement, Verdict},
};

/// What makes all records of one kind an event.
const EVENT: &str = "zdt.verdict";

pub(super) fn request(node: &str, verdicts: &[Box<Verdict>]) -> ExportLogsServiceRequest {
    let version = env!("CARGO_PKG_VERSION");
    let observed = clock::wall();
    let resource = Resource {
        attributes: vec![
            text("service.name", "zdt"),
            text("service.version", version),
            text("k8s.node.name", node),
        ],
        ..Resource::default()
    };
    let scope = InstrumentationScope {
        name: "zdt".into(),
        version: version.into(),
        ..InstrumentationScope::default()
    };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource),
            scope_logs: vec![ScopeLogs {
                scope: Some(scope),
                log_records: verdicts.iter().map(|v| record(v, observed)).collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}

fn record(verdict: &Verdict, observed: Wall) -> LogRecord {
    let (severity, name) = match verdict.blame {
        Blame::NotARequest => (SeverityNumber::Info, "INFO"),
        Blame::Rollout | Blame::NotTheRollout | Blame::Unknown => (SeverityNumber::Error, "ERROR"),
    };
    LogRecord {
        time_unix_nano: nanoseconds(verdict.wall),
        observed_time_unix_nano: nanoseconds(observed),
        severity_number: severity.into(),
        severity_text: name.into(),
        event_name: EVENT.into(),
        body: Some(value(report::because(verdict))),
        attributes: attributes(verdict),
        ..LogRecord::default()
    }
}

fn attributes(verdict: &Verdict) -> Vec<KeyValue> {
    let outcome = verdict.outcome.to_string();
    let mut all = vec![
        text("zdt.verdict.id", &verdict.id),
        text("zdt.cause", verdict.cause()),
        text("zdt.blame", &word(&verdict.blame)),
        text("zdt.trigger", &word(&verdict.trigger)),
        text("error.type", &outcome),
        key(
            "zdt.took_ms",
            Value::DoubleValue(verdict.ended.ms_since(verdict.began)),
        ),
    ];
    let (level, lost) = match verdict.confidence {
        Confidence::Full => ("full", 0),
        Confidence::Degraded { lost } => ("degraded", lost),
    };
    all.push(text("zdt.confidence", level));
    if lost > 0 {
        let lost = i64::try_from(lost).unwrap_or(i64::MAX);
        all.push(key("zdt.events_lost", Value::IntValue(lost)));
    }
    let namespace = match (&verdict.pod, &verdict.service) {
        (Some(pod), _) => Some(&pod.pod.namespace),
        (None, service) => service.as_ref().map(|s| &s.namespace),
    };
    all.extend(namespace.map(|n| text("k8s.namespace.name", n)));
    if let Some(pod) = &verdict.pod {
        all.push(text("k8s.pod.name", &pod.pod.name));
        all.push(text("k8s.pod.uid", &pod.uid.to_string()));
        let hash = pod.template_hash.as_deref();
        all.extend(hash.map(|hash| text("k8s.pod.label.pod-template-hash", hash)));
        all.extend(pod.workload.iter().flat_map(workload));
    }
    all.extend(verdict.service.iter().map(|s| text("k8s.service.name", &s.name)));
    all.extend(address("client", Some(verdict.client)));
    all.extend(address("server", verdict.dialled.or(verdict.server)));
    all.extend(address("destination", verdict.server));
    all.extend(texts(
        "zdt.amplifiers",
        verdict.amplifiers.iter().map(|a| (*a).to_string()),
    ));
    all.extend(texts("zdt.gaps", verdict.gaps.iter().map(ToString::to_string)));
    let (Judgement::Explained {
        finding: Finding { evidence, .. },
        ..
    }
    | Judgement::Unexplained { seen: evidence, .. }) = &verdict.judgement;
    all.extend(texts("zdt.evidence", evidence.iter().map(told)));
    all
}

/// `deployment/web` for all kinds, and the conventions' own name for those that have one.
fn workload(of: &Workload) -> impl Iterator<Item = KeyValue> + use<> {
    let conventional = match of.kind.as_str() {
        "deployment" => Some("k8s.deployment.name"),
        "statefulset" => Some("k8s.statefulset.name"),
        "daemonset" => Some("k8s.daemonset.name"),
        "replicaset" => Some("k8s.replicaset.name"),
        "job" => Some("k8s.job.name"),
        _ => None,
    };
    let conventional = conventional.map(|key| text(key, &of.name));
    let all = text("zdt.workload", &format!("{}/{}", of.kind, of.name));
    std::iter::once(all).chain(conventional)
}

fn address(side: &str, of: Option<SocketAddr>) -> impl Iterator<Item = KeyValue> + use<> {
    let pair = of.map(|of| {
        [
            text(&format!("{side}.address"), &of.ip().to_canonical().to_string()),
            key(&format!("{side}.port"), Value::IntValue(of.port().into())),
        ]
    });
    pair.into_iter().flatten()
}

fn told(evidence: &Evidence) -> String {
    match evidence.since_deletion_ms {
        Some(ms) => format!("{:+.3} s {}", ms / 1000.0, evidence.what),
        None => evidence.what.clone(),
    }
}

/// None where there are none.
fn texts(name: &str, of: impl Iterator<Item = String>) -> Option<KeyValue> {
    let values: Vec<AnyValue> = of.map(value).collect();
    (!values.is_empty()).then(|| key(name, Value::ArrayValue(ArrayValue { values })))
}

fn value(text: String) -> AnyValue {
    AnyValue {
        value: Some(Value::StringValue(text)),
    }
}

fn text(name: &str, of: &str) -> KeyValue {
    key(name, Value::StringValue(of.to_owned()))
}

fn key(name: &str, of: Value) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(of) }),
        ..KeyValue::default()
    }
}

fn nanoseconds(of: Wall) -> u64 {
    u64::try_from(of.0).unwrap_or(0).saturating_mul(1_000_000)
}
