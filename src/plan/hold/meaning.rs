//! What a hold means to those who do not read it: its name, its end, and whether anybody has to do anything.

use jiff::Timestamp;

use super::Hold;

impl Hold {
    /// The stable name of the variant.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Paused { .. } => "Paused",
            Self::AwaitingHealth { .. } => "AwaitingHealth",
            Self::AwaitingPromotion { .. } => "AwaitingPromotion",
            Self::Draining { .. } => "Draining",
            Self::Baking { .. } => "Baking",
            Self::Quarantined { .. } => "Quarantined",
            Self::RolledBack { .. } => "RolledBack",
            Self::RemovalNotAcknowledged { .. } => "RemovalNotAcknowledged",
            Self::ImageUnresolved { .. } => "ImageUnresolved",
            Self::ImageMissing { .. } => "ImageMissing",
            Self::EnvFileMissing { .. } => "EnvFileMissing",
            Self::PlatformUnreadable { .. } => "PlatformUnreadable",
            Self::WrongAwsAccount { .. } => "WrongAwsAccount",
            Self::AwsAccountUnknown { .. } => "AwsAccountUnknown",
            Self::NotOurs { .. } => "NotOurs",
            Self::OwnedByAnother { .. } => "OwnedByAnother",
            Self::NoSparePort { .. } => "NoSparePort",
            Self::NginxIncludeMissing { .. } => "NginxIncludeMissing",
            Self::NginxConfigInvalid { .. } => "NginxConfigInvalid",
            Self::NginxNotRunning => "NginxNotRunning",
            Self::TrafficUnreadable { .. } => "TrafficUnreadable",
            Self::ColourUnknown => "ColourUnknown",
            Self::Conflict { .. } => "Conflict",
            Self::LossBackoff { .. } => "LossBackoff",
            Self::DriftReported { .. } => "DriftReported",
            Self::LastReplicaUnhealthy { .. } => "LastReplicaUnhealthy",
            Self::Failing { .. } => "Failing",
            Self::EcsUnreadable { .. } => "EcsUnreadable",
            Self::EcsServiceMissing { .. } => "EcsServiceMissing",
            Self::EcsServiceDraining { .. } => "EcsServiceDraining",
            Self::PlatformOwnsDeployment { .. } => "PlatformOwnsDeployment",
            Self::TaskDefinitionUnusable { .. } => "TaskDefinitionUnusable",
            Self::AlarmActive { .. } => "AlarmActive",
            Self::Steadying { .. } => "Steadying",
            Self::Canary { .. } => "Canary",
            Self::DrainingColour { .. } => "DrainingColour",
            Self::Throttled { .. } => "Throttled",
            Self::StepFailed { .. } => "StepFailed",
            Self::PlanRefused { .. } => "PlanRefused",
            Self::MemoryUnreadable { .. } => "MemoryUnreadable",
            Self::FollowUnreadable { .. } => "FollowUnreadable",
            Self::NoTagFits { .. } => "NoTagFits",
            Self::TagSkipped { .. } => "TagSkipped",
            Self::SourceClosed { .. } => "SourceClosed",
            Self::DetectOnly { .. } => "DetectOnly",
        }
    }

    /// When it ends by itself, if it does.
    pub const fn until(&self) -> Option<Timestamp> {
        match self {
            Self::AwaitingHealth { deadline: until, .. }
            | Self::Draining { until, .. }
            | Self::Baking { until, .. }
            | Self::Conflict { until, .. }
            | Self::LossBackoff { until, .. }
            | Self::Steadying { until, .. }
            | Self::Canary { until, .. }
            | Self::DrainingColour { until, .. }
            | Self::Throttled { until, .. }
            | Self::StepFailed { until, .. } => Some(*until),
            _ => None,
        }
    }

    /// Whether the world is on its way by itself: a wait that is part of a rollout going well.
    pub const fn is_progress(&self) -> bool {
        matches!(
            self,
            Self::AwaitingHealth { .. }
                | Self::Draining { .. }
                | Self::Baking { .. }
                | Self::Steadying { .. }
                | Self::Canary { .. }
                | Self::DrainingColour { .. }
                | Self::EcsServiceDraining { .. }
                | Self::Throttled { .. }
        )
    }

    /// Whether it is about the tags that come next alone: what the file says now is served all the same.
    pub const fn is_aside(&self) -> bool {
        self.is_quiet() || matches!(self, Self::NoTagFits { .. } | Self::SourceClosed { .. })
    }

    /// Whether nobody has to do anything about it: the registry comes back, a good tag follows.
    pub const fn is_quiet(&self) -> bool {
        matches!(self, Self::FollowUnreadable { .. } | Self::TagSkipped { .. })
    }
}
