#!/usr/bin/env bash
# tests/bench/planted.sh BUILD [SEEDS [FIRST]]: plants a model of every kind for each seed, locates
# its circuit, and prints what was found, missed and made up (docs/planted.md holds such tables).
# It can be stopped at any time and goes on where it was: results are appended to
# out/planted/FIRST.jsonl, and the tables are those of all files there. Runs with other FIRST can go
# beside it.
set -euo pipefail
build=$1 seeds=${2:-20} first=${3:-0}
cmake --build "$build" --target plumb_bench_planted
mkdir -p out/planted
OMP_NUM_THREADS=1 nice "$build/tests/bench/plumb_bench_planted" "out/planted/$first.jsonl" \
  "$seeds" "$first"
"$build/tests/bench/plumb_bench_planted" --table out/planted/*.jsonl
