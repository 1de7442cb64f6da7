//! A repository of one's own, clones of it, and controllers that follow it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use holdfast::git::{Access, Protocol};
use holdfast::model::image::{Tag, TagSpec};
use holdfast::model::names::{ControllerId, ServiceName};
use holdfast::plan::step::SourceStep;
use holdfast::ports::WallClock;
use holdfast::source::HostRules;
use holdfast::source::git::{GitOptions, GitSource};
use holdfast::source::settings::{GitSettings, GitWrite};
use tempfile::TempDir;

/// Two services, with everything an edit could spoil.
pub(crate) const FILE: &str = "\
# what runs in production
services:
  api:
    image:   app            # who builds it: CI
    tag: v1                 # the line CI bumps
    health: {running: 1s}
    docker: {pull: never, env: {A: '1', B: \"two\"}}

  web: {image: site, tag: \"1.10\", health: {running: 1s}, docker: {pull: never}}   # in one line
";

pub(crate) struct Bed {
    dir: TempDir,
}

impl Bed {
    /// With `FILE` as `prod/services.yaml`.
    pub(crate) fn new() -> Self {
        let bed = Self::empty("sha1");
        bed.commit("ann", "prod/services.yaml", FILE);
        bed
    }

    /// A bare repository and the clone `ann`.
    pub(crate) fn empty(format: &str) -> Self {
        let bed = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(bed.path("home")).unwrap();
        let format = format!("--object-format={format}");
        bed.git(".", &["init", "--quiet", "--bare", "--initial-branch=main", &format, "server.git"]);
        bed.git("server.git", &["config", "http.receivepack", "true"]);
        bed.git(".", &["init", "--quiet", "--initial-branch=main", &format, "ann"]);
        bed.git("ann", &["remote", "add", "origin", &bed.url()]);
        bed.introduce("ann");
        bed
    }

    fn introduce(&self, clone: &str) {
        self.git(clone, &["config", "user.name", clone]);
        self.git(clone, &["config", "user.email", &format!("{clone}@acme.example")]);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.path("server.git").display())
    }

    /// Another clone, of somebody called as it is.
    pub(crate) fn clone(&self, name: &str) {
        self.git(".", &["clone", "--quiet", &self.url(), name]);
        self.introduce(name);
    }

    pub(crate) fn command(&self, program: &str, folder: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path(folder)).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", self.path("home")).env("GIT_CONFIG_NOSYSTEM", "1").env("USER", "tester");
        command
    }

    pub(crate) fn try_git(&self, folder: &str, args: &[&str]) -> Output {
        self.command("git", folder).args(args).output().expect("these tests need git")
    }

    pub(crate) fn git(&self, folder: &str, args: &[&str]) -> String {
        let output = self.try_git(folder, args);
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Writes, commits and pushes one file from a clone; the commit's id.
    pub(crate) fn commit(&self, clone: &str, path: &str, text: &str) -> String {
        let file = self.path(clone).join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        self.git(clone, &["add", "--all"]);
        self.git(clone, &["commit", "--quiet", "-m", &format!("{path} by {clone}")]);
        self.git(clone, &["push", "--quiet", "--set-upstream", "origin", "HEAD:main"]);
        self.git(clone, &["rev-parse", "HEAD"])
    }

    /// Somebody else pushes something that has nothing to do with services.
    pub(crate) fn somebody_pushes(&self) -> String {
        if !self.path("bob").exists() {
            self.clone("bob");
        }
        self.git("bob", &["pull", "--quiet", "--ff-only"]);
        let count = self.log().len();
        self.commit("bob", "README.md", &format!("read {count}\n"))
    }

    /// The commit of the branch on the server.
    pub(crate) fn head(&self) -> String {
        self.git("server.git", &["rev-parse", "main"])
    }

    /// Subjects, newest first.
    pub(crate) fn log(&self) -> Vec<String> {
        self.git("server.git", &["log", "--format=%s", "main"]).lines().map(str::to_owned).collect()
    }

    /// The bytes of a file on the server.
    pub(crate) fn text(&self, path: &str) -> String {
        let output = self.try_git("server.git", &["cat-file", "blob", &format!("main:{path}")]);
        assert!(output.status.success(), "{path}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A hook of the server (or of a clone: `ann/.git`).
    pub(crate) fn hook(&self, repository: &str, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path(repository).join("hooks").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn settings(&self) -> GitSettings {
        let mut settings = GitSettings::of(self.url(), "main".to_owned(), "prod".to_owned());
        settings.access = Access { allow: vec![Protocol::File, Protocol::Http], ..Access::default() };
        settings.write = Some(GitWrite {
            name: "Holdfast".to_owned(),
            email: "holdfast@acme.example".to_owned(),
            signing_key: None,
            skip_ci: false,
        });
        settings
    }

    /// A controller's source with a state folder of its own.
    pub(crate) fn source(&self, id: &str, settings: GitSettings) -> Arc<GitSource> {
        Arc::new(GitSource::new(GitOptions {
            settings,
            folder: self.path(id).join("git"),
            rules: HostRules { controller: ControllerId::new(id).unwrap(), named: true, mounts: Vec::new() },
            clock: Arc::new(WallClock),
        }))
    }

    /// `holdfast` in a clone.
    pub(crate) fn holdfast(&self, clone: &str, args: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_holdfast"), clone);
        command.args(args);
        command
    }

    /// Runs it to a good end; what it printed.
    pub(crate) fn says(&self, clone: &str, args: &[&str]) -> String {
        let output = self.holdfast(clone, args).output().unwrap();
        let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?}: {said}{error}");
        said.into_owned()
    }

    /// Runs it to a bad end; what it complained of.
    pub(crate) fn fails(&self, clone: &str, args: &[&str]) -> String {
        let output = self.holdfast(clone, args).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
        assert!(error.contains("hint: "), "{error}");
        error
    }

    pub(crate) fn read(&self, path: impl AsRef<Path>) -> String {
        fs::read_to_string(self.dir.path().join(path)).unwrap()
    }
}

pub(crate) fn tag(text: &str) -> TagSpec {
    TagSpec { tag: Tag::new(text).unwrap(), digest: None }
}

pub(crate) fn step(service: &str, from: &str, to: &str) -> SourceStep {
    let why = "because it is the newest tag that fits".to_owned();
    SourceStep { service: ServiceName::new(service).unwrap(), from: tag(from), to: tag(to), why }
}
