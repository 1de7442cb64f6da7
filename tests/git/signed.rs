//! Who must have signed the deployed commit: SSH keys and GPG keys, good and otherwise.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use holdfast::git::Signers;
use holdfast::ports::Source as _;

use crate::bed::{Bed, accepted, enabled, fed, rejected, service, tags};
use crate::sshd::keygen;

/// A bed whose deployed commit has to be signed, and the keys of Ann and Bob; only Ann's is accepted.
struct Signed {
    bed: Bed,
    allowed: PathBuf,
}

impl Signed {
    fn with_ssh() -> Option<Self> {
        if !enabled() {
            return None;
        }
        let mut bed = Bed::new();
        for name in ["ann", "bob", "old"] {
            keygen(&bed.path(name));
        }
        let allowed = bed.path("allowed");
        bed.settings.signers = Some(Signers { ssh: Some(allowed.clone()), gpg_home: None });
        let it = Self { bed, allowed };
        it.allow("");
        Some(it)
    }

    fn public(&self, name: &str) -> String {
        fs::read_to_string(self.bed.path(name).with_extension("pub")).unwrap()
    }

    /// Ann, and Old with these options.
    fn allow(&self, options: &str) {
        let old = if options.is_empty() { String::new() } else { format!("old {options} {}", self.public("old")) };
        fs::write(&self.allowed, format!("ann@acme.example {}{old}", self.public("ann"))).unwrap();
    }

    fn by_ssh(&self, name: &str) -> Vec<String> {
        vec![
            "-c".into(),
            "gpg.format=ssh".into(),
            "-c".into(),
            format!("user.signingKey={}", self.bed.path(name).display()),
        ]
    }

    /// Commits a tag, signed by what the settings say, and pushes.
    fn publish(&self, tag: &str, signing: &[String]) -> String {
        self.bed.write("prod/api.yaml", service("api", tag));
        self.bed.git(&["add", "--all"]);
        let mut args: Vec<&str> = signing.iter().map(String::as_str).collect();
        args.extend(["commit", "--quiet", "-m", tag, if signing.is_empty() { "--no-gpg-sign" } else { "-S" }]);
        self.bed.git(&args);
        self.bed.push();
        self.bed.head()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_commit_signed_by_an_allowed_ssh_key_is_taken() {
    let Some(it) = Signed::with_ssh() else { return };
    let source = it.bed.source();
    let good = it.publish("1", &it.by_ssh("ann"));
    assert_eq!(accepted(source.read().await).revision.0, good);
    let mut said = String::new();
    let mut tell = |name: &str, why: String| {
        let key = regex::Regex::new("SHA256:[A-Za-z0-9+/]+|verify time [0-9T:-]+").unwrap();
        said += &format!("{name}: {}\n", it.bed.plain(&key.replace_all(&why, "SO")));
    };
    it.publish("2", &[]);
    tell("unsigned", rejected(source.read().await));
    it.bed.assert_in_force_alone(&good).await;
    it.publish("3", &it.by_ssh("bob"));
    tell("another key", rejected(source.read().await));
    it.allow("valid-before=\"20200101\"");
    it.publish("4", &it.by_ssh("old"));
    tell("an expired key", rejected(source.read().await));
    it.allow("namespaces=\"file\"");
    tell("a key for something else", rejected(source.read().await));
    // A signed commit with another message under the same signature.
    it.publish("5", &it.by_ssh("ann"));
    let raw = it.bed.git(&["cat-file", "commit", "HEAD"]) + "\n";
    assert!(raw.ends_with("\n5\n"));
    let forged = format!("{}\nforged\n", raw.trim_end().trim_end_matches('5').trim_end_matches('\n'));
    let id = it.bed.git_reading(&["hash-object", "-w", "-t", "commit", "--stdin"], forged.as_bytes());
    it.bed.git(&["push", "--quiet", "--force", "origin", &format!("{id}:refs/heads/main")]);
    tell("tampered with", rejected(source.read().await));
    it.bed.assert_in_force_alone(&good).await;
    insta::assert_snapshot!(said);
    // And the untouched one is good; so is a key that is still valid.
    it.bed.push();
    assert_eq!(tags(&accepted(source.read().await)), "api 5");
    it.allow("valid-before=\"20990101\"");
    it.publish("6", &it.by_ssh("old"));
    assert_eq!(tags(&accepted(source.read().await)), "api 6");
    fs::remove_file(&it.allowed).unwrap();
    it.publish("7", &it.by_ssh("ann"));
    let why = it.bed.plain(&rejected(source.read().await));
    assert!(why.contains("allowed"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_merge_only_the_commit_that_is_deployed_has_to_be_signed() {
    let Some(it) = Signed::with_ssh() else { return };
    let source = it.bed.source();
    it.publish("1", &it.by_ssh("ann"));
    accepted(source.read().await);
    it.bed.git(&["checkout", "--quiet", "-b", "side"]);
    it.bed.commit_tag("2");
    it.bed.git(&["checkout", "--quiet", "main"]);
    let mut args = it.by_ssh("ann");
    args.extend(["merge", "--quiet", "--no-ff", "-S", "-m", "merge", "side"].map(str::to_owned));
    it.bed.git(&args.iter().map(String::as_str).collect::<Vec<_>>());
    it.bed.push();
    assert_eq!(tags(&accepted(source.read().await)), "api 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_sign_is_asked_again_of_a_commit_a_person_accepted() {
    let Some(it) = Signed::with_ssh() else { return };
    let source = it.bed.source();
    it.publish("1", &it.by_ssh("ann"));
    let good = it.publish("2", &it.by_ssh("ann"));
    accepted(source.read().await);
    it.bed.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    let id = it.publish("3", &[]);
    rejected(source.read().await);
    source.accept_rewind(&id, "ann").await.unwrap();
    assert!(rejected(source.read().await).contains("signature"));
    it.bed.assert_in_force_alone(&good).await;
}

/// A GnuPG home with new keys of these names and ends (`1d`, `seconds=1`).
fn gpg_home(bed: &Bed, folder: &str, keys: &[(&str, &str)]) -> PathBuf {
    let home = bed.path(folder);
    fs::create_dir_all(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    for (name, end) in keys {
        gpg(&home, &["--passphrase", "", "--quick-generate-key", name, "ed25519", "sign", end]);
    }
    home
}

fn gpg(home: &std::path::Path, args: &[&str]) -> String {
    gpg_reading(home, args, b"")
}

fn gpg_reading(home: &std::path::Path, args: &[&str], stdin: &[u8]) -> String {
    let mut command = Command::new("gpg");
    command.arg("--homedir").arg(home).args(["--batch", "--quiet", "--no-tty"]).args(args);
    fed(command, stdin)
}

/// Ends the agent gpg started for `home`.
struct Agent(PathBuf);

impl Drop for Agent {
    fn drop(&mut self) {
        let mut command = Command::new("gpgconf");
        let _ = command.arg("--homedir").arg(&self.0).args(["--kill", "all"]).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_commit_signed_by_a_gpg_key_of_the_home_is_taken() {
    let Some(mut it) = Signed::with_ssh() else { return };
    // The signers' keys; the host's home has the public ones of two of them.
    let all = gpg_home(&it.bed, "g", &[("ann@x", "never"), ("bob@x", "never"), ("revoked@x", "never")]);
    let _agent = Agent(all.clone());
    let host = gpg_home(&it.bed, "h", &[]);
    let _host_agent = Agent(host.clone());
    for name in ["ann@x", "revoked@x"] {
        let public = gpg(&all, &["--armor", "--export", name]);
        gpg_reading(&host, &["--import"], public.as_bytes());
    }
    it.bed.settings.signers = Some(Signers { ssh: None, gpg_home: Some(host.clone()) });
    let program = it.bed.path("gpg");
    fs::write(&program, format!("#!/bin/sh\nexec gpg --homedir {} --batch \"$@\"\n", all.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let by = |name: &str| {
        let settings = [format!("gpg.program={}", program.display()), format!("user.signingKey={name}")];
        settings.into_iter().flat_map(|it| ["-c".to_owned(), it]).collect::<Vec<String>>()
    };
    let source = it.bed.source();
    let first = it.publish("1", &by("revoked@x"));
    assert_eq!(accepted(source.read().await).revision.0, first);
    let good = it.publish("2", &by("ann@x"));
    assert_eq!(accepted(source.read().await).revision.0, good);
    let mut said = String::new();
    let mut tell = |name: &str, why: String| {
        let why = regex::Regex::new("[0-9A-F]{16,40}").unwrap().replace_all(&why, "KEY").into_owned();
        let why = regex::Regex::new("made [^;]*").unwrap().replace_all(&why, "made THEN").into_owned();
        said += &format!("{name}: {}\n", it.bed.plain(&why));
    };
    it.publish("3", &by("bob@x"));
    tell("a key that is not in the home", rejected(source.read().await));
    it.publish("4", &[]);
    tell("unsigned", rejected(source.read().await));
    it.publish("5", &it.by_ssh("ann"));
    tell("signed with SSH", rejected(source.read().await));
    // The revocation reaches the host.
    let print = gpg(&all, &["--with-colons", "--list-keys", "revoked@x"]);
    let print =
        print.lines().find_map(|line| line.strip_prefix("fpr:::::::::")).unwrap().trim_end_matches(':').to_owned();
    let revocation = fs::read_to_string(all.join(format!("openpgp-revocs.d/{print}.rev"))).unwrap();
    gpg_reading(&host, &["--import"], revocation.replace(":-----BEGIN", "-----BEGIN").as_bytes());
    it.publish("6", &by("revoked@x"));
    tell("a revoked key", rejected(source.read().await));
    it.bed.assert_in_force_alone(&good).await;
    insta::assert_snapshot!(said);
    // The reverse: a GPG signature where only SSH keys are named.
    it.bed.settings.signers = Some(Signers { ssh: Some(it.allowed.clone()), gpg_home: None });
    it.publish("7", &by("ann@x"));
    let why = rejected(it.bed.source().read().await);
    println!("{why}");
    it.bed.settings.signers = Some(Signers { ssh: Some(it.allowed.clone()), gpg_home: Some(host) });
    assert_eq!(tags(&accepted(it.bed.source().read().await)), "api 7");
    it.publish("8", &it.by_ssh("ann"));
    assert_eq!(tags(&accepted(it.bed.source().read().await)), "api 8");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpg_key_that_has_expired_does_not_count() {
    let Some(mut it) = Signed::with_ssh() else { return };
    let home = gpg_home(&it.bed, "g", &[("ann@x", "seconds=2")]);
    let _agent = Agent(home.clone());
    it.bed.settings.signers = Some(Signers { ssh: None, gpg_home: Some(home.clone()) });
    let program = it.bed.path("gpg");
    fs::write(&program, format!("#!/bin/sh\nexec gpg --homedir {} --batch \"$@\"\n", home.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let by = [
        "-c".to_owned(),
        format!("gpg.program={}", program.display()),
        "-c".to_owned(),
        "user.signingKey=ann@x".to_owned(),
    ];
    it.publish("1", &by);
    let give_up = std::time::Instant::now() + crate::bed::PATIENCE;
    let expired = || gpg(&home, &["--with-colons", "--list-keys"]).lines().any(|it| it.starts_with("pub:e:"));
    while !expired() {
        assert!(std::time::Instant::now() < give_up);
        crate::program::pause(std::time::Duration::from_millis(100));
    }
    let why = rejected(it.bed.source().read().await);
    assert!(why.contains("expired"), "{why}");
    assert!(!it.bed.record().exists());
}
