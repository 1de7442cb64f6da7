#!/usr/bin/env bash
# `make demo-ecs`: a tour of Holdfast on Amazon ECS, played by an emulator on this machine: real containers, real rolling
# deployments, a real circuit breaker and a load balancer that forwards real requests. On a port and in a folder of its own.
# `--sandbox` shows it on the in-memory platform; `--clean` removes what an interrupted tour left.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
export PATH="$PATH:/usr/sbin:/sbin"
export LC_ALL=C.UTF-8

home=${HOLDFAST_DEMO_HOME:-/tmp/holdfast-demo-ecs}
controller_id=$(basename "$home")
service=plog-api
cluster=plog-cluster family=plog-back-task-family repository=plog-back container=plog-back
region=ap-northeast-2
file="$home/desired-state/plog-api.yaml"
python=${HOLDFAST_DEMO_PYTHON:-$root/target/test-venv/bin/python3}
# shellcheck source=scripts/demo-lib.sh
. scripts/demo-lib.sh

clean_platform() {
    local port ids images
    stop_pid_file "$home/emulator.pid" TERM
    [ -s "$home/emulator.port" ] && command -v docker >/dev/null 2>&1 || return 0
    port=$(cat "$home/emulator.port")
    ids=$(docker ps -aq --filter "label=ministack.instance=$controller_id:$port" 2>/dev/null || true)
    # shellcheck disable=SC2086
    [ -z "$ids" ] || docker rm -f -v $ids >/dev/null 2>&1 || true
    images=$(docker images --format '{{.Repository}} {{.Tag}} {{.ID}}' 2>/dev/null | awk -v of="localhost:$port/$repository" \
        '$1 == of { print $2 == "<none>" ? $3 : $1 ":" $2 }' | sort -u)
    # shellcheck disable=SC2086
    [ -z "$images" ] || docker rmi -f $images >/dev/null 2>&1 || true
}

if [ "${1:-}" = --clean ]; then
    clean
    echo "demo-ecs: nothing is left"
    exit 0
fi
sandbox=false
[ "${1:-}" != --sandbox ] || sandbox=true

# Lines of the controller, broken at 80 columns.
tell() {
    local line head
    while IFS= read -r line; do
        while [ ${#line} -gt 75 ]; do
            head=${line:0:75}
            # At a space, unless one word fills the line.
            [[ ${head:20} != *' '* ]] || head=${head% *}
            printf '   %s| %s%s\n' "$dim" "$head" "$plain"
            line=${line:${#head}}
            line="           ${line# }"
        done
        printf '   %s| %s%s\n' "$dim" "$line" "$plain"
    done
}

# ---- what is needed -------------------------------------------------------------------------------------------------

find_binary
if ! $sandbox && ! provision demo-ecs; then
    sandbox=true
    printf '\n%sNOTICE: Docker or the AWS emulator cannot run here, so this is the in-memory\nsandbox: the same controller, a pretended ECS.%s\n' "$bold" "$plain"
fi
begin
mkdir -p "$home/desired-state" "$home/state"
api=$(free_port 17410)
emulator=$(free_port 14566)

cat >"$config" <<YAML
controller: $controller_id
source: $home/desired-state
stateDir: $home/state
listen: 127.0.0.1:$api
resync: 3s
registries: [{host: "localhost:$emulator", kind: ecr, region: $region}]
YAML

if $sandbox; then
    cat >"$file" <<YAML
services:
  $service:
    image: 123456789012.dkr.ecr.$region.amazonaws.com/$repository
    tag: v1
    replicas: 2
    ecs:
      cluster: $cluster
      service: $service
      family: $family
      container: $container
      env: {SPRING_PROFILES_ACTIVE: dev}
      taskDefinition: plog-api.taskdef.json
      create: {launchType: FARGATE, subnets: [subnet-1], securityGroups: [sg-1]}
    rollout: {strategy: rolling}
YAML
    cat >"$home/desired-state/plog-api.taskdef.json" <<JSON
{"family": "$family", "networkMode": "awsvpc", "cpu": "256", "memory": "512", "requiresCompatibilities": ["FARGATE"],
 "containerDefinitions": [{"name": "$container", "image": "$repository", "portMappings": [{"containerPort": 8080}]}]}
JSON
    chapter "1. First deploy (sandbox)"
    run_controller --sandbox --state-dir "$home/state"
    until_true 60 "v1 to settle" serves v1
    good "v1 serves: the service was created from the file"
    chapter "2. Somebody edits the tag"
    edit tag=v2
    until_true 60 "v2 to settle" serves v2
    good "v2 serves"
    chapter "3. A version whose tasks never become healthy"
    edit tag=bad
    until_true 60 "the rollback" says 'Quarantined'
    until_true 60 "v2 to serve" says '"serving":\{"tag":"v2"'
    good "the bad release was given up, v2 still serves"
    chapter "Status"
    holdfast status || true
    note "with Docker on this machine, \`make demo-ecs\` shows it on real containers"
    exit 0
fi

# ---- the account ----------------------------------------------------------------------------------------------------

export AWS_ENDPOINT_URL="http://127.0.0.1:$emulator" AWS_REGION=$region AWS_ACCESS_KEY_ID=demo AWS_SECRET_ACCESS_KEY=demo
unset AWS_PROFILE AWS_SESSION_TOKEN
began=$SECONDS
# The address of an ALB at the emulator; on AWS it would be plog.ap-northeast-2.elb.amazonaws.com.
url="$AWS_ENDPOINT_URL/_alb/plog/"

aws() { "$python" scripts/aws.py "$@"; }
of_service() { aws ecs describe_services "{\"cluster\": \"$cluster\", \"services\": [\"$service\"]}" "services[0].$1"; }
tasks() { aws ecs list_tasks "{\"cluster\": \"$cluster\", \"serviceName\": \"${1:-$service}\"}" taskArns | sort; }
revisions() { aws ecs list_task_definitions "{\"familyPrefix\": \"$family\"}" 'length(taskDefinitionArns)'; }
definition() { aws ecs describe_task_definition "{\"taskDefinition\": \"$(of_service taskDefinition)\"}" "taskDefinition.$1"; }
weights() { aws elbv2 describe_rules "{\"RuleArns\": [\"$rule\"]}" 'Rules[0].Actions[0].ForwardConfig.TargetGroups[].Weight' | paste -sd ' '; }
# One line for each of $1 that is not in $2.
missing_from() { comm -23 <(echo "$1") <(echo "$2"); }
verify() { # WHAT COMMAND...: what must be true now
    local what=$1
    shift
    if "$@"; then good "$what"; else bad "not so: $what"; return 1; fi
}
same() { [ "$1" = "$2" ] || { bad "expected: $1"; bad "found:    $2"; return 1; }; }
healthy_are() { says "\"healthy\":$1[,}]" && settled; }

start_emulator() {
    mkdir -p "$home/emulator"
    echo "$emulator" >"$home/emulator.port"
    GATEWAY_PORT=$emulator BIND_HOST=127.0.0.1 MINISTACK_REGION=$region MINISTACK_HOSTNAME=$controller_id \
        S3_DATA_DIR="$home/emulator/s3" TMPDIR="$home/emulator" \
        "$python" scripts/emulator.py >"$home/emulator.log" 2>&1 &
    echo $! >"$home/emulator.pid"
    pids+=($!)
    answers() { curl -s -o /dev/null "$AWS_ENDPOINT_URL/_ministack/health"; }
    until_true 30 "the emulator to answer" answers
}

push_images() {
    local tags=(v1 v2 v3 crash) tag
    aws ecr create_repository "{\"repositoryName\": \"$repository\"}" >/dev/null
    scripts/build-app.sh --repository "localhost:$emulator/$repository" "${tags[@]}" >/dev/null
    for tag in "${tags[@]}"; do docker push -q "localhost:$emulator/$repository:$tag" >/dev/null; done
}

# A load balancer with one rule. Both target groups are there; the author sends everything to the first.
make_balancer() {
    local balancer listener
    balancer=$(aws elbv2 create_load_balancer '{"Name": "plog", "Subnets": ["subnet-1"]}' 'LoadBalancers[0].LoadBalancerArn')
    target_group() {
        aws elbv2 create_target_group "{\"Name\": \"$1\", \"Protocol\": \"HTTP\", \"Port\": 8080, \"VpcId\": \"vpc-1\",
            \"TargetType\": \"ip\", \"HealthCheckPath\": \"/healthz\"}" 'TargetGroups[0].TargetGroupArn'
    }
    to_blue=$(target_group plog-blue)
    to_green=$(target_group plog-green)
    local forward="[{\"Type\": \"forward\", \"ForwardConfig\": {\"TargetGroups\": [
        {\"TargetGroupArn\": \"$to_blue\", \"Weight\": 100}, {\"TargetGroupArn\": \"$to_green\", \"Weight\": 0}]}}]"
    listener=$(aws elbv2 create_listener "{\"LoadBalancerArn\": \"$balancer\", \"Protocol\": \"HTTP\", \"Port\": 80,
        \"DefaultActions\": [{\"Type\": \"fixed-response\", \"FixedResponseConfig\": {\"StatusCode\": \"404\"}}]}" 'Listeners[0].ListenerArn')
    rule=$(aws elbv2 create_rule "{\"ListenerArn\": \"$listener\", \"Priority\": 10, \"Actions\": $forward,
        \"Conditions\": [{\"Field\": \"path-pattern\", \"Values\": [\"/*\"]}]}" 'Rules[0].RuleArn')
}

# As the author of the deploy job had it: by hand, the image by its tag.
make_service() {
    aws ecs create_cluster "{\"clusterName\": \"$cluster\"}" >/dev/null
    first=$(aws ecs register_task_definition "{\"family\": \"$family\", \"networkMode\": \"bridge\", \"containerDefinitions\": [{
        \"name\": \"$container\", \"image\": \"localhost:$emulator/$repository:v1\", \"essential\": true, \"memory\": 64,
        \"portMappings\": [{\"containerPort\": 8080, \"hostPort\": 0}], \"dockerLabels\": {\"team\": \"plog\"},
        \"environment\": [{\"name\": \"SPRING_PROFILES_ACTIVE\", \"value\": \"dev\"}]}]}" taskDefinition.taskDefinitionArn)
    aws ecs create_service "{\"cluster\": \"$cluster\", \"serviceName\": \"$service\", \"taskDefinition\": \"$first\",
        \"desiredCount\": 2, \"loadBalancers\": [{\"targetGroupArn\": \"$to_blue\", \"containerName\": \"$container\", \"containerPort\": 8080}],
        \"deploymentConfiguration\": {\"maximumPercent\": 200, \"minimumHealthyPercent\": 100,
        \"deploymentCircuitBreaker\": {\"enable\": true, \"rollback\": true}}}" >/dev/null
    runs() { [ "$(of_service '[deployments[0].rolloutState, to_string(runningCount)]' | paste -sd ' ')" = "COMPLETED 2" ]; }
    until_true 60 "the service to run" runs
    until_true 20 "the load balancer to answer" answer_is v1
}

# ---- the tour -------------------------------------------------------------------------------------------------------

load_tool="$root/target/bench/load"
build_load_tool() {
    [ ! -x "$load_tool" ] || [ benches/tools/load.rs -nt "$load_tool" ] || return 0
    mkdir -p "$(dirname "$load_tool")"
    rustc --edition 2024 -O -o "$load_tool" benches/tools/load.rs
}

note "preparing an account of its own: emulator, images, load balancer, service"
start_emulator
push_images
build_load_tool
make_balancer
make_service

chapter "1. What runs already: $cluster/$service, made by hand"
note "two tasks of plog-back:v1, SPRING_PROFILES_ACTIVE=dev, circuit breaker on"
before=$(tasks)
show_answer
command_line "holdfast import ecs $cluster/$service > plog-api.yaml"
holdfast import ecs "$cluster/$service" >"$file.new"
mv "$file.new" "$file"
sed 's/^/   /' "$file" | cut -c1-80
note "Holdfast starts, and takes it over as it is"
run_controller
until_true 60 "v1 to be adopted" serves v1
verify "the same two tasks run: none was restarted" same "$before" "$(tasks)"
verify "nothing was registered" same 1 "$(revisions)"

chapter "2. A new version: one line of the file changes"
revision_before=$(revision)
edit tag=v2
until_true 20 "the edit to be read" another_revision "$revision_before"
revision=$(revision)
command_line "holdfast wait $service --source-revision ${revision:0:12} --timeout 60s"
holdfast wait "$service" --source-revision "$revision" --timeout 60s >/dev/null
until_true 60 "v2 to settle" serves v2
until_true 20 "the load balancer to answer v2" answer_is v2
show_answer
after=$(tasks)
verify "every task was replaced" same "$after" "$(missing_from "$after" "$before")"
verify "by one deployment of one new revision" same "1 2" "$(of_service 'length(deployments)') $(revisions)"
pinned() { [[ $(definition 'containerDefinitions[0].image') == *"/$repository@sha256:"* ]]; }
verify "its image is pinned by digest" pinned
verify "what the file does not name was kept" same "plog" "$(definition 'containerDefinitions[0].dockerLabels.team')"
second=$(of_service taskDefinition)
before=$after

chapter "3. A bad version: its tasks end half a second after they start"
edit tag=crash
until_true 90 "the circuit breaker and the quarantine" says 'Quarantined'
until_true 60 "v2 to serve alone" says '"serving":\{"tag":"v2"'
on_second() { [ "$(of_service "[taskDefinition, to_string(runningCount), to_string(length(deployments[?rolloutState == 'COMPLETED']))]" | paste -sd ' ')" = "$second 2 1" ]; }
until_true 60 "ECS to be back on v2" on_second
holdfast status | sed 's/^/   /' || true
show_answer
verify "the tasks of v2 never stopped" same "$before" "$(tasks)"
edit tag=v2
until_true 60 "the file to ask for v2 again" serves v2
good "the file says v2 again: settled, without a deployment"

chapter "4. Three tasks instead of two"
edit replicas=3
until_true 60 "three tasks" healthy_are 3
after=$(tasks)
verify "one task more, none restarted" same "1" "$(missing_from "$after" "$before" | wc -l | tr -d ' ')"
verify "nothing was left out" same "" "$(missing_from "$before" "$after")"

chapter "5. Somebody edits the service in the console"
note "the desired count:"
command_line "aws ecs update-service --service $service --desired-count 1"
aws ecs update_service "{\"cluster\": \"$cluster\", \"service\": \"$service\", \"desiredCount\": 1}" >/dev/null
count_is_back() { [ "$(of_service '[desiredCount, runningCount]' | paste -sd ' ')" = "3 3" ]; }
until_true 60 "the count to be put back" count_is_back
until_true 60 "it to settle" settled
good "put back to 3"
note "the task definition, to the one of v1:"
command_line "aws ecs update-service --service $service --task-definition ${first##*/}"
aws ecs update_service "{\"cluster\": \"$cluster\", \"service\": \"$service\", \"taskDefinition\": \"$first\"}" >/dev/null
is_back() { [ "$(of_service '[taskDefinition, to_string(runningCount)]' | paste -sd ' ')" = "$second 3" ]; }
until_true 90 "the task definition to be put back" is_back
until_true 60 "v2 to settle" serves v2
until_true 20 "the load balancer to answer v2" answer_is v2
good "put back to ${second##*/}, with a reason in the log; nothing was registered"

chapter "6. Blue/green behind the load balancer, under load"
before=$(tasks)
cat >"$home/edit.new" <<YAML
aws: {account: "000000000000", region: $region}
services:
  $service:
    image: localhost:$emulator/$repository
    tag: v2
    replicas: 3
    ecs:
      cluster: $cluster
      services: {blue: $service, green: $service-green}
      family: $family
    traffic:
      alb:
        rule: "$rule"
        targetGroups:
          blue: "$to_blue"
          green: "$to_green"
    rollout: {strategy: blueGreen, drain: 1s, bake: 1m}
YAML
note "the file now says: two services and the weights of one rule"
diff <(grep -v '^#' "$file") "$home/edit.new" | sed -nE 's/^([<>])/\1/p' | tr '<>' -+ | sed 's/^/   /' | cut -c1-80 || true
mv "$home/edit.new" "$file"
until_true 60 "$service to be adopted as blue" says '"activeColour":"blue"'
until_true 60 "it to settle" serves v2
verify "$service serves as blue: the same tasks" same "$before" "$(tasks)"
note "from here on, four clients ask the load balancer without a pause"
mkfifo "$home/load.until"
"$load_tool" "127.0.0.1:$emulator" 4 keepalive 0 /_alb/plog/ <"$home/load.until" >"$home/load.json" &
load_pid=$!
exec {load_until}>"$home/load.until"
edit tag=v3
until_true 90 "green to serve v3" says '"activeColour":"green"'
until_true 30 "v3 to serve" says '"serving":\{"tag":"v3"'
until_true 20 "the load balancer to answer v3" answer_is v3
show_answer
verify "all weight is on green" same "0 100" "$(weights)"
verify "blue is still warm: the same tasks" same "$before" "$(tasks)"

chapter "7. Back to v2, at once"
command_line "holdfast rollback $service"
holdfast rollback "$service" | sed 's/^/   /'
until_true 60 "blue to serve" says '"activeColour":"blue"'
until_true 30 "v2 to serve" says '"serving":\{"tag":"v2"'
until_true 20 "the load balancer to answer v2" answer_is v2
show_answer
verify "all weight is on blue" same "100 0" "$(weights)"
verify "no task was started for it" same "$before" "$(tasks)"
exec {load_until}>&-
wait "$load_pid"

chapter "Where it ended"
holdfast status | sed 's/^/   /' || true
count() { sed -E "s/.*\"$1\":([0-9]+).*/\1/" "$home/load.json"; }
total=$(count requests)
failed=$(($(count non2xx) + $(count errors)))
if [ "$failed" -eq 0 ] && [ "$total" -gt 0 ]; then
    good "$total requests through both switches, 0 failed ($((SECONDS - began)) s in all)"
else
    bad "$failed of $total requests failed: $(cat "$home/load.json")"
fi

chapter "How to go on"
note "from a deploy job to this:    docs/guide-plog.md"
note "the controller on ECS itself: deploy/README.md"
if [ -t 0 ] && [ -t 1 ]; then
    note "still running:                $url   dashboard http://127.0.0.1:$api/"
    read -r -p "   press Enter to stop and clean up " _ || true
fi
[ "$failed" -eq 0 ] && [ "$total" -gt 0 ]
