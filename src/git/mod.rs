//! Floor 1: the `git` program on a bare mirror: no work tree, no hooks, no filters, no submodules.
//!
//! Everything is read by object id from the object database; the one place a name of the remote side is used is the
//! branch that is fetched. Arguments are never built into a shell line, and what comes from strangers (file names,
//! messages of commits) is only ever output.

pub mod child;
pub mod commit;
mod failure;
mod health;
pub mod mirror;
pub mod names;
mod program;
pub mod signature;
mod token;
pub mod tree;

use std::path::PathBuf;

pub use failure::{GitError, Trouble};
pub use mirror::Mirror;
pub use program::Git;

/// How a repository is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Protocols beside HTTPS and SSH.
    pub allow: Vec<Protocol>,
    /// A private SSH key; none: what `ssh` finds itself.
    pub deploy_key: Option<PathBuf>,
    /// The SSH host keys that are believed; none: those of the user.
    pub known_hosts: Option<PathBuf>,
    /// A token for HTTPS; none: the credential helpers of this host's git configuration.
    pub token: Option<Token>,
}

/// A protocol that is only spoken when asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// A repository on this host.
    File,
    /// HTTP without encryption.
    Http,
}

impl Protocol {
    /// As written: `file`, `http`.
    pub fn named(text: &str) -> Option<Self> {
        match text {
            "file" => Some(Self::File),
            "http" => Some(Self::Http),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Http => "http",
        }
    }
}

/// Where a token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// The content of a file, read each time.
    File(PathBuf),
    /// What a program of this host prints (a GitHub App's token lives an hour).
    Command(Vec<String>),
}

/// Whose signature the deployed commit must carry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signers {
    /// `allowed_signers` of `ssh-keygen(1)`; none: an SSH signature is not accepted.
    pub ssh: Option<PathBuf>,
    /// A GnuPG home with the accepted public keys; none: a GPG signature is not accepted.
    pub gpg_home: Option<PathBuf>,
}

/// A repository's branch, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Checked by [`names::url`].
    pub url: String,
    /// Checked by [`names::branch`].
    pub branch: String,
    /// How it is reached.
    pub access: Access,
}
