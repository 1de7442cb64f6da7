//! Blue and green: two services, one rule.

use crate::bed::{Balancer, Bed, hold};
use crate::support::engine::text;
use crate::support::load::Load;

/// `v1` on blue behind a load balancer, adopted.
fn blue(name: &str) -> Option<(Bed, Balancer)> {
    let bed = Bed::new(name)?;
    let balancer = bed.balancer();
    blue_behind(bed, balancer)
}

fn blue_behind(mut bed: Bed, balancer: Balancer) -> Option<(Bed, Balancer)> {
    let definition = bed.register(&format!("{}:v1", bed.repository));
    let service = bed.world.service.clone();
    bed.create_in(&service, &definition, 2, true, Some(&balancer.blue));
    bed.world.write_text(&bed.blue_green(&balancer, "v1", "      bake: 2s\n"));
    bed.world.start();
    bed.world.until_settled("v1");
    Some((bed, balancer))
}

fn load(bed: &Bed, balancer: &Balancer) -> Load {
    Load::start_at(bed.port, 2, &format!("/_alb/{}/", balancer.name))
}

#[test]
fn a_switch_loses_no_request_and_rollback_is_one_call() {
    let Some((mut bed, balancer)) = blue("switch") else { return };
    let service = bed.world.service.clone();
    let green = format!("{service}-green");
    let tasks = bed.tasks(&service);
    assert_eq!(bed.world.seen()["activeColour"], "blue");
    let requests = load(&bed, &balancer);
    bed.world.write_text(&bed.blue_green(&balancer, "v2", "      bake: 1m\n"));
    bed.world.until("green to serve", 90, |_, seen| seen["serving"]["tag"] == "v2" && seen["activeColour"] == "green");
    assert_eq!(bed.weights(&balancer), (0, 100));
    bed.world.until_held("Baking");
    assert_eq!(bed.tasks(&service), tasks, "the old colour stays warm, unrestarted");
    // The copy took everything over but its target group.
    let (copy, original) = (bed.service(&green), bed.service(&service));
    assert_eq!(copy.load_balancers()[0].target_group_arn(), Some(balancer.green.as_str()));
    assert_eq!(copy.deployment_configuration(), original.deployment_configuration());
    assert_eq!(bed.tags(&green).get("holdfast:colour").map(String::as_str), Some("green"));
    let output = bed.world.holdfast("rollback", &[&service]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    bed.world
        .until("blue to serve again", 60, |_, seen| seen["activeColour"] == "blue" && seen["serving"]["tag"] == "v1");
    assert_eq!(bed.weights(&balancer), (100, 0));
    assert_eq!(bed.tasks(&service), tasks, "going back is one call, no task is started");
    let counts = requests.stop();
    counts.assert_none_failed();
    assert!(counts.versions.contains_key("v1") && counts.versions.contains_key("v2"), "{:?}", counts.versions);
    // Every other action and the stickiness were kept.
    let reply = bed.wait(bed.elb.describe_rules().rule_arns(&balancer.rule).send()).unwrap();
    let sticky = reply.rules()[0].actions()[0].forward_config().unwrap().target_group_stickiness_config().cloned();
    assert_eq!(sticky.and_then(|it| it.duration_seconds()), Some(77));
}

#[test]
fn after_the_bake_the_old_colour_is_scaled_to_nothing() {
    // By the default rule, which wants other calls.
    let Some(bed) = Bed::new("bake") else { return };
    let mut balancer = bed.balancer();
    balancer.rule.clone_from(&balancer.listener);
    let Some((mut bed, balancer)) = blue_behind(bed, balancer) else { return };
    let service = bed.world.service.clone();
    bed.world.write_text(&bed.blue_green(&balancer, "v2", "      bake: 2s\n"));
    bed.world.until_settled("v2");
    let blue = bed.service(&service);
    assert_eq!((blue.desired_count(), blue.status()), (0, Some("ACTIVE")), "kept, without tasks");
    // The next one comes up there again.
    bed.world.write_text(&bed.blue_green(&balancer, "v3", "      bake: 2s\n"));
    bed.world.until_settled("v3");
    assert_eq!(bed.world.seen()["activeColour"], "blue");
    assert_eq!(bed.weights(&balancer), (100, 0));
    assert_eq!(bed.service(&format!("{service}-green")).desired_count(), 0);
}

#[test]
fn weights_changed_by_hand_are_put_back() {
    use aws_sdk_elasticloadbalancingv2::types as elb;
    let Some((bed, balancer)) = blue("weights") else { return };
    let tuple = |arn: &str, weight| elb::TargetGroupTuple::builder().target_group_arn(arn).weight(weight).build();
    let forward = elb::ForwardActionConfig::builder()
        .target_groups(tuple(&balancer.blue, 50))
        .target_groups(tuple(&balancer.green, 50))
        .build();
    let action = elb::Action::builder().r#type(elb::ActionTypeEnum::Forward).forward_config(forward).build();
    bed.wait(bed.elb.modify_rule().rule_arn(&balancer.rule).actions(action).send()).unwrap();
    crate::support::until("the weights to be put back", 60, || bed.weights(&balancer) == (100, 0));
    assert!(bed.world.log().contains("the listener rule was edited"), "{}", bed.world.log());
}

#[test]
fn a_canary_gets_its_share_first_and_waits_for_a_person() {
    let Some((mut bed, balancer)) = blue("canary") else { return };
    let service = bed.world.service.clone();
    let more = "      bake: 1s\n      canary: [{weight: 10, for: 2s}, {weight: 50, for: manual}]\n";
    let requests = load(&bed, &balancer);
    bed.world.write_text(&bed.blue_green(&balancer, "v2", more));
    bed.world.until_held("Canary");
    assert_eq!(bed.weights(&balancer), (90, 10));
    bed.world.until_held("AwaitingPromotion");
    assert_eq!(bed.weights(&balancer), (50, 50));
    let output = bed.world.holdfast("promote", &[&service]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    bed.world.until_settled("v2");
    assert_eq!(bed.weights(&balancer), (0, 100));
    requests.stop().assert_none_failed();
}

#[test]
fn a_colour_that_fails_never_gets_a_request() {
    let Some((mut bed, balancer)) = blue("badgreen") else { return };
    let requests = load(&bed, &balancer);
    bed.world.write_text(&bed.blue_green(&balancer, "crash", "      bake: 1s\n      progressDeadline: 8s\n"));
    bed.world.until_held("Quarantined");
    let counts = requests.stop();
    counts.assert_none_failed();
    assert_eq!(counts.versions.len(), 1, "{:?}", counts.versions);
    assert_eq!(bed.weights(&balancer).1, 0);
    bed.world.until("green to be scaled to nothing", 60, |_, seen| seen["colours"]["green"]["desired"] == 0);
    assert!(hold(&bed.world.seen(), "Quarantined").is_some());
}

#[test]
fn a_rolling_service_becomes_a_colour_without_a_restart() {
    let Some(mut bed) = Bed::new("regroup") else { return };
    let balancer = bed.balancer();
    let definition = bed.register(&format!("{}:v1", bed.repository));
    let service = bed.world.service.clone();
    bed.create_in(&service, &definition, 2, true, Some(&balancer.blue));
    bed.world.write_text(&bed.rolling("v1", "2", "").replace("      env: {SPRING_PROFILES_ACTIVE: dev}\n", ""));
    bed.world.start();
    bed.world.until_settled("v1");
    let tasks = bed.tasks(&service);
    bed.world.write_text(&bed.blue_green(&balancer, "v1", "      bake: 1s\n"));
    bed.world.until("blue to serve", 60, |_, seen| seen["activeColour"] == "blue" && seen["phase"] == "Settled");
    assert_eq!(bed.tasks(&service), tasks, "no task was restarted");
    assert_eq!(bed.weights(&balancer).1, 0);
    assert_eq!(bed.revisions(), 1);
    bed.world.write_text(&bed.blue_green(&balancer, "v2", "      bake: 1s\n"));
    bed.world.until_settled("v2");
    assert_eq!(bed.world.seen()["activeColour"], "green");
}
