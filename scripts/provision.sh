#!/usr/bin/env bash
# Installs and starts what the demo, the tests and the benchmarks need: Docker, nginx and a few small tools.
# Debian as root. Running it again changes nothing. See `--help`.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
state="$root/target/provision"
log="$state/dockerd.log"
venv="$root/target/test-venv"
bench_venv="$root/target/bench-venv"
purpose="test"
check=false

usage() {
    cat <<'TEXT'
usage: scripts/provision.sh [--check] [--for demo|demo-ecs|bench|test]

Installs what is missing and starts dockerd when no engine answers. Says what it is going to install before it does.
  --check     only report; exit 0 when all is there, 1 when something is missing
  --for WHAT  demo (Docker, nginx, curl) | demo-ecs (Docker, curl, an AWS emulator) | bench (demo, wrk, an AWS emulator and
              the clients it is compared with) | test (adds a registry, git, an SSH server, GnuPG, openssl and an AWS emulator; default)
TEXT
}

while [ $# -gt 0 ]; do
    case "$1" in
        --check) check=true ;;
        --for) purpose=${2:-}; shift ;;
        -h | --help) usage; exit 0 ;;
        *) echo "error: unknown argument: $1" >&2; usage >&2; exit 64 ;;
    esac
    shift
done

say() { echo "provision: $*"; }
fail() {
    echo "error: $1" >&2
    [ $# -lt 2 ] || echo "hint: $2" >&2
    exit 1
}

# command:package, in the order they are needed.
needs=(cc:build-essential curl:curl iptables:iptables dockerd:docker.io docker:docker.io)
venvs=()
case "$purpose" in
    demo) needs+=(nginx:nginx-light git:git) ;;
    demo-ecs) needs+=(python3:python3); venvs=("$venv") ;;
    bench) needs+=(nginx:nginx-light wrk:wrk git:git python3:python3); venvs=("$venv" "$bench_venv") ;;
    test) venvs=("$venv"); needs+=(nginx:nginx-light ip:iproute2 pkill:procps busybox:busybox-static wrk:wrk docker-registry:docker-registry git:git openssl:openssl sshd:openssh-server ssh:openssh-client gpg:gpg gpg-agent:gpg-agent python3:python3) ;;
    *) fail "--for expects demo, demo-ecs, bench or test, not \`$purpose\`" ;;
esac

# /usr/sbin is not on everybody's PATH, and that is where these live.
export PATH="$PATH:/usr/sbin:/sbin"

# What a venv holds, and the program that shows it is there.
packages_of() { case "$1" in "$venv") echo "ministack docker cbor2" ;; *) echo "boto3 ecs-deploy==1.17.0" ;; esac; }
program_of() { case "$1" in "$venv") echo "$1/bin/ministack" ;; *) echo "$1/bin/ecs" ;; esac; }
missing_venvs() {
    local it
    for it in ${venvs[@]+"${venvs[@]}"}; do [ -x "$(program_of "$it")" ] || echo "$it"; done
}

missing_packages() {
    local need package found=""
    for need in "${needs[@]}"; do
        package=${need#*:}
        if ! command -v "${need%%:*}" >/dev/null 2>&1 && [[ " $found " != *" $package "* ]]; then
            found="$found $package"
        fi
    done
    # `python3 -m venv` is a package of its own on Debian.
    if [ -n "$(missing_venvs)" ] && ! python3 -c 'import ensurepip' 2>/dev/null; then
        found="$found python3-venv"
    fi
    echo "${found# }"
}

engine_answers() { docker info --format '{{.ServerVersion}}' 2>/dev/null | grep -q '^[0-9]'; }

ready() {
    local server=""
    if command -v nginx >/dev/null 2>&1; then server=", $(nginx -v 2>&1 | sed 's/^nginx version: //')"; fi
    say "ready: engine $(docker info --format '{{.ServerVersion}}')$1$server"
}

if ! command -v cargo >/dev/null 2>&1; then
    fail "cargo is not installed" "install Rust 1.95 or newer from https://rustup.rs, then run this again"
fi

missing=$(missing_packages)

if $check; then
    status=0
    if [ -n "$missing" ]; then say "missing packages: $missing"; status=1; else say "every package is installed"; fi
    if engine_answers; then say "a container engine answers"; else say "no container engine answers"; status=1; fi
    for it in $(missing_venvs); do say "missing in $it: $(packages_of "$it")"; status=1; done
    exit $status
fi

if [ -n "$missing" ]; then
    [ "$(id -u)" = 0 ] || fail "these packages are missing and installing them needs root: $missing" \
        "run it again as root, or install them yourself; \`make demo\` falls back to the sandbox without them"
    command -v apt-get >/dev/null 2>&1 || fail "these packages are missing and there is no apt-get: $missing" \
        "install them with the package manager of this system"
    say "going to install with apt-get: $missing"
    export DEBIAN_FRONTEND=noninteractive
    options=(-y -q --no-install-recommends -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120)
    mkdir -p "$state"
    # The package lists may be absent (a fresh container) or too old: only then are they fetched.
    # shellcheck disable=SC2086
    if ! apt-get install "${options[@]}" $missing >"$state/apt.log" 2>&1; then
        say "the package lists are missing or old: apt-get update"
        apt-get update -q >"$state/apt-update.log" 2>&1 \
            || fail "apt-get update failed: $(tail -n 3 "$state/apt-update.log" | tr '\n' ' ')" "check the network and /etc/apt/sources.list"
        # shellcheck disable=SC2086
        apt-get install "${options[@]}" $missing >"$state/apt.log" 2>&1 \
            || fail "apt-get install failed: $(grep -E '^E:' "$state/apt.log" | head -n 3 | tr '\n' ' ')" "the whole log is $state/apt.log"
    fi
    still=$(missing_packages)
    [ -z "$still" ] || fail "installed, yet still missing: $still" "look at $state/apt.log"
fi

# The AWS emulator, and the clients Holdfast is compared with: Python, each in a venv of its own.
for it in $(missing_venvs); do
    say "installing $(packages_of "$it") into $it"
    mkdir -p "$state"
    python3 -m venv "$it" >"$state/venv.log" 2>&1 || fail "python3 -m venv failed: $(tail -n 2 "$state/venv.log" | tr '\n' ' ')"
    # shellcheck disable=SC2046
    "$it/bin/pip" install -q --disable-pip-version-check $(packages_of "$it") >>"$state/venv.log" 2>&1 \
        || fail "pip install $(packages_of "$it") failed: $(tail -n 2 "$state/venv.log" | tr '\n' ' ')" "the whole log is $state/venv.log"
done

if engine_answers; then
    ready ""
    exit 0
fi

[ "$(id -u)" = 0 ] || fail "no container engine answers and starting one needs root" \
    "run it again as root, or add yourself to the docker group; \`docker info\` says what is wrong"

mkdir -p "$state"
# A stale pid file of a killed dockerd would keep the new one from starting.
if [ -f /var/run/docker.pid ] && ! kill -0 "$(cat /var/run/docker.pid)" 2>/dev/null; then rm -f /var/run/docker.pid; fi
say "no engine answers: starting dockerd (log: $log)"
setsid nohup dockerd >"$log" 2>&1 </dev/null &
pid=$!
echo "$pid" >"$state/dockerd.pid"
deadline=$((SECONDS + 60))
until engine_answers; do
    if ! kill -0 "$pid" 2>/dev/null; then
        rm -f "$state/dockerd.pid"
        fail "dockerd ended: $(grep -iE 'level=(fatal|error)|failed to' "$log" | tail -n 1)" \
            "Docker needs a privileged machine (cgroups, iptables, overlayfs); the whole log is $log"
    fi
    [ $SECONDS -lt $deadline ] || fail "dockerd did not answer within 60 s" "look at $log"
    # Nothing signals readiness from outside but its answer: ask again shortly.
    sleep 0.2
done
ready " (pid $pid)"
