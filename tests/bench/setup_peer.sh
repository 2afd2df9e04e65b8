#!/bin/sh
# Makes the Python environment of the peer measurements:
#   tests/bench/setup_peer.sh [DIR [patching|edges]]
# DIR is build/peer by default. With "patching" TransformerLens and nnsight come along; with "edges"
# the last TransformerLens that EAP-IG's package runs on, and that package, from its repository or
# from the checkout that EAP_IG names (at 795f560). Does nothing if DIR is there and complete. The
# torch wheel brings its accelerator libraries along: count on 6 GB of disk.
set -eu

dir=${1:-"$(dirname "$0")/../../build/peer"}
packages="torch==2.15.0 transformers==5.23.0 numpy==2.4.6 safetensors==0.8.0"
alone=
case ${2:-} in
  patching) packages="$packages transformer-lens==4.3.0 nnsight==0.8.1" ;;
  edges)
    packages="$packages transformer-lens==3.9.0 matplotlib"
    alone=${EAP_IG:-"git+https://github.com/hannamw/EAP-IG@795f560"}
    ;;
esac
stamp="$dir/.packages"

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$packages $alone" ]; then
  exit 0
fi
python3 -m venv "$dir"
# shellcheck disable=SC2086  # one word for each package
"$dir/bin/pip" install --quiet --disable-pip-version-check $packages
[ -z "$alone" ] || "$dir/bin/pip" install --quiet --disable-pip-version-check --no-deps "$alone"
echo "$packages $alone" >"$stamp"
echo "$dir/bin/python"
