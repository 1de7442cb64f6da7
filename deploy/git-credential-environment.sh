#!/bin/sh
# A git credential helper: the user and the password (or token) from the environment, where ECS puts what Secrets
# Manager holds. Nothing is stored, and without the variables git is told nothing.
if [ "${1:-}" = get ] && [ -n "${GIT_PASSWORD:-}" ]; then
    printf 'username=%s\npassword=%s\n' "${GIT_USERNAME:-git}" "$GIT_PASSWORD"
fi
