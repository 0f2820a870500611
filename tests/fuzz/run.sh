#!/bin/bash
# Builds the libFuzzer targets (clang, build/fuzz) and runs each over its corpus and beyond.
#   tests/fuzz/run.sh SECONDS [TARGET...]    SECONDS for all targets together; TARGET: scan, network, pickle, ...
# A crash, a leak, undefined behaviour, a broken promise, 1 GiB of memory or 10 s for one input end it with an error;
# the input is kept in build/fuzz/crashes. What a long run finds of new coverage stays in build/fuzz/corpus.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
seconds=${1:?SECONDS for all targets together}
shift
fail() {
    echo "$*" >&2
    exit 1
}
command -v clang++ >/dev/null || fail "Fuzzing needs clang and libFuzzer: apt-get install clang libclang-rt-dev"
mkdir -p build
cmake --preset fuzz -Wno-dev >build/fuzz-configure.log 2>&1 || {
    tail -20 build/fuzz-configure.log >&2
    fail "cmake --preset fuzz failed; the whole output is in build/fuzz-configure.log"
}
if [ $# -eq 0 ]; then
    for target in tests/fuzz/fuzz_*.cpp; do
        target=${target##*/fuzz_}
        set -- "$@" "${target%.cpp}"
    done
fi
cmake --build build/fuzz --parallel "$(nproc)" --target "${@/#/fuzz_}"
each=$((seconds / $#))
[ "$each" -ge 1 ] || each=1
mkdir -p build/fuzz/crashes
# Libraries that are not instrumented fill vectors that ours look into.
export ASAN_OPTIONS=detect_container_overflow=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
for target in "$@"; do
    mkdir -p "build/fuzz/corpus/$target"
    log=build/fuzz/$target.log
    # Torch and DCMTK keep tables of their own until the end.
    leaks=1
    case $target in checkpoint | dicom_file) leaks=0 ;; esac
    echo "fuzz_$target: $each s"
    "build/fuzz/bin/fuzz_$target" -max_total_time="$each" -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=512 \
        -detect_leaks=$leaks -max_len=65536 -print_final_stats=1 -artifact_prefix="build/fuzz/crashes/$target-" \
        "build/fuzz/corpus/$target" "tests/fuzz/corpus/$target" >"$log" 2>&1 || {
        tail -60 "$log" >&2
        fail "fuzz_$target found something; run it again with: build/fuzz/bin/fuzz_$target build/fuzz/crashes/FILE"
    }
    grep -E "DONE|number_of_executed_units|peak_rss" "$log" | sed 's/^/    /'
done
echo "$# fuzz targets, nothing found"
