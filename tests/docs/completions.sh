#!/usr/bin/env bash
# completions.sh PROGRAM SOURCE: what bash offers behind `plumb ...` with apps/plumb/shell/plumb.bash sourced.
set -uo pipefail
export LC_ALL=C
program=$(realpath "$1") source=$(realpath "$2")
# shellcheck disable=SC1091
source "$source/apps/plumb/shell/plumb.bash"
failed=0

complete -p plumb | grep -q -- '-F _plumb' || { echo "no completion is registered for plumb"; exit 1; }

offered() { # words behind `plumb`, the last one unfinished
  COMP_WORDS=("$program" "$@")
  COMP_CWORD=$#
  COMPREPLY=()
  _plumb
  printf '%s\n' "${COMPREPLY[@]}" | sort
}
fail() { echo "$1"; failed=1; }
# expect WORD... => OFFERED...: these among what is offered.
expect() {
  local words=() got
  while [ "$1" != '=>' ]; do words+=("$1"); shift; done
  shift
  got=$(offered "${words[@]}")
  for wanted; do
    grep -qxF -- "$wanted" <<<"$got" || fail "plumb ${words[*]}<Tab> lacks '$wanted'; offered: $(tr '\n' ' ' <<<"$got")"
  done
}
# only WORD... => OFFERED...: these and no others.
only() {
  local words=() got wanted
  while [ "$1" != '=>' ]; do words+=("$1"); shift; done
  shift
  got=$(offered "${words[@]}")
  wanted=$(printf '%s\n' "$@" | sort)
  [ "$got" = "$wanted" ] || fail "plumb ${words[*]}<Tab> offers '$(tr '\n' ' ' <<<"$got")', not '$(tr '\n' ' ' <<<"$wanted")'"
}

# Every command that the help lists, and for each every flag of its help.
mapfile -t commands < <("$program" --help | sed -nE 's/^  ([a-z][a-z0-9-]*) +[A-Z].*/\1/p')
[ ${#commands[@]} -ge 10 ] || fail "the help lists only ${#commands[@]} commands"
expect '' '=>' "${commands[@]}"
for command in "${commands[@]}"; do
  [ "$command" = circuit ] && continue
  mapfile -t flags < <("$program" "$command" --help | sed -nE 's/^  (-[a-z],)?(--[a-z0-9-]+).*/\2/p')
  [ ${#flags[@]} -ge 2 ] || fail "plumb $command --help lists only ${#flags[@]} flags"
  expect "$command" -- '=>' "${flags[@]}"
done

only p0 --wave '=>' --wave-threshold
only pat '=>' patch
only patch --direction '' '=>' denoising noising
only patch --direction de '=>' denoising
expect circuit '' '=>' convert prune evaluate compare paths draw search
only circuit pru '=>' prune
expect circuit prune --t '=>' --to --top --threshold

# Files where no flag is being written.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/model"
touch "$work/model.gguf"
cd "$work" || exit 2
expect p0 mod '=>' model model.gguf
expect p0 --out mod '=>' model
[ "$failed" -eq 0 ] && echo "Completions of ${#commands[@]} commands and their flags are as the help names them."
exit "$failed"
