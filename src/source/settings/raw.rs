//! `holdfast.yaml` as written.

use crate::source::file::given::{Given, section};
use crate::source::file::scalars::{Address, Budget, EngineAddress, Kind, Later, Ports, Text, Time};

section! {
    /// This machine's settings.
    RawSettings {
        /// The id on everything Holdfast creates.
        "controller" controller: Text,
        /// What PATH defaults to.
        "source" source: Text,
        /// Memory and the control socket.
        "stateDir" state_dir: Text,
        /// Where HTTP listens, or `none`.
        "listen" listen: Address,
        /// For writing over HTTP.
        "tokenFile" token_file: Text,
        /// The sweep behind the events.
        "resync" resync: Time,
        /// Loopback ports for replicas.
        "ports" ports: Ports,
        /// The folder of env files.
        "envRoot" env_root: Text,
        /// Roots of bind mounts.
        "mounts" mounts: Vec<Given<Text>>,
        /// The engine's address.
        "docker" docker: EngineAddress,
        /// Registries that need something said about them.
        "registries" registries: Vec<Given<RawRegistry>>,
        /// nginx on this host.
        "nginx" nginx: RawNginxSettings,
        /// The git source.
        "git" git: Later,
        /// AWS calls.
        "aws" aws: RawAwsSettings,
    }
}

section! {
    /// One registry.
    RawRegistry {
        /// `docker.io`.
        "host" host: Text,
        /// `oci` or `ecr`.
        "kind" kind: Kind,
        /// Of an ECR.
        "region" region: Text,
        /// Credentials.
        "auth" auth: RawAuth,
    }
}

section! {
    /// Credentials of a registry.
    RawAuth {
        /// A Docker `config.json`.
        "dockerConfig" docker_config: Text,
    }
}

section! {
    /// `nginx:`.
    RawNginxSettings {
        /// The program.
        "binary" binary: Text,
        /// Its main configuration.
        "config" config: Text,
        /// Where it writes its process id.
        "pid" pid: Text,
        /// An nginx in a container.
        "container" container: Later,
    }
}

section! {
    /// `aws:`.
    RawAwsSettings {
        /// Of each ECS rate bucket.
        "budget" budget: Budget,
        /// The SQS queue of EventBridge events about ECS.
        "eventQueue" event_queue: Text,
    }
}
