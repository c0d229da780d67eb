#!/bin/bash
# SPDX-License-Identifier: MIT
#
# For systems without apt: says what a build, or the tests, lack, by the names that its authors gave it. Sourced by setup.sh
# after toolchain.sh.

missing_by_hand=()

# need WHAT COMMAND...: notes WHAT as missing if the command fails.
need() {
    local what=$1
    shift
    "$@" >/dev/null 2>&1 || missing_by_hand+=("$what")
}

need_program() { need "program $1${2:+ ($2)}" command -v "$1"; }
need_module() { need "library $2 with its headers (pkg-config module $1)" pkg-config --exists "$1"; }

program_version_at_least() { version_at_least "$("$1" --version 2>/dev/null | sed -n '1s/[^0-9]*\([0-9.]*\).*/\1/p')" "$2"; }

lavapipe_manifest() {
    find -L /usr/share/vulkan/icd.d /usr/local/share/vulkan/icd.d /etc/vulkan/icd.d -name 'lvp_icd*.json' -print -quit 2>/dev/null || true
}

a_driver_is_there() {
    [ -n "${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}" ] ||
        [ -n "$(find -L /usr/share/vulkan/icd.d /usr/local/share/vulkan/icd.d /etc/vulkan/icd.d -name '*.json' -print -quit 2>/dev/null)" ]
}

links_with() { printf 'int main(void) { return 0; }\n' | "${@:2}" -x c - -o /dev/null "$1"; }

shader_headers_are_new() {
    local header
    header=$(header_version "$(system_headers)")
    [ -n "$header" ] && [ "$header" -ge $min_header ] && [ -d "$(system_headers)/vk_video" ]
}

need_for_a_build() {
    local tool
    need "a C compiler (GCC or Clang) under the name cc" command -v cc
    need "program meson, version 1.0 or newer" program_version_at_least meson 1.0
    need_program ninja "version 1.8.2 or newer"
    need_program pkg-config "pkg-config or pkgconf"
    need "program python3, version 3.11 or newer" program_version_at_least python3 3.11
    need_module libpcre2-8 PCRE2
    need_module libcjson cJSON
    need_module libutf8proc utf8proc
    need_module libzip libzip
    need_module libedit libedit
    need_module stb stb
    need "program glslang (or glslangValidator), version $min_glslang or newer" \
        version_at_least "$(system_glslang_version || true)" $min_glslang
    for tool in spirv-opt spirv-val spirv-dis; do
        need_program $tool "of SPIRV-Tools"
    done
    need "Vulkan-Headers, version 1.4.$min_header or newer, with volk.h and volk.c of volk beside them in one include folder \
(of VULKAN_SDK, /usr/local or /usr)" shader_headers_are_new
    need "the Vulkan loader, libvulkan.so.1" links_with -l:libvulkan.so.1 cc
    need "a Vulkan driver (Mesa has them for most devices, and lavapipe for machines without one)" a_driver_is_there
}

need_for_the_tests() {
    need_module cmocka cmocka
    need_program gcc
    need_program g++
    need_program valgrind
    need "program clang" command -v clang
    need "compiler-rt, the run-time libraries of clang's sanitizers" links_with -fsanitize=address,undefined clang
    need "Mesa's driver lavapipe (its manifest lvp_icd*.json)" test -n "$(lavapipe_manifest)"
}

# require_by_hand TESTS: TESTS is yes or no. Ends the set-up where something is missing.
require_by_hand() {
    need_for_a_build
    [ "$1" = no ] || need_for_the_tests
    [ ${#missing_by_hand[@]} -gt 0 ] || return 0
    say "error: this system has no apt-get, so nothing was installed. Missing:"
    printf 'setup:   %s\n' "${missing_by_hand[@]}" >&2
    say "install these, then start this again"
    exit 1
}
