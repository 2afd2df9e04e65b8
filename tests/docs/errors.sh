#!/usr/bin/env bash
# errors.sh SOURCE: every error that docs/troubleshooting.md quotes is a text of the program's sources.
#
# A quotation is a heading `### `TEXT``, in which `…` stands for what differs from case to case. What lies between
# must stand in one source file, in this order, once neighbouring string literals are joined.
set -uo pipefail
export LC_ALL=C
cd "$1" || exit 2
page=docs/troubleshooting.md

awk -v page="$page" '
  FILENAME == page {
    if (/^### `.*`$/) { quoted[++quotes] = substr($0, 6, length($0) - 6); line[quotes] = FNR }
    next
  }
  FNR == 1 { file++; text[file] = "" }
  { sub(/^[ \t]+/, ""); text[file] = text[file] $0 " " }
  END {
    for (f = 1; f <= file; ++f) {
      gsub(/" "/, "", text[f]); gsub(/\\"/, "\"", text[f])
    }
    for (q = 1; q <= quotes; ++q) {
      parts = split(quoted[q], part, "…")
      found = 0
      for (f = 1; f <= file && !found; ++f) {
        rest = text[f]; all = 1; letters = 0
        for (p = 1; p <= parts && all; ++p) {
          if (part[p] == "") continue
          letters += length(part[p])
          at = index(rest, part[p])
          if (at == 0) all = 0
          else rest = substr(rest, at + length(part[p]))
        }
        found = all && letters >= 12
      }
      if (!found) { print page ":" line[q] ": no source says: " quoted[q]; wrong++ }
    }
    printf "%d errors are quoted, %d of them stand in no source.\n", quotes, wrong
    exit wrong > 0 || quotes == 0
  }' "$page" $(find lib apps include -name '*.cpp' -o -name '*.h' | sort)
