//! `holdfast.yaml` as written.

use crate::source::file::given::{Given, section};
use crate::source::file::scalars::{Address, Budget, EngineAddress, Flag, GitHost, Kind, Later, Ports, Text, Time};

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
        "git" git: RawGit,
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
    /// `git:`.
    RawGit {
        /// `https://…`, `ssh://…` or `git@host:path`.
        "url" url: Text,
        /// The one branch that is followed.
        "branch" branch: Text,
        /// The folder (or the one file) in it.
        "path" path: Text,
        /// Between two polls.
        "interval" interval: Time,
        /// Protocols beside HTTPS and SSH: `file`, `http`.
        "allow" allow: Vec<Given<Text>>,
        /// A private SSH key that may read (and, with `write`, write) this one repository.
        "deployKey" deploy_key: Text,
        /// The SSH host keys that are believed.
        "knownHosts" known_hosts: Text,
        /// A file that holds a token for HTTPS.
        "tokenFile" token_file: Text,
        /// A program of this host that prints a token for HTTPS.
        "tokenCommand" token_command: Vec<Given<Text>>,
        /// The secret of `POST /hooks/git`.
        "webhookSecretFile" webhook_secret_file: Text,
        /// Only commits signed by one of these SSH keys are deployed.
        "allowedSigners" allowed_signers: Text,
        /// A GnuPG home: only commits signed by a key in it are deployed.
        "gpgHome" gpg_home: Text,
        /// The controller may commit.
        "write" write: RawGitWrite,
        /// What becomes of a commit is told to its host.
        "status" status: RawGitStatus,
    }
}

section! {
    /// `git.write:`.
    RawGitWrite {
        /// The author's name.
        "name" name: Text,
        /// The author's address.
        "email" email: Text,
        /// A private SSH key commits are signed with.
        "signingKey" signing_key: Text,
        /// Whether messages say `[skip ci]`.
        "skipCi" skip_ci: Flag,
    }
}

section! {
    /// `git.status:`.
    RawGitStatus {
        /// `github` or `gitlab`.
        "host" host: GitHost,
        /// The address of its API.
        "api" api: Text,
        /// `owner/name`, or the path of the project.
        "repository" repository: Text,
        /// A file that holds a token.
        "tokenFile" token_file: Text,
        /// Whether deployments are told too.
        "deployments" deployments: Flag,
        /// The name of the environment of deployments.
        "environment" environment: Text,
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
