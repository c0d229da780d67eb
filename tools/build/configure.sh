#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Makes a build folder ready for ninja.
#
#   tools/build/configure.sh BUILD [OPTION...]     BUILD: the folder; OPTION: of meson setup, for a folder that is new
#
# A folder that is there stays as it is, unless the checkout or the folder has been moved or copied since: meson keeps absolute
# paths, so it is then set up anew with the options that it had, and loses all but the compiled shaders.

set -euo pipefail

[ $# -ge 1 ] || { sed -n '4,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
mkdir -p -- "$1"
build=$(CDPATH='' cd -- "$1" && pwd -P)
shift

# Whether meson set the folder up for this checkout, in this place.
is_in_place() {
    python3 - "$root" "$build" <<'PYTHON'
import json, os, sys
try:
    with open(os.path.join(sys.argv[2], "meson-info/meson-info.json"), encoding="utf-8") as file:
        places = json.load(file)["directories"]
    sys.exit([os.path.realpath(places[key]) for key in ("source", "build")] != sys.argv[1:])
except (OSError, ValueError, KeyError):
    sys.exit(1)
PYTHON
}

if ! [ -f "$build/build.ninja" ]; then
    exec meson setup "$build" "$root" "$@"
fi
if is_in_place; then
    exit 0
fi
[ -f "$build/meson-private/cmd_line.txt" ] || {
    echo "configure.sh: $build was not set up by meson for $root, and is not to be emptied; name another build folder" >&2
    exit 1
}
echo "configure.sh: $build was made for another place; setting it up anew" >&2
shaders=$build/shaders/spirv-cache
kept=$(mktemp -d "$build.kept.XXXXXX")
put_back() {
    [ ! -d "$kept/spirv-cache" ] || { mkdir -p -- "$build/shaders" && mv -- "$kept/spirv-cache" "$build/shaders/"; }
    rmdir -- "$kept"
}
trap put_back EXIT
trap 'exit 130' INT TERM HUP
[ ! -d "$shaders" ] || mv -- "$shaders" "$kept/"
meson setup --wipe "$build" "$root"
