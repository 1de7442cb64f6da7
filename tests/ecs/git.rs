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
