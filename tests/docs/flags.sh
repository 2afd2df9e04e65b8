#!/usr/bin/env bash
# flags.sh PROGRAM SOURCE: every command and flag that a page names is one that the program knows.
#
# Read are code blocks, and code spans that begin with the program. In `plumb COMMAND ... --flag` the flag must stand in that command's --help (of
# `inspect --plan NAME` also in NAME's); in a span of the guide that begins with a flag, in some command's.
set -uo pipefail
export LC_ALL=C
program=$(realpath "$1")
cd "$2" || exit 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

commands_of() { "$program" "$@" --help | sed -nE 's/^  ([a-z][a-z0-9-]*) +[A-Z].*/\1/p'; }
flags_of() { "$program" "$@" --help | sed -nE 's/^  ((-[a-z],)?--[a-z0-9-]+).*/\1/p' | tr ',' '\n' | sort -u; }

# One file for each command, and of `circuit` for each group: the flags of its help.
for command in $(commands_of); do
  flags_of "$command" >"$work/$command"
  if [ "$command" = circuit ]; then
    for group in $(commands_of circuit); do flags_of circuit "$group" >"$work/circuit $group"; done
  fi
done
cat "$work"/* | sort -u >"$work.all"
trap 'rm -rf "$work" "$work.all"' EXIT

# "PAGE:LINE|COMMAND|PLAN|FLAG" for each flag behind `plumb COMMAND`, COMMAND alone where there is none.
uses() {
  awk '
    function tell(words, n, i, j, command, plan) {
      for (i = 1; i < n; ++i) {
        if (words[i] !~ /(^|\/)plumb$/ || words[i + 1] !~ /^[a-z][a-z0-9]+$/) continue
        command = words[i + 1]
        j = i + 2
        if (command == "circuit" && words[j] ~ /^[a-z]+$/) command = command " " words[j++]
        plan = ""
        print FILENAME ":" FNR "|" command "||"
        for (; j <= n && words[j] !~ /^(#|[|]|>|&&|;)/; ++j) {
          if (words[j] == "--plan") plan = words[j + 1]
          if (words[j] !~ /^--?[a-z]/) continue
          sub(/[=,.;:)].*$/, "", words[j])
          print FILENAME ":" FNR "|" command "|" plan "|" words[j]
        }
      }
    }
    function read(text, words, n) { n = split(text, words, " "); tell(words, n) }
    FNR == 1 { code = 0; held = "" }
    /^```/ { code = !code; next }
    code {
      if (sub(/\\$/, "")) { held = held $0 " "; next }
      sub(/^\$ /, ""); read(held $0); held = ""; next
    }
    {
      rest = held $0; held = ""
      while (match(rest, /`[^`]*`/)) {
        span = substr(rest, RSTART + 1, RLENGTH - 2)
        if (span ~ /^--[a-z]/ && FILENAME ~ /^docs\/guide\//) {
          split(span, first, /[ =\/|]/); print FILENAME ":" FNR "|||" first[1]
        } else if (span ~ /^([^ ]*\/)?plumb /) read(span)
        rest = substr(rest, RSTART + RLENGTH)
      }
      if (index(rest, "`")) held = rest " "   # a span that goes on in the next line
    }' "$@"
}

checked=0 wrong=0
complain() { echo "$1"; wrong=$((wrong + 1)); }
mapfile -t pages < <(find . \( -path ./build -o -path ./out -o -path ./.git \) -prune -o -name '*.md' ! -name CHANGELOG.md -print |
  sed 's#^\./##' | sort)
while IFS='|' read -r at command plan flag; do
  checked=$((checked + 1))
  if [ -z "$command" ]; then
    grep -qxF -- "$flag" "$work.all" || complain "$at: no command has the flag $flag"
  elif [ ! -f "$work/$command" ]; then
    complain "$at: there is no plumb $command"
  elif [ -n "$flag" ] && [ "$flag" != --help ]; then
    known=("$work/$command")
    [ -n "$plan" ] && for name in ${plan//|/ }; do [ -f "$work/$name" ] && known+=("$work/$name"); done
    cat "${known[@]}" | grep -qxF -- "$flag" ||
      complain "$at: plumb $command has no flag $flag"
  fi
done < <(uses "${pages[@]}")
echo "$checked mentions of commands and flags, $wrong of them unknown to the program."
[ "$wrong" -eq 0 ] && [ "$checked" -gt 0 ]
