#!/usr/bin/env bash
# What a workflow may ask of this host, and nothing else. In root's ~/.ssh/authorized_keys, one key for each use:
#
#   restrict,command="/usr/local/bin/holdfast-over-ssh plan" ssh-ed25519 AAAA… plan of pull requests
#   restrict,command="/usr/local/bin/holdfast-over-ssh wait dangdang-api" ssh-ed25519 AAAA… CI of dangdang-walk
#
# The caller says the id of a commit: `ssh root@host 3f2a1b9c…`. It reads; the controller alone acts.
set -euo pipefail

commit=${SSH_ORIGINAL_COMMAND:-}
[[ $commit =~ ^([0-9a-f]{40}|[0-9a-f]{64})$ ]] || { echo "error: say the id of a commit in full, and nothing else" >&2; exit 1; }
case "${1:-}" in
    plan) exec holdfast plan --commit "$commit" -o markdown ;;
    wait) exec holdfast wait "${2:?the service is missing in authorized_keys}" --source-revision "$commit" --timeout "${3:-10m}" ;;
    *) echo "error: authorized_keys says neither plan nor wait" >&2; exit 1 ;;
esac
