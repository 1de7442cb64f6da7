//! Random lives of a repository: whatever is pushed, rewound, deleted, damaged or cut off, what is in force is the last
//! good commit, and it is in force again after every start.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use holdfast::git::{Access, Protocol};
use holdfast::model::names::ControllerId;
use holdfast::ports::{Source, SourceUpdate, WallClock};
use holdfast::source::HostRules;
use holdfast::source::git::{GitOptions, GitSource};
use holdfast::source::settings::GitSettings;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// Lives on every run, and acts in each; `HOLDFAST_GIT_LIVES` asks for more.
const LIVES: u64 = 10;
const ACTS: usize = 30;

/// SplitMix64: the same seed is the same life.
struct Chance(u64);

impl Chance {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % count as u64).unwrap()
    }
}

/// A commit as the test knows it.
#[derive(Clone)]
struct Made {
    id: String,
    parent: Option<usize>,
    is_valid: bool,
}

/// A repository, a controller's folder, and what must be true.
struct Life {
    home: TempDir,
    source: GitSource,
    made: Vec<Made>,
    /// What the branch has.
    head: Option<usize>,
    is_up: bool,
    good: Option<usize>,
    accepted: Option<usize>,
    story: Vec<String>,
}

fn git(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["-c", "user.name=Ann", "-c", "user.email=ann@acme.example", "-c", "commit.gpgSign=false"])
        .args(args)
        .output()
        .expect("git is installed");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn source(home: &Path) -> GitSource {
    let url = format!("file://{}", home.join("server.git").display());
    let access = Access { allow: vec![Protocol::File], ..Access::default() };
    let settings = GitSettings { access, ..GitSettings::of(url, "main".into(), "prod".into()) };
    let controller = ControllerId::new("default").unwrap();
    let rules = HostRules { controller, named: true, mounts: Vec::new() };
    GitSource::new(GitOptions { settings, folder: home.join("state/git"), rules, clock: Arc::new(WallClock) })
}

impl Life {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        for (name, bare) in [("server.git", "--bare"), ("work", "--quiet")] {
            fs::create_dir(home.path().join(name)).unwrap();
            git(&home.path().join(name), &["init", "--quiet", "--initial-branch=main", bare]);
        }
        let source = source(home.path());
        Self { home, source, made: Vec::new(), head: None, is_up: true, good: None, accepted: None, story: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Commits on top of `parent` and returns its number; nothing is pushed.
    fn commit(&mut self, parent: Option<usize>, chance: &mut Chance) -> usize {
        let work = self.path("work");
        match parent {
            Some(parent) => drop(git(&work, &["checkout", "--quiet", "--force", "--detach", &self.made[parent].id])),
            None => {
                git(&work, &["checkout", "--quiet", "--force", "--orphan", &format!("o{}", self.made.len())]);
                git(&work, &["rm", "-r", "--quiet", "--force", "--ignore-unmatch", "."]);
            }
        }
        let n = self.made.len();
        let valid = format!("services:\n  api:\n    image: app\n    tag: v{n}\n");
        let (is_valid, text) = match chance.below(6) {
            0 => (false, Some("services:\n  api:\n    imagee: app\n".to_owned())),
            1 => (false, Some(String::new())),
            2 => (false, None),
            _ => (true, Some(valid)),
        };
        let file = work.join("prod/a.yaml");
        fs::create_dir_all(work.join("prod")).unwrap();
        match text {
            Some(text) => fs::write(file, text).unwrap(),
            None => drop(fs::remove_file(file)),
        }
        git(&work, &["add", "--all"]);
        git(&work, &["commit", "--quiet", "--allow-empty", "-m", &format!("commit {n}")]);
        let id = git(&work, &["rev-parse", "HEAD"]);
        self.made.push(Made { id, parent, is_valid });
        n
    }

    /// Makes `commit` the branch's, whatever it had.
    fn set_branch(&mut self, commit: Option<usize>) {
        let (work, server) = (self.path("work"), self.server());
        match commit {
            Some(commit) => {
                let spec = format!("+{}:refs/heads/main", self.made[commit].id);
                git(&work, &["push", "--quiet", "--force", &server.display().to_string(), &spec]);
            }
            None => drop(git(&server, &["update-ref", "-d", "refs/heads/main"])),
        }
        self.head = commit;
    }

    fn server(&self) -> PathBuf {
        self.path(if self.is_up { "server.git" } else { "away.git" })
    }

    fn descends(&self, new: usize, old: usize) -> bool {
        let mut at = Some(new);
        while let Some(commit) = at {
            if commit == old {
                return true;
            }
            at = self.made[commit].parent;
        }
        false
    }

    /// What a look must find, by the rules.
    fn expect(&mut self) -> Result<usize, &'static str> {
        let Some(head) = self.head else { return Err("there is no branch") };
        if self.good == Some(head) {
            return Ok(head);
        }
        if let Some(good) = self.good
            && !self.descends(head, good)
            && self.accepted != Some(head)
        {
            return Err("rewound or rewritten");
        }
        if !self.made[head].is_valid {
            return Err("");
        }
        (self.good, self.accepted) = (Some(head), None);
        Ok(head)
    }

    async fn look(&mut self) {
        let update = self.source.read().await;
        if !self.is_up {
            assert!(matches!(update, SourceUpdate::Unreadable(_)), "{update:?}\n{}", self.told());
            return;
        }
        match (self.expect(), &update) {
            (Ok(commit), SourceUpdate::Accepted(state)) => {
                assert_eq!(state.revision.0, self.made[commit].id, "{}", self.told());
                let tag = state.services.values().next().map(|it| it.tag.to_string());
                assert_eq!(tag, Some(format!("v{commit}")), "{}", self.told());
            }
            (Err(part), SourceUpdate::Rejected { why, .. }) => assert!(why.contains(part), "{why}\n{}", self.told()),
            (expected, update) => panic!("expected {expected:?}, found {update:?}\n{}", self.told()),
        }
    }

    fn told(&self) -> String {
        self.story.join("\n")
    }

    /// A new process on the same folder: what was good is told before anybody is asked, and without anybody there.
    async fn restart(&mut self) {
        self.source = source(self.home.path());
        let (here, hidden) = (self.server(), self.path("hidden.git"));
        fs::rename(&here, &hidden).unwrap();
        let again = source(self.home.path());
        let (sender, mut updates) = mpsc::channel(1);
        let watching = tokio::spawn(async move { again.watch(sender).await });
        let update = tokio::time::timeout(Duration::from_secs(30), updates.recv()).await.unwrap().unwrap();
        match (self.good, &update) {
            (Some(good), SourceUpdate::Accepted(state)) => {
                assert_eq!(state.revision.0, self.made[good].id, "{}", self.told());
            }
            (None, SourceUpdate::Unreadable(_)) => {}
            (good, update) => panic!("good {good:?}, told {update:?}\n{}", self.told()),
        }
        watching.abort();
        let _ = watching.await;
        fs::rename(hidden, here).unwrap();
    }

    fn damage(&mut self, chance: &mut Chance) {
        let Some(mirror) = fs::read_dir(self.path("state/git")).ok().and_then(|entries| {
            entries.flatten().map(|it| it.path()).find(|it| it.extension().is_some_and(|it| it == "git"))
        }) else {
            return;
        };
        match chance.below(6) {
            0 => drop(fs::remove_dir_all(&mirror)),
            1 => drop(fs::remove_file(mirror.join("HEAD"))),
            2 => drop(fs::write(mirror.join("refs/holdfast/head"), "")),
            3 => drop(fs::remove_dir_all(mirror.join("objects"))),
            4 => {
                for name in ["shallow.lock", "refs/holdfast/head.lock", "packed-refs.lock", "config.lock"] {
                    let _ = fs::write(mirror.join(name), "");
                }
            }
            _ => {
                let packs = fs::read_dir(mirror.join("objects/pack")).into_iter().flatten().flatten();
                for pack in packs.map(|it| it.path()).filter(|it| it.extension().is_some_and(|it| it == "pack")) {
                    let bytes = fs::read(&pack).unwrap();
                    let mut permissions = fs::metadata(&pack).unwrap().permissions();
                    #[expect(clippy::permissions_set_readonly_false, reason = "a file of this test's own")]
                    permissions.set_readonly(false);
                    fs::set_permissions(&pack, permissions).unwrap();
                    fs::write(&pack, &bytes[..bytes.len() / 2]).unwrap();
                }
            }
        }
    }

    async fn act(&mut self, chance: &mut Chance) {
        let kind = chance.below(14);
        self.story.push(format!("{kind}, head {:?}, good {:?}, up {}", self.head, self.good, self.is_up));
        match kind {
            // One or more commits on top.
            0..=4 => {
                for _ in 0..=chance.below(3) {
                    let commit = self.commit(self.head, chance);
                    self.set_branch(Some(commit));
                }
            }
            // Back to, or on from, any commit ever made: often neither comes after the good one.
            5 | 6 if !self.made.is_empty() => {
                let from = chance.below(self.made.len());
                let commit = if chance.below(2) == 0 { from } else { self.commit(Some(from), chance) };
                self.set_branch(Some(commit));
            }
            7 => {
                let commit = self.commit(None, chance);
                self.set_branch(Some(commit));
            }
            8 if self.head.is_some() => self.set_branch(None),
            9 => {
                let (from, to) = if self.is_up { ("server.git", "away.git") } else { ("away.git", "server.git") };
                fs::rename(self.path(from), self.path(to)).unwrap();
                self.is_up = !self.is_up;
            }
            10 | 11 => self.restart().await,
            12 => self.damage(chance),
            // Whatever is refused is accepted; most of the time it is no rewind, and nothing happens.
            13 => {
                if let (Some(head), Some(good)) = (self.head, self.good)
                    && self.is_up
                    && !self.descends(head, good)
                {
                    self.look().await;
                    let id = self.made[head].id.clone();
                    self.source.accept_rewind(&id[..10], "a test").await.unwrap();
                    self.accepted = Some(head);
                }
            }
            _ => {}
        }
        self.look().await;
    }
}

#[tokio::test]
async fn the_last_good_commit_is_in_force_through_random_lives() {
    let lives = std::env::var("HOLDFAST_GIT_LIVES").ok().and_then(|it| it.parse().ok()).unwrap_or(LIVES);
    for seed in 0..lives {
        let (mut chance, mut life) = (Chance(seed), Life::new());
        life.story.push(format!("seed {seed}"));
        for _ in 0..ACTS {
            life.act(&mut chance).await;
        }
    }
}
