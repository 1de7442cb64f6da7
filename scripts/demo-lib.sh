# shellcheck shell=bash
# What the tours share: how they speak, the binary, the controller, waiting for a condition, and leaving nothing behind.
# Sourced by scripts/demo.sh and scripts/demo-ecs.sh, which set:
#   root         the repository
#   home         the folder of the tour; everything it writes is in it
#   service      the one the tour is about
# and define `clean_platform`, which removes what the tour made outside of its folder.

: "${root:?}" "${home:?}" "${service:?}"
url=""   # where the service answers
config="$home/holdfast.yaml"
log="$home/holdfast.log"
started_dockerd=""
following=""
pids=()

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'; else bold="" dim="" red="" green="" plain=""; fi
chapter() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
note() { printf '   %s\n' "$*"; }
command_line() { printf '   %s$ %s%s\n' "$dim" "$*" "$plain"; }
good() { printf '   %s✓ %s%s\n' "$green" "$*" "$plain"; }
bad() { printf '   %s✗ %s%s\n' "$red" "$*" "$plain" >&2; }

# ---- leaving --------------------------------------------------------------------------------------------------------

stop_pid_file() { # FILE SIGNAL
    local pid
    [ -s "$1" ] || return 0
    pid=$(cat "$1")
    kill "-$2" "$pid" 2>/dev/null || return 0
    local deadline=$((SECONDS + 15))
    while kill -0 "$pid" 2>/dev/null && [ $SECONDS -lt $deadline ]; do sleep 0.05; done
}

stop_children() {
    local pid
    for pid in ${pids[@]+"${pids[@]}"}; do
        kill "$pid" 2>/dev/null || true
        # Reaped here, so that the shell does not report how it ended.
        wait "$pid" 2>/dev/null || true
    done
    pids=()
}

clean() {
    rm -f "$home/load.on"
    stop_pid_file "$home/holdfast.pid" TERM
    stop_children
    clean_platform
    if [ -n "$started_dockerd" ]; then
        stop_pid_file "$root/target/provision/dockerd.pid" TERM
        rm -f "$root/target/provision/dockerd.pid"
    fi
    rm -rf "$home"
}

finish() {
    local status=$?
    trap - EXIT INT TERM
    if [ $status -ne 0 ] && [ -s "$log" ]; then
        bad "the tour stopped early; the last lines of the controller:"
        tail -n 15 "$log" >&2
    fi
    clean
    exit $status
}

# From here on whatever ends the tour cleans up; what an earlier one left goes first.
begin() {
    local keep=$started_dockerd
    trap finish EXIT
    trap 'exit 130' INT TERM
    started_dockerd=""
    clean
    started_dockerd=$keep
    mkdir -p "$home"
}

# ---- what is needed -------------------------------------------------------------------------------------------------

find_binary() {
    binary=${HOLDFAST_BIN:-}
    if [ -z "$binary" ]; then
        binary=target/release/holdfast
        if [ ! -x "$binary" ] || [ -n "$(find src Cargo.toml Cargo.lock -newer "$binary" -print -quit)" ]; then
            echo "demo: building holdfast (the first time takes a few minutes)"
            # With a terminal cargo shows how far it is; without one its list of crates would bury the tour.
            if [ -t 2 ]; then cargo build --locked; else cargo build --locked --quiet; fi
            binary=target/debug/holdfast
        fi
    fi
    binary=$(realpath "$binary")
}
holdfast() { local verb=$1; shift; "$binary" "$verb" --config "$config" "$@"; }

provision() { # PURPOSE; fails when Docker or something else it needs cannot run here
    local before=true
    docker info >/dev/null 2>&1 || before=false
    scripts/provision.sh --for "$1" || return 1
    $before || started_dockerd=yes
}

free_port() { # the first port from $1 on that nobody listens on
    local port=$1
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
    echo "$port"
}

# ---- looking --------------------------------------------------------------------------------------------------------

status_json() { holdfast status -o json 2>/dev/null | tr -d ' \n' || true; }

# Waits for a condition, never for a time: until "$@" succeeds, SECONDS bounded.
until_true() { # SECONDS WHAT COMMAND...
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        if [ $SECONDS -ge $deadline ]; then bad "waited in vain for: $what"; holdfast status >&2 || true; return 1; fi
        if [ -s "$home/holdfast.pid" ] && ! kill -0 "$(cat "$home/holdfast.pid")" 2>/dev/null; then bad "the controller ended"; return 1; fi
        sleep 0.05
    done
}
says() { grep -qE "$1" <<<"$(status_json)"; }
serves() { local state; state=$(status_json); grep -q "\"serving\":{\"tag\":\"$1\"" <<<"$state" && grep -qE '"phase":"(Settled|Degraded)"' <<<"$state"; }
settled() { says '"phase":"Settled"'; }
revision() { sed -E 's/.*"source":\{[^}]*"revision":"([^"]*)".*/\1/' <<<"$(status_json)"; }
another_revision() { [ "$(revision)" != "$1" ]; }
answer() { curl -s --max-time 2 "$url" || true; }
answer_is() { [ "$(answer)" = "$1" ]; }
show_answer() { note "${dim}\$ curl $url${plain}  ->  ${bold}$(curl -s --max-time 2 "$url" || echo 'no answer')${plain}"; }
edit() { # like the CI job: one line of one file
    command_line "holdfast set $service $* --path desired-state"
    "$binary" set "$service" "$@" --path "$home/desired-state" --config "$config" >/dev/null
}

# What the controller says, as it says it; a tour may define its own.
tell() { sed -u "s/^/   ${dim}| /; s/\$/${plain}/"; }

run_controller() { # again after it was stopped, too: the log goes on
    "$binary" run --config "$config" "$@" >>"$log" 2>&1 &
    echo $! >"$home/holdfast.pid"
    if [ -z "$following" ]; then
        tail -n +1 -F "$log" 2>/dev/null > >(tell) &
        following=$!
        pids+=("$following")
    fi
    until_true 20 "the controller to answer" says '"schemaVersion"'
}
