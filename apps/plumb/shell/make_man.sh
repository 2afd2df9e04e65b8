#!/bin/sh
# make_man.sh PROGRAM: the manual page of plumb, from the program's own help, to standard output.
set -eu
program=$1
version=$("$program" --version | sed 's/^plumb //')

escape() { sed -e 's/\\/\\e/g' -e 's/-/\\-/g' -e "s/^\\([.']\\)/\\\\\\&\\1/"; }
verbatim() { printf '.nf\n'; escape; printf '.fi\n'; }
commands_of() { "$program" "$@" --help | sed -nE 's/^  ([a-z][a-z0-9-]*) +[A-Z].*/\1/p'; }

page=$("$program" --help)
printf '.TH PLUMB 1 "" "plumb %s" "User Commands"\n' "$version"
printf '.SH NAME\nplumb \\- trace circuits in decoder\\-only language models\n'
printf '.SH SYNOPSIS\n.B plumb\n.I COMMAND\n[MODEL] [FLAGS]\n'
printf '.SH DESCRIPTION\n'
printf '%s\n' "$page" | verbatim
for command in $(commands_of); do
  printf '.SH %s\n' "$(printf '%s' "plumb $command" | tr '[:lower:]' '[:upper:]' | escape)"
  "$program" "$command" --help | verbatim
  for group in $(commands_of "$command"); do
    printf '.SS plumb %s %s\n' "$command" "$(printf '%s' "$group" | escape)"
    "$program" "$command" "$group" --help | verbatim
  done
done
printf '.SH EXIT STATUS\n'
printf '0: done. 1: a defect of plumb. 2: a wrong argument. 3: a file missing, damaged or not writable.\n'
printf '4: well formed but not supported. 5: too large for the memory or the disk. 6: stopped, can be resumed.\n'
printf '130, 143: stopped by a signal.\n'
