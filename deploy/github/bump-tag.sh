#!/usr/bin/env bash
# Writes the tag of one service into the desired state and pushes that one commit: bump-tag.sh SERVICE TAG FOLDER
#
# It runs in a checkout of the desired-state repository, on the branch to push to. `holdfast set` makes the edit where
# it is installed; elsewhere awk does, and refuses what it does not understand. When somebody else pushed first, the
# edit is made again on what is there now: nothing is ever merged or forced. A step's output `commit` is the commit with
# the tag.
set -euo pipefail

tries=${BUMP_TRIES:-6}

fail() {
    echo "error: $1" >&2
    [ $# -lt 2 ] || echo "hint: $2" >&2
    exit 1
}

[ $# = 3 ] || { echo "usage: bump-tag.sh SERVICE TAG FOLDER" >&2; exit 64; }
service=$1
tag=$2
folder=$3
[[ $service =~ ^[a-z0-9]([a-z0-9-]*[a-z0-9])?$ ]] || fail "not the name of a service: $service"
[[ $tag =~ ^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$ ]] || fail "not a tag: $tag"
[ -d "$folder" ] || fail "there is no folder $folder in $PWD"
branch=$(git symbolic-ref --quiet --short HEAD) || fail "no branch is checked out" "check out the branch, not a commit"
[ -z "$(git status --porcelain --untracked-files=no)" ] || fail "the checkout has changes of its own"

# Prints the file with the new tag. Exit 3: the service is not in it. Exit 4: it is, and not in a form awk may edit.
edited() {
    SERVICE=$service TAG=$tag awk '
        function indent(line) { match(line, /^ */); return RLENGTH }
        function key(line) { sub(/^ +/, "", line); sub(/:([ \t].*)?$/, "", line); gsub(/^["\047]|["\047]$/, "", line); return line }
        { body = $0; sub(/\r$/, "", body) }
        body ~ /^[ \t]*(#.*)?$/ { print; next }
        # A key at the top level, or the end of the document.
        body !~ /^ / { inside = (body ~ /^services:[ \t]*(#.*)?$/); mine = 0; level = 0; print; next }
        !inside { print; next }
        { depth = indent(body) }
        !level { level = depth }
        depth <= level {
            mine = (depth == level && key(body) == ENVIRON["SERVICE"])
            child = 0
            if (mine) { services++; if (body !~ /:[ \t]*(#.*)?$/) odd = 1 }
            print
            next
        }
        mine && !child { child = depth }
        mine && depth == child && key(body) == "tag" {
            if (match(body, /^ +["\047]?tag["\047]?:[ \t]+("[^"\\]*"|\047[^\047]*\047|[A-Za-z0-9_][^ \t#]*)/)) {
                rest = substr(body, RLENGTH + 1)
                if (rest ~ /^([ \t]+#.*|[ \t]*)$/) {
                    head = body
                    sub(/:.*/, ":", head)
                    tail = ($0 ~ /\r$/) ? "\r" : ""
                    print head " \"" ENVIRON["TAG"] "\"" rest tail
                    tags++
                    next
                }
            }
            odd = 1
        }
        { print }
        END { if (!services) exit 3; if (odd || services != 1 || tags != 1) exit 4 }
    ' "$1"
}

by_awk() {
    local file new status found=""
    new=$(mktemp)
    for file in "$folder"/*.yaml "$folder"/*.yml; do
        [ -f "$file" ] || continue
        status=0
        edited "$file" >"$new" || status=$?
        case $status in
            0)
                [ -z "$found" ] || fail "$service is in $found and in $file"
                found=$file
                # Into the file as it is: its mode stays.
                cmp -s "$new" "$file" || cat "$new" >"$file"
                ;;
            3) ;;
            *) fail "$file: the tag of $service could not be edited" "write it as one line, \`tag: 1.2.3\`, below the name; or install holdfast on this runner" ;;
        esac
    done
    rm -f "$new"
    [ -n "$found" ] || fail "no file of $folder has the service $service"
}

# Leaves one commit, or none when the tag is there already.
commit() {
    if command -v holdfast >/dev/null 2>&1; then
        holdfast set "$service" "tag=$tag" --path "$folder" --commit
        return
    fi
    by_awk
    git diff --quiet -- "$folder" || git commit --quiet -m "$service: tag $tag" -- "$folder"
}

# For the job that waits until it is live.
tell() {
    echo "$1"
    [ -z "${GITHUB_OUTPUT:-}" ] || echo "commit=$(git rev-parse HEAD)" >>"$GITHUB_OUTPUT"
    exit 0
}

for ((try = 1; try <= tries; try++)); do
    before=$(git rev-parse HEAD)
    commit
    if [ "$(git rev-parse HEAD)" = "$before" ]; then
        tell "$service: tag $tag is there already"
    fi
    if git push --quiet origin "HEAD:refs/heads/$branch"; then
        tell "$service: tag $tag pushed as $(git rev-parse --short HEAD)"
    fi
    echo "bump-tag: the push was refused, try $try of $tries" >&2
    # Two jobs that collide once should not do so again.
    sleep "$((try < 5 ? try : 5)).$((RANDOM % 10))"
    git fetch --quiet origin "+refs/heads/$branch:refs/remotes/origin/$branch"
    git reset --quiet --hard "refs/remotes/origin/$branch"
done
fail "could not push to $branch in $tries tries" "may this key write to the repository, and is the branch protected?"
