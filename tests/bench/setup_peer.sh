#!/bin/sh
# Makes the Python environment of the peer measurements: tests/bench/setup_peer.sh [DIR [patching]]
# With "patching" TransformerLens and nnsight come along.
# DIR is build/peer by default. Does nothing if it is there and complete. The torch wheel brings
# its accelerator libraries along: count on 6 GB of disk.
set -eu

dir=${1:-"$(dirname "$0")/../../build/peer"}
packages="torch==2.15.0 transformers==5.23.0 numpy==2.4.6 safetensors==0.8.0"
[ "${2:-}" != patching ] || packages="$packages transformer-lens==4.3.0 nnsight==0.8.1"
stamp="$dir/.packages"

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$packages" ]; then
  exit 0
fi
python3 -m venv "$dir"
# shellcheck disable=SC2086  # one word for each package
"$dir/bin/pip" install --quiet --disable-pip-version-check $packages
echo "$packages" >"$stamp"
echo "$dir/bin/python"
