#!/usr/bin/env bash
# docs/make_api.sh OUT: the reference of include/plumb in OUT/html. Any warning of Doxygen's is an error. Exit code 77
# where there is no Doxygen.
set -euo pipefail
doxygen=${PLUMB_DOXYGEN:-doxygen}
command -v "$doxygen" >/dev/null || { echo "no Doxygen here: apt install doxygen"; exit 77; }
mkdir -p "$1"
PLUMB_API=$(realpath "$1")
export PLUMB_API
cd "$(dirname "$0")/.."
PLUMB_VERSION=$(sed -nE 's/.*define PLUMB_VERSION_[A-Z]+ ([0-9]+)/\1/p' include/plumb/version.h | paste -sd.)
export PLUMB_VERSION
"$doxygen" docs/Doxyfile
pages=$(find "$PLUMB_API/html" -name '*.html' | wc -l)
headers=$(find include/plumb -name '*.h' | wc -l)
[ "$pages" -gt "$headers" ] || { echo "only $pages pages for $headers headers"; exit 1; }
echo "$pages pages of $headers headers, without a warning: $PLUMB_API/html/index.html"
