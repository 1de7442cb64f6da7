//! `--git URL --branch B --path P`: the desired state from git, by flags.

use clap::Args;

use crate::git::{Protocol, names};
use crate::source::settings::{GitSettings, Settings};

use super::failure::Failure;

/// Where in git the desired state is; each wins over `git:` of `holdfast.yaml`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct GitArgs {
    /// Read this repository in place of a folder: https://…, ssh://… or git@host:path [default: `git.url`].
    #[arg(
        long = "git",
        env = "HOLDFAST_GIT",
        hide_env = true,
        help_heading = "From git",
        value_name = "URL",
        conflicts_with = "path"
    )]
    url: Option<String>,
    /// The one branch that is followed [default: `git.branch`, main].
    #[arg(long, env = "HOLDFAST_GIT_BRANCH", hide_env = true, help_heading = "From git", value_name = "BRANCH", value_parser = branch)]
    branch: Option<String>,
    /// The folder (or the one file) in it [default: `git.path`, the root].
    #[arg(id = "git_path", long = "path", env = "HOLDFAST_GIT_PATH", hide_env = true, help_heading = "From git", value_name = "FOLDER", value_parser = folder)]
    folder: Option<String>,
    /// Speak this protocol too: `file` (a repository of this host) or `http` (without encryption).
    #[arg(long = "git-allow", env = "HOLDFAST_GIT_ALLOW", hide_env = true, help_heading = "From git", value_name = "PROTOCOL", value_delimiter = ',', value_parser = protocol)]
    allow: Vec<Protocol>,
}

/// Where credentials go.
fn host(url: &str) -> (&str, &str) {
    let (scheme, host, _) = names::parts(url);
    (scheme, host)
}

fn branch(text: &str) -> Result<String, String> {
    names::branch(text).ok_or_else(|| format!("expected {}", names::BRANCH))
}

fn folder(text: &str) -> Result<String, String> {
    names::folder(text).ok_or_else(|| format!("expected {}", names::FOLDER))
}

fn protocol(text: &str) -> Result<Protocol, String> {
    Protocol::named(text).ok_or_else(|| "expected `file` or `http`".to_owned())
}

impl GitArgs {
    /// Puts the flags over `settings`; a folder named by PATH (`by_path`) wins over `git:` of the file.
    ///
    /// # Errors
    /// When an address is none, or flags about git stand without one.
    pub(crate) fn apply(&self, settings: &mut Settings, by_path: bool) -> Result<(), Failure> {
        if by_path {
            settings.git = None;
        }
        let Self { url, branch, folder, allow } = self;
        if let Some(url) = url {
            // Keys, tokens and what may be written are for the host of the file, and for no other.
            let known = settings.git.take().filter(|known| host(&known.url) == host(url));
            let mut git = known.unwrap_or_else(|| GitSettings::of(String::new(), "main".to_owned(), String::new()));
            git.url.clone_from(url);
            settings.git = Some(git);
        }
        let Some(git) = &mut settings.git else {
            return if branch.is_some() || folder.is_some() || !allow.is_empty() {
                Err(Failure::new("the branch and the folder of no repository are given")
                    .try_this("add --git URL, or `git:` with a `url` to holdfast.yaml"))
            } else {
                Ok(())
            };
        };
        git.access.allow.extend(allow);
        if let Some(branch) = branch {
            git.branch.clone_from(branch);
        }
        if let Some(folder) = folder {
            git.path.clone_from(folder);
        }
        names::url(&git.url, &git.access.allow).map_err(|bad| {
            let shown = names::without_password(&git.url);
            let failure = Failure::new(format!("`{shown}` is no address of a git repository here"))
                .because(format!("expected {}", bad.expected));
            match bad.hint {
                Some(hint) => failure.try_this(
                    hint.replace("`allow: [file]`", "`--git-allow file`")
                        .replace("`allow: [http]`", "`--git-allow http`"),
                ),
                None => failure,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(url: Option<&str>) -> GitArgs {
        GitArgs { url: url.map(str::to_owned), ..GitArgs::default() }
    }

    #[test]
    fn flags_win_over_the_file_and_a_folder_over_both() {
        let mut settings = Settings {
            git: Some(GitSettings::of("https://h/x".into(), "prod".into(), "a".into())),
            ..Settings::default()
        };
        let flags = GitArgs { folder: Some("b".into()), ..args(Some("https://h/y")) };
        flags.apply(&mut settings, false).unwrap();
        let git = settings.git.clone().unwrap();
        assert_eq!((git.url.as_str(), git.branch.as_str(), git.path.as_str()), ("https://h/y", "prod", "b"));
        args(None).apply(&mut settings, true).unwrap();
        assert_eq!(settings.git, None);
    }

    #[test]
    fn a_token_of_the_file_goes_to_no_other_host() {
        let token = Some(crate::git::Token::File("/etc/holdfast/token".into()));
        let mut git = GitSettings::of("https://good.example/x".into(), "main".into(), String::new());
        git.access.token.clone_from(&token);
        let with = |url: &str| {
            let mut settings = Settings { git: Some(git.clone()), ..Settings::default() };
            let flags = GitArgs { allow: vec![Protocol::Http], ..args(Some(url)) };
            flags.apply(&mut settings, false).unwrap();
            settings.git.unwrap().access.token
        };
        assert_eq!(with("https://good.example/y"), token);
        for other in ["http://good.example/x", "https://good.example:8443/x", "https://bad.example/x", "good.example:x"]
        {
            assert_eq!(with(other), None, "{other}");
        }
        assert_eq!(host("ssh://git@h:22/x"), ("ssh", "h:22"));
        assert_eq!(host("git@h:x/y"), ("ssh", "h"));
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_hint() {
        let refused = |url| args(Some(url)).apply(&mut Settings::default(), false).unwrap_err();
        assert_eq!(refused("/srv/x").hint(), Some("say `--git-allow file` to read a repository of this host"));
        assert!(!format!("{:?}", refused("https://u:secret@h/x")).contains("secret"));
        let alone = GitArgs { branch: Some("main".into()), ..GitArgs::default() };
        assert!(alone.apply(&mut Settings::default(), false).is_err());
    }
}
