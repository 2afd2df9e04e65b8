#!/usr/bin/env bash
# tests/bench/patching.sh BUILD: activation patching sweeps on GPT-2 small's shape, plumb beside
# TransformerLens on the same weights and pairs, in one run. Values are compared before anything is
# printed. Results in out/bench/.
set -euo pipefail
cd "$(dirname "$0")/../.."

build=$1 out=out/bench
threads=$(lscpu -p=core,socket | grep -v '^#' | sort -u | wc -l)
mkdir -p "$out"
if ! tests/bench/setup_peer.sh build/peer_patching patching >"$out/peer_patching_setup.log" 2>&1; then
  echo "No peer to compare patching with ($(tail -n 1 "$out/peer_patching_setup.log"))." >&2
  exit 0
fi
python=build/peer_patching/bin/python
model=build/peer_models/gpt2-small
[ -f "$model/model.safetensors" ] ||
  $python tests/bench/peer_forward.py --model gpt2-small --save build/peer_models --save-only >/dev/null
python3 tests/bench/make_pairs.py 50257 8 15 >"$out/pairs.jsonl"
$python tests/bench/peer_patching.py "$model" "$out/pairs.jsonl" --threads "$threads" \
  >"$out/peer-patching.json"
run() { # name, sweeps...
  local name=$1 flags=()
  shift
  for sweep in "$@"; do flags+=(--sweep "$sweep"); done
  "$build/apps/plumb/plumb" patch "$model" --pairs "$out/pairs.jsonl" "${flags[@]}" --raw --json \
    --quiet --threads "$threads" >"$out/plumb-patching-$name.json"
}
run streams resid_pre:layer,position attn_out:layer,position mlp_out:layer,position
run heads z:layer,head
run heads-positions z:layer,position,head
python3 tests/bench/compare_patching.py "$out/peer-patching.json" "$out"/plumb-patching-*.json
