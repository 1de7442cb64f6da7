#!/usr/bin/env bash
# `make bench`: benches/run.sh [seen] [edit] [load] [kill] [idle] [start]; without a section, all of them.
# Every table compares with the floor by hand in the same run: figures of different machines do not compare, ratios do.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/sbin:/sbin"
out=target/bench
mkdir -p "$out"
load="$out/load"
if [ ! -x "$load" ] || [ benches/tools/load.rs -nt "$load" ]; then rustc --edition 2024 -O -o "$load" benches/tools/load.rs; fi
scripts/build-app.sh --repository holdfast-bench v1 v2
exec python3 benches/tools/bench.py --binary "${HOLDFAST_BIN:-target/release/holdfast}" --load "$load" "$@"
