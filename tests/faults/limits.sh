#!/usr/bin/env bash
# limits.sh PROGRAM SOURCE WORK
#
# Full disks, truncated models, damaged archives and little memory: each ends with the exit code that docs/errors.md
# names and one line, or with the right result; never with a signal, and never with a damaged file taken for a good one.
set -uo pipefail
command -v h5diff >/dev/null || { echo 'skipped: h5diff is not here (apt install hdf5-tools)'; exit 77; }
export LC_ALL=C
# Whatever hangs is ended after two minutes, with exit code 124.
plumb=$(realpath "$1")
source=$(realpath "$2") work=$3
rm -rf "$work"
mkdir -p "$work"
work=$(realpath "$work")
program=$work/plumb
printf '#!/bin/sh\nexec timeout 120 "%s" "$@"\n' "$plumb" >"$program"
chmod +x "$program"
model=$source/data/models/llama/step-003000
tokens=$source/data/models/llama/held_out.json
trap '[ ! -d "$work/disk" ] || umount "$work/disk" 2>/dev/null' EXIT
failed=0 checked=0 skipped=0

# due CODES WHAT COMMAND...: the command ends with one of the codes, and where that is not 0 with one line of plumb's.
due() {
  local codes=$1 what=$2 code errors
  shift 2
  checked=$((checked + 1))
  "$@" >"$work/out" 2>"$work/err"
  code=$?
  errors=$(grep -c '^plumb: error: ' "$work/err")
  if ! grep -qw "$code" <<<"$codes" || { [ "$code" -ne 0 ] && [ "$errors" -ne 1 ]; }; then
    echo "$what: exit code $code where $codes is due; it said: $(tail -n 2 "$work/err")"
    failed=$((failed + 1))
  fi
}

# Full disks.
due 3 'standard output is full' bash -c "'$program' sink '$model' --tokens '$tokens' --quiet --json >/dev/full"
mkdir "$work/disk"
if mount -t tmpfs -o size=64k tmpfs "$work/disk" 2>/dev/null; then
  for size in 64k 256k 1m; do
    mount -o "remount,size=$size" "$work/disk"
    due '3 5' "record on a disk of $size" "$program" record "$model" --sites 'resid_post z pattern' --random 64,48 --quiet --out "$work/disk/r"
    [ ! -e "$work/disk/r/record.h5" ] || { echo "a full disk of $size left record.h5"; failed=$((failed + 1)); }
    rm -rf "${work:?}"/disk/*
    due 3 "train on a disk of $size" "$program" train --style llama --steps 4 --warm-up 1 --probe-every 0 --quiet --out "$work/disk/t"
    rm -rf "${work:?}"/disk/*
  done
  # The results of a job whose files do not fit are printed all the same.
  mount -o remount,size=16k "$work/disk"
  due '0 3' 'sink on a disk of 16k' "$program" sink "$model" --tokens "$tokens" --quiet --out "$work/disk/s"
  grep -q 'wave' "$work/out" || { echo "a full disk cost the result of plumb sink"; failed=$((failed + 1)); }
  umount "$work/disk"
else
  echo 'skipped: a small disk needs the right to mount one'
  skipped=$((skipped + 1))
fi

# Truncated models: every kind of file, at its ends and in between.
mkdir "$work/cut"
cp "$model"/* "$work/cut/"
size=$(stat -c %s "$model/model.safetensors")
for bytes in 0 1 7 8 100 $((size / 3)) $((size - 1)); do
  head -c "$bytes" "$model/model.safetensors" >"$work/cut/model.safetensors"
  due 3 "model.safetensors of $bytes bytes" "$program" sink "$work/cut" --random 2,8 --quiet
done
cp "$model/model.safetensors" "$work/cut/"
size=$(stat -c %s "$model/config.json")
for bytes in 0 1 $((size / 2)) $((size - 3)); do
  head -c "$bytes" "$model/config.json" >"$work/cut/config.json"
  due 3 "config.json of $bytes bytes" "$program" sink "$work/cut" --random 2,8 --quiet
done
gguf=$source/tests/golden/gguf/llama.gguf
size=$(stat -c %s "$gguf")
for bytes in 0 3 8 24 100 $((size / 2)) $((size - 1)); do
  head -c "$bytes" "$gguf" >"$work/cut/cut.gguf"
  due 3 "a GGUF file of $bytes bytes" "$program" sink "$work/cut/cut.gguf" --random 2,8 --quiet
done

# Damaged archives: a page is refused, or is that of the whole archive.
"$program" sink "$model" --tokens "$tokens" --quiet --out "$work/whole" >/dev/null 2>&1
"$program" report "$work/whole" >/dev/null 2>&1 || { echo 'no report of a whole archive'; failed=$((failed + 1)); }
mkdir "$work/damaged"
cp "$work/whole/sink.h5" "$work/damaged/"
"$program" report "$work/damaged" >/dev/null 2>&1
mv "$work/damaged/sink.html" "$work/right.html"
size=$(stat -c %s "$work/whole/sink.h5")
for part in 0 1 10 50 90 99; do
  head -c $((size * part / 100)) "$work/whole/sink.h5" >"$work/damaged/sink.h5"
  due 3 "sink.h5 cut at $part %" "$program" report "$work/damaged"
done
RANDOM=1
for _ in $(seq 24); do
  cp "$work/whole/sink.h5" "$work/damaged/sink.h5"
  at=$(((RANDOM * 32768 + RANDOM) % size))
  printf '\xff\x00\xff\x00' | dd of="$work/damaged/sink.h5" bs=1 seek="$at" conv=notrunc status=none
  rm -f "$work/damaged/sink.html"
  due '0 3 4' "sink.h5 with four wrong bytes at $at" "$program" report "$work/damaged"
  [ ! -e "$work/damaged/sink.html" ] || cmp -s "$work/right.html" "$work/damaged/sink.html" ||
    { echo "sink.h5 with four wrong bytes at $at: another page"; failed=$((failed + 1)); }
done

# A damaged file of finished tiles: refused, or the tiles that were hit are computed again.
"$program" pairs induction "$model" -n 12 --length 10 --quiet >"$work/pairs.jsonl"
patch() { "$program" patch "$model" --pairs "$work/pairs.jsonl" --sweep mlp_post:layer,neuron --threads 1 --quiet "$@"; }
patch --out "$work/patched" >/dev/null 2>&1
hit=0
for _ in $(seq 6); do
  rm -rf "$work/again"
  "$plumb" patch "$model" --pairs "$work/pairs.jsonl" --sweep mlp_post:layer,neuron --threads 1 --quiet --out "$work/again" \
    >/dev/null 2>&1 &
  pid=$!
  tiles=$work/again/patch.tiles.h5
  while kill -0 "$pid" 2>/dev/null && [ ! -s "$tiles" ]; do sleep 0.02; done
  sleep "0.$((RANDOM % 9))"
  kill -9 "$pid" 2>/dev/null
  wait "$pid" 2>/dev/null
  [ -s "$tiles" ] || continue # it was faster
  hit=$((hit + 1))
  size=$(stat -c %s "$tiles")
  for _ in 1 2 3 4 5 6 7 8; do
    at=$(((RANDOM * 32768 + RANDOM) % size))
    printf '\x5a\xa5' | dd of="$tiles" bs=1 seek="$at" conv=notrunc status=none
  done
  due '0 2 3' "patch.tiles.h5 with wrong bytes" patch --out "$work/again" --resume
  if [ -e "$work/again/patch.h5" ] && ! h5diff "$work/patched/patch.h5" "$work/again/patch.h5" /sweep >/dev/null; then
    echo 'damaged tiles were taken for good ones'
    failed=$((failed + 1))
  fi
done
echo "$hit unfinished runs were damaged."

# Little memory: --memory below what is needed, and a limit of the system's on all that the process may map.
due 5 '--memory 1M' "$program" sink "$model" --tokens "$tokens" --memory 1M --quiet
due 5 'patch --memory 1M' bash -c "'$program' pairs induction '$model' -n 4 --length 8 --quiet >'$work/pairs.jsonl' &&
  '$program' patch '$model' --pairs '$work/pairs.jsonl' --sweep z:layer,head --memory 1M --quiet"
"$program" sink "$model" --random 4,48 --threads 1 --quiet | grep -v 'token-layer' >"$work/unlimited" # that line tells seconds and memory
least=''
for kilobytes in 4000000 2000000 1500000 1300000 1200000 1100000 1000000 900000 800000 700000; do
  # Below this LibTorch cannot even be loaded, which no program can mend.
  { bash -c "ulimit -v $kilobytes; '$program' --version" >/dev/null 2>&1; } 2>/dev/null || break
  least=$kilobytes
  due '0 5' "ulimit -v $kilobytes" bash -c "ulimit -v $kilobytes; exec '$program' sink '$model' --random 4,48 --threads 1 --quiet"
  [ ! -s "$work/out" ] || grep -v 'token-layer' "$work/out" | cmp -s - "$work/unlimited" ||
    { echo "ulimit -v $kilobytes: another result"; failed=$((failed + 1)); }
done
echo "The program starts with as little as ${least:-more than 4000000} kB of address space (of the sizes tried)."

echo "$checked faults, $failed of them with a wrong end, $skipped kinds skipped."
[ "$failed" -eq 0 ]
