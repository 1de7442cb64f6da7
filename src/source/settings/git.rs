//! `git:` of `holdfast.yaml`: which branch is followed, how it is reached, and what the controller may do there.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

use super::raw::{RawGit, RawGitStatus, RawGitWrite};
use crate::git::names;
use crate::git::{Access, Protocol, Signers, Token};
use crate::source::error::shown;
use crate::source::file::given::Given;
use crate::source::file::scalars::Text;
use crate::source::report::Scope;
use crate::source::scalar;

/// `git:`, every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSettings {
    /// `https://…`, `ssh://…` or `git@host:path`; others only with `access.allow`.
    pub url: String,
    /// The one branch that is followed.
    pub branch: String,
    /// The folder (or the one file) in it; empty: the root.
    pub path: String,
    /// Between two polls.
    pub interval: Duration,
    /// How it is reached.
    pub access: Access,
    /// The secret of `POST /hooks/git`; none: there is no such page.
    pub webhook_secret_file: Option<PathBuf>,
    /// Who must have signed the deployed commit; none: nobody.
    pub signers: Option<Signers>,
    /// The controller may commit; none: it only reads.
    pub write: Option<GitWrite>,
    /// What becomes of a commit is told to its host; none: nobody is told.
    pub status: Option<GitStatus>,
}

/// `git.write:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitWrite {
    /// The author's name.
    pub name: String,
    /// The author's address.
    pub email: String,
    /// A private SSH key commits are signed with.
    pub signing_key: Option<PathBuf>,
    /// Whether messages say `[skip ci]`.
    pub skip_ci: bool,
}

/// `git.status:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitStatus {
    /// Whose API it is.
    pub host: Host,
    /// Its address, without a slash at the end; none: the host's own.
    pub api: Option<String>,
    /// `owner/name`, or the path of the project; none: as in `git.url`.
    pub repository: Option<String>,
    /// A file that holds a token.
    pub token_file: PathBuf,
    /// Whether deployments are told too.
    pub deployments: bool,
    /// The name of the environment of deployments; none: the controller's id.
    pub environment: Option<String>,
}

/// Whose API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// github.com or GitHub Enterprise.
    GitHub,
    /// gitlab.com or a GitLab of one's own.
    GitLab,
}

/// The poll behind the webhooks.
pub const INTERVAL: Duration = Duration::from_secs(30);

impl GitSettings {
    /// Everything at its default but where to look.
    pub fn of(url: String, branch: String, path: String) -> Self {
        Self {
            url,
            branch,
            path,
            interval: INTERVAL,
            access: Access::default(),
            webhook_secret_file: None,
            signers: None,
            write: None,
            status: None,
        }
    }
}

pub(super) fn lower(scope: &mut Scope<'_, '_>, raw: &RawGit) -> GitSettings {
    let access = access(scope, raw);
    let url = raw.url.get().map_or_else(String::new, |url| url.0.clone());
    match names::url(&url, &access.allow) {
        Err(_) if raw.url == Given::Null => {}
        Err(why) if !raw.url.is_given() => {
            scope.expected(&["git"], "`git` has no `url`", why.expected);
        }
        Err(why) => {
            let what = format!("`url`: found `{}`", shown(&names::without_password(&url)));
            scope.expected(&["git", "url"], what, why.expected).hint = why.hint.map(str::to_owned);
        }
        Ok(_) => {}
    }
    let branch = checked(scope, "branch", &raw.branch, names::branch, names::BRANCH);
    let folder = checked(scope, "path", &raw.path, names::folder, names::FOLDER);
    let interval = scope.take(&["git", "interval"], &raw.interval, |text| {
        scalar::duration(text).filter(|interval| *interval >= Duration::from_secs(1))
    });
    let signers = Signers {
        ssh: super::path(scope, &["git", "allowedSigners"], &raw.allowed_signers),
        gpg_home: super::path(scope, &["git", "gpgHome"], &raw.gpg_home),
    };
    let signers = (signers.ssh.is_some() || signers.gpg_home.is_some()).then_some(signers);
    let write = raw.write.get().map(|raw| write(scope, raw, signers.as_ref()));
    let status = raw.status.get().map(|raw| status(scope, raw, &access.allow));
    GitSettings {
        url,
        branch: branch.unwrap_or_else(|| "main".to_owned()),
        path: folder.unwrap_or_default(),
        interval: interval.unwrap_or(INTERVAL),
        access,
        webhook_secret_file: super::path(scope, &["git", "webhookSecretFile"], &raw.webhook_secret_file),
        signers,
        write,
        status,
    }
}

fn checked(
    scope: &mut Scope<'_, '_>,
    key: &str,
    given: &Given<Text>,
    check: impl FnOnce(&str) -> Option<String>,
    expected: &str,
) -> Option<String> {
    let text = &given.get()?.0;
    let good = check(text);
    if good.is_none() {
        scope.expected(&["git", key], format!("`{key}`: found `{}`", shown(text)), expected);
    }
    good
}

fn access(scope: &mut Scope<'_, '_>, raw: &RawGit) -> Access {
    let mut allow = Vec::new();
    for (index, text) in raw.allow.get().into_iter().flatten().enumerate() {
        let Given::Value(Text(text)) = text else { continue };
        match Protocol::named(text) {
            Some(protocol) => allow.push(protocol),
            None => {
                let what = format!("`allow`: found `{}`", shown(text));
                scope.expected(&["git", "allow", &index.to_string()], what, "`file` or `http`");
            }
        }
    }
    let command: Vec<String> =
        raw.token_command.get().into_iter().flatten().filter_map(|text| Some(text.get()?.0.clone())).collect();
    let token_file = super::path(scope, &["git", "tokenFile"], &raw.token_file);
    if token_file.is_some() && raw.token_command.is_given() {
        scope.error(&["git", "tokenCommand"], "there is a `tokenFile` too").hint =
            Some("keep one of the two".to_owned());
    }
    if raw.token_command.is_given() && command.is_empty() {
        scope.expected(
            &["git", "tokenCommand"],
            "`tokenCommand` names no program",
            "a list like `[/usr/local/bin/token]`",
        );
    }
    let token = match (token_file, command.is_empty()) {
        (Some(file), _) => Some(Token::File(file)),
        (None, false) => Some(Token::Command(command)),
        (None, true) => None,
    };
    Access {
        allow,
        deploy_key: super::path(scope, &["git", "deployKey"], &raw.deploy_key),
        known_hosts: super::path(scope, &["git", "knownHosts"], &raw.known_hosts),
        token,
    }
}

fn write(scope: &mut Scope<'_, '_>, raw: &RawGitWrite, signers: Option<&Signers>) -> GitWrite {
    let mut words = |key: &str, given: &Given<Text>, default: &str| {
        let text = given.get().map_or(default, |text| text.0.as_str());
        if text.trim().is_empty() || text.contains(|c: char| c.is_control() || "<>".contains(c)) {
            let what = format!("`{key}`: found `{}`", shown(text));
            scope.expected(&["git", "write", key], what, "words without `<` and `>`");
        }
        text.to_owned()
    };
    let name = words("name", &raw.name, "Holdfast");
    let email = words("email", &raw.email, "holdfast@localhost");
    let signing_key = super::path(scope, &["git", "write", "signingKey"], &raw.signing_key);
    if signers.is_some() && signing_key.is_none() {
        scope.error(&["git", "write"], "commits have to be signed, and the controller's own would not be").hint =
            Some("add `signingKey`, a private SSH key whose public one is in `allowedSigners`".to_owned());
    }
    let skip_ci = scope.take(&["git", "write", "skipCi"], &raw.skip_ci, scalar::flag);
    GitWrite { name, email, signing_key, skip_ci: skip_ci.unwrap_or(false) }
}

fn status(scope: &mut Scope<'_, '_>, raw: &RawGitStatus, allow: &[Protocol]) -> GitStatus {
    let host = scope.take(&["git", "status", "host"], &raw.host, |text| match text {
        "github" => Some(Host::GitHub),
        "gitlab" => Some(Host::GitLab),
        _ => None,
    });
    if !raw.host.is_given() {
        scope.expected(&["git", "status"], "`status` has no `host`", "`host: github` or `host: gitlab`");
    }
    let token_file = super::path(scope, &["git", "status", "tokenFile"], &raw.token_file);
    if !raw.token_file.is_given() {
        scope.expected(&["git", "status"], "`status` has no `tokenFile`", "a file that holds a token of that host");
    }
    let api = raw.api.get().map(|api| api.0.trim_end_matches('/').to_owned());
    if let Some(api) = &api {
        match Url::parse(api).ok().filter(|_| !api.contains(char::is_whitespace)) {
            Some(url) if url.scheme() == "https" => {}
            Some(url) if url.scheme() == "http" && (allow.contains(&Protocol::Http) || is_loopback(&url)) => {}
            Some(url) if url.scheme() == "http" => {
                scope
                    .expected(&["git", "status", "api"], format!("`api`: found `{}`", shown(api)), "an https address")
                    .hint = Some(CLEAR.to_owned());
            }
            _ => {
                scope.expected(&["git", "status", "api"], format!("`api`: found `{}`", shown(api)), "a URL");
            }
        }
    }
    let deployments = scope.take(&["git", "status", "deployments"], &raw.deployments, scalar::flag);
    GitStatus {
        host: host.unwrap_or(Host::GitHub),
        api,
        repository: raw.repository.get().map(|text| text.0.trim_matches('/').to_owned()),
        token_file: token_file.unwrap_or_default(),
        deployments: deployments.unwrap_or(false),
        environment: raw.environment.get().map(|text| text.0.clone()),
    }
}

/// What is sent in clear.
const CLEAR: &str = "take https, or say `git.allow: [http]`: then anybody on the way can read the token";

/// Nobody is on the way.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|it| it.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::source::settings::Settings;

    fn read(git: &str, api: &str) -> Result<Settings, String> {
        let text = format!(
            "git:\n  url: git@host:a/b.git\n{git}  status:\n    host: gitlab\n    tokenFile: /etc/token\n    api: {api}\n"
        );
        Settings::parse(Path::new("holdfast.yaml"), &text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_token_is_sent_in_clear_only_when_asked_for() {
        for api in ["https://git.example/api/v4", "http://127.0.0.1:80/api", "http://[::1]/api", "http://localhost:1/"]
        {
            assert_eq!(read("", api).err(), None, "{api}");
        }
        for api in ["http://git.example/api/v4", "HTTP://10.0.0.1/", "http://localhost.example/", "http://a@b/"] {
            let told = read("", api).unwrap_err();
            for part in ["holdfast.yaml:6:10: `api`: found `", "expected an https address", "hint: ", "allow: [http]"] {
                assert!(told.contains(part), "{part} is missing in\n{told}");
            }
            assert_eq!(read("  allow: [http]\n", api).err(), None, "{api}");
        }
        for api in ["git.example/api", "ftp://git.example/", "\"https://a b/\"", "https://"] {
            let told = read("  allow: [http]\n", api).unwrap_err();
            assert!(told.contains("expected a URL"), "{told}");
        }
    }
}
