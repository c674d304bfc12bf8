//! Actions: their order, and whether the workload can do them.

use super::{
    super::{Family, Kind, Scenario, Step},
    Found, ensure, workload,
};

pub(super) fn check(s: &Scenario) -> Result<(), Found> {
    let mut before = 0;
    for action in &s.actions {
        let at = action.at_ms;
        let within = at as f64 <= s.client.seconds * 1000.0;
        ensure(
            within,
            "actions.at_ms",
            at,
            "not after the client's end (client.seconds)",
        )?;
        ensure(
            at >= before,
            "actions.at_ms",
            at,
            "not before the action above it",
        )?;
        before = at;
        let name = action.on.as_deref().unwrap_or("web");
        let beside = s.beside.iter().find(|b| b.name == name);
        let proxy = s.proxy.as_ref().filter(|_| name == "proxy");
        let known = name == "web" || beside.is_some() || proxy.is_some();
        ensure(
            known,
            "actions.on",
            name,
            "web, a name of `beside`, or proxy where there is one",
        )?;
        let (base, app) = beside.map_or((&s.workload, &s.app), |b| (&b.workload, &b.app));
        let base = proxy.map_or(base, |p| &p.workload);
        let v6 = s.network.family == Family::V6;
        let masquerades = matches!(action.what, Step::MasqueradePorts(_));
        ensure(
            !(v6 && masquerades),
            "actions.do",
            "masquerade-ports",
            "with network.family v4",
        )?;
        match &action.what {
            Step::RollingUpdate | Step::Apply(_) => {
                let rolls = matches!(base.kind, Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet);
                ensure(
                    rolls,
                    "actions.do",
                    format!("{:?}", base.kind),
                    "for a deployment, stateful-set or daemon-set",
                )?;
            }
            Step::Recreate | Step::Replace => {
                let one = base.kind == Kind::Deployment;
                ensure(one, "actions.do", action.what.to_string(), "for a deployment")?;
            }
            Step::Scale(_) | Step::Autoscale(_) => {
                let scales = matches!(base.kind, Kind::Deployment | Kind::StatefulSet);
                ensure(scales, "actions.do", "scale", "for a deployment or stateful-set")?;
            }
            Step::ReloadProxy | Step::SwitchBackend(_) if s.proxy.is_none() => {
                ensure(false, "actions.do", action.what.to_string(), "with a `proxy`")?;
            }
            Step::Api(api) => {
                ensure(
                    (api.for_ms == 0) == api.fault.momentary(),
                    "actions.do",
                    format!("{} for {} ms", api.fault.name(), api.for_ms),
                    "for_ms with what lasts, and without it for close-watches and forget-history",
                )?;
            }
            Step::SwitchSelector(to) | Step::SwitchBackend(to) => {
                let known = to == "web" || s.beside.iter().any(|b| b.name == *to);
                ensure(known, "actions.do", to, "web or a name of `beside`")?;
            }
            _ => {}
        }
        if let Step::Apply(manifest) = &action.what {
            let w = manifest.workload.as_ref().unwrap_or(base);
            ensure(w.kind == base.kind, "actions.do", "another kind", "the same kind")?;
            workload::one(w, manifest.app.as_ref().unwrap_or(app))?;
        }
    }
    Ok(())
}
