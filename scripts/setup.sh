#!/usr/bin/env bash
# Installs the Debian packages that building, testing and the demonstration need and that are
# missing here. Quick when nothing is.
set -euo pipefail

packages=(
  g++ cmake ninja-build ccache git
  libtorch-dev libopenblas0-pthread # LibTorch, and the BLAS that makes it ten times faster
  libboost-graph-dev libfmt-dev libhdf5-dev nlohmann-json3-dev libpcre2-dev libutf8proc-dev
  libssl-dev
  libcli11-dev
  libopenmpi-dev openmpi-bin  # long experiments shared among processes
  libgtest-dev libbenchmark-dev
  graphviz hdf5-tools        # draw a circuit, look into an archive
  python3 python3-pip        # only to fetch a model, and for the test of the report
  chromium                   # the report is tried in it
)

fail() {
  echo "setup: $1" >&2
  exit 1
}

command -v dpkg-query >/dev/null ||
  fail "this is not a Debian system; install the equivalents of: ${packages[*]}"

installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null |
  awk '$1 == "installed" { print $2 }') || true
missing=()
for package in "${packages[@]}"; do
  grep -qxF -- "$package" <<<"$installed" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "setup: installing ${missing[*]}" >&2
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null ||
    fail "needs root; run as root: apt-get install --no-install-recommends ${missing[*]}"
  as_root=(sudo)
fi
install() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$log" 2>&1
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The package lists of a fresh machine may be absent or old: try, refresh, try again.
install || { "${as_root[@]}" apt-get update -qq >"$log" 2>&1 && install; } || {
  tail -n 5 "$log" >&2
  fail "could not install ${missing[*]} (no network, or no permission?)"
}
