#!/usr/bin/env bash
# Install the core in an emulated arm64 Debian, run its unit tests there, and compare the labels of
# the bundled models with this machine's. The folder is kept, so that the next run is shorter.
# Mounts, processes and the registration of qemu live in namespaces and end with them.
set -euo pipefail
cd "$(dirname "$0")/.."

HERE=out/arm
ROOT=$PWD/$HERE/root
SUITE=bookworm
PACKAGES=python3-venv,ca-certificates,coreutils,dash,libc-bin,libstdc++6
MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
PYTHON=${1:?the Python of this machine that has the package, as make test-arm gives it}
# The first 20 bytes of an aarch64 ELF file, and which of their bits count.
MAGIC='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
MASK='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'

refuse() { echo "test-arm: $*" >&2; exit 2; }

check_tools() {
    [ "$(id -u)" = 0 ] || refuse "needs root to make a Debian and enter it: sudo make test-arm"
    local missing=()
    command -v git >/dev/null || missing+=(git)
    command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
    QEMU=$(command -v qemu-aarch64-static) || missing+=(qemu-user-static)
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)
    [ ${#missing[@]} = 0 ] || refuse "missing; sudo apt install ${missing[*]}"
    [ -x "$PYTHON" ] || refuse "no $PYTHON; set it up, not as root: make .venv/.demo"
}

# Unpacked packages are enough for Python: no script of theirs runs, so this needs no emulation.
make_root() {
    [ -e "$ROOT/.complete" ] && return
    rm -rf "$ROOT"
    mkdir -p "$HERE"
    mmdebstrap --quiet --variant=extract --architectures=arm64 --include="$PACKAGES" \
        "$SUITE" "$ROOT" "$MIRROR"
    mkdir -p "$ROOT"/{dev,proc,root,etc/ssl/certs}
    touch "$ROOT/.complete"
}

# What is in the tree, committed or not.
copy_source() {
    rm -rf "$ROOT/src"
    mkdir "$ROOT/src"
    git ls-files --cached --others --exclude-standard -z |
        tar --create --null --files-from - --ignore-failed-read |
        tar --extract --directory "$ROOT/src"
}

# Runs as process 1 of its own namespaces. A machine with qemu registered by apt's binfmt-support
# needs no registration; else Linux 6.7 and newer take one for this user namespace alone.
enter() {
    if ! grep -qs '^flags:.*F' /proc/sys/fs/binfmt_misc/qemu-aarch64; then
        { mount -t binfmt_misc none /proc/sys/fs/binfmt_misc &&
            printf ':seg-arm64:M::%s:%s:%s:F' "$MAGIC" "$MASK" "$QEMU" \
                >/proc/sys/fs/binfmt_misc/register; } ||
            refuse "Linux $(uname -r) has no binfmt_misc of a user namespace (6.7 has); register" \
                "qemu for the machine: sudo apt install --reinstall binfmt-support qemu-user-static"
    fi
    mount --rbind /dev "$ROOT/dev"
    mount -t proc proc "$ROOT/proc"
    mount --bind /etc/ssl/certs "$ROOT/etc/ssl/certs" # packages come through this machine's network
    cp /etc/resolv.conf "$ROOT/etc/resolv.conf"
    # No /sys: ONNX Runtime falls over this machine's processors there; without, it asks the kernel.
    export QEMU_CPU=cortex-a76
    exec chroot "$ROOT" /bin/sh -eu /src/test/arm_inside.sh
}

if [ "${2:-}" = inside ]; then
    enter
fi
check_tools
make_root
copy_source
rm -rf "$ROOT/labels"
PYTHONPATH=$PWD "$PYTHON" test/arm_labels.py write "$ROOT/labels"
export QEMU
unshare --user --map-root-user --mount --pid --fork --kill-child "$0" "$PYTHON" inside
