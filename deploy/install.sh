#!/usr/bin/env bash
# Installs Holdfast on a host under systemd: sudo deploy/install.sh [--no-start] BINARY
# Nothing is downloaded; BINARY is what `make build` left (target/release/holdfast). Running it again upgrades: your
# configuration is kept, and containers are not touched by an upgrade.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
start=true
binary=""
for argument in "$@"; do
    case "$argument" in
        --no-start) start=false ;;
        -h | --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
        -*) echo "error: unknown option: $argument" >&2; exit 64 ;;
        *) binary=$argument ;;
    esac
done
fail() { echo "error: $1" >&2; echo "hint: $2" >&2; exit 1; }

[ -n "$binary" ] || fail "which binary?" "make build, then: sudo deploy/install.sh target/release/holdfast"
[ -x "$binary" ] || fail "$binary is not a program" "make build makes target/release/holdfast"
[ "$(id -u)" = 0 ] || fail "installing needs root" "sudo $0 $binary"
version=$("$binary" --version) || fail "$binary does not run on this machine" "build it here, or for this architecture and libc"
$start && { command -v systemctl >/dev/null 2>&1 && [ -d /run/systemd/system ] \
    || fail "systemd does not run here" "with --no-start only the files are installed"; }

said=0
say() { echo "install: $*"; said=1; }
put() { # SOURCE TARGET MODE: only when it differs
    if ! cmp -s "$1" "$2"; then
        install -D -m "$3" "$1" "$2.new"
        mv -f "$2.new" "$2"
        say "wrote $2"
        changed=true
    fi
}

changed=false
put "$binary" /usr/local/bin/holdfast 0755
put "$here/holdfast.service" /etc/systemd/system/holdfast.service 0644
for folder in /etc/holdfast /etc/holdfast/desired-state /etc/nginx/holdfast; do
    [ -d "$folder" ] || { install -d -m 0755 "$folder"; say "made $folder"; }
done
# Env files hold passwords.
[ -d /etc/holdfast/env ] || { install -d -m 0700 /etc/holdfast/env; say "made /etc/holdfast/env"; }
if [ ! -e /etc/holdfast/holdfast.yaml ]; then
    install -m 0644 "$here/holdfast.yaml" /etc/holdfast/holdfast.yaml
    say "wrote /etc/holdfast/holdfast.yaml: the sample, please read it"
fi

if $start; then
    systemctl daemon-reload
    if ! systemctl is-enabled --quiet holdfast; then systemctl enable --quiet holdfast; say "enabled holdfast.service"; fi
    # An empty folder is no desired state: without a first file it would only hold.
    if compgen -G '/etc/holdfast/desired-state/*.y*ml' >/dev/null; then
        if $changed || ! systemctl is-active --quiet holdfast; then systemctl restart holdfast; say "started $version"; fi
    else
        say "not started yet: put a file into /etc/holdfast/desired-state, then: systemctl start holdfast"
    fi
fi
[ $said = 1 ] || echo "install: $version is installed already, nothing changed"
