#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Installs what a build of fulmen needs, and with --tests what its tests need.
#
#   tools/build/setup.sh [--tests]
#
# Distribution packages come through apt, and only those that are missing. The shader compiler, the Vulkan headers and
# volk go into .toolchain/ of this checkout: as links where the system's are new enough, else unpacked from a newer
# Debian (see toolchain.sh). Nothing outside the checkout changes but the packages named here. A second run finds
# nothing to do. On a system without apt it installs nothing, but says by name what is missing (by_hand.sh), and goes on
# when everything is there. All messages go to standard error.

set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
toolchain_dir=$root/.toolchain
with_tests=no

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}

for arg in "$@"; do
    case $arg in
    --tests) with_tests=yes ;;
    -h | --help)
        sed -n '/^# Installs what/,/^$/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *) die "unknown argument '$arg' (expected nothing or --tests)" ;;
    esac
done

with_apt=no
if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
    with_apt=yes
fi

# shellcheck source=tools/build/toolchain.sh
. "$here/toolchain.sh"
# shellcheck source=tools/build/by_hand.sh
. "$here/by_hand.sh"

build_packages=(gcc libc6-dev meson ninja-build pkg-config python3 libpcre2-dev libcjson-dev libutf8proc-dev libzip-dev
    libedit-dev libstb-dev mesa-vulkan-drivers libvulkan1 ca-certificates)
test_packages=(libcmocka-dev clang g++ valgrind)

# The packages of the arguments that are not installed, one a line. A package may be installed under another name that
# provides it (pkg-config is pkgconf on newer systems), hence the look at Provides.
missing_packages() {
    local installed
    installed=$(dpkg-query -W -f '${db:Status-Abbrev}|${Package}, ${Provides}\n' | sed -n 's/^ii *|//p' |
        sed 's/ *([^)]*)//g; s/:[a-z0-9]*//g; s/, */\n/g')
    grep -vxF "$installed" <<<"$(printf '%s\n' "$@")" || true
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "root is needed to install packages, and there is no sudo; as root: apt-get install ${wanted[*]}"
    fi
}

apt_lists_fresh=no
apt_update() {
    [ $apt_lists_fresh = no ] || return 0
    say "reading the package lists"
    as_root apt-get -qq update >&2 || say "warning: 'apt-get update' failed; going on with the lists that are there"
    apt_lists_fresh=yes
}

# Installs the missing ones of the packages named.
install_packages() {
    local wanted
    mapfile -t wanted < <(missing_packages "$@")
    [ ${#wanted[@]} -gt 0 ] || return 0
    apt_update
    say "installing ${wanted[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${wanted[@]}" \
        </dev/null >"$toolchain_dir/apt.log" 2>&1 || {
        tail -n 20 "$toolchain_dir/apt.log" >&2
        die "apt-get could not install: ${wanted[*]}"
    }
}

# clang's sanitizer and fuzzer run-times: one name for all versions, or one that carries the version's number (Ubuntu
# 24.04 has both); the compiler itself says whether they are there.
install_clang_runtime() {
    local version
    clang_runtime_works && return 0
    version=$(clang -dumpversion | cut -d. -f1)
    apt_update
    if apt-cache show "libclang-rt-$version-dev" >/dev/null 2>&1; then
        install_packages "libclang-rt-$version-dev"
    else
        install_packages libclang-rt-dev
    fi
    clang_runtime_works ||
        die "clang $(clang -dumpversion) cannot link -fsanitize=address,fuzzer (expected libclang-rt-dev)"
}

clang_runtime_works() {
    local file
    file=$(clang -print-file-name=libclang_rt.fuzzer-"$(uname -m)".a)
    [ -f "$file" ] || { [ -d "$(clang -print-resource-dir)/lib" ] &&
        [ -n "$(find -L "$(clang -print-resource-dir)/lib" -name 'libclang_rt.fuzzer*.a' -print -quit)" ]; }
}

# What the stamp must hold for nothing to be left to do: the script that fills .toolchain, and this system.
stamp_text() {
    {
        cat "$here/toolchain.sh"
        [ ! -f /etc/os-release ] || cat /etc/os-release
    } | sha256sum | cut -d' ' -f1
}

mkdir -p "$toolchain_dir"
exec 9>"$toolchain_dir/lock"
! command -v flock >/dev/null || flock 9

if [ $with_apt = no ]; then
    require_by_hand $with_tests
else
    install_packages "${build_packages[@]}"
    if [ $with_tests = yes ]; then
        install_packages "${test_packages[@]}"
        install_clang_runtime
    fi
fi

stamp=$toolchain_dir/stamp-build
if ! [ -f "$stamp" ] || [ "$(cat "$stamp")" != "$(stamp_text)" ]; then
    rm -f "$stamp"
    toolchain_setup_build
    stamp_text >"$stamp"
fi

stamp=$toolchain_dir/stamp-tests
if [ $with_tests = yes ] && { ! [ -f "$stamp" ] || [ "$(cat "$stamp")" != "$(stamp_text)" ]; }; then
    rm -f "$stamp"
    toolchain_setup_tests
    stamp_text >"$stamp"
fi
