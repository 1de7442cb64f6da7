//! A commit that changes one file of the mirrored branch, made without a work tree, and its push.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::PathBuf;
use std::time::Duration;

use super::program::{Git, Run};
use super::{GitError, Mirror, Trouble};

/// A push is small; a server with slow hooks gets its time.
const PUSH: Duration = Duration::from_secs(120);
/// A push that was overtaken is made again on the fresh head this often, the first one counted.
pub const TRIES: u32 = 6;
/// No first pause is longer; later ones may be twice, four times … up to sixteen times as long.
const FIRST_PAUSE: Duration = Duration::from_millis(400);
/// Lines of a message are no longer where words allow it.
const WIDTH: usize = 72;

/// Who commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The name.
    pub name: String,
    /// The address.
    pub email: String,
    /// A private SSH key to sign with; none: not signed.
    pub signing_key: Option<PathBuf>,
}

/// A commit to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewCommit<'a> {
    /// What it comes after, in full.
    pub parent: &'a str,
    /// The one file that is changed, from the root.
    pub path: &'a str,
    /// What is in it from now on.
    pub content: &'a str,
    /// The whole message.
    pub message: &'a str,
    /// Author and committer.
    pub author: &'a Author,
}

/// How long to wait after the try number `tried` (from 1) was overtaken: anything from nothing to a bound that doubles.
/// Writers that met once are spread widely, so that they do not meet again.
pub fn pause(tried: u32) -> Duration {
    let longest = FIRST_PAUSE * 2_u32.saturating_pow(tried.saturating_sub(1).min(4));
    // Every state of the standard library hashes differently: chance enough, without a library for it.
    let chance = u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or(0);
    longest.mul_f64(f64::from(chance) / f64::from(u32::MAX))
}

/// Words as lines of a message; empty lines stay.
pub fn wrapped(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.trim().lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let word: String = word.chars().filter(|c| !c.is_control()).collect();
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line += &word;
        }
        lines.push(line);
    }
    lines.join("\n")
}

impl Mirror {
    /// Makes the commit here and returns its id; nobody else has it before [`push`](Self::push).
    ///
    /// # Errors
    /// When the parent has no such file, or git cannot make or sign it.
    pub async fn make(&self, new: &NewCommit<'_>) -> Result<String, GitError> {
        let git = self.git();
        let blob = git.id_of(Run::local(["hash-object", "-w", "--no-filters", "--stdin"]).reads(new.content)).await?;
        let tree = git.tree_with(new.parent, new.path, &blob).await?;
        let NewCommit { parent, message, author, .. } = *new;
        let mut run = Run::local(["commit-tree", tree.as_str(), "-p", parent, "-F", "-"]).reads(message);
        run.settings.push("i18n.commitEncoding=UTF-8".to_owned());
        for name in ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"] {
            run = run.with(name, author.name.as_str());
        }
        for name in ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"] {
            run = run.with(name, author.email.as_str());
        }
        let Some(key) = &author.signing_key else { return git.id_of(run).await };
        let key = std::path::absolute(key).unwrap_or_else(|_| key.clone());
        run.args.push("-S".into());
        run.settings.extend([
            "gpg.format=ssh".to_owned(),
            "gpg.ssh.program=ssh-keygen".to_owned(),
            format!("user.signingKey={}", key.display()),
        ]);
        // A key with a passphrase fails, and does not wait for somebody at a terminal.
        let run = run.with("SSH_ASKPASS", "false").with("SSH_ASKPASS_REQUIRE", "force");
        git.id_of(run).await.map_err(|error| GitError {
            trouble: Trouble::Denied,
            hint: Some(
                "is `git.write.signingKey` a private SSH key without a passphrase that the controller may read?",
            ),
            ..error
        })
    }

    /// Pushes exactly the commit `id`, whose parent is `parent`, to the branch.
    ///
    /// # Errors
    /// [`Trouble::Overtaken`] when the branch is no longer at `parent`: nothing was changed then.
    pub async fn push(&self, id: &str, parent: &str) -> Result<(), GitError> {
        let branch = format!("refs/heads/{}", self.remote().branch);
        // Stricter than a push without it, which would bring a deleted branch back and undo a rewind: the branch has
        // to be at the parent exactly. It never forces, for what comes is a child of what has to be there.
        let lease = format!("--force-with-lease={branch}:{parent}");
        let spec = format!("{id}:{branch}");
        let args = ["push", "--quiet", "--no-verify", "--no-signed", "--no-follow-tags", "--recurse-submodules=no"];
        let args = args.into_iter().chain([lease.as_str(), "--end-of-options", self.remote().url.as_str(), &spec]);
        self.git().run(Run::remote(PUSH, args)).await.map(|_| ())
    }
}

impl Git {
    async fn id_of(&self, run: Run) -> Result<String, GitError> {
        Ok(String::from_utf8_lossy(&self.run(run).await?).trim().to_owned())
    }

    /// The tree of `commit` with another blob at `path`, its mode kept. Only the folders on the way are rewritten; an
    /// index of the whole tree would have to take every name in it.
    async fn tree_with(&self, commit: &str, path: &str, blob: &str) -> Result<String, GitError> {
        let names: Vec<&str> = path.split('/').collect();
        let mut listings = Vec::with_capacity(names.len());
        let mut tree = commit.to_owned();
        for name in &names {
            let listing = self.run(Run::local(["ls-tree", "-z", "--full-tree", &tree])).await?;
            let id = entry_id(&listing, name).ok_or_else(|| missing(commit, path))?;
            listings.push(listing);
            tree = id;
        }
        let mut id = blob.to_owned();
        for (name, listing) in names.iter().zip(&listings).rev() {
            let listing = with_id(listing, name, &id);
            id = self.id_of(Run::local(["mktree", "-z"]).reads(listing)).await?;
        }
        Ok(id)
    }
}

fn missing(commit: &str, path: &str) -> GitError {
    let said = format!("commit {commit} has no file {path}");
    GitError { verb: "ls-tree".to_owned(), said, code: None, trouble: Trouble::Other, hint: None }
}

/// `MODE SP TYPE SP ID` and the name, of one line of a tree's listing.
fn halves(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    Some((&line[..tab], &line[tab + 1..]))
}

fn entry_id(listing: &[u8], name: &str) -> Option<String> {
    let mut lines = listing.split(|byte| *byte == 0).filter_map(halves);
    let (head, _) = lines.find(|(_, found)| *found == name.as_bytes())?;
    let head = std::str::from_utf8(head).ok()?;
    head.rsplit_once(' ').map(|(_, id)| id.to_owned())
}

/// The listing with another id at `name`; every other byte stays.
fn with_id(listing: &[u8], name: &str, id: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(listing.len());
    for line in listing.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
        match halves(line) {
            Some((head, found)) if found == name.as_bytes() => {
                let kept = head.iter().rposition(|byte| *byte == b' ').map_or(0, |space| space + 1);
                out.extend_from_slice(&head[..kept]);
                out.extend_from_slice(id.as_bytes());
                out.push(b'\t');
                out.extend_from_slice(found);
            }
            _ => out.extend_from_slice(line),
        }
        out.push(0);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_id_of_a_listing_is_replaced_and_nothing_else() {
        let listing = b"100755 blob aa\ta b.yaml\x00040000 tree bb\tx\x00100664 blob cc\tt\xff\x00";
        assert_eq!(entry_id(listing, "x").as_deref(), Some("bb"));
        assert_eq!(entry_id(listing, "y"), None);
        let new = with_id(listing, "a b.yaml", "dd");
        assert_eq!(new, b"100755 blob dd\ta b.yaml\x00040000 tree bb\tx\x00100664 blob cc\tt\xff\x00");
    }

    #[test]
    fn a_message_has_lines_of_72_and_keeps_its_paragraphs() {
        let text = format!("{}\n\nend\u{1b} x {}", "word ".repeat(40), "y".repeat(90));
        let wrapped = wrapped(&text);
        assert!(wrapped.lines().all(|line| line.len() <= WIDTH || line.starts_with('y')), "{wrapped}");
        assert!(wrapped.contains("word\n\nend x\nyyy"), "{wrapped}");
    }

    #[test]
    fn pauses_differ_and_stay_below_their_bound() {
        let pauses: Vec<Duration> = (0..50).map(|_| pause(1)).collect();
        assert!(pauses.iter().all(|it| *it <= FIRST_PAUSE) && pauses.iter().max() > pauses.iter().min());
        assert!((0..50).map(|_| pause(5)).max() > Some(FIRST_PAUSE));
    }
}
