//! The advice as a strategic merge patch, for `kubectl patch --patch-file`.

use std::fmt::Write as _;

use super::json;
use crate::verdict::RolloutSummary;

/// The patch of the settings that have a value and a place in the template; None: there is none, or it is not known which
/// container serves.
pub fn patch(rollout: &RolloutSummary) -> Option<String> {
    // What kubectl calls them, and what has a template of pods.
    if !matches!(
        rollout.workload.kind.as_str(),
        "deployment" | "statefulset" | "daemonset"
    ) {
        return None;
    }
    let value = |setting: &str| {
        let of = rollout.advice.iter().find(|a| a.setting == setting);
        of.and_then(|a| a.value)
    };
    let sleep = value("lifecycle.preStop.sleep.seconds");
    let template = rollout.template.as_ref()?;
    let container = match sleep {
        Some(sleep) => Some((sleep, template.container.as_ref()?)),
        None => None,
    };
    let grace = [
        value("terminationGracePeriodSeconds"),
        longer_grace(rollout, sleep),
    ];
    let grace = grace.into_iter().flatten().max();
    if container.is_none() && grace.is_none() {
        return None;
    }
    let mut text = String::from("spec:\n  template:\n    spec:\n");
    // Writing to a String cannot fail.
    if let Some(grace) = grace {
        let _ = writeln!(text, "      terminationGracePeriodSeconds: {grace}");
    }
    if let Some((sleep, container)) = container {
        // A JSON string is a YAML string, whatever is in it.
        // JSON's strings are YAML's (YAML 1.2, 1.3).
        let name = json(container).unwrap_or_default();
        let _ = write!(
            text,
            "      containers:\n        - name: {name}\n          lifecycle:\n            preStop:\n              sleep:\n                \
             seconds: {sleep}\n"
        );
        // A hook has one action: the sleep takes the place of the other one.
        match template.other_hook.as_deref() {
            Some("exec") => text.push_str("              exec: null\n"),
            Some("http") => text.push_str("              httpGet: null\n"),
            _ => {}
        }
    }
    Some(text)
}

/// The grace that leaves as much time after the new sleep as there was after the old one, where the new one would not fit.
fn longer_grace(rollout: &RolloutSummary, sleep: Option<u64>) -> Option<u64> {
    let template = rollout.template.as_ref()?;
    let grace = u64::try_from(template.grace_s).ok()?;
    let more = sleep?.saturating_sub(template.pre_stop_s.unwrap_or(0));
    (sleep? + 1 > grace).then_some(grace + more)
}

/// How to apply it.
pub fn patch_command(rollout: &RolloutSummary) -> String {
    format!(
        "kubectl -n {} patch {} {} --patch-file /dev/stdin",
        word(&rollout.namespace),
        word(&rollout.workload.kind),
        word(&rollout.workload.name)
    )
}

/// A word for a shell. Names of Kubernetes are one as they are; a record may have been written by anybody.
fn word(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if !name.is_empty() && name.chars().all(plain) && !name.starts_with('-') {
        return name.to_owned();
    }
    format!("'{}'", name.replace('\'', "'\\''"))
}
