#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Fills .toolchain/ of the checkout. Sourced by setup.sh, which sets toolchain_dir and brings say, die,
# install_packages.
#
#   .toolchain/bin/{glslang,spirv-opt,spirv-val,spirv-dis}     the shader compiler: links to the system's, or wrappers
#   .toolchain/include/{vulkan,vk_video,volk.h,volk.c}         headers
#   .toolchain/bin/with-fetched-libs CMD...                    runs CMD on the fetched C library and Vulkan loader
#   .toolchain/bin/with-lavapipe-cm CMD...                     the same, with a lavapipe that has KHR_cooperative_matrix
#   .toolchain/icd/*.json, .toolchain/layers/*.json            manifests of drivers and layers
#   .toolchain/root/                                           fetched packages, unpacked
#   .toolchain/VERSIONS                                        what was fetched
#
# Wrappers and manifests find what was fetched from where they lie themselves, so that a checkout can be moved. Its path may
# have any characters that a shell treats specially.
#
# Where the system's packages are too old, newer ones come from Debian 13 and its backports: apt-get resolves and
# downloads them with a state directory of its own, and checks their signatures against Debian's keyring, so that the
# system's package state is neither read nor written; dpkg -x unpacks them. They want a newer C library than the host
# may have, hence they are run through the dynamic loader that was fetched with them.

min_glslang=15.1          # first with GL_NV_cooperative_matrix2
min_header=303            # VK_HEADER_VERSION of 1.4.303: first with VK_NV_cooperative_matrix2
min_mesa_cm=26.1          # lavapipe with VK_KHR_cooperative_matrix
suites=(trixie trixie-backports)
distributions=/usr/share/python-apt/templates/Debian.info   # of python-apt-common: knows Debian's mirror
shader_packages=(glslang-tools spirv-tools libvulkan-dev libvulkan-volk-dev)
device_packages=(libvulkan1 mesa-vulkan-drivers vulkan-validationlayers)

# Dependencies of the above that no program run from .toolchain/root loads.
unneeded='^(lib)?python|^(libssl|openssl|libsqlite|libdb5|libreadline|readline|media-types|netbase|debconf|tzdata)'
unneeded+='|^(dpkg$|tar$|libacl1|libselinux1|libpcre2|libuuid1|libncursesw|libx11-data|libdrm-common|gcc-[0-9]+-base)'

multiarch() { gcc -print-multiarch; }

version_at_least() { [ -n "$1" ] && printf '%s\n' "$2" "$1" | sort -V -C; }

apt_candidate() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: \((none)\)\{0,1\}//p'; }

# "Glslang Version: 11:15.2.0" -> 15.2.0
system_glslang_version() {
    { glslang --version || glslangValidator --version; } 2>/dev/null |
        sed -n 's/^Glslang Version: [0-9]*:\([0-9.]*\).*/\1/p'
}

header_version() { sed -n 's/^#define VK_HEADER_VERSION \([0-9]*\).*/\1/p' "$1/vulkan/vulkan_core.h" 2>/dev/null; }

# The folder that has the headers of Vulkan and volk: of an SDK in VULKAN_SDK, or the system's; empty if there is none.
system_headers() {
    local dir
    for dir in ${VULKAN_SDK:+"$VULKAN_SDK/include"} /usr/local/include /usr/include; do
        if [ -f "$dir/vulkan/vulkan_core.h" ] && [ -f "$dir/volk.h" ] && [ -f "$dir/volk.c" ]; then
            printf '%s\n' "$dir"
            return
        fi
    done
}

system_shader_tools_suffice() {
    local tool header
    version_at_least "$(system_glslang_version)" $min_glslang || return 1
    for tool in spirv-opt spirv-val spirv-dis; do
        command -v $tool >/dev/null || return 1
    done
    header=$(header_version "$(system_headers)") || true
    [ -n "$header" ] && [ "$header" -ge $min_header ] && [ -d "$(system_headers)/vk_video" ]
}

# ------------------------------------------------------------------------------------------------------------ fetching

private_apt=()

# Prepares apt-get to see only `suites`, at the mirror given, with all its state under .toolchain/apt.
private_apt_open() {
    local mirror=$1 keyring=/usr/share/keyrings/debian-archive-keyring.gpg apt_dir=$toolchain_dir/apt suite
    [ -f $keyring ] || keyring=/usr/share/keyrings/debian-archive-keyring.pgp
    rm -rf "$apt_dir"
    mkdir -p "$apt_dir"/{lists/partial,cache/archives/partial,empty,debs}
    for suite in "${suites[@]}"; do
        printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite"
    done >"$apt_dir/sources.list"
    private_apt=(apt-get -qq -o "Dir::Etc::sourcelist=$apt_dir/sources.list" -o "Dir::Etc::sourceparts=$apt_dir/empty"
        -o Dir::Etc::preferences=/dev/null -o "Dir::Etc::preferencesparts=$apt_dir/empty"
        -o "Dir::State=$apt_dir" -o "Dir::State::Lists=$apt_dir/lists" -o Dir::State::status=/dev/null
        -o "Dir::Cache=$apt_dir/cache" -o APT::Install-Recommends=false -o Acquire::Languages=none
        -o Acquire::Retries=3 -o APT::Sandbox::User= -o APT::Default-Release=)
    say "reading the package lists of ${suites[*]} at $mirror"
    "${private_apt[@]}" update >"$toolchain_dir/fetch.log" 2>&1 &&
        ! grep -q '^[EW]:' "$toolchain_dir/fetch.log"
}

# The Debian mirrors to try: the system's own, if it is a Debian and uses one over the network, then the public one.
mirrors() {
    # shellcheck disable=SC2016 # apt's own placeholders
    apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        sed -n 's|^Debian Debian \(https\{0,1\}://[^ ]*[^/ ]\)/\{0,1\}$|\1|p' | head -n 1
    # Over plain HTTP: the signatures are what is trusted, and a proxy may cache.
    sed -n 's|^BaseURI: *https\{0,1\}\(://[^ ]*[^/ ]\)/*$|http\1|p' $distributions 2>/dev/null | head -n 1
}

private_apt_ready=no
need_private_apt() {
    local mirror
    [ $private_apt_ready = no ] || return 0
    [ -f /usr/share/keyrings/debian-archive-keyring.gpg ] || [ -f /usr/share/keyrings/debian-archive-keyring.pgp ] ||
        install_packages debian-archive-keyring
    [ -n "$(mirrors)" ] || install_packages python-apt-common
    while read -r mirror; do
        if private_apt_open "$mirror"; then
            private_apt_ready=yes
            return 0
        fi
    done < <(mirrors | uniq)
    tail -n 5 "$toolchain_dir/fetch.log" >&2
    die "no mirror gave the package lists of ${suites[*]} (tried: $(mirrors | uniq | tr '\n' ' '))"
}

private_apt_close() {
    [ $private_apt_ready = yes ] || return 0
    private_apt_ready=no
    rm -rf "$toolchain_dir/apt"
}

# The C library of the host, as 2.36. A host newer than what is fetched keeps its own C and C++ libraries.
host_libc_version() { ldd --version | sed -n '1s/.* \([0-9.]*\)$/\1/p'; }

# fetch PACKAGE...: downloads the packages and what they depend on, and unpacks them into .toolchain/root.
fetch() {
    local closure deb fetched_libc skip=$unneeded
    need_private_apt
    closure=$("${private_apt[@]}" -s -t "${suites[-1]}" install "$@" 2>"$toolchain_dir/fetch.log" |
        sed -n 's/^Inst //p') || {
        cat "$toolchain_dir/fetch.log" >&2
        die "cannot resolve $* in ${suites[*]}"
    }
    fetched_libc=$(sed -n 's/^libc6 (\([0-9.]*\).*/\1/p' <<<"$closure")
    if dpkg --compare-versions "$(host_libc_version)" gt "$fetched_libc"; then
        skip+='|^(libc6|libgcc-s1|libstdc\+\+6)$'
    fi
    mapfile -t closure < <(cut -d' ' -f1 <<<"$closure" | grep -vE "$skip")
    say "fetching ${#closure[@]} packages for .toolchain: $*"
    (cd "$toolchain_dir/apt/debs" && "${private_apt[@]}" -t "${suites[-1]}" download "${closure[@]}") \
        >"$toolchain_dir/fetch.log" 2>&1 || {
        tail -n 5 "$toolchain_dir/fetch.log" >&2
        die "download failed: ${closure[*]}"
    }
    for deb in "$toolchain_dir"/apt/debs/*.deb; do
        dpkg -x "$deb" "$toolchain_dir/root"
        dpkg-deb -W --showformat '${Package} ${Version}\n' "$deb" >>"$toolchain_dir/VERSIONS"
        rm "$deb"
    done
    sort -u -o "$toolchain_dir/VERSIONS" "$toolchain_dir/VERSIONS"
    # Documentation and the like: nothing reads it.
    rm -rf "$toolchain_dir"/root/usr/share/{doc,man,locale,bug,lintian,gdb}
    write_with_fetched_libs
}

# ------------------------------------------------------------------------------------------------------------ wrappers

# Writes a script of sh to .toolchain/bin/NAME: a head, then standard input. The head sets `dir`, the folder .toolchain, and
# `libs`, the folder of the fetched libraries. A list of library folders is split at colons and semicolons, and '$' stands for
# words of the dynamic loader in it: a path with one of these is given as an open file.
write_wrapper() {
    local file=$toolchain_dir/bin/$1
    mkdir -p "$toolchain_dir/bin"
    {
        printf '#!/bin/sh\ndir=${0%%/*}/..\ncase $dir in /*) ;; *) dir=$PWD/$dir ;; esac\n'
        printf 'libs=$dir/root/usr/lib/%s\n' "$(multiarch)"
        printf 'case $libs in *[:\;\$]*) exec 9<"$libs"; libs=/proc/self/fd/9 ;; esac\n'
        cat
    } >"$file.new"
    chmod +x "$file.new"
    mv -f "$file.new" "$file"
}

# The file name of the fetched dynamic loader, which lies with its libraries; empty if the host's own C library is the newer
# one.
fetched_loader() {
    find "$toolchain_dir/root/usr/lib/$(multiarch)" -maxdepth 1 -name 'ld-linux*.so.*' -printf '%f' -quit
}

# The fetched loader finds the host's own libraries (PCRE2, cJSON, libedit) in its built-in directories, after the
# fetched ones. Scripts and interpreters run as they are: they start programs with FM_TEST_RUNNER where they want them
# run this way.
write_with_fetched_libs() {
    local loader
    loader=$(fetched_loader)
    if [ -z "$loader" ]; then
        write_wrapper with-fetched-libs <<'WRAPPER'
LD_LIBRARY_PATH=$libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec "$@"
WRAPPER
        return
    fi
    sed "s|@LOADER@|$loader|" <<'WRAPPER' | write_wrapper with-fetched-libs
# with-fetched-libs CMD...: runs a program of the host on the C library and Vulkan loader of .toolchain/root
program=$(command -v -- "$1") || { echo "with-fetched-libs: no program '$1'" >&2; exit 127; }
case $program in */*) ;; *) echo "with-fetched-libs: '$1' is a shell built-in" >&2; exit 127 ;; esac
case ${program##*/} in python* | sh | bash | dash | env) exec "$@" ;; esac
[ "$(head -c 4 "$program" | tr -d '\177')" = ELF ] || exec "$@"
shift
exec "$libs/@LOADER@" --library-path "$libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" --argv0 "$program" "$program" "$@"
WRAPPER
}

link_system_shader_tools() {
    local name
    mkdir -p "$toolchain_dir"/{bin,include}
    for name in spirv-opt spirv-val spirv-dis; do
        ln -sfn "$(command -v $name)" "$toolchain_dir/bin/$name"
    done
    ln -sfn "$(command -v glslang || command -v glslangValidator)" "$toolchain_dir/bin/glslang"
    for name in vulkan vk_video volk.h volk.c; do
        ln -sfn "$(system_headers)/$name" "$toolchain_dir/include/$name"
    done
}

wrap_fetched_shader_tools() {
    local name loader run='"$dir/bin/with-fetched-libs"'
    loader=$(fetched_loader)
    # Straight through the loader: a build starts these hundreds of times.
    [ -z "$loader" ] || run="\"\$libs/$loader\" --library-path \"\$libs\""
    for name in glslang spirv-opt spirv-val spirv-dis; do
        printf 'exec %s "$dir/root/usr/bin/%s" "$@"\n' "$run" $name | write_wrapper $name
    done
    mkdir -p "$toolchain_dir/include"
    for name in vulkan vk_video volk.h volk.c; do
        ln -sfn "../root/usr/include/$name" "$toolchain_dir/include/$name"
    done
}

# Compiles a kernel that uses the newest extension that the build wants, and passes it through the other tools.
check_shader_tools() {
    local dir header
    dir=$(mktemp -d "$toolchain_dir/check.XXXXXX")
    cat >"$dir/check.comp" <<'SHADER'
#version 450
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_NV_cooperative_matrix2 : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
layout(local_size_x = 64) in;
layout(set = 0, binding = 0) buffer B { float16_t x[]; };
float16_t twice(const in uint row, const in uint column, const in float16_t element)
{
    return element + element;
}
void main()
{
    coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator> m;
    coopMatLoad(m, x, 0, 16, gl_CooperativeMatrixLayoutRowMajor);
    coopMatPerElementNV(m, m, twice);
    coopMatStore(m, x, 0, 16, gl_CooperativeMatrixLayoutRowMajor);
}
SHADER
    (
        cd "$dir"
        bin=$toolchain_dir/bin
        "$bin/glslang" -V --target-env vulkan1.3 -o check.spv check.comp &&
            "$bin/spirv-val" --target-env vulkan1.3 check.spv &&
            "$bin/spirv-opt" -O check.spv -o opt.spv && "$bin/spirv-dis" opt.spv -o opt.txt
    ) >"$toolchain_dir/check.log" 2>&1 || {
        tail -n 5 "$toolchain_dir/check.log" >&2
        rm -rf "$dir"
        die "the shader compiler in .toolchain/bin fails on a cooperative-matrix kernel (expected >= $min_glslang)"
    }
    rm -rf "$dir"
    header=$(header_version "$toolchain_dir/include")
    [ "${header:-0}" -ge $min_header ] ||
        die ".toolchain/include/vulkan: VK_HEADER_VERSION expected >= $min_header, found '${header:-none}'"
    [ -f "$toolchain_dir/include/volk.c" ] && [ -f "$toolchain_dir/include/volk.h" ] ||
        die ".toolchain/include: no volk.h, volk.c"
}

toolchain_setup_build() {
    local compiler
    if [ $with_apt = yes ] && ! system_shader_tools_suffice; then
        [ -n "$(apt_candidate glslang-tools)" ] || apt_update
        if version_at_least "$(apt_candidate glslang-tools)" $min_glslang; then
            install_packages "${shader_packages[@]}"
        fi
    fi
    if system_shader_tools_suffice; then
        link_system_shader_tools
    else
        fetch "${shader_packages[@]}"
        wrap_fetched_shader_tools
    fi
    check_shader_tools
    private_apt_close
    compiler=$("$toolchain_dir/bin/glslang" --version | sed -n 's/^Glslang Version: [0-9]*://p')
    say "shader compiler: glslang $compiler, Vulkan headers 1.4.$(header_version "$toolchain_dir/include")"
}

# ------------------------------------------------------------------------------------------------------------- devices

# write_manifest FROM TO LIBRARY: copies a manifest to .toolchain/TO, with LIBRARY as its library path: an absolute one of the
# system's, or one in .toolchain, relative to the manifest.
write_manifest() {
    local to=$toolchain_dir/$2 library=$3
    mkdir -p "${to%/*}"
    [ -f "$1" ] && (cd "${to%/*}" && [ -f "$library" ]) || die "no $1 or $library to make a manifest of"
    sed "s|\(\"library_path\" *: *\"\)[^\"]*|\1$library|" "$1" >"$to"
}

setup_lavapipe_cm() {
    local libs icd mesa
    fetch "${device_packages[@]}"
    libs=root/usr/lib/$(multiarch)
    icd=$(find "$toolchain_dir/root/usr/share/vulkan/icd.d" -name 'lvp_icd*.json' -print -quit)
    write_manifest "$icd" icd/lavapipe-cm.json "../$libs/libvulkan_lvp.so"
    write_manifest "$toolchain_dir/root/usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json" \
        layers/VkLayer_khronos_validation.json "../$libs/libVkLayer_khronos_validation.so"
    # The other drivers of the package are not wanted here, and are most of its size.
    find "$toolchain_dir/$libs" -name 'libvulkan_*.so' ! -name libvulkan_lvp.so -delete
    write_wrapper with-lavapipe-cm <<'WRAPPER'
# with-lavapipe-cm CMD...: runs a program of the host on lavapipe with VK_KHR_cooperative_matrix
[ $# -gt 0 ] || { echo "usage: with-lavapipe-cm CMD..." >&2; exit 2; }
unset VK_ICD_FILENAMES VK_ADD_DRIVER_FILES
export VK_DRIVER_FILES="$dir/icd/lavapipe-cm.json"
exec "$dir/bin/with-fetched-libs" "$@"
WRAPPER
    mesa=$(sed -n 's/^mesa-vulkan-drivers //p' "$toolchain_dir/VERSIONS" | tail -n 1)
    version_at_least "$mesa" $min_mesa_cm ||
        die "mesa-vulkan-drivers of ${suites[-1]}: expected >= $min_mesa_cm, found $mesa"
    say "lavapipe with cooperative matrix: Mesa $mesa"
}

# The system's own lavapipe, by an absolute path: the manifest's bare name could find the fetched one.
setup_lavapipe() {
    local icd
    icd=$(lavapipe_manifest)
    [ -n "$icd" ] || die "mesa-vulkan-drivers brought no /usr/share/vulkan/icd.d/lvp_icd*.json"
    if [ $with_apt = yes ]; then
        write_manifest "$icd" icd/lavapipe.json "/usr/lib/$(multiarch)/libvulkan_lvp.so"
    else
        # Nothing was fetched that a bare name could find.
        mkdir -p "$toolchain_dir/icd"
        cp "$icd" "$toolchain_dir/icd/lavapipe.json"
    fi
}

# SwiftShader comes inside Debian's chromium; where that is not installed, only this library is taken out of the
# package: from the system's own packages on Debian, else (Ubuntu's chromium is a snap) from the suites above.
setup_swiftshader() {
    local dir=$toolchain_dir/swiftshader work=$toolchain_dir/chromium apt=(apt-get -qq -o APT::Sandbox::User=)
    local icd=/usr/lib/chromium/vk_swiftshader_icd.json library=/usr/lib/chromium/libvk_swiftshader.so
    if ! [ -f $icd ] || ! [ -f $library ]; then
        if [ -z "$(apt_candidate chromium-common)" ]; then
            need_private_apt
            apt=("${private_apt[@]}")
        fi
        rm -rf "$work"
        mkdir -p "$work" "$dir"
        say "fetching SwiftShader (out of chromium-common)"
        (cd "$work" && "${apt[@]}" download chromium-common) >"$toolchain_dir/fetch.log" 2>&1 &&
            dpkg-deb --fsys-tarfile "$work"/*.deb |
            tar -C "$work" -x ./usr/lib/chromium/libvk_swiftshader.so ./usr/lib/chromium/vk_swiftshader_icd.json || {
            tail -n 3 "$toolchain_dir/fetch.log" >&2
            rm -rf "$work" "$toolchain_dir/icd/swiftshader.json"
            say "warning: no SwiftShader here (no usable chromium-common package); its tests will count as skipped"
            return 0
        }
        mv -f "$work"/usr/lib/chromium/* "$dir/"
        rm -rf "$work"
        icd=$dir/vk_swiftshader_icd.json
        library=../swiftshader/libvk_swiftshader.so
    fi
    write_manifest "$icd" icd/swiftshader.json "$library"
}

toolchain_setup_tests() {
    setup_lavapipe
    if [ $with_apt = no ]; then
        say "warning: lavapipe-cm and SwiftShader come through apt; their tests will count as skipped"
        return 0
    fi
    setup_lavapipe_cm
    setup_swiftshader
    private_apt_close
}
