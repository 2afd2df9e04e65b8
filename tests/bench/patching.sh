#!/usr/bin/env bash
# tests/bench/patching.sh BUILD: activation patching sweeps on GPT-2 small's shape and on SmolLM2, plumb
# beside whole passes of its own, TransformerLens and nnsight on the same weights and pairs, in one run.
# Values are compared before anything is printed. Results in out/bench/.
set -euo pipefail
cd "$(dirname "$0")/../.."

build=$1 out=out/bench
plumb=$build/apps/plumb/plumb
threads=$(lscpu -p=core,socket | grep -v '^#' | sort -u | wc -l)
mkdir -p "$out"
if ! tests/bench/setup_peer.sh build/peer_patching patching >"$out/peer_patching_setup.log" 2>&1; then
  echo "No peer to compare patching with ($(tail -n 1 "$out/peer_patching_setup.log"))." >&2
  exit 0
fi
python=build/peer_patching/bin/python

run() { # model directory, pairs, result's name, sweeps...
  local model=$1 pairs=$2 name=$3 flags=()
  shift 3
  for sweep in "$@"; do flags+=(--sweep "$sweep"); done
  "$plumb" patch "$model" --pairs "$pairs" "${flags[@]}" --raw --json --quiet --threads "$threads" \
    >"$out/plumb-patching-$name.json"
}
twin() { # model directory, shape, result's name
  "$build/tests/bench/plumb_bench_forward" "$1" "$2" --patched --threads "$threads" \
    >"$out/plumb-twin-$3.json" 2>/dev/null
}
streams="resid_pre:layer,position attn_out:layer,position mlp_out:layer,position"

model=build/peer_models/gpt2-small
[ -f "$model/model.safetensors" ] ||
  $python tests/bench/peer_forward.py --model gpt2-small --save build/peer_models --save-only >/dev/null
pairs=$out/pairs-gpt2.jsonl
python3 tests/bench/make_pairs.py 50257 8 15 >"$pairs"
$python tests/bench/peer_patching.py "$model" "$pairs" --threads "$threads" >"$out/peer-patching.json"
$python tests/bench/peer_nnsight.py "$model" "$pairs" --threads "$threads" >"$out/peer-nnsight.json"
# shellcheck disable=SC2086  # one word for each sweep
run "$model" "$pairs" gpt2-streams $streams
run "$model" "$pairs" gpt2-heads z:layer,head
run "$model" "$pairs" gpt2-heads-positions z:layer,position,head
twin "$model" 8x15 gpt2
echo "GPT-2 small's shape, 8 pairs of 15 tokens"
python3 tests/bench/compare_patching.py "$model" "$out"/plumb-twin-gpt2.json "$out"/peer-{patching,nnsight}.json -- \
  "$out"/plumb-patching-gpt2-*.json

data/models/get smollm2-135m >/dev/null 2>&1 || { echo "No smollm2-135m to measure." >&2; exit 0; }
model=build/peer_models/smollm2-135m
[ -f "$model/model.safetensors" ] || "$plumb" convert smollm2-135m --out "$model" --quiet >/dev/null
pairs=$out/pairs-smollm2.jsonl
python3 tests/bench/make_pairs.py 49152 4 16 >"$pairs"
# shellcheck disable=SC2086
$python tests/bench/peer_patching.py "$model" "$pairs" --name HuggingFaceTB/SmolLM2-135M \
  --sweeps $streams z:layer,position,head --threads "$threads" >"$out/peer-patching-smollm2.json"
# shellcheck disable=SC2086
run "$model" "$pairs" smollm2-streams $streams
run "$model" "$pairs" smollm2-heads-positions z:layer,position,head
twin "$model" 4x16 smollm2
echo "SmolLM2-135M, 4 pairs of 16 tokens"
python3 tests/bench/compare_patching.py "$model" "$out"/plumb-twin-smollm2.json "$out/peer-patching-smollm2.json" -- \
  "$out"/plumb-patching-smollm2-*.json
