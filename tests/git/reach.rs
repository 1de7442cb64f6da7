//! How a repository is reached over HTTP: with and without a password, and what is said when it lets nobody in.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use holdfast::git::{Protocol, Token};
use holdfast::ports::Source as _;
use holdfast::source::git::GitSource;

use crate::bed::{Bed, Watching, accepted, rejected, tags, unreadable};
use crate::git_server::{GitServer, Mode};
use crate::program::Program;

const TOKEN: &str = "canary-t0ken";

/// A bed whose repository is reached over HTTP.
pub(crate) fn over_http() -> (Bed, GitServer, String) {
    let (mut bed, id) = Bed::published();
    let server = GitServer::new(&bed.path("srv"));
    bed.settings.url = server.url("server.git");
    (bed, server, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_password_a_commit_is_read_and_the_next_one_costs_one_fetch() {
    let (bed, server, id) = over_http();
    let source = bed.source();
    assert_eq!(accepted(source.read().await).revision.0, id);
    let before = server.counts();
    // Nothing new: one question, no objects.
    accepted(source.read().await);
    let idle = server.counts();
    assert_eq!((idle.refs - before.refs, idle.objects - before.objects), (1, 0), "{idle:?}");
    let second = bed.publish("2");
    let state = accepted(source.read().await);
    assert_eq!((state.revision.0.as_str(), tags(&state).as_str()), (second.as_str(), "api 2"));
    assert_eq!(server.counts().objects - idle.objects, 1);
    bed.assert_in_force_alone(&second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_file_opens_the_door_and_is_read_each_time() {
    let (mut bed, server, id) = over_http();
    server.login("x-access-token", TOKEN);
    assert!(unreadable(bed.source().read().await).contains("hint: a token (`git.tokenFile`"));
    let file = bed.path("token");
    bed.settings.access.token = Some(Token::File(file.clone()));
    let source = bed.source();
    let why = unreadable(source.read().await);
    assert!(why.contains("the token file") && why.contains("cannot be read"), "{why}");
    fs::write(&file, " \n").unwrap();
    assert!(unreadable(source.read().await).contains("is empty"));
    fs::write(&file, "two words\n").unwrap();
    let why = unreadable(source.read().await);
    assert!(why.contains("does not hold one token") && !why.contains("two words"), "{why}");
    fs::write(&file, "wrong\n").unwrap();
    assert!(unreadable(source.read().await).contains("Authentication failed"));
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    assert_eq!(accepted(source.read().await).revision.0, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_the_address_is_the_one_the_token_is_for() {
    let (mut bed, server, id) = over_http();
    server.login("x-token-auth", TOKEN);
    let file = bed.path("token");
    fs::write(&file, TOKEN).unwrap();
    bed.settings.access.token = Some(Token::File(file));
    assert!(unreadable(bed.source().read().await).contains("Authentication failed"));
    bed.settings.url = bed.settings.url.replace("http://", "http://x-token-auth@");
    let source = bed.source();
    assert_eq!(accepted(source.read().await).revision.0, id);
    assert!(source.place().starts_with("http://127.0.0.1:"), "hosts take tokens in its place: {}", source.place());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_printed_token_that_is_refused_is_asked_for_once_more_and_never_shown() {
    let (mut bed, server, id) = over_http();
    server.login("x-access-token", TOKEN);
    let (count, token) = (bed.path("count"), bed.path("token"));
    fs::write(&token, TOKEN).unwrap();
    let script = format!("echo x >> {}; cat {}; echo canary-complaint >&2", count.display(), token.display());
    bed.settings.access.token = Some(Token::Command(vec!["sh".into(), "-c".into(), script]));
    let asked = || fs::read_to_string(&count).unwrap_or_default().lines().count();
    let source = bed.source();
    assert_eq!(accepted(source.read().await).revision.0, id);
    assert_eq!(asked(), 1, "it serves several runs");
    // The token has run out: a new one is asked for, once.
    server.login("x-access-token", "canary-n3wer");
    fs::write(&token, "canary-n3wer").unwrap();
    let second = bed.publish("2");
    assert_eq!(accepted(source.read().await).revision.0, second);
    assert_eq!(asked(), 2);
    // The new one is refused too: that is the end of this look.
    server.login("x-access-token", "another");
    let why = unreadable(source.read().await);
    assert_eq!(asked(), 3);
    assert!(why.contains("Authentication failed") && !why.contains("canary"), "{why}");
    bed.assert_in_force_alone(&second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_program_that_fails_says_so_without_its_output() {
    let (mut bed, _server, _) = over_http();
    for (script, said) in [
        ("echo canary-0; exit 3", "failed (exit 3)"),
        ("echo canary a", "did not print one token"),
        ("true", "did not print one token"),
        ("kill -9 $$", "failed (exit -1)"),
    ] {
        bed.settings.access.token = Some(Token::Command(vec!["sh".into(), "-c".into(), script.into()]));
        let why = unreadable(bed.source().read().await);
        assert!(why.contains(said) && !why.contains("canary"), "{script}: {why}");
    }
    bed.settings.access.token = Some(Token::Command(vec![bed.path("none").display().to_string()]));
    assert!(unreadable(bed.source().read().await).contains("did not start"));
}

#[test]
fn the_credential_helper_of_the_hosts_own_configuration_is_asked() {
    let (bed, server, id) = over_http();
    server.login("ann", "canary-pa55");
    let helper = bed.path("helper");
    fs::write(&helper, "#!/bin/sh\n[ \"$1\" = get ] && printf 'username=ann\\npassword=canary-pa55\\n'\nexit 0\n")
        .unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let config = bed.path("gitconfig");
    fs::write(&config, format!("[credential]\n\thelper = {}\n", helper.display())).unwrap();
    let mut program = Program::new(&bed);
    program.env("GIT_CONFIG_GLOBAL", &config);
    program.start();
    program.until_in_force(&id);
    assert!(!program.log().contains("canary"));
    // It is asked for, and nobody else is.
    assert_eq!(server.shown().last().map(String::as_str), Some("ann:canary-pa55"));
}

#[test]
fn an_ssh_of_the_hosts_own_configuration_is_used_unless_a_key_is_given() {
    let configured = ["own-ssh", "ssh"];
    for (has_config, more, used) in [
        (false, "", "ssh -o BatchMode=yes"),
        (true, "", "own-ssh "),
        (true, "  deployKey: /none/key\n", "ssh -o BatchMode=yes -o ConnectTimeout=15 -i /none/key"),
    ] {
        let (bed, id) = Bed::published();
        let (bin, log) = (bed.path("bin"), bed.path("ssh.log"));
        fs::create_dir_all(&bin).unwrap();
        // No other host: the command runs here.
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = -G ] && exit 0\necho \"${{0##*/}} $* $SSH_ASKPASS_REQUIRE $SSH_ASKPASS\" >> {}\n\
             for last; do :; done\nexec sh -c \"$last\"\n",
            log.display()
        );
        for name in configured {
            fs::write(bin.join(name), &script).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let config = bed.path("gitconfig");
        let text = if has_config { "[core]\n\tsshCommand = own-ssh\n" } else { "" };
        fs::write(&config, text).unwrap();
        let mut program = Program::new(&bed);
        program.url(&format!("git@deploy.example:{}", bed.server().display()));
        more.clone_into(&mut program.more);
        program.env("GIT_CONFIG_GLOBAL", &config);
        program.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
        program.start();
        program.until_in_force(&id);
        let log = fs::read_to_string(log).unwrap();
        // Whichever it is, nobody is asked.
        let fits = |line: &str| line.starts_with(used) && line.ends_with(" force false");
        assert!(log.lines().all(fits), "{used}:\n{log}");
    }
}

#[test]
fn a_branch_may_have_an_at_sign() {
    let (bed, id) = Bed::published();
    bed.git(&["push", "--quiet", &bed.server().display().to_string(), "HEAD:refs/heads/env@prod"]);
    let mut program = Program::new(&bed);
    program.more = "  branch: env@prod\n".to_owned();
    program.start();
    program.until_in_force(&id);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_in_place_of_git_is_told_with_what_to_do() {
    let (bed, server, id) = over_http();
    let source = bed.source();
    assert_eq!(accepted(source.read().await).revision.0, id);
    let mut said = String::new();
    for (status, words) in [(401, ""), (403, "no"), (404, "none"), (429, "later"), (500, "oops"), (503, "away")] {
        server.mode(Mode::Status(status, words.to_owned()));
        said += &format!("{status}: {}\n", bed.plain(&unreadable(source.read().await)));
        bed.assert_in_force_alone(&id).await;
    }
    server.mode(Mode::Status(200, "<html>\na login page\n</html>\n".to_owned()));
    said += &format!("200: {}\n", bed.plain(&unreadable(source.read().await)));
    insta::assert_snapshot!(said);
    server.mode(Mode::Serve);
    assert_eq!(accepted(source.read().await).revision.0, id);
}

/// Where the trouble ends is seen by a source that is watched.
async fn cleared(source: &Arc<GitSource>) {
    let mut watching = Watching::new(source);
    watching.next().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_leads_to_no_other_protocol_and_takes_no_password_along() {
    let (mut bed, server, id) = over_http();
    server.login("x-access-token", TOKEN);
    let file = bed.path("token");
    fs::write(&file, TOKEN).unwrap();
    bed.settings.access.token = Some(Token::File(file));
    let source = bed.source();
    assert_eq!(accepted(source.read().await).revision.0, id);
    // Another host that asks for a password gets none.
    let evil = GitServer::new(&bed.path("srv"));
    evil.login("x-access-token", "whatever comes");
    server.mode(Mode::Redirect(evil.url("")));
    let why = unreadable(source.read().await);
    assert_eq!(evil.shown(), Vec::<String>::new(), "{why}");
    assert!(evil.counts().denied > 0, "it was led there: {why}");
    // Nor is a file of this host read.
    server.mode(Mode::Redirect(format!("file://{}", bed.path("srv").display())));
    let why = unreadable(source.read().await);
    assert!(!why.contains(TOKEN), "{why}");
    // Encryption is not given up either: HTTP only when it is allowed.
    bed.settings.access.allow = vec![Protocol::File];
    unreadable(bed.source().read().await);
    cleared(&source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_is_empty_and_one_that_appears_later() {
    let (mut bed, server, id) = over_http();
    bed.settings.url = server.url("later.git");
    let source = bed.source();
    let why = unreadable(source.read().await);
    assert!(why.contains("hint: is the address right?"), "{why}");
    let later = bed.path("srv/later.git").display().to_string();
    bed.run(&["init", "--quiet", "--bare", "--initial-branch=main", &later], b"");
    let why = rejected(source.read().await);
    assert!(why.contains("there is no branch `main`"), "{why}");
    bed.git(&["push", "--quiet", &later, "HEAD:refs/heads/main"]);
    assert_eq!(accepted(source.read().await).revision.0, id);
}
