#!/usr/bin/env bash
# cargo-deny over every dependency. Without the advisory database (no network to github.com) the rest is still checked.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo deny --version >/dev/null 2>&1; then
    echo "deny: cargo-deny is missing; installing it with cargo (a few minutes)"
    cargo install --locked --quiet cargo-deny
fi

cargo deny --locked check licenses bans sources
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if timeout 120 cargo deny --locked check advisories >"$log" 2>&1; then
    cat "$log"
elif grep -qiE 'failed to (fetch|clone)|unable to (fetch|connect)|could not (connect|resolve)|network|An IO error|advisory database' "$log" \
    && ! grep -qE '^error\[(vulnerability|unmaintained|unsound|yanked|notice)' "$log"; then
    echo "deny: the advisory database cannot be reached from here: advisories were NOT checked (licences, bans and sources were)"
else
    cat "$log" >&2
    exit 1
fi
