//! The gate: what it answers of what it was told, from files, from several daemons, and over HTTP. What is not known is never
//! read as fine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows tests by their attribute; this whole file is one"
)]

#[path = "gate/daemons.rs"]
mod daemons;
#[path = "gate/guarded.rs"]
mod guarded;
#[path = "support/served.rs"]
mod served;
mod support;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output as Ended, Stdio},
};

use support::{fixtures, outputs};
use zdt_daemon::{
    clock,
    input::Ktime,
    report::{Answer, Gate, Looked, Wanted},
    verdict::{Output, RolloutSummary, UnderWay},
};

/// A refused request and its rollout.
fn refused() -> Vec<Output> {
    let all = fixtures();
    let found = all
        .iter()
        .find(|f| f.cause == "endpoint-removal-race" && f.name == "yes-refused");
    outputs(&found.unwrap().inputs)
}

/// A rollout of one pod on `node` that lost `failed` requests, and of `elsewhere` pods on other nodes. It began just now.
fn rollout(node: &str, failed: usize, elsewhere: usize) -> RolloutSummary {
    let all = refused();
    let found = all.into_iter().find_map(|o| match o {
        Output::Rollout(r) => Some(*r),
        _ => None,
    });
    RolloutSummary {
        node: node.to_owned(),
        pods: 1,
        pods_elsewhere: elsewhere,
        failed,
        explained: failed,
        began: clock::now(),
        wall: clock::wall(),
        took_ms: 100.0,
        ..found.unwrap()
    }
}

fn told(rollout: RolloutSummary) -> Looked {
    Looked {
        from: rollout.node.clone(),
        outputs: vec![Output::Rollout(Box::new(rollout))],
        ..Looked::default()
    }
}

fn web() -> Wanted {
    Wanted {
        namespace: Some("shop".to_owned()),
        workload: Some("deployment/web".to_owned()),
        since_ms: None,
    }
}

#[track_caller]
fn answers(looked: Vec<Looked>, budget: usize, wanted: Answer, says: &str) {
    let gate = Gate::of(looked, &web(), budget);
    assert!(
        gate.answer == wanted && gate.says().contains(says),
        "{:?}: {}",
        gate.answer,
        gate.says()
    );
}

#[test]
fn only_what_is_known_passes() {
    let clean = || rollout("n1", 0, 0);
    answers(vec![told(clean())], 0, Answer::Kept, "no request lost");
    answers(
        vec![told(rollout("n1", 2, 0))],
        0,
        Answer::Lost,
        "2 requests lost",
    );
    answers(
        vec![told(rollout("n1", 2, 0))],
        2,
        Answer::Kept,
        "2 requests lost of 2 allowed",
    );
    answers(
        vec![],
        0,
        Answer::Unknown,
        "no rollout of deployment/web was seen",
    );
    answers(vec![Looked::default()], 0, Answer::Unknown, "no rollout");

    let lost = RolloutSummary {
        events_lost: 1,
        ..clean()
    };
    answers(vec![told(lost)], 0, Answer::Unknown, "1 events were lost");
    let blind = Looked {
        blind: vec!["a hook is missing".into()],
        ..told(clean())
    };
    answers(vec![blind], 0, Answer::Unknown, "n1: a hook is missing");
    answers(
        vec![told(rollout("n1", 0, 1))],
        0,
        Answer::Unknown,
        "1 pods ended on nodes that did not tell",
    );
    answers(
        vec![told(rollout("n1", 0, 1)), told(rollout("n2", 0, 1))],
        0,
        Answer::Kept,
        "no request lost",
    );
    // A second node that is silent, though it had no pods: its clients may have lost something.
    let silent = Looked {
        from: "n2".into(),
        blind: vec!["no answer".into()],
        ..Looked::default()
    };
    answers(
        vec![told(clean()), silent.clone()],
        0,
        Answer::Unknown,
        "n2: no answer",
    );
    // What was lost is certain, whatever else is not.
    answers(
        vec![told(rollout("n1", 1, 1)), silent],
        0,
        Answer::Lost,
        "1 request lost",
    );
    // Another workload's rollout says nothing.
    let other = RolloutSummary {
        namespace: "other".into(),
        ..clean()
    };
    answers(vec![told(other)], 0, Answer::Unknown, "no rollout");
}

fn under_way(failed: usize) -> UnderWay {
    let r = rollout("n1", 0, 0);
    UnderWay {
        node: r.node,
        namespace: r.namespace,
        workload: r.workload,
        trigger: r.trigger,
        from: r.from,
        to: r.to,
        began: Ktime(1),
        wall: r.wall,
        here: zdt_daemon::verdict::PodCount::default(),
        elsewhere: zdt_daemon::verdict::PodCount::default(),
        old_wanted: Some(1),
        new_wanted: Some(1),
        failed,
        unexplained: 0,
        not_the_rollout: 0,
        events_lost: 0,
        causes: vec![("pod-ip-gone".to_owned(), failed)],
        summed_up: false,
    }
}

#[test]
fn rollout_that_goes_on_is_no_pass_and_may_be_a_fail() {
    let on = |failed| Looked {
        from: "n1".into(),
        under_way: vec![under_way(failed)],
        ..Looked::default()
    };
    answers(
        vec![on(0)],
        0,
        Answer::UnderWay,
        "under way, 0 requests lost so far",
    );
    answers(vec![on(3)], 0, Answer::Lost, "3 requests lost");
    // Over on one node, and going on on another.
    answers(
        vec![told(rollout("n2", 0, 0)), on(0)],
        0,
        Answer::UnderWay,
        "so far",
    );
    let mut late = Gate::of(vec![on(0)], &web(), 0);
    late.time_out("the rollout is not over");
    assert_eq!(late.answer, Answer::Unknown);
}

fn zdt(args: &[&str]) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_zdt-lab")).with_file_name("zdt"));
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[track_caller]
fn ends(ended: &Ended, code: i32, says: &str) {
    let text = [&ended.stdout[..], &ended.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(
        ended.status.code() == Some(code) && text.contains(says),
        "{:?} {text}",
        ended.status
    );
}

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("zdt-test-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn outputs(&self, name: &str, outputs: &[Output]) -> String {
        let lines: Vec<String> = outputs
            .iter()
            .map(|o| serde_json::to_string(o).unwrap() + "\n")
            .collect();
        let path = self.0.join(name);
        std::fs::write(&path, lines.concat()).unwrap();
        path.display().to_string()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn files_are_read_as_the_report_reads_them_and_the_exit_status_tells() {
    let dir = Dir::new("gate-files");
    let web = ["gate", "deployment/web", "-n", "shop", "--record"];
    let of = |files: &[&str], more: &[&str]| zdt(&[&web[..], files, more].concat()).output().unwrap();
    let failed = dir.outputs("failed.jsonl", &refused());
    ends(
        &of(&[&failed], &[]),
        1,
        "gate failed: 1 request lost\n\nrollout  shop/deployment/web",
    );
    ends(
        &of(&[&failed], &["--budget", "1"]),
        0,
        "gate passed: 1 request lost of 1 allowed",
    );
    ends(
        &of(&[&failed], &["--format", "junit"]),
        1,
        "<failure message=\"1 request lost\">\nrollout  shop/deployment/web",
    );
    ends(
        &of(&[&failed], &["--format", "markdown"]),
        1,
        "# deployment/web: gate failed\n\n1 request lost\n\n## shop/deployment/web",
    );
    ends(&of(&[&failed], &["--format", "json"]), 1, "\"answer\":\"lost\"");

    let one = dir.outputs("n1.jsonl", &[Output::Rollout(Box::new(rollout("n1", 0, 1)))]);
    let two = dir.outputs("n2.jsonl", &[Output::Rollout(Box::new(rollout("n2", 0, 1)))]);
    ends(
        &of(&[&one, "--record", &two], &[]),
        0,
        "gate passed: no request lost",
    );
    ends(
        &of(&[&one], &["--format", "junit"]),
        2,
        "<error message=\"cannot tell: 1 pods ended on nodes",
    );
    let missing = dir.0.join("none").display().to_string();
    ends(
        &of(&[&one, "--record", &two, "--record", &missing], &[]),
        2,
        "cannot tell",
    );
    // A line that is cut off may have been a failure.
    let text = std::fs::read_to_string(&one).unwrap() + "{\"kind\":\"verd";
    let cut = dir.0.join("cut.jsonl");
    std::fs::write(&cut, text).unwrap();
    ends(
        &of(&[&cut.display().to_string(), "--record", &two], &[]),
        2,
        "line 2 is not an output",
    );
}

#[test]
fn record_that_ends_before_its_rollout_cannot_tell() {
    let all = fixtures();
    let fixture = all
        .iter()
        .find(|f| f.cause == "endpoint-removal-race" && f.name == "yes-refused")
        .unwrap();
    let text = std::fs::read_to_string(&fixture.path).unwrap();
    // Up to the first pod's deletion and a bit.
    let deletion = text.lines().position(|l| l.contains("\"deletion\":{")).unwrap();
    let head: Vec<&str> = text.lines().take(deletion + 2).collect();
    let dir = Dir::new("gate-cut");
    let file = dir.0.join("record.jsonl");
    std::fs::write(&file, head.join("\n") + "\n").unwrap();
    let file = file.display().to_string();
    let ended = zdt(&["gate", "deployment/web", "-n", "shop", "--record", &file])
        .output()
        .unwrap();
    ends(&ended, 2, "it ends before the rollout does");
}
