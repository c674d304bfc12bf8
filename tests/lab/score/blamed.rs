//! Whose rollout the verdicts blame.

use serde::Deserialize;

use super::Claim;
use crate::scenario::Expect;

/// The pod of a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Pod {
    namespace: String,
    #[serde(default)]
    workload: Option<Workload>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Workload {
    name: String,
}

/// The finding that verdicts blame another workload's rollout than the scenario's.
pub(super) fn another(claims: &[Claim], expect: &Expect) -> Option<String> {
    let expected = expect.blamed.as_ref()?;
    let blaming = claims.iter().filter(|c| c.blame == "rollout");
    let others = blaming.filter(|c| workload(c).as_ref() != Some(expected)).count();
    (others > 0).then(|| format!("{others} verdicts blame a rollout of another workload than {expected}"))
}

fn workload(claim: &Claim) -> Option<String> {
    let pod = claim.pod.as_ref()?;
    Some(format!("{}/{}", pod.namespace, pod.workload.as_ref()?.name))
}
