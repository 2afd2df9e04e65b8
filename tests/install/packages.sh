#!/usr/bin/env bash
# tests/install/packages.sh BUILD: makes the Debian packages of a finished build, installs them in a fresh
# Debian that holds nothing else, and there runs the program and builds and runs a consumer of the
# library. Needs root, debootstrap and dpkg-dev, and takes some 3 GB
# and minutes; $MIRROR is a Debian mirror other than debootstrap's own.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$1
packages=$build/packages root=$build/fresh_debian
. /etc/os-release

rm -rf "$packages"
cpack --config "$build/CPackConfig.cmake" -B "$PWD/$packages" >/dev/null
ls -l "$packages"/*.deb

unmount() { umount "$root/proc" 2>/dev/null || true; }
trap unmount EXIT
rm -rf "$root"
debootstrap --variant=minbase "$VERSION_CODENAME" "$root" ${MIRROR:+"$MIRROR"} >/dev/null
mount -t proc proc "$root/proc"
cp "$packages"/*.deb "$root/tmp"
cp -r tests/install/consumer "$root/tmp/consumer"
inside() { chroot "$root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"; }

inside bash -c 'apt-get install -y -qq --no-install-recommends /tmp/plumb_*.deb >/tmp/log 2>&1 || { tail /tmp/log; exit 1; }'
inside plumb --version
inside plumb p0 planted --random 4,24 --quiet --out /tmp/p0 | head -n 12
inside test -s /tmp/p0/p0.h5
inside bash -c 'apt-get install -y -qq --no-install-recommends /tmp/libplumb-dev_*.deb cmake g++ make >/tmp/log 2>&1 || { tail /tmp/log; exit 1; }'
inside bash -c 'cmake -S /tmp/consumer -B /tmp/build >/tmp/log 2>&1 && cmake --build /tmp/build >>/tmp/log 2>&1 || { tail -n 30 /tmp/log; exit 1; }'
inside /tmp/build/consumer
unmount
rm -rf "$root"
echo "The packages install, run and build in a fresh Debian $VERSION_CODENAME."
