//! A commit rolls a service on ECS, one revision and one deployment a commit.

use crate::bed::Bed;

#[test]
fn a_commit_rolls_the_service_and_one_for_another_account_is_held() {
    let Some(mut bed) = Bed::new("git") else { return };
    let repository = bed.world.follows_git("");
    let service = bed.world.service.clone();
    let definition = bed.register(&format!("{}:v1", bed.repository));
    bed.create(&service, &definition, 2, true);
    let guard = |account: &str| format!("aws: {{account: \"{account}\", region: ap-northeast-2}}\n");
    repository.push(&format!("{}{}", guard("000000000000"), bed.rolling("v1", "2", "")), "adopt");
    bed.world.start();
    bed.world.until_settled("v1");
    let revisions = bed.revisions();
    let commit = repository.push(&format!("{}{}", guard("000000000000"), bed.rolling("v2", "2", "")), "tag v1 -> v2");
    bed.world.says("wait", &[&service, "--source-revision", &commit, "--timeout", "90s"]);
    assert_eq!(bed.revisions(), revisions + 1);
    let seen = bed.service(&service);
    assert_eq!((seen.deployments().len(), seen.running_count()), (1, 2), "{:?}", seen.deployments());
    let image = bed.definition(&service).container_definitions()[0].image().unwrap_or_default().to_owned();
    assert!(image.starts_with(&format!("{}@sha256:", bed.repository)), "{image}");

    // The same change on a branch for another account reaches nothing.
    repository.push(&format!("{}{}", guard("111111111111"), bed.rolling("v3", "2", "")), "for another account");
    bed.world.until_held("WrongAwsAccount");
    assert_eq!(bed.revisions(), revisions + 1);

    // And back is a commit like any other.
    let back = repository.push(&format!("{}{}", guard("000000000000"), bed.rolling("v1", "2", "")), "back to v1");
    bed.world.says("wait", &[&service, "--source-revision", &back, "--timeout", "90s"]);
    assert_eq!(bed.world.seen()["serving"]["tag"], "v1");
}

#[test]
fn a_new_image_is_followed_into_git_and_one_that_crashes_is_led_back() {
    let Some(mut bed) = Bed::new("follow") else { return };
    let repository = bed.world.follows_git("  write: {name: Robot, email: robot@acme.example}\n");
    let service = bed.world.service.clone();
    bed.push("v1", "1.0.0");
    let definition = bed.register(&format!("{}:1.0.0", bed.repository));
    bed.create(&service, &definition, 1, true);
    let more = "    follow: {semver: \">=1 <2\"}   # new images\n    rollout: {onFailure: revert}\n";
    let written = format!("# who changes this: ask Ann\n{}", bed.rolling("1.0.0", "1", more));
    repository.push(&written, "follow the images");
    bed.world.start();
    bed.world.until_settled("1.0.0");

    bed.push("v2", "1.1.0");
    bed.push("v3", "2.0.0");
    bed.world.says("reconcile", &[&service]);
    bed.world.until_settled("1.1.0");
    repository.git(&["fetch", "--quiet"]);
    let told = repository.git(&["log", "-1", "--format=%an|%s|%b", "origin/main"]);
    assert!(told.starts_with(&format!("Robot|{service}: tag 1.0.0 -> 1.1.0|")), "{told}");
    assert!(told.contains("1.1.0 is the newest tag that fits"), "{told}");
    let file = repository.git(&["show", "origin/main:prod/services.yaml"]);
    assert_eq!(format!("{file}\n"), written.replace("tag: 1.0.0", "tag: 1.1.0"), "comments and layout stay");

    bed.push("crash", "1.2.0");
    bed.world.says("reconcile", &[&service]);
    bed.world.until("1.2.0 to be tried and led back", 120, |_, _| {
        repository.git(&["fetch", "--quiet"]);
        repository.git(&["log", "-1", "--format=%s", "origin/main"]) == format!("{service}: tag 1.2.0 -> 1.1.0")
    });
    bed.world.until("1.1.0 to serve", 60, |_, seen| seen["serving"]["tag"] == "1.1.0");
    // It is not followed again: three commits by people and the controller, and the way back.
    bed.world.says("reconcile", &[&service]);
    bed.world.until_held("TagSkipped");
    repository.git(&["fetch", "--quiet"]);
    assert_eq!(repository.git(&["rev-list", "--count", "origin/main"]), "4");
}
