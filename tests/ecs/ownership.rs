//! Ours or not at all.

use aws_sdk_ecs::types::Tag;

use crate::bed::Bed;

#[test]
fn another_controllers_service_is_left_alone() {
    let Some(mut bed) = Bed::new("another") else { return };
    let service = bed.world.service.clone();
    let definition = bed.register(&format!("{}:v1", bed.repository));
    bed.create(&service, &definition, 1, true);
    let arn = bed.service(&service).service_arn().unwrap().to_owned();
    let mark = Tag::builder().key("holdfast:controller").value("somebody").build();
    bed.wait(bed.ecs.tag_resource().resource_arn(&arn).tags(mark).send()).unwrap();
    bed.world.write_text(&bed.rolling("v2", "2", ""));
    bed.world.start();
    bed.world.until_held("OwnedByAnother");
    assert_eq!(bed.service(&service).desired_count(), 1);
    assert_eq!(bed.revisions(), 1);
}

#[test]
fn the_wrong_account_is_refused_before_any_write() {
    let Some(mut bed) = Bed::new("account") else { return };
    let service = bed.world.service.clone();
    let definition = bed.register(&format!("{}:v1", bed.repository));
    bed.create(&service, &definition, 1, true);
    let file = bed.rolling("v2", "2", "");
    bed.world.write_text(&format!("aws: {{account: \"111111111111\", region: ap-northeast-2}}\n{file}"));
    bed.world.start();
    bed.world.until_held("WrongAwsAccount");
    assert_eq!(bed.revisions(), 1);
    bed.world.write_text(&format!("aws: {{account: \"000000000000\", region: ap-northeast-2}}\n{file}"));
    bed.world.until_settled("v2");
    assert!(bed.actions().contains_key("sts:GetCallerIdentity") || bed.service(&service).desired_count() == 2);
}

#[test]
fn a_removal_needs_a_word_and_takes_only_what_carries_our_mark() {
    let Some(mut bed) = Bed::adopted("removal", true) else { return };
    let service = bed.world.service.clone();
    // A second service, adopted and never written to.
    let definition = bed.register(&format!("{}:v1", bed.repository));
    bed.create("untouched", &definition, 1, true);
    let other = bed
        .rolling("v1", "1", "")
        .replace(&service, "untouched")
        .replace("services:\n", "")
        .replace("      env: {SPRING_PROFILES_ACTIVE: dev}\n", "");
    let other = fix_names(&other, &bed);
    let both = format!("{}{other}", bed.rolling("v1", "2", ""));
    bed.world.write_text(&both);
    bed.world.until("the second one to be adopted", 60, |world, _| {
        world.status_of("untouched").is_some_and(|seen| seen["phase"] == "Settled")
    });
    bed.world.write_text("services: {}\nacknowledge: [remove untouched]\n");
    bed.world.until_held("RemovalNotAcknowledged");
    assert_eq!(bed.service(&service).desired_count(), 2, "nothing happens without a word");
    bed.world.until("the other one to be let go", 60, |world, _| world.status_of("untouched").is_none());
    assert_eq!(bed.service("untouched").running_count(), 1, "it never carried our mark");
    let output = bed.world.holdfast("remove", &[&service]);
    assert!(output.status.success());
    bed.world.until("the service to go", 60, |world, _| world.status_of(&service).is_none());
    assert_eq!(bed.service(&service).status(), Some("INACTIVE"));
}

/// `replace` took the unique name out of repository, cluster and family too: they are put back.
fn fix_names(text: &str, bed: &Bed) -> String {
    text.replace(&bed.repository.replace(&bed.world.service, "untouched"), &bed.repository)
        .replace(&bed.cluster.replace(&bed.world.service, "untouched"), &bed.cluster)
        .replace(&bed.family.replace(&bed.world.service, "untouched"), &bed.family)
}

#[test]
fn the_registry_keeps_what_is_needed() {
    let Some(mut bed) = Bed::with_images("clean", &["v1", "bad"]).and_then(|bed| bed.adopt(true)) else { return };
    let service = bed.world.service.clone();
    let images = |bed: &Bed| {
        let reply = bed.wait(bed.ecr.describe_images().repository_name(&service).send()).unwrap();
        let mut tags: Vec<String> = reply.image_details().iter().flat_map(|it| it.image_tags().to_vec()).collect();
        tags.sort();
        tags
    };
    for tag in ["v2", "v3"] {
        // Moments of a push are told in whole seconds.
        crate::support::pause(std::time::Duration::from_millis(1100));
        bed.push(tag, tag);
        bed.world.write_text(&bed.rolling(tag, "2", "    ecr: {keep: 1, soleOwner: true}\n"));
        bed.world.until_settled(tag);
    }
    bed.push("crash", "crash");
    // v3 serves and v2 is the way back; crash was pushed after v3 and may be what comes next.
    crate::support::until("the others to go", 30, || images(&bed) == ["crash", "v2", "v3"]);
    bed.world.holdfast("rollback", &[&service]);
    bed.world.until("v2 to serve", 60, |_, seen| seen["serving"]["tag"] == "v2");
    assert_eq!(images(&bed), ["crash", "v2", "v3"]);
}
