//! Where a repository's host is asked, and what it calls the repository. Pure.

use reqwest::Url;

use crate::git::names::{parts, without_password};
use crate::model::snapshot::Why;
use crate::source::settings::GitSettings;
use crate::source::settings::git::{GitStatus, Host};

/// One repository at one API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The address below which everything is.
    pub(super) api: Url,
    /// `owner/name`, or the path of a GitLab project.
    pub(super) repository: String,
}

impl Place {
    /// As `git.status` says, the rest from `git.url`.
    ///
    /// # Errors
    /// With what is missing, and a hint.
    pub(super) fn of(settings: &GitSettings, status: &GitStatus) -> Result<Self, Why> {
        let (host, path) = host_and_path(&settings.url);
        let repository = status.repository.clone().or(path).ok_or_else(|| {
            let url = without_password(&settings.url);
            format!("`{url}` does not say what the repository is called; hint: write it as `git.status.repository`")
        })?;
        let parts = repository.split('/').collect::<Vec<_>>();
        let odd = |part: &&str| matches!(*part, "" | "." | "..") || part.contains(|c: char| c.is_control());
        let fits = match status.host {
            Host::GitHub => parts.len() == 2,
            Host::GitLab => parts.len() >= 2,
        };
        if !fits || parts.iter().any(odd) {
            let wanted = match status.host {
                Host::GitHub => "`OWNER/NAME`",
                Host::GitLab => "the path of a project, `GROUP/NAME`",
            };
            return Err(format!(
                "`{repository}` is no repository of {}: expected {wanted}; hint: write it as `git.status.repository`",
                name(status.host)
            ));
        }
        let api = match (&status.api, host) {
            (Some(api), _) => api.clone(),
            (None, Some(host)) => default_api(status.host, &host),
            (None, None) => {
                let url = without_password(&settings.url);
                return Err(format!(
                    "`{url}` does not say which {} it is; hint: write its address as `git.status.api`",
                    name(status.host)
                ));
            }
        };
        let api = Url::parse(&api).ok().filter(Url::has_host).ok_or_else(|| {
            format!(
                "`{api}` is no address of an API; hint: write `git.status.api` like `https://git.example.com/api/v3`"
            )
        })?;
        Ok(Self { api, repository })
    }
}

/// As people call it.
pub(super) const fn name(host: Host) -> &'static str {
    match host {
        Host::GitHub => "GitHub",
        Host::GitLab => "GitLab",
    }
}

fn default_api(host: Host, at: &str) -> String {
    match (host, at) {
        (Host::GitHub, "github.com" | "www.github.com" | "ssh.github.com") => "https://api.github.com".to_owned(),
        // Enterprise Cloud with data residency.
        (Host::GitHub, at) if at.ends_with(".ghe.com") => format!("https://api.{at}"),
        (Host::GitHub, at) => format!("https://{at}/api/v3"),
        (Host::GitLab, "altssh.gitlab.com") => "https://gitlab.com/api/v4".to_owned(),
        (Host::GitLab, at) => format!("https://{at}/api/v4"),
    }
}

/// The web host (none: not known) and the repository in an address that `git::names::url` lets pass.
fn host_and_path(url: &str) -> (Option<String>, Option<String>) {
    let (scheme, host, path) = parts(url);
    let web = match scheme {
        "https" | "http" => true,
        "ssh" => false,
        _ => return (None, None),
    };
    // The port of SSH is not the port of the web.
    let host = match host.rfind(':') {
        Some(colon) if !web && !host.ends_with(']') => &host[..colon],
        _ => host,
    };
    // A name without a dot is an alias in somebody's SSH configuration.
    let known = web || host.contains(['.', '[']);
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/');
    (known.then(|| host.to_ascii_lowercase()), (!path.is_empty()).then(|| path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(host: Host, url: &str, api: Option<&str>, repository: Option<&str>) -> Result<(String, String), Why> {
        let status = GitStatus {
            host,
            api: api.map(Into::into),
            repository: repository.map(Into::into),
            token_file: "/t".into(),
            deployments: false,
            environment: None,
        };
        let place = Place::of(&GitSettings::of(url.into(), "main".into(), String::new()), &status)?;
        Ok((place.api.to_string(), place.repository))
    }

    #[test]
    fn it_is_derived_from_every_form_of_address() {
        let hub = "https://api.github.com/";
        let table = [
            (Host::GitHub, "https://github.com/acme/deploy.git", hub, "acme/deploy"),
            (Host::GitHub, "https://x-access-token@github.com/acme/deploy", hub, "acme/deploy"),
            (Host::GitHub, "https://GitHub.com/acme/deploy/", hub, "acme/deploy"),
            (Host::GitHub, "git@github.com:acme/deploy.git", hub, "acme/deploy"),
            (Host::GitHub, "github.com:/acme/deploy.git", hub, "acme/deploy"),
            (Host::GitHub, "ssh://git@ssh.github.com:443/acme/deploy.git", hub, "acme/deploy"),
            (Host::GitHub, "ssh://git@git.acme.com:2222/a/b.git", "https://git.acme.com/api/v3", "a/b"),
            (Host::GitHub, "https://git.acme.com:8443/a/b.c.git", "https://git.acme.com:8443/api/v3", "a/b.c"),
            (Host::GitHub, "git@acme.ghe.com:a/b", "https://api.acme.ghe.com/", "a/b"),
            (Host::GitLab, "git@gitlab.com:g/sub/p.git", "https://gitlab.com/api/v4", "g/sub/p"),
            (Host::GitLab, "ssh://git@altssh.gitlab.com:443/g/p.git", "https://gitlab.com/api/v4", "g/p"),
            (Host::GitLab, "ssh://git@[::1]:22/g/p", "https://[::1]/api/v4", "g/p"),
            (Host::GitLab, "https://lab.acme.com/g/p.git", "https://lab.acme.com/api/v4", "g/p"),
        ];
        for (host, url, api, repository) in table {
            assert_eq!(place(host, url, None, None), Ok((api.into(), repository.into())), "{url}");
        }
    }

    #[test]
    fn what_is_written_wins() {
        let found = place(Host::GitHub, "file:///srv/x.git", Some("http://127.0.0.1:1/x"), Some("a/b"));
        assert_eq!(found, Ok(("http://127.0.0.1:1/x".into(), "a/b".into())));
        let found = place(Host::GitHub, "work:a/b.git", Some("https://api.github.com"), None);
        assert_eq!(found, Ok(("https://api.github.com/".into(), "a/b".into())));
    }

    #[test]
    fn what_cannot_be_derived_is_said_with_a_hint() {
        let table = [
            ("file:///srv/x.git", None, None, "git.status.repository"),
            ("/srv/x.git", None, Some("a/b"), "git.status.api"),
            // An alias of the SSH configuration.
            ("work:a/b.git", None, None, "git.status.api"),
            ("https://github.com/a/b/c", None, None, "git.status.repository"),
            ("https://github.com/deploy", None, None, "git.status.repository"),
            ("https://github.com/a/b", None, Some("a/.."), "git.status.repository"),
            ("https://github.com/a/b", Some("https://"), None, "git.status.api"),
        ];
        for (url, api, repository, hint) in table {
            let why = place(Host::GitHub, url, api, repository).unwrap_err();
            assert!(why.contains("hint: ") && why.contains(hint), "{url}: {why}");
        }
    }
}
