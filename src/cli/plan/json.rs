//! A plan for programs.

use serde_json::{Value, json};

use super::{Planned, Shown};

pub(super) fn render(shown: &Shown<'_>) -> Value {
    let Shown { controller, desired, services } = shown;
    let services: Vec<Value> = services.iter().map(service).collect();
    let state = desired.state.as_ref();
    json!({
        "schemaVersion": 1,
        "controller": controller,
        "from": desired.from,
        "revision": state.map(|state| &state.revision),
        "commit": desired.commit,
        "includes": state.map(|state| state.includes.as_slice()).unwrap_or_default(),
        "inForce": desired.in_force,
        "comesAfter": desired.comes_after,
        "services": services,
    })
}

fn service(Planned { name, plan, differences }: &Planned) -> Value {
    let steps: Vec<Value> = plan
        .stages
        .iter()
        .enumerate()
        .flat_map(|(stage, steps)| steps.iter().map(move |step| (stage + 1, step)))
        .map(|(stage, it)| json!({"stage": stage, "step": it.step.to_string(), "because": it.because}))
        .collect();
    let holds: Vec<Value> =
        plan.holds.iter().map(|hold| json!({"reason": hold.reason(), "message": hold.to_string()})).collect();
    json!({
        "name": name, "stage": plan.view.stage, "steps": steps, "holds": holds,
        "differences": differences, "settled": plan.is_settled(),
    })
}
