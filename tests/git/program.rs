//! The program itself on the sandbox, following the repository of a bed with a clean environment.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::bed::{Bed, PATIENCE};

pub(crate) struct Program {
    home: PathBuf,
    url: String,
    state: PathBuf,
    log: PathBuf,
    /// `git.allow`.
    pub(crate) allow: String,
    /// Further keys of `git:`.
    pub(crate) more: String,
    env: Vec<(String, OsString)>,
    child: Option<Child>,
}

impl Program {
    pub(crate) fn new(bed: &Bed) -> Self {
        Self {
            home: bed.path("home"),
            url: bed.settings.url.clone(),
            state: bed.path("state"),
            log: bed.path("log"),
            allow: "file, http".to_owned(),
            more: String::new(),
            env: vec![("PATH".to_owned(), std::env::var_os("PATH").unwrap())],
            child: None,
        }
    }

    pub(crate) fn env(&mut self, name: &str, value: impl AsRef<Path>) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.as_ref().as_os_str().to_owned()));
    }

    pub(crate) fn url(&mut self, url: &str) {
        url.clone_into(&mut self.url);
    }

    fn command(&self, verb: &str) -> Command {
        let config = self.home.join("holdfast.yaml");
        let text = format!(
            "controller: c1\nlisten: none\ngit:\n  url: {}\n  path: prod\n  interval: 1s\n  allow: [{}]\n{}",
            self.url, self.allow, self.more
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        command.current_dir(&self.home).env_clear().env("HOME", &self.home).envs(self.env.iter().cloned());
        command.args(["--config", &config.display().to_string(), verb]);
        // The sandbox has another default.
        command.arg("--state-dir").arg(&self.state);
        command
    }

    /// A run that is expected to end by itself.
    pub(crate) fn ends(&self, args: &[&str]) -> Output {
        self.command(args[0]).args(&args[1..]).stdin(Stdio::null()).output().unwrap()
    }

    pub(crate) fn start(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let mut command = self.command("run");
        command.arg("--sandbox").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub(crate) fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> Option<Value> {
        let output = self.ends(&["status", "-o", "json"]);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Waits until `status` fits.
    pub(crate) fn until(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.status()
                && fits(&status)
            {
                return status;
            }
            assert!(Instant::now() < give_up, "waited in vain for {what}: {:?}\n{}", self.status(), self.log());
            pause(Duration::from_millis(50));
        }
    }

    pub(crate) fn until_in_force(&self, id: &str) -> Value {
        self.until(&format!("{id} in force"), |it| it["source"]["revision"] == id)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // Gently first: then its memory ends well.
        if let Some(pid) = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0)) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let give_up = Instant::now() + Duration::from_secs(5);
        while Instant::now() < give_up && matches!(child.try_wait(), Ok(None)) {
            pause(Duration::from_millis(10));
        }
        self.kill9();
    }
}

/// Between two looks at something that announces nothing.
#[expect(clippy::disallowed_methods, reason = "the gap between two polls of a condition")]
pub(crate) fn pause(gap: Duration) {
    std::thread::sleep(gap);
}
