//! What the types of a scenario cannot say: bounds, and fields that must fit each other.

mod actions;
mod client;
mod proxy;
mod workload;

use super::{Family, Scenario};

/// A value that is not allowed.
#[derive(Debug)]
pub(super) struct Found {
    /// Path of the field (`client.abort_share`).
    pub(super) field: &'static str,
    pub(super) value: String,
    pub(super) allowed: String,
}

/// Longest run: a scenario is a test, not a soak.
const MOST_SECONDS: f64 = 600.0;
/// The load client's own bound (client.rs).
const MOST_REQUESTS: f64 = 2_000_000.0;
pub(super) fn check(s: &Scenario) -> Result<(), Found> {
    let kebab = !s.name.is_empty()
        && s.name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    ensure(kebab, "name", &s.name, "small letters, digits and dashes")?;
    workload::check(s)?;
    let v4_only = s.network.family == Family::V6 && !s.app.dual_stack;
    ensure(!v4_only, "app.dual_stack", false, "true with network.family v6")?;
    proxy::check(s)?;
    // The test server makes such a segment itself, over IPv4 alone.
    let segments = s.network.family == Family::V6 && s.app.invalid_segment_every.is_some();
    ensure(
        !segments,
        "app.invalid_segment_every",
        "set",
        "absent with network.family v6",
    )?;
    client::check(s)?;
    actions::check(s)?;
    check_expect(s)
}

fn check_expect(s: &Scenario) -> Result<(), Found> {
    let e = &s.expect;
    if let Some(max) = e.failed.max {
        ensure(
            e.failed.min <= max,
            "expect.failed",
            format!("{} to {max}", e.failed.min),
            "min at most max",
        )?;
    }
    ensure(share(e.recall), "expect.recall", e.recall, "0 to 1")?;
    ensure(share(e.precision), "expect.precision", e.precision, "0 to 1")?;
    ensure(
        share(e.cause_accuracy),
        "expect.cause_accuracy",
        e.cause_accuracy,
        "0 to 1",
    )?;
    ensure(
        e.stages_within_ms.is_none_or(|ms| ms > 0.0),
        "expect.stages_within_ms",
        e.stages_within_ms.unwrap_or_default(),
        "above 0",
    )?;
    for cause in e.causes.iter().flat_map(std::collections::BTreeMap::values) {
        ensure(
            share(cause.min_share),
            "expect.causes.min_share",
            cause.min_share,
            "0 to 1",
        )?;
    }
    Ok(())
}

fn share(v: f64) -> bool {
    (0.0..=1.0).contains(&v)
}

#[expect(clippy::needless_pass_by_value, reason = "numbers and texts alike")]
fn ensure(
    fits: bool,
    field: &'static str,
    value: impl ToString,
    allowed: impl Into<String>,
) -> Result<(), Found> {
    if fits {
        return Ok(());
    }
    Err(Found {
        field,
        value: value.to_string(),
        allowed: allowed.into(),
    })
}

/// Line of a field's path in the file: each part is looked for after the one before it. 1 when it is not written
/// there (a default that does not fit what is written).
pub(super) fn line_of(text: &str, path: &str) -> u64 {
    let mut from = 0;
    for part in path.split('.') {
        let key = format!("{part}:");
        let Some(at) = text.get(from..).and_then(|rest| rest.find(&key)) else {
            break;
        };
        from += at;
    }
    let before = text.get(..from).unwrap_or_default();
    before.matches('\n').count() as u64 + 1
}
