//! A plan as a comment on a pull request, in GitHub's Markdown.

mod escape;

use std::collections::BTreeSet;

use crate::cli::failure::Failure;
use crate::cli::plan::{Planned, Shown};
use crate::model::words::{chain, counted};
use crate::plan::hold::Hold;
use escape::{block, inline};

/// GitHub takes 65,536 characters a comment; a workflow may want to add something of its own.
const MOST: usize = 60_000;
/// Of these, what the table of services may take.
const TABLE: usize = 20_000;
/// And the details of one service: one must not hide all others.
const SERVICE: usize = 8_000;
/// Details that are no longer than this together need no click.
const SHORT: usize = 2_500;
/// Settled services named at most.
const NAMED: usize = 20;
/// Characters of one step, cause or hold; longer ones are in `-o text`.
const LONG: usize = 400;
/// Characters of one value.
const VALUE: usize = 120;

/// What becomes of a service, the most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Changes,
    Waits,
    Adopted,
    Settled,
}

fn outcome(planned: &Planned) -> Outcome {
    match planned {
        it if it.changes() => Outcome::Changes,
        it if !it.plan.holds.is_empty() => Outcome::Waits,
        it if !it.plan.stages.is_empty() => Outcome::Adopted,
        _ => Outcome::Settled,
    }
}

pub(super) fn render(shown: &Shown<'_>) -> String {
    let mut services: Vec<(Outcome, &Planned)> = shown.services.iter().map(|it| (outcome(it), it)).collect();
    services.sort_by_key(|(outcome, it)| (*outcome, &it.name));
    let mut text = format!("{}### Holdfast: {}\n\n", marker(shown.controller), headline(&services));
    text.push_str(&about(shown));
    let (active, settled): (Vec<_>, Vec<_>) = services.into_iter().partition(|(it, _)| *it != Outcome::Settled);
    text.push_str(&table(shown, &active));
    let names: Vec<&str> = settled.iter().map(|(_, it)| it.name.as_str()).collect();
    text.push_str(&nothing_to_do(&names));
    let details: Vec<String> = active.iter().map(|(_, it)| details(it)).collect();
    let open = if details.iter().map(String::len).sum::<usize>() <= SHORT { " open" } else { "" };
    let count = details.len();
    for (number, (body, (_, it))) in details.into_iter().zip(&active).enumerate() {
        let stage = match it.plan.view.stage.as_str() {
            "" => String::new(),
            stage => format!(": {}", inline(stage, VALUE)),
        };
        let whole = format!("<details{open}><summary><b>{}</b>{stage}</summary>\n\n{body}</details>\n\n", it.name);
        // What is said when something is left out has to fit as well.
        if text.len() + whole.len() + 200 > MOST {
            let left = counted(count - number, "more service");
            text.push_str(&format!("… and {left}, too long for one comment: `holdfast plan` shows them.\n"));
            break;
        }
        text.push_str(&whole);
    }
    text
}

/// A failure instead of a plan.
pub(super) fn failure(controller: &str, failure: &Failure) -> String {
    let mut text = format!("{}### Holdfast: no plan\n\n", marker(controller));
    text.push_str(&format!("{}\n\n", inline(&failure.to_string(), LONG)));
    if let Some(cause) = std::error::Error::source(failure) {
        text.push_str(&block(&chain(cause), MOST - 5_000));
        text.push('\n');
    }
    if let Some(hint) = failure.hint() {
        text.push_str(&format!("Hint: {}\n", inline(hint, LONG)));
    }
    text
}

/// Found again by whoever updates the comment. The id of a controller cannot end it.
fn marker(controller: &str) -> String {
    format!("<!-- holdfast plan {controller} -->\n")
}

/// `3 services change, 1 waits, 12 settled`.
fn headline(services: &[(Outcome, &Planned)]) -> String {
    if services.is_empty() {
        return "nothing is asked for, and nothing runs".to_owned();
    }
    let count = |of: Outcome| services.iter().filter(|(outcome, _)| *outcome == of).count();
    let mut parts = vec![match count(Outcome::Changes) {
        0 => "nothing changes".to_owned(),
        1 => "1 service changes".to_owned(),
        many => format!("{many} services change"),
    }];
    let more = [
        (count(Outcome::Waits), "waits", "wait"),
        (count(Outcome::Adopted), "is adopted", "are adopted"),
        (count(Outcome::Settled), "settled", "settled"),
    ];
    parts.extend(more.iter().filter(|(count, ..)| *count > 0).map(|(count, one, many)| {
        let word = if *count == 1 { one } else { many };
        format!("{count} {word}")
    }));
    parts.join(", ")
}

fn about(shown: &Shown<'_>) -> String {
    let desired = shown.desired;
    let mut text = match &desired.commit {
        Some(commit) => {
            let (subject, author) = (inline(&commit.subject, 72), inline(&commit.author, 40));
            format!("Commit `{}` “{subject}” by {author}, of ", commit.short())
        }
        None => "Of ".to_owned(),
    };
    text.push_str(&format!("<code>{}</code>, for controller `{}`", inline(&desired.from, 200), shown.controller));
    for note in desired.notes() {
        text.push_str(&format!("<br>\n{}", inline(&note, LONG)));
    }
    text.push_str("\n\n");
    text
}

fn table(shown: &Shown<'_>, services: &[(Outcome, &Planned)]) -> String {
    if services.is_empty() {
        return String::new();
    }
    let mut text = "| service | what changes | how |\n|---|---|---|\n".to_owned();
    for (number, (outcome, it)) in services.iter().enumerate() {
        let row = format!("| **{}** | {} | {} |\n", it.name, what(shown, it), how(*outcome, it));
        if text.len() + row.len() > TABLE {
            text.push_str(&format!("\n… and {}.\n", counted(services.len() - number, "more service")));
            break;
        }
        text.push_str(&row);
    }
    text.push('\n');
    text
}

/// `tag 1 → 2, replicas 2 → 3`.
fn what(shown: &Shown<'_>, planned: &Planned) -> String {
    const FIELDS: usize = 4;
    let differences = &planned.differences;
    let fields = differences.iter().take(FIELDS).map(|it| {
        let (from, to) = (it.from.as_deref(), it.to.as_deref());
        let field = inline(&it.field, VALUE);
        match (from, to) {
            (Some(from), Some(to)) => format!("{field} {} → {}", inline(from, 40), inline(to, 40)),
            (None, Some(to)) => format!("{field} + {}", inline(to, 40)),
            (Some(from), None) => format!("{field} − {}", inline(from, 40)),
            (None, None) => field,
        }
    });
    let mut fields: Vec<String> = fields.collect();
    if differences.len() > FIELDS {
        fields.push(format!("… and {} more", differences.len() - FIELDS));
    }
    if !fields.is_empty() {
        return fields.join(", ");
    }
    let in_file = shown.desired.state.as_ref().is_some_and(|state| state.services.contains_key(&planned.name));
    match (&planned.plan.view.wanted, planned.plan.view.serving) {
        _ if !in_file => "no longer in the file".to_owned(),
        (Some(wanted), None) => format!("new, tag {}", inline(wanted.tag.as_str(), 40)),
        _ => String::new(),
    }
}

/// `4 steps, new containers` or `waits: Paused`.
fn how(outcome: Outcome, planned: &Planned) -> String {
    let holds: BTreeSet<&str> = planned.plan.holds.iter().map(Hold::reason).collect();
    let holds = holds.into_iter().collect::<Vec<_>>().join(", ");
    let mut parts = Vec::new();
    match outcome {
        Outcome::Changes => {
            parts.push(counted(planned.plan.steps().count(), "step"));
            let ways: BTreeSet<String> = planned.differences.iter().map(|it| it.how.to_string()).collect();
            parts.extend(ways);
            if !holds.is_empty() {
                parts.push(format!("then waits: {holds}"));
            }
        }
        Outcome::Waits => parts.push(format!("waits: {holds}")),
        Outcome::Adopted => parts.push("adopted as it is".to_owned()),
        Outcome::Settled => {}
    }
    parts.join(", ")
}

fn nothing_to_do(names: &[&str]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        count => format!(" … and {count} more"),
    };
    let named = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    format!("Nothing to do for {named}{more}.\n\n")
}

/// Differences, steps with their causes, and what is waited for.
fn details(Planned { plan, differences, .. }: &Planned) -> String {
    let mut text = String::new();
    let value = |it: &Option<String>| it.as_deref().map(|it| inline(it, VALUE)).unwrap_or_default();
    rows(
        &mut text,
        "| field | now | then | |\n|---|---|---|---|\n",
        differences.iter().map(|it| {
            format!("| {} | {} | {} | {} |\n", inline(&it.field, VALUE), value(&it.from), value(&it.to), it.how)
        }),
    );
    let steps = plan.stages.iter().enumerate().flat_map(|(stage, steps)| steps.iter().map(move |it| (stage + 1, it)));
    rows(
        &mut text,
        "| | step | because |\n|---|---|---|\n",
        steps.map(|(stage, it)| {
            format!("| {stage} | {} | {} |\n", inline(&it.step.to_string(), LONG), inline(&it.because, LONG))
        }),
    );
    let hold =
        |hold: &crate::plan::hold::Hold| format!("- **{}** {}\n", hold.reason(), inline(&hold.to_string(), LONG));
    rows(&mut text, "", plan.holds.iter().map(hold));
    text
}

/// What fits of `rows` below `head`, and how many do not.
fn rows(text: &mut String, head: &str, rows: impl Iterator<Item = String>) {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return;
    }
    text.push_str(head);
    while let Some(row) = rows.next_if(|row| text.len() + row.len() <= SERVICE) {
        text.push_str(&row);
    }
    let left = rows.count();
    if left > 0 {
        text.push_str(&format!("\n… and {left} more.\n"));
    }
    text.push('\n');
}

#[cfg(test)]
mod tests;
