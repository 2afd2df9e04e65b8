#!/usr/bin/env bash
# failing_blocks.sh PROGRAM SOURCE WORK: run_blocks.sh fails where it must.
set -uo pipefail
program=$1 source=$2 work=$3
mkdir -p "$work"
work=$(realpath "$work")
failed=0

# A page of one block, with what stands before it.
page() { # name, comment, command
  printf '# %s\n\n%s\n```sh\n%s\n```\n' "$1" "$2" "$3" >"$work/$1.md"
}
outcome() { # name, code that is due, text that is due
  local said code
  said=$("$source/tests/docs/run_blocks.sh" "$program" "$source" "$work/run" "$work/$1.md" 2>&1)
  code=$?
  if [ "$code" -ne "$2" ] || ! grep -qE -- "$3" <<<"$said"; then
    echo "$1: exit code $code where $2 is due with '$3'; it said:"
    echo "$said"
    failed=1
  fi
}
page good '<!-- test: gives: ^plumb [0-9] -->' 'plumb --version'
outcome good 0 '^1 blocks ran'
page wrong_flag '' 'plumb inspect path/to/model --no-such-flag'
outcome wrong_flag 1 'exit code 2'
page within_a_pipe '' 'plumb inspect no/such/model | cat'
outcome within_a_pipe 1 'exit code 3'
page first_of_two '' "$(printf 'false\ntrue')"
outcome first_of_two 1 'exit code 1'
page other_output '<!-- test: gives: no such words -->' 'plumb --version'
outcome other_output 1 "lacks 'no such words'"
page unknown_comment '<!-- test: ignore: it -->' 'true'
outcome unknown_comment 1 'unknown comment'
page all_skipped '<!-- test: skip: of a reason -->' 'true'
outcome all_skipped 1 'of a reason'
printf '# none\n' >"$work/none.md"
outcome none 1 'it has no sh block'
[ "$failed" -eq 0 ] && echo "Blocks that fail are noticed, and those that do not run."
exit "$failed"
