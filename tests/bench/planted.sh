#!/usr/bin/env bash
# tests/bench/planted.sh BUILD [SEEDS [FIRST]]: plants a model of every kind for each seed, locates
# its circuit, and prints what was found, missed and made up (docs/planted.md holds such a table).
set -euo pipefail
build=$1 seeds=${2:-20} first=${3:-0}
cmake --build "$build" --target plumb_bench_planted
OMP_NUM_THREADS=1 "$build/tests/bench/plumb_bench_planted" "$seeds" "$first"
