//! A Deployment's conditions.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DeploymentCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Times move only when the condition does: lastTransitionTime with the status, lastUpdateTime with the reason.
pub(super) fn set_condition(
    conditions: &mut Vec<DeploymentCondition>,
    type_: &str,
    holds: bool,
    reason: &str,
) {
    let status = if holds { "True" } else { "False" };
    let now = Some(Time(Timestamp::now()));
    let old = conditions.iter().find(|condition| condition.type_ == type_);
    if old.is_some_and(|old| old.status == status && old.reason.as_deref() == Some(reason)) {
        return;
    }
    let since = old
        .filter(|old| old.status == status)
        .and_then(|old| old.last_transition_time.clone());
    let condition = DeploymentCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: None,
        last_update_time: now.clone(),
        last_transition_time: since.or(now),
    };
    conditions.retain(|condition| condition.type_ != type_);
    conditions.push(condition);
}
