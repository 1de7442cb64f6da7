//! Floor 1: what to do next. Pure, total, synchronous: no I/O, no clock, no logging, no async.

pub mod hold;
pub mod step;

use jiff::Timestamp;

use crate::model::colour::Group;
use crate::model::release::Release;
use hold::Hold;
use step::PlannedStep;

/// What one turn does, stage by stage, and why the rest waits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The steps of one stage run concurrently; the first failure ends the turn.
    pub stages: Vec<Vec<PlannedStep>>,
    /// Every reason not to do more now.
    pub holds: Vec<Hold>,
    /// When to look again if nothing wakes the service before.
    pub next_look: Option<Timestamp>,
    /// For status.
    pub view: View,
}

/// What the plan decided, for status: not an input to anything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// The release the file asks for, once every input is known.
    pub wanted: Option<Release>,
    /// The group that serves.
    pub serving: Option<Group>,
    /// What is going on, for people.
    pub stage: String,
}

impl Plan {
    /// Nothing to do and nothing to wait for.
    pub fn is_settled(&self) -> bool {
        self.stages.is_empty() && self.holds.is_empty()
    }

    /// Every step, in order.
    pub fn steps(&self) -> impl Iterator<Item = &PlannedStep> {
        self.stages.iter().flatten()
    }
}
