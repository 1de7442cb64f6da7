//! A repository of one's own: a bare one that is followed, and a checkout that pushes to it.

use std::fs;
use std::path::{Path, PathBuf};

use super::engine::{run, text};
use super::spec::Spec;
use super::world::World;

/// Both of them, in one folder.
pub(crate) struct Repository {
    folder: PathBuf,
}

impl Repository {
    /// An empty one under `folder`.
    pub(crate) fn new(folder: &Path) -> Self {
        let it = Self { folder: folder.to_owned() };
        fs::create_dir_all(folder).expect("a folder");
        run("git", &["init", "--quiet", "--bare", "--initial-branch=main", &it.server().display().to_string()]);
        let checkout = it.checkout();
        run("git", &["init", "--quiet", "--initial-branch=main", &checkout.display().to_string()]);
        for (key, value) in [("user.name", "Ann"), ("user.email", "ann@acme.example"), ("commit.gpgSign", "false")] {
            it.git(&["config", key, value]);
        }
        it.git(&["remote", "add", "origin", &it.server().display().to_string()]);
        it
    }

    /// The bare one.
    pub(crate) fn server(&self) -> PathBuf {
        self.folder.join("server.git")
    }

    /// The checkout.
    pub(crate) fn checkout(&self) -> PathBuf {
        self.folder.join("checkout")
    }

    /// Runs git in the checkout.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let checkout = self.checkout().display().to_string();
        let mut all = vec!["-C", checkout.as_str()];
        all.extend(args);
        run("git", &all).trim().to_owned()
    }

    /// Commits `text` as `prod/services.yaml` and pushes; the commit's id.
    pub(crate) fn push(&self, text: &str, subject: &str) -> String {
        let file = self.checkout().join("prod/services.yaml");
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(file, text).expect("the file is written");
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", subject]);
        self.git(&["push", "--quiet", "origin", "HEAD:main"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// The same of services.
    pub(crate) fn push_specs(&self, specs: &[&Spec], subject: &str) -> String {
        let services: String = specs.iter().map(|spec| spec.yaml()).collect();
        self.push(&format!("services:\n{services}"), subject)
    }
}

impl World {
    /// The desired state of this world comes from git, polled every second; `more` are further keys of `git:`.
    pub(crate) fn follows_git(&mut self, more: &str) -> Repository {
        let repository = Repository::new(&self.path("git"));
        let url = format!("file://{}", repository.server().display());
        self.settings
            .push(format!("git:\n  url: {url}\n  branch: main\n  path: prod\n  interval: 1s\n  allow: [file]\n{more}"));
        repository
    }

    /// Waits until the commit `id` is in force.
    pub(crate) fn until_in_force(&mut self, id: &str) {
        self.until(&format!("commit {id} to be in force"), 30, |world, _| {
            world.status().is_some_and(|status| status["source"]["revision"] == id)
        });
    }

    /// Waits until the controller says why the newest commit is not taken; the reason.
    pub(crate) fn until_refused(&mut self) -> String {
        let mut why = String::new();
        self.until("the newest commit to be refused", 30, |world, _| {
            why = world.status().and_then(|it| it["source"]["error"].as_str().map(str::to_owned)).unwrap_or_default();
            !why.is_empty()
        });
        why
    }

    /// Runs a verb and returns what it printed; it must succeed.
    pub(crate) fn says(&self, verb: &str, args: &[&str]) -> String {
        let output = self.holdfast(verb, args);
        assert!(output.status.success(), "{verb}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }
}
