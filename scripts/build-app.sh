#!/usr/bin/env bash
# Builds the demo app (tests/support/app/app.rs, a static binary) and images of it, without any registry:
#   scripts/build-app.sh [--repository NAME] TAG...
# The tag becomes the app's VERSION; `bad…` never becomes healthy, `crash…` ends after half a second. Nothing is built twice.
set -euo pipefail
cd "$(dirname "$0")/.."

repository=holdfast-demo
if [ "${1:-}" = --repository ]; then repository=$2; shift 2; fi
[ $# -gt 0 ] || set -- v1 v2 bad

out=target/app
mkdir -p "$out"
source=tests/support/app/app.rs
if [ ! -x "$out/app" ] || [ "$source" -nt "$out/app" ]; then
    # Written beside and renamed: two builds at once must not share a half-written binary.
    rustc --edition 2024 -O -C target-feature=+crt-static -C strip=symbols -o "$out/app.$$" "$source"
    mv -f "$out/app.$$" "$out/app"
fi

sha=$(sha256sum "$out/app" | cut -c1-16)
for tag in "$@"; do
    have=$(docker image inspect --format '{{index .Config.Labels "holdfast-demo.app"}}' "$repository:$tag" 2>/dev/null || true)
    [ "$have" != "$sha" ] || continue
    changes=(--change 'ENTRYPOINT ["/app"]' --change "ENV VERSION=$tag PORT=8080" --change 'EXPOSE 8080' --change "LABEL holdfast-demo.app=$sha")
    case "$tag" in
        bad*) changes+=(--change 'ENV FAIL_HEALTH=1') ;;
        crash*) changes+=(--change 'ENV CRASH_AFTER_MS=500') ;;
    esac
    # An image FROM scratch with one file; `import` needs no builder, so it works with every engine and client.
    tar -C "$out" --owner=0 --group=0 --mtime=@0 -cf - app | docker import "${changes[@]}" - "$repository:$tag" >/dev/null
    echo "built $repository:$tag"
done
