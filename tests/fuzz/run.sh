#!/bin/sh
# Runs fuzzers, one after the other: tests/fuzz/run.sh BUILD SECONDS [TARGET...]
# BUILD is a build of the preset `fuzz`. The corpus grows in BUILD/fuzz/<target>, where the next run
# finds it; what breaks a promise is left in BUILD/fuzz/<target>.found. To keep it, give it a name
# that says what it is and put it into tests/fuzz/corpus/<target>.
set -eu

[ $# -ge 2 ] || { sed -n 2,5p "$0" >&2; exit 2; }
build=$1
seconds=$2
shift 2
[ $# -gt 0 ] || set -- config index safetensors gguf tokenizer_json tokenizer_model \
  circuit_json eap_ig neuronpedia edge_pruning dot graphml pairs_jsonl pairs_csv expressions
here=$(cd "$(dirname "$0")" && pwd)
tests=$(dirname "$here")

# Files that other tests have anyway.
other_seeds() {
  case $1 in
    config) ls "$tests"/golden/*/config.json ;;
    gguf) find "$tests/golden/gguf" "$tests/data/tokenizers" -name '*.gguf' -size -24k ;;
    tokenizer_json) ls "$tests"/data/tokenizers/*/tokenizer.json ;;
    tokenizer_model) ls "$tests"/data/tokenizers/*/tokenizer.model ;;
  esac
}

failed=0
for target in "$@"; do
  corpus=$build/fuzz/$target
  found=$build/fuzz/$target.found
  mkdir -p "$corpus" "$found"
  for seed in $(other_seeds "$target"); do
    cp "$seed" "$corpus/$(echo "${seed#"$tests"/}" | tr / _)"
  done
  # 4 GB, most of it LibTorch and the sanitizers; 512 MB in one piece are far beyond what any accepted
  # input needs. An input may take ten seconds of the processor, which the fuzzer counts itself.
  "$build/tests/fuzz/${target}_fuzzer" "$corpus" "$here/corpus/$target" \
    -dict="$here/dict/$target.dict" -artifact_prefix="$found/" -max_total_time="$seconds" \
    -max_len=32768 -timeout=1200 -rss_limit_mb=4096 -malloc_limit_mb=512 -print_final_stats=1 \
    || failed=1
done
exit $failed
