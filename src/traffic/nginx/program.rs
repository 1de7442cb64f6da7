//! The `nginx` program: `-t`, `-T` and `-v`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use crate::model::snapshot::Why;

/// A test takes milliseconds; it takes long only while a name in the configuration does not resolve.
const LONGEST: Duration = Duration::from_secs(30);

/// Why the program gave no good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// It ran and refused the configuration, in its own words.
    Refused(Why),
    /// It could not be run, or did not end.
    NotRun(Why),
}

/// Which program, on which configuration.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// A path, or a name to be found in `PATH` or `/usr/sbin`.
    pub(super) binary: PathBuf,
    /// The main configuration file.
    pub(super) config: PathBuf,
}

impl Program {
    /// `nginx -t`: whether the whole configuration would load.
    pub(super) async fn test(&self) -> Result<(), Failure> {
        self.run(&["-t"]).await.map(|_| ())
    }

    /// `nginx -T`: every file the configuration loads, with its text.
    pub(super) async fn dump(&self) -> Result<String, Failure> {
        let output = self.run(&["-T"]).await?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    async fn run(&self, flags: &[&str]) -> Result<Output, Failure> {
        let output = execute(&self.binary, flags, Some(&self.config)).await.map_err(Failure::NotRun)?;
        if output.status.success() { Ok(output) } else { Err(Failure::Refused(words(&output.stderr))) }
    }
}

/// The version, `nginx/1.22.1`.
///
/// # Errors
/// When nginx is not installed or does not answer; ends in a hint.
pub(super) async fn version(binary: &Path) -> Result<String, Why> {
    let output = execute(binary, &["-v"], None).await?;
    let text = String::from_utf8_lossy(&output.stderr);
    match text.trim().strip_prefix("nginx version: ") {
        Some(version) if output.status.success() => Ok(version.to_owned()),
        _ => Err(format!(
            "`{} -v` does not answer like nginx; hint: check `nginx.binary` of holdfast.yaml",
            binary.display()
        )),
    }
}

async fn execute(binary: &Path, flags: &[&str], config: Option<&Path>) -> Result<Output, Why> {
    let mut command = Command::new(find(binary));
    command.args(flags).stdin(Stdio::null()).kill_on_drop(true);
    if let Some(config) = config {
        command.arg("-c").arg(config);
    }
    match tokio::time::timeout(LONGEST, command.output()).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Err(format!(
            "nginx is not installed: there is no program `{}`; hint: install nginx, or name its program in \
             `nginx.binary` of holdfast.yaml",
            binary.display()
        )),
        Ok(Err(error)) => Err(format!("`{}` cannot be run: {error}", binary.display())),
        Err(_) => Err(format!("`{} {}` did not end within {} s", binary.display(), flags.join(" "), LONGEST.as_secs())),
    }
}

/// Distributions install nginx in `/usr/sbin`, which is not in everybody's `PATH`.
fn find(binary: &Path) -> PathBuf {
    if binary.components().count() > 1 {
        return binary.to_owned();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path).chain(usual).map(|dir| dir.join(binary)).find(|file| file.is_file());
    found.unwrap_or_else(|| binary.to_owned())
}

/// What went wrong, in nginx's own words on one line, without its decoration.
fn words(stderr: &[u8]) -> Why {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let bad = |line: &&&str| ["[emerg]", "[alert]", "[crit]", "[error]"].iter().any(|level| line.contains(level));
    // [emerg] is what stops it; an [alert] about a log file may stand before it.
    let emerg = lines.iter().find(|line| line.contains("[emerg]")).or_else(|| lines.iter().find(bad));
    let line = emerg.or(lines.last()).copied().unwrap_or("it failed without a word");
    let plain: String = line.chars().filter(|c| !c.is_control()).take(400).collect();
    undecorated(&plain).to_owned()
}

/// Without `nginx: [emerg] ` or `2024/01/01 00:00:00 [emerg] 7#7: `, which would make every failure a new one.
fn undecorated(line: &str) -> &str {
    let Some((_, rest)) = line.split_once("] ").filter(|(before, _)| before.contains('[')) else { return line };
    let is_ids = |ids: &str| ids.contains('#') && ids.chars().all(|c| c.is_ascii_digit() || c == '#');
    rest.split_once(": ").filter(|(ids, _)| is_ids(ids)).map_or(rest, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_emergency() {
        let stderr = b"nginx: [alert] could not open error log file: open() failed\n2024/01/01 [warn] x\n\
            nginx: [emerg] unexpected \"}\" in /etc/nginx/a.servers:3\nnginx: configuration file test failed\n";
        assert_eq!(words(stderr), "unexpected \"}\" in /etc/nginx/a.servers:3");
        let logged = b"2024/01/01 00:00:00 [emerg] 7#7: host not found in upstream\n";
        assert_eq!(words(logged), "host not found in upstream");
        assert_eq!(words(b""), "it failed without a word");
    }

    #[tokio::test]
    async fn a_missing_nginx_says_how_to_get_one() {
        let why = version(Path::new("no-such-nginx")).await.unwrap_err();
        assert!(why.starts_with("nginx is not installed") && why.contains("hint: "), "{why}");
        let why = version(Path::new("/bin/true")).await.unwrap_err();
        assert!(why.contains("does not answer like nginx"), "{why}");
    }
}
