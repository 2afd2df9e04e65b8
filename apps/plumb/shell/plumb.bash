# Completions of `plumb` for bash: commands and flags as the program's own help names them.

_plumb_words() { # help page's words: of the commands, or of the flags and their choices
  local page
  page=$("${_plumb_program[@]}" "$@" --help 2>/dev/null) || return 0
  printf '%s\n' "$page" | sed -nE \
    -e 's/^  ([a-z][a-z0-9-]*) +[A-Z].*/\1/p' \
    -e 's/^  (-[a-z],)?(--[a-z0-9-]+).*/\2/p'
}

_plumb() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command='' group='' choices=''
  local _plumb_program=("${COMP_WORDS[0]}")
  COMPREPLY=()
  [ "$COMP_CWORD" -gt 1 ] && command=${COMP_WORDS[1]}
  # `circuit` has commands of its own.
  [ "$command" = circuit ] && [ "$COMP_CWORD" -gt 2 ] && group=${COMP_WORDS[2]}
  case $before in
    --out | --text-file | --tokens | --pairs | --circuit | --to) compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --*) # a flag with fixed values: "--bos none|native|ID"
      choices=$("${_plumb_program[@]}" ${command:+"$command"} ${group:+"$group"} --help 2>/dev/null |
        sed -nE "s/^  $before ([a-z0-9-]+(\\|[a-zA-Z0-9-]+)+).*/\\1/p" | tr '|' ' ')
      if [ -n "$choices" ]; then
        mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$word"); return
      fi ;;
  esac
  if [ -z "$command" ] || [[ $word == -* ]] || { [ "$command" = circuit ] && [ -z "$group" ]; }; then
    mapfile -t COMPREPLY < <(compgen -W "$(_plumb_words ${command:+"$command"} ${group:+"$group"})" -- "$word")
  else
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
  fi
}
complete -F _plumb plumb
