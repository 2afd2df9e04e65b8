#!/usr/bin/env bash
# tests/bench/run.sh BUILD: times plain forward passes of plumb and, where its Python environment can
# be made, of the peer on the same weights directly before. Results in out/bench/, a table on stdout.
set -euo pipefail
cd "$(dirname "$0")/../.."

build=$1 out=out/bench
threads=$(lscpu -p=core,socket | grep -v '^#' | sort -u | wc -l)
mkdir -p "$out"
forward=$build/tests/bench/plumb_bench_forward

compare() { # model, shapes...
  local model=$1
  shift
  build/peer/bin/python tests/bench/peer_forward.py --threads "$threads" --model "$model" \
    --save build/peer_models >"$out/peer-$model.json"
  "$forward" "build/peer_models/$model" "$@" --threads "$threads" >"$out/plumb-$model.json"
  python3 - "$out/peer-$model.json" "$out/plumb-$model.json" <<'PY'
import json, sys
peer, ours = (json.load(open(name))["results"] for name in sys.argv[1:])
for a, b in zip(peer, ours):
    shape = f"{a['batch']}x{a['length']}"
    if (shape, a["check"]["argmax"]) != (f"{b['batch']}x{b['length']}", b["check"]["argmax"]) or any(
            abs(x - y) > 1e-4 for x, y in zip(a["check"]["logits"], b["check"]["logits"])):
        sys.exit(f"{a['model']} {shape}: the two did not compute the same: {a['check']} {b['check']}")
    print(f"{a['model']:14} {shape:>7}   peer {a['median_s']:.3f} s   plumb {b['median_s']:.3f} s"
          f"   ratio {b['median_s'] / a['median_s']:.2f}")
PY
}

patched() { # model directory, name, shapes...
  local model=$1 name=$2
  shift 2
  "$forward" "$model" "$@" --threads "$threads" --patched >"$out/plumb-patched-$name.json" 2>/dev/null
  python3 - "$out/plumb-patched-$name.json" <<'PY'
import json, sys
for result in json.load(open(sys.argv[1]))["results"]:
    ratios = "  ".join(f"{site} {one['ratio']:.3f}" for site, one in result["patched"].items())
    print(f"{result['model']:14} {result['batch']}x{result['length']}   one value patched / plain: {ratios}")
PY
}

if tests/bench/setup_peer.sh build/peer >"$out/peer_setup.log" 2>&1; then
  compare gpt2-small 8x15 1x1024
  compare smollm2-135m 4x16 8x128
  patched build/peer_models/gpt2-small gpt2-small 8x15
else
  echo "No peer to compare with ($(tail -n 1 "$out/peer_setup.log")); timing plumb alone." >&2
  "$forward" "$(data/models/get smollm2-135m)" 4x16 8x128 --threads "$threads" |
    tee "$out/plumb-smollm2-135m.json"
  patched "$(data/models/get smollm2-135m)" smollm2-135m 4x16
fi
