//! The desired state of one service, as a test wants it.

/// Rendered to YAML by [`Spec::yaml`].
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) tag: String,
    pub(crate) replicas: u32,
    /// A whole `activeColour`, or nothing.
    pub(crate) colour: Option<&'static str>,
    pub(crate) pull: &'static str,
    /// Further lines of `docker:`, without indentation.
    pub(crate) docker: Vec<String>,
    /// Further keys of `rollout:`: `promote: manual`.
    pub(crate) rollout: Vec<String>,
    pub(crate) bake: &'static str,
    pub(crate) deadline: &'static str,
    /// The servers file; none: no traffic.
    pub(crate) servers: Option<String>,
    /// Further lines of the service, without indentation.
    pub(crate) more: Vec<String>,
}

impl Spec {
    pub(crate) fn tag(mut self, tag: &str) -> Self {
        self.tag = tag.to_owned();
        self
    }

    pub(crate) fn replicas(mut self, replicas: u32) -> Self {
        self.replicas = replicas;
        self
    }

    pub(crate) fn colour(mut self, colour: &'static str) -> Self {
        self.colour = Some(colour);
        self
    }

    pub(crate) fn docker(mut self, line: &str) -> Self {
        self.docker.push(line.to_owned());
        self
    }

    pub(crate) fn rollout(mut self, key: &str) -> Self {
        self.rollout.push(key.to_owned());
        self
    }

    pub(crate) fn more(mut self, line: &str) -> Self {
        self.more.push(line.to_owned());
        self
    }

    /// A rolling service: one group, no colours, so no bake either.
    pub(crate) fn rolling(mut self) -> Self {
        self.bake = "";
        self.rollout("strategy: rolling")
    }

    /// The lines under `services:`.
    pub(crate) fn yaml(&self) -> String {
        let Self { name, image, tag, replicas, colour, pull, docker, rollout, bake, deadline, servers, more } = self;
        let mut text = format!("  {name}:\n    image: {image}\n    tag: {tag}\n    replicas: {replicas}\n");
        if let Some(colour) = colour {
            text += &format!("    activeColour: {colour}\n");
        }
        text += &format!("    docker:\n      pull: {pull}\n      port: 8080\n");
        for line in docker {
            text += &format!("      {line}\n");
        }
        text += &format!(
            "    health:\n      http: {{path: /healthz}}\n      timeout: 1s\n      successes: 1\n      failures: 2\n      \
             deadline: {deadline}\n"
        );
        if let Some(file) = servers {
            text += &format!("    traffic:\n      nginx: {{file: {file}}}\n");
        }
        text += "    rollout:\n      drain: 3s\n";
        if !bake.is_empty() {
            text += &format!("      bake: {bake}\n");
        }
        for key in rollout {
            text += &format!("      {key}\n");
        }
        for line in more {
            text += &format!("    {line}\n");
        }
        text
    }
}
