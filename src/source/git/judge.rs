//! Why a commit of the branch is not taken, in words.

use crate::git::{GitError, Trouble};
use crate::model::commit::Commit;
use crate::model::snapshot::Why;

/// A commit that is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// Which; none when there is not even one.
    pub(super) commit: Option<Commit>,
    /// For people.
    pub(super) why: Why,
}

/// Whether git read here what it was asked to and did not like it: not that it could not run, was ended, or talked to
/// the other side.
pub(super) fn is_of_content(error: &GitError) -> bool {
    error.trouble == Trouble::Other && error.code.is_some() && error.verb != "fetch"
}

impl Refused {
    /// A commit that cannot even be read, or says too little of itself.
    pub(super) fn odd(id: &str, why: &str) -> Self {
        let commit = Commit {
            id: id.to_owned(),
            author: "somebody".to_owned(),
            subject: "(it cannot be read)".to_owned(),
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        let why = format!("commit {} cannot be taken: {why}\n  hint: push a commit on top of it", commit.short());
        Self { commit: Some(commit), why }
    }
}

pub(super) fn no_branch(branch: &str) -> Why {
    format!(
        "there is no branch `{branch}` in the repository (any more)\n  hint: push it again, or set `git.branch`; nothing \
         is removed meanwhile"
    )
}

pub(super) fn rewound(commit: &Commit, good: &Commit, branch: &str) -> Why {
    format!(
        "{commit} does not come after the last good commit {good}: `{branch}` was rewound or rewritten\n  hint: if \
         that is meant, say `holdfast reconcile --accept-rewind {}`",
        commit.short()
    )
}

pub(super) fn unsigned(error: &GitError) -> Why {
    let said = match error.said.as_str() {
        "it did not say why" => "it carries none, or none of a kind that is asked for",
        said => said,
    };
    format!(
        "its signature does not count: {said}\n  hint: sign commits with a key in `git.allowedSigners` (SSH) or of \
         `git.gpgHome` (GPG)"
    )
}
