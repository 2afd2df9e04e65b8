#!/usr/bin/env bash
# kill.sh PROGRAM SOURCE WORK KILLS [SEED] [JOB...]
#
# Kills each long job (patch, paths, attribute, train, trace, record, p0; or those named) with SIGKILL at random
# moments, KILLS times, and calls it again, until it ends by itself; then again from the beginning, until there were
# enough kills. What an unbroken run leaves must be left to the bit; what is in place after a kill must be whole.
# Models are the bundled ones; one thread.
set -uo pipefail
command -v h5diff >/dev/null || { echo 'skipped: h5diff is not here (apt install hdf5-tools)'; exit 77; }
export LC_ALL=C
program=$(realpath "$1") source=$(realpath "$2") work=$3 kills=$4
RANDOM=${5:-1}
shift 4
[ $# -eq 0 ] || shift
jobs=("$@")
[ ${#jobs[@]} -gt 0 ] || jobs=(patch paths attribute train trace record p0)
rm -rf "$work"
mkdir -p "$work"
work=$(realpath "$work")
model=$source/data/models/llama/step-003000
steps=$source/data/models/llama
pairs=$work/pairs.jsonl
"$program" pairs induction "$model" -n 12 --length 10 --quiet >"$pairs" || exit 1

# The job into a directory; `again` where it is called a second time.
job() { # name, directory, again
  local go=()
  [ "$3" = again ] && go=(--resume)
  case $1 in
    patch) exec "$program" patch "$model" --pairs "$pairs" --sweep resid_pre:layer,position --sweep z:layer,position,head \
      --sweep mlp_post:layer,neuron --threads 1 --quiet --out "$2" "${go[@]}" ;;
    paths) exec "$program" patch "$model" --pairs "$pairs" --paths z:layer,head,position --receivers 'L2.q' --threads 1 \
      --quiet --out "$2" "${go[@]}" ;;
    attribute) exec "$program" attribute "$model" --pairs "$pairs" --method exact --threads 1 --quiet --out "$2" "${go[@]}" ;;
    train) exec "$program" train --style llama --steps 24 --warm-up 4 --save-every 3 --probe-every 8 --checkpoints every:8 \
      --quiet --out "$2" "${go[@]}" ;;
    trace) exec "$program" trace "$steps" --tokens "$steps/held_out.json" --threads 1 --quiet --out "$2" ;;
    record) exec "$program" record "$model" --sites 'resid_post z pattern logits' --random 256,48 --batch 8 --threads 1 \
      --quiet --out "$2" ;;
    p0) exec "$program" p0 "$model" --tokens "$steps/held_out.json" --no-random --threads 1 --quiet --out "$2" ;;
    *) echo "no job is called $1" >&2; exit 2 ;;
  esac
}

# The same results: of archives the datasets, as what else they hold tells when and how often the job was called.
same() { # name, directory, directory of the unbroken run; says what differs
  case $1 in
    patch | paths) h5diff "$3/patch.h5" "$2/patch.h5" /sweep && h5diff "$3/patch.h5" "$2/patch.h5" /inputs ;;
    attribute) h5diff "$3/attribute.h5" "$2/attribute.h5" /attribution && h5diff "$3/attribute.h5" "$2/attribute.h5" /inputs ;;
    train) diff -rq "$3" "$2" ;;
    trace) cmp "$3/trace.csv" "$2/trace.csv" && h5diff "$3/trace.h5" "$2/trace.h5" /trace ;;
    record) h5diff "$3/record.h5" "$2/record.h5" /activations && h5diff "$3/record.h5" "$2/record.h5" /inputs ;;
    p0) h5diff "$3/p0.h5" "$2/p0.h5" /p0 && h5diff "$3/p0.h5" "$2/p0.h5" /sink && cmp "$3/p0.dot" "$2/p0.dot" ;;
  esac
}
archive_of() {
  case $1 in
    patch | paths) echo patch.h5 ;;
    train) echo '' ;;
    *) echo "$1.h5" ;;
  esac
}

now() { date +%s%N; }
failed=0 all=0
for name in "${jobs[@]}"; do
  whole=$work/$name.whole run=$work/$name.run
  began=$(now)
  (job "$name" "$whole" first) >"$work/$name.log" 2>&1 || { echo "$name: the unbroken run failed:"; cat "$work/$name.log"; exit 1; }
  took=$((($(now) - began) / 1000000)) # milliseconds
  done=0 ends=0 wrong=0 calls=0
  while [ "$done" -lt "$kills" ] || [ "$ends" -eq 0 ]; do
    rm -rf "$run"
    again=first
    while :; do
      calls=$((calls + 1))
      (job "$name" "$run" "$again") >"$work/$name.log" 2>&1 &
      pid=$!
      if [ "$done" -lt "$kills" ]; then
        # Any moment of the job, and a little past it; RANDOM has 15 bits.
        pause=$((took * RANDOM / 32768 + 20))
        sleep "$(printf '%d.%03d' $((pause / 1000)) $((pause % 1000)))"
        kill -9 "$pid" 2>/dev/null
      fi
      wait "$pid" 2>/dev/null
      code=$?
      if [ "$code" -eq 137 ]; then
        done=$((done + 1))
        again=again
        # What stands under its final name is a whole archive of this job.
        archive=$(archive_of "$name")
        if [ -n "$archive" ] && [ -e "$run/$archive" ] && [ "$name" != trace ] && ! same "$name" "$run" "$whole" >"$work/$name.diff" 2>&1; then
          echo "$name: after kill $done $archive is there and is not that of the unbroken run:"
          tail -n 3 "$work/$name.diff"
          wrong=$((wrong + 1))
        fi
        continue
      fi
      if [ "$code" -ne 0 ]; then
        echo "$name: exit code $code after $done kills: $(tail -n 1 "$work/$name.log")"
        wrong=$((wrong + 1))
        break
      fi
      ends=$((ends + 1))
      if ! same "$name" "$run" "$whole" >"$work/$name.diff" 2>&1; then
        echo "$name: after $done kills its results are not those of the unbroken run:"
        tail -n 3 "$work/$name.diff"
        wrong=$((wrong + 1))
      fi
      left=$(find "$run" -name '*.tiles.h5' -o -name '.*' -type f | head -n 3)
      [ -z "$left" ] || { echo "$name: it left behind: $left"; wrong=$((wrong + 1)); }
      break
    done
    [ "$wrong" -lt 5 ] || break
  done
  echo "$name: $done kills in $calls calls, $ends ended and were compared, $wrong wrong (unbroken: $took ms)"
  all=$((all + done)) failed=$((failed + wrong))
done
echo "$all kills, $failed wrong results."
[ "$failed" -eq 0 ]
