#!/usr/bin/env bash
# `make bench`: benches/run.sh [--json] [SECTION]...; without a section, all of them.
#   on Docker: seen edit load kill idle start      on ECS: ecs-edit ecs-sweep ecs-switch      git-push git-idle git-large
# Every table compares with the floor by hand in the same run: figures of different machines do not compare, ratios do.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/sbin:/sbin"
out=target/bench
mkdir -p "$out"
load="$out/load"
if [ ! -x "$load" ] || [ benches/tools/load.rs -nt "$load" ]; then rustc --edition 2024 -O -o "$load" benches/tools/load.rs; fi
scripts/build-app.sh --repository holdfast-bench v1 v2 >&2

# Options go to both; `--name value` pairs are written `--name=value`.
options=(--binary "${HOLDFAST_BIN:-target/release/holdfast}" --load "$load")
docker=() ecs=() git=()
for it in "$@"; do
    case "$it" in
        --*) options+=("$it") ;;
        ecs-*) ecs+=("$it") ;;
        git-*) git+=("$it") ;;
        *) docker+=("$it") ;;
    esac
done
all=false
if [ ${#docker[@]} -eq 0 ] && [ ${#ecs[@]} -eq 0 ] && [ ${#git[@]} -eq 0 ]; then all=true; fi
if $all || [ ${#docker[@]} -gt 0 ]; then python3 benches/tools/bench.py "${options[@]}" ${docker[@]+"${docker[@]}"}; fi
if $all || [ ${#git[@]} -gt 0 ]; then python3 benches/tools/git_bench.py "${options[@]}" ${git[@]+"${git[@]}"}; fi
if $all || [ ${#ecs[@]} -gt 0 ]; then
    target/bench-venv/bin/python3 benches/tools/ecs.py "${options[@]}" --emulator-python target/test-venv/bin/python3 ${ecs[@]+"${ecs[@]}"}
fi
