//! A service as written.

use super::docker::RawDocker;
use super::ecs::{RawAlb, RawEcr, RawEcs};
use super::given::section;
use super::health::RawHealth;
use super::rollout::{RawDrift, RawRollout};
use super::scalars::{ColourText, Image, Later, Replicas, TagOrderText, TagText, Text};

section! {
    /// One service.
    RawService {
        /// The image, without a tag.
        "image" image: Image,
        /// The line CI bumps. `TAG@sha256:…` pins it.
        "tag" tag: TagText,
        /// How many; default 1.
        "replicas" replicas: Replicas,
        /// Which colour serves; default `auto`.
        "activeColour" active_colour: ColourText,
        /// Another spelling of `activeColour`.
        "activeColor" active_color: ColourText,
        /// How it runs on a Docker host.
        "docker" docker: RawDocker,
        /// When it counts as healthy.
        "health" health: RawHealth,
        /// Who sends it requests.
        "traffic" traffic: RawTraffic,
        /// How a new release comes in.
        "rollout" rollout: RawRollout,
        /// What happens when reality changes by itself.
        "drift" drift: RawDrift,
        /// A second release on the idle colour.
        "preview" preview: Later,
        /// Image automation.
        "follow" follow: RawFollow,
        /// Registry clean-up.
        "ecr" ecr: RawEcr,
        /// How it runs on ECS.
        "ecs" ecs: RawEcs,
        /// The name it had before.
        "renamedFrom" renamed_from: Later,
        /// Not here: EventBridge Scheduler or systemd timers do this.
        "schedule" schedule: Later,
    }
}

section! {
    /// Image automation: which tags are committed by themselves.
    RawFollow {
        /// The highest version in a range: `>=1.4 <2`, `~1.4`, `1.x`, `^1 || ^2`.
        "semver" semver: Text,
        /// An expression for the whole tag; its first group, where it has one, is what is ordered.
        "regex" regex: Text,
        /// With `regex`: `numeric` (default), `alphabetical` or `newest`.
        "order" order: TagOrderText,
    }
}

section! {
    /// `traffic:`.
    RawTraffic {
        /// An nginx on this host.
        "nginx" nginx: RawNginx,
        /// An AWS load balancer.
        "alb" alb: RawAlb,
    }
}

section! {
    /// `traffic.nginx:`.
    RawNginx {
        /// The file of `server` lines that your `upstream` block includes.
        "file" file: Text,
    }
}
