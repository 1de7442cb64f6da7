//! A desired state the controller does not write to.

use async_trait::async_trait;

use crate::model::snapshot::Why;
use crate::plan::step::{Ensured, SourceStep};
use crate::ports::{StepError, WriteBack};

/// Nothing is ever written, for this reason.
#[derive(Debug, Clone)]
pub struct Closed(pub Why);

#[async_trait]
impl WriteBack for Closed {
    fn closed(&self) -> Option<Why> {
        Some(self.0.clone())
    }

    async fn perform(&self, _step: &SourceStep) -> Result<Ensured, StepError> {
        Err(StepError::refused(self.0.clone()))
    }
}
