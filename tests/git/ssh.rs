//! A repository behind SSH: a deploy key, and what is said of the wrong one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use holdfast::ports::Source as _;

use crate::bed::{Bed, accepted, enabled, tags, unreadable};
use crate::program::Program;
use crate::sshd::{Sshd, keygen};

fn over_ssh() -> Option<(Bed, Sshd, String)> {
    if !enabled() {
        return None;
    }
    let (mut bed, id) = Bed::published();
    let sshd = Sshd::new(&bed);
    bed.settings.url = sshd.url(&bed);
    bed.settings.access.allow = Vec::new();
    bed.settings.access.deploy_key = Some(sshd.key.clone());
    bed.settings.access.known_hosts = Some(sshd.known_hosts.clone());
    Some((bed, sshd, id))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_key_opens_the_door() {
    let Some((bed, _sshd, id)) = over_ssh() else { return };
    let source = bed.source();
    assert_eq!(accepted(source.read().await).revision.0, id);
    bed.commit_tag("2");
    let third = bed.publish("3");
    let state = accepted(source.read().await);
    assert_eq!((state.revision.0.as_str(), tags(&state).as_str(), state.includes.len()), (third.as_str(), "api 3", 1));
    // History that is missing comes over SSH as well.
    fs::remove_dir_all(bed.mirror()).unwrap();
    let fourth = bed.publish("4");
    assert_eq!(accepted(bed.source().read().await).revision.0, fourth);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_the_door_shut_is_told_with_what_to_do() {
    let Some((mut bed, mut sshd, id)) = over_ssh() else { return };
    accepted(bed.source().read().await);
    let mut said = String::new();
    let user = sshd.user.clone();
    let mut tell = |name: &str, bed: &Bed, why: String| {
        let why = why.replace(&user, "USER");
        said += &format!("{name}: {}\n", bed.plain(&why));
    };
    let other = bed.path("other");
    keygen(&other);
    bed.settings.access.deploy_key = Some(other.clone());
    tell("another key", &bed, unreadable(bed.source().read().await));
    bed.settings.access.deploy_key = Some(bed.path("none"));
    tell("no key", &bed, unreadable(bed.source().read().await));
    bed.settings.access.deploy_key = Some(other.with_extension("pub"));
    tell("the public key", &bed, unreadable(bed.source().read().await));
    let open = bed.path("open");
    fs::copy(&sshd.key, &open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    bed.settings.access.deploy_key = Some(open);
    tell("mode 0644", &bed, unreadable(bed.source().read().await));
    bed.settings.access.deploy_key = Some(sshd.key.clone());
    let empty = bed.path("empty");
    fs::write(&empty, "").unwrap();
    bed.settings.access.known_hosts = Some(empty.clone());
    tell("an unknown host", &bed, unreadable(bed.source().read().await));
    let public = fs::read_to_string(other.with_extension("pub")).unwrap();
    fs::write(&empty, format!("[127.0.0.1]:{} {public}", sshd.port)).unwrap();
    tell("another host key", &bed, unreadable(bed.source().read().await));
    bed.settings.access.known_hosts = Some(sshd.known_hosts.clone());
    let url = sshd.url(&bed);
    bed.settings.url = format!("{url}x");
    tell("another path", &bed, unreadable(bed.source().read().await));
    bed.settings.url = url;
    bed.assert_in_force_alone(&id).await;
    assert_eq!(accepted(bed.source().read().await).revision.0, id);
    sshd.stop();
    tell("nobody listens", &bed, unreadable(bed.source().read().await));
    insta::assert_snapshot!(said);
}

#[test]
fn the_short_form_of_an_address_is_ssh_too() {
    let Some((bed, sshd, id)) = over_ssh() else { return };
    // `host:path` has no place for a port: the user's own configuration of ssh knows it. It is found by the account and
    // not by HOME, so the test names it.
    let (bin, config) = (bed.path("bin"), bed.path("ssh_config"));
    fs::create_dir_all(&bin).unwrap();
    fs::write(
        &config,
        format!(
            "Host deploy.example\n\tHostName 127.0.0.1\n\tPort {}\n\tHostKeyAlias [deploy.example]:22\n",
            sshd.port
        ),
    )
    .unwrap();
    let ssh = bin.join("ssh");
    fs::write(&ssh, format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", config.display())).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let mut program = Program::new(&bed);
    program.url(&format!("{}@deploy.example:{}", sshd.user, bed.server().display()));
    program.more = format!("  deployKey: {}\n  knownHosts: {}\n", sshd.key.display(), sshd.known_hosts.display());
    program.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    program.start();
    let status = program.until_in_force(&id);
    assert_eq!(status["source"]["error"], serde_json::Value::Null);
}
