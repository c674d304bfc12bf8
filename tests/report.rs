//! The report over recorded fixtures: what it says in each format, that outputs give the same one as their record, that names
//! from outside stay text, and that the patch is YAML with the advised value.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows tests by their attribute; this whole file is one"
)]

mod support;

use serde_json::Value;
use support::{fixtures, outputs};
use zdt_daemon::{
    report::{Report, Style, Wanted, explanation, html, markdown, screen},
    verdict::Output,
};

/// Ends elements, attributes, code and table cells, and obeys no line.
const HOSTILE: &str = "x\"'><script>alert(1)</script><img src=x onerror=y>\n```\n# [a](javascript:x) | `b` ~~~ @all &amp; \u{1b}[2J";

fn of(cause: &str, name: &str) -> Vec<Output> {
    let all = fixtures();
    let found = all.iter().find(|f| f.cause == cause && f.name == name);
    outputs(&found.unwrap().inputs)
}

fn report(outputs: Vec<Output>) -> Report {
    Report::of(outputs, &Wanted::default())
}

fn refused() -> Vec<Output> {
    of("endpoint-removal-race", "yes-refused")
}

#[test]
fn text_says_what_failed_why_and_what_to_change() {
    let told = report(refused());
    let text = screen(&told, Style::PLAIN);
    for wanted in [
        "requests failed 1     explained 1     unexplained 0     events lost 0",
        "confidence full",
        "    1  endpoint-removal-race  SYN refused",
        "do: lifecycle.preStop.sleep.seconds: ",
        "D deleted  S slice updated  T SIGTERM  L listener closed",
        "1 failed",
        "kubectl -n shop patch deployment web --patch-file /dev/stdin",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is missing in\n{text}");
    }
    assert!(!text.contains('\u{1b}'));
    assert!(screen(&told, Style { colour: true }).contains("\u{1b}[31mendpoint-removal-race"));
    assert_eq!(told.failed(), 1);
}

#[test]
fn steps_of_a_pods_end_are_in_the_order_of_its_end() {
    use zdt_daemon::report::Step;
    let told = report(refused());
    let lanes = &told.rollouts[0].lanes;
    let lane = lanes.iter().find(|l| !l.failures.is_empty()).unwrap();
    let at = |step| {
        lane.mark(step)
            .unwrap_or_else(|| panic!("{step:?} is missing: {lane:#?}"))
    };
    assert!(at(Step::Deleted).abs() < f64::EPSILON);
    assert!(at(Step::Deleted) < at(Step::Signalled));
    assert!(at(Step::Signalled) < at(Step::ListenerClosed));
    assert!(at(Step::ListenerClosed) < at(Step::RulesGone));
    let failed = lane.failures[0].ms;
    assert!(
        at(Step::Signalled) < failed && failed < at(Step::RulesGone),
        "{lane:#?}"
    );
}

#[test]
fn outputs_give_the_same_report_as_their_record() {
    for fixture in fixtures() {
        let said = outputs(&fixture.inputs);
        let read = said
            .iter()
            .map(|o| serde_json::from_str(&serde_json::to_string(o).unwrap()).unwrap());
        let read: Vec<Output> = read.collect();
        let text = |told| screen(&report(told), Style::PLAIN);
        assert_eq!(text(read), text(said), "{}", fixture.path.display());
    }
}

#[test]
fn every_failed_request_of_a_fixture_is_in_its_report_once() {
    for fixture in fixtures() {
        let said = outputs(&fixture.inputs);
        let is_request = |o: &&Output| matches!(o, Output::Verdict(v) if v.blame != zdt_daemon::verdict::Blame::NotARequest);
        let verdicts = said.iter().filter(is_request).count();
        let told = report(said);
        let in_stories: usize = told.rollouts.iter().map(|s| s.verdicts.len()).sum();
        assert_eq!(
            in_stories + told.apart.len(),
            verdicts,
            "{}",
            fixture.path.display()
        );
        let marks = told
            .rollouts
            .iter()
            .flat_map(|s| &s.lanes)
            .map(|l| l.failures.len());
        assert_eq!(marks.sum::<usize>(), in_stories, "{}", fixture.path.display());
    }
}

#[test]
fn another_workload_or_an_earlier_time_is_left_out() {
    let asked = |workload: &str| Wanted {
        workload: Some(workload.to_owned()),
        ..Wanted::default()
    };
    assert_eq!(Report::of(refused(), &asked("deployment/web")).rollouts.len(), 1);
    assert!(Report::of(refused(), &asked("statefulset/web")).is_empty());
    let old = Wanted {
        since_ms: Some(-1),
        ..Wanted::default()
    };
    assert!(Report::of(refused(), &old).is_empty(), "nothing is after the end");
}

#[test]
fn patch_is_yaml_with_the_advised_value() {
    let told = report(refused());
    let story = &told.rollouts[0];
    let patch: Value = serde_saphyr::from_str(story.patch.as_ref().unwrap()).unwrap();
    let container = &patch["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["name"], "app");
    let advised = story.rollout.advice[0].value.unwrap();
    assert_eq!(container["lifecycle"]["preStop"]["sleep"]["seconds"], advised);
}

#[test]
fn patch_of_another_hook_removes_it_and_a_long_sleep_takes_its_grace_along() {
    let mut told = report(refused());
    let rollout = &mut told.rollouts[0].rollout;
    let template = rollout.template.as_mut().unwrap();
    template.container = Some("a \"b\": {c}\n- d".to_owned());
    template.other_hook = Some("exec".to_owned());
    template.grace_s = 30;
    rollout.advice[0].value = Some(40);
    let patch: Value = serde_saphyr::from_str(&zdt_daemon::report::patch(rollout).unwrap()).unwrap();
    let pod = &patch["spec"]["template"]["spec"];
    assert_eq!(pod["terminationGracePeriodSeconds"], 70);
    assert_eq!(pod["containers"][0]["name"], "a \"b\": {c}\n- d");
    let hook = &pod["containers"][0]["lifecycle"]["preStop"];
    assert_eq!(hook["sleep"]["seconds"], 40);
    assert!(hook.as_object().unwrap()["exec"].is_null());
    rollout.template.as_mut().unwrap().container = None;
    assert!(
        zdt_daemon::report::patch(rollout).is_none(),
        "no container, no patch"
    );
}

/// The same outputs with every name and sentence replaced.
fn hostile() -> Report {
    fn poison(value: &mut Value) {
        match value {
            Value::Object(map) => {
                for (key, value) in map.iter_mut() {
                    let free = matches!(
                        key.as_str(),
                        "name"
                            | "pod"
                            | "because"
                            | "what"
                            | "node"
                            | "summary"
                            | "setting"
                            | "template_hash"
                            | "namespace"
                            | "container"
                            | "id"
                            | "pod_node"
                    );
                    match value {
                        Value::String(text) if free => HOSTILE.clone_into(text),
                        other => poison(other),
                    }
                }
            }
            Value::Array(all) => all.iter_mut().for_each(poison),
            _ => {}
        }
    }
    let said = refused();
    let poisoned = said.iter().map(|o| {
        let mut value = serde_json::to_value(o).unwrap();
        poison(&mut value);
        serde_json::from_value(value).unwrap()
    });
    let told = report(poisoned.collect());
    assert!(!told.rollouts[0].verdicts.is_empty());
    told
}

#[test]
fn what_comes_from_outside_is_text_in_html() {
    let page = html(&hostile());
    assert!(page.contains("&lt;script&gt;"), "it is there, as text");
    let (_, body) = page.split_once("</head>").unwrap();
    let known = [
        "body", "main", "section", "h1", "h2", "p", "ul", "li", "b", "i", "span", "small", "div", "table",
        "tr", "th", "td", "pre", "code", "details", "summary", "footer", "html", "svg", "title", "line",
        "text", "rect", "path", "g",
    ];
    for tag in body.split('<').skip(1) {
        let name: String = tag
            .trim_start_matches('/')
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect();
        assert!(known.contains(&name.as_str()), "<{tag}");
    }
    for tag in [
        "section", "svg", "g", "title", "text", "table", "tr", "td", "details", "pre", "div", "ul", "li",
    ] {
        let opened = body.matches(&format!("<{tag}>")).count() + body.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, body.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    assert!(!body.contains("onerror=y>"), "an attribute's quote was ended");
    assert!(!page.contains('\u{1b}'));
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"));
}

#[test]
fn what_comes_from_outside_is_text_in_markdown() {
    let text = markdown(&hostile());
    let mut in_code = false;
    let mut blocks = 0;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            blocks += 1;
            assert!(["```", "```yaml", "```text"].contains(&line), "{line}");
        } else if in_code {
            assert!(!line.contains('`'), "{line}");
        } else {
            let own = ["<details>", "<summary>", "</summary>", "</details>"];
            let rest = own.iter().fold(line.to_owned(), |l, tag| l.replace(tag, ""));
            assert!(!rest.contains('<') && !rest.contains('@'), "{line}");
            let unescaped = |c: char| rest.replace(&format!("\\{c}"), "").contains(c);
            assert!(!unescaped('`') && !unescaped('['), "{line}");
        }
    }
    assert!(!in_code && blocks >= 4, "{text}");
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn explanation_has_the_whole_chain_in_the_order_of_time() {
    let said = refused();
    let verdict = said.iter().find_map(|o| match o {
        Output::Verdict(v) => Some(v),
        _ => None,
    });
    let text = explanation(verdict.unwrap(), Style::PLAIN);
    let chain = [
        "+0.000 ms  deletion of the pod seen",
        "signal 15 from",
        "listener",
        "the client saw it: refused",
        "rules of node n1 let go of the pod",
    ];
    let (_, evidence) = text
        .split_once("evidence (since the pod's deletion was seen)")
        .unwrap();
    let places: Vec<usize> = chain
        .iter()
        .map(|c| {
            evidence
                .find(c)
                .unwrap_or_else(|| panic!("{c:?} is missing in\n{text}"))
        })
        .collect();
    assert!(places.is_sorted(), "{text}");
}
