//! Signed commits, and the web: who may commit, and how the other side knows.

use std::fs;
use std::path::PathBuf;

use holdfast::git::{Signers, Token};
use holdfast::plan::step::Ensured;
use holdfast::ports::{Source as _, SourceUpdate, StepErrorKind};

use crate::bed::{Bed, step};
use crate::git_server::GitServer;

/// A new key, and the file that accepts it.
fn key(bed: &Bed, name: &str, passphrase: &str) -> (PathBuf, PathBuf) {
    let key = bed.path(name);
    let made = bed
        .command("ssh-keygen", ".")
        .args(["-q", "-t", "ed25519", "-N", passphrase, "-C", name, "-f", name])
        .output()
        .expect("this test needs ssh-keygen (openssh-client)");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let signers = bed.path(&format!("{name}.signers"));
    let public = bed.read(format!("{name}.pub"));
    fs::write(&signers, format!("holdfast@acme.example namespaces=\"git\" {public}")).unwrap();
    (key, signers)
}

#[tokio::test]
async fn a_signed_commit_counts_where_commits_have_to_be_signed() {
    let bed = Bed::new();
    let (ann, _) = key(&bed, "ann-key", "");
    let (own, own_signers) = key(&bed, "own-key", "");
    let both = format!("{}{}", bed.read("ann-key.signers"), bed.read(&own_signers));
    fs::write(bed.path("signers"), both).unwrap();
    for (key, value) in [("gpg.format", "ssh"), ("user.signingKey", ann.to_str().unwrap()), ("commit.gpgSign", "true")]
    {
        bed.git("ann", &["config", key, value]);
    }
    let mut settings = bed.settings();
    settings.signers = Some(Signers { ssh: Some(bed.path("signers")), gpg_home: None });
    settings.write.as_mut().unwrap().signing_key = Some(own);
    let source = bed.source("web-1", settings);
    // Nothing is built on a commit that lacks its signature.
    let error = source.writer().perform(&step("api", "v1", "v2")).await.unwrap_err();
    assert!(error.kind == StepErrorKind::Refused && error.why.contains("signature"), "{error}");
    bed.commit("ann", "README.md", "signed\n");
    assert_eq!(source.writer().perform(&step("api", "v1", "v2")).await, Ok(Ensured::Changed));
    let allowed = format!("gpg.ssh.allowedSignersFile={}", own_signers.display());
    bed.git("server.git", &["-c", &allowed, "verify-commit", "main"]);
    let SourceUpdate::Accepted(state) = source.read().await else { panic!("its own commit counts") };
    assert_eq!(state.revision.0, bed.head());
}

#[tokio::test]
async fn a_key_that_cannot_sign_is_a_refusal_with_a_hint_and_asks_nobody() {
    let bed = Bed::new();
    let (locked, _) = key(&bed, "locked", "a passphrase");
    fs::write(bed.path("odd"), "no key").unwrap();
    for key in [locked, bed.path("odd"), bed.path("missing")] {
        let mut settings = bed.settings();
        settings.write.as_mut().unwrap().signing_key = Some(key);
        let writer = bed.source("web-1", settings).writer();
        let error = writer.perform(&step("api", "v1", "v2")).await.unwrap_err();
        assert_eq!(error.kind, StepErrorKind::Refused, "{error}");
        assert!(error.why.contains("hint: is `git.write.signingKey`"), "{error}");
    }
    assert_eq!(bed.log().len(), 1);
}

#[tokio::test]
async fn over_http_a_token_opens_the_door_and_a_wrong_one_is_a_refusal() {
    let bed = Bed::new();
    let server = GitServer::new(&bed.path("."));
    server.login("x-access-token", "t0ken");
    let with = |id: &str, token: &str| {
        let file = bed.path(&format!("{id}.token"));
        fs::write(&file, token).unwrap();
        let mut settings = bed.settings();
        settings.url = server.url("server.git");
        settings.access.token = Some(Token::File(file));
        bed.source(id, settings).writer()
    };
    let error = with("wrong", "s3cret").perform(&step("api", "v1", "v2")).await.unwrap_err();
    assert!(error.kind == StepErrorKind::Refused && !error.why.contains("s3cret"), "{error}");
    let (one, two) = (with("one", "t0ken"), with("two", "t0ken"));
    let (api, web) = (step("api", "v1", "v2"), step("web", "1.10", "1.11"));
    let (left, right) = tokio::join!(one.perform(&api), two.perform(&web));
    assert_eq!((left, right), (Ok(Ensured::Changed), Ok(Ensured::Changed)));
    assert_eq!(bed.log().len(), 3);
}
