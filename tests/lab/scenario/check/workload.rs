//! Bounds of workloads and of the server's switches.

use super::{
    super::{App, Kind, Scenario, Workload},
    Found, ensure,
};

/// Pods of one bridge: enough for any rollout on two cores.
const MOST_REPLICAS: u32 = 50;
/// A container that may take more than this endangers the machine.
const MOST_MEMORY_MIB: u32 = 512;
/// The load client reads no longer answer.
const MOST_BODY: u32 = 1 << 19;

pub(super) fn check(s: &Scenario) -> Result<(), Found> {
    one(&s.workload, &s.app)?;
    let served = !matches!(s.workload.kind, Kind::Job);
    ensure(
        served,
        "workload.kind",
        "job",
        "any kind that serves; a job may stand in `beside`",
    )?;
    for beside in &s.beside {
        let name = &beside.name;
        let fits = !name.is_empty()
            && !["web", "client", "proxy"].contains(&name.as_str())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        ensure(
            fits,
            "beside.name",
            name,
            "small letters, digits and dashes, not `web`, `client` or `proxy`",
        )?;
        let same = s.beside.iter().filter(|other| other.name == *name).count();
        ensure(same == 1, "beside.name", name, "once")?;
        one(&beside.workload, &beside.app)?;
    }
    Ok(())
}

pub(super) fn one(w: &Workload, app: &App) -> Result<(), Found> {
    ensure(
        w.replicas <= MOST_REPLICAS,
        "workload.replicas",
        w.replicas,
        format!("at most {MOST_REPLICAS}"),
    )?;
    let stuck = w.kind == Kind::Deployment && w.max_surge == 0 && w.max_unavailable == 0;
    ensure(
        !stuck,
        "workload.max_surge",
        0,
        "above 0, or max_unavailable above 0: else nothing can roll",
    )?;
    for probe in [&w.readiness, &w.liveness, &w.startup].into_iter().flatten() {
        for (field, value) in [
            ("workload.readiness.period_s", probe.period_s),
            ("workload.readiness.timeout_s", probe.timeout_s),
            ("workload.readiness.failure_threshold", probe.failure_threshold),
        ] {
            ensure(value > 0, field, value, "at least 1")?;
        }
    }
    let hooks = [
        w.pre_stop_sleep_s.is_some(),
        w.pre_stop_exec.is_some(),
        w.pre_stop_http.is_some(),
    ];
    let one_hook = hooks.into_iter().filter(|set| *set).count() <= 1;
    ensure(
        one_hook,
        "workload.pre_stop_exec",
        "one of several",
        "one preStop hook",
    )?;
    if let Some(signal) = &w.stop_signal {
        let known = signal.parse::<nix::sys::signal::Signal>().is_ok();
        ensure(
            known,
            "workload.stop_signal",
            signal,
            "a signal's name, as SIGQUIT",
        )?;
    }
    if let Some(mib) = w.memory_limit_mib {
        let fits = (16..=MOST_MEMORY_MIB).contains(&mib);
        ensure(
            fits,
            "workload.memory_limit_mib",
            mib,
            format!("16 to {MOST_MEMORY_MIB}"),
        )?;
    }
    let takes = app.oom_after_ms.is_some() || app.oom_on_request.is_some();
    let limited = !takes || w.memory_limit_mib.is_some();
    ensure(
        limited,
        "workload.memory_limit_mib",
        "absent",
        "set when the app takes memory without end",
    )?;
    ensure(
        app.body_bytes <= MOST_BODY,
        "app.body_bytes",
        app.body_bytes,
        format!("at most {MOST_BODY}"),
    )
}
