#!/bin/bash
# Sets cardionode up on Debian 12 or 13, shows it at work, and tests it. `./node.sh help` tells how.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"

# --- Debian packages: the only list. The names are the same in Debian 12 and 13.
# libopenblas0-pthread: LibTorch on the reference BLAS is 30 times slower.
BUILD_PACKAGES=(cmake ninja-build g++ ccache pkg-config git
    libtorch-dev libopenblas0-pthread libdcmtk-dev libinsighttoolkit5-dev libssl-dev libyaml-cpp-dev libsqlite3-dev
    libfmt-dev libcli11-dev nlohmann-json3-dev libpng-dev libopenjp2-7-dev libseccomp-dev zlib1g-dev libsystemd-dev
    libjemalloc-dev
    libboost-dev libprotobuf-dev protobuf-compiler libgtest-dev libgmock-dev)
# A PACS, a scanner's C-STORE, and what unpacks and reads the demo's files.
DEMO_PACKAGES=(orthanc dcmtk curl xz-utils openssl python3 python3-numpy)
# Validators and readers that are not ours, and the checks of the source.
TEST_PACKAGES=(orthanc-dicomweb orthanc-gdcm dicom3tools libgdcm-tools libpixelmed-java default-jre-headless
    python3-pydicom python3-cryptography tcpdump clang clang-format clang-tidy libclang-rt-dev systemd systemd-container)

if [ -t 1 ]; then BOLD=$'\e[1m' RED=$'\e[31m' PLAIN=$'\e[0m'; else BOLD='' RED='' PLAIN=''; fi
say() { printf '%s== %s%s\n' "$BOLD" "$*" "$PLAIN"; }
fail() {
    printf '%s%s%s\n' "$RED" "$*" "$PLAIN" >&2
    exit 1
}

help() {
    cat <<'H'
Sets cardionode up on Debian 12 or 13, shows it at work, and tests it.

  ./node.sh demo [--keep]      installs, builds, starts a PACS (Orthanc) and the node on loopback, sends a real CTA
                               by C-STORE, and shows what came back. --keep leaves all of it running,
                               demo --stop stops it.
  ./node.sh demo fed [--keep]  second act: two hospitals and a coordinator on loopback make a model better in two
                               rounds, over mutual TLS; demo fed --stop as above. As root it also shows the traffic.
  ./node.sh test               installs, builds, and runs every check and test (about 15 minutes on two cores)
  ./node.sh build              installs, builds the programs into build/release/bin
  ./node.sh install-packages   only installs the Debian packages

Root is needed for `apt-get install` alone, and only while packages are missing; without root, sudo is used.
To install the node itself as services: see README.md.
H
}

# --- packages

missing_packages() {  # prints those of its arguments that are not installed
    local package
    declare -A installed=()
    while read -r package; do installed[$package]=1; done < <(
        dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p')
    for package in "$@"; do [ -n "${installed[$package]:-}" ] || echo "$package"; done
}

install_packages() {
    command -v dpkg-query >/dev/null || fail "This script installs Debian packages; this system has no dpkg."
    local missing root=()
    mapfile -t missing < <(missing_packages "$@")
    if [ ${#missing[@]} -eq 0 ]; then
        say "All $# Debian packages are installed"
        return
    fi
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null ||
            fail "Root is needed once, for: apt-get install --no-install-recommends ${missing[*]}"
        root=(sudo)
        say "Root is needed to install Debian packages: using sudo for apt-get, and for nothing else"
    fi
    root+=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600)
    say "Installing ${#missing[@]} of $# Debian packages: ${missing[*]}"
    "${root[@]}" update || say "apt-get update failed; trying with the package lists that are here"
    "${root[@]}" install -y --no-install-recommends "${missing[@]}" ||
        fail "apt-get could not install: ${missing[*]}"
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} -eq 0 ] || fail "Still missing after apt-get install: ${missing[*]}"
}

# --- build

build() {  # build [TARGET...]
    local jobs memory_kib by_memory start=$SECONDS
    jobs=$(nproc)
    memory_kib=$(sed -n 's/^MemAvailable: *\([0-9]*\).*/\1/p' /proc/meminfo)
    by_memory=$((memory_kib / 2000000))  # a file that includes torch takes up to 2 GB
    [ "$by_memory" -ge 1 ] || by_memory=1
    [ "$jobs" -le "$by_memory" ] || jobs=$by_memory
    say "Building build/release with $jobs jobs"
    mkdir -p build
    cmake --preset release -Wno-dev >build/configure.log 2>&1 || {
        tail -30 build/configure.log >&2
        fail "cmake could not configure; the whole output is in build/configure.log"
    }
    cmake --build build/release --parallel "$jobs" --target "${@:-all}"
    say "Built in $((SECONDS - start)) s"
}

# --- test

check_source() {
    say "Include levels"
    .ci/check_includes.py
    say "clang-format"
    git ls-files -z '*.cpp' '*.h' | xargs -0 -r clang-format --dry-run -Werror ||
        fail "clang-format -i on the files above"
    say "clang-tidy"
    .ci/clang_tidy.sh
}

run_tests() {
    install_packages "${BUILD_PACKAGES[@]}" "${DEMO_PACKAGES[@]}" "${TEST_PACKAGES[@]}"
    build all
    check_source
    say "Tests"
    ctest --preset release --no-tests=error
    say "Fuzzing, 60 s"
    tests/fuzz/run.sh 60 network pickle scan tensor_file
}

command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
    demo)
        act=demo.sh
        if [ "${1:-}" = fed ]; then
            act=fed.sh
            shift
        fi
        [ "${1:-}" != --stop ] || exec "conf/demo/$act" --stop
        install_packages "${BUILD_PACKAGES[@]}" "${DEMO_PACKAGES[@]}"
        build programs
        exec "conf/demo/$act" "$@"
        ;;
    test) run_tests "$@" ;;
    build)
        install_packages "${BUILD_PACKAGES[@]}"
        build programs
        ;;
    install-packages) install_packages "${BUILD_PACKAGES[@]}" "${DEMO_PACKAGES[@]}" "${TEST_PACKAGES[@]}" ;;
    help | -h | --help) help ;;
    *)
        help >&2
        fail "Unknown command: $command"
        ;;
esac
