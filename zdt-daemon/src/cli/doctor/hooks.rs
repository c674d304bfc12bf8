//! How each hook stands on this kernel, and which causes that costs.

use serde::Serialize;

use super::{Check, State, check};
use crate::{
    causes::{RULES, say_costs},
    kernel::{Attached, table::PROGRAMS},
};

/// How one program of the kernel half stands.
#[derive(Debug, Serialize)]
pub(super) struct HookState {
    hook: &'static str,
    /// `attached`, `not-needed`, `absent` (this kernel has no such tracepoint) or `refused`.
    state: &'static str,
    /// Instructions that the verifier went through, where the kernel tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<u64>,
}

pub(super) fn hooks(kernel: &Attached) -> Vec<Check> {
    let programs = PROGRAMS.iter().map(|program| {
        let what = format!("hook {}", program.name);
        if kernel.spared().iter().any(|p| p.name == program.name) {
            return check(
                State::Fine,
                &what,
                "not needed: this kernel's tracepoint tells the same",
            );
        }
        match kernel.missing().iter().find(|m| m.program.name == program.name) {
            None => check(State::Fine, &what, "attaches"),
            Some(missing) => check(
                State::Degraded,
                &what,
                format!("{}; {}", missing.reason, say_costs(program.tracepoint)),
            ),
        }
    });
    let untold = kernel.untold().filter(|detail| {
        // Without the hook itself, that line says it.
        kernel
            .missing()
            .iter()
            .all(|m| m.program.name != detail.tracepoint)
    });
    let untold = untold.map(|detail| {
        check(
            State::Degraded,
            &format!("hook {}", detail.name),
            format!(
                "this kernel does not tell it, {} and later do; {}",
                detail.since,
                say_costs(detail.name)
            ),
        )
    });
    programs.chain(untold).collect()
}

pub(super) fn hook_states(kernel: &Attached) -> Vec<HookState> {
    let verified = kernel.costs().verified();
    let states = PROGRAMS.iter().map(|program| {
        let name = program.name;
        let state = if kernel.spared().iter().any(|p| p.name == name) {
            "not-needed"
        } else if kernel.missing().iter().all(|m| m.program.name != name) {
            "attached"
        } else if kernel.lacks(program) {
            "absent"
        } else {
            "refused"
        };
        HookState {
            hook: name,
            state,
            verified: verified.iter().find(|(of, _)| *of == name).map(|(_, n)| *n),
        }
    });
    states.collect()
}

pub(super) fn lost_causes(kernel: &Attached) -> Vec<&'static str> {
    let hooks = kernel.missing().iter().map(|m| m.program.tracepoint);
    let missing: Vec<&str> = hooks.chain(kernel.untold().map(|detail| detail.name)).collect();
    let lost = RULES
        .iter()
        .filter(|rule| rule.needs.iter().any(|need| missing.contains(need)));
    lost.map(|rule| rule.name).collect()
}
