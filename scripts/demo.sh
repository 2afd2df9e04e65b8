#!/usr/bin/env bash
# scripts/demo.sh PROGRAM MODEL OUT: the main job on a real model, or, where that cannot be fetched,
# on a model with a planted circuit.
set -euo pipefail

program=$1 model=$2 out=$3

if ! data/models/get "$model" >/dev/null; then
  echo "The model $model could not be fetched; running on a small model with a planted circuit." >&2
  model=planted
fi
"$program" p0 "$model" --out "$out"
"$program" report "$out" >/dev/null
echo
echo "Results of $model are in $out:"
ls -1 "$out"
echo
echo "The report, for any browser: $(realpath "$out")/p0.html"
