#!/usr/bin/env bash
# run_blocks.sh PROGRAM SOURCE WORK PAGE...
#
# Runs every ```sh block of the pages as a reader would paste it: in order, the blocks of a page in one directory
# that has `data` and the program on its path. In place of a model that a reader brings or fetches stands a
# small one (make_model.sh; or PLUMB_DOCS_MODEL=PATH). A block that fails, or a page without blocks, fails the test.
#
# Blocks that run a script of tests/acceptance, tests/bench or tests/golden need Python environments of gigabytes, and are
# skipped. A comment before a block, which no reader sees, says what is particular about it:
#   <!-- test: skip: REASON -->       it is not run, and the reason is printed
#   <!-- test: first: COMMAND -->     this is run before it: what earlier work of the reader left there
#   <!-- test: change: SED -->        it is run after this change (sed -E): a smaller size, a block that the small model has
#   <!-- test: gives: PATTERN -->     its output must hold this (grep -E)
set -uo pipefail
export LC_ALL=C
program=$(realpath "$1") source=$(realpath "$2") work=$3
shift 3
here=$source/tests/docs
limit=${PLUMB_DOCS_LIMIT:-600} # seconds for a block

rm -rf "$work"
mkdir -p "$work/bin"
work=$(realpath "$work")
ln -s "$program" "$work/bin/plumb"
export PATH="$work/bin:$PATH"
export PLUMB_MODELS=$work/none # nothing that happens to have been fetched
model=${PLUMB_DOCS_MODEL:-}
if [ -z "$model" ]; then
  model=$work/model
  "$here/make_model.sh" "$program" "$model" >"$work/model.log" 2>&1 || { cat "$work/model.log"; exit 1; }
fi

# What a reader would put there himself.
as_here() {
  sed -E "s#(path/to/model|path/to/405b|smollm2-135m|\bMODEL\b)#$model#g"
}

# The blocks of a page, each in a file NUMBER.sh with NUMBER.line and its comments beside it; the last line
# of output is their number.
split_page() { # page, directory
  awk -v dir="$2" '
    function take(name, text) { print text > (dir "/" n + 1 "." name); close(dir "/" n + 1 "." name) }
    !block && match($0, /^<!-- test: [a-z]+: .* -->$/) {
      what = $3; sub(/:$/, "", what)
      text = $0; sub(/^<!-- test: [a-z]+: /, "", text); sub(/ -->$/, "", text)
      if (what !~ /^(skip|first|change|gives)$/) { print "unknown comment: " $0 > "/dev/stderr"; exit 1 }
      take(what, text); told = 1; next
    }
    !block && /^```sh$/ { block = 1; told = 0; n++; printf "%d\n", NR > (dir "/" n ".line"); next }
    !block && told && !/^$/ { print "line " NR ": a test comment stands before no block" > "/dev/stderr"; exit 1 }
    block && /^```$/ { block = 0; close(dir "/" n ".sh"); next }
    block { print > (dir "/" n ".sh") }
    END { print n + 0 }' "$1"
}

run=0 skipped=0 failed=0
for page in "$@"; do
  name=${page#"$source"/}
  blocks=$work/blocks/$name
  place=$work/at/$name
  mkdir -p "$blocks" "$place"
  ln -s "$source/data" "$place/data"
  mkdir -p "$place/build/release/apps/plumb"
  ln -s "$program" "$place/build/release/apps/plumb/plumb"
  count=$(split_page "$page" "$blocks") || { echo "$name: cannot be read"; failed=$((failed + 1)); continue; }
  if [ "$count" -eq 0 ]; then
    echo "FAILED   $name: it has no sh block"
    failed=$((failed + 1))
  fi
  for ((n = 1; n <= count; ++n)); do
    block=$blocks/$n
    at="$name:$(cat "$block.line")"
    if [ -f "$block.skip" ]; then
      echo "skipped  $at: $(cat "$block.skip")"
      skipped=$((skipped + 1))
      continue
    fi
    change=''
    [ ! -f "$block.change" ] || change=$(cat "$block.change")
    { echo 'set -euo pipefail'; [ ! -f "$block.first" ] || as_here <"$block.first"; as_here <"$block.sh" | sed -E "$change"; } >"$block.run"
    if grep -qE 'tests/(acceptance|bench|golden)/' "$block.sh"; then
      echo "skipped  $at: it needs the reference libraries"
      skipped=$((skipped + 1))
      continue
    fi
    began=$SECONDS
    (cd "$place" && timeout "$limit" bash "$block.run") >"$block.out" 2>&1
    code=$?
    if [ "$code" -ne 0 ]; then
      echo "FAILED   $at: exit code $code; its output ends:"
      tail -n 12 "$block.out" | sed 's/^/    /'
      failed=$((failed + 1))
    elif [ -f "$block.gives" ] && ! grep -qE -- "$(cat "$block.gives")" "$block.out"; then
      echo "FAILED   $at: its output lacks '$(cat "$block.gives")'; it ends:"
      tail -n 12 "$block.out" | sed 's/^/    /'
      failed=$((failed + 1))
    else
      echo "ran      $at ($((SECONDS - began)) s)"
      run=$((run + 1))
    fi
  done
done
echo "$run blocks ran, $skipped were skipped, $failed failed."
[ "$failed" -eq 0 ] && [ "$run" -gt 0 ]
