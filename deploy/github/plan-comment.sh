#!/usr/bin/env bash
# Writes a plan (`holdfast plan -o markdown`) as a comment of a pull request: plan-comment.sh FILE
#
# The first line of the file is a hidden marker with the controller's id. The comment of this workflow that begins with
# it is edited; the first time one is added. Needs gh, GH_TOKEN, GITHUB_REPOSITORY and PULL_REQUEST (its number).
set -euo pipefail

fail() {
    echo "error: $1" >&2
    exit 1
}

[ $# = 1 ] || { echo "usage: plan-comment.sh FILE" >&2; exit 64; }
file=$1
[ -s "$file" ] || fail "there is no plan in $file: what was said before tells why"
MARKER=$(head -n 1 -- "$file")
[[ $MARKER == '<!-- holdfast plan '*' -->' ]] || fail "$file does not begin like a plan: $MARKER"
export MARKER
comments="repos/$GITHUB_REPOSITORY/issues/$PULL_REQUEST/comments"
# Of somebody else's comment with the same first line nothing is touched.
ours='.[] | select(.user.login == "github-actions[bot]" and (.body | startswith(env.MARKER))) | .id'
known=$(gh api --paginate "$comments" --jq "$ours")
if [ -n "$known" ]; then
    gh api --silent --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/${known%%$'\n'*}" -F "body=@$file"
else
    gh api --silent --method POST "$comments" -F "body=@$file"
fi
