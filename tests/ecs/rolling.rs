//! The deploy job of plog: adopted, rolled, rolled back, scaled.

use crate::bed::{Bed, hold};
use crate::support::engine::text;

#[test]
fn what_runs_already_is_adopted_without_a_call_that_changes() {
    let Some(mut bed) = Bed::new("adopt") else { return };
    let service = bed.world.service.clone();
    let definition = bed.register(&format!("{}:v1", bed.repository));
    bed.create(&service, &definition, 2, true);
    let tasks = bed.tasks(&service);
    let file = bed.rolling("v1", "2", "").replace("      env: {SPRING_PROFILES_ACTIVE: dev}\n", "");
    bed.world.write_text(&file);
    let plan = bed.world.holdfast("plan", &[]);
    assert!(text(&plan.stdout).contains("adopting"), "{}", text(&plan.stdout));
    bed.world.start();
    bed.world.until_settled("v1");
    assert_eq!(bed.tasks(&service), tasks, "no task was restarted");
    assert_eq!(bed.revisions(), 1, "nothing was registered");
    assert_eq!(bed.tags(&service).len(), 0, "tags go with the first write that is needed");
    let seen = bed.world.seen();
    assert_eq!(seen["platform"], "ecs");
    assert_eq!(bed.world.holdfast("plan", &[]).status.code(), Some(0), "a settled plan is empty");
    // And what `import` prints changes nothing either.
    bed.world.stop();
    let imported = bed.world.holdfast("import", &["ecs", &format!("{}/{service}", bed.cluster)]);
    bed.world.write_text(&text(&imported.stdout));
    assert_eq!(bed.world.holdfast("plan", &[]).status.code(), Some(0), "{}", text(&imported.stdout));
}

#[test]
fn a_tag_edit_is_one_revision_and_one_deployment() {
    let Some(mut bed) = Bed::adopted("edit", true) else { return };
    let service = bed.world.service.clone();
    let (revisions, before) = (bed.revisions(), bed.tasks(&service));
    bed.world.write_text(&bed.rolling("v2", "2", ""));
    bed.world.until_settled("v2");
    assert_eq!(bed.revisions(), revisions + 1);
    let seen = bed.service(&service);
    assert_eq!(seen.deployments().len(), 1, "{:?}", seen.deployments());
    assert!(bed.tasks(&service).iter().all(|task| !before.contains(task)), "every task was replaced");
    let definition = bed.definition(&service);
    let container = &definition.container_definitions()[0];
    assert!(container.image().unwrap().starts_with(&format!("{}@sha256:", bed.repository)), "{container:?}");
    assert_eq!(container.docker_labels().and_then(|it| it.get("kept")).map(String::as_str), Some("too"));
    let mut variables: Vec<_> =
        container.environment().iter().map(|it| (it.name().unwrap(), it.value().unwrap())).collect();
    variables.sort_unstable();
    assert_eq!(variables, [("KEPT", "yes"), ("SPRING_PROFILES_ACTIVE", "dev")]);
    let tags = bed.tags(&service);
    assert_eq!(tags.get("holdfast:controller"), Some(&bed.world.id));
    assert!(tags.contains_key("holdfast:release") && tags.contains_key("holdfast:base"), "{tags:?}");
    assert_eq!(bed.world.holdfast("plan", &[]).status.code(), Some(0));

    // `rollback` goes back to the revision that is there.
    let output = bed.world.holdfast("rollback", &[&service]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    bed.world.until("v1 to serve", 60, |_, seen| seen["serving"]["tag"] == "v1");
    bed.world.until_held("RolledBack");
    assert_eq!(bed.revisions(), revisions + 1);
    let history = bed.world.holdfast("history", &[&service]);
    assert!(text(&history.stdout).contains("v2"), "{}", text(&history.stdout));
}

#[test]
fn a_release_the_circuit_breaker_ends_is_quarantined_and_not_tried_again() {
    let Some(mut bed) = Bed::adopted("breaker", true) else { return };
    let service = bed.world.service.clone();
    let revisions = bed.revisions();
    bed.world.write_text(&bed.rolling("crash", "2", ""));
    bed.world.until_held("Quarantined");
    let why = hold(&bed.world.seen(), "Quarantined").unwrap();
    assert!(why.contains("circuit breaker") && why.contains("a task stopped"), "{why}");
    bed.world.until("v1 to serve again", 60, |_, seen| {
        seen["serving"]["tag"] == "v1" && hold(seen, "AwaitingHealth").is_none()
    });
    assert_eq!(bed.revisions(), revisions + 1);
    assert_eq!(bed.service(&service).running_count(), 2);
    let updates = bed.actions().get("ecs:UpdateService").copied().unwrap_or_default();
    // A fresh start looks at the world and the memory, and leaves the failed release alone.
    bed.world.kill9();
    bed.world.start();
    bed.world.until_held("Quarantined");
    assert_eq!(bed.actions().get("ecs:UpdateService").copied().unwrap_or_default(), updates);
    // So does one that has lost its memory: the tags know.
    bed.world.kill9();
    std::fs::remove_dir_all(bed.world.path("state")).unwrap();
    bed.world.start();
    bed.world.until_held("Quarantined");
    assert_eq!(bed.actions().get("ecs:UpdateService").copied().unwrap_or_default(), updates);
    bed.world.write_text(&bed.rolling("v2", "2", ""));
    bed.world.until_settled("v2");
}

#[test]
fn without_a_circuit_breaker_the_deadline_goes_back() {
    let Some(mut bed) = Bed::adopted("deadline", false) else { return };
    let service = bed.world.service.clone();
    bed.world.write_text(&bed.rolling("crash", "2", "    rollout: {progressDeadline: 6s}\n"));
    bed.world.until_held("Quarantined");
    let why = hold(&bed.world.seen(), "Quarantined").unwrap();
    assert!(why.contains("not ready within 6s"), "{why}");
    bed.world.until("v1 to serve again", 60, |_, seen| {
        seen["serving"]["tag"] == "v1" && hold(seen, "AwaitingHealth").is_none()
    });
    let image = bed.definition(&service).container_definitions()[0].image().unwrap().to_owned();
    let reply = bed.wait(bed.ecr.describe_images().repository_name(&service).send()).unwrap();
    let of_v1 = reply.image_details().iter().find(|it| it.image_tags().contains(&"v1".to_owned())).unwrap();
    assert!(image.ends_with(of_v1.image_digest().unwrap()) || image.ends_with(":v1"), "{image}");
}

#[test]
fn the_count_is_changed_in_place() {
    let Some(mut bed) = Bed::adopted("scale", true) else { return };
    let service = bed.world.service.clone();
    let (revisions, before) = (bed.revisions(), bed.tasks(&service));
    bed.world.write_text(&bed.rolling("v1", "3", ""));
    bed.world.until("three tasks", 60, |_, seen| seen["phase"] == "Settled" && seen["colours"]["only"]["healthy"] == 3);
    assert!(before.iter().all(|task| bed.tasks(&service).contains(task)), "scaling restarts nothing");
    assert_eq!(bed.revisions(), revisions);
    bed.world.write_text(&bed.rolling("v1", "0", ""));
    bed.world.until("no task", 60, |_, seen| seen["phase"] == "Settled" && seen["colours"]["only"]["desired"] == 0);
    assert_eq!(bed.tasks(&service), Vec::<String>::new());
    bed.world.write_text(&bed.rolling("v1", "1", ""));
    bed.world.until("one task", 60, |_, seen| seen["phase"] == "Settled" && seen["colours"]["only"]["healthy"] == 1);
}

#[test]
fn a_controller_killed_anywhere_leaves_one_deployment() {
    let Some(mut bed) = Bed::adopted("kill", true) else { return };
    let service = bed.world.service.clone();
    let revisions = bed.revisions();
    let moments = ["begin rollout of", "register family", "tag cluster", "update cluster"];
    for (round, moment) in moments.into_iter().enumerate() {
        let tag = if round % 2 == 0 { "v2" } else { "v3" };
        let seen_before = bed.world.log().matches(moment).count();
        bed.world.write_text(&bed.rolling(tag, "2", ""));
        crate::support::until(moment, 30, || bed.world.log().matches(moment).count() > seen_before || round > 1);
        bed.world.kill9();
        bed.world.start();
        bed.world.until_settled(tag);
        let seen = bed.service(&service);
        assert_eq!(seen.deployments().len(), 1, "{:?}", seen.deployments());
        assert_eq!(seen.running_count(), 2);
    }
    assert_eq!(bed.revisions(), revisions + 2, "v2 and v3, once each");
}

#[test]
fn a_tag_that_moves_is_noticed() {
    let Some(mut bed) = Bed::adopted("moves", true) else { return };
    let service = bed.world.service.clone();
    let before = bed.definition(&service).container_definitions()[0].image().unwrap().to_owned();
    bed.push("v3", "v1");
    bed.world.until("the moved tag", 60, |world, _| world.log().contains("tag v1 moved"));
    bed.world.until_settled("v1");
    let after = bed.definition(&service).container_definitions()[0].image().unwrap().to_owned();
    assert_ne!(before, after);
}

#[test]
fn an_absent_service_is_created_only_where_the_file_says_how() {
    let Some(mut bed) = Bed::new("create") else { return };
    let service = bed.world.service.clone();
    bed.world.write_text(&bed.rolling("v1", "1", ""));
    bed.world.start();
    bed.world.until_held("EcsServiceMissing");
    let definition = bed.register(&format!("{}:whatever", bed.repository));
    let described = bed.wait(bed.ecs.describe_task_definition().task_definition(&definition).send()).unwrap();
    let container = &described.task_definition().unwrap().container_definitions()[0];
    let json = serde_json::json!({"taskDefinition": {"family": bed.family, "networkMode": "bridge", "revision": 1,
        "containerDefinitions": [{"name": "app", "image": container.image(), "memory": 64, "essential": true,
            "portMappings": [{"containerPort": 8080, "hostPort": 0}]}]}});
    std::fs::write(bed.world.path("desired/app.taskdef.json"), json.to_string()).unwrap();
    let file = bed.rolling("v1", "1", "      taskDefinition: app.taskdef.json\n      create: {launchType: EC2}\n");
    bed.world.write_text(&file);
    bed.world.until_settled("v1");
    assert_eq!(bed.tags(&service).get("holdfast:controller"), Some(&bed.world.id));
    assert_eq!(bed.service(&service).running_count(), 1);
    // Another base is another release.
    let changed = json.to_string().replace("\"memory\":64", "\"memory\":96");
    std::fs::write(bed.world.path("desired/app.taskdef.json"), changed).unwrap();
    bed.world.until("the new base", 60, |_, _| true);
    crate::support::until("the new base to serve", 60, || {
        bed.definition(&service).container_definitions()[0].memory() == Some(96)
    });
}

#[test]
fn no_deployment_begins_while_one_of_its_alarms_is_active() {
    use aws_sdk_cloudwatch::types::{ComparisonOperator, StateValue, Statistic};
    let Some(mut bed) = Bed::adopted("alarm", true) else { return };
    let service = bed.world.service.clone();
    let put = bed.cloudwatch.put_metric_alarm().alarm_name(&service).metric_name("Errors").namespace("App").period(60);
    let put = put.statistic(Statistic::Sum).evaluation_periods(1).threshold(1.0);
    bed.wait(put.comparison_operator(ComparisonOperator::GreaterThanThreshold).send()).unwrap();
    let say = |state: StateValue| {
        let call = bed.cloudwatch.set_alarm_state().alarm_name(&service).state_value(state).state_reason("a test");
        bed.wait(call.send()).unwrap();
    };
    say(StateValue::Alarm);
    let alarms = aws_sdk_ecs::types::DeploymentAlarms::builder().alarm_names(&service).enable(true).rollback(true);
    let seen = bed.service(&service).deployment_configuration().cloned().unwrap();
    let watched = aws_sdk_ecs::types::DeploymentConfiguration::builder()
        .set_deployment_circuit_breaker(seen.deployment_circuit_breaker().cloned())
        .maximum_percent(200)
        .minimum_healthy_percent(100)
        .alarms(alarms.build().unwrap())
        .build();
    let more = "    drift: {ignore: [deploymentConfiguration]}\n";
    bed.world.write_text(&bed.rolling("v1", "2", more));
    bed.world.until_settled("v1");
    let call = bed.ecs.update_service().cluster(&bed.cluster).service(&service).deployment_configuration(watched);
    bed.wait(call.send()).unwrap();
    crate::support::until("the alarms to be asked for", 20, || bed.actions().contains_key("cloudwatch:DescribeAlarms"));
    bed.world.write_text(&bed.rolling("v2", "2", more));
    bed.world.until_held("AlarmActive");
    assert_eq!(bed.world.seen()["serving"]["tag"], "v1");
    let call = bed.cloudwatch.set_alarm_state().alarm_name(&service).state_value(StateValue::Ok).state_reason("over");
    bed.wait(call.send()).unwrap();
    bed.world.until_settled("v2");
}
