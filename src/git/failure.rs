//! Why git did not do it, in words people can use and without passwords.

use super::names;

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// There is no git on this host.
    NotInstalled,
    /// It took too long.
    TimedOut,
    /// The other side does not let us in.
    Denied,
    /// The other side cannot be reached.
    Unreachable,
    /// A push came too late: somebody else pushed first.
    Overtaken,
    /// Anything else.
    Other,
}

/// Why git did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("git {verb} failed: {said}{}", hint.map(|hint| format!("\n  hint: {hint}")).unwrap_or_default())]
pub struct GitError {
    /// `fetch`, `ls-remote`.
    pub verb: String,
    /// What git said, without passwords.
    pub said: String,
    /// Its exit code, where it had one.
    pub code: Option<i32>,
    /// What kind.
    pub trouble: Trouble,
    /// What to do about it.
    pub hint: Option<&'static str>,
}

impl GitError {
    /// What `git VERB` said when it failed, judged.
    pub fn of(verb: &str, said: &str, code: Option<i32>) -> Self {
        let said = scrubbed(said, "", None);
        let (trouble, hint) = judge(&said);
        Self { verb: verb.to_owned(), said: last_lines(&said), code, trouble, hint }
    }
}

pub(super) fn scrubbed(said: &str, url: &str, token: Option<&str>) -> String {
    let mut said = said.replace(url, &names::without_password(url));
    if let Some(token) = token {
        said = said.replace(token, "***");
    }
    // A server may repeat an address with a password in it (a redirect).
    said.split_inclusive(char::is_whitespace).map(names::without_password).collect()
}

/// Lines that explain nothing: the advice of git and gpg.
const NOISE: [&str; 8] = [
    "hint:",
    "Please make sure",
    "and the repository exists",
    "error: failed to push some refs",
    "To ",
    "gpg: WARNING: This key is not certified",
    "gpg:          There is no indication",
    "Primary key fingerprint",
];

/// The complaints that matter stand last; what a server's own hook printed comes before them.
pub(super) fn last_lines(said: &str) -> String {
    let telling = |line: &&str| !matches!(*line, "" | "remote:") && !NOISE.iter().any(|it| line.starts_with(it));
    let lines: Vec<&str> = said.lines().map(str::trim).filter(telling).collect();
    let last = lines[lines.len().saturating_sub(4)..].join("; ");
    let plain: String = last.chars().filter(|c| !c.is_control()).take(400).collect();
    if plain.is_empty() { "it did not say why".to_owned() } else { plain }
}

/// A commit was asked for by its id.
const NOT_GIVEN: &str = "the server gives out no such commit: is it pushed, and to this repository? Some servers give \
                         out only the newest commit of a branch";

/// A hook or a rule of the host said no: pushing again changes nothing.
const NOT_TAKEN: &str =
    "a rule of the repository refuses the push (a protected branch, a hook): let this key or token by";

/// What became of a pushed ref, from git's own line about it: what a server's hooks print (`remote: …`) may say
/// anything, and does not tell a race.
fn judge_push(said: &str) -> Option<(Trouble, Option<&'static str>)> {
    let line = said.lines().map(str::trim_start).find(|line| line.starts_with("! ["))?;
    let any = |words: &[&str]| words.iter().any(|word| line.contains(word));
    if any(&[
        "[rejected]",
        "non-fast-forward",
        "fetch first",
        "cannot lock ref",
        "failed to update ref",
        "failed to lock",
        "incorrect old value",
    ]) {
        Some((Trouble::Overtaken, None))
    } else if any(&["declined", "denied", "prohibited", "protected", "not allowed", "checked out", "permission"]) {
        Some((Trouble::Denied, Some(NOT_TAKEN)))
    } else {
        Some((Trouble::Other, None))
    }
}

/// Words of git (in the C locale), what they mean, and what to do. The first that fits counts.
const RULES: [(&[&str], Trouble, Option<&str>); 11] = [
    (
        &["REMOTE HOST IDENTIFICATION HAS CHANGED"],
        Trouble::Denied,
        Some(
            "it shows another key than `git.knownHosts` has for it: ask who runs it before you write the new one there",
        ),
    ),
    (
        &["Host key verification failed"],
        Trouble::Denied,
        Some("write the host's key into `git.knownHosts` (`ssh-keyscan HOST` prints it; compare it first)"),
    ),
    (
        &["certificate verification failed", "SSL certificate problem", "certificate subject name"],
        Trouble::Denied,
        Some("this host does not trust the certificate: `GIT_SSL_CAINFO` or `http.sslCAInfo` names who may issue it"),
    ),
    (
        &["UNPROTECTED PRIVATE KEY"],
        Trouble::Denied,
        Some("`chmod 600` the deploy key: ssh takes none that others can read"),
    ),
    (
        &["Permission denied (publickey", "Load key", "Too many authentication failures"],
        Trouble::Denied,
        Some("is `git.deployKey` the private key, and does the repository know the public one?"),
    ),
    (
        &[
            "Authentication failed",
            "could not read Username",
            "could not read Password",
            "unable to get password",
            "error: 401",
        ],
        Trouble::Denied,
        Some("a token (`git.tokenFile`, `git.tokenCommand`) or a credential helper of this host has to let it in"),
    ),
    (
        &[
            "error: 403",
            "Permission to",
            "denied to",
            "not allowed to push",
            "access denied",
            "Access denied",
            "marked as read only",
            "not have write access",
        ],
        Trouble::Denied,
        Some("the token or key is known, and may not do this: look at what it is allowed"),
    ),
    (
        &["Repository not found", "not found", "does not appear to be a git repository", "error: 404"],
        Trouble::Denied,
        Some("is the address right? Hosts say so as well of a repository the token may not see"),
    ),
    (
        &["non-fast-forward", "fetch first", "[rejected]", "cannot lock ref", "failed to update ref", "stale info"],
        Trouble::Overtaken,
        None,
    ),
    (&["' not allowed"], Trouble::Denied, Some("only HTTPS and SSH are spoken; `git.allow` adds `file` or `http`")),
    (
        &[
            "Could not resolve host",
            "Connection refused",
            "Connection timed out",
            "Failed to connect",
            "Couldn't connect",
            "Operation timed out",
            "Operation too slow",
            "Connection reset",
            "early EOF",
            "unexpected disconnect",
            "hung up unexpectedly",
            "error: 5",
            "error: 429",
            "Empty reply from server",
            "Network is unreachable",
            "No route to host",
        ],
        Trouble::Unreachable,
        None,
    ),
];

/// What git's words mean.
pub(super) fn judge(said: &str) -> (Trouble, Option<&'static str>) {
    if let Some(judged) = judge_push(said) {
        return judged;
    }
    if ["not our ref", "unadvertised object"].iter().any(|word| said.contains(word)) {
        return (Trouble::Other, Some(NOT_GIVEN));
    }
    // What a server prints may say anything: git's own words come first.
    let own: String = said.lines().filter(|line| !line.starts_with("remote:")).flat_map(|line| [line, "\n"]).collect();
    let rule = |said: &str| RULES.iter().find(|(words, ..)| words.iter().any(|word| said.contains(word)));
    rule(&own).or_else(|| rule(said)).map_or((Trouble::Other, None), |(_, trouble, hint)| (*trouble, *hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_that_came_late_is_told_from_one_that_is_refused() {
        let line = |what: &str, why: &str| {
            format!("remote: fetch first, please\nTo file:///s\n ! {what} 73 -> main ({why})\nerror: x")
        };
        for (what, why) in [
            ("[rejected]       ", "fetch first"),
            ("[rejected]       ", "non-fast-forward"),
            ("[rejected]       ", "stale info"),
            ("[remote rejected]", "non-fast-forward"),
            ("[remote rejected]", "failed to update ref"),
            ("[remote rejected]", "incorrect old value provided"),
            ("[remote rejected]", "cannot lock ref 'refs/heads/main': is at 71 but expected 2a"),
        ] {
            assert_eq!(judge(&line(what, why)).0, Trouble::Overtaken, "{what} {why}");
        }
        for why in ["pre-receive hook declined", "protected branch hook declined", "branch is currently checked out"] {
            assert_eq!(judge(&line("[remote rejected]", why)), (Trouble::Denied, Some(NOT_TAKEN)), "{why}");
        }
        assert_eq!(judge(&line("[remote rejected]", "unpacker error")).0, Trouble::Other);
        for said in [
            "ERROR: The key you are authenticating with has been marked as read only.",
            "ERROR: This deploy key does not have write access to this project.",
        ] {
            let said = format!("{said}\nfatal: Could not read from remote repository.");
            assert_eq!(judge(&said).0, Trouble::Denied, "{said}");
        }
    }

    #[test]
    fn what_a_server_prints_does_not_hide_what_git_says() {
        let said =
            "remote: Permission to x; not found\nfatal: unable to access 'x': The requested URL returned error: 503";
        assert_eq!(judge(said).0, Trouble::Unreachable);
        assert_eq!(
            judge("remote: Repository not found\nfatal: Could not read from remote repository.").0,
            Trouble::Denied
        );
    }

    #[test]
    fn no_password_is_repeated() {
        let said = "fatal: unable to access 'https://u:secret@host/x/': The requested URL returned error: 401 tok3n";
        let said = scrubbed(said, "https://u:secret@host/x", Some("tok3n"));
        assert!(!said.contains("secret") && !said.contains("tok3n"), "{said}");
        assert_eq!(judge(&said).0, Trouble::Denied);
        assert!(!scrubbed("see https://a:b@c/d\nhttps://a:b@c/d now", "", None).contains(":b@"));
    }
}
