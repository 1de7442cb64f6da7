//! A plan for people: one line a step, its cause below, then what waits.

use std::fmt::Write as _;

use super::Plan;
use super::step::{PlannedStep, Step};

/// What `holdfast plan` prints for one service: every line fits 80 columns where names allow it.
pub fn show(name: &str, plan: &Plan) -> String {
    let mut text = String::new();
    if plan.is_settled() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}: settled, nothing to do");
        return text;
    }
    let stage = if plan.view.stage.is_empty() { String::new() } else { format!(": {}", plan.view.stage) };
    let _ = writeln!(text, "{name}{stage}");
    for (number, stage) in plan.stages.iter().enumerate() {
        for PlannedStep { step, because } in stage {
            let mark = match step {
                Step::Remember(_) => '·',
                Step::Platform(_)
                | Step::Traffic(_)
                | Step::Ecs(_)
                | Step::Alb(_)
                | Step::Registry(_)
                | Step::Source(_) => '+',
            };
            let _ = writeln!(text, "  {} {mark} {step}", number + 1);
            let _ = writeln!(text, "        because {because}");
        }
    }
    for hold in &plan.holds {
        let _ = writeln!(text, "  ! {}: {hold}", hold.reason());
    }
    text
}
