#!/usr/bin/env bash
# tests/bench/long_context.sh BUILD [LENGTHS]: sink statistics of every head of SmolLM2 on one sequence of
# random ids, plumb beside transformers on the same weights, in one run: its fused attention, which returns no
# attentions, and its eager attention, which does. Statistics are compared before anything is printed. Results
# in out/bench/. PEER_PYTHON names a Python with torch and transformers; else build/peer is set up. Attentions
# are asked for up to 2,048 tokens (MOST_EAGER): at 4,096 they take 18 GB, at 8,192 69 GB.
set -euo pipefail
cd "$(dirname "$0")/../.."

build=$1 lengths=${2:-"512 1024 2048 4096 8192"} out=out/bench
plumb=$build/apps/plumb/plumb
threads=$(lscpu -p=core,socket | grep -v '^#' | sort -u | wc -l)
most_eager=${MOST_EAGER:-2048}
mkdir -p "$out"
python=${PEER_PYTHON:-build/peer/bin/python}
if [ -z "${PEER_PYTHON:-}" ] && ! tests/bench/setup_peer.sh build/peer >"$out/peer_setup.log" 2>&1; then
  echo "No peer to compare with ($(tail -n 1 "$out/peer_setup.log"))." >&2
  exit 0
fi
data/models/get smollm2-135m >/dev/null 2>&1 || { echo "No smollm2-135m to measure." >&2; exit 0; }
model=build/peer_models/smollm2-135m
[ -f "$model/model.safetensors" ] || "$plumb" convert smollm2-135m --out "$model" --quiet >/dev/null

runs=3
for length in $lengths; do
  [ "$length" -le 2048 ] || runs=1
  python3 -c "import json; print(json.dumps([[(7919 * n + 13) % 49152 for n in range($length)]]))" \
    >"$out/ids-$length.json"
  $python tests/bench/peer_long_context.py "$model" "$length" sdpa --runs $runs --threads "$threads" \
    >"$out/peer-long-sdpa-$length.json"
  for _ in $(seq $runs); do  # the last one stays
    "$plumb" sink "$model" --tokens "$out/ids-$length.json" --json --quiet --threads "$threads" \
      >"$out/plumb-long-$length.json"
  done
  rm -f "$out/peer-long-eager-$length.json"
  if [ "$length" -le "$most_eager" ]; then
    $python tests/bench/peer_long_context.py "$model" "$length" eager --runs $runs --threads "$threads" \
      >"$out/peer-long-eager-$length.json"
  fi
done
list() { for length in $lengths; do ls "$out/$1-$length.json" 2>/dev/null || true; done; }
# shellcheck disable=SC2046  # one word for each file
python3 tests/bench/compare_long_context.py "$(stat -c %s "$model/model.safetensors")" \
  $(list plumb-long) -- $(list peer-long-sdpa) $(list peer-long-eager)
