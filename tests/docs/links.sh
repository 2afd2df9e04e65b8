#!/usr/bin/env bash
# links.sh SOURCE: every relative link of every page leads to a file that is there, and its #anchor to a heading.
set -uo pipefail
export LC_ALL=C.UTF-8
cd "$1" || exit 2

pages() {
  find . \( -path ./build -o -path ./out -o -path ./.git \) -prune -o -name '*.md' -print | sed 's#^\./##' | sort
}

# A page's headings as GitHub names them, and without code blocks its links: "LINE TARGET".
anchors() {
  awk '/^```/ { code = !code } !code && /^#+ / {
    sub(/^#+ /, ""); text = tolower($0); gsub(/[^a-z0-9 _-]/, "", text); gsub(/ /, "-", text)
    print seen[text]++ ? text "-" seen[text] - 1 : text }' "$1"
}
links() {
  awk '/^```/ { code = !code } !code {
    rest = $0; gsub(/`[^`]*`/, "", rest)
    while (match(rest, /\]\([^)]*\)/)) {
      print NR " " substr(rest, RSTART + 2, RLENGTH - 3)
      rest = substr(rest, RSTART + RLENGTH)
    } }' "$1"
}

checked=0 broken=0
while read -r page; do
  while read -r line target; do
    case $target in http:* | https:* | mailto:*) continue ;; esac
    checked=$((checked + 1))
    path=${target%%#*} anchor=''
    [[ $target == *#* ]] && anchor=${target#*#}
    file=$page
    [ -z "$path" ] || file=$(dirname "$page")/$path
    if [ ! -e "$file" ]; then
      echo "$page:$line: $target leads nowhere"
      broken=$((broken + 1))
    elif [ -n "$anchor" ] && ! anchors "$file" | grep -qxF -- "$anchor"; then
      echo "$page:$line: $path has no heading #$anchor"
      broken=$((broken + 1))
    fi
  done < <(links "$page")
done < <(pages)
echo "$checked relative links, $broken of them broken."
[ "$broken" -eq 0 ] && [ "$checked" -gt 0 ]
