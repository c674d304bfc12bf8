//! The Events that the daemons wrote: kept in a file, and held against the summaries that they printed.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result};
use k8s_openapi::api::events::v1::Event;
use serde_json::Value;

use crate::api::Store;

/// As zdt says of itself.
const CONTROLLER: &str = "zdt";

/// One each line, in the order of their names.
pub(super) fn keep(store: &Store, file: &Path) -> Result<()> {
    let mut text = String::new();
    for event in store.list::<Event>() {
        if event.reporting_controller.as_deref() == Some(CONTROLLER) {
            text += &serde_json::to_string(&event)?;
            text.push('\n');
        }
    }
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Node, workload, beginning, reason.
type Said = (String, String, String, u64, String);

/// What is wrong: each cause of each rollout must have one Event, about an object that is known by its uid.
pub(super) fn findings(rollouts: &[Value], events: &str) -> Result<Vec<String>> {
    let mut due: BTreeMap<(String, String, String), std::collections::BTreeSet<Said>> = BTreeMap::new();
    for rollout in rollouts {
        let text = |at: &str| {
            rollout
                .pointer(at)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let number = |at: &str| rollout.pointer(at).and_then(Value::as_u64).unwrap_or_default();
        let causes = rollout
            .get("causes")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let causes = causes.filter_map(|c| c.get("cause")?.as_str());
        let unexplained = (number("/unexplained") > 0).then_some("unexplained");
        for cause in causes.chain(unexplained) {
            let (node, name) = (text("/node"), text("/workload/name"));
            let reason = camel(cause);
            let one = (
                node.clone(),
                text("/namespace"),
                name.clone(),
                number("/began"),
                reason.clone(),
            );
            due.entry((node, name, reason)).or_default().insert(one);
        }
    }
    let mut wrong = Vec::new();
    let mut there: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    for line in events.lines() {
        let event: Event = serde_json::from_str(line).context("not an Event")?;
        let about = event.regarding.unwrap_or_default();
        let (node, reason) = (event.reporting_instance, event.reason);
        let key = (
            node.unwrap_or_default(),
            about.name.unwrap_or_default(),
            reason.unwrap_or_default(),
        );
        // A bare pod is gone by then, and its uid with it.
        let bare = about.kind.as_deref() == Some("Pod");
        if about.uid.is_none() && !bare {
            wrong.push(format!(
                "the Event {} about {} names no uid: `kubectl describe` does not show it",
                key.2, key.1
            ));
        }
        *there.entry(key).or_default() += 1;
    }
    for (key, rollouts) in &due {
        let (node, name, reason) = key;
        let found = there.remove(key).unwrap_or_default();
        if found != rollouts.len() {
            wrong.push(format!(
                "{found} Events {reason} about {name} from {node}, for {} rollouts",
                rollouts.len()
            ));
        }
    }
    wrong.extend(there.keys().map(|(node, name, reason)| {
        format!("an Event {reason} about {name} from {node} that no summary has")
    }));
    Ok(wrong)
}

fn camel(cause: &str) -> String {
    let words = cause.split('-').map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_uppercase() + rest
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rollout(began: u64) -> Value {
        json!({"node": "n1", "namespace": "shop", "workload": {"kind": "deployment", "name": "web"}, "began": began,
               "unexplained": 0, "causes": [{"cause": "pod-ip-gone", "count": 3}]})
    }

    fn event(uid: Option<&str>) -> String {
        json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "web.1", "namespace": "shop"},
               "eventTime": null, "reportingInstance": "n1", "reason": "PodIpGone", "regarding": {"name": "web", "uid": uid}})
        .to_string()
            + "\n"
    }

    #[test]
    fn one_event_for_each_rollout_and_cause() {
        let good = event(Some("u"));
        // The same summary printed twice.
        assert_eq!(
            findings(&[rollout(1), rollout(1)], &good).unwrap(),
            Vec::<String>::new()
        );
        for (rollouts, events) in [
            (vec![rollout(1)], String::new()),
            (vec![rollout(1)], good.repeat(2)),
            (vec![rollout(1), rollout(2)], good.clone()),
            (vec![], good),
            (vec![rollout(1)], event(None)),
        ] {
            assert_eq!(findings(&rollouts, &events).unwrap().len(), 1, "{events}");
        }
    }
}
