//! A plan for people at a terminal.

use super::{Planned, Shown};
use crate::cli::out::Paint;
use crate::cli::text::{wrap, wrap_at};

pub(super) fn render(shown: &Shown<'_>, colour: bool) -> String {
    let mut text = String::new();
    if let Some(commit) = &shown.desired.commit {
        text.push_str(&wrap_at("", 2, &format!("{} at commit {commit}", shown.desired.from)));
        text.push('\n');
        for note in shown.desired.notes() {
            text.push_str(&wrap_at("  ", 2, &note));
            text.push('\n');
        }
        text.push('\n');
    }
    for planned in shown.services {
        service(&mut text, planned, colour);
    }
    text
}

fn service(text: &mut String, Planned { name, plan, differences }: &Planned, colour: bool) {
    text.push_str(&Paint::Bold.on(name.as_str(), colour));
    if plan.is_settled() {
        text.push_str(": nothing to do\n");
        return;
    }
    match plan.view.stage.as_str() {
        "" => text.push('\n'),
        stage => text.push_str(&format!(": {stage}\n")),
    }
    for difference in differences {
        text.push_str(&wrap_at("  ~ ", 6, &difference.to_string()));
        text.push('\n');
    }
    for (number, stage) in plan.stages.iter().enumerate() {
        for planned in stage {
            let first = format!("{:>3}. ", number + 1);
            text.push_str(&wrap(&first, &planned.step.to_string()));
            text.push('\n');
            let because = wrap_at("     because ", 13, &planned.because);
            text.push_str(&Paint::Dim.on(&because, colour));
            text.push('\n');
        }
    }
    for hold in &plan.holds {
        let hold = wrap_at(&format!("  ! {}: ", hold.reason()), 6, &hold.to_string());
        text.push_str(&Paint::Yellow.on(&hold, colour));
        text.push('\n');
    }
}
