#!/usr/bin/env bash
# tests/bench/edges.sh BUILD: edge attribution on GPT-2 small's shape and on SmolLM2, plumb beside EAP-IG's
# own package on the same weights and pairs, in one run; on GPT-2's shape also direct and exact effects of single
# edges, and MIB's curve. Scores are compared before anything is printed.
# Results in out/bench/.
set -euo pipefail
cd "$(dirname "$0")/../.."

build=$1 out=out/bench
plumb=$build/apps/plumb/plumb
threads=$(lscpu -p=core,socket | grep -v '^#' | sort -u | wc -l)
mkdir -p "$out"
if ! tests/bench/setup_peer.sh build/peer_edges edges >"$out/peer_edges_setup.log" 2>&1; then
  echo "No peer to compare attribution with ($(tail -n 1 "$out/peer_edges_setup.log"))." >&2
  exit 0
fi
python=build/peer_edges/bin/python

compare() { # model directory, pairs, name
  local model=$1 pairs=$2 name=$3 method
  $python tests/bench/peer_edges.py "$model" "$pairs" --threads "$threads" >"$out/peer-edges-$name.json"
  "$plumb" inspect "$model" --json --quiet >"$out/inspect-$name.json"
  for method in eap eap-ig; do
    "$plumb" attribute "$model" --pairs "$pairs" --method "$method" --steps 5 --json --quiet \
      --threads "$threads" >"$out/plumb-edges-$name-$method.json"
  done
  python3 tests/bench/compare_edges.py "$out/peer-edges-$name.json" "$out/inspect-$name.json" \
    "$out/plumb-edges-$name"-{eap,eap-ig}.json
}

model=build/peer_models/gpt2-small
[ -f "$model/model.safetensors" ] ||
  $python tests/bench/peer_forward.py --model gpt2-small --save build/peer_models --save-only >/dev/null
python3 tests/bench/make_pairs.py 50257 12 12 >"$out/pairs-edges-gpt2.jsonl"
echo "GPT-2 small's shape, 12 pairs of 12 tokens"
compare "$model" "$out/pairs-edges-gpt2.jsonl" gpt2

exact() { # model directory, pairs, name, edges of the sample
  local model=$1 pairs=$2 name=$3 sample=$4 method
  for method in direct "exact --sample $sample --seed 1"; do
    # shellcheck disable=SC2086  # a method and its flags
    "$plumb" attribute "$model" --pairs "$pairs" --method $method --json --quiet \
      --threads "$threads" >"$out/plumb-edges-$name-${method%% *}.json"
  done
  "$plumb" circuit evaluate "$model" --circuit "$out/plumb-edges-$name-eap-ig.json" --pairs "$pairs" --curve \
    --json --quiet --threads "$threads" >"$out/plumb-curve-$name.json"
  PYTHONPATH=tests/bench $python tests/bench/peer_exact.py "$model" "$pairs" "$out/plumb-edges-$name-exact.json" \
    "$out/plumb-edges-$name-eap-ig.json" --threads "$threads" >"$out/peer-exact-$name.json"
  python3 tests/bench/compare_exact.py "$out/peer-exact-$name.json" \
    "$out/plumb-edges-$name"-{direct,exact}.json "$out/plumb-curve-$name.json"
}
exact "$model" "$out/pairs-edges-gpt2.jsonl" gpt2 400

data/models/get smollm2-135m >/dev/null 2>&1 || { echo "No smollm2-135m to measure." >&2; exit 0; }
model=build/peer_models/smollm2-135m
[ -f "$model/model.safetensors" ] || "$plumb" convert smollm2-135m --out "$model" --quiet >/dev/null
python3 tests/bench/make_pairs.py 49152 8 16 >"$out/pairs-edges-smollm2.jsonl"
echo "SmolLM2-135M, 8 pairs of 16 tokens"
compare "$model" "$out/pairs-edges-smollm2.jsonl" smollm2
