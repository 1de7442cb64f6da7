//! Somebody changes things in the console.

use crate::bed::{Bed, hold};

#[test]
fn a_console_edit_is_put_back() {
    let Some(mut bed) = Bed::adopted("console", true) else { return };
    let service = bed.world.service.clone();
    let ours = bed.service(&service).task_definition().unwrap().to_owned();
    let edited = bed.register_with(&format!("{}:v2", bed.repository), |it| it.memory(96));
    let update = || bed.ecs.update_service().cluster(&bed.cluster).service(&service);
    bed.wait(update().task_definition(&edited).send()).unwrap();
    bed.world.until("the task definition to be put back", 60, |_, seen| {
        let log = seen["phase"] == "Settled";
        log && hold(seen, "AwaitingHealth").is_none()
    });
    crate::support::until("ours to run again", 60, || bed.service(&service).task_definition() == Some(ours.as_str()));
    bed.world.until_settled("v1");
    assert!(bed.world.log().contains("which nobody here asked for"), "{}", bed.world.log());
}

#[test]
fn a_count_and_a_configuration_changed_by_hand_are_put_back() {
    let Some(mut bed) = Bed::adopted("byhand", true) else { return };
    let service = bed.world.service.clone();
    let update = |bed: &Bed| bed.ecs.update_service().cluster(&bed.cluster).service(&service);
    bed.wait(update(&bed).desired_count(1).send()).unwrap();
    crate::support::until("two tasks again", 60, || bed.service(&service).desired_count() == 2);
    bed.world.until_settled("v1");
    let breaker = aws_sdk_ecs::types::DeploymentCircuitBreaker::builder().enable(false).rollback(false).build();
    let changed = aws_sdk_ecs::types::DeploymentConfiguration::builder()
        .deployment_circuit_breaker(breaker)
        .maximum_percent(150)
        .minimum_healthy_percent(50)
        .build();
    bed.wait(update(&bed).deployment_configuration(changed).send()).unwrap();
    crate::support::until("the configuration to be put back", 60, || {
        let seen = bed.service(&service);
        let configuration = seen.deployment_configuration().cloned().unwrap();
        let breaker = configuration
            .deployment_circuit_breaker()
            .is_some_and(aws_sdk_ecs::types::DeploymentCircuitBreaker::enable);
        configuration.maximum_percent() == Some(200) && breaker
    });
    // Nothing of this restarted a task.
    assert_eq!(bed.service(&service).deployments().len(), 1);
}

#[test]
fn detect_reports_and_ignore_is_silent() {
    let Some(mut bed) = Bed::adopted("detect", true) else { return };
    let service = bed.world.service.clone();
    bed.world.write_text(&bed.rolling("v1", "2", "    drift: {mode: detect}\n"));
    bed.world.until_settled("v1");
    let update = |count| bed.ecs.update_service().cluster(&bed.cluster).service(&service).desired_count(count);
    bed.wait(update(3).send()).unwrap();
    bed.world.until_held("DriftReported");
    assert_eq!(bed.service(&service).desired_count(), 3);
    bed.world.write_text(&bed.rolling("v1", "2", "    drift: {ignore: [replicas]}\n"));
    bed.world.until_settled("v1");
    assert_eq!(bed.service(&service).desired_count(), 3);
}

#[test]
fn the_count_of_an_autoscaler_is_never_written() {
    let Some(mut bed) = Bed::adopted("scaler", true) else { return };
    let service = bed.world.service.clone();
    bed.world.write_text(&bed.rolling("v1", "external", ""));
    bed.world.until_settled("v1");
    bed.wait(bed.ecs.update_service().cluster(&bed.cluster).service(&service).desired_count(3).send()).unwrap();
    bed.world.write_text(&bed.rolling("v2", "external", ""));
    bed.world.until_settled("v2");
    assert_eq!(bed.service(&service).desired_count(), 3);
}

#[test]
fn a_message_of_the_event_queue_is_noticed_at_once() {
    let Some(mut bed) = Bed::new("queue") else { return };
    let service = bed.world.service.clone();
    let reply = bed.wait(bed.sqs.create_queue().queue_name(&service).send()).unwrap();
    let queue = reply.queue_url().unwrap().to_owned();
    bed.world.settings.push(format!("aws: {{eventQueue: \"{queue}\"}}"));
    // No sweep comes to its help.
    bed.world.resync = "5m";
    let definition = bed.register(&format!("{}:v1", bed.repository));
    bed.create(&service, &definition, 2, true);
    bed.world.write_text(&bed.rolling("v1", "2", ""));
    bed.world.start();
    bed.world.until_settled("v1");
    bed.wait(bed.ecs.update_service().cluster(&bed.cluster).service(&service).desired_count(1).send()).unwrap();
    let arn = bed.service(&service).service_arn().unwrap().to_owned();
    let event = serde_json::json!({"source": "aws.ecs", "detail-type": "ECS Service Action", "resources": [arn],
        "detail": {"eventType": "INFO", "eventName": "SERVICE_DESIRED_COUNT_UPDATED", "clusterArn":
            format!("arn:aws:ecs:ap-northeast-2:000000000000:cluster/{}", bed.cluster)}});
    let sent = std::time::Instant::now();
    bed.wait(bed.sqs.send_message().queue_url(&queue).message_body(event.to_string()).send()).unwrap();
    crate::support::until("two tasks again", 20, || bed.service(&service).desired_count() == 2);
    println!("noticed and put back after {} ms", sent.elapsed().as_millis());
    bed.world.until("the queue to be empty", 20, |_, seen| seen["phase"] == "Settled");
}
