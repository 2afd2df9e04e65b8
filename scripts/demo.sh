#!/usr/bin/env bash
# scripts/demo.sh PROGRAM MODEL OUT: the main job on a real model, or, where that cannot be fetched,
# on a bundled one that was grown by plumb train (docs/lab/grown_models.md).
set -euo pipefail

program=$1 model=$2 out=$3
inputs=()

if ! data/models/get "$model" >/dev/null; then
  grown=data/models/llama
  echo "The model $model could not be fetched; running on $grown, a small one trained for this project." >&2
  model=$grown/step-003000
  inputs=(--tokens $grown/held_out.json --no-random)
fi
"$program" p0 "$model" "${inputs[@]}" --out "$out"
"$program" report "$out" >/dev/null
echo
echo "Results of $model are in $out:"
ls -1 "$out"
echo
echo "The report, for any browser: $(realpath "$out")/p0.html"
