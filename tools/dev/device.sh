#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Runs a program with one software device as the only Vulkan device.
#
#   tools/dev/device.sh NAME CMD...     NAME: swiftshader, lavapipe or lavapipe-cm
#   tools/dev/device.sh NAME --check    says whether the device is there: exit 0, or 77 and the reason
#
# Environment
#   FM_VALIDATION_DIR   an existing folder: the Khronos validation layer is on, and each program leaves its messages in
#                       a file there (an empty file: none). The layer says on standard output where: whoever reads a program's
#                       output drops that line (tests/support/cli_runner.py)
#   FM_KEEP_DRIVER      set: the driver stays mapped until the program ends, so that a leak report can name it
#   FM_TEST_DEVICE      set for CMD: NAME
#   FM_TEST_RUNNER      set for CMD: the command line, in a shell's quotes, with which it must start further programs, so that they too see
#                       only this device (a script cannot pass on the fetched loader that lavapipe-cm needs)

set -eu

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
toolchain=$root/.toolchain

usage() {
    echo "usage: device.sh swiftshader|lavapipe|lavapipe-cm CMD...|--check" >&2
    exit 2
}
missing() {
    echo "device.sh: $1" >&2
    exit 77
}

[ $# -ge 2 ] || usage
name=$1
shift
runner=()

case $name in
swiftshader | lavapipe | lavapipe-cm) driver=$toolchain/icd/$name.json ;;
*) usage ;;
esac
[[ $root != *:* ]] || missing "the path of the checkout, $root, has a colon, at which the Vulkan loader splits its lists"
[ -f "$driver" ] || missing "no $name here (expected $driver; tools/build/setup.sh --tests makes it)"
[ "$name" != lavapipe-cm ] || runner=("$toolchain/bin/with-lavapipe-cm")

if [ "$1" = --check ]; then
    exit 0
fi

# The layers of the desktop (overlays, device selection) have no part in a test.
unset VK_ICD_FILENAMES VK_ADD_DRIVER_FILES VK_INSTANCE_LAYERS
export VK_DRIVER_FILES=$driver VK_LOADER_LAYERS_DISABLE='~implicit~'
export FM_TEST_DEVICE=$name FM_TEST_RUNNER="'${root//\'/\'\\\'\'}/tools/dev/device.sh' $name"

if [ -n "${FM_KEEP_DRIVER:-}" ]; then
    LD_PRELOAD=$(sed -n 's/.*"library_path" *: *"\([^"]*\)".*/\1/p' "$driver")
    [[ $LD_PRELOAD != ../* ]] || LD_PRELOAD=$toolchain/icd/$LD_PRELOAD
    [[ $LD_PRELOAD != *[\ :]* ]] || missing "$LD_PRELOAD: the dynamic loader preloads no path with a space or a colon"
    export LD_PRELOAD
fi

if [ -n "${FM_VALIDATION_DIR:-}" ]; then
    [ -d "$FM_VALIDATION_DIR" ] || { echo "device.sh: FM_VALIDATION_DIR=$FM_VALIDATION_DIR is no folder" >&2; exit 2; }
    [ -f "$toolchain/layers/VkLayer_khronos_validation.json" ] || missing "no validation layer in $toolchain/layers"
    log=$(mktemp "$FM_VALIDATION_DIR/$(basename -- "$1").XXXXXX")
    {
        echo "khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG"
        echo "khronos_validation.report_flags = error,warn"
        echo "khronos_validation.log_filename = $log.log"
        echo "khronos_validation.enable_message_limit = true"
        echo "khronos_validation.duplicate_message_limit = 3"
    } >"$log.settings"
    rm "$log"
    export VK_LAYER_PATH=$toolchain/layers VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation
    export VK_LAYER_SETTINGS_PATH=$log.settings FULMEN_VALIDATE=1
    # The layer was fetched too, and wants the fetched C library on any device.
    [ ${#runner[@]} -gt 0 ] || runner=("$toolchain/bin/with-fetched-libs")
fi

exec "${runner[@]}" "$@"
