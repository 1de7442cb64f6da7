#!/usr/bin/env bash
# `make demo`: a tour of Holdfast on the real Docker Engine behind a real nginx, on ports and in a folder of its own.
# `--sandbox` shows it on the in-memory platform; `--clean` removes what an interrupted tour left.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
export PATH="$PATH:/usr/sbin:/sbin"
export LC_ALL=C

# The tests run the tour beside anything else that may run here: a folder of theirs makes it another controller.
home=${HOLDFAST_DEMO_HOME:-/tmp/holdfast-demo}
controller_id=$(basename "$home")
service=hello
file="$home/desired-state/hello.yaml"
servers="$home/nginx/hello.servers"
answers="$home/answers"
# shellcheck source=scripts/demo-lib.sh
. scripts/demo-lib.sh

remove_containers() {
    local ids
    ids=$(docker ps -aq --filter "label=holdfast.controller=$controller_id" 2>/dev/null || true)
    # shellcheck disable=SC2086
    [ -z "$ids" ] || docker rm -f -v $ids >/dev/null 2>&1 || true
    local images
    images=$(docker images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null | grep -E "^($controller_id|holdfast/$service):" || true)
    # shellcheck disable=SC2086
    [ -z "$images" ] || docker rmi $images >/dev/null 2>&1 || true
}

clean_platform() {
    command -v docker >/dev/null 2>&1 && remove_containers
    stop_pid_file "$home/nginx/nginx.pid" QUIT
}

if [ "${1:-}" = --clean ]; then
    clean
    echo "demo: nothing is left"
    exit 0
fi
sandbox=false
[ "${1:-}" != --sandbox ] || sandbox=true

# ---- what is needed -------------------------------------------------------------------------------------------------

find_binary
if ! $sandbox && ! provision demo; then
    sandbox=true
    printf '\n%sNOTICE: Docker or nginx cannot run here, so this is the in-memory sandbox: the same controller, pretended containers.%s\n' "$bold" "$plain"
fi
begin
mkdir -p "$home/desired-state" "$home/nginx" "$home/state" "$home/env"
cp desired-state/demo/*.yaml "$home/desired-state/"
sed -i "s#/tmp/holdfast-demo#$home#; s#image: holdfast-demo#image: $controller_id#" "$home"/desired-state/*.yaml
[ -f "$file" ] || { bad "desired-state/demo/hello.yaml is missing"; exit 1; }

web=$(free_port 18080)
api=$(free_port 17400)
url="http://127.0.0.1:$web/"

cat >"$config" <<YAML
controller: $controller_id
source: $home/desired-state
stateDir: $home/state
listen: 127.0.0.1:$api
resync: 5s
ports: 21900-21949
envRoot: $home/env
nginx: {binary: $(command -v nginx || echo nginx), config: $home/nginx/nginx.conf, pid: $home/nginx/nginx.pid}
YAML

start_nginx() {
    # nginx refuses a missing include; Holdfast writes the real backends with the first deploy.
    echo 'server 127.0.0.1:1 down;' >"$servers"
    cat >"$home/nginx/nginx.conf" <<CONF
pid $home/nginx/nginx.pid;
error_log $home/nginx/error.log warn;
worker_processes 1;
worker_shutdown_timeout 8s;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path $home/nginx/body; proxy_temp_path $home/nginx/proxy; fastcgi_temp_path $home/nginx/fastcgi;
    uwsgi_temp_path $home/nginx/uwsgi; scgi_temp_path $home/nginx/scgi;
    upstream $service { include $servers; keepalive 32; }
    server {
        listen 127.0.0.1:$web;
        location / { proxy_pass http://$service; proxy_http_version 1.1; proxy_set_header Connection ''; }
    }
}
CONF
    chmod 755 "$home" "$home/nginx"
    nginx -c "$home/nginx/nginx.conf"
}

# ---- looking --------------------------------------------------------------------------------------------------------

count_is() { [ "$(docker ps -aq --filter "label=holdfast.controller=$controller_id" | wc -l)" -eq "$1" ]; }
containers() { docker ps -a --filter "label=holdfast.controller=$controller_id" --format '   {{.Names}}  {{.Image}}  {{.Status}}'; }

load() {
    : >"$answers"
    : >"$home/load.on"
    (
        while [ -e "$home/load.on" ]; do
            curl -s -o /dev/null -w '%{http_code}\n' --max-time 5 "$url" >>"$answers" || true
        done
    ) &
    pids+=($!)
}

# ---- the tour -------------------------------------------------------------------------------------------------------

if $sandbox; then
    chapter "1. First deploy (sandbox)"
    run_controller --sandbox --state-dir "$home/state"
    until_true 60 "v1 to settle" serves v1
    good "v1 serves"
    chapter "2. Somebody edits the tag"
    edit tag=v2
    until_true 60 "v2 to settle" serves v2
    good "v2 serves"
    chapter "3. A tag that never becomes healthy"
    edit tag=bad
    until_true 60 "the rollback" says 'Quarantined'
    says '"serving":\{"tag":"v2"'
    good "the bad release was given up, v2 still serves"
    chapter "Status"
    holdfast status || true
    note "with Docker and nginx on this machine, \`make demo\` shows the same on real containers"
    exit 0
fi

began=$SECONDS
scripts/build-app.sh --repository "$controller_id" v1 v2 bad
start_nginx

chapter "1. First deploy: desired-state/demo/hello.yaml says tag v1"
grep -vE '^\s*#' "$file" | sed 's/^/   /'
run_controller
until_true 60 "v1 to settle" serves v1
until_true 10 "nginx to answer v1" answer_is v1
show_answer
containers
good "v1 serves"
load
note "from here on, requests run through nginx without a pause; they are counted"

chapter "2. A new version: one line of the file changes"
before=$(revision)
edit tag=v2
until_true 20 "the edit to be read" another_revision "$before"
revision=$(revision)
note "${dim}\$ holdfast wait $service --source-revision ${revision:0:12} --timeout 60s   (what a CI job runs)${plain}"
holdfast wait "$service" --source-revision "$revision" --timeout 60s >/dev/null
until_true 10 "nginx to answer v2" answer_is v2
show_answer
until_true 60 "v2 to settle" serves v2
good "v2 serves, v1 drained and gone"

chapter "3. Somebody kills a container"
victim=$(docker ps --filter "label=holdfast.controller=$controller_id" --format '{{.Names}}' | head -n 1)
victim_id=$(docker ps -q --no-trunc --filter "name=^$victim\$")
note "${dim}\$ docker rm -f $victim${plain}"
docker rm -f "$victim" >/dev/null
replaced() { settled && ! docker inspect "$victim_id" >/dev/null 2>&1 && [ "$(docker ps -q --filter "label=holdfast.controller=$controller_id" | wc -l)" -ge "$replicas" ]; }
replicas=$(sed -nE 's/^ *replicas: *([0-9]+).*/\1/p' "$file" | head -n 1)
replicas=${replicas:-1}
until_true 60 "the replacement" replaced
good "it was replaced; the other replica served meanwhile"

chapter "4. Somebody edits the upstream by hand"
note "${dim}\$ echo 'server 127.0.0.1:9;' > hello.servers && nginx -s reload${plain}"
good_sum=$(sha256sum <"$servers")
rm -f "$home/load.on"            # this fault is on the user's side: requests fail until it is put back, so they are not counted
wait "${pids[-1]}" 2>/dev/null || true
unset 'pids[-1]'
echo 'server 127.0.0.1:9;' >"$servers"
nginx -c "$home/nginx/nginx.conf" -s reload 2>>"$home/nginx/reload.log"
mended() { [ "$(sha256sum <"$servers")" = "$good_sum" ] && answer_is v2; }
until_true 60 "the upstream to be put back" mended
until_true 60 "it to settle" settled
show_answer
good "put back, with a reason in the log"
mv "$answers" "$answers.first"
load

chapter "5. A bad version: it never becomes healthy"
edit tag=bad
until_true 60 "the rollback" says 'Quarantined'
until_true 60 "the failed replicas to go" count_is "$replicas"
show_answer
good "it was given up by its deadline, v2 never stopped serving"

chapter "6. From git: a commit is live, a broken one changes nothing, a revert goes back"
# A repository of this host stands in for the one CI pushes to.
deploy="$home/deploy"
quiet_git() { git -C "$deploy" -c user.name="You" -c user.email=you@localhost -c commit.gpgSign=false "$@" >/dev/null 2>&1; }
commit() { # SUBJECT
    command_line "git commit -am '$1' && git push"
    quiet_git commit -am "$1"
    quiet_git push origin HEAD:main
    commit=$(git -C "$deploy" rev-parse HEAD)
}
in_force() { says "\"revision\":\"$commit\""; }
git init -q --bare "$deploy.git"
git init -q "$deploy"
quiet_git remote add origin "$deploy.git"
mkdir "$deploy/prod"
sed -E 's/^( *tag:).*/\1 v2/' "$file" >"$deploy/prod/hello.yaml"
quiet_git add prod
commit "hello: tag v2"
stop_pid_file "$home/holdfast.pid" TERM
printf 'git: {url: "file://%s", path: prod, interval: 1s, allow: [file]}\n' "$deploy.git" >>"$config"
run_controller
until_true 20 "the commit to be in force" in_force
until_true 60 "v2 to settle" serves v2
sed -i -E 's/^( *tag:).*/\1 v1/' "$deploy/prod/hello.yaml"
commit "hello: tag v2 -> v1"
command_line "holdfast wait $service --source-revision ${commit:0:12} --timeout 60s"
holdfast wait "$service" --source-revision "$commit" --timeout 60s >/dev/null
until_true 10 "nginx to answer v1" answer_is v1
show_answer
good "the commit serves"
good_commit=$commit
sed -i -E 's/^( *)replicas:/\1replica:/' "$deploy/prod/hello.yaml"
commit "hello: a typing error"
until_true 20 "the broken commit to be refused" says "\"rejected\":\"$commit\""
answer_is v1 && says "\"revision\":\"$good_commit\""
good "refused with its line, the last good commit stays in force"
quiet_git revert --no-edit HEAD HEAD~1
command_line "git revert HEAD HEAD~1 && git push"
quiet_git push origin HEAD:main
until_true 20 "nginx to answer v2" answer_is v2
until_true 60 "v2 to settle" serves v2
show_answer
good "the revert serves: a rollback is a commit like any other"

chapter "Where it ended"
holdfast status || true
rm -f "$home/load.on"
wait "${pids[-1]}" 2>/dev/null || true
unset 'pids[-1]'
total=$(cat "$answers.first" "$answers" | wc -l)
failed=$(cat "$answers.first" "$answers" | grep -cv '^200$' || true)
if [ "$failed" -eq 0 ]; then good "$total requests while all of this happened, 0 failed ($((SECONDS - began)) s)"; else bad "$failed of $total requests failed"; fi

chapter "How to go on"
note "the file of this tour:      desired-state/demo/hello.yaml"
note "a service of your own:      desired-state/examples/ and docs/guide-dangdangwalk.md"
note "on a host, under systemd:   deploy/install.sh"
note "from your own repository:   docs/git.md"
if [ -t 0 ] && [ -t 1 ]; then
    note "still running:              $url   dashboard and API http://127.0.0.1:$api/"
    note "try it:                     $binary set $service tag=v1 --path $home/desired-state"
    read -r -p "   press Enter to stop and clean up " _ || true
fi
[ "$failed" -eq 0 ]
